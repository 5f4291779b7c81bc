//! When the lease of who was evicted has ended: on this, take-over by the others waits.

use crate::clock_watch::ClockRate;
use crate::times::with_drift;
use palisade_block::Nanos;
use palisade_words::{Epoch, Uuid};
use std::collections::BTreeMap;

/// Longer leases of before that are still kept in mind; of more, the longest are.
const LONGER_MAX: usize = 16;

/// A node that was evicted.
#[derive(Clone, Copy, Debug)]
struct Evicted {
    /// Since when it was a member.
    since: Epoch,
    /// When its lease has ended.
    ends: Nanos,
}

/// Counts for one node the time after which others' leases have ended. All times are of its own clock.
///
/// An eviction that was seen to be committed is proven after a lease and what clocks may differ by. When the lease was made shorter, words
/// for the longer one may have been given until that was seen to be committed: they are waited for as well. Words for
/// unlike leases never count together, so nothing else can make a lease longer.
#[derive(Clone, Debug)]
pub struct EndedLeases {
    drift_ppm: u32,
    lease: Nanos,
    /// Longer leases that were agreed on before, and when the last word for one has ended.
    longer: Vec<(Nanos, Nanos)>,
    evicted: BTreeMap<Uuid, Evicted>,
}

impl EndedLeases {
    /// A node that has just started, and has applied that a lease lasts for so long. It does not know since when: `longest` is the
    /// longest that was ever agreed on.
    pub fn new(lease: Nanos, longest: Nanos, drift_ppm: u32, now: Nanos) -> EndedLeases {
        let mut ended = EndedLeases {
            drift_ppm,
            lease: longest.max(lease),
            longer: Vec::new(),
            evicted: BTreeMap::new(),
        };
        ended.lease_is(lease, now);
        ended
    }

    /// This node has seen it committed that leases last for so long.
    pub fn lease_is(&mut self, lease: Nanos, now: Nanos) {
        self.longer.retain(|(_, ends)| now < *ends);
        if lease < self.lease {
            let ends = now.after(with_drift(self.lease, self.drift_ppm));
            self.longer.push((self.lease, ends));
            if self.longer.len() > LONGER_MAX {
                // Two are taken together, so that neither is waited for too briefly.
                let last = self.longer.pop().map_or(Nanos(0), |(_, ends)| ends);
                if let Some(first) = self.longer.first_mut() {
                    first.1 = first.1.max(last);
                }
            }
        }
        self.lease = lease;
    }

    /// This node has seen it committed, or applied after a start, that who was a member since `since` is none any more.
    pub fn evicted(&mut self, node: Uuid, since: Epoch, now: Nanos) {
        let longer = self.longer.iter().map(|(_, ends)| *ends);
        let ends = longer.fold(now.after(with_drift(self.lease, self.drift_ppm)), Nanos::max);
        self.evicted.insert(node, Evicted { since, ends });
    }

    /// A node was taken back, as another member.
    pub fn taken_back(&mut self, node: Uuid) {
        self.evicted.remove(&node);
    }

    /// Since when a node was a member whose lease is proven to have ended; `None` while nothing is proven. A clock that does
    /// not keep the bound proves nothing.
    pub fn ended(&self, node: Uuid, now: Nanos, clock: ClockRate) -> Option<Epoch> {
        let evicted = self.evicted.get(&node)?;
        (clock == ClockRate::Kept && now >= evicted.ends).then_some(evicted.since)
    }

    /// When the next one may be proven.
    pub fn next(&self, now: Nanos) -> Option<Nanos> {
        let ends = self.evicted.values().map(|evicted| evicted.ends);
        ends.filter(|ends| now < *ends).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Uuid = Uuid(7);

    fn ended_at(ended: &EndedLeases, now: u64) -> bool {
        ended.ended(NODE, Nanos(now), ClockRate::Kept).is_some()
    }

    #[test]
    fn an_evicted_node_has_stopped_after_a_lease_and_what_clocks_differ_by() {
        let mut ended = EndedLeases::new(Nanos(1000), Nanos(1000), 10_000, Nanos(0));
        assert!(!ended_at(&ended, 90_000), "it is a member");
        ended.evicted(NODE, Epoch(3), Nanos(50));
        assert!(!ended_at(&ended, 1059) && ended_at(&ended, 1060));
        assert_eq!(ended.next(Nanos(51)), Some(Nanos(1060)));
        assert_eq!(ended.next(Nanos(1060)), None);
        assert_eq!(ended.ended(NODE, Nanos(1060), ClockRate::Kept), Some(Epoch(3)));
        assert_eq!(ended.ended(NODE, Nanos(1060), ClockRate::Off), None);
        ended.taken_back(NODE);
        assert!(!ended_at(&ended, 90_000));
    }

    #[test]
    fn a_lease_that_was_longer_is_waited_for() {
        let mut ended = EndedLeases::new(Nanos(1000), Nanos(1000), 0, Nanos(0));
        ended.lease_is(Nanos(100), Nanos(500));
        ended.evicted(NODE, Epoch(3), Nanos(600));
        assert!(!ended_at(&ended, 1499) && ended_at(&ended, 1500));
        ended.lease_is(Nanos(100), Nanos(1500));
        ended.evicted(NODE, Epoch(5), Nanos(1500));
        assert!(!ended_at(&ended, 1599) && ended_at(&ended, 1600));
    }

    #[test]
    fn who_has_started_does_not_know_when_the_lease_was_made_shorter() {
        let mut ended = EndedLeases::new(Nanos(100), Nanos(1000), 0, Nanos(5));
        ended.evicted(NODE, Epoch(3), Nanos(6));
        assert!(!ended_at(&ended, 1004) && ended_at(&ended, 1005));
    }

    #[test]
    fn of_many_changes_none_is_waited_for_too_briefly() {
        let mut ended = EndedLeases::new(Nanos(1000), Nanos(1000), 0, Nanos(0));
        for change in 1..=40 {
            ended.lease_is(Nanos(1000 - change), Nanos(change));
        }
        ended.evicted(NODE, Epoch(3), Nanos(41));
        // The last longer one: 961 until 40, and so until 1001.
        assert!(!ended_at(&ended, 1000) && ended_at(&ended, 1001));
        assert!(ended.longer.len() <= LONGER_MAX);
    }
}
