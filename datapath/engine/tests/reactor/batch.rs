//! How much one queue may hand over in one turn: what is long counts for more, what its source answers by itself counts
//! too, and who waits for slots, lists or its limit is counted.

use crate::bench_of::*;
use palisade_block::limits::PULL_BATCH;
use palisade_block::mailbox::{Pace, ReactorChange, ReactorCommand};
use palisade_block::*;
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, QueueId, Sectors};

/// A bed whose devices answer at once, and its guest.
fn quick() -> (Bed, Script) {
    let mut bed = Bed::new(64, 4);
    bed.devices().at_once = Some(Ok(()));
    let guest = bed.attach(QUEUE, |_| {});
    (bed, guest)
}

/// Asks for things that the source answers by itself, each after so many descriptors.
fn ask_by_itself(guest: &Script, heads: std::ops::Range<u16>, followed: u32) {
    for head in heads {
        guest.ask(head, Op::Flush, 0, 0, Vec::new());
        guest.0.borrow_mut().by_itself.insert(head, followed);
    }
}

#[test]
fn what_a_source_answers_by_itself_is_work_and_is_shown() {
    // More descriptors than a batch may follow, one less than makes it count for another, and none.
    for (followed, at_once) in [(0, 32), (63, 32), (64, 16), (31 * 64, 1), (u32::MAX, 1)] {
        let (mut bed, guest) = quick();
        ask_by_itself(&guest, 0..40, followed);
        assert_eq!(bed.turn(), at_once, "{followed} descriptors each");
        assert_eq!(guest.answers().len(), at_once);
        assert_eq!(guest.0.borrow().publications, 1);
        assert_eq!(bed.turn(), at_once.min(40 - at_once));
        assert_eq!(guest.0.borrow().publications, 2);
    }
}

/// A batch that has so much left takes one more behind what counts for that much less one.
fn counts_for(count: usize, ask: impl Fn(&Script)) {
    for (before, taken) in [
        (PULL_BATCH - count, PULL_BATCH - count + 1),
        (PULL_BATCH - count - 1, PULL_BATCH - count + 1),
    ] {
        let (mut bed, guest) = quick();
        ask_by_itself(&guest, 100..100 + before as u16, 0);
        ask(&guest);
        guest.ask(2, Op::Flush, 0, 0, Vec::new());
        assert_eq!(bed.turn(), taken, "behind {before}");
        let is_seen = guest.answers().contains(&(2, Status::Ok));
        assert_eq!(is_seen, before + count < PULL_BATCH);
        bed.turn();
        assert_eq!(guest.answers().len(), before + 2);
    }
}

/// Data of so many sectors in more segments than the usual.
fn in_pieces(sectors: u64) -> Vec<Segment> {
    let mut pieces = data(sectors - 3);
    pieces.extend((0..3).map(|at| piece(0x30_0000 + at * 1024, 512)));
    pieces
}

#[test]
fn a_request_counts_in_a_batch_by_its_length() {
    // One, and one more for each whole 16 KiB.
    for (sectors, count) in [(8, 1), (31, 1), (32, 2), (63, 2), (64, 3), (256, 9)] {
        counts_for(count, |guest| guest.ask(1, Op::Read, 0, sectors, data(sectors)));
        counts_for(count, |guest| {
            guest.ask(1, Op::Read, 0, sectors, in_pieces(sectors));
        });
    }
}

#[test]
fn a_request_of_many_segments_counts_by_their_number_too() {
    let pieces = |count: usize| {
        (0..count)
            .map(|at| piece(0x20_0000 + at * 1024, 512))
            .collect::<Vec<_>>()
    };
    // 161 segments of a sector: 5 times 16 KiB, 2 times 64 segments. The second has 3 of these.
    for (segments, count) in [(161, 1 + 5 + 2), (192, 1 + 6 + 3)] {
        counts_for(count, |guest| {
            guest.ask(1, Op::Read, 0, segments as u64, pieces(segments));
        });
    }
}

#[test]
fn a_long_request_that_the_guest_changes_meanwhile_is_taken_as_what_it_is_then() {
    let long = || {
        (0..161)
            .map(|at| piece(0x20_0000 + at * 1024, 512))
            .collect::<Vec<_>>()
    };
    let others = [
        (Op::Read, 8, 8, data(8), vec![(0, Op::Read, 108, 8)]),
        (
            Op::Write,
            498,
            4,
            data(4),
            vec![(0, Op::Write, 598, 2), (1, Op::Write, 0, 2)],
        ),
        (
            Op::Flush,
            0,
            0,
            vec![],
            vec![(0, Op::Flush, 0, 0), (1, Op::Flush, 0, 0)],
        ),
        (Op::Discard, 0, 8, vec![], vec![(0, Op::Discard, 100, 8)]),
        (Op::Read, 0, 0, vec![], vec![]),
    ];
    let (mut bed, guest) = quick();
    // More often than there are lists: each comes back at once.
    for round in 0..3 {
        for (op, lba, sectors, segments, started) in &others {
            guest.ask(1, Op::Read, 0, 161, long());
            let other = (round, *op, *lba, *sectors, segments.clone());
            guest.0.borrow_mut().changes_to = Some(other);
            assert_eq!(bed.turn(), 1);
            assert_eq!(guest.answers().last(), Some(&(round, Status::Ok)));
            let seen = std::mem::take(&mut bed.devices().seen);
            let seen: Vec<_> = seen
                .iter()
                .map(|io| (io.device, io.op, io.lba, io.sectors))
                .collect();
            assert_eq!(&seen, started, "{op:?}");
        }
        // And one that is nothing at all then.
        guest.ask(50 + round, Op::Read, 0, 161, long());
        guest.0.borrow_mut().by_itself.insert(50 + round, 0);
        assert_eq!(bed.turn(), 1);
        assert_eq!(guest.answers().last(), Some(&(50 + round, Status::Unsupp)));
    }
    assert_eq!(bed.reactor.in_flight(), 0);
}

/// A volume on one device alone, whose flush is one operation.
#[test]
fn a_flush_that_was_a_long_request_goes_to_the_only_device() {
    let (mut bed, guest) = quick();
    let run = Run {
        volume: Lba(0),
        sectors: Sectors(500),
        device: DeviceIndex(1),
        lba: Lba(0),
    };
    bed.reactor.apply(ReactorChange::Resume {
        volume: VOLUME,
        route: Route::new(mapping_of(Generation(2), Epoch(1)), vec![run]).expect("one run"),
    });
    let long = (0..161).map(|at| piece(0x20_0000 + at * 1024, 512)).collect();
    guest.ask(1, Op::Read, 0, 161, long);
    guest.0.borrow_mut().changes_to = Some((2, Op::Flush, 0, 0, Vec::new()));
    assert_eq!(bed.turn(), 1);
    assert_eq!(guest.answers(), [(2, Status::Ok)]);
    let seen: Vec<_> = bed.devices().seen.iter().map(|io| (io.device, io.op)).collect();
    assert_eq!(seen, [(1, Op::Flush)]);
}

#[test]
fn a_long_request_keeps_its_list_until_its_answer() {
    let mut bed = Bed::new(64, 4);
    let guest = bed.attach(QUEUE, |_| {});
    let long = || {
        (0..200)
            .map(|at| piece(0x20_0000 + at * 512, 512))
            .collect::<Vec<_>>()
    };
    (0..4).for_each(|head| guest.ask(head, Op::Read, 0, 200, long()));
    bed.turn();
    bed.turn();
    // There are four lists: a queue has half of them, rounded up, while it is alone.
    assert_eq!(guest.0.borrow().waiting.len(), 2);
    assert_eq!(bed.reactor.in_flight(), 2);
    bed.devices().at_once = Some(Ok(()));
    bed.finish_all(Ok(()));
    bed.turn();
    bed.turn();
    assert_eq!(guest.answers().len(), 4);
}

#[test]
fn one_queue_has_half_of_the_slots_two_have_a_third_each_and_each_lack_is_counted() {
    let mut bed = Bed::new(30, 2);
    let queues = [0, 1].map(|queue| bed.attach(QueueId { queue, ..QUEUE }, |_| {}));
    let ask = |queue: &Script| (0..40).for_each(|head| queue.ask(head, Op::Read, 0, 1, data(1)));
    ask(&queues[0]);
    assert_eq!(bed.turn(), 15);
    assert_eq!(bed.stats.slots_short.get(), 1);
    assert_eq!(bed.turn(), 0);
    assert_eq!(bed.stats.slots_short.get(), 2);
    ask(&queues[1]);
    assert_eq!(bed.turn(), 8);
    assert_eq!(bed.turn(), 0);
    assert_eq!(bed.stats.slots_short.get(), 6);
    let left = queues.each_ref().map(|queue| queue.0.borrow().waiting.len());
    assert_eq!(left, [25, 32]);
    bed.reactor.abandon();
}

#[test]
fn who_is_short_of_nothing_is_not_counted_so() {
    let (mut bed, guest) = quick();
    (0..100).for_each(|head| guest.ask(head, Op::Read, 0, 1, data(1)));
    for _ in 0..5 {
        bed.turn();
    }
    assert_eq!((guest.answers().len(), bed.stats.slots_short.get()), (100, 0));
}

#[test]
fn the_backlog_of_a_queue_that_stops_is_not_held_back_by_its_limit() {
    let mut bed = Bed::new(64, 2);
    bed.devices().at_once = Some(Ok(()));
    bed.now = 5_000_000;
    let guest = bed.attach(QUEUE, |settings| {
        settings.pace = Pace {
            iops: 1,
            ..Pace::default()
        };
    });
    (0..5).for_each(|head| guest.ask(head, Op::Read, 0, 1, data(1)));
    guest.0.borrow_mut().backlog = 4;
    assert_eq!(bed.turn(), 1);
    assert_eq!(bed.turn(), 0);
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    assert_eq!(bed.turn(), 3, "what was left of the backlog, and no more");
    assert_eq!(guest.0.borrow().waiting.len(), 1);
    assert_eq!(bed.notices().len(), 1);
}

#[test]
fn bytes_are_drawn_from_the_limit_as_they_are_taken() {
    for segments in [data(161), in_pieces(161)] {
        let mut bed = Bed::new(64, 2);
        bed.devices().at_once = Some(Ok(()));
        bed.now = 5_000_000_000;
        let pace = Pace {
            bytes_per_second: 1 << 20,
            ..Pace::default()
        };
        let guest = bed.attach(QUEUE, |settings| settings.pace = pace.clone());
        // A tenth of a second's worth at once: it is overdrawn, and paid for before the next.
        guest.ask(1, Op::Read, 0, 161, segments);
        guest.ask(2, Op::Read, 0, 1, data(1));
        assert_eq!(bed.turn(), 1);
        let due = bed.reactor.due().expect("the limit runs out");
        let ns = 161 * 512 * 1_000_000_000 / (1 << 20);
        let waits = due.0 - bed.now;
        assert!((ns..ns + 100_000).contains(&waits), "{waits} ns, of {ns}");
        bed.now = due.0;
        assert_eq!(bed.turn(), 1);
    }
}
