//! With whom each step counts, wherever its queue stands among the others: what a turn does for a queue outside of its batch,
//! and what is nobody's.

use crate::bench_of::*;
use crate::steps::Time;
use palisade_block::limits::{SEGMENTS_PER_SLOT, STEP_LONG};
use palisade_block::mailbox::{Notice, ReactorCommand};
use palisade_block::*;
use palisade_engine::ReactorConfig;
use palisade_words::Sectors;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

const MS: u64 = 1_000_000;
const SLOW: u16 = 1;
const FAST: u16 = 2;
const DEVICE: u64 = 1 << 16;

/// A slow guest and a fast one, in this order or the other, whose steps are timed.
struct Timed {
    bed: Bed,
    now: Rc<Cell<u64>>,
    slow: Script,
    fast: Script,
}

impl Timed {
    fn new(slow_first: bool) -> Timed {
        let config = ReactorConfig {
            slots: 512,
            parts: 64,
            long: 4,
            watch_every: Nanos(u64::MAX / 2),
        };
        let (mut bed, now) = (Bed::of(config, 2), Rc::new(Cell::new(0)));
        bed.devices().limits[0].sectors = Sectors(DEVICE);
        bed.give_device(VOLUME, 0, Nanos(u64::MAX / 2));
        let order = if slow_first { [SLOW, FAST] } else { [FAST, SLOW] };
        let [one, other] = order.map(|attachment| bed.attach(id(attachment, 0), |_| {}));
        let (slow, fast) = if slow_first { (one, other) } else { (other, one) };
        let time = Time::of(Rc::clone(&now));
        bed.reactor.time_steps(Some(Box::new(time)));
        Timed { bed, now, slow, fast }
    }

    /// From now on each touch of the slow guest's ring takes long.
    fn is_slow(&self) {
        self.slow.0.borrow_mut().touch = Some((Rc::clone(&self.now), 100 * MS));
    }

    /// No longer.
    fn is_quick(&self) {
        self.slow.0.borrow_mut().touch = None;
    }

    /// Who was told of in the turns since the last call.
    fn told(&mut self) -> Vec<u16> {
        let stalled = |notice| match notice {
            Notice::QueueStalled { queue, .. } => Some(queue.attachment.0),
            _ => None,
        };
        self.bed.notices().into_iter().filter_map(stalled).collect()
    }

    /// A turn when nobody rests any more.
    fn turn_later(&mut self) {
        self.bed.now += 10_000 * MS;
        self.now.set(self.bed.now);
        self.bed.turn();
    }

    /// What was submitted for the slow guest takes long, once.
    fn submission_takes(&mut self, whose: &[u16]) {
        let now = Rc::clone(&self.now);
        let devices = self.bed.devices();
        devices.slow_pages = Some((SLOW, now, 100 * MS));
        devices.whose = whose.to_vec();
    }
}

#[test]
fn what_goes_on_since_its_device_has_room_counts_with_its_guest() {
    for slow_first in [true, false] {
        let mut timed = Timed::new(slow_first);
        timed.bed.devices().busy = true;
        timed.slow.ask(1, Op::Read, 0, 1, data(1));
        timed.bed.turn();
        timed.bed.devices().busy = false;
        timed.submission_takes(&[SLOW]);
        timed.bed.turn();
        assert_eq!(timed.told(), [SLOW], "slow first: {slow_first}");
        timed.bed.reactor.abandon();
    }
}

#[test]
fn what_is_sent_again_counts_with_its_guest() {
    for slow_first in [true, false] {
        let mut timed = Timed::new(slow_first);
        timed.bed.devices().busy = true;
        timed.slow.ask(1, Op::Read, 0, 1, data(1));
        timed.bed.turn();
        timed.bed.devices().busy = false;
        timed.bed.suspend(3);
        timed.bed.cancel(3);
        timed.submission_takes(&[SLOW]);
        timed.bed.turn();
        assert_eq!(timed.told(), [SLOW], "slow first: {slow_first}");
        timed.bed.reactor.abandon();
    }
}

#[test]
fn what_goes_on_after_a_rest_counts_with_its_guest() {
    for slow_first in [true, false] {
        let mut timed = Timed::new(slow_first);
        timed.slow.ask(1, Op::Read, 0, 2 << 11, data(2 << 11));
        timed.bed.turn();
        assert!(timed.bed.reactor.is_held_up());
        timed.submission_takes(&[SLOW]);
        timed.bed.turn();
        assert_eq!(timed.told(), [SLOW], "slow first: {slow_first}");
        timed.bed.reactor.abandon();
    }
}

#[test]
fn what_goes_on_since_there_is_a_buffer_counts_with_its_guest() {
    for slow_first in [true, false] {
        let mut timed = Timed::new(slow_first);
        // One buffer is kept for the other device.
        timed.slow.ask(1, Op::Read, 0, 1, vec![piece(0x10_0001, 512)]);
        timed.slow.ask(2, Op::Read, 0, 1, vec![piece(0x10_0001, 512)]);
        timed.bed.turn();
        timed.bed.turn();
        assert_eq!(timed.bed.devices().seen.len(), 1);
        timed.bed.finish_all(Ok(()));
        timed.submission_takes(&[SLOW]);
        timed.bed.turn();
        assert_eq!(timed.told(), [SLOW], "slow first: {slow_first}");
        timed.bed.reactor.abandon();
    }
}

#[test]
fn answers_and_their_publication_count_with_their_guest() {
    for slow_first in [true, false] {
        let mut timed = Timed::new(slow_first);
        timed.slow.ask(1, Op::Read, 0, 1, data(1));
        timed.bed.turn();
        timed.is_slow();
        timed.bed.finish_all(Ok(()));
        timed.bed.turn();
        assert_eq!(timed.told(), [SLOW], "slow first: {slow_first}");
    }
}

#[test]
fn a_publication_counts_with_its_guest() {
    for slow_first in [true, false] {
        let mut timed = Timed::new(slow_first);
        timed.slow.ask(1, Op::Read, 0, 1, data(1));
        timed.bed.turn();
        timed.slow.0.borrow_mut().publication = Some((Rc::clone(&timed.now), 100 * MS));
        timed.bed.finish_all(Ok(()));
        timed.bed.turn();
        assert_eq!(timed.told(), [SLOW], "slow first: {slow_first}");
    }
}

/// It has waited to be followed, and is served before all others.
#[test]
fn a_chain_that_was_left_is_followed_and_counts_with_its_guest() {
    for slow_first in [true, false] {
        let mut timed = Timed::new(slow_first);
        let longest = u32::from(palisade_words::limits::QUEUE_SIZE_MAX) + 1;
        let ask = |guest: &Script, chains: u16| {
            for head in 0..chains {
                guest.ask(head, Op::Flush, 0, 0, vec![]);
                guest.0.borrow_mut().by_itself.insert(head, longest);
            }
        };
        // Each has one, and who is the first has its answer.
        ask(&timed.slow, 1);
        ask(&timed.fast, 1);
        timed.bed.turn();
        let slow_is_left = timed.slow.answers().is_empty();
        assert_eq!(slow_is_left, !slow_first);
        let (left, name) = match slow_is_left {
            true => (timed.slow.clone(), SLOW),
            false => (timed.fast.clone(), FAST),
        };
        left.0.borrow_mut().touch = Some((Rc::clone(&timed.now), 100 * MS));
        timed.bed.turn();
        assert_eq!(left.answers().len(), 1);
        assert_eq!(timed.told(), [name]);
    }
}

/// Between two turns, before a sleep, and in what the devices are asked for.
#[test]
fn what_is_done_for_nobody_is_told_of_nobody() {
    for slow_first in [true, false] {
        let mut timed = Timed::new(slow_first);
        for guest in [&timed.slow, &timed.fast] {
            guest.ask(1, Op::Read, 0, 1, data(1));
        }
        timed.bed.turn();
        timed.now.set(timed.now.get() + 100 * MS);
        timed.bed.turn();
        timed.now.set(timed.now.get() + 100 * MS);
        timed.bed.reactor.arm();
        timed.bed.devices().reap_takes = Some((Rc::clone(&timed.now), 100 * MS));
        timed.bed.finish_all(Ok(()));
        timed.bed.turn();
        assert_eq!((timed.slow.answers().len(), timed.fast.answers().len()), (1, 1));
        timed.bed.turn();
        assert_eq!(timed.told(), []);
    }
}

#[test]
fn a_request_whose_attachment_rests_keeps_its_place_and_goes_on_after() {
    let mut timed = Timed::new(true);
    timed.bed.devices().at_once = Some(Ok(()));
    timed.slow.ask(1, Op::Read, 0, 4 << 11, data(4 << 11));
    timed.is_slow();
    timed.bed.turn();
    timed.is_quick();
    assert_eq!(timed.told(), [SLOW]);
    let begun = timed.bed.devices().seen.len();
    for _ in 0..3 {
        timed.bed.turn();
        assert_eq!(timed.bed.devices().seen.len(), begun, "its attachment rests");
    }
    for _ in 0..5 {
        timed.turn_later();
    }
    assert_eq!(timed.slow.answers(), [(1, Status::Ok)]);
}

/// Discards have no part in what a turn may begin, and rest with their attachment all the same.
#[test]
fn discards_of_an_attachment_that_rests_rest() {
    let mut timed = Timed::new(true);
    timed.slow.ask(1, Op::Discard, 0, 4 << 11, vec![]);
    timed.is_slow();
    timed.bed.turn();
    timed.is_quick();
    assert_eq!(timed.bed.devices().seen.len(), 1);
    timed.bed.finish_all(Ok(()));
    for _ in 0..3 {
        timed.bed.turn();
        assert!(timed.bed.devices().seen.is_empty(), "its attachment rests");
    }
    timed.turn_later();
    assert!(!timed.bed.devices().seen.is_empty());
    timed.bed.reactor.abandon();
}

/// Somebody waits for the queue.
#[test]
fn a_request_of_a_queue_that_is_to_stop_goes_on_while_its_attachment_rests() {
    let mut timed = Timed::new(true);
    timed.bed.devices().at_once = Some(Ok(()));
    timed.slow.ask(1, Op::Read, 0, 4 << 11, data(4 << 11));
    timed.is_slow();
    timed.bed.turn();
    timed.is_quick();
    timed
        .bed
        .reactor
        .apply(ReactorCommand::StopQueue { queue: id(SLOW, 0) });
    for _ in 0..4 {
        timed.bed.turn();
    }
    assert_eq!(timed.slow.answers(), [(1, Status::Ok)]);
}

/// A rest that ends with a turn is over.
#[test]
fn a_rest_that_is_over_is_not_due() {
    let due_after = |now: u64| {
        let mut timed = Timed::new(true);
        timed.bed.devices().at_once = Some(Ok(()));
        timed.slow.ask(1, Op::Read, 0, 1, data(1));
        timed.is_slow();
        timed.bed.reactor.turn(Nanos(now));
        timed.bed.reactor.due()
    };
    let ends = due_after(1).expect("it rests");
    assert_eq!(due_after(ends.0 - 1), Some(ends));
    assert_eq!(due_after(ends.0), None);
}

/// A guest whose pages are fresh: the segments of what its device is given in one turn while each of them takes so long.
fn begun(takes: u64, requests: u16, segments: usize) -> Vec<usize> {
    let mut timed = Timed::new(true);
    let memory = Lease::of_words((0..1 << 18).map(|_| AtomicU64::new(0)).collect());
    let guest = timed.bed.attach_with(id(3, 0), &memory);
    let first = memory.regions()[0].address().next_multiple_of(4096);
    let data: Vec<_> = (0..segments)
        .map(|at| memory.segment(first + at * 1024, 512).expect("in its memory"))
        .collect();
    for head in 0..requests {
        guest.ask(head, Op::Read, 0, segments as u64, data.clone());
    }
    let now = Rc::clone(&timed.now);
    timed.bed.devices().at_once = Some(Ok(()));
    timed.bed.devices().fresh = Some(Fresh {
        memory,
        now,
        takes,
        by_submission: false,
        waiting: 0,
    });
    timed.bed.turn();
    let seen = timed.bed.devices().seen.drain(..);
    let begun = seen.map(|io| io.segments.len()).collect();
    timed.bed.reactor.abandon();
    begun
}

#[test]
fn a_step_ends_as_soon_as_it_has_become_long() {
    // Small ones, of which each is looked at.
    assert_eq!(begun(STEP_LONG.0 - 1, 4, 1), [1, 1]);
    assert_eq!(begun(STEP_LONG.0, 4, 1), [1]);
    // Pieces of one request: two steps would be three such pieces.
    let each = STEP_LONG.0 / SEGMENTS_PER_SLOT as u64;
    assert_eq!(begun(each, 1, 900), [SEGMENTS_PER_SLOT]);
    assert_eq!(begun(each - 1, 1, 900), [SEGMENTS_PER_SLOT; 2]);
}
