//! Every operation on every kind of device, data verified.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{Devices, Fault, Io, Lease, Mapped, Nanos, Op, Pool, Started};
use palisade_sys::device::{Create, DeviceMedium, DeviceSpec};
use palisade_sys::{Coverage, HugePool, MemoryRegistration, Opened};
use palisade_words::{Lba, MemoryId, PinnedId, Sectors, SlotIndex};
use rig::{Buffer, DEVICE, MIB, Rig};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A mapping of a file that a test has made.
#[derive(Debug)]
struct Map(memmap2::MmapMut);

// SAFETY: the mapping stays where it is until it is dropped, and nobody looks into it.
unsafe impl Mapped for Map {
    fn ranges(&self) -> Vec<(usize, usize)> {
        vec![(self.0.as_ptr() as usize, self.0.len())]
    }

    fn lacking_page_bytes(&self) -> Option<usize> {
        Some(4096)
    }
}

#[test]
fn null_answers_everything_at_once() {
    let mut rig = Rig::new(rig::open(DeviceMedium::Null { bytes: MIB }, 512));
    let buffer = Buffer::new(4096);
    rig.on(&buffer);
    for op in [Op::Read, Op::Write, Op::Discard, Op::WriteZeroes { unmap: true }] {
        assert_eq!(rig.run(op, 0, 4096, &[buffer.segment(0, 4096)]), Ok(()));
    }
    assert_eq!(rig.run(Op::Flush, 0, 0, &[]), Ok(()));
}

#[test]
fn memory_keeps_and_zeroes() {
    let mut rig = Rig::new(rig::open(DeviceMedium::Memory { bytes: MIB }, 512));
    rig::keeps_and_zeroes(&mut rig);
}

#[test]
fn a_file_keeps_and_zeroes_with_blocks_of_512_bytes() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, MIB, 512);
    assert!(
        !opened.buffered(),
        "the build directory's file system has O_DIRECT"
    );
    rig::keeps_and_zeroes(&mut Rig::new(opened));
}

#[test]
fn a_file_keeps_and_zeroes_with_blocks_of_4096_bytes_and_pinned_memory() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, MIB, 4096);
    let mut rig = Rig::new(opened);
    rig.durable = true;
    rig::keeps_and_zeroes(&mut rig);
}

#[test]
fn memory_is_pinned_shared_by_two_reactors_and_given_back() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, MIB, 4096);
    let mut buffer = Buffer::new(4 << 20);
    let registration = Arc::new(MemoryRegistration::prepare(buffer.0.lease()));
    // Before Linux 6.13 rings do not share, and nothing may be pinned in vain.
    let (pinned_bytes, errno) = match rig::kernel_is_from(6, 13) {
        true => (4 << 20, None),
        false => (0, Some(libc::EOPNOTSUPP)),
    };
    let expected = Coverage {
        pinned_bytes,
        unpinned_bytes: (4 << 20) - pinned_bytes,
        errno,
    };
    assert_eq!(registration.coverage(), expected);
    let mut rigs = [Rig::new(Arc::clone(&opened)), Rig::new(opened)];
    for rig in &mut rigs {
        rig.on(&buffer);
        let coverage = rig.devices.add_memory(PinnedId(1), Arc::clone(&registration));
        assert_eq!(coverage, expected, "{:?}", rig.devices.abilities());
        assert_eq!(rig.devices.abilities().registered_memory, pinned_bytes > 0);
        let pool = rig.devices.add_pool_memory(Arc::clone(&registration));
        assert_eq!(pool, expected);
        rig.devices.keep_pool(buffer.0.lease());
    }
    for memory in [MemoryId(0), MemoryId::POOL] {
        rigs.iter_mut().for_each(|rig| rig.memory = memory);
        buffer.fill(0, 8192, memory.0 as u8);
        rigs[0]
            .write(0, &[buffer.segment(0, 4096), buffer.segment(4096, 4096)])
            .unwrap();
        rigs[1].read(0, &[buffer.segment(1 << 20, 8192)]).unwrap();
        assert!(buffer.holds(1 << 20, 8192, memory.0 as u8));
    }
    for rig in &mut rigs {
        rig.devices.remove_memory(PinnedId(1)).unwrap();
        rig.memory = MemoryId(0);
        assert_eq!(
            rig.read(0, &[buffer.segment(0, 4096)]),
            Ok(()),
            "unpinned memory works as well"
        );
    }
    drop(rigs);
    assert_eq!(Arc::strong_count(&registration), 1);
}

#[test]
fn memory_of_a_plain_file_goes_without_pinning() {
    let directory = rig::directory();
    let path = directory.path().join("memory");
    let file = std::fs::File::create_new(&path).unwrap();
    file.set_len(MIB).unwrap();
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    // SAFETY: the file is the test's own and is not changed from outside.
    let map = unsafe { memmap2::MmapMut::map_mut(&file).unwrap() };
    let lease = Lease::of(Arc::new(Map(map)));
    let coverage = MemoryRegistration::prepare(&lease).coverage();
    assert_eq!((coverage.pinned_bytes, coverage.unpinned_bytes), (0, MIB));
    assert!(coverage.errno.is_some());
}

/// Fills a file's first 4 MiB, takes them away in all ways, and tells what the file takes before and after. What is taken
/// away reads as zeros.
fn taken_before_and_after(path: &Path, opened: Opened) -> (u64, u64) {
    assert!(opened.limits().discard && opened.limits().write_zeroes);
    let block_bytes = std::fs::metadata(path).unwrap().blksize();
    assert_eq!(u64::from(opened.limits().discard_granularity), block_bytes);
    let allocated = || std::fs::metadata(path).unwrap().blocks() * 512;
    let mut buffer = Buffer::new(4 << 20);
    let opened = Arc::new(opened);
    let mut rig = Rig::new(Arc::clone(&opened));
    rig.on(&buffer);
    buffer.fill(0, 4 << 20, 5);
    assert_eq!(rig.write(0, &[buffer.segment(0, 4 << 20)]), Ok(()));
    opened.sync().unwrap();
    let before = allocated();
    assert!(before >= 4 * MIB);
    assert_eq!(rig.run(Op::WriteZeroes { unmap: false }, 0, MIB, &[]), Ok(()));
    assert_eq!(allocated(), before);
    assert_eq!(rig.run(Op::Discard, MIB, MIB, &[]), Ok(()));
    assert_eq!(
        rig.run(Op::WriteZeroes { unmap: true }, 2 * MIB, MIB, &[]),
        Ok(())
    );
    opened.clear(3 * MIB, MIB).unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().len(), 4 * MIB);
    assert_eq!(rig.read(0, &[buffer.segment(0, 4 << 20)]), Ok(()));
    assert!(buffer.slice().iter().all(|byte| *byte == 0));
    opened.sync().unwrap();
    (before, allocated())
}

#[test]
fn a_file_gives_back_what_it_has_not_been_promised() {
    let directory = rig::directory();
    let open = |name: &str, create| {
        let path = directory.path().join(name);
        let medium = DeviceMedium::File {
            path: path.clone(),
            create,
        };
        let spec = DeviceSpec {
            medium,
            block_bytes: 4096,
            read_only: false,
        };
        (path, Opened::open(&spec, Duration::ZERO).unwrap())
    };
    let bytes = 4 * MIB;
    let (path, opened) = open("sparse", Some(Create { bytes, sparse: true }));
    assert!(!opened.keeps_space());
    let (before, after) = taken_before_and_after(&path, opened);
    assert!(after <= before - 3 * MIB, "{before} {after}");
    let (path, opened) = open("whole", Some(Create { bytes, sparse: false }));
    assert!(opened.keeps_space());
    let (before, after) = taken_before_and_after(&path, opened);
    assert_eq!(
        after, before,
        "the space is another's otherwise, and a guest's write fails"
    );
    // As it was left by whoever made it; and one that only happens to be full is known by who opens it.
    let (path, mut opened) = open("whole", None);
    assert!(opened.keeps_space());
    opened.let_space_go();
    let (before, after) = taken_before_and_after(&path, opened);
    assert!(after <= before - 3 * MIB, "{before} {after}");
    assert!(!open("whole", None).1.keeps_space());
}

#[test]
fn what_does_not_lie_on_the_device_or_may_not_be_written_is_refused() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 4096);
    let buffer = Buffer::new(8192);
    let mut rig = Rig::new(opened);
    rig.on(&buffer);
    assert_eq!(
        rig.write(MIB - 4096, &[buffer.segment(0, 8192)]),
        Err(Fault::BeyondEnd)
    );
    assert_eq!(
        rig.run(Op::Discard, u64::MAX - 511, 4096, &[]),
        Err(Fault::BeyondEnd)
    );
    assert_eq!(std::fs::metadata(&path).unwrap().len(), MIB);
    drop(rig);
    let medium = DeviceMedium::File { path, create: None };
    let spec = DeviceSpec {
        medium,
        block_bytes: 4096,
        read_only: true,
    };
    let mut rig = Rig::new(Arc::new(Opened::open(&spec, Duration::from_secs(5)).unwrap()));
    rig.on(&buffer);
    assert_eq!(rig.read(0, &[buffer.segment(0, 8192)]), Ok(()));
    assert_eq!(rig.run(Op::Flush, 0, 0, &[]), Ok(()));
    assert_eq!(rig.write(0, &[buffer.segment(0, 8192)]), Err(Fault::ReadOnly));
    assert_eq!(rig.run(Op::Discard, 0, 4096, &[]), Err(Fault::ReadOnly));
    rig.devices.remove_device(DEVICE).unwrap();
    assert_eq!(rig.read(0, &[buffer.segment(0, 4096)]), Err(Fault::Gone));
    assert!(rig.devices.limits(DEVICE).is_none());
}

#[test]
fn a_device_that_ends_early_is_a_fault_and_no_short_success() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 4096);
    let buffer = Buffer::new(64 << 10);
    let mut rig = Rig::new(Arc::clone(&opened));
    rig.on(&buffer);
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(MIB / 2)
        .unwrap();
    let lists = [
        vec![buffer.segment(0, 64 << 10)],
        vec![buffer.segment(0, 4096), buffer.segment(8192, 56 << 10)],
    ];
    for list in lists {
        assert_eq!(rig.read(MIB / 2 - 8192, &list), Err(Fault::BeyondEnd));
    }
    assert_eq!(opened.refresh_size().unwrap(), Sectors(MIB / 1024));
    assert_eq!(rig.devices.limits(DEVICE).unwrap().sectors, Sectors(MIB / 512));
    rig.devices.resize(DEVICE);
    assert_eq!(rig.devices.limits(DEVICE).unwrap().sectors, Sectors(MIB / 1024));
}

#[test]
fn what_was_cut_off_stays_refused_when_the_file_is_as_long_as_before() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 4096);
    let buffer = Buffer::new(64 << 10);
    let (mut rig, mut other) = (Rig::new(Arc::clone(&opened)), Rig::new(Arc::clone(&opened)));
    rig.on(&buffer);
    other.on(&buffer);
    let list = [buffer.segment(0, 8192)];
    let set_len = |bytes| {
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(bytes).unwrap();
    };
    assert_eq!(rig.write(MIB / 2, &list), Ok(()));
    set_len(MIB / 2);
    assert_eq!(opened.cut(), None, "nobody has seen it yet");
    assert_eq!(rig.read(MIB / 2 - 4096, &list), Err(Fault::BeyondEnd));
    assert_eq!(opened.cut(), Some(MIB / 2));

    // Zeros are there now, and no reactor gives them to a guest, nor lets it write among them.
    set_len(MIB);
    for rig in [&mut rig, &mut other] {
        for at in [MIB / 2, MIB / 2 - 4096, MIB - 8192] {
            assert_eq!(rig.read(at, &list), Err(Fault::BeyondEnd), "{at}");
            assert_eq!(rig.write(at, &list), Err(Fault::BeyondEnd), "{at}");
            assert_eq!(rig.run(Op::Discard, at, 8192, &[]), Err(Fault::BeyondEnd), "{at}");
        }
        assert_eq!(rig.read(MIB / 2 - 8192, &list), Ok(()), "before it all is well");
        assert_eq!(rig.run(Op::Flush, 0, 0, &[]), Ok(()));
    }
    opened.refresh_size().unwrap();
    rig.devices.resize(DEVICE);
    assert_eq!(
        rig.read(MIB / 2, &list),
        Err(Fault::BeyondEnd),
        "a new size is no excuse"
    );

    // Where it was seen to end only falls, until somebody goes on with what is there.
    opened.ends_at(MIB * 3 / 4);
    assert_eq!(opened.cut(), Some(MIB / 2));
    opened.ends_at(MIB / 4);
    assert_eq!(rig.read(MIB / 2 - 8192, &list), Err(Fault::BeyondEnd));
    opened.go_on_without_what_was_cut();
    assert_eq!(rig.read(MIB / 2 - 4096, &list), Ok(()));
    assert_eq!(other.write(MIB - 8192, &list), Ok(()));
}

#[test]
fn more_than_the_queue_holds_is_busy_and_all_of_it_completes_once() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, 4 * MIB, 4096);
    let mut rig = Rig::new(opened);
    let mut buffer = Buffer::new(4 << 20);
    rig.on(&buffer);
    let (mut started, mut finished, mut was_busy) = (0u32, vec![0; 64], false);
    let segments: Vec<_> = (0..64).map(|slot| [buffer.segment(slot * 4096, 4096)]).collect();
    (0..64).for_each(|slot| buffer.fill(slot * 4096, 4096, slot as u8));
    rig::until(|| {
        while started < 64 {
            let io = Io {
                device: DEVICE,
                slot: SlotIndex(started),
                mapping: &rig::MAPPING,
                deadline: Nanos(u64::MAX),
                op: Op::Write,
                lba: Lba(u64::from(started) * 8),
                sectors: Sectors(8),
                durable: false,
                alone: false,
                memory: MemoryId(0),
                segments: &segments[started as usize],
            };
            match rig.devices.start(io) {
                Started::Pending => started += 1,
                Started::Busy => {
                    was_busy = true;
                    break;
                }
                Started::Done(result) => panic!("{result:?}"),
            }
        }
        rig.devices.submit();
        rig.devices.reap(|slot, result| {
            assert_eq!(result, Ok(()));
            finished[slot.usize()] += 1;
        });
        finished.iter().sum::<i32>() == 64
    });
    assert!(was_busy && finished.iter().all(|&times| times == 1));
    assert_eq!(rig.devices.in_flight(), 0);
    assert_eq!(rig.read(0, &[buffer.segment(1 << 20, 64 * 4096)]), Ok(()));
    assert!((0..64).all(|slot| buffer.holds((1 << 20) + slot * 4096, 4096, slot as u8)));
}

#[test]
fn memory_that_is_not_there_is_the_guests_fault_and_not_the_disks() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, MIB, 4096);
    let mut buffer = Buffer::new(8192);
    let mut rig = Rig::new(opened);
    rig.on(&buffer);
    // Behind the end of its file a mapping has no page: so a guest's memory is when its file has shrunk.
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.set_len(4096).unwrap();
    // SAFETY: the file is the test's own and is not changed from outside.
    let map = unsafe { memmap2::MmapOptions::new().len(8192).map_mut(&file).unwrap() };
    let shrunk = Lease::of(Arc::new(Map(map)));
    let absent = shrunk.regions()[0].part(4096, 4096).unwrap();
    rig.memory = rig.devices.keep(&shrunk);
    for list in [
        vec![absent],
        vec![absent.part(0, 2048).unwrap(), absent.part(2048, 2048).unwrap()],
    ] {
        assert_eq!(rig.read(0, &list), Err(Fault::GuestMemory));
        assert_eq!(rig.write(0, &list), Err(Fault::GuestMemory));
    }
    rig.on(&buffer);
    buffer.fill(0, 8192, 1);
    assert_eq!(rig.write(0, &[buffer.segment(0, 8192)]), Ok(()));
}

/// Copies of our own get an error there, and no signal: the rest of the memory, and who else uses it, is not concerned.
#[test]
fn a_copy_from_or_to_memory_that_has_no_page_is_the_guests_fault_too() {
    let mut rig = Rig::new(rig::open(DeviceMedium::Memory { bytes: MIB }, 512));
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.set_len(4096).unwrap();
    // SAFETY: the file is the test's own and is not changed from outside.
    let map = unsafe { memmap2::MmapOptions::new().len(8192).map_mut(&file).unwrap() };
    let lease = Lease::of(Arc::new(Map(map)));
    let part = |from, bytes| lease.regions()[0].part(from, bytes).unwrap();
    let (there, absent) = (part(0, 4096), part(4096, 4096));
    rig.memory = rig.devices.keep(&lease);
    let mut pool = HugePool::new(1).unwrap();
    let buffer = pool.take().unwrap();
    for list in [vec![absent], vec![part(3584, 512), part(4096, 512)]] {
        assert_eq!(rig.read(0, &list), Err(Fault::GuestMemory));
        assert_eq!(rig.write(0, &list), Err(Fault::GuestMemory));
        assert!(!pool.gather(&lease, &list, 0, buffer, 1024));
        assert!(!pool.scatter(buffer, &lease, &list, 0, 1024));
    }
    assert_eq!(rig.write(0, &[there]), Ok(()));
    assert_eq!(rig.read(0, &[there]), Ok(()));
    assert!(
        pool.gather(&lease, &[part(0, 4096), absent], 10, buffer, 4000),
        "as far as is asked"
    );
    assert!(pool.scatter(buffer, &lease, &[there], 0, 4096));
}

/// An operation is taken and handed over, and nobody who started it is left: neither the list of its segments nor,
/// but for the devices, the owner of its memory.
#[test]
fn an_operation_needs_nothing_of_whoever_started_it() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 4096);
    let mut rig = Rig::new(opened);
    let mut buffer = Buffer::new(2 << 20);
    rig.on(&buffer);
    (0..64).for_each(|at| buffer.fill(at * 8192, 4096, at as u8));
    let expected: Vec<u8> = (0..64)
        .flat_map(|at| buffer.slice()[at * 8192..][..4096].to_vec())
        .collect();
    let mut lists: Vec<Vec<_>> = vec![
        (0..32).map(|at| buffer.segment(at * 8192, 4096)).collect(),
        (32..64).map(|at| buffer.segment(at * 8192, 4096)).collect(),
    ];
    for (slot, list) in lists.iter().enumerate() {
        let io = Io {
            device: DEVICE,
            slot: SlotIndex(slot as u32),
            mapping: &rig::MAPPING,
            deadline: Nanos(u64::MAX),
            op: Op::Write,
            lba: Lba(slot as u64 * 256),
            sectors: Sectors(256),
            durable: false,
            alone: false,
            memory: rig.memory,
            segments: list,
        };
        assert_eq!(rig.devices.start(io), Started::Pending);
    }
    // Not handed to the kernel yet.
    let other = buffer.segment(1 << 20, 4096);
    lists.iter_mut().for_each(|list| list.fill(other));
    drop((lists, buffer));
    let mut results = Vec::new();
    rig::until(|| {
        rig.devices.submit();
        rig.devices.reap(|_, result| results.push(result));
        results.len() == 2
    });
    assert_eq!(results, [Ok(()), Ok(())]);
    assert!(std::fs::read(path).unwrap()[..64 * 4096] == expected);
    rig.devices.let_go(rig.memory);
}

#[test]
#[should_panic(expected = "with an operation in flight")]
fn memory_is_not_let_go_of_under_an_operation() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, MIB, 4096);
    let mut rig = Rig::new(opened);
    let buffer = Buffer::new(4096);
    rig.on(&buffer);
    begin(&mut rig, &[buffer.segment(0, 4096)]);
    rig.devices.let_go(rig.memory);
}

#[test]
#[should_panic(expected = "with an operation in flight")]
fn a_device_is_not_taken_away_under_its_operations() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, MIB, 4096);
    let mut rig = Rig::new(opened);
    let buffer = Buffer::new(4096);
    rig.on(&buffer);
    begin(&mut rig, &[buffer.segment(0, 4096)]);
    rig.devices.remove_device(DEVICE);
}

/// Neither for a file nor for memory: an old segment, or one of another guest's, is not followed.
#[test]
fn a_segment_outside_the_memory_it_is_said_to_be_of_is_not_followed() {
    let directory = rig::directory();
    let (_, file) = rig::open_file(&directory, MIB, 4096);
    for opened in [file, rig::open(DeviceMedium::Memory { bytes: MIB }, 4096)] {
        let (buffer, other) = (Buffer::new(8192), Buffer::new(8192));
        let (mine, foreign) = (buffer.segment(0, 4096), other.segment(0, 4096));
        for list in [vec![foreign], vec![mine, foreign]] {
            let opened = Arc::clone(&opened);
            let lease = buffer.0.lease().clone();
            let bytes = rig::sum(&list);
            let followed = std::thread::spawn(move || {
                let mut rig = Rig::new(opened);
                rig.memory = rig.devices.keep(&lease);
                rig.run(Op::Read, 0, bytes, &list)
            });
            let panic = followed.join().unwrap_err();
            let text = panic.downcast_ref::<String>().unwrap();
            assert!(text.contains("a segment outside"), "{text}");
        }
    }
}

/// Starts a write and does not hand it over.
fn begin(rig: &mut Rig, segments: &[palisade_block::Segment]) {
    let io = Io {
        device: DEVICE,
        slot: SlotIndex(0),
        mapping: &rig::MAPPING,
        deadline: Nanos(u64::MAX),
        op: Op::Write,
        lba: Lba(0),
        sectors: Sectors(rig::sum(segments) / 512),
        durable: false,
        alone: false,
        memory: rig.memory,
        segments,
    };
    assert_eq!(rig.devices.start(io), Started::Pending);
}
