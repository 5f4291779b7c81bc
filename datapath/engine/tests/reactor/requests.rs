//! One request at a time: where it goes, how it is cut, what the guest is told.

use crate::bench_of::*;
use palisade_block::*;
use palisade_words::{DeviceIndex, QueueId};

#[test]
fn a_whole_request_goes_to_its_run_and_is_answered_once() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(7, Op::Read, 8, 8, data(8));
    assert_eq!(bed.turn(), 1);
    let seen = bed.devices().seen.clone();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].device, seen[0].lba, seen[0].sectors, seen[0].pooled),
        (0, 108, 8, false)
    );
    assert_eq!(seen[0].segments, data(8));
    assert!(guest.answers().is_empty());
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers(), [(7, Status::Ok)]);
    assert_eq!(bed.turn(), 0);
    assert_eq!(guest.0.borrow().publications, 1);
    assert_eq!(bed.reactor.in_flight(), 0);
}

#[test]
fn a_request_over_two_runs_is_cut_and_answered_after_both_parts() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Write, 496, 8, data(8));
    bed.turn();
    let seen = std::mem::take(&mut bed.devices().seen);
    let places: Vec<_> = seen.iter().map(|s| (s.device, s.lba, s.sectors)).collect();
    assert_eq!(places, [(0, 596, 4), (1, 0, 4)]);
    assert_eq!(seen[1].segments, [piece(0x10_0000 + 2048, 2048)]);
    bed.devices().finished.push_back((seen[1].slot, Ok(())));
    bed.turn();
    assert!(guest.answers().is_empty(), "one part is still out");
    bed.devices()
        .finished
        .push_back((seen[0].slot, Err(Fault::Media)));
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
}

#[test]
fn misaligned_memory_goes_through_the_pool_in_pieces() {
    let mut bed = Bed::new(16, 1);
    let guest = bed.attach(QUEUE, |_| {});
    let bytes = 2 * limits::BOUNCE_BYTES;
    let odd = vec![piece(0x10_0001, bytes)];
    let sectors = bytes as u64 / 512;
    // The volume is too small for two buffers' worth; a request over its end is refused first.
    guest.ask(1, Op::Read, 0, sectors, odd);
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);

    let odd = vec![piece(0x10_0001, 700 * 512)];
    guest.ask(2, Op::Read, 0, 700, odd);
    bed.turn();
    // 512 sectors to a buffer, cut at the run's border at 500: 500 + 200, with one buffer one after the other.
    assert_eq!(bed.devices().seen.len(), 1);
    assert!(bed.devices().seen[0].pooled);
    assert_eq!(bed.devices().seen[0].sectors, 500);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(bed.devices().seen[0].sectors, 200);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers()[1], (2, Status::Ok));
    assert_eq!(bed.pool.0.borrow().scattered, 700 * 512);
    assert_eq!(bed.pool.0.borrow().free.len(), 1);
}

#[test]
fn a_flush_goes_to_every_device_of_the_volume() {
    let mut bed = Bed::new(16, 1);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Flush, 0, 0, vec![]);
    bed.turn();
    let devices: Vec<_> = bed.devices().seen.iter().map(|s| (s.device, s.op)).collect();
    assert_eq!(devices, [(0, Op::Flush), (1, Op::Flush)]);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
}

#[test]
fn zeroes_are_written_where_the_device_cannot() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    let zero = Op::WriteZeroes { unmap: false };
    bed.devices().unsupported = vec![zero, Op::Discard];
    guest.ask(1, zero, 0, 16, vec![]);
    guest.ask(2, Op::Discard, 0, 16, vec![]);
    bed.turn();
    let writes: Vec<_> = bed
        .devices()
        .seen
        .iter()
        .filter(|s| s.op == Op::Write)
        .cloned()
        .collect();
    assert_eq!(writes.len(), 1);
    assert!(writes[0].pooled);
    assert_eq!((writes[0].lba, writes[0].sectors), (100, 16));
    bed.devices().finished.push_back((writes[0].slot, Ok(())));
    bed.turn();
    assert_eq!(
        guest.answers(),
        [(2, Status::Ok), (1, Status::Ok)],
        "a discard is only advice"
    );
}

#[test]
fn write_through_makes_writes_durable_and_flushes_after_discards() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |settings| settings.write_through = true);
    bed.devices().at_once = Some(Ok(()));
    guest.ask(1, Op::Write, 0, 8, data(8));
    guest.ask(2, Op::Discard, 0, 8, vec![]);
    bed.turn();
    let ops: Vec<_> = bed
        .devices()
        .seen
        .iter()
        .map(|s| (s.op, s.device, s.durable))
        .collect();
    assert_eq!(
        ops,
        [
            (Op::Write, 0, true),
            (Op::Discard, 0, false),
            (Op::Flush, 0, false),
            (Op::Flush, 1, false)
        ]
    );
    assert_eq!(guest.answers(), [(1, Status::Ok), (2, Status::Ok)]);
}

#[test]
fn what_does_not_fit_is_refused_and_reaches_no_device() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |settings| settings.read_only = true);
    guest.ask(1, Op::Read, 999, 2, data(2));
    guest.ask(2, Op::Read, u64::MAX, 1, data(1));
    guest.ask(3, Op::Write, 0, 1, data(1));
    guest.ask(4, Op::Discard, 0, 1, vec![]);
    guest.ask(5, Op::Read, 0, u64::MAX, vec![]);
    bed.turn();
    assert!(bed.devices().seen.is_empty());
    assert_eq!(guest.answers(), [1, 2, 3, 4, 5].map(|head| (head, Status::IoErr)));
    assert_eq!(bed.reactor.in_flight(), 0);
}

#[test]
fn a_busy_device_is_asked_again_until_it_takes_the_operation() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.devices().busy = true;
    guest.ask(1, Op::Read, 0, 1, data(1));
    guest.ask(2, Op::Read, 498, 4, data(4));
    bed.turn();
    bed.turn();
    assert!(bed.devices().seen.is_empty());
    bed.devices().busy = false;
    bed.turn();
    assert_eq!(bed.devices().seen.len(), 3);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers().len(), 2);
}

#[test]
fn who_waits_for_a_buffer_gets_it_in_turn_also_from_a_long_request() {
    let mut bed = Bed::new(16, 1);
    let guest = bed.attach(QUEUE, |_| {});
    let odd = |sectors: u64| vec![piece(0x10_0001, (sectors * 512) as usize)];
    // Two parts each, cut where the runs meet, and one buffer for all.
    guest.ask(1, Op::Write, 400, 300, odd(300));
    guest.ask(2, Op::Write, 400, 200, odd(200));
    guest.ask(3, Op::Write, 0, 1, odd(1));
    bed.turn();
    let mut order = Vec::new();
    while let [seen] = &bed.devices().seen[..] {
        order.push((seen.lba, seen.sectors));
        bed.finish_all(Ok(()));
        bed.turn();
    }
    // Request 2 gets one part, then request 3 has its turn.
    assert_eq!(order, [(500, 100), (0, 200), (500, 100), (100, 1), (0, 100)]);
    assert_eq!(guest.answers(), [1, 3, 2].map(|head| (head, Status::Ok)));
}

#[test]
fn a_device_that_looks_ahead_hears_of_the_next_request_before_it_is_given_one() {
    for (fetches, at_once) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut bed = Bed::new(16, 2);
        bed.devices().at_once = at_once.then_some(Ok(()));
        bed.devices().fetches = fetches;
        let guest = bed.attach(QUEUE, |_| {});
        for (head, lba) in [(1, 0), (2, 8), (3, 16)] {
            guest.ask(head, Op::Read, lba, 8, data(8));
        }
        assert_eq!(bed.turn(), 3);
        let steps = bed.devices().steps.take();
        let expected: &[(&str, u64)] = match fetches {
            true => &[
                ("expect", 100),
                ("expect", 108),
                ("start", 100),
                ("expect", 116),
                ("start", 108),
                ("start", 116),
            ],
            false => &[("start", 100), ("start", 108), ("start", 116)],
        };
        assert_eq!(steps, expected);
        if !at_once {
            bed.finish_all(Ok(()));
            bed.turn();
        }
        assert_eq!(guest.answers(), [1, 2, 3].map(|head| (head, Status::Ok)));
    }
}

#[test]
fn a_request_that_comes_alone_is_told_apart() {
    let mut bed = Bed::new(16, 2);
    bed.devices().fetches = true;
    let guest = bed.attach(QUEUE, |_| {});
    for head in [1, 2] {
        guest.ask(head, Op::Write, 8, 8, data(8));
        assert_eq!(bed.turn(), 1);
    }
    assert_eq!(
        bed.devices().steps.take(),
        [("start alone", 108), ("start alone", 108)]
    );
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers().len(), 2);
}

#[test]
fn what_was_held_back_is_started_before_another_kind_of_request() {
    let mut bed = Bed::new(16, 2);
    bed.devices().fetches = true;
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Write, 0, 8, data(8));
    guest.ask(2, Op::Write, 496, 8, data(8)); // over the border of the two runs
    guest.ask(3, Op::Write, 8, 8, data(8));
    guest.ask(4, Op::Read, 1000, 8, data(8)); // beyond the end
    guest.ask(5, Op::Write, 16, 8, data(8));
    assert_eq!(bed.turn(), 5);
    let started: Vec<u64> = bed.devices().seen.iter().map(|seen| seen.lba).collect();
    assert_eq!(started, [100, 596, 0, 108, 116]);
    assert_eq!(guest.answers(), [(4, Status::IoErr)]);
    bed.finish_all(Ok(()));
    bed.turn();
    let mut answered: Vec<u16> = guest.answers().iter().map(|answer| answer.0).collect();
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5]);
}

#[test]
fn a_device_that_is_full_or_fails_in_the_middle_of_a_batch_loses_nothing() {
    for fetches in [false, true] {
        let mut bed = Bed::new(16, 2);
        bed.devices().fetches = fetches;
        bed.devices().busy = true;
        let guest = bed.attach(QUEUE, |_| {});
        for head in 1..=4 {
            guest.ask(head, Op::Write, u64::from(head), 1, data(1));
        }
        bed.turn();
        assert!(guest.answers().is_empty());
        bed.devices().busy = false;
        bed.devices().at_once = Some(Err(Fault::Media));
        for head in 5..=6 {
            guest.ask(head, Op::Write, u64::from(head), 1, data(1));
        }
        bed.turn();
        bed.turn();
        let mut answers = guest.answers().clone();
        answers.sort_unstable_by_key(|answer| answer.0);
        assert_eq!(answers, [1, 2, 3, 4, 5, 6].map(|head| (head, Status::IoErr)));
    }
}

#[test]
fn what_is_answered_at_once_is_seen_before_the_next_queue_has_its_turn() {
    let mut bed = Bed::new(16, 2);
    bed.devices().at_once = Some(Ok(()));
    let first = bed.attach(QUEUE, |_| {});
    let other = QueueId { queue: 1, ..QUEUE };
    let second = bed.attach(other, |_| {});
    second.0.borrow_mut().watched = Some(first.clone());
    first.ask(1, Op::Read, 0, 8, data(8));
    second.ask(1, Op::Read, 8, 8, data(8));
    assert_eq!(bed.turn(), 2);
    assert_eq!(second.0.borrow().seen_of_watched.first(), Some(&1));
    for guest in [&first, &second] {
        assert_eq!(guest.answers(), [(1, Status::Ok)]);
        assert_eq!(guest.0.borrow().publications, 1);
    }
}

#[test]
fn an_idle_queue_is_not_asked() {
    let mut bed = Bed::new(16, 2);
    bed.devices().at_once = Some(Ok(()));
    let guest = bed.attach(QUEUE, |_| {});
    for _ in 0..5 {
        assert_eq!(bed.turn(), 0);
    }
    assert_eq!(guest.0.borrow().pulls, 0);
    guest.ask(1, Op::Read, 0, 8, data(8));
    assert_eq!(bed.turn(), 1);
}

/// Device 0 takes so many bytes at once and no more.
fn with_io_bytes_max(bytes: u32) -> (Bed, Script) {
    let mut bed = Bed::new(16, 4);
    bed.devices().limits[0].io_bytes_max = bytes;
    bed.reactor.apply(mailbox::ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(0),
        stats: Default::default(),
        deadline: Nanos(1000),
    });
    let guest = bed.attach(QUEUE, |_| {});
    (bed, guest)
}

#[test]
fn no_operation_with_data_is_longer_than_the_device_takes() {
    for (op, sectors, pieces) in [
        (Op::Read, 8, vec![8]),
        (Op::Write, 9, vec![8, 1]),
        (Op::Read, 64, vec![8; 8]),
        // No data is moved: length is nothing to these.
        (Op::Discard, 64, vec![64]),
    ] {
        let (mut bed, guest) = with_io_bytes_max(4096);
        guest.ask(1, op, 0, sectors, data(sectors));
        let mut seen = Vec::new();
        for _ in 0..12 {
            bed.turn();
            seen.extend(bed.devices().seen.iter().map(|seen| seen.sectors));
            bed.finish_all(Ok(()));
        }
        assert_eq!(seen, pieces, "{op:?} of {sectors}");
        assert_eq!(guest.answers(), [(1, Status::Ok)]);
    }
}

#[test]
fn what_a_piece_held_comes_back_to_the_share_of_its_device() {
    let mut bed = Bed::new(16, 4);
    let guest = bed.attach(QUEUE, |_| {});
    let odd = || vec![piece(0x10_0001, 512)];
    // Far more, one after the other, than there are buffers, parts or slots.
    for head in 0..100 {
        guest.ask(
            head,
            if head % 2 == 0 { Op::Read } else { Op::Write },
            8,
            1,
            odd(),
        );
        bed.turn();
        let seen = &bed.devices().seen;
        assert_eq!(
            (seen.len(), seen.first().map(|seen| seen.pooled)),
            (1, Some(true)),
            "{head}"
        );
        let fault = if head % 3 == 0 { Err(Fault::Media) } else { Ok(()) };
        bed.finish_all(fault);
        bed.turn();
        assert_eq!(guest.answers().len(), usize::from(head) + 1);
    }
    assert_eq!(bed.pool.0.borrow().free.len(), 4);
}

/// A volume of large blocks may lie on disks of small and of large ones; a guest that does not keep to its blocks reaches
/// neither.
#[test]
fn a_request_that_is_no_whole_blocks_of_one_of_its_devices_reaches_none() {
    let mut bed = Bed::new(16, 2);
    bed.devices().limits[1].block_bytes = 4096;
    let disk: std::sync::Arc<stats::DeviceStats> = Default::default();
    bed.reactor.apply(mailbox::ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(1),
        stats: disk.clone(),
        deadline: Nanos(1000),
    });
    bed.devices().at_once = Some(Ok(()));
    let guest = bed.attach(QUEUE, |_| {});
    // The runs meet at 500; behind it lie blocks of 8 sectors.
    for (head, lba, sectors) in [(1, 496, 8), (2, 499, 8), (3, 496, 12), (4, 499, 9)] {
        guest.ask(head, Op::Write, lba, sectors, data(sectors));
    }
    bed.turn();
    let [refused, good] = [Status::IoErr, Status::Ok];
    assert_eq!(
        guest.answers(),
        [(1, refused), (2, refused), (3, good), (4, good)]
    );
    let started: Vec<_> = bed
        .devices()
        .seen
        .iter()
        .map(|io| (io.device, io.lba, io.sectors))
        .collect();
    assert_eq!(started, [(0, 596, 4), (1, 0, 8), (0, 599, 1), (1, 0, 8)]);
}

#[test]
fn addresses_and_lengths_of_segments_are_held_against_units_of_their_own() {
    let mut bed = Bed::new(16, 1);
    let guest = bed.attach(QUEUE, |_| {});
    let list = |lengths: &[usize]| {
        let mut address = 0x10_0004;
        let mut list = Vec::new();
        for &bytes in lengths {
            list.push(piece(address, bytes));
            address += bytes;
        }
        list
    };
    // The device takes addresses of 4 bytes and lengths of 512: the first goes as it is, the others by a buffer.
    for (head, lengths, direct) in [
        (1, &[512, 512][..], true),
        (2, &[4, 1020], false),
        (3, &[1000, 24], false),
    ] {
        guest.ask(head, Op::Write, 0, 2, list(lengths));
        bed.turn();
        let seen = std::mem::take(&mut bed.devices().seen);
        let [only] = &seen[..] else {
            panic!("{lengths:?}: {} operations", seen.len());
        };
        let as_it_is = only.segments == list(lengths);
        assert_eq!(as_it_is, direct, "{lengths:?}");
        bed.devices().finished.push_back((only.slot, Ok(())));
        bed.turn();
        assert_eq!(guest.answers().last(), Some(&(head, Status::Ok)));
    }
}
