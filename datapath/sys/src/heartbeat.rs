//! Whether the process stands still as a whole, whatever its threads are at: stopped by a signal or a debugger, frozen with
//! its control group, held up at its page tables by somebody who works on them from outside, or short of processors or
//! memory like everybody on the machine. What a thread loses by that is no fault of whoever it is at work for.
//!
//! A thread of its own wants to wake every 20 ms and to touch a page that is not there, as a copy to a guest's memory might.
//! When it comes late, others do as well. It sleeps when nobody listens, and when nobody who listens has asked for some time:
//! a node whose guests rest is not woken fifty times a second for the sake of turns that nobody takes.

use crate::MonotonicClock;
use memmap2::{MmapMut, UncheckedAdvice};
use palisade_block::{Clock, Nanos};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::Thread;
use std::time::Duration;

const EVERY: Nanos = Nanos::from_millis(20);

/// It may come so late without a reason: a thread that wakes is not always at once the one that runs.
const SLACK: Nanos = Nanos::from_millis(5);

/// So long after the last time that somebody asked it goes to sleep. Whoever asks then wakes it, so it is longer than the usual
/// pause of a thread that is at work.
const REST_AFTER: Nanos = Nanos::from_secs(1);

#[derive(Debug, Default)]
struct Heart {
    /// Time between beats that came late and those before them, in nanoseconds.
    late_ns: AtomicU64,
    /// The moment of the last beat, in nanoseconds of [`MonotonicClock`].
    beat_ns: AtomicU64,
    /// The moment at which somebody asked last, on the same clock.
    asked_ns: AtomicU64,
    /// It sleeps, or is about to: whoever asks is to wake it.
    rests: AtomicBool,
    listeners: AtomicU32,
    thread: OnceLock<Thread>,
}

static HEART: OnceLock<Heart> = OnceLock::new();

/// Listens; the heart beats for as long as somebody does.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    heart: &'static Heart,
}

impl Heartbeat {
    /// Starts its thread at the first call in a process. Without one no beat comes, and all the time counts as standing
    /// still: then nobody is blamed for anything.
    pub(crate) fn listen(now: Nanos) -> Heartbeat {
        let heart = HEART.get_or_init(Heart::default);
        heart.listeners.fetch_add(1, Relaxed);
        heart.thread.get_or_init(|| {
            heart.rests.store(true, Relaxed);
            let beat = || heart.run();
            let started = std::thread::Builder::new().name("heartbeat".into()).spawn(beat);
            started.map_or_else(|_| std::thread::current(), |handle| handle.thread().clone())
        });
        heart.asked(now);
        Heartbeat { heart }
    }

    /// For how long the process has stood still so far, as far as that is known at this moment. Only differences of it say
    /// anything; they may be too large by one beat.
    pub(crate) fn stood_still(&self, now: Nanos) -> Nanos {
        self.heart.asked(now);
        let beat = Nanos(self.heart.beat_ns.load(Relaxed));
        Nanos(self.heart.late_ns.load(Relaxed)).after(late(beat, now))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.heart.listeners.fetch_sub(1, Relaxed);
    }
}

/// For how long the process stood still between a beat and now, if the next beat is late. Where in between that began is not
/// known: it is taken to have lasted for all the time.
fn late(before: Nanos, now: Nanos) -> Nanos {
    let passed = now.since(before);
    match passed > EVERY.after(SLACK) {
        true => passed,
        false => Nanos(0),
    }
}

impl Heart {
    /// Somebody wants to know. If it sleeps it is woken, and what passed until now is nobody's standing still.
    fn asked(&self, now: Nanos) {
        self.asked_ns.store(now.0, Relaxed);
        if self.rests.load(Relaxed) && self.rests.swap(false, Relaxed) {
            self.beat_ns.store(now.0, Relaxed);
            if let Some(thread) = self.thread.get() {
                thread.unpark();
            }
        }
    }

    /// Whether it may sleep: nobody listens, or those who do have not asked for long.
    fn may_rest(&self, now: Nanos) -> bool {
        let asked = Nanos(self.asked_ns.load(Relaxed));
        self.listeners.load(Relaxed) == 0 || now.since(asked) > REST_AFTER
    }

    /// Sleeps until somebody asks. Should a question be missed that comes at the same moment, the next one wakes it; until then
    /// all the time counts as standing still.
    fn rest(&self) {
        self.rests.store(true, Relaxed);
        while self.rests.load(Relaxed) {
            std::thread::park();
        }
    }

    fn run(&self) {
        let clock = MonotonicClock::new();
        let mut page = MmapMut::map_anon(4096).ok();
        loop {
            if self.may_rest(clock.now()) {
                self.rest();
            }
            let before = clock.now();
            self.beat_ns.store(before.0, Relaxed);
            std::thread::sleep(Duration::from_nanos(EVERY.0));
            if let Some(page) = &mut page {
                touch(page);
            }
            self.late_ns.fetch_add(late(before, clock.now()).0, Relaxed);
        }
    }
}

/// A fault like any other's.
fn touch(page: &mut MmapMut) {
    // SAFETY: the mapping is private, anonymous and ours alone; it reads as zeros afterwards, and nobody minds.
    let is_gone = unsafe { page.unchecked_advise(UncheckedAdvice::DontNeed) }.is_ok();
    if is_gone && let Some(byte) = page.first_mut() {
        *byte = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_later_than_a_busy_machine_makes_it_counts() {
        let at = Nanos::from_secs(5);
        assert_eq!(late(at, at.after(EVERY)), Nanos(0));
        assert_eq!(late(at, at.after(EVERY).after(SLACK)), Nanos(0));
        let long = Nanos::from_millis(320);
        assert_eq!(late(at, at.after(long)), long);
    }

    /// The beats of 200 ms, counted from outside: each sets the moment anew.
    fn beats(heart: &Heart) -> usize {
        let moments = (0..100).map(|_| {
            std::thread::sleep(Duration::from_millis(2));
            heart.beat_ns.load(Relaxed)
        });
        moments.collect::<std::collections::BTreeSet<_>>().len()
    }

    #[test]
    fn it_rests_when_those_who_listen_do_not_ask_and_begins_anew_when_they_do() {
        let clock = MonotonicClock::new();
        let heartbeat = Heartbeat::listen(clock.now());
        let asks = |heartbeat: &Heartbeat| heartbeat.stood_still(clock.now());
        asks(&heartbeat);
        assert!(beats(heartbeat.heart) > 2, "it beats for those who ask");
        // Tests of one process share the heart; nobody else asks in this one.
        std::thread::sleep(Duration::from_nanos(REST_AFTER.0) + Duration::from_millis(500));
        assert_eq!(beats(heartbeat.heart), 1, "it rests");
        assert!(heartbeat.heart.rests.load(Relaxed));
        let before = asks(&heartbeat);
        std::thread::sleep(Duration::from_millis(50));
        let after = asks(&heartbeat);
        assert!(
            after.since(before) < Nanos::from_secs(1),
            "the rest is not standing still: {before:?}, {after:?}"
        );
        assert!(beats(heartbeat.heart) > 2, "it beats again");
    }

    #[test]
    fn a_process_that_runs_stands_still_for_next_to_nothing() {
        let clock = MonotonicClock::new();
        let heartbeat = Heartbeat::listen(clock.now());
        // A busy machine holds a beat up now and then, and not most of them.
        let still = |_| {
            let before = heartbeat.stood_still(clock.now());
            std::thread::sleep(Duration::from_millis(50));
            heartbeat.stood_still(clock.now()).since(before)
        };
        let mut still: Vec<Nanos> = (0..21).map(still).collect();
        still.sort_unstable();
        assert!(still[10] <= SLACK, "{still:?}");
    }
}
