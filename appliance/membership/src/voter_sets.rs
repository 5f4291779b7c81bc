//! Who gives leases: the voters as one entry of the log names them.

use crate::log_change::LogPosition;
use palisade_block::Nanos;
use palisade_words::Uuid;
use std::collections::BTreeSet;

/// The voters of a cluster: one set, or two while they change, and then a majority of each is needed (Raft, 6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VoterSets {
    /// The entry of the log that names them. With its term, since another leader may put other entries at the same index: who names
    /// voters by an entry that was taken away again means another log.
    pub at: LogPosition,
    sets: (BTreeSet<Uuid>, Option<BTreeSet<Uuid>>),
}

impl VoterSets {
    /// One set.
    pub fn uniform(at: LogPosition, voters: BTreeSet<Uuid>) -> VoterSets {
        VoterSets {
            at,
            sets: (voters, None),
        }
    }

    /// Those of before and those to come.
    pub fn joint(at: LogPosition, before: BTreeSet<Uuid>, after: BTreeSet<Uuid>) -> VoterSets {
        VoterSets {
            at,
            sets: (before, Some(after)),
        }
    }

    /// While they change, those to come.
    pub fn after(&self) -> Option<&BTreeSet<Uuid>> {
        self.sets.1.as_ref()
    }

    /// All of them, each once.
    pub fn all(&self) -> BTreeSet<Uuid> {
        let after = self.sets.1.iter().flatten();
        self.sets.0.iter().chain(after).copied().collect()
    }

    /// Whether a node is one of them.
    pub fn contains(&self, node: Uuid) -> bool {
        self.sets.0.contains(&node) || self.sets.1.as_ref().is_some_and(|after| after.contains(&node))
    }

    /// Until when the words of a majority of each set hold, when `until` says for how long each voter's word does; `None` when
    /// there is no such majority.
    pub fn majority_until(&self, until: impl Fn(Uuid) -> Option<Nanos>) -> Option<Nanos> {
        let of_set = |set: &BTreeSet<Uuid>| {
            let mut ends: Vec<Nanos> = set.iter().filter_map(|voter| until(*voter)).collect();
            // The longest words first: the one that completes the majority is the first of it to end.
            ends.sort_unstable_by(|a, b| b.cmp(a));
            ends.get(set.len() / 2).copied()
        };
        let before = of_set(&self.sets.0)?;
        match &self.sets.1 {
            None => Some(before),
            Some(after) => Some(before.min(of_set(after)?)),
        }
    }

    /// Whether those for whom `says` is true are a majority of each set.
    pub fn has_majority(&self, says: impl Fn(Uuid) -> bool) -> bool {
        self.majority_until(|voter| says(voter).then_some(Nanos(0)))
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(voters: &[u128]) -> BTreeSet<Uuid> {
        voters.iter().copied().map(Uuid).collect()
    }

    const AT: LogPosition = LogPosition { term: 1, index: 1 };

    /// Each voter's word holds as long as its number says; those above 90 give none.
    fn until(voter: Uuid) -> Option<Nanos> {
        (voter.0 <= 90).then_some(Nanos(voter.0 as u64))
    }

    #[test]
    fn a_majority_holds_until_the_first_of_it_ends() {
        let sets = |voters: &[u128]| VoterSets::uniform(AT, set(voters)).majority_until(until);
        assert_eq!(sets(&[10]), Some(Nanos(10)));
        assert_eq!(sets(&[10, 20]), Some(Nanos(10)), "both of two");
        assert_eq!(sets(&[10, 20, 30]), Some(Nanos(20)));
        assert_eq!(sets(&[10, 20, 30, 40]), Some(Nanos(20)), "three of four");
        assert_eq!(sets(&[10, 20, 91]), Some(Nanos(10)));
        assert_eq!(sets(&[10, 91, 92]), None);
        assert_eq!(sets(&[]), None, "nobody is no majority");
    }

    #[test]
    fn while_voters_change_both_majorities_are_needed() {
        let joint = |before: &[u128], after: &[u128]| {
            VoterSets::joint(AT, set(before), set(after)).majority_until(until)
        };
        assert_eq!(joint(&[10, 20, 30], &[40, 50, 60]), Some(Nanos(20)));
        assert_eq!(joint(&[40, 50, 60], &[10, 20, 30]), Some(Nanos(20)));
        assert_eq!(joint(&[10, 20, 30], &[30, 91, 92]), None);
        assert_eq!(joint(&[91, 92], &[10]), None);
        let sets = VoterSets::joint(AT, set(&[1, 2]), set(&[2, 3]));
        assert_eq!(sets.all(), set(&[1, 2, 3]));
        assert!(sets.contains(Uuid(3)) && !sets.contains(Uuid(4)));
    }
}
