//! How often a front-end may connect and speak. Each attachment has a thread of its own, but they share the cores of the
//! control plane, the list of events and the locks of the door: a front-end that does nothing but talk takes them from
//! others. So what comes faster than that is taken later, never refused: it waits in the socket, and the front-end waits
//! with it.

use std::time::{Duration, Instant};

/// What a front-end may do in a second, in the long run. Ten times as much may come at once: a monitor that sets up 64 queues,
/// or gives all their interrupts another descriptor, is no storm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Messages of one attachment's front-ends.
    pub messages_per_s: u32,
    /// Connections to one attachment.
    pub connects_per_s: u32,
}

impl Rates {
    /// Messages: what nobody has complained of. Connections: one with its first messages takes a fraction of a millisecond of
    /// one core, so that a storm at this rate takes a few hundredths of it, and who restarts a guest again and again, or tries a
    /// monitor out a thousand times, is not kept waiting.
    pub const DEFAULT: Rates = Rates {
        messages_per_s: 1000,
        connects_per_s: 100,
    };
}

/// Seconds' worth of a rate that may come at once.
const AT_ONCE: u32 = 10;

/// The pace of one attachment in one thing (the "generic cell rate algorithm" of ITU-T I.371: a bucket without a clock).
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When the next one would be due if they came evenly.
    due: Instant,
    /// The one that comes next has been kept waiting.
    waits: bool,
    held: u64,
    held_last: Option<Instant>,
    second: Second,
}

/// What has come in the present second and in the one before.
#[derive(Debug)]
struct Second {
    begun: Instant,
    now: u64,
    before: u64,
}

/// What an operator sees of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PaceReport {
    /// In the last whole second.
    pub per_s: u64,
    /// What may come in a second in the long run.
    pub limit_per_s: u64,
    /// How often one was kept waiting.
    pub held: u64,
    /// When that was last.
    pub held_last: Option<Instant>,
    /// When this was written.
    pub of: Option<Instant>,
}

impl Pace {
    pub(super) fn new(per_s: u32, now: Instant) -> Pace {
        Pace {
            interval: Duration::from_secs(1) / per_s.max(1),
            due: now,
            waits: false,
            held: 0,
            held_last: None,
            second: Second {
                begun: now,
                now: 0,
                before: 0,
            },
        }
    }

    /// Whether one more may come now; if not, when.
    pub(super) fn ready(&mut self, now: Instant) -> Result<(), Instant> {
        let ahead = self.interval * (self.per_s() * AT_ONCE).saturating_sub(1);
        match self.due.checked_sub(ahead) {
            Some(at) if at > now => {
                self.waits = true;
                Err(at)
            }
            _ => Ok(()),
        }
    }

    /// One has come.
    pub(super) fn count(&mut self, now: Instant) {
        self.due = self.due.max(now) + self.interval;
        self.second.pass(now);
        self.second.now += 1;
        // Whether somebody had waited is known only now: before, nobody looked.
        if std::mem::take(&mut self.waits) {
            self.held += 1;
            self.held_last = Some(now);
        }
    }

    /// Nobody was there, however ready we were.
    pub(super) fn nobody(&mut self) {
        self.waits = false;
    }

    pub(super) fn report(&mut self, now: Instant) -> PaceReport {
        self.second.pass(now);
        PaceReport {
            per_s: self.second.before,
            limit_per_s: self.per_s().into(),
            held: self.held,
            held_last: self.held_last,
            of: Some(now),
        }
    }

    fn per_s(&self) -> u32 {
        (Duration::from_secs(1).as_nanos() / self.interval.as_nanos().max(1)) as u32
    }
}

impl PaceReport {
    /// How many came in the last second; a thread that sleeps does not write anew that there were none.
    pub fn recent(&self) -> u64 {
        let fresh = self.of.is_some_and(|of| of.elapsed() < Duration::from_secs(2));
        if fresh { self.per_s } else { 0 }
    }
}

impl Second {
    fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.begun).as_secs();
        if passed > 0 {
            self.before = if passed == 1 { self.now } else { 0 };
            self.now = 0;
            self.begun += Duration::from_secs(passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many come from `begin` on within some seconds, when they come as fast as they may.
    fn storm(pace: &mut Pace, begin: Instant, seconds: u64) -> u64 {
        let (mut now, end, mut came) = (begin, begin + Duration::from_secs(seconds), 0);
        loop {
            match pace.ready(now) {
                Ok(()) => {
                    pace.count(now);
                    came += 1;
                }
                Err(at) if at < end => now = at,
                Err(_) => return came,
            }
        }
    }

    #[test]
    fn ten_seconds_worth_comes_at_once_and_then_the_rate_counts() {
        let begin = Instant::now();
        let mut pace = Pace::new(10, begin);
        for _ in 0..100 {
            assert!(pace.ready(begin).is_ok());
            pace.count(begin);
        }
        assert!(pace.ready(begin).is_err());
        assert_eq!(pace.report(begin).held, 0, "nobody had to wait yet");
        assert_eq!(storm(&mut pace, begin, 5), 49);
        let later = begin + Duration::from_secs(5);
        assert_eq!(pace.report(later).held, 49);
        // What was used up comes back with time, and no more than that.
        assert_eq!(storm(&mut pace, begin + Duration::from_secs(3600), 1), 109);
    }

    #[test]
    fn an_even_pace_below_the_rate_is_never_held() {
        let begin = Instant::now();
        let mut pace = Pace::new(10, begin);
        for at in 0..1000 {
            let now = begin + Duration::from_millis(101) * at;
            assert!(pace.ready(now).is_ok());
            pace.count(now);
        }
        assert_eq!(pace.report(begin + Duration::from_secs(102)).held, 0);
    }

    #[test]
    fn who_only_looks_is_not_counted_as_waiting() {
        let begin = Instant::now();
        let mut pace = Pace::new(1, begin);
        (0..10).for_each(|_| pace.count(begin));
        assert!(pace.ready(begin).is_err());
        pace.nobody();
        pace.count(begin + Duration::from_secs(60));
        assert_eq!(pace.report(begin + Duration::from_secs(60)).held, 0);
    }

    #[test]
    fn the_last_whole_second_is_told() {
        let begin = Instant::now();
        let mut pace = Pace::new(1000, begin);
        (0..7).for_each(|_| pace.count(begin));
        assert_eq!(pace.report(begin).per_s, 0);
        assert_eq!(pace.report(begin + Duration::from_millis(1500)).per_s, 7);
        assert_eq!(pace.report(begin + Duration::from_millis(2500)).per_s, 0);
    }
}
