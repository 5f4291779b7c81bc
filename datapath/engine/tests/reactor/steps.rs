//! Whom a turn is kept waiting for: each queue's steps are timed by themselves, when that is wanted.

use crate::bench_of::*;
use palisade_block::limits::{REST_MAX, REST_TIMES, STEP_LONG};
use palisade_block::mailbox::Notice;
use palisade_block::*;
use std::cell::Cell;
use std::rc::Rc;

/// The time of the test: whoever touches memory that makes it wait moves it on.
#[derive(Clone, Debug, Default)]
pub struct Time {
    now: Rc<Cell<u64>>,
    began: u64,
    laps: Rc<Cell<usize>>,
    starts: Rc<Cell<usize>>,
}

impl Time {
    /// By a clock that others move on.
    pub fn of(now: Rc<Cell<u64>>) -> Time {
        Time {
            now,
            ..Time::default()
        }
    }
}

impl Stopwatch for Time {
    fn start(&mut self) {
        self.starts.set(self.starts.get() + 1);
        self.began = self.now.get();
    }

    fn passed(&self) -> Nanos {
        Nanos(self.now.get() - self.began)
    }

    fn lap(&mut self, least: Nanos) -> Option<Lap> {
        self.laps.set(self.laps.get() + 1);
        let held = self.passed();
        self.began = self.now.get();
        let lap = Lap {
            held,
            waited: held,
            ended: Nanos(self.began),
        };
        (held >= least).then_some(lap)
    }
}

const MS: u64 = 1_000_000;

/// A bed with two guests whose steps are timed.
struct Timed {
    bed: Bed,
    time: Time,
    slow: Script,
    fast: Script,
}

const SLOW: u16 = 1;
const FAST: u16 = 2;

impl Timed {
    fn new() -> Timed {
        let (mut bed, time) = (Bed::new(16, 2), Time::default());
        let (slow, fast) = (bed.attach(id(SLOW, 0), |_| {}), bed.attach(id(FAST, 0), |_| {}));
        bed.reactor.time_steps(Some(Box::new(time.clone())));
        Timed {
            bed,
            time,
            slow,
            fast,
        }
    }

    /// From now on each touch of the slow guest's ring takes so long.
    fn touches_take(&self, ms: u64) {
        self.each_touch_takes(Nanos::from_millis(ms));
    }

    fn each_touch_takes(&self, time: Nanos) {
        self.slow.0.borrow_mut().touch = Some((Rc::clone(&self.time.now), time.0));
    }

    fn ask_both(&self, head: u16) {
        for guest in [&self.slow, &self.fast] {
            guest.ask(head, Op::Read, 0, 1, data(1));
        }
    }

    /// Whom the turns since the last call were kept waiting for, in ms.
    fn told(&mut self) -> Vec<(u16, u64)> {
        let stalled = |notice| match notice {
            Notice::QueueStalled { queue, waited, .. } => Some((queue.attachment.0, waited.0 / MS)),
            _ => None,
        };
        self.bed.notices().into_iter().filter_map(stalled).collect()
    }
}

#[test]
fn who_keeps_a_turn_waiting_is_told_by_name_and_nobody_else_is() {
    let mut timed = Timed::new();
    timed.bed.devices().at_once = Some(Ok(()));
    timed.ask_both(1);
    timed.bed.turn();
    assert_eq!(timed.told(), [], "nobody is slow");
    timed.touches_take(20);
    timed.ask_both(2);
    timed.bed.turn();
    // It is asked whether it has more, gives one, has no more, and shows the answer.
    let told = timed.told();
    assert!(matches!(told[..], [(SLOW, ms)] if ms >= 40), "{told:?}");
    assert_eq!(timed.fast.answers().len(), 2);
    assert_eq!(timed.told(), [], "it is told once");
}

#[test]
fn what_is_short_is_told_of_nobody() {
    let mut timed = Timed::new();
    timed.bed.devices().at_once = Some(Ok(()));
    // There are three of them in a step.
    timed.each_touch_takes(Nanos(STEP_LONG.0 / 3 - 1));
    timed.ask_both(1);
    timed.bed.turn();
    assert_eq!(timed.told(), []);
}

#[test]
fn the_submission_of_a_guests_requests_counts_with_that_guest() {
    let mut timed = Timed::new();
    timed.ask_both(1);
    // The kernel takes hold of the pages of what is submitted.
    let devices = timed.bed.devices();
    devices.slow_pages = Some((SLOW, Rc::clone(&timed.time.now), 300 * MS));
    devices.whose = vec![SLOW, FAST];
    timed.bed.turn();
    assert_eq!(timed.told(), [(SLOW, 300)]);
    timed.bed.reactor.abandon();
}

#[test]
fn answers_that_come_later_count_with_the_guest_that_gets_them() {
    let mut timed = Timed::new();
    timed.ask_both(1);
    timed.bed.turn();
    timed.told();
    timed.touches_take(50);
    timed.bed.finish_all(Ok(()));
    timed.bed.turn();
    let told = timed.told();
    assert!(matches!(told[..], [(SLOW, 50..)]), "{told:?}");
}

#[test]
fn what_is_waited_for_before_a_sleep_is_told_with_the_next_turn() {
    let mut timed = Timed::new();
    timed.bed.turn();
    timed.touches_take(100);
    timed.bed.reactor.arm();
    timed.slow.0.borrow_mut().touch = None;
    timed.bed.turn();
    assert_eq!(timed.told(), [(SLOW, 100)]);
    assert!(timed.slow.0.borrow().armed && timed.fast.0.borrow().armed);
    timed.touches_take(70);
    timed.bed.reactor.disarm();
    timed.slow.0.borrow_mut().touch = None;
    timed.bed.turn();
    assert_eq!(timed.told(), [(SLOW, 70)]);
}

#[test]
fn a_guest_that_is_held_up_is_timed_by_itself_too() {
    let mut timed = Timed::new();
    timed.bed.devices().busy = true;
    timed.ask_both(1);
    timed.bed.turn();
    assert!(timed.bed.reactor.is_held_up());
    timed.told();
    let devices = timed.bed.devices();
    devices.busy = false;
    devices.at_once = Some(Ok(()));
    timed.touches_take(30);
    timed.bed.turn();
    let told = timed.told();
    assert!(matches!(told[..], [(SLOW, 30..)]), "{told:?}");
}

#[test]
fn a_request_in_pieces_is_timed_with_its_guest_when_it_goes_on() {
    let mut timed = Timed::new();
    // Over the border of two devices, one of which is busy: the second piece waits.
    timed.bed.devices().busy_device = Some(1);
    timed.slow.ask(1, Op::Read, 499, 2, data(2));
    timed.fast.ask(1, Op::Read, 499, 2, data(2));
    timed.bed.turn();
    timed.told();
    timed.bed.devices().busy_device = None;
    timed.bed.turn();
    timed.touches_take(30);
    timed.bed.finish_all(Ok(()));
    timed.bed.turn();
    let told = timed.told();
    assert!(matches!(told[..], [(SLOW, 30..)]), "{told:?}");
    assert_eq!(timed.fast.answers().len(), 1);
}

/// What the thread waited for between two turns is nobody's, and only a stopwatch that is started knows of it.
#[test]
fn the_stopwatch_is_started_with_each_turn() {
    let mut timed = Timed::new();
    for turn in 1..=3 {
        timed.bed.turn();
        assert_eq!(timed.time.starts.get(), turn);
    }
}

#[test]
fn nothing_is_timed_before_it_is_wanted_nor_afterwards() {
    let mut timed = Timed::new();
    timed.bed.reactor.time_steps(None);
    timed.touches_take(500);
    timed.ask_both(1);
    timed.bed.turn();
    timed.bed.reactor.arm();
    timed.bed.reactor.disarm();
    assert_eq!((timed.told(), timed.time.laps.get()), (vec![], 0));
    timed.bed.reactor.abandon();
}

#[test]
fn a_queue_is_told_of_before_it_is_given_back() {
    let mut timed = Timed::new();
    timed.bed.devices().at_once = Some(Ok(()));
    timed.touches_take(30);
    timed.slow.ask(1, Op::Read, 0, 1, data(1));
    timed.slow.0.borrow_mut().backlog = 1;
    timed
        .bed
        .reactor
        .apply(mailbox::ReactorCommand::StopQueue { queue: id(SLOW, 0) });
    timed.bed.turn();
    let notices = timed.bed.notices();
    assert!(
        matches!(
            notices[..],
            [Notice::QueueStalled { .. }, Notice::QueueStopped { .. }]
        ),
        "{notices:?}"
    );
}

/// The bed's time and that of its stopwatch are one.
fn turn_at(timed: &mut Timed, now: Nanos) {
    timed.time.now.set(now.0);
    timed.bed.now = now.0 - 1;
    timed.bed.turn();
}

#[test]
fn who_takes_long_rests_for_nine_times_as_long_and_others_are_served_meanwhile() {
    let mut timed = Timed::new();
    timed.bed.devices().at_once = Some(Ok(()));
    let begin = Nanos::from_secs(1);
    timed.touches_take(10);
    timed.ask_both(1);
    turn_at(&mut timed, begin);
    let [(SLOW, held_ms)] = timed.told()[..] else {
        unreachable!("it took long")
    };
    timed.slow.0.borrow_mut().touch = None;
    let ended = timed.bed.reactor.due().unwrap();
    assert!(ended >= begin.after(Nanos::from_millis(held_ms * (REST_TIMES + 1))));
    assert!(ended <= begin.after(Nanos::from_millis((held_ms + 40) * (REST_TIMES + 1))));
    timed.ask_both(2);
    turn_at(&mut timed, Nanos(ended.0 - 1));
    assert_eq!((timed.slow.answers().len(), timed.fast.answers().len()), (1, 2));
    assert!(!timed.bed.reactor.arm(), "it need not stay awake for it");
    assert_eq!(timed.bed.reactor.due(), Some(ended));
    turn_at(&mut timed, ended);
    assert_eq!(timed.slow.answers().len(), 2);
    assert_eq!(timed.bed.reactor.due(), None);
}

#[test]
fn no_rest_is_longer_than_two_seconds_nor_outlives_the_timing() {
    let mut timed = Timed::new();
    timed.bed.devices().at_once = Some(Ok(()));
    timed.touches_take(60_000);
    timed.ask_both(1);
    turn_at(&mut timed, Nanos::from_secs(1));
    let over = Nanos(timed.time.now.get());
    timed.slow.0.borrow_mut().touch = None;
    assert!(timed.bed.reactor.due().unwrap() <= over.after(REST_MAX));
    timed.bed.reactor.time_steps(None);
    assert_eq!(timed.bed.reactor.due(), None);
    timed.ask_both(2);
    turn_at(&mut timed, over);
    assert_eq!(timed.slow.answers().len(), 2);
}

#[test]
fn a_step_ends_with_the_request_at_which_it_becomes_long() {
    let mut timed = Timed::new();
    timed.bed.devices().at_once = Some(Ok(()));
    (1..=8).for_each(|head| timed.ask_both(head));
    timed.touches_take(20);
    turn_at(&mut timed, Nanos::from_secs(1));
    let served = timed.slow.answers().len();
    assert!((1..=2).contains(&served), "{served}");
    assert_eq!(timed.fast.answers().len(), 8);
}

#[test]
fn the_queues_of_an_attachment_rest_together_but_for_one_that_is_to_stop() {
    let mut timed = Timed::new();
    let other = timed.bed.attach(id(SLOW, 1), |_| {});
    timed.bed.devices().at_once = Some(Ok(()));
    timed.touches_take(20);
    timed.slow.ask(1, Op::Read, 0, 1, data(1));
    turn_at(&mut timed, Nanos::from_secs(1));
    timed.slow.0.borrow_mut().touch = None;
    let soon = Nanos(timed.time.now.get() + 1);
    other.ask(1, Op::Read, 0, 1, data(1));
    turn_at(&mut timed, soon);
    assert_eq!(other.answers(), []);
    other.0.borrow_mut().backlog = 1;
    let stop = mailbox::ReactorCommand::StopQueue { queue: id(SLOW, 1) };
    timed.bed.reactor.apply(stop);
    turn_at(&mut timed, soon);
    assert_eq!(other.answers().len(), 1);
}

/// A disk in memory whose pages come when they are first written to takes long as well: it is filled at full speed.
#[test]
fn who_is_alone_on_the_reactor_does_not_rest() {
    let (mut bed, time) = (Bed::new(16, 2), Time::default());
    let queues = [0, 1].map(|queue| bed.attach(id(SLOW, queue), |_| {}));
    bed.reactor.time_steps(Some(Box::new(time.clone())));
    bed.devices().at_once = Some(Ok(()));
    queues[0].0.borrow_mut().touch = Some((Rc::clone(&time.now), Nanos::from_millis(20).0));
    for head in 1..4 {
        queues
            .iter()
            .for_each(|queue| queue.ask(head, Op::Read, 0, 1, data(1)));
        bed.turn();
        assert_eq!(
            queues.each_ref().map(|queue| queue.answers().len()),
            [usize::from(head); 2]
        );
        assert!(
            matches!(bed.notices()[..], [Notice::QueueStalled { .. }]),
            "it is told"
        );
    }
    assert_eq!(bed.reactor.due(), None);
}
