//! Guests whose pages take long when they are touched first, before anybody has seen that they do: how long one turn lasts.

use crate::bench_of::*;
use crate::steps::Time;
use palisade_block::limits::{SEGMENTS_PER_SLOT, SEGMENTS_SLOW_MAX, TOUCHES_UNSEEN_MAX, TURN_SUSPICIOUS};
use palisade_block::*;
use palisade_engine::ReactorConfig;
use palisade_words::SlotIndex;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

/// What a hugepage takes to be found and cleared on a fast machine, about.
const FRESH: u64 = 330_000;
const SLOW: u16 = 1;
const FAST: u16 = 2;

/// The reactor's clock.
#[derive(Debug)]
struct Ticks(Rc<Cell<u64>>);

impl Clock for Ticks {
    fn now(&self) -> Nanos {
        Nanos(self.0.get())
    }
}

/// A guest with five queues whose pages are fresh, and one with a queue whose pages are there.
struct Two {
    bed: Bed,
    now: Rc<Cell<u64>>,
    memory: Lease,
    slow: Vec<Script>,
    fast: Script,
    /// What the devices have taken and not finished.
    begun: Vec<SlotIndex>,
}

impl Two {
    fn new(by_submission: bool) -> Two {
        let config = ReactorConfig {
            slots: 512,
            parts: 64,
            long: 8,
            watch_every: Nanos::from_secs(1),
        };
        let (mut bed, now) = (Bed::of(config, 4), Rc::new(Cell::new(1_000_000_000)));
        let memory = Lease::of_words((0..1 << 18).map(|_| AtomicU64::new(0)).collect());
        let slow = (0..5)
            .map(|queue| bed.attach_with(id(SLOW, queue), &memory))
            .collect();
        let fast = bed.attach(id(FAST, 0), |_| {});
        bed.reactor.bound_turns(Box::new(Ticks(Rc::clone(&now))));
        bed.devices().fresh = Some(Fresh {
            memory: memory.clone(),
            now: Rc::clone(&now),
            takes: FRESH,
            by_submission,
            waiting: 0,
        });
        bed.devices().at_once = (!by_submission).then_some(Ok(()));
        Two {
            bed,
            now,
            memory,
            slow,
            fast,
            begun: Vec::new(),
        }
    }

    /// So many segments of one sector of the slow guest's memory.
    fn segments(&self, count: usize) -> Vec<Segment> {
        let first = self.memory.regions()[0].address().next_multiple_of(4096);
        let segment = |number| self.memory.segment(first + number * 1024, 512);
        (0..count)
            .map(|number| segment(number).expect("in its memory"))
            .collect()
    }

    /// Each queue of the slow guest asks for so many requests of so many segments.
    fn ask(&self, requests: u16, segments: usize) {
        let data = self.segments(segments);
        for queue in &self.slow {
            for head in 0..requests {
                queue.ask(head, Op::Read, 0, segments as u64, data.clone());
            }
        }
    }

    /// One turn, and how long it took.
    fn turn(&mut self) -> u64 {
        let began = self.now.get();
        self.bed.reactor.turn(Nanos(began));
        self.now.get() - began
    }

    fn time_steps(&mut self) {
        let time = Time::of(Rc::clone(&self.now));
        self.bed.reactor.time_steps(Some(Box::new(time)));
    }

    /// The segments of what the devices have taken of the slow guest since the last call.
    fn taken(&mut self) -> Vec<usize> {
        let memory = self.memory.clone();
        let seen = std::mem::take(&mut self.bed.devices().seen);
        self.begun.extend(seen.iter().map(|io| io.slot));
        let of_slow = seen
            .iter()
            .filter(|io| memory.holds_all(&io.segments) && !io.pooled);
        of_slow.map(|io| io.segments.len()).collect()
    }
}

/// What one turn may take: it is long, and then there is what has been touched since it was not.
fn bound(segments_at_once: usize) -> u64 {
    TURN_SUSPICIOUS.0 + FRESH * (TOUCHES_UNSEEN_MAX as u64 + segments_at_once as u64)
}

#[test]
fn the_first_turn_with_fresh_pages_ends_early_and_the_neighbour_is_served_behind_it() {
    for by_submission in [false, true] {
        let mut two = Two::new(by_submission);
        two.ask(8, 120);
        two.fast.ask(1, Op::Read, 0, 1, data(1));
        let took = two.turn();
        assert!(took > TURN_SUSPICIOUS.0, "it is a slow guest");
        assert!(took <= bound(120), "{took} ns");
        assert_eq!(two.taken(), [120], "by submission: {by_submission}");
        // From now on steps are timed, as whoever tells the reactor the time has seen that turn.
        two.time_steps();
        let took = two.turn();
        assert!(took <= bound(120), "{took} ns");
        assert_eq!(two.taken(), [120], "the guest rests");
        if by_submission {
            let fast = two.fast.0.borrow().waiting.len();
            assert_eq!(fast, 0, "the neighbour's has been taken");
            two.bed.reactor.abandon();
        } else {
            assert_eq!(two.fast.answers(), [(1, Status::Ok)]);
        }
    }
}

#[test]
fn a_guest_whose_pages_were_slow_is_served_in_short_pieces_while_steps_are_timed() {
    for by_submission in [false, true] {
        let mut two = Two::new(by_submission);
        two.time_steps();
        two.ask(1, 120);
        two.turn();
        assert_eq!(two.taken(), [120], "nobody has seen it yet");
        let mut rounds = 0;
        while two.slow.iter().any(|queue| queue.answers().is_empty()) {
            rounds += 1;
            assert!(rounds < 100, "it must get on");
            two.now.set(two.now.get() + 1_000_000_000);
            if by_submission {
                let begun = std::mem::take(&mut two.begun);
                let done = begun.into_iter().map(|slot| (slot, Ok(())));
                two.bed.devices().finished.extend(done);
            }
            let took = two.turn();
            assert!(two.taken().iter().all(|&segments| segments <= SEGMENTS_SLOW_MAX));
            assert!(took <= FRESH * 2 * SEGMENTS_SLOW_MAX as u64, "{took} ns");
        }
        assert_eq!(two.bed.reactor.in_flight(), 0);
        two.bed.reactor.time_steps(None);
        two.ask(1, 120);
        two.bed.devices().seen.clear();
        two.turn();
        assert_eq!(two.taken(), [120], "it is forgotten with the timing");
        two.bed.reactor.abandon();
    }
}

#[test]
fn small_requests_are_looked_at_too() {
    let mut two = Two::new(true);
    two.ask(32, 1);
    let took = two.turn();
    assert!(took <= bound(1), "{took} ns");
    assert_eq!(two.taken().len(), TOUCHES_UNSEEN_MAX as usize / 2);
    two.bed.reactor.abandon();
}

#[test]
fn a_request_in_pieces_goes_on_in_the_next_turn_when_its_pages_were_slow() {
    for by_submission in [false, true] {
        let mut two = Two::new(by_submission);
        two.ask(1, 900);
        for _ in 0..3 {
            let took = two.turn();
            assert!(took <= bound(SEGMENTS_PER_SLOT), "{took} ns");
            assert_eq!(two.taken(), [SEGMENTS_PER_SLOT], "by submission: {by_submission}");
        }
        two.bed.reactor.abandon();
    }
}

#[test]
fn pieces_that_go_through_a_buffer_are_of_few_segments() {
    let mut two = Two::new(false);
    two.bed.devices().limits[0].memory_alignment = 4096;
    two.bed.pool.0.borrow_mut().fresh = Some((Rc::clone(&two.now), FRESH));
    two.ask(1, 900);
    let took = two.turn();
    assert!(took <= bound(SEGMENTS_PER_SLOT), "{took} ns");
    two.bed.reactor.abandon();
}

#[test]
fn answers_that_take_long_are_given_in_several_turns_each_once() {
    let mut two = Two::new(true);
    two.bed.devices().fresh = None;
    two.ask(32, 1);
    while two.slow.iter().any(|queue| !queue.0.borrow().waiting.is_empty()) {
        two.turn();
    }
    two.bed.finish_all(Ok(()));
    for queue in &two.slow {
        queue.0.borrow_mut().touch = Some((Rc::clone(&two.now), FRESH));
    }
    let mut turns = 0;
    while two.slow.iter().any(|queue| queue.answers().len() < 32) {
        turns += 1;
        let given = |two: &Two| two.slow.iter().map(|queue| queue.answers().len()).sum::<usize>();
        let (began, before) = (two.now.get(), given(&two));
        let done = two.bed.reactor.turn(Nanos(began));
        assert_eq!(done, given(&two) - before, "each is told in its own turn");
        let took = two.now.get() - began;
        assert!(took <= bound(0), "{took} ns");
        let left = two.bed.reactor.in_flight() > 0;
        assert_eq!(two.bed.reactor.is_held_up(), left);
        assert_eq!(two.bed.reactor.arm(), left, "it stays awake while there are some");
        two.bed.reactor.disarm();
    }
    assert!(turns >= 3, "{turns}");
    assert!(two.slow.iter().all(|queue| queue.answers().len() == 32));
}

/// The turn ends with a submission of its own; one is due before for each so many places.
#[test]
fn what_devices_took_is_submitted_each_time_so_many_places_were_touched() {
    let full = limits::PULL_BATCH as u16;
    for (asked, submissions) in [
        ([full - 1, 0], 1),
        ([full, 0], 2),
        ([full, 1], 2),
        ([full, full], 3),
    ] {
        let mut bed = Bed::new(256, 2);
        let queues = [0, 1].map(|queue| bed.attach(id(FAST, queue), |_| {}));
        for (queue, asked) in queues.iter().zip(asked) {
            (0..asked).for_each(|head| queue.ask(head, Op::Read, 0, 1, data(1)));
        }
        bed.turn();
        assert_eq!(bed.devices().seen.len(), usize::from(asked[0] + asked[1]));
        assert_eq!(bed.devices().submits.get(), submissions, "{asked:?}");
        bed.reactor.abandon();
    }
}

#[test]
fn a_neighbour_gets_all_it_wants_behind_a_step_that_was_long() {
    let mut two = Two::new(false);
    two.time_steps();
    two.ask(1, 120);
    (0..8).for_each(|head| two.fast.ask(head, Op::Read, 0, 1, data(1)));
    assert!(two.turn() > TURN_SUSPICIOUS.0);
    assert_eq!(two.taken(), [120]);
    assert_eq!(two.fast.answers().len(), 8);
}

/// A turn is long when it lasts longer than may be, a step when it lasts so long.
#[test]
fn a_turn_goes_on_up_to_its_bound_and_a_step_ends_at_its_own() {
    for (timed, bound, taken) in [(false, TURN_SUSPICIOUS, 2), (true, limits::STEP_LONG, 1)] {
        for (less, taken) in [(1, 2), (0, taken)] {
            let mut two = Two::new(false);
            if timed {
                two.time_steps();
            }
            for head in 0..2 {
                two.slow[0].ask(head, Op::Read, 0, 100, two.segments(100));
            }
            let fresh = two.bed.devices().fresh.as_mut();
            fresh.expect("there are fresh pages").takes = bound.0 / 100 - less;
            two.turn();
            assert_eq!(two.taken().len(), taken, "timed: {timed}, {less} ns less each");
        }
    }
}

#[test]
fn a_step_is_looked_at_after_each_of_its_requests() {
    let mut two = Two::new(false);
    two.time_steps();
    for head in 0..8 {
        two.slow[0].ask(head, Op::Read, 0, 1, two.segments(1));
    }
    let fresh = two.bed.devices().fresh.as_mut();
    fresh.expect("there are fresh pages").takes = limits::STEP_LONG.0 * 2 / 3;
    two.turn();
    assert_eq!(two.taken(), [1, 1], "the second is the last");
}

#[test]
fn without_a_clock_turns_do_what_there_is_to_do() {
    let mut two = Two::new(true);
    let mut bed = Bed::new(64, 2);
    let guest = bed.attach_with(id(SLOW, 0), &two.memory);
    for head in 0..4 {
        guest.ask(head, Op::Read, 0, 32, two.segments(32));
    }
    two.bed.devices().fresh = None;
    bed.devices().fresh = Some(Fresh {
        memory: two.memory.clone(),
        now: Rc::clone(&two.now),
        takes: FRESH,
        by_submission: true,
        waiting: 0,
    });
    bed.turn();
    assert_eq!(bed.devices().seen.len(), 4);
    bed.reactor.abandon();
}

#[test]
fn what_has_waited_for_its_device_ends_a_turn_that_becomes_long_too() {
    let mut two = Two::new(true);
    two.bed.devices().busy = true;
    two.ask(32, 1);
    while two.slow.iter().any(|queue| !queue.0.borrow().waiting.is_empty()) {
        two.turn();
    }
    two.bed.devices().busy = false;
    let took = two.turn();
    assert!(took > TURN_SUSPICIOUS.0 && took <= bound(1), "{took} ns");
    assert_eq!(two.taken().len(), TOUCHES_UNSEEN_MAX as usize / 2);
    two.bed.reactor.abandon();
}

/// So does what is sent again.
#[test]
fn what_was_parked_ends_a_turn_that_becomes_long_too() {
    let mut two = Two::new(true);
    two.bed.devices().busy = true;
    two.ask(32, 1);
    while two.slow.iter().any(|queue| !queue.0.borrow().waiting.is_empty()) {
        two.turn();
    }
    two.bed.suspend(2);
    two.bed.cancel(2);
    two.bed.devices().busy = false;
    let took = two.turn();
    assert!(took > TURN_SUSPICIOUS.0 && took <= bound(1), "{took} ns");
    assert_eq!(two.taken().len(), TOUCHES_UNSEEN_MAX as usize / 2);
    two.bed.reactor.abandon();
}

/// All of the request has been begun, and its last piece took long.
#[test]
fn nothing_is_taken_behind_a_request_in_pieces_that_was_long() {
    let mut two = Two::new(false);
    for head in 0..2 {
        // The first piece is of one sector, up to the border.
        two.slow[0].ask(head, Op::Read, 499, 121, two.segments(121));
    }
    two.turn();
    assert_eq!(two.taken(), [1, 120]);
    assert_eq!(two.slow[0].0.borrow().waiting.len(), 1);
    two.bed.reactor.abandon();
}

/// It has not been looked at in that turn, and holds up nothing of its queue.
#[test]
fn what_waits_for_a_buffer_stays_where_it_is_when_a_turn_has_become_long() {
    let mut two = Two::new(true);
    // One of four buffers is kept for another device.
    for head in 0..4 {
        two.fast.ask(head, Op::Read, 0, 1, vec![piece(0x10_0001, 512)]);
    }
    two.turn();
    two.turn();
    assert_eq!(two.bed.devices().seen.len(), 3);
    two.bed.devices().busy = true;
    two.ask(32, 1);
    while two.slow.iter().any(|queue| !queue.0.borrow().waiting.is_empty()) {
        two.turn();
    }
    two.fast.ask(4, Op::Read, 0, 1, data(1));
    two.bed.devices().busy = false;
    assert!(two.turn() > TURN_SUSPICIOUS.0);
    assert_eq!(two.fast.0.borrow().waiting.len(), 1);
    assert!(two.bed.reactor.arm(), "its queue has more, and room for it");
    two.bed.reactor.abandon();
}
