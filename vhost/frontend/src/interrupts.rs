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

use mio::Waker;
use palisade_block::{Clock, Nanos};
use palisade_sys::MonotonicClock;
use palisade_sys::clock::thread_time;
use std::sync::atomic::{
    AtomicBool, AtomicU32,
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

/// How the interrupts of one attachment are given. It outlives sessions.
#[derive(Debug, Default)]
pub struct Interrupts {
    clock: MonotonicClock,
    score: AtomicU32,
    dear: AtomicBool,
    /// Wakes the attachment's thread; without one everything is given at once.
    waker: OnceLock<Arc<Waker>>,
}

impl Interrupts {
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
        if self.score.load(Relaxed) > 0 {
            return self.give_suspected(signal);
        }
        let begin = self.clock.now();
        signal();
        if self.clock.now().0.saturating_sub(begin.0) > DEAR.0 {
            self.note(true);
        }
    }

    /// The same by the time that this thread has of the processor.
    #[cold]
    fn give_suspected(&self, signal: impl FnOnce()) {
        let begin = thread_time();
        signal();
        self.note(thread_time().0.saturating_sub(begin.0) > DEAR.0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
