//! Whether this node's clock goes as fast as those of others. Leases count on that: a clock that stands still would hold one for ever.

use crate::times::with_drift;
use crate::voter_sets::VoterSets;
use palisade_block::Nanos;
use palisade_words::Uuid;
use std::collections::BTreeMap;

/// Over so long clocks are compared at most; then the comparison begins anew, so that one bad hour of the past does not count
/// for ever.
const WINDOW: Nanos = Nanos::from_secs(600);

/// What the clocks of others say of one's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockRate {
    /// Nothing stands against it.
    Kept,
    /// A majority of the voters says that its rate is outside of the bound: it is this one that is off.
    Off,
}

/// One look at another node's clock.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Between these of one's own the other one was read.
    own: (Nanos, Nanos),
    /// What it was.
    other: Nanos,
}

#[derive(Clone, Copy, Debug)]
struct Compared {
    first: Look,
    is_off: bool,
}

/// The comparison with each voter.
#[derive(Clone, Debug)]
pub struct ClockWatch {
    drift_ppm: u32,
    voters: BTreeMap<Uuid, Compared>,
}

impl ClockWatch {
    /// Clocks may differ by so many millionths.
    pub fn new(drift_ppm: u32) -> ClockWatch {
        ClockWatch {
            drift_ppm,
            voters: BTreeMap::new(),
        }
    }

    /// A voter's clock stood at `other` some time between two moments of one's own.
    pub fn seen(&mut self, voter: Uuid, own: (Nanos, Nanos), other: Nanos) {
        let look = Look { own, other };
        let fresh = Compared {
            first: look,
            is_off: false,
        };
        let drift_ppm = self.drift_ppm;
        let compared = self.voters.entry(voter).or_insert(fresh);
        let passed = own.1.since(compared.first.own.0);
        // A clock that has gone back is another run of that node's.
        if other < compared.first.other || passed > WINDOW {
            *compared = Compared {
                is_off: compared.is_off && other >= compared.first.other,
                ..fresh
            };
            return;
        }
        let other = other.since(compared.first.other);
        let (least, most) = (own.0.since(compared.first.own.1), passed);
        compared.is_off = other > with_drift(most, drift_ppm) || with_drift(other, drift_ppm) < least;
    }

    /// What a majority of the voters says.
    pub fn judge(&self, voters: &VoterSets) -> ClockRate {
        let is_off = |voter: Uuid| self.voters.get(&voter).is_some_and(|compared| compared.is_off);
        match voters.has_majority(is_off) {
            true => ClockRate::Off,
            false => ClockRate::Kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const MS: u64 = 1_000_000;

    /// Looks at three voters each 100 ms for so long, each answer 1 ms after its question. How fast theirs go in millionths of
    /// one's own.
    fn after(seconds: u64, ppm: [u64; 3]) -> ClockRate {
        let mut watch = ClockWatch::new(1000);
        for look in 0..seconds * 10 {
            let own = look * 100 * MS;
            for (voter, ppm) in (1..).zip(ppm) {
                let other = 77 + (own + MS / 2) / 1000 * ppm / 1000;
                watch.seen(Uuid(voter), (Nanos(own), Nanos(own + MS)), Nanos(other));
            }
        }
        let all: BTreeSet<Uuid> = (1..=3).map(Uuid).collect();
        watch.judge(&VoterSets::uniform(1, all))
    }

    #[test]
    fn a_clock_within_the_bound_is_never_off() {
        assert_eq!(after(1500, [1_000_000, 1_000_900, 999_100]), ClockRate::Kept);
    }

    #[test]
    fn a_clock_outside_of_it_is_off_when_a_majority_says_so() {
        assert_eq!(
            after(60, [1_002_000, 1_002_000, 1_000_000]),
            ClockRate::Off,
            "slower than others"
        );
        assert_eq!(
            after(60, [1_000_000, 998_000, 998_000]),
            ClockRate::Off,
            "faster than others"
        );
        assert_eq!(
            after(60, [1_000_000, 1_000_000, 2_000_000]),
            ClockRate::Kept,
            "it is the other one"
        );
        assert_eq!(
            after(60, [2_000_000, 1_000_000, 500_000]),
            ClockRate::Off,
            "no two agree with it"
        );
    }

    #[test]
    fn what_cannot_be_told_from_a_slow_answer_is_not_held_against_it() {
        assert_eq!(after(1, [1_000_900, 1_000_900, 1_000_900]), ClockRate::Kept);
        let mut watch = ClockWatch::new(0);
        watch.seen(Uuid(1), (Nanos(0), Nanos(10 * MS)), Nanos(5 * MS));
        watch.seen(Uuid(1), (Nanos(100 * MS), Nanos(140 * MS)), Nanos(130 * MS));
        let one = VoterSets::uniform(1, [Uuid(1)].into());
        assert_eq!(watch.judge(&one), ClockRate::Kept);
        watch.seen(Uuid(1), (Nanos(150 * MS), Nanos(150 * MS)), Nanos(156 * MS));
        assert_eq!(watch.judge(&one), ClockRate::Off);
        watch.seen(Uuid(1), (Nanos(200 * MS), Nanos(200 * MS)), Nanos(MS));
        assert_eq!(watch.judge(&one), ClockRate::Kept, "it has started anew");
    }
}
