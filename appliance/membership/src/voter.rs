//! The voter's side of a lease: whether it gives its word.

use crate::voter_sets::VoterSets;
use palisade_block::Nanos;
use palisade_words::{Epoch, Uuid};
use std::collections::BTreeMap;

/// A voter's word that a node was a member when it asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseWord {
    /// Who gives it.
    pub voter: Uuid,
    /// To which question of the asking node.
    pub question: u64,
    /// Since which epoch it is a member, without a gap: one that was evicted and taken back is another member.
    pub member_since: Epoch,
    /// The voters, as they stand in the log of this one: committed or not.
    pub voters: VoterSets,
    /// The voter's own clock when it answered.
    pub clock: Nanos,
}

/// Why a voter does not give its word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeaseRefusal {
    /// The node is not a member, by an entry that the voter has appended, whether that is committed or not.
    #[error("node {node} is not a member in epoch {epoch}, as voter {voter} has it in its log")]
    NotAMember {
        /// Who has asked.
        node: Uuid,
        /// By which membership.
        epoch: Epoch,
        /// Who refuses.
        voter: Uuid,
    },
    /// This node gives no leases: it has no vote.
    #[error("node {voter} is no voter, so its word counts for nothing")]
    NotAVoter {
        /// The node asked.
        voter: Uuid,
    },
}

/// A voter. What it goes by is what stands in its log, so it needs to keep nothing of its own across a restart.
#[derive(Clone, Debug)]
pub struct LeaseVoter {
    id: Uuid,
    epoch: Epoch,
    members: BTreeMap<Uuid, Epoch>,
    voters: VoterSets,
}

impl LeaseVoter {
    /// A voter whose log names these: each member, and since which epoch it is one.
    pub fn new(id: Uuid, epoch: Epoch, members: BTreeMap<Uuid, Epoch>, voters: VoterSets) -> LeaseVoter {
        LeaseVoter {
            id,
            epoch,
            members,
            voters,
        }
    }

    /// An entry that changes the members is in the log, on stable storage, or one was taken away again: these are they now.
    pub fn members_are(&mut self, epoch: Epoch, members: BTreeMap<Uuid, Epoch>) {
        (self.epoch, self.members) = (epoch, members);
    }

    /// The same of the voters.
    pub fn voters_are(&mut self, voters: VoterSets) {
        self.voters = voters;
    }

    /// A node asks for its word.
    ///
    /// # Errors
    /// It does not give it.
    pub fn ask(&self, node: Uuid, question: u64, clock: Nanos) -> Result<LeaseWord, LeaseRefusal> {
        if !self.voters.contains(self.id) {
            return Err(LeaseRefusal::NotAVoter { voter: self.id });
        }
        let Some(&member_since) = self.members.get(&node) else {
            return Err(LeaseRefusal::NotAMember {
                node,
                epoch: self.epoch,
                voter: self.id,
            });
        };
        Ok(LeaseWord {
            voter: self.id,
            question,
            member_since,
            voters: self.voters.clone(),
            clock,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn since(epoch: u64, nodes: &[u128]) -> BTreeMap<Uuid, Epoch> {
        nodes.iter().map(|node| (Uuid(*node), Epoch(epoch))).collect()
    }

    fn set(nodes: &[u128]) -> BTreeSet<Uuid> {
        nodes.iter().copied().map(Uuid).collect()
    }

    #[test]
    fn a_voter_gives_its_word_to_members_as_its_log_has_them() {
        let voters = VoterSets::uniform(3, set(&[1, 2, 3]));
        let mut voter = LeaseVoter::new(Uuid(1), Epoch(4), since(2, &[1, 2, 3, 7]), voters.clone());
        let word = voter.ask(Uuid(7), 5, Nanos(8)).unwrap();
        assert_eq!(
            (word.voter, word.question, word.voters, word.clock),
            (Uuid(1), 5, voters, Nanos(8))
        );
        voter.members_are(Epoch(5), since(2, &[1, 2, 3]));
        let refused = voter.ask(Uuid(7), 6, Nanos(9)).unwrap_err();
        assert!(
            refused.to_string().contains("not a member in epoch 5"),
            "{refused}"
        );
        voter.members_are(Epoch(4), since(2, &[1, 2, 3, 7]));
        assert!(
            voter.ask(Uuid(7), 7, Nanos(9)).is_ok(),
            "the entry was taken away again"
        );
        voter.members_are(Epoch(6), since(6, &[7]));
        assert_eq!(
            voter.ask(Uuid(7), 8, Nanos(9)).map(|word| word.member_since),
            Ok(Epoch(6))
        );
        voter.voters_are(VoterSets::uniform(6, set(&[2, 3, 4])));
        assert_eq!(
            voter.ask(Uuid(7), 8, Nanos(9)),
            Err(LeaseRefusal::NotAVoter { voter: Uuid(1) })
        );
    }
}
