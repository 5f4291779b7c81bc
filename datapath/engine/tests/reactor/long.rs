//! Requests with more segments than a slot has places for: room that is lent, pieces, and whom they hold up.

use crate::bench_of::*;
use palisade_block::mailbox::{ReactorChange, ReactorCommand};
use palisade_block::stats::DeviceStats;
use palisade_block::*;
use palisade_words::{AttachmentIndex, DeviceIndex, Epoch, Generation, Lba, QueueId, Sectors};
use std::sync::Arc;

/// That many segments of so many bytes each, at addresses of so many apart.
fn pieces(count: usize, bytes: usize, apart: usize) -> Vec<Segment> {
    (0..count)
        .map(|number| piece(0x20_0000 + number * apart, bytes))
        .collect()
}

/// A second attachment on the same volume.
const OTHER: QueueId = QueueId {
    attachment: AttachmentIndex(1),
    queue: 0,
};

#[test]
fn a_long_request_goes_in_pieces_and_is_answered_once() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    // More often than there are long lists: each comes back.
    for round in 0..10 {
        for (op, count) in [
            (Op::Read, 900),
            (Op::Write, 161),
            (Op::Write, 500),
            (Op::Read, 1000),
        ] {
            let data = pieces(count, 512, 1024);
            guest.ask(round, op, 0, count as u64, data.clone());
            let mut seen = Vec::new();
            while guest.answers().is_empty() {
                assert!(bed.turn() > 0, "it must not get stuck");
                seen.extend(bed.devices().seen.iter().cloned());
                bed.finish_all(Ok(()));
            }
            assert_eq!(guest.answers(), [(round, Status::Ok)]);
            guest.0.borrow_mut().answers.clear();
            guest.0.borrow_mut().visible = 0;
            assert!(
                seen.iter()
                    .all(|io| io.segments.len() <= limits::SEGMENTS_PER_SLOT && !io.pooled)
            );
            let all: Vec<_> = seen.iter().flat_map(|io| io.segments.clone()).collect();
            assert_eq!(all, data, "every segment once, in order");
            let mut next = 0;
            for io in &seen {
                let volume = if io.device == 0 {
                    io.lba - 100
                } else {
                    io.lba + 500
                };
                assert_eq!(volume, next);
                next += io.sectors;
            }
            assert_eq!(next, count as u64);
        }
    }
    assert_eq!(bed.reactor.in_flight(), 0);
}

#[test]
fn segments_that_are_no_blocks_go_through_the_pool() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    // Single bytes, and segments that hold a block only together with their neighbours.
    for (head, count, bytes) in [(1, 8 * 512, 1), (2, 320, 256), (3, 512, 33)] {
        let sectors = (count * bytes / 512) as u64;
        guest.ask(head, Op::Read, 0, sectors, pieces(count, bytes, bytes));
        let mut done = 0;
        for _ in 0..20 {
            bed.turn();
            done += bed.devices().seen.iter().map(|io| io.sectors).sum::<u64>();
            assert!(bed.devices().seen.iter().all(|io| io.pooled));
            bed.finish_all(Ok(()));
        }
        assert_eq!(done, sectors);
        assert_eq!(guest.answers().last(), Some(&(head, Status::Ok)));
    }
    assert_eq!(bed.pool.0.borrow().scattered, 8 * 512 + 320 * 256 + 512 * 33);
}

#[test]
fn a_long_request_that_fails_does_not_fit_or_moves_nothing_gives_its_list_back() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    for head in 0..10 {
        guest.ask(head, Op::Read, 900, 200, pieces(200, 512, 512));
    }
    // Each counts in its batch as much as it has segments, so this takes some turns.
    for _ in 0..4 {
        bed.turn();
    }
    assert_eq!(guest.answers().len(), 10, "beyond the end of the volume");
    for head in 10..20 {
        guest.ask(head, Op::Write, 0, 400, pieces(400, 512, 512));
        bed.turn();
        bed.finish_all(Err(Fault::Media));
        bed.turn();
        bed.finish_all(Err(Fault::Media));
        bed.turn();
        assert_eq!(guest.answers().last(), Some(&(head, Status::IoErr)));
    }
    assert_eq!(guest.answers().len(), 20);
}

#[test]
fn who_has_many_long_requests_leaves_some_lists_to_others_and_holds_up_no_short_ones() {
    let mut bed = Bed::new(64, 2);
    let (greedy, modest) = (bed.attach(QUEUE, |_| {}), bed.attach(OTHER, |_| {}));
    for head in 0..8 {
        greedy.ask(head, Op::Read, 0, 161, pieces(161, 512, 512));
    }
    bed.turn();
    bed.turn();
    let taken = 8 - greedy.0.borrow().waiting.len();
    assert!((1..4).contains(&taken), "{taken} of 4 lists");
    assert!(
        !bed.reactor.arm(),
        "it waits for a completion, not for another turn"
    );
    let pulls = greedy.0.borrow().pulls;
    bed.turn();
    assert_eq!(
        greedy.0.borrow().pulls,
        pulls,
        "a chain is not read again in vain"
    );

    modest.ask(1, Op::Read, 0, 161, pieces(161, 512, 512));
    modest.ask(2, Op::Read, 0, 8, data(8));
    assert!(bed.reactor.arm());
    bed.turn();
    assert!(modest.0.borrow().waiting.is_empty(), "both were taken");

    for _ in 0..20 {
        bed.finish_all(Ok(()));
        bed.turn();
    }
    assert_eq!((greedy.answers().len(), modest.answers().len()), (8, 2));
}

#[test]
fn a_queue_that_stops_hands_over_the_long_request_it_has_taken() {
    let mut bed = Bed::new(64, 2);
    let guest = bed.attach(QUEUE, |_| {});
    for head in 0..4 {
        guest.ask(head, Op::Read, 0, 161, pieces(161, 512, 512));
    }
    bed.turn();
    let waiting = guest.0.borrow().waiting.len();
    assert!(waiting > 0 && guest.0.borrow().backlog == 1);
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    for _ in 0..10 {
        bed.finish_all(Ok(()));
        bed.turn();
    }
    assert_eq!(
        guest.0.borrow().waiting.len(),
        waiting - 1,
        "the one taken, and no more"
    );
    assert_eq!(bed.notices().len(), 1);
}

/// A device that answers at once copies as it is told: a request of gibibytes must not keep the reactor for its length.
#[test]
fn a_request_without_end_leaves_turns_to_others() {
    const SECTORS: u64 = 1 << 16;
    let mut bed = Bed::new(16, 2);
    let devices = bed.devices();
    devices.limits[0].sectors = Sectors(SECTORS);
    devices.at_once = Some(Ok(()));
    bed.reactor.apply(ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(0),
        stats: Arc::new(DeviceStats::default()),
        deadline: Nanos(1000),
    });
    let run = Run {
        volume: Lba(0),
        sectors: Sectors(SECTORS),
        device: DeviceIndex(0),
        lba: Lba(0),
    };
    bed.reactor.apply(ReactorChange::Resume {
        volume: VOLUME,
        route: Route::new(mapping_of(Generation(2), Epoch(1)), vec![run]).unwrap(),
    });
    let (long, short) = (bed.attach(QUEUE, |_| {}), bed.attach(OTHER, |_| {}));
    long.ask(1, Op::Read, 0, SECTORS, data(SECTORS));
    bed.turn();
    let moved = |bed: &mut Bed| bed.devices().seen.iter().map(|io| io.sectors).sum::<u64>();
    assert!(moved(&mut bed) <= SECTORS / 4, "{} at once", moved(&mut bed));
    short.ask(1, Op::Read, 0, 8, data(8));
    bed.turn();
    assert_eq!(short.answers(), [(1, Status::Ok)]);
    assert!(long.answers().is_empty());
    for _ in 0..32 {
        bed.turn();
    }
    assert_eq!(long.answers(), [(1, Status::Ok)]);
    assert_eq!(moved(&mut bed), SECTORS + 8);
}
