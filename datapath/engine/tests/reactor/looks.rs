//! How often the clock is asked, and what is submitted before: not after each of what is short, and in time where much memory
//! is touched.

use crate::bench_of::*;
use palisade_block::limits::TOUCHES_UNSEEN_MAX;
use palisade_block::*;

/// A bed with the queue of a guest, and how often its devices have been told to submit so far.
fn bed() -> (Bed, Script) {
    let mut bed = Bed::new(512, 6);
    let guest = bed.attach(QUEUE, |_| {});
    (bed, guest)
}

/// One turn; how often was submitted in it.
fn submissions(bed: &mut Bed) -> usize {
    let before = bed.devices().submits.get();
    bed.turn();
    bed.devices().submits.get() - before
}

/// So many segments of a sector that no device takes as they are.
fn odd(count: usize) -> Vec<Segment> {
    (0..count).map(|at| piece(0x20_0001 + at * 1024, 512)).collect()
}

#[test]
fn a_turn_that_touches_little_submits_once() {
    // In two pieces, with more segments than the usual ones, and both; and their ends.
    for (lba, segments) in [(499, 2), (0, 3), (490, 20)] {
        let (mut bed, guest) = bed();
        let data = (0..segments).map(|at| piece(0x20_0000 + at * 1024, 512));
        guest.ask(1, Op::Read, lba, segments as u64, data.collect());
        assert_eq!(submissions(&mut bed), 1, "{segments} segments at {lba}");
        bed.finish_all(Ok(()));
        assert_eq!(submissions(&mut bed), 1, "{segments} segments at {lba}");
        assert_eq!(guest.answers(), [(1, Status::Ok)]);
    }
}

/// Each counts for one place at least.
#[test]
fn so_many_ends_of_operations_are_looked_at() {
    let many = TOUCHES_UNSEEN_MAX as usize;
    for (ends, looks) in [(many - 1, 0), (many, 1), (2 * many - 1, 1), (2 * many, 2)] {
        let (mut bed, guest) = bed();
        (0..2 * many as u16).for_each(|head| guest.ask(head, Op::Read, 0, 1, data(1)));
        for _ in 0..8 {
            bed.turn();
        }
        assert_eq!(bed.devices().seen.len(), 2 * many);
        bed.devices().seen.truncate(ends);
        bed.finish_all(Ok(()));
        assert_eq!(submissions(&mut bed), 1 + looks, "{ends}");
        assert_eq!(guest.answers().len(), ends);
        bed.reactor.abandon();
    }
}

#[test]
fn what_is_copied_to_a_buffer_counts_by_its_segments() {
    // Fifty are taken and fifty copied; each of these is less than what is looked at.
    for (op, looks) in [(Op::Write, 1), (Op::Read, 0)] {
        let (mut bed, guest) = bed();
        guest.ask(1, op, 0, 50, odd(50));
        assert_eq!(submissions(&mut bed), 1 + looks, "{op:?}");
        assert!(bed.devices().seen[0].pooled);
        bed.reactor.abandon();
    }
}

#[test]
fn what_is_copied_from_a_buffer_counts_by_its_segments() {
    for (op, looks) in [(Op::Read, 1), (Op::Write, 0)] {
        let (mut bed, guest) = bed();
        (0..2).for_each(|head| guest.ask(head, op, 0, 50, odd(50)));
        bed.turn();
        bed.turn();
        assert_eq!(bed.devices().seen.len(), 2);
        bed.finish_all(Ok(()));
        assert_eq!(submissions(&mut bed), 1 + looks, "{op:?}");
        assert_eq!(guest.answers().len(), 2);
    }
}

/// It begins in the midst of a segment, and has no more of them than one operation may have all the same.
#[test]
fn a_piece_that_is_copied_is_of_so_many_segments_where_it_begins_within_one() {
    let (mut bed, guest) = bed();
    let segments = (0..512).map(|at| piece(0x20_0001 + at * 300, 300));
    guest.ask(1, Op::Read, 0, 300, segments.collect());
    let mut lengths = Vec::new();
    for _ in 0..8 {
        bed.turn();
        lengths.extend(bed.devices().seen.iter().map(|io| (io.sectors, io.pooled)));
        bed.finish_all(Ok(()));
    }
    // 160 segments of 300 bytes are 93 sectors and 384 bytes; 216 bytes of the first of the next were taken before.
    assert_eq!(lengths, [93, 93, 93, 21].map(|sectors| (sectors, true)));
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
}
