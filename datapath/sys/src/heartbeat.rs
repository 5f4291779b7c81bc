//! Whether the process stands still as a whole, whatever its threads are at: stopped by a signal or a debugger, frozen with
//! its control group, held up at its page tables by somebody who works on them from outside, or short of processors or
//! memory like everybody on the machine. What a thread loses by that is no fault of whoever it is at work for.
//!
//! A thread of its own wants to wake every 20 ms and to touch a page that is not there, as a copy to a guest's memory might.
//! When it comes late, others do as well. It sleeps when nobody listens.

use crate::MonotonicClock;
use memmap2::{MmapMut, UncheckedAdvice};
use palisade_block::{Clock, Nanos};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::Thread;
use std::time::Duration;

const EVERY: Nanos = Nanos::from_millis(20);

/// It may come so late without a reason: a thread that wakes is not always at once the one that runs.
const SLACK: Nanos = Nanos::from_millis(5);

#[derive(Debug, Default)]
struct Heart {
    /// Time between beats that came late and those before them, in nanoseconds.
    late_ns: AtomicU64,
    /// The moment of the last beat, in nanoseconds of [`MonotonicClock`].
    beat_ns: AtomicU64,
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
    /// Starts its thread at the first call in a process. Without one no beat comes, and all the time counts as standing still: then
    /// nobody is blamed for anything.
    pub(crate) fn listen(now: Nanos) -> Heartbeat {
        let heart = HEART.get_or_init(Heart::default);
        if heart.listeners.fetch_add(1, Relaxed) == 0 {
            heart.beat_ns.store(now.0, Relaxed);
        }
        let thread = heart.thread.get_or_init(|| {
            let beat = || heart.run();
            let started = std::thread::Builder::new().name("heartbeat".into()).spawn(beat);
            started.map_or_else(|_| std::thread::current(), |handle| handle.thread().clone())
        });
        thread.unpark();
        Heartbeat { heart }
    }

    /// For how long the process has stood still so far, as far as that is known at this moment. Only differences of it say
    /// anything; they may be too large by one beat.
    pub(crate) fn stood_still(&self, now: Nanos) -> Nanos {
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
    fn run(&self) {
        let clock = MonotonicClock::new();
        let mut page = MmapMut::map_anon(4096).ok();
        loop {
            while self.listeners.load(Relaxed) == 0 {
                std::thread::park();
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
