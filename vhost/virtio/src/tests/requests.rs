//! What a well-behaved guest asks for, and each rule of virtio 1.3, 5.2.6.

use super::rig::{DATA, Rig, SECOND, all_features, device_reads, device_writes};
use crate::blk::kind;
use crate::driver::{BlkHeader, DriverOptions, Range, descriptor};
use crate::{Features, Owed, SetupError};
use palisade_block::{Answer, Op, Pulled, Source, Status};
use palisade_memory::{Descriptor, RingError};
use palisade_words::{Lba, Sectors};

#[test]
fn a_read_is_handed_over_and_answered() {
    for mut rig in [Rig::new(), Rig::indirect()] {
        let data = [device_writes(DATA, 4096), device_writes(DATA + 8192, 512)];
        let head = rig.submit(kind::IN, 77, &data);
        assert!(matches!(rig.pull(), Pulled::Empty), "not published yet");
        rig.driver.publish();
        let request = rig.request();
        assert_eq!(
            (request.op, request.lba, request.sectors),
            (Op::Read, Lba(77), Sectors(9))
        );
        assert_eq!(Owed::of(&request.token).bytes_in, 4608);
        let expected = [
            rig.memory.slice(DATA, 4096).unwrap(),
            rig.memory.slice(DATA + 8192, 512).unwrap(),
        ];
        assert_eq!(rig.segments.as_slice(), expected);
        rig.queue.finish(Answer {
            token: request.token,
            status: Status::Ok,
            fault: None,
            dirtied: &[],
        });
        assert_eq!(rig.driver.poll_used(), None, "not visible before publish");
        rig.queue.publish();
        let used = rig.driver.poll_used().unwrap();
        assert_eq!((used.head, used.bytes, used.expected), (head, 4609, true));
        assert_eq!(rig.driver.status(head), 0);
        assert_eq!((rig.stats().taken.get(), rig.stats().returned.get()), (1, 1));
    }
}

#[test]
fn a_failed_read_counts_only_the_status_as_written() {
    let mut rig = Rig::new();
    let head = rig.submit(kind::IN, 0, &[device_writes(DATA, 512)]);
    rig.driver.publish();
    let request = rig.request();
    rig.answer(request, Status::IoErr);
    assert_eq!(rig.driver.poll_used().unwrap().bytes, 1);
    assert_eq!(rig.driver.status(head), 1);
}

#[test]
fn a_write_a_flush_and_ranges() {
    for mut rig in [Rig::new(), Rig::indirect()] {
        rig.submit(kind::OUT, 8, &[device_reads(DATA, 1024)]);
        rig.submit(kind::FLUSH, 0, &[]);
        rig.submit_range(kind::DISCARD, 5, 6, 0);
        rig.submit_range(kind::WRITE_ZEROES, 7, 1 << 22, 1);
        rig.submit_range(kind::WRITE_ZEROES, u64::MAX, 1, 0);
        rig.driver.publish();
        let expected = [
            (Op::Write, Lba(8), Sectors(2), 1),
            (Op::Flush, Lba(0), Sectors(0), 0),
            (Op::Discard, Lba(5), Sectors(6), 0),
            (Op::WriteZeroes { unmap: true }, Lba(7), Sectors(1 << 22), 0),
            (Op::WriteZeroes { unmap: false }, Lba(u64::MAX), Sectors(1), 0),
        ];
        for (op, lba, sectors, segments) in expected {
            let request = rig.request();
            assert_eq!((request.op, request.lba, request.sectors), (op, lba, sectors));
            assert_eq!(rig.segments.len(), segments);
            rig.answer(request, Status::Ok);
            assert_eq!(rig.driver.poll_used().unwrap().bytes, 1);
        }
    }
}

/// Buffers that a request has no use for are nobody's to read or write, and what was in the list before is gone.
#[test]
fn a_request_without_data_has_no_segments() {
    let mut rig = Rig::new();
    for data in [
        [device_reads(DATA, 512), device_reads(DATA + 512, 512)],
        [device_reads(DATA, 512), device_writes(DATA + 512, 512)],
    ] {
        rig.submit(kind::FLUSH, 0, &data);
        rig.driver.publish();
        let request = rig.request();
        assert_eq!((request.op, request.sectors), (Op::Flush, Sectors(0)));
        assert_eq!((rig.segments.len(), rig.segments.bytes()), (0, 0));
        rig.answer(request, Status::Ok);
    }
    assert!(rig.segments.push(rig.memory.slice(DATA, 512).unwrap()));
    assert!(matches!(rig.pull(), Pulled::Empty));
    assert!(rig.segments.is_empty());
}

#[test]
fn the_device_id_is_answered_here_as_far_as_there_is_room() {
    let mut rig = Rig::new();
    for (bytes, written) in [(20, 20), (64, 20), (5, 5)] {
        rig.memory.write(DATA, &[0xee; 64]);
        let (used, status) = rig.submit_and_see(kind::GET_ID, &[device_writes(DATA, bytes)]);
        assert_eq!((used.bytes, status), (written + 1, 0));
        let mut id = [0; 21];
        rig.memory.read(DATA, &mut id);
        let written = written as usize;
        assert_eq!(id[..written], b"palisade-volume-7\0\0\0"[..written]);
        assert_eq!(id[written..], [0xee; 21][written..]);
    }
    let (_, status) = rig.submit_and_see(kind::GET_ID, &[]);
    assert_eq!(status, 1, "no room at all");
    let (_, status) = rig.submit_and_see(kind::GET_ID, &[device_reads(DATA, 20)]);
    assert_eq!(status, 1, "not writable");
    assert_eq!((rig.stats().get_id.get(), rig.stats().malformed.get()), (3, 2));
}

#[test]
fn unknown_kinds_and_kinds_not_negotiated_are_unsupported() {
    let mut rig = Rig::new();
    for kind in [2, 3, 14, 0x8000_0000, u32::MAX] {
        let (used, status) = rig.submit_and_see(kind, &[device_writes(DATA, 512)]);
        assert_eq!((used.bytes, status), (1, 2), "kind {kind}");
    }
    assert_eq!(rig.stats().unsupported.get(), 5);
    let options = rig.driver.options();
    let bare =
        |features: Features| Rig::with(options, |setup| setup.features = all_features().without(features));
    let (_, status) = bare(Features::FLUSH).submit_and_see(kind::FLUSH, &[]);
    assert_eq!(status, 2);
    for (kind, feature) in [
        (kind::DISCARD, Features::DISCARD),
        (kind::WRITE_ZEROES, Features::WRITE_ZEROES),
    ] {
        let mut rig = bare(feature);
        let head = rig.submit_range(kind, 0, 8, 0);
        rig.driver.publish();
        assert_eq!(rig.taken_by_itself(head).1, 2);
    }
}

#[test]
fn ranges_that_break_a_rule() {
    let mut rig = Rig::new();
    let cases = [
        (
            kind::DISCARD,
            Range {
                sector: 0,
                sectors: 8,
                flags: 1,
            },
            2,
        ),
        (
            kind::DISCARD,
            Range {
                sector: 0,
                sectors: 8,
                flags: 2,
            },
            2,
        ),
        (
            kind::WRITE_ZEROES,
            Range {
                sector: 0,
                sectors: 8,
                flags: 0x8000_0001,
            },
            2,
        ),
        (
            kind::WRITE_ZEROES,
            Range {
                sector: 0,
                sectors: (1 << 22) + 1,
                flags: 0,
            },
            1,
        ),
        (
            kind::DISCARD,
            Range {
                sector: 0,
                sectors: u32::MAX,
                flags: 0,
            },
            1,
        ),
        (
            kind::DISCARD,
            Range {
                sector: 0,
                sectors: 0,
                flags: 0,
            },
            1,
        ),
    ];
    for (kind, range, expected) in cases {
        let head = rig.driver.submit_range(kind, range).unwrap();
        rig.driver.publish();
        assert_eq!(rig.taken_by_itself(head).1, expected, "{kind} {range:?}");
    }
    for (bytes, expected) in [(32, 2), (4096, 2), (15, 1), (17, 1), (8, 1)] {
        let (_, status) = rig.submit_and_see(kind::DISCARD, &[device_reads(DATA, bytes)]);
        assert_eq!(status, expected, "{bytes} bytes of ranges");
    }
    assert_eq!(rig.submit_and_see(kind::DISCARD, &[]).1, 1);
    assert_eq!(
        rig.submit_and_see(kind::WRITE_ZEROES, &[device_writes(DATA, 16)])
            .1,
        1
    );
}

/// What would be a range, were it not for its buffer.
#[test]
fn a_range_in_a_buffer_that_holds_none() {
    let mut rig = Rig::new();
    let range = Range {
        sector: 3,
        sectors: 8,
        flags: 0,
    };
    rig.memory.write(DATA, &range.encode());
    rig.memory.write(DATA + 16, &range.encode());
    let both = [device_reads(DATA, 8), device_writes(DATA + 8, 8)];
    for kind in [kind::DISCARD, kind::WRITE_ZEROES] {
        for (data, status) in [
            (&[device_writes(DATA, 16)][..], 1),
            (&both, 1),
            (&[device_reads(DATA, 12)], 1),
            (&[device_reads(DATA, 15)], 1),
            (&[device_reads(DATA, 17)], 1),
            (&[device_reads(DATA, 32)], 2),
            (&[], 1),
        ] {
            assert_eq!(rig.submit_and_see(kind, data).1, status, "{data:?}");
        }
        rig.submit(kind, 0, &[device_reads(DATA, 16)]);
        rig.driver.publish();
        let request = rig.request();
        assert_eq!((request.lba, request.sectors), (Lba(3), Sectors(8)));
        rig.answer(request, Status::Ok);
        rig.driver.poll_used().unwrap();
    }
}

#[test]
fn a_range_may_be_split_over_descriptors() {
    let mut rig = Rig::new();
    rig.memory.write(
        DATA,
        &Range {
            sector: 99,
            sectors: 3,
            flags: 0,
        }
        .encode(),
    );
    let halves = [device_reads(DATA, 5), device_reads(DATA + 5, 11)];
    rig.submit(kind::DISCARD, 0, &halves);
    rig.driver.publish();
    let request = rig.request();
    assert_eq!((request.lba, request.sectors), (Lba(99), Sectors(3)));
    rig.answer(request, Status::Ok);
}

#[test]
fn a_read_only_volume_refuses_changes() {
    let options = DriverOptions {
        size: 8,
        event_idx: false,
        indirect: false,
    };
    let mut rig = Rig::with(options, |setup| setup.writable = false);
    assert_eq!(rig.submit_and_see(kind::OUT, &[device_reads(DATA, 512)]).1, 1);
    for kind in [kind::DISCARD, kind::WRITE_ZEROES] {
        let head = rig.submit_range(kind, 0, 8, 0);
        rig.driver.publish();
        assert_eq!(rig.taken_by_itself(head).1, 1);
    }
    assert_eq!(rig.stats().refused_writes.get(), 3);
    rig.submit(kind::IN, 0, &[device_writes(DATA, 512)]);
    rig.driver.publish();
    let request = rig.request();
    rig.answer(request, Status::Ok);
}

#[test]
fn data_is_whole_logical_blocks_in_the_right_direction() {
    let options = Rig::new().driver.options();
    let mut rig = Rig::with(options, |setup| setup.block_bytes = 4096);
    for bytes in [0, 1, 511, 512, 4095, 4097, 6144] {
        assert_eq!(
            rig.submit_and_see(kind::IN, &[device_writes(DATA, bytes)]).1,
            1,
            "{bytes}"
        );
        assert_eq!(
            rig.submit_and_see(kind::OUT, &[device_reads(DATA, bytes)]).1,
            1,
            "{bytes}"
        );
    }
    assert_eq!(rig.submit_and_see(kind::IN, &[]).1, 1);
    assert_eq!(rig.submit_and_see(kind::IN, &[device_reads(DATA, 4096)]).1, 1);
    assert_eq!(rig.submit_and_see(kind::OUT, &[device_writes(DATA, 4096)]).1, 1);
    let both = [device_reads(DATA, 4096), device_writes(DATA, 4096)];
    assert_eq!(rig.submit_and_see(kind::IN, &both).1, 1);
    assert_eq!(rig.submit_and_see(kind::OUT, &both).1, 1);
    assert_eq!(rig.stats().malformed.get(), 19);
}

#[test]
fn header_and_status_may_be_framed_in_any_way() {
    // The header in pieces of 1, 0, 7 and 8 bytes, then with data behind it; the status behind data.
    let mut rig = Rig::new();
    rig.memory.write(
        DATA,
        &BlkHeader {
            kind: kind::OUT,
            sector: 0x1234,
        }
        .encode(),
    );
    let chain = [
        descriptor(DATA, 1, 0),
        descriptor(DATA, 0, 0),
        descriptor(DATA + 1, 7, 0),
        descriptor(DATA + 8, 8 + 512, 0),
        descriptor(DATA + 0x1000, 512, 0),
        descriptor(DATA + 0x2000, 1, Descriptor::WRITE),
    ];
    rig.driver.submit_chain(&chain).unwrap();
    rig.memory.write(
        DATA + 0x3000,
        &BlkHeader {
            kind: kind::IN,
            sector: 3,
        }
        .encode(),
    );
    let chain = [
        descriptor(DATA + 0x3000, 16, 0),
        descriptor(DATA + 0x4000, 513, Descriptor::WRITE),
    ];
    rig.driver.submit_chain(&chain).unwrap();
    rig.driver.publish();

    let request = rig.request();
    assert_eq!(
        (request.op, request.lba, request.sectors),
        (Op::Write, Lba(0x1234), Sectors(2))
    );
    let expected = [
        rig.memory.slice(DATA + 16, 512).unwrap(),
        rig.memory.slice(DATA + 0x1000, 512).unwrap(),
    ];
    assert_eq!(rig.segments.as_slice(), expected);
    rig.answer(request, Status::Ok);

    let request = rig.request();
    assert_eq!(
        (request.op, request.lba, request.sectors),
        (Op::Read, Lba(3), Sectors(1))
    );
    assert_eq!(
        rig.segments.as_slice(),
        [rig.memory.slice(DATA + 0x4000, 512).unwrap()]
    );
    rig.memory.write(DATA + 0x4200, &[9]);
    rig.answer(request, Status::IoErr);
    let mut status = [0];
    rig.memory.read(DATA + 0x4200, &mut status);
    assert_eq!(status, [1]);
}

#[test]
fn buffers_may_cross_from_one_region_into_the_next() {
    let mut rig = Rig::new();
    rig.memory.write(SECOND - 3, &[0, 0, 0]);
    rig.memory
        .write(SECOND, &[0, 0, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0]);
    let chain = [
        descriptor(SECOND - 3, 16, 0),
        descriptor(SECOND - 512, 1024, Descriptor::WRITE),
        descriptor(DATA, 1, Descriptor::WRITE),
    ];
    rig.driver.submit_chain(&chain).unwrap();
    rig.driver.publish();
    let request = rig.request();
    assert_eq!(
        (request.op, request.lba, request.sectors),
        (Op::Read, Lba(42), Sectors(2))
    );
    let expected = [
        rig.memory.slice(SECOND - 512, 512).unwrap(),
        rig.memory.slice(SECOND, 512).unwrap(),
    ];
    assert_eq!(rig.segments.as_slice(), expected);
    rig.answer(request, Status::Ok);
}

#[test]
fn a_chain_may_begin_in_the_ring_and_end_in_a_table() {
    let mut rig = Rig::indirect();
    let head = rig.driver.next_head().unwrap();
    let slot = rig.driver.slot(head);
    rig.memory.write(
        slot,
        &BlkHeader {
            kind: kind::IN,
            sector: 1,
        }
        .encode(),
    );
    let table = DATA + 0x1_0000;
    let entry = |address: u64, bytes: u32, flags: u16, next: u16| {
        let rest = u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48;
        (u128::from(address) | u128::from(rest) << 64).to_le_bytes()
    };
    rig.memory.write(table, &entry(DATA, 512, 3, 2));
    rig.memory.write(table + 32, &entry(slot + 32, 1, 2, 0));
    // WRITE on an indirect descriptor is to be ignored (virtio 1.3, 2.7.5.3.2).
    let chain = [
        descriptor(slot, 16, 0),
        descriptor(table, 48, Descriptor::INDIRECT | Descriptor::WRITE),
    ];
    rig.driver.submit_chain(&chain).unwrap();
    rig.driver.publish();
    let request = rig.request();
    assert_eq!((request.op, request.sectors), (Op::Read, Sectors(1)));
    rig.answer(request, Status::Ok);
    assert_eq!(rig.driver.status(head), 0);
}

#[test]
fn setups_that_cannot_be_served_are_refused() {
    let rig = Rig::new();
    let try_with = |change: &dyn Fn(&mut crate::QueueSetup)| {
        let mut setup = super::rig::setup(&rig.memory, &rig.driver, None);
        change(&mut setup);
        crate::BlkQueue::new(setup, rig.bell.clone())
            .map(|_| ())
            .unwrap_err()
    };
    for size in [0, 3, 32767, 65535] {
        let error = try_with(&|setup| setup.size = size);
        assert_eq!(error, SetupError::Ring(RingError::Size { size }));
    }
    for block_bytes in [0, 256, 513] {
        let error = try_with(&|setup| setup.block_bytes = block_bytes);
        assert_eq!(error, SetupError::BlockBytes { block_bytes });
    }
    let error = try_with(&|setup| setup.ring.avail += 1);
    assert!(matches!(
        error,
        SetupError::Ring(RingError::Misaligned {
            area: "available",
            ..
        })
    ));
    let error = try_with(&|setup| setup.ring.used = super::rig::END - 8);
    assert!(matches!(
        error,
        SetupError::Ring(RingError::NotMapped { area: "used", .. })
    ));
    let error = try_with(&|setup| setup.ring.descriptors = u64::MAX - 15);
    assert!(matches!(
        error,
        SetupError::Ring(RingError::NotMapped {
            area: "descriptor",
            ..
        })
    ));
    let error = try_with(&|setup| {
        let (region, _file) = palisade_memory::InflightRegion::create(1, 8).unwrap();
        setup.inflight = region.queue(0);
    });
    assert_eq!(error, SetupError::InflightTooSmall { entries: 8, size: 16 });
}

/// Smallest and largest that can be.
#[test]
fn a_ring_as_large_as_its_region_and_blocks_of_512_bytes_are_served() {
    let rig = Rig::new();
    let mut setup = super::rig::setup(&rig.memory, &rig.driver, None);
    let (region, _file) = palisade_memory::InflightRegion::create(1, setup.size).unwrap();
    (setup.inflight, setup.block_bytes) = (region.queue(0), 512);
    let queue = crate::BlkQueue::new(setup, rig.bell.clone()).unwrap();
    let (_, inflight) = queue.into_parts();
    assert_eq!(inflight.map(|inflight| inflight.entries()), Some(16));
}

/// Who took the ring before may have ended between a used entry and its notification; who is the first need say nothing.
#[test]
fn a_driver_is_notified_when_a_ring_is_taken_over_that_has_been_in_use() {
    for (used_idx, tracked, notified) in [(0, false, 0), (5, false, 1), (0, true, 1), (5, true, 1)] {
        let rig = Rig::new();
        let mut setup = super::rig::setup(&rig.memory, &rig.driver, None);
        assert!(rig.memory.store_u16(setup.ring.used + 2, used_idx));
        assert!(rig.memory.store_u16(setup.ring.avail + 2, used_idx));
        setup.base = used_idx;
        let (region, _file) = palisade_memory::InflightRegion::create(1, setup.size).unwrap();
        setup.inflight = region.queue(0).filter(|_| tracked);
        let stats = std::sync::Arc::clone(&setup.stats);
        // The ring before was broken, and the counters are those of the attachment.
        stats.set_broken(Some(crate::Broken::MemoryLost));
        let queue = crate::BlkQueue::new(setup, rig.bell.clone()).unwrap();
        assert_eq!(
            (rig.bell.rings() as u64, stats.notified.get()),
            (notified, notified),
            "{used_idx} {tracked}"
        );
        assert_eq!(
            (queue.next_avail(), queue.resubmissions_left(), queue.backlog()),
            (used_idx, 0, 0)
        );
        assert_eq!(
            (stats.broken_now(), stats.broken.get()),
            (None, 1),
            "this one is in order"
        );
        assert!(!queue.has_more());
        assert!(queue.lease().is(rig.memory.lease()));
    }
}

/// A driver that polls sees a line of used entries as soon as it is full, and is told of all at once.
#[test]
fn full_lines_of_answers_are_shown_before_the_turn_ends() {
    let options = DriverOptions {
        size: 32,
        event_idx: false,
        indirect: false,
    };
    let mut rig = Rig::with(options, |_| {});
    for _ in 0..10 {
        rig.submit(kind::FLUSH, 0, &[]);
    }
    rig.driver.publish();
    let used = rig.driver.addresses().used + 2;
    for answered in 1..=10u16 {
        let token = rig.request().token;
        rig.queue.finish(Answer {
            token,
            status: Status::Ok,
            fault: None,
            dirtied: &[],
        });
        let shown = answered / crate::split::SHOWN_AT_ONCE * crate::split::SHOWN_AT_ONCE;
        assert_eq!(rig.memory.load_u16(used), Some(shown), "{answered}");
    }
    assert_eq!(rig.bell.rings(), 0);
    rig.queue.publish();
    assert_eq!((rig.memory.load_u16(used), rig.bell.rings()), (Some(10), 1));
}

#[test]
fn a_queue_can_be_handed_to_a_reactor() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    let rig = Rig::new();
    assert_eq!(sent(rig.queue).next_avail(), 0);
}
