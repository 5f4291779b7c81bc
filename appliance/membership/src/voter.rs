//! The voter's side of a lease: whether it gives its word.

use crate::log_change::{AgreedMembership, LogPosition, MembershipChange};
use crate::voter_sets::VoterSets;
use palisade_block::Nanos;
use palisade_words::{Epoch, Incarnation, Uuid};
use std::collections::BTreeMap;

/// What a voter says to a question for a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseAnswer {
    /// Who says it.
    pub voter: Uuid,
    /// To which question of the asking node.
    pub question: u64,
    /// Which run of the voter's machine its clock counts from: CLOCK_BOOTTIME begins anew with it, and with nothing else.
    pub boot: Uuid,
    /// The voter's own clock when it answered, whatever it answered.
    pub clock: Nanos,
    /// Its word, or why it does not give it.
    pub word: Result<LeaseWord, LeaseRefusal>,
}

/// A voter's word that a node was a member when it asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseWord {
    /// Since which epoch it is a member, without a gap: one that was evicted and taken back is another member.
    pub member_since: Epoch,
    /// The voters, as they stand in the log of this one: committed or not.
    pub voters: VoterSets,
    /// How long the word holds, from the sending of the question.
    pub lease: Nanos,
}

/// Why a voter does not give its word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeaseRefusal {
    /// The node is not a member: it was evicted by an entry that the voter has in its log, whether that is committed or not, or it
    /// has not been made one yet by an entry that the voter knows to be committed.
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
    /// The voter has started, and nobody has confirmed since that its log has all that was agreed on.
    #[error(
        "voter {voter} has started as run {run}, and no leader has confirmed its log since: it may have forgotten who was evicted. \
         When it stays so, there is no leader, or this node's files are a copy from before"
    )]
    NotConfirmed {
        /// Who refuses.
        voter: Uuid,
        /// Which of its runs it is in.
        run: Incarnation,
    },
}

/// An entry that the machine has taken note of, so that whoever has it may say so to the leader. There is no other way to one.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "an append is acknowledged with this, and not before"]
pub struct NotedEntry(LogPosition);

impl NotedEntry {
    /// Which entry.
    pub fn position(&self) -> LogPosition {
        self.0
    }
}

/// A voter. What it goes by is what stands in its log, so it needs to keep nothing of its own across a restart.
///
/// The log speaks in this order: an entry is on stable storage; [`appended`](LeaseVoter::appended); its append is acknowledged to
/// the leader. Told after the acknowledgement, an eviction would be committed while its giver still gives words against it.
/// A node counts as a member by the committed entries, and by each later one in the log as well: an eviction counts
/// from its append, a return from its commit, since an entry that only stands in the log may be taken away by another leader.
#[derive(Clone, Debug)]
pub struct LeaseVoter {
    id: Uuid,
    run: Incarnation,
    boot: Uuid,
    agreed: AgreedMembership,
    /// Entries after what is agreed, by index. As many as the log holds uncommitted.
    appended: BTreeMap<u64, (u64, MembershipChange)>,
    is_confirmed: bool,
}

impl LeaseVoter {
    /// A voter that has started as run `run` of its node, on a machine that booted as `boot`, and has applied what its log
    /// says to be committed. What stands in its log beyond is told by [`appended`](LeaseVoter::appended). It gives no word until it
    /// has been [confirmed](LeaseVoter::confirmed).
    pub fn new(id: Uuid, run: Incarnation, boot: Uuid, agreed: AgreedMembership) -> LeaseVoter {
        LeaseVoter {
            id,
            run,
            boot,
            agreed,
            appended: BTreeMap::new(),
            is_confirmed: false,
        }
    }

    /// The leader of a term has confirmed that the log of this voter, in run `run`, has all that is committed; itself having
    /// made sure, since the run began, that it is the leader, with a majority in which nobody counts who may have forgotten something:
    /// so not this voter, unless its peers remember that it has never shown more (issue 10, rule 10). A confirmation of an
    /// earlier run says nothing about this one, and the leader of an earlier term than the log knows of may know less than it.
    pub fn confirmed(&mut self, run: Incarnation, term: u64) {
        self.is_confirmed |= run == self.run && term >= self.latest_term();
    }

    /// Whether it has been.
    pub fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    fn latest_term(&self) -> u64 {
        let of_log = self.appended.values().map(|(term, _)| *term).max();
        of_log.unwrap_or(0).max(self.agreed.voters.at.term)
    }

    /// An entry is in the log, on stable storage. What stood at its place and after it was taken away. The append may be
    /// acknowledged with what comes back.
    pub fn appended(&mut self, at: LogPosition, change: MembershipChange) -> NotedEntry {
        self.truncated(at.index);
        self.appended.insert(at.index, (at.term, change));
        NotedEntry(at)
    }

    /// The log was cut off: the entry of this index and all after it are in it no more.
    pub fn truncated(&mut self, from: u64) {
        self.appended.split_off(&from);
    }

    /// All up to this index is committed.
    pub fn committed(&mut self, index: u64) {
        let later = self.appended.split_off(&index.saturating_add(1));
        for (_, change) in std::mem::replace(&mut self.appended, later).values() {
            self.agreed.apply(change);
        }
    }

    /// A snapshot has taken the place of the log: all that was committed up to an index.
    pub fn installed(&mut self, index: u64, agreed: AgreedMembership) {
        self.appended = self.appended.split_off(&index.saturating_add(1));
        self.agreed = agreed;
    }

    /// A node asks for its word; `clock` is this voter's own.
    pub fn ask(&self, node: Uuid, question: u64, clock: Nanos) -> LeaseAnswer {
        LeaseAnswer {
            voter: self.id,
            question,
            boot: self.boot,
            clock,
            word: self.word(node),
        }
    }

    fn word(&self, node: Uuid) -> Result<LeaseWord, LeaseRefusal> {
        if !self.is_confirmed {
            return Err(LeaseRefusal::NotConfirmed {
                voter: self.id,
                run: self.run,
            });
        }
        let voters = self.voters();
        if !voters.contains(self.id) {
            return Err(LeaseRefusal::NotAVoter { voter: self.id });
        }
        Ok(LeaseWord {
            member_since: self.member_since(node)?,
            voters: voters.clone(),
            lease: self.lease(),
        })
    }

    /// The voters as the last entry of the log names them (Raft, 6: whether committed or not).
    fn voters(&self) -> &VoterSets {
        let later = self.appended.values().rev().find_map(|(_, change)| match change {
            MembershipChange::Voters(voters) => Some(voters),
            _ => None,
        });
        later.unwrap_or(&self.agreed.voters)
    }

    /// Since when a node is a member, by what is committed, and by all that may be.
    fn member_since(&self, node: Uuid) -> Result<Epoch, LeaseRefusal> {
        let refused = |epoch| LeaseRefusal::NotAMember {
            node,
            epoch,
            voter: self.id,
        };
        let since = *self.agreed.members.get(&node).ok_or(refused(self.agreed.epoch))?;
        for (_, change) in self.appended.values() {
            if let MembershipChange::Members { epoch, members } = change
                && members.get(&node) != Some(&since)
            {
                return Err(refused(*epoch));
            }
        }
        Ok(since)
    }

    /// The shortest lease that may be the agreed one: a longer one is given from its commit, a shorter one from its append.
    fn lease(&self) -> Nanos {
        let later = self.appended.values().filter_map(|(_, change)| match change {
            MembershipChange::Times(times) => Some(times.lease),
            _ => None,
        });
        later.fold(self.agreed.lease, Nanos::min)
    }
}

#[cfg(test)]
mod tests;
