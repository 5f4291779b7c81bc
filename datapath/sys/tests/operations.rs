//! Every operation on every kind of device, data verified.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{Devices, Fault, Io, Lba, MemoryId, Op, Sectors, SlotIndex, Started};
use palisade_sys::device::{DeviceSpec, Medium};
use palisade_sys::{MemoryRegistration, Opened};
use rig::{Buffer, DEVICE, MIB, Rig};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn null_answers_everything_at_once() {
    let mut rig = Rig::new(rig::open(Medium::Null { bytes: MIB }, 512));
    let buffer = Buffer::new(4096);
    for op in [Op::Read, Op::Write, Op::Discard, Op::WriteZeroes { unmap: true }] {
        assert_eq!(rig.run(op, 0, 4096, &[buffer.segment(0, 4096)]), Ok(()));
    }
    assert_eq!(rig.run(Op::Flush, 0, 0, &[]), Ok(()));
}

#[test]
fn memory_keeps_and_zeroes() {
    let mut rig = Rig::new(rig::open(Medium::Memory { bytes: MIB }, 512));
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
    let registration = Arc::new(MemoryRegistration::prepare(&[buffer.0.segment()]));
    assert_eq!(registration.coverage().errno, None);
    let mut rigs = [Rig::new(Arc::clone(&opened)), Rig::new(opened)];
    for rig in &mut rigs {
        let coverage = rig.devices.add_memory(MemoryId(1), Arc::clone(&registration));
        assert_eq!(
            coverage.pinned_bytes,
            4 << 20,
            "{coverage:?} {:?}",
            rig.devices.abilities()
        );
        let pool = rig.devices.add_memory(MemoryId::POOL, Arc::clone(&registration));
        assert_eq!(pool.unpinned_bytes, 0);
    }
    for memory in [MemoryId(1), MemoryId::POOL] {
        rigs.iter_mut().for_each(|rig| rig.memory = memory);
        buffer.fill(0, 8192, memory.0 as u8);
        rigs[0]
            .write(0, &[buffer.segment(0, 4096), buffer.segment(4096, 4096)])
            .unwrap();
        rigs[1].read(0, &[buffer.segment(1 << 20, 8192)]).unwrap();
        assert!(buffer.holds(1 << 20, 8192, memory.0 as u8));
    }
    for rig in &mut rigs {
        rig.devices.remove_memory(MemoryId(1)).unwrap();
        rig.devices.remove_memory(MemoryId::POOL).unwrap();
        rig.memory = MemoryId(1);
        assert_eq!(
            rig.read(0, &[buffer.segment(0, 4096)]),
            Ok(()),
            "unpinned memory works as well"
        );
    }
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
    let segment = palisade_block::Segment {
        address: map.as_ptr() as usize,
        bytes: map.len(),
    };
    let coverage = MemoryRegistration::prepare(&[segment]).coverage();
    assert_eq!((coverage.pinned_bytes, coverage.unpinned_bytes), (0, MIB));
    assert!(coverage.errno.is_some());
}

#[test]
fn discard_gives_space_back() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, 4 * MIB, 4096);
    assert!(opened.limits().discard && opened.limits().write_zeroes);
    let allocated = || std::fs::metadata(&path).unwrap().blocks() * 512;
    let before = allocated();
    assert!(before >= 4 * MIB);
    let mut rig = Rig::new(opened);
    assert_eq!(rig.run(Op::WriteZeroes { unmap: false }, 0, 2 * MIB, &[]), Ok(()));
    assert_eq!(allocated(), before);
    assert_eq!(rig.run(Op::Discard, MIB, 2 * MIB, &[]), Ok(()));
    assert_eq!(allocated(), before - 2 * MIB);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 4 * MIB);
}

#[test]
fn what_does_not_lie_on_the_device_or_may_not_be_written_is_refused() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 4096);
    let buffer = Buffer::new(8192);
    let mut rig = Rig::new(opened);
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
    let medium = Medium::File { path, create: None };
    let spec = DeviceSpec {
        medium,
        block_bytes: 4096,
        read_only: true,
    };
    let mut rig = Rig::new(Arc::new(Opened::open(&spec, Duration::from_secs(5)).unwrap()));
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
fn more_than_the_queue_holds_is_busy_and_all_of_it_completes_once() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, 4 * MIB, 4096);
    let mut rig = Rig::new(opened);
    let mut buffer = Buffer::new(4 << 20);
    let (mut started, mut finished, mut was_busy) = (0u32, vec![0; 64], false);
    let segments: Vec<_> = (0..64).map(|slot| [buffer.segment(slot * 4096, 4096)]).collect();
    (0..64).for_each(|slot| buffer.fill(slot * 4096, 4096, slot as u8));
    rig::until(|| {
        while started < 64 {
            let io = Io {
                device: DEVICE,
                slot: SlotIndex(started),
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
    // The kernel refuses addresses below vm.mmap_min_addr to everybody.
    let absent = palisade_block::Segment {
        address: 4096,
        bytes: 4096,
    };
    for list in [vec![absent], vec![buffer.segment(0, 4096), absent]] {
        assert_eq!(rig.read(0, &list), Err(Fault::GuestMemory));
        assert_eq!(rig.write(0, &list), Err(Fault::GuestMemory));
    }
    buffer.fill(0, 8192, 1);
    assert_eq!(rig.write(0, &[buffer.segment(0, 8192)]), Ok(()));
}
