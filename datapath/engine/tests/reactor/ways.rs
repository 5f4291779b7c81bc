//! Which way a request goes: as it is, in pieces, or nowhere; and what its device is told of it.

use crate::bench_of::*;
use palisade_block::mailbox::{ReactorChange, ReactorCommand};
use palisade_block::*;
use palisade_engine::ReactorConfig;
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, Sectors, SlotIndex};

/// Runs as (volume, sectors, device, sector there), in use at once.
fn route(bed: &mut Bed, runs: &[(u64, u64, u16, u64)]) {
    let runs = runs.iter().map(|&(volume, sectors, device, lba)| Run {
        volume: Lba(volume),
        sectors: Sectors(sectors),
        device: DeviceIndex(device),
        lba: Lba(lba),
    });
    let generation = Generation(2);
    let route = Route::new(mapping_of(generation, Epoch(1)), runs.collect()).expect("runs without a gap");
    bed.reactor.apply(ReactorChange::Resume {
        volume: VOLUME,
        route,
    });
    bed.notices();
}

/// What was started since, as device, first sector and sectors.
fn started(bed: &mut Bed) -> Vec<(u16, u64, u64)> {
    let seen = std::mem::take(&mut bed.devices().seen);
    seen.iter().map(|io| (io.device, io.lba, io.sectors)).collect()
}

#[test]
fn nothing_is_started_where_there_is_nothing_to_do() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    // No sectors, behind the last one.
    guest.ask(1, Op::Read, 1000, 0, vec![]);
    guest.ask(2, Op::Discard, 1000, 0, vec![]);
    assert_eq!(bed.turn(), 2);
    route(&mut bed, &[]);
    guest.ask(3, Op::Flush, 0, 0, vec![]);
    guest.ask(4, Op::Read, 0, 0, vec![]);
    guest.ask(5, Op::Read, 0, 1, data(1));
    assert_eq!(bed.turn(), 3);
    assert_eq!(started(&mut bed), []);
    let answers = [1, 2, 3, 4].map(|head| (head, Status::Ok));
    assert_eq!(guest.answers()[..4], answers);
    assert_eq!(guest.answers()[4..], [(5, Status::IoErr)]);
    assert_eq!(bed.reactor.in_flight(), 0);
}

/// A reactor that has no parts can do only what goes as it is.
#[test]
fn what_ends_with_its_run_or_is_as_long_as_its_device_takes_needs_no_parts() {
    let config = ReactorConfig {
        slots: 16,
        parts: 0,
        long: 0,
        watch_every: Nanos(10),
    };
    let mut bed = Bed::of(config, 2);
    bed.devices().limits[0].io_bytes_max = 8 * 512;
    bed.reactor.apply(ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(0),
        stats: Default::default(),
        deadline: Nanos(1000),
    });
    bed.devices().at_once = Some(Ok(()));
    let guest = bed.attach(QUEUE, |_| {});
    for (head, lba, sectors) in [(1, 0, 8), (2, 492, 8), (3, 499, 1), (4, 500, 500), (5, 999, 1)] {
        guest.ask(head, Op::Write, lba, sectors, data(sectors));
        bed.turn();
        assert_eq!(
            guest.answers().last(),
            Some(&(head, Status::Ok)),
            "{lba}, {sectors}"
        );
        assert_eq!(started(&mut bed).len(), 1);
    }
    // One sector more, and it waits for a part.
    for (head, lba, sectors) in [(6, 0, 9), (7, 499, 2)] {
        guest.ask(head, Op::Write, lba, sectors, data(sectors));
        bed.turn();
        assert_eq!((guest.answers().len(), started(&mut bed).len()), (5, 0));
    }
    bed.reactor.abandon();
}

#[test]
fn a_device_is_given_no_memory_for_what_moves_no_data() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    // At once, when it has room for it, and in pieces, whatever the source says of memory.
    for (busy, lba, pieces) in [(false, 0, 1), (true, 0, 1), (false, 496, 2)] {
        bed.devices().busy = busy;
        guest.ask(1, Op::Discard, lba, 8, data(8));
        bed.turn();
        bed.devices().busy = false;
        bed.turn();
        let seen = &bed.devices().seen;
        assert_eq!(seen.len(), pieces);
        assert!(seen.iter().all(|io| io.segments.is_empty()), "{seen:?}");
        bed.finish_all(Ok(()));
        bed.turn();
    }
    assert_eq!(guest.answers().len(), 3);
}

/// A route may know a device that the reactor was never given.
#[test]
fn a_request_whose_later_piece_has_no_device_fails() {
    let mut bed = Bed::new(16, 2);
    route(&mut bed, &[(0, 100, 0, 0), (100, 100, 7, 0)]);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Write, 96, 8, data(8));
    guest.ask(2, Op::Write, 100, 8, data(8));
    bed.turn();
    assert_eq!(guest.answers(), [(2, Status::IoErr)]);
    assert_eq!(started(&mut bed), [(0, 96, 4)]);
    let slot = SlotIndex(16);
    bed.devices().finished.push_back((slot, Ok(())));
    bed.turn();
    assert_eq!(guest.answers(), [(2, Status::IoErr), (1, Status::IoErr)]);
}

#[test]
fn once_a_piece_has_failed_or_cannot_be_done_so_no_further_one_is_started() {
    let zero = Op::WriteZeroes { unmap: false };
    for (op, fault, rest) in [
        (Op::Write, Fault::Media, vec![]),
        // Zeroes are written instead, from the start.
        (zero, Fault::Unsupported, vec![(0, 0, 300), (1, 0, 300)]),
    ] {
        let mut bed = Bed::new(16, 2);
        route(&mut bed, &[(0, 300, 0, 0), (300, 300, 1, 0)]);
        let guest = bed.attach(QUEUE, |_| {});
        bed.devices().at_once = Some(Err(fault));
        guest.ask(1, op, 0, 600, if op == Op::Write { data(600) } else { vec![] });
        if fault == Fault::Unsupported {
            bed.devices().at_once = None;
            bed.devices().unsupported = vec![op];
        }
        bed.turn();
        let mut due = vec![(0, 0, 300)];
        due.extend(rest);
        assert_eq!(started(&mut bed), due);
        assert_eq!(guest.answers().is_empty(), fault == Fault::Unsupported);
        bed.reactor.abandon();
    }
}

#[test]
fn what_a_device_is_told_beforehand_begins_anew_behind_an_interruption() {
    let mut bed = Bed::new(16, 2);
    bed.devices().fetches = true;
    let guest = bed.attach(QUEUE, |_| {});
    let over_the_border = 496;
    for (head, lba) in [
        (1, 0),
        (2, 8),
        (3, over_the_border),
        (4, 16),
        (5, 24),
        (6, over_the_border),
        (7, 32),
    ] {
        guest.ask(head, Op::Write, lba, 8, data(8));
    }
    assert_eq!(bed.turn(), 7);
    let due = [
        ("expect", 100),
        ("expect", 108),
        ("start", 100),
        ("start", 108),
        ("start", 596),
        ("start", 0),
        ("expect", 116),
        ("expect", 124),
        ("start", 116),
        ("start", 124),
        ("start", 596),
        ("start", 0),
        ("start alone", 132),
    ];
    assert_eq!(bed.devices().steps.take(), due);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers().len(), 7);
}

#[test]
fn a_device_that_looks_ahead_is_told_of_the_usual_requests_alone() {
    for (segments, told) in [(2, 2), (3, 0)] {
        let mut bed = Bed::new(64, 2);
        bed.devices().fetches = true;
        let guest = bed.attach(QUEUE, |_| {});
        for head in 0..2 {
            let pieces = (0..segments).map(|at| piece(0x20_0000 + at * 1024, 512));
            guest.ask(head, Op::Write, 0, segments as u64, pieces.collect());
        }
        assert_eq!(bed.turn(), 2);
        let expected = |(step, _): &&(&str, u64)| *step == "expect";
        let steps = bed.devices().steps.borrow();
        assert_eq!(steps.iter().filter(expected).count(), told, "{segments} segments");
        drop(steps);
        bed.reactor.abandon();
    }
}

/// A bed whose first device is memory, with so many parts.
fn of_memory(parts: u32, sectors: u64) -> Bed {
    let config = ReactorConfig {
        slots: 16,
        parts,
        long: 0,
        watch_every: Nanos(10),
    };
    let mut bed = Bed::of(config, 2);
    let limits = &mut bed.devices().limits[0];
    (limits.kind, limits.sectors) = (DeviceKind::Memory, Sectors(sectors));
    bed.reactor.apply(ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(0),
        stats: Default::default(),
        deadline: Nanos(1000),
    });
    route(&mut bed, &[(0, sectors, 0, 0)]);
    bed
}

#[test]
fn what_discards_as_much_as_a_piece_needs_no_parts() {
    let sectors = u64::from(limits::PIECE_BYTES_MAX) / 512;
    let mut bed = of_memory(0, 2 * sectors);
    let guest = bed.attach(QUEUE, |_| {});
    for (more, count) in [(0, 1), (8, 0)] {
        guest.ask(1, Op::Discard, 0, sectors + more, vec![]);
        bed.turn();
        assert_eq!(started(&mut bed).len(), count);
    }
    bed.reactor.abandon();
}

#[test]
fn a_write_through_guest_counts_on_what_it_discards_and_others_flush_by_themselves() {
    for write_through in [false, true] {
        let mut bed = of_memory(8, 1000);
        let guest = bed.attach(QUEUE, |settings| settings.write_through = write_through);
        guest.ask(1, Op::WriteZeroes { unmap: false }, 0, 8, vec![]);
        let mut ops = Vec::new();
        for _ in 0..3 {
            bed.turn();
            ops.extend(bed.devices().seen.iter().map(|io| io.op));
            bed.finish_all(Ok(()));
        }
        let zero = Op::WriteZeroes { unmap: false };
        let due = [zero, Op::Flush];
        assert_eq!(ops, due[..1 + usize::from(write_through)]);
        assert_eq!(guest.answers(), [(1, Status::Ok)]);
    }
}

/// Whatever its source says of memory, at once, and when its device has room for it.
#[test]
fn a_device_is_given_no_memory_for_what_goes_as_it_is_and_moves_no_data() {
    for busy in [false, true] {
        for (op, sectors) in [(Op::Discard, 8), (Op::Flush, 0)] {
            let mut bed = of_memory(8, 1000);
            bed.devices().busy = busy;
            let guest = bed.attach(QUEUE, |_| {});
            guest.ask(1, op, 0, sectors, data(8));
            bed.turn();
            bed.devices().busy = false;
            bed.turn();
            let seen = std::mem::take(&mut bed.devices().seen);
            assert!(matches!(&seen[..], [io] if io.segments.is_empty()), "{seen:?}");
            bed.reactor.abandon();
        }
    }
}

#[test]
fn what_has_as_many_segments_as_a_slot_has_places_goes_as_it_is() {
    let mut bed = of_memory(0, 1000);
    let guest = bed.attach(QUEUE, |_| {});
    let count = limits::SEGMENTS_PER_SLOT;
    let segments = (0..count).map(|at| piece(0x20_0000 + at * 1024, 512));
    guest.ask(1, Op::Read, 0, count as u64, segments.collect());
    bed.turn();
    let seen = bed.devices().seen.iter().map(|io| io.segments.len());
    assert_eq!(seen.collect::<Vec<_>>(), [count]);
    bed.reactor.abandon();
}
