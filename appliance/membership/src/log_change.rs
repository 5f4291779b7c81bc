//! What the log says that leases depend on: places in it, the entries that change something, and what they come to.

use crate::times::LeaseTimes;
use crate::voter_sets::VoterSets;
use palisade_block::Nanos;
use palisade_words::{Epoch, Uuid};
use std::collections::BTreeMap;

/// One entry of the log (Raft, 5.3). Two logs that have the same one are the same up to there. The later of two is the one
/// of the later term, and of two of the same term the one with the larger index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LogPosition {
    /// The term of the leader that has made it.
    pub term: u64,
    /// Its number.
    pub index: u64,
}

/// An entry of the log that leases depend on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipChange {
    /// The members from here on, each with the epoch since which it is one without a gap.
    Members {
        /// The number of this membership.
        epoch: Epoch,
        /// Each member, and since when.
        members: BTreeMap<Uuid, Epoch>,
    },
    /// The voters from here on.
    Voters(VoterSets),
    /// The times from here on.
    Times(LeaseTimes),
}

/// What committed entries have come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgreedMembership {
    /// The number of the membership.
    pub epoch: Epoch,
    /// Each member, and since which epoch it is one without a gap: one that was evicted and taken back is another member.
    pub members: BTreeMap<Uuid, Epoch>,
    /// Who gives leases.
    pub voters: VoterSets,
    /// How long a lease lasts.
    pub lease: Nanos,
}

impl AgreedMembership {
    /// One more entry is committed.
    pub fn apply(&mut self, change: &MembershipChange) {
        match change {
            MembershipChange::Members { epoch, members } => {
                self.epoch = *epoch;
                self.members.clone_from(members);
            }
            MembershipChange::Voters(voters) => self.voters.clone_from(voters),
            MembershipChange::Times(times) => self.lease = times.lease,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_entries_is_that_of_the_later_term() {
        let at = |term, index| LogPosition { term, index };
        assert!(at(3, 4) > at(2, 9));
        assert!(at(3, 5) > at(3, 4));
    }
}
