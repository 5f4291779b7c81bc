//! When a reactor may sleep.
//!
//! Waking costs about 1 us of processor time and 3.5 us of latency (measured with a kick and with a completion).
//! Polling on is worth it where work follows work sooner than that, or where a device has had something to
//! do nearly all the time, as with a guest that waits for each answer before it asks again. Otherwise a reactor sleeps
//! at its first turn without work: at a tenth of the load qemu-storage-daemon can carry, polling for 50 us after each
//! request took three times its processor time, sleeping at once takes less than half.

use palisade_block::Nanos;

/// Mean time from work to work below which a reactor polls on.
const SHORT_GAP_NS: u64 = 7_000;

/// The longest gap that counts, so that a burst after a long rest is soon known for what it is.
const GAP_MAX_NS: u64 = 100_000;

/// The mean is taken over about so many gaps.
const GAPS: u64 = 32;

/// How long the devices' share of the time is watched before it is judged.
const WATCHED: Nanos = Nanos::from_millis(4);

/// How a reactor behaves when it has nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdlePolicy {
    /// It never sleeps: lowest latency, one core at 100 %.
    AlwaysPoll,
    /// While busy it sleeps after this long without work, otherwise at once; the first kick or completion wakes it.
    Adaptive {
        /// Time without work before it sleeps while it is busy.
        after: Nanos,
    },
}

/// What to do after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Take the next turn at once.
    Turn,
    /// Arm every source, and sleep if none has work; wake at the given time at the latest.
    Sleep,
}

/// Watches the turns of one reactor and decides when to sleep.
#[derive(Clone, Debug)]
pub struct Idle {
    policy: IdlePolicy,
    last_work: Nanos,
    /// The mean gap from work to work, ns times [`GAPS`].
    gaps: u64,
    flight: Flight,
}

/// How much of the time anything is in flight on a device.
#[derive(Clone, Debug)]
struct Flight {
    since: Nanos,
    last: Nanos,
    in_flight: bool,
    taken: Nanos,
    /// Fifteen sixteenths of the time last watched, or more.
    nearly_always: bool,
}

impl Idle {
    /// Starts as if there had just been work, after a long rest.
    pub fn new(policy: IdlePolicy, now: Nanos) -> Idle {
        Idle {
            policy,
            last_work: now,
            gaps: GAP_MAX_NS * GAPS,
            flight: Flight {
                since: now,
                last: now,
                in_flight: false,
                taken: Nanos(0),
                nearly_always: false,
            },
        }
    }

    /// Whether it ever sleeps.
    pub fn may_sleep(&self) -> bool {
        self.policy != IdlePolicy::AlwaysPoll
    }

    /// Whether it would sleep at the next occasion.
    #[inline]
    pub fn sleeps_at_once(&self) -> bool {
        self.may_sleep() && !self.is_busy()
    }

    /// After a turn that did `work` things and left requests in flight or not.
    #[inline]
    pub fn after_turn(&mut self, work: usize, in_flight: bool, now: Nanos) -> Next {
        let IdlePolicy::Adaptive { after } = self.policy else {
            return Next::Turn;
        };
        self.flight.note(in_flight, now);
        let gap = now.since(self.last_work);
        if work != 0 {
            self.gaps = self.gaps - self.gaps / GAPS + gap.0.min(GAP_MAX_NS);
            self.last_work = now;
        }
        match self.is_busy() && (work != 0 || gap < after) {
            true => Next::Turn,
            false => Next::Sleep,
        }
    }

    /// Orders were carried out: they may have brought work.
    pub fn ordered(&mut self, now: Nanos) {
        self.last_work = now;
    }

    fn is_busy(&self) -> bool {
        self.gaps < SHORT_GAP_NS * GAPS || self.flight.nearly_always
    }
}

impl Flight {
    #[inline]
    fn note(&mut self, in_flight: bool, now: Nanos) {
        if self.in_flight {
            self.taken = self.taken.after(now.since(self.last));
        }
        self.in_flight = in_flight;
        self.last = now;
        let watched = now.since(self.since);
        if watched >= WATCHED {
            self.nearly_always = self.taken.0 >= watched.0 - watched.0 / 16;
            self.since = now;
            self.taken = Nanos(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Work every `gap` ns for `times` times, in flight for `flight` ns of each; turns are 100 ns apart and a sleep
    /// ends with the next work. The share of empty turns after which it went to sleep.
    fn sleeps(idle: &mut Idle, from: u64, gap: u64, flight: u64, times: u64) -> f64 {
        let (mut slept, mut rounds) = (0, 0);
        for work in 0..times {
            let at = from + work * gap;
            idle.after_turn(1, flight > 0, Nanos(at));
            rounds += 1;
            for empty in (100..gap).step_by(100) {
                if idle.after_turn(0, empty < flight, Nanos(at + empty)) == Next::Sleep {
                    slept += 1;
                    break;
                }
            }
        }
        f64::from(slept) / f64::from(rounds)
    }

    fn adaptive() -> Idle {
        let after = Nanos::from_micros(50);
        Idle::new(IdlePolicy::Adaptive { after }, Nanos(0))
    }

    #[test]
    fn what_comes_seldom_is_slept_for_at_once() {
        assert_eq!(sleeps(&mut adaptive(), 0, 11_000, 0, 1000), 1.0);
        assert_eq!(sleeps(&mut adaptive(), 0, 60_000, 15_000, 1000), 1.0);
    }

    #[test]
    fn what_follows_at_once_is_polled_for() {
        let mut idle = adaptive();
        sleeps(&mut idle, 0, 600, 0, 200);
        assert_eq!(sleeps(&mut idle, 120_000, 600, 0, 1000), 0.0);
        // A pause ends it, after the time set.
        let last = 120_000 + 999 * 600;
        assert_eq!(idle.after_turn(0, false, Nanos(last + 49_900)), Next::Turn);
        assert_eq!(idle.after_turn(0, false, Nanos(last + 50_100)), Next::Sleep);
    }

    #[test]
    fn a_device_that_always_works_is_polled() {
        let mut idle = adaptive();
        // One request after the other, 15.2 us each, and the guest asks again within 1 us.
        sleeps(&mut idle, 0, 16_000, 15_200, 1000);
        assert_eq!(sleeps(&mut idle, 16_000_000, 16_000, 15_200, 500), 0.0);
        // A slow device is slept for all the same.
        let from = 40_000_000;
        sleeps(&mut idle, from, 5_000_000, 4_990_000, 5);
        assert_eq!(idle.after_turn(0, true, Nanos(from + 24_000_000)), Next::Sleep);
    }

    #[test]
    fn a_rest_is_soon_forgotten_and_soon_noticed() {
        let mut idle = adaptive();
        assert!(sleeps(&mut idle, 0, 600, 0, 200) < 0.6);
        sleeps(&mut idle, 1_000_000, 11_000, 0, 100);
        assert_eq!(sleeps(&mut idle, 3_000_000, 11_000, 0, 100), 1.0);
    }

    #[test]
    fn it_goes_to_sleep_right_after_work_unless_it_is_busy() {
        let mut idle = adaptive();
        assert!(idle.sleeps_at_once());
        assert_eq!(idle.after_turn(1, true, Nanos(50_000)), Next::Sleep);
        sleeps(&mut idle, 60_000, 600, 0, 200);
        assert!(!idle.sleeps_at_once());
        assert_eq!(idle.after_turn(1, true, Nanos(180_000)), Next::Turn);
    }

    #[test]
    fn always_poll_never_sleeps() {
        let mut idle = Idle::new(IdlePolicy::AlwaysPoll, Nanos(0));
        assert_eq!(idle.after_turn(0, false, Nanos(u64::MAX)), Next::Turn);
        assert!(!idle.may_sleep() && !idle.sleeps_at_once());
    }
}
