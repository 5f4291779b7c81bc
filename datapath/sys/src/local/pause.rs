//! How a thread that polls leaves the processor to others while its device works.
//!
//! File systems finish some writes in kernel threads on the processor that took the interrupt. A poller that spins
//! there keeps them waiting until the scheduler's slice of some 3 ms is over. Yielding lets them in at once and costs
//! next to nothing while nobody waits; but where a thread computes on the same processor, each yield gives it a whole
//! slice. A sleeper gets the processor back as soon as it wakes. So: yield, look how long that took, and sleep for a
//! while after a yield that took long.

use super::LocalDevices;
use crate::affinity;
use palisade_block::{Clock, Nanos};
use std::time::Duration;

/// How long [`LocalDevices::nap`] sleeps at most.
pub const NAP: Duration = Duration::from_micros(10);

/// A yield that takes longer has let somebody compute, not a kernel thread finish a write.
const LONG: Nanos = Nanos::from_micros(500);

/// How long sleeping is preferred after the first long yield; doubled by each further one.
const NAPPING_FIRST: Nanos = Nanos::from_millis(2);

/// The most of it: a computing neighbour then costs its slice of 3 ms in this time.
const NAPPING_MOST: Nanos = Nanos::from_millis(256);

/// So many short yields in a row, and long ones count from the beginning again.
const SHORT_ROW: u32 = 1000;

/// What to do instead of spinning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pause {
    /// Leave the processor to whoever waits for it.
    Yield,
    /// Sleep until something completes, for a short time at most.
    Nap,
}

/// What one thread has found out about its processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    nap_until: Nanos,
    next_napping: Nanos,
    short_row: u32,
}

impl Pauses {
    pub(super) fn new() -> Pauses {
        Pauses {
            nap_until: Nanos(0),
            next_napping: NAPPING_FIRST,
            short_row: 0,
        }
    }

    /// What to do at the moment `now`.
    #[inline]
    pub(super) fn choose(&self, now: Nanos) -> Pause {
        match now < self.nap_until {
            true => Pause::Nap,
            false => Pause::Yield,
        }
    }

    /// Learns from a yield.
    #[inline]
    pub(super) fn yielded(&mut self, from: Nanos, to: Nanos) {
        if to.since(from) > LONG {
            self.nap_until = to.after(self.next_napping);
            self.next_napping = Nanos(self.next_napping.0 * 2).min(NAPPING_MOST);
            self.short_row = 0;
        } else if self.short_row < SHORT_ROW {
            self.short_row += 1;
        } else {
            self.next_napping = NAPPING_FIRST;
        }
    }
}

impl LocalDevices {
    /// Waits a moment for the devices, after a turn that found nothing to do while they had something: the processor
    /// is left to whoever waits for it, and among them are kernel threads that complete our own writes.
    ///
    /// `examples/idle.rs`, 4 KiB random writes to ext4 with O_DIRECT, thousands of operations a second, median of three
    /// windows, the ways taking turns; two processors which nobody else uses, and the same with a thread that computes
    /// on the reactor's:
    ///
    /// | blocks, depth     | spin  | yield | nap   | this  | spin | yield | nap   | this  |
    /// |-------------------|-------|-------|-------|-------|------|-------|-------|-------|
    /// | overwritten, 1    |  67   |  69   |  48   |  70   |  23  |  0.3  |  26   |  33   |
    /// | overwritten, 32   | 182   | 185   | 179   | 183   |  59  |  9    | 122   | 116   |
    /// | never written, 1  |  49   |  49   |  43   |  52   |  24  |  0.3  |  33   |  34   |
    /// | never written, 32 | 118   | 108   | 117   | 126   |  45  |  10   |  89   |  89   |
    /// | durable, 1        |   0.3 |  38   |  25   |  39   |  0.1 |  0.3  |  22   |  20   |
    /// | durable, 32       | 127   | 137   | 133   | 125   |  61  |  9    | 114   | 112   |
    ///
    /// Asking the scheduler for slices of 0.1 ms (sched_setattr, Linux 6.12) did not help the spinner: its slice is
    /// looked at by the tick only.
    ///
    /// What completed meanwhile ends it before it begins.
    #[inline]
    pub fn pause(&mut self) {
        if !self.waits_for_something() || self.ring.has_completions() || !self.port.is_empty() {
            return;
        }
        let from = self.clock.now();
        match self.pauses.choose(from) {
            Pause::Yield => {
                affinity::yield_processor();
                self.pauses.yielded(from, self.clock.now());
                // So that the next turn finds it where it begins.
                self.ring.fetch();
            }
            Pause::Nap => self.nap(),
        }
    }

    /// Sleeps in the kernel until something completes, for [`NAP`] at most, if anything is in flight. New requests of
    /// guests wait that long at worst.
    pub fn nap(&mut self) {
        if self.waits_for_something() {
            self.ring.wait(Some(NAP));
        }
    }

    /// Whether a pause is of use: something is in flight, or bytes may come, and nothing is there to be told.
    fn waits_for_something(&self) -> bool {
        self.is_in_the_kernel() && !self.sockets.has_something_to_tell()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields that take `took` each, asked for every microsecond, from one moment to another; counts those made.
    fn run(pauses: &mut Pauses, from: Nanos, to: Nanos, took: Nanos) -> u32 {
        let (mut now, mut yields) = (from, 0);
        while now < to {
            match pauses.choose(now) {
                Pause::Yield => {
                    pauses.yielded(now, now.after(took));
                    now = now.after(took);
                    yields += 1;
                }
                Pause::Nap => now = now.after(Nanos::from_micros(10)),
            }
            now = now.after(Nanos::from_micros(1));
        }
        yields
    }

    #[test]
    fn alone_it_always_yields() {
        let mut pauses = Pauses::new();
        let yields = run(&mut pauses, Nanos(0), Nanos::from_millis(10), Nanos(400));
        assert!(yields > 7000, "{yields}");
    }

    #[test]
    fn a_computing_neighbour_is_let_in_ever_more_seldom() {
        let mut pauses = Pauses::new();
        let slice = Nanos::from_millis(3);
        let first = run(&mut pauses, Nanos(0), Nanos::from_secs(1), slice);
        assert!((5..=10).contains(&first), "{first}");
        let later = run(&mut pauses, Nanos::from_secs(10), Nanos::from_secs(20), slice);
        assert!((38..=41).contains(&later), "{later}");
    }

    #[test]
    fn a_neighbour_that_has_gone_is_forgotten() {
        let mut pauses = Pauses::new();
        run(&mut pauses, Nanos(0), Nanos::from_secs(5), Nanos::from_millis(3));
        run(&mut pauses, Nanos::from_secs(6), Nanos::from_secs(7), Nanos(400));
        assert_eq!(pauses.next_napping, NAPPING_FIRST);
        assert_eq!(pauses.choose(Nanos::from_secs(7)), Pause::Yield);
    }
}
