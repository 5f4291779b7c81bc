//! When a reactor may sleep.
//!
//! Waking costs about 1 us of processor time and 3.5 us of latency (measured with a kick and with a completion).
//! Polling on is worth it where work follows work sooner than that, or where the devices are seldom left without
//! anything to do, and not for long: a guest that waits for each answer before it asks again. Otherwise a reactor
//! sleeps at its first turn without work: at a tenth of the load qemu-storage-daemon can carry, polling for 50 us after
//! each request took three times its processor time, sleeping at once takes half.

use palisade_block::Nanos;

/// Mean time from work to work below which a reactor polls on.
const SHORT_GAP_NS: u64 = 7_000;

/// The same while the devices always have something to do. Where they are slower than that, or asked more seldom,
/// waking is too small a part of a request's time to be worth a core.
const FAIR_GAP_NS: u64 = 50_000;

/// The longest gap that counts, so that a burst after a long rest is soon known for what it is.
const GAP_MAX_NS: u64 = 100_000;

/// The mean is taken over about so many gaps.
const GAPS: u64 = 32;

/// How long the devices are watched before it is judged whether they have always something to do.
const WATCHED: Nanos = Nanos::from_millis(4);

/// Mean time without anything to do that does not count as a rest. What a reactor's own sleep adds to it must not make
/// a rest of it, or who sleeps would go on sleeping.
const NO_REST_NS: u64 = 10_000;

/// While the devices always have something to do it polls on for so many times as long: they are at it, only slower.
const PATIENCE: u64 = 4;

/// How a reactor behaves when it has nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdlePolicy {
    /// It never sleeps: lowest latency, one core at 100 %.
    AlwaysPoll,
    /// While busy it sleeps after this long without work, otherwise at once; the first kick or completion wakes it.
    Adaptive {
        /// Time without work before it sleeps while it is busy; four times that while its devices are at work.
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

/// Whether anything is in flight on a device, and how long nothing is.
#[derive(Clone, Debug)]
struct Flight {
    since: Nanos,
    in_flight: bool,
    /// Times without anything in flight that have ended, and their sum with the present one up to `last`.
    rests: u64,
    resting: Nanos,
    last: Nanos,
    /// There were no real rests in the time last watched.
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
                in_flight: false,
                rests: 0,
                resting: Nanos(0),
                last: now,
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
        let patience = match self.flight.nearly_always && in_flight {
            true => PATIENCE,
            false => 1,
        };
        match self.is_busy() && (work != 0 || gap.0 < after.0.saturating_mul(patience)) {
            true => Next::Turn,
            false => Next::Sleep,
        }
    }

    /// Orders were carried out: they may have brought work.
    pub fn ordered(&mut self, now: Nanos) {
        self.last_work = now;
    }

    fn is_busy(&self) -> bool {
        let short = match self.flight.nearly_always {
            true => FAIR_GAP_NS,
            false => SHORT_GAP_NS,
        };
        self.gaps < short * GAPS
    }
}

impl Flight {
    #[inline]
    fn note(&mut self, in_flight: bool, now: Nanos) {
        if !self.in_flight {
            self.resting = self.resting.after(now.since(self.last));
            self.rests += u64::from(in_flight);
        }
        self.in_flight = in_flight;
        self.last = now;
        if now.since(self.since) >= WATCHED {
            self.nearly_always = self.resting.0 <= self.rests * NO_REST_NS;
            self.since = now;
            self.rests = 0;
            self.resting = Nanos(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request every `gap` ns for `times` times, in flight for `flight` ns of each; turns are 100 ns apart and a sleep
    /// ends with the next work. The share of requests during or after which it went to sleep.
    fn sleeps(idle: &mut Idle, from: u64, gap: u64, flight: u64, times: u64) -> f64 {
        let mut slept = 0;
        for request in 0..times {
            let at = from + request * gap;
            let mut poll = |from: u64, to: u64, in_flight: bool| {
                idle.after_turn(1, in_flight, Nanos(from));
                (from + 100..to)
                    .step_by(100)
                    .any(|now| idle.after_turn(0, in_flight, Nanos(now)) == Next::Sleep)
            };
            let waited = flight > 0 && poll(at, at + flight, true);
            let rested = poll(at + flight, at + gap, false);
            slept += u64::from(waited || rested);
        }
        slept as f64 / times as f64
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
        assert_eq!(idle.after_turn(0, true, Nanos(from + 25_300_000)), Next::Sleep);
    }

    #[test]
    fn sleeping_does_not_make_a_rest_of_a_guest_that_asks_again_at_once() {
        let mut idle = adaptive();
        // It asks 1 us after the answer; the kick wakes the reactor 5 us later.
        sleeps(&mut idle, 0, 21_000, 15_000, 400);
        assert_eq!(sleeps(&mut idle, 21_000 * 400, 16_000, 15_000, 500), 0.0);
        // It stops to think.
        sleeps(&mut idle, 30_000_000, 45_000, 15_000, 400);
        assert_eq!(sleeps(&mut idle, 60_000_000, 45_000, 15_000, 400), 1.0);
    }

    #[test]
    fn a_slow_device_with_much_to_do_is_slept_for() {
        let mut idle = adaptive();
        // Ten requests in flight, each for a millisecond.
        let mut slept = 0;
        for at in (0..100_000_000).step_by(100_000) {
            slept += u32::from(idle.after_turn(1, true, Nanos(at)) == Next::Sleep);
        }
        assert_eq!(slept, 1000);
    }

    #[test]
    fn a_device_that_lags_is_waited_for_a_little_longer() {
        let mut idle = adaptive();
        sleeps(&mut idle, 0, 16_000, 15_200, 1000);
        let last = 16_000 * 999 + 15_200;
        assert_eq!(idle.after_turn(0, true, Nanos(last + 199_000)), Next::Turn);
        assert_eq!(idle.after_turn(0, true, Nanos(last + 201_000)), Next::Sleep);
        assert_eq!(idle.after_turn(0, false, Nanos(last + 202_000)), Next::Sleep);
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
    fn it_is_busy_below_the_mean_gap_set_and_not_at_it() {
        for (nearly_always, gap) in [(false, SHORT_GAP_NS), (true, FAIR_GAP_NS)] {
            let mut idle = adaptive();
            idle.flight.nearly_always = nearly_always;
            idle.gaps = gap * GAPS;
            assert!(idle.sleeps_at_once());
            idle.gaps -= 1;
            assert!(!idle.sleeps_at_once());
        }
    }

    #[test]
    fn it_is_patient_only_while_devices_that_always_work_are_at_it() {
        for (nearly_always, in_flight, times) in [
            (false, false, 1),
            (false, true, 1),
            (true, false, 1),
            (true, true, 4),
        ] {
            let mut idle = adaptive();
            (idle.gaps, idle.flight.nearly_always) = (0, nearly_always);
            let last = Nanos(times * 50_000 - 1);
            assert_eq!(idle.after_turn(0, in_flight, last), Next::Turn);
            let ended = Nanos(times * 50_000);
            assert_eq!(idle.after_turn(0, in_flight, ended), Next::Sleep);
            assert_eq!(idle.after_turn(1, in_flight, ended), Next::Turn, "there was work");
        }
    }

    #[test]
    fn a_gap_counts_for_one_in_32_and_none_for_more_than_the_longest() {
        let mut idle = adaptive();
        assert_eq!(idle.gaps, 3_200_000);
        idle.after_turn(1, false, Nanos(1_000));
        assert_eq!(idle.gaps, 3_101_000);
        idle.after_turn(0, false, Nanos(2_000));
        assert_eq!(idle.gaps, 3_101_000, "there was no work");
        idle.after_turn(1, false, Nanos(4_000));
        assert_eq!(idle.gaps, 3_101_000 - 96_906 + 3_000);
        let before = idle.gaps;
        idle.after_turn(1, false, Nanos(9_000_000));
        assert_eq!(idle.gaps, before - before / 32 + 100_000);
    }

    #[test]
    fn orders_count_as_work() {
        let mut idle = adaptive();
        idle.gaps = 0;
        idle.ordered(Nanos(1_000_000));
        assert_eq!(idle.after_turn(0, false, Nanos(1_049_999)), Next::Turn);
        assert_eq!(idle.after_turn(0, false, Nanos(1_050_000)), Next::Sleep);
    }

    /// Lets nothing be in flight for these spans, half a millisecond apart, in a time of 4 ms.
    fn watch(flight: &mut Flight, from: u64, rests: &[u64]) -> bool {
        let before = flight.nearly_always;
        for (number, rest) in (0..).zip(rests) {
            let at = from + 500_000 * number + 1;
            flight.note(false, Nanos(at));
            flight.note(false, Nanos(at + rest / 2));
            flight.note(true, Nanos(at + rest));
        }
        flight.note(true, Nanos(from + 3_999_999));
        assert_eq!(flight.nearly_always, before, "it is judged after the whole time");
        flight.note(true, Nanos(from + 4_000_000));
        flight.nearly_always
    }

    #[test]
    fn rests_of_ten_microseconds_in_the_mean_are_none() {
        let mut flight = adaptive().flight;
        flight.in_flight = true;
        for (number, (rests, nearly_always)) in (0..).zip([
            (&[10_000, 10_000][..], true),
            (&[10_000, 10_001], false),
            (&[5_000, 15_000], true),
            (&[], true),
            (&[10_001], false),
            (&[10_000], true),
            (&[1, 1, 30_000], false),
            (&[1, 1, 29_998], true),
            (&[20_000], false),
            (&[9_999], true),
        ]) {
            assert_eq!(
                watch(&mut flight, 4_000_000 * number, rests),
                nearly_always,
                "{rests:?}"
            );
        }
        // One that has not ended yet is the longest of all.
        flight.note(false, Nanos(40_000_001));
        flight.note(false, Nanos(44_000_000));
        assert!(!flight.nearly_always);
    }

    #[test]
    fn always_poll_never_sleeps() {
        let mut idle = Idle::new(IdlePolicy::AlwaysPoll, Nanos(0));
        assert_eq!(idle.after_turn(0, false, Nanos(u64::MAX)), Next::Turn);
        assert!(!idle.may_sleep() && !idle.sleeps_at_once());
    }
}
