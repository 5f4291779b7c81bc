//! How long the steps of a thread take, and how long it is kept waiting in them: in page faults, mostly.
//!
//! The clock alone does not tell that. A thread that is displaced by others, or whose whole process stands still, loses time
//! by nobody's fault, and it would be wrong to blame for that whoever it was at work for. So the clock only says where to
//! look closer, and some things are asked then: for how long the thread was ready and had no processor (the second figure of
//! /proc/thread-self/schedstat; kernels without CONFIG_SCHED_INFO do not say, and then it counts), for how long the process
//! stood still ([`heartbeat`](crate::heartbeat)), what the thread has had of a processor (CLOCK_THREAD_CPUTIME_ID), and
//! whether it has given the processor up by itself (`ru_nvcsw` of getrusage(2)).

use crate::MonotonicClock;
use crate::clock::thread_time;
use crate::heartbeat::Heartbeat;
use palisade_block::{Clock, Lap, Nanos, Stopwatch};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;

/// What the thread has had and lacked of a processor is read anew when the last reading is older. Readings that are too old
/// make waits look shorter, by what the thread has done since.
const FRESH: Nanos = Nanos::from_millis(2);

/// Times the thread it was made on, and no other.
#[derive(Debug)]
pub struct ThreadStopwatch {
    clock: MonotonicClock,
    schedstat: Option<File>,
    /// When the step began.
    began: Nanos,
    /// How often the thread had given up the processor by itself when the first step began.
    given_up: i64,
    /// What it had had and lacked of a processor, and when that was.
    read: Nanos,
    processor: Processor,
    heartbeat: Heartbeat,
    /// For how long the process had stood still when the step began.
    stood_still: Nanos,
}

#[derive(Clone, Copy, Debug, Default)]
struct Processor {
    had: Nanos,
    lacked: Nanos,
}

impl ThreadStopwatch {
    /// For the thread that calls it.
    pub fn new() -> ThreadStopwatch {
        let clock = MonotonicClock::new();
        let heartbeat = Heartbeat::listen(clock.now());
        let mut stopwatch = ThreadStopwatch {
            clock,
            schedstat: File::open("/proc/thread-self/schedstat").ok(),
            began: Nanos(0),
            given_up: 0,
            read: Nanos(0),
            processor: Processor::default(),
            heartbeat,
            stood_still: Nanos(0),
        };
        stopwatch.start();
        stopwatch
    }

    fn read(&mut self) {
        self.processor = Processor {
            had: thread_time(),
            lacked: self.lacked(),
        };
        self.read = self.began;
        self.given_up = given_up();
    }

    /// How long the thread has been ready without a processor.
    fn lacked(&self) -> Nanos {
        let mut text = [0; 64];
        let read = self.schedstat.as_ref().map(|file| file.read_at(&mut text, 0));
        let Some(Ok(length)) = read else { return Nanos(0) };
        let text = text.get(..length).and_then(|text| std::str::from_utf8(text).ok());
        let lacked = text.and_then(|text| text.split_ascii_whitespace().nth(1)?.parse().ok());
        Nanos(lacked.unwrap_or(0))
    }

    #[cold]
    fn look(&mut self, passed: Nanos, still: Nanos, least: Nanos) -> Option<Lap> {
        let (given_up, before) = (self.given_up, self.processor);
        self.read();
        let (had, lacked) = (
            self.processor.had.since(before.had),
            self.processor.lacked.since(before.lacked),
        );
        let held = passed.since(lacked).since(still);
        let waited = match self.given_up > given_up {
            true => held.since(had),
            false => Nanos(0),
        };
        let ended = self.began;
        (held >= least).then_some(Lap { held, waited, ended })
    }
}

impl Default for ThreadStopwatch {
    fn default() -> ThreadStopwatch {
        ThreadStopwatch::new()
    }
}

impl Stopwatch for ThreadStopwatch {
    fn start(&mut self) {
        self.began = self.clock.now();
        self.stood_still = self.heartbeat.stood_still(self.began);
        match self.began.since(self.read) < FRESH {
            true => self.given_up = given_up(),
            false => self.read(),
        }
    }

    #[inline]
    fn passed(&self) -> Nanos {
        self.clock.now().since(self.began)
    }

    #[inline]
    fn lap(&mut self, least: Nanos) -> Option<Lap> {
        let now = self.clock.now();
        let passed = now.since(self.began);
        self.began = now;
        let before = self.stood_still;
        self.stood_still = self.heartbeat.stood_still(now);
        match passed < least {
            true => None,
            false => self.look(passed, self.stood_still.since(before), least),
        }
    }
}

/// How often the calling thread has given up its processor to wait for something.
fn given_up() -> i64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to an rusage of ours; all zeroes is a value of it, should the call fail.
    unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init().ru_nvcsw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::{Duration, Instant};

    const LEAST: Nanos = Nanos::from_millis(10);

    fn compute(time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {}
    }

    #[test]
    fn a_wait_counts_once_for_the_step_it_falls_into() {
        let mut stopwatch = ThreadStopwatch::new();
        stopwatch.start();
        std::thread::sleep(Duration::from_millis(60));
        assert!(stopwatch.passed() >= Nanos::from_millis(60));
        let lap = stopwatch.lap(LEAST).unwrap();
        assert!(lap.held >= Nanos::from_millis(40), "{lap:?}");
        assert!(lap.held.since(lap.waited) < LEAST, "{lap:?}");
        assert_eq!(lap.ended, stopwatch.began);
        assert_eq!(stopwatch.lap(LEAST), None);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(stopwatch.lap(Nanos::from_secs(1)), None, "it is short");
    }

    #[test]
    fn a_wait_before_the_first_step_is_nobodys() {
        let mut stopwatch = ThreadStopwatch::new();
        std::thread::sleep(Duration::from_millis(60));
        stopwatch.start();
        assert_eq!(stopwatch.lap(LEAST), None);
    }

    #[test]
    fn the_time_in_which_the_process_stands_still_is_nobodys() {
        let mut stopwatch = ThreadStopwatch::new();
        stopwatch.start();
        let (passed, still) = (Nanos::from_millis(310), Nanos::from_millis(300));
        assert_eq!(stopwatch.look(passed, still, Nanos::from_millis(11)), None);
        let lap = stopwatch.look(passed, Nanos(0), LEAST).unwrap();
        assert!(lap.held >= Nanos::from_millis(300), "{lap:?}");
    }

    /// A thread that computes, and another on the same processor that takes half of it.
    #[test]
    fn work_is_no_wait_and_a_neighbour_on_the_processor_is_neither() {
        let over = AtomicBool::new(false);
        let pinned = || crate::affinity::pin_current_thread(0).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pinned();
                while !over.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
            scope.spawn(|| {
                pinned();
                let mut stopwatch = ThreadStopwatch::new();
                stopwatch.start();
                compute(Duration::from_millis(100));
                let computed = stopwatch.lap(LEAST).unwrap_or_default();
                // It gives up the processor for a moment, and gets it back much later.
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_millis(100) {
                    std::thread::sleep(Duration::from_micros(1));
                    compute(Duration::from_millis(20));
                }
                let displaced = stopwatch.lap(LEAST).unwrap_or_default();
                over.store(true, Relaxed);
                assert_eq!(computed.waited, Nanos(0));
                assert!(
                    computed.held <= Nanos::from_millis(90),
                    "the other had half: {computed:?}"
                );
                assert!(displaced.waited < Nanos::from_millis(30), "{displaced:?}");
            });
        });
    }
}
