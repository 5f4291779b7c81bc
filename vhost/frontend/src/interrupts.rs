//! What an attachment's interrupts cost whoever gives them, and who that is.
//!
//! Signalling an eventfd wakes all who poll it, one after the other, in the signaller's time and with interrupts of the
//! processor off. A front-end can have its event polled by as many as it may open files: with 10,000 watches of epoll(7) a
//! signal took 34 ms, where it takes half a microsecond (Linux 6.18). A reactor that gave such interrupts would have no
//! time for others. So it looks how long each one takes, and when they take long again and again, the attachment's own
//! thread gives them from then on: some microseconds later than the reactor would, and many in one.
//!
//! A thread that is displaced in the middle of a signal has lost time, too. So one that took long by the clock is only
//! suspicious, and makes the next ones be judged by the processor's time that they take of this thread.
//!
//! Signals of which none is long can take a reactor's time as well, when there are many. So what each takes beyond what one
//! takes that nobody else watches is added up, and must not be more than a tenth of the time. What one takes that nobody
//! watches is measured on this machine, once.

use mio::Waker;
use palisade_block::{Clock, Nanos};
use palisade_sys::clock::thread_time;
use palisade_sys::{EventFd, MonotonicClock, PeerEvent, PeerSignal};
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, OnceLock};

/// A signal that takes longer is dear. In an emulated machine on a busy host an honest one took more than 300 us now and
/// then.
const DEAR: Nanos = Nanos::from_millis(1);

/// What a dear signal adds to the score.
const DEAR_POINTS: u32 = 16;

/// What a cheap one takes off. So one in three may be dear by chance; of a queue's that is watched by thousands each is,
/// and half of them when another queue's come in between.
const CHEAP_POINTS: u32 = 8;

/// The score from which on the attachment's thread gives the interrupts.
const DEAR_FROM: u32 = 8 * DEAR_POINTS;

/// The score that is reached then, so that it takes so many cheap ones before the reactor gives them again.
const DEAR_SCORE: u32 = 1000;

/// What all signals of one attachment may take of a second beyond what honest ones take.
const EXCESS_MAX: Nanos = Nanos::from_millis(100);

/// The time over which that is added up, and for which an attachment whose signals took more by the clock is judged by the
/// processor's time.
const WINDOW: Nanos = Nanos::from_millis(1000);

/// What an honest one may take at least: it wakes a virtual processor, which one that nobody watches does not.
const HONEST_MIN: Nanos = Nanos(10_000);

/// How many times as long as one that nobody watches an honest one may take.
const HONEST_TIMES: u64 = 4;

/// How the interrupts of one attachment are given. It outlives sessions.
#[derive(Debug)]
pub struct Interrupts {
    clock: MonotonicClock,
    score: AtomicU32,
    dear: AtomicBool,
    honest: Nanos,
    by_clock: Excess,
    by_processor: Excess,
    /// Until when its signals are judged by the processor's time.
    suspected_until: AtomicU64,
    /// Wakes the attachment's thread; without one everything is given at once.
    waker: OnceLock<Arc<Waker>>,
}

/// What signals have taken beyond what honest ones take. Sums of several threads may be mixed up; nothing but a little time
/// hangs on it.
#[derive(Debug, Default)]
struct Excess {
    since: AtomicU64,
    sum: AtomicU64,
}

impl Excess {
    /// One more has taken so much too long. Whether that is more than may be within the window.
    fn add(&self, excess: Nanos, now: Nanos) -> bool {
        if now.0.saturating_sub(self.since.load(Relaxed)) > WINDOW.0 {
            self.since.store(now.0, Relaxed);
            self.sum.store(0, Relaxed);
        }
        let sum = self.sum.load(Relaxed).saturating_add(excess.0);
        self.sum.store(sum, Relaxed);
        sum > EXCESS_MAX.0
    }
}

impl Default for Interrupts {
    fn default() -> Interrupts {
        Interrupts {
            clock: MonotonicClock::default(),
            score: AtomicU32::new(0),
            dear: AtomicBool::new(false),
            honest: HONEST_MIN,
            by_clock: Excess::default(),
            by_processor: Excess::default(),
            suspected_until: AtomicU64::new(0),
            waker: OnceLock::new(),
        }
    }
}

impl Interrupts {
    /// Judged by what a signal takes on this machine.
    pub(crate) fn measured() -> Interrupts {
        Interrupts {
            honest: honest(),
            ..Interrupts::default()
        }
    }

    /// Lets a thread be woken for interrupts that it has to give.
    pub(crate) fn wake_by(&self, waker: Arc<Waker>) {
        // There is one thread for the whole life of an attachment.
        let _ = self.waker.set(waker);
    }

    /// Whether they take so long that the attachment's thread gives them.
    #[inline]
    pub(crate) fn are_dear(&self) -> bool {
        self.dear.load(Relaxed)
    }

    /// Gives one, and looks how long it takes.
    #[inline]
    pub(crate) fn give(&self, signal: impl FnOnce()) {
        if self.score.load(Relaxed) > 0 || self.suspected_until.load(Relaxed) > 0 {
            return self.give_suspected(signal);
        }
        let begin = self.clock.now();
        signal();
        let end = self.clock.now();
        let took = end.0.saturating_sub(begin.0);
        if took > self.honest.0 {
            self.suspect(Nanos(took), end);
        }
    }

    /// One has taken long by the clock.
    #[cold]
    fn suspect(&self, took: Nanos, now: Nanos) {
        if took.0 > DEAR.0 {
            self.note(true);
        }
        if self
            .by_clock
            .add(Nanos(took.0.saturating_sub(self.honest.0)), now)
        {
            self.suspected_until.store(now.0 + WINDOW.0, Relaxed);
        }
    }

    /// The same by the time that this thread has of the processor.
    #[cold]
    fn give_suspected(&self, signal: impl FnOnce()) {
        let begin = thread_time();
        signal();
        let took = thread_time().0.saturating_sub(begin.0);
        let now = self.clock.now();
        let excess = took.saturating_sub(self.honest.0);
        if self.are_dear() {
            // They have to be as honest ones are before a reactor gives them again.
            return self.note(excess > 0);
        }
        if self.suspected_until.load(Relaxed) < now.0 {
            self.suspected_until.store(0, Relaxed);
        }
        if excess > 0 && self.by_processor.add(Nanos(excess), now) {
            self.suspected_until.store(0, Relaxed);
            self.score.store(DEAR_SCORE, Relaxed);
            self.dear.store(true, Relaxed);
            return;
        }
        self.note(took > DEAR.0);
    }

    /// Leaves one to the attachment's thread: false when there is none.
    pub(crate) fn leave(&self, owed: &AtomicBool) -> bool {
        let Some(waker) = self.waker.get() else {
            return false;
        };
        // It is asked for once, until it has been given.
        owed.swap(true, SeqCst) || waker.wake().is_ok()
    }

    /// Scores of several threads may be mixed up; nothing but a little time hangs on it.
    fn note(&self, dear: bool) {
        let score = self.score.load(Relaxed);
        let score = match (dear, self.are_dear()) {
            (true, false) if score + DEAR_POINTS < DEAR_FROM => score + DEAR_POINTS,
            (true, _) => DEAR_SCORE,
            (false, false) => score.saturating_sub(CHEAP_POINTS),
            (false, true) => score.saturating_sub(1),
        };
        self.score.store(score, Relaxed);
        if score == DEAR_SCORE || score == 0 {
            self.dear.store(score > 0, Relaxed);
        }
    }
}

/// What an honest signal may take on this machine: some times what one takes that nobody watches.
fn honest() -> Nanos {
    static HONEST: OnceLock<Nanos> = OnceLock::new();
    *HONEST.get_or_init(|| {
        let unwatched = measure().unwrap_or_default();
        Nanos((unwatched.0 * HONEST_TIMES).max(HONEST_MIN.0))
    })
}

/// The median of some.
fn measure() -> Option<Nanos> {
    let event = EventFd::new().ok()?;
    let signal = PeerSignal::new().ok()?;
    let peer = PeerEvent::from_owned_fd(event.try_clone().ok()?.into()).ok()?;
    signal.aim(Some(&peer)).ok()?;
    let mut took: Vec<u64> = (0..33)
        .map(|_| {
            let begin = thread_time();
            signal.signal();
            thread_time().0.saturating_sub(begin.0)
        })
        .collect();
    took.sort_unstable();
    took.get(took.len() / 2).copied().map(Nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Takes some of the processor's time.
    fn takes(time: Duration) -> impl FnOnce() {
        move || {
            let begin = thread_time();
            while u128::from(thread_time().0 - begin.0) < time.as_nanos() {}
        }
    }

    #[test]
    fn many_that_take_long_together_are_dear_and_stay_so_until_they_are_as_honest_ones() {
        let interrupts = Interrupts::default();
        let begin = std::time::Instant::now();
        while !interrupts.are_dear() {
            interrupts.give(takes(Duration::from_micros(400)));
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "they take all the time there is"
            );
        }
        for _ in 0..2 * DEAR_SCORE {
            interrupts.give(takes(Duration::from_micros(100)));
        }
        assert!(interrupts.are_dear());
        while interrupts.are_dear() {
            interrupts.give(|| {});
            assert!(begin.elapsed() < Duration::from_secs(120), "they are cheap");
        }
    }

    #[test]
    fn a_tenth_of_the_time_may_be_taken() {
        let interrupts = Interrupts::default();
        let begin = std::time::Instant::now();
        // 0.4 ms in each 10: 4 %.
        while begin.elapsed() < Duration::from_secs(3) {
            interrupts.give(takes(Duration::from_micros(400)));
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!interrupts.are_dear());
    }

    #[test]
    fn what_a_signal_takes_is_measured() {
        let unwatched = measure().unwrap();
        assert!(unwatched.0 > 0 && unwatched.0 < 10_000_000, "{unwatched:?}");
        assert!(Interrupts::measured().honest.0 >= HONEST_MIN.0);
    }

    /// Takes long of the processor.
    fn slow() {
        let begin = thread_time();
        while thread_time().0 - begin.0 < 2 * DEAR.0 {}
    }

    /// Takes long because others have the processor.
    fn displaced() {
        std::thread::sleep(Duration::from_millis(2));
    }

    #[test]
    fn dear_ones_are_left_to_the_thread_until_they_have_long_been_cheap() {
        let interrupts = Interrupts::default();
        (0..7).for_each(|_| interrupts.give(slow));
        assert!(!interrupts.are_dear(), "seven may be chance");
        interrupts.give(slow);
        assert!(interrupts.are_dear());
        let mut given = 0;
        while interrupts.are_dear() {
            interrupts.give(|| {});
            given += 1;
        }
        assert!(given >= DEAR_SCORE, "{given}");
    }

    #[test]
    fn a_thread_that_is_displaced_time_and_again_is_not_taken_for_dear_interrupts() {
        let interrupts = Interrupts::default();
        for _ in 0..40 {
            interrupts.give(displaced);
        }
        assert!(!interrupts.are_dear());
    }

    #[test]
    fn now_and_then_a_dear_one_changes_nothing() {
        let interrupts = Interrupts::default();
        for _ in 0..40 {
            interrupts.give(slow);
            (0..2).for_each(|_| interrupts.give(|| {}));
        }
        assert!(!interrupts.are_dear());
        for _ in 0..16 {
            interrupts.give(slow);
            interrupts.give(|| {});
        }
        assert!(interrupts.are_dear(), "every other one is no chance");
    }
}
