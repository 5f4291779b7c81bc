//! A front-end that keeps the threads waiting that serve others, too.
//!
//! A reactor touches the memory that a guest shares with us, and a page of it that is not there has to be waited for. How
//! long that takes is in the hands of whoever shares it: who punches gigabytes out of the file while they are in use makes
//! every fault in them wait until he is done, and nothing can be done about that from here. (A seal would forbid it,
//! F_SEAL_FUTURE_WRITE; but it would forbid balloons as well, and each later writable mapping, which the guest's other
//! devices need; and QEMU's files take no further seals.) So it is not prevented: the reactor serves whoever does it for a tenth
//! of its time at most, and who makes it wait for long at a time is shown the door.
//!
//! What an honest guest does comes nowhere near it. A balloon gives back pages that the guest does not use, and where
//! nobody touches what is punched nobody waits. Memory that the host has swapped out comes back piece by piece, and so does
//! memory in hugepages of 2 MiB that nobody has touched yet; a page of 1 GiB, though, takes a third of a second.

use palisade_block::limits::{LONG_STEPS_REMEMBERED, STALL_MIN, STALL_WINDOW, STALLS_MIN};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Nobody comes in for so long when a session has been cut off; each further time twice as long.
const HELD_OFF: Duration = Duration::from_secs(5);

/// The longest.
const HELD_OFF_MAX: Duration = Duration::from_secs(600);

/// When so much time has passed since somebody could come in again, the next time counts as the first.
const FORGIVEN: Duration = Duration::from_secs(3600);

/// What one attachment has done of that. It outlives sessions.
#[derive(Debug)]
pub(super) struct Stalls {
    /// What recent stalls may come to.
    most: Duration,
    /// The recent long steps.
    recent: VecDeque<LongStep>,
    /// How long nobody came in the last time.
    held_off: Duration,
    report: StallReport,
}

/// What a reactor did for it in one turn, when it took long.
#[derive(Clone, Copy, Debug)]
struct LongStep {
    told: Instant,
    held: Duration,
    waited: Duration,
}

/// What an operator sees of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StallReport {
    /// Steps of a reactor that took long.
    pub count: u64,
    /// When the last one was told.
    pub last: Option<Instant>,
    /// The longest time that one took.
    pub longest: Duration,
    /// What those within ten seconds until the last one took together.
    pub lately: Duration,
    /// How often a session was cut off for it.
    pub cut_off: u64,
    /// Until when nobody comes in, after the last of these.
    pub held_off_until: Option<Instant>,
}

impl Stalls {
    pub(super) fn new(most: Duration) -> Stalls {
        Stalls {
            most,
            recent: VecDeque::new(),
            held_off: Duration::ZERO,
            report: StallReport::default(),
        }
    }

    /// What a reactor did for it took long. Why the session is to be cut off, if it is.
    pub(super) fn add(&mut self, held: Duration, waited: Duration, now: Instant) -> Option<String> {
        let is_old = |at: Instant| now.saturating_duration_since(at) > STALL_WINDOW.duration();
        while self.recent.front().is_some_and(|step| is_old(step.told))
            || self.recent.len() >= LONG_STEPS_REMEMBERED
        {
            self.recent.pop_front();
        }
        let told = now;
        self.recent.push_back(LongStep { told, held, waited });
        self.report.count += 1;
        self.report.last = Some(now);
        self.report.longest = self.report.longest.max(held);
        self.report.lately = self.recent.iter().map(|step| step.held).sum();
        // What was begun by then still comes to its end.
        if self.held_off_until(now).is_some() {
            self.recent.clear();
            return None;
        }
        let waits = self.recent.iter().map(|step| step.waited);
        let stalls = waits.filter(|waited| *waited >= STALL_MIN.duration());
        let (count, sum) = stalls.fold((0, Duration::ZERO), |(count, sum), stall| {
            (count + 1, sum + stall)
        });
        if count < STALLS_MIN || sum <= self.most {
            return None;
        }
        self.recent.clear();
        let held_off = self.hold_off(now);
        Some(format!(
            "the guest's memory has kept a reactor waiting {count} times within {} s, for {} ms in all: it is cut off, and \
             nobody may connect for {} s",
            STALL_WINDOW.duration().as_secs(),
            sum.as_millis(),
            held_off.as_secs()
        ))
    }

    /// Until when nobody comes in, if that has not passed.
    pub(super) fn held_off_until(&self, now: Instant) -> Option<Instant> {
        self.report.held_off_until.filter(|until| *until > now)
    }

    pub(super) fn report(&self) -> StallReport {
        self.report
    }

    fn hold_off(&mut self, now: Instant) -> Duration {
        let before = self.report.held_off_until;
        let again = before.is_some_and(|until| now.saturating_duration_since(until) < FORGIVEN);
        self.held_off = match again {
            true => (self.held_off * 2).min(HELD_OFF_MAX),
            false => HELD_OFF,
        };
        self.report.cut_off += 1;
        self.report.held_off_until = Some(now + self.held_off);
        self.held_off
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_block::limits::STALLED_MAX;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_twentieth_of_the_time_is_left_to_everybody() {
        let (mut stalls, begin) = (Stalls::new(STALLED_MAX.duration()), Instant::now());
        // 100 ms in each 2.01 s, for half an hour.
        for at in 0..1000 {
            assert_eq!(stalls.add(ms(100), ms(100), begin + ms(2010) * at), None);
        }
        let report = stalls.report();
        assert_eq!((report.count, report.cut_off), (1000, 0));
        assert_eq!(report.longest, ms(100));
    }

    #[test]
    fn who_takes_more_is_cut_off_and_told_why() {
        let (mut stalls, begin) = (Stalls::new(STALLED_MAX.duration()), Instant::now());
        assert_eq!(stalls.add(ms(5000), ms(5000), begin), None, "one may be chance");
        let reason = stalls.add(ms(120), ms(120), begin + ms(100)).unwrap();
        assert!(reason.contains("2 times within 10 s, for 5120 ms"), "{reason}");
        assert!(reason.contains("nobody may connect for 5 s"), "{reason}");
        let now = begin + ms(100);
        assert_eq!(stalls.held_off_until(now), Some(now + HELD_OFF));
        assert_eq!(stalls.held_off_until(now + HELD_OFF), None);
    }

    #[test]
    fn stalls_are_added_up_and_shorter_waits_are_not() {
        let (mut stalls, begin) = (Stalls::new(STALLED_MAX.duration()), Instant::now());
        let stall = STALL_MIN.duration();
        let mut cut_off = |waited: Duration| {
            let mut times = 0..90;
            times.find(|at| stalls.add(stall, waited, begin + ms(110) * *at).is_some())
        };
        assert_eq!(cut_off(stall - Duration::from_nanos(1)), None);
        assert_eq!(cut_off(stall), Some(5));
    }

    #[test]
    fn work_however_long_is_told_and_cuts_nobody_off() {
        let (mut stalls, begin) = (Stalls::new(STALLED_MAX.duration()), Instant::now());
        for at in 0..20 {
            assert_eq!(stalls.add(ms(200), Duration::ZERO, begin + ms(2000) * at), None);
        }
        let report = stalls.report();
        assert_eq!((report.count, report.cut_off), (20, 0));
        assert_eq!((report.longest, report.lately), (ms(200), ms(1200)));
    }

    #[test]
    fn what_still_comes_of_a_session_that_was_cut_off_is_not_held_against_the_next() {
        let (mut stalls, begin) = (Stalls::new(STALLED_MAX.duration()), Instant::now());
        (0..2).for_each(|_| drop(stalls.add(ms(900), ms(900), begin)));
        for at in 0..100 {
            assert_eq!(stalls.add(ms(900), ms(900), begin + ms(40) * at), None);
        }
        let report = stalls.report();
        assert_eq!((report.count, report.cut_off), (102, 1));
        assert_eq!(
            stalls.add(ms(900), ms(900), begin + ms(5001)),
            None,
            "it begins anew"
        );
    }

    #[test]
    fn each_time_it_is_kept_out_for_longer_until_an_hour_was_good() {
        let (mut stalls, mut now) = (Stalls::new(STALLED_MAX.duration()), Instant::now());
        let mut cut_off = |after: Duration| {
            now += after;
            assert_eq!(stalls.add(ms(900), ms(900), now), None);
            stalls.add(ms(900), ms(900), now).unwrap();
            let held_off = stalls.held_off_until(now).unwrap() - now;
            now += held_off;
            held_off.as_secs()
        };
        let often: Vec<u64> = (0..9).map(|_| cut_off(ms(1))).collect();
        assert_eq!(often, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(cut_off(FORGIVEN - ms(1)), 600);
        assert_eq!(cut_off(FORGIVEN), 5);
    }
}
