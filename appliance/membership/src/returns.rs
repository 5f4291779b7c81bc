//! Who is taken back: a node that was evicted and is heard again.
//!
//! It has to be heard without a silence for as long as a lease lasts, so that what it was told before has ended. One that is evicted
//! again and again is taken back later and later: it disturbs the others each time.
//!
//! ```text
//!   evicted -- heard --> unbroken for `wait` --> taken back        wait:  the end of a lease, at first
//!                                                                         doubled with each eviction, up to LONGEST
//!                                                                         as at first after CALM without one
//! ```

use crate::times::LeaseTimes;
use palisade_block::Nanos;
use palisade_words::Uuid;
use std::collections::{BTreeMap, BTreeSet};

/// Nobody waits longer than this.
pub const RETURN_LONGEST: Nanos = Nanos::from_secs(60);

/// A node that was a member for so long without being evicted is taken back as soon as the first time.
pub const RETURN_CALM: Nanos = Nanos::from_secs(600);

/// What is remembered of evictions.
#[derive(Clone, Debug, Default)]
pub struct Returns {
    nodes: BTreeMap<Uuid, Evicted>,
}

#[derive(Clone, Copy, Debug)]
struct Evicted {
    /// Since when it is evicted, or a member again.
    at: Nanos,
    /// It is evicted now.
    is_out: bool,
    /// Evictions, one soon after the other, before this one.
    before: u32,
}

impl Returns {
    /// These are evicted, as was agreed on.
    pub fn evicted_are(&mut self, evicted: &BTreeSet<Uuid>, now: Nanos) {
        self.nodes.retain(|node, known| {
            if known.is_out && !evicted.contains(node) {
                (known.is_out, known.at) = (false, now);
            }
            known.is_out || now.since(known.at) < RETURN_CALM
        });
        for node in evicted {
            let known = self.nodes.entry(*node).or_insert(Evicted {
                at: now,
                is_out: true,
                before: 0,
            });
            if !known.is_out {
                *known = Evicted {
                    at: now,
                    is_out: true,
                    before: known.before.saturating_add(1),
                };
            }
        }
    }

    /// How long an evicted node has to be heard before it is taken back.
    pub fn wait(&self, node: Uuid, times: &LeaseTimes) -> Nanos {
        let before = self.nodes.get(&node).map_or(0, |known| known.before);
        let wait = times.ended_after().0.saturating_mul(1 << before.min(16));
        Nanos(wait.min(RETURN_LONGEST.0))
    }

    /// Who is to be taken back, of those that are evicted. `unbroken_since` says since when a node is heard without a silence.
    pub fn due(
        &self,
        times: &LeaseTimes,
        unbroken_since: impl Fn(Uuid) -> Option<Nanos>,
        now: Nanos,
    ) -> BTreeSet<Uuid> {
        let is_due = |node: &Uuid, known: &Evicted| {
            // What was heard before the eviction is no sign of life after it.
            let since = unbroken_since(*node).map(|since| since.max(known.at));
            since.is_some_and(|since| now.since(since) >= self.wait(*node, times))
        };
        let out = self.nodes.iter().filter(|(_, known)| known.is_out);
        out.filter(|(node, known)| is_due(node, known))
            .map(|(node, _)| *node)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Uuid = Uuid(7);

    fn set(nodes: &[Uuid]) -> BTreeSet<Uuid> {
        nodes.iter().copied().collect()
    }

    /// The first moment, to the millisecond, at which a node is taken back that is heard since then.
    fn taken_back(returns: &Returns, since: Nanos) -> u64 {
        let times = LeaseTimes::default();
        let is_due = |ms: &u64| {
            let now = Nanos::from_millis(*ms);
            let heard = |node| (node == NODE && since <= now).then_some(since);
            returns.due(&times, heard, now) == set(&[NODE])
        };
        (0..200_000).find(is_due).unwrap()
    }

    #[test]
    fn who_is_heard_as_long_as_a_lease_lasts_is_taken_back() {
        let mut returns = Returns::default();
        let at = Nanos::from_millis(1000);
        returns.evicted_are(&set(&[NODE]), at);
        assert_eq!(taken_back(&returns, Nanos::from_millis(5000)), 5601);
        // It was heard all the time, by this node: it counts from the eviction on.
        assert_eq!(taken_back(&returns, Nanos::from_millis(10)), 1601);
        let times = LeaseTimes::default();
        let nobody = returns.due(&times, |_| None, Nanos::from_secs(100));
        assert!(nobody.is_empty(), "who is not heard stays out");
        returns.evicted_are(&set(&[]), Nanos::from_secs(3));
        let due = returns.due(&times, |_| Some(Nanos(0)), Nanos::from_secs(100));
        assert!(due.is_empty(), "who is a member is not taken back");
    }

    /// A node that comes and goes has the others come to rest.
    #[test]
    fn who_is_evicted_again_and_again_waits_longer() {
        let (mut returns, times) = (Returns::default(), LeaseTimes::default());
        let mut now = Nanos(0);
        let mut waits = Vec::new();
        for _ in 0..10 {
            returns.evicted_are(&set(&[NODE]), now);
            // Being told the same again is no other eviction.
            returns.evicted_are(&set(&[NODE]), now);
            waits.push(returns.wait(NODE, &times).0 / 1_000_000);
            now = now.after(Nanos::from_secs(61));
            returns.evicted_are(&set(&[]), now);
        }
        assert_eq!(
            waits,
            [
                600, 1201, 2402, 4804, 9609, 19_219, 38_438, 60_000, 60_000, 60_000
            ]
        );
        returns.evicted_are(&set(&[]), now.after(RETURN_CALM));
        assert_eq!(returns.wait(NODE, &times), times.ended_after());
    }
}
