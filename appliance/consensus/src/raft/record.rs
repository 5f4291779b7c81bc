//! What stands in the files of a voter, as values of our own: openraft is a preview, and how it would write its values down may
//! change with it.
//!
//! Each is kept as [`crate::record`] keeps values: a checksum, then JSON, of which nothing may be unknown.

use crate::raft::proposal::Proposal;
use crate::raft::voter_id::VoterId;
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderIdExt;
use openraft::{EmptyNode, EntryPayload, Membership, StoredMembership};
use palisade_model::{Cluster, Command};
use palisade_words::{Generation, LineageId, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

pub(crate) type LeaderId = leader_id_std::LeaderId<u64, VoterId>;
pub(crate) type CommittedLeader = <LeaderId as openraft::vote::RaftLeaderId>::Committed;
/// A place in the log, as openraft has it.
pub type LogId = openraft::LogId<CommittedLeader>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Payload = EntryPayload<Proposal, VoterId, EmptyNode>;
pub(crate) type RaftEntry = openraft::Entry<CommittedLeader, Payload>;
pub(crate) type Announced = openraft::SnapshotMeta<CommittedLeader, VoterId, EmptyNode>;
pub(crate) type Taken = openraft::Snapshot<CommittedLeader, VoterId, EmptyNode, Vec<u8>>;
pub(crate) type Members = StoredMembership<CommittedLeader, VoterId, EmptyNode>;

/// Whose file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct OwnerRecord {
    /// The node.
    pub(crate) node: Uuid,
}

/// A place in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct PlaceRecord {
    /// In which term its entry was proposed.
    pub(crate) term: u64,
    /// How many entries are before it.
    pub(crate) index: u64,
}

impl fmt::Display for PlaceRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} of term {}", self.index, self.term)
    }
}

impl From<&LogId> for PlaceRecord {
    fn from(place: &LogId) -> PlaceRecord {
        PlaceRecord {
            term: **place.committed_leader_id(),
            index: place.index(),
        }
    }
}

impl From<PlaceRecord> for LogId {
    fn from(place: PlaceRecord) -> LogId {
        // In a term there is one leader, so that its id is no part of the place.
        LogId::new(
            LeaderId::new_committed(place.term, VoterId(Uuid::NIL)),
            place.index,
        )
    }
}

/// What a voter has promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct VoteRecord {
    /// In which term.
    pub(crate) term: u64,
    /// To whom.
    pub(crate) voted_for: Uuid,
    /// Whether a majority has, so that it leads.
    pub(crate) is_elected: bool,
}

impl From<&Vote> for VoteRecord {
    fn from(vote: &Vote) -> VoteRecord {
        VoteRecord {
            term: vote.leader_id.term,
            voted_for: vote.leader_id.voted_for.0,
            is_elected: vote.committed,
        }
    }
}

impl From<VoteRecord> for Vote {
    fn from(vote: VoteRecord) -> Vote {
        let voted_for = VoterId(vote.voted_for);
        match vote.is_elected {
            true => Vote::new_committed(vote.term, voted_for),
            false => Vote::new(vote.term, voted_for),
        }
    }
}

/// Who votes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct MembersRecord {
    /// A majority of each of these sets is needed; there are two while the voters change.
    pub(crate) voters: Vec<BTreeSet<Uuid>>,
    /// Who is told what was agreed on, and has no vote.
    pub(crate) learners: BTreeSet<Uuid>,
}

impl From<&Membership<VoterId, EmptyNode>> for MembersRecord {
    fn from(members: &Membership<VoterId, EmptyNode>) -> MembersRecord {
        let sets = members.get_joint_config().iter();
        MembersRecord {
            voters: sets.map(|set| set.iter().map(|id| id.0).collect()).collect(),
            learners: members.learner_ids().map(|id| id.0).collect(),
        }
    }
}

impl From<MembersRecord> for Membership<VoterId, EmptyNode> {
    fn from(members: MembersRecord) -> Membership<VoterId, EmptyNode> {
        let ids = |set: BTreeSet<Uuid>| set.into_iter().map(VoterId).collect::<BTreeSet<_>>();
        let learners = ids(members.learners);
        Membership::new_with_defaults(members.voters.into_iter().map(ids).collect(), learners)
    }
}

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct EntryRecord {
    /// Where it stands.
    pub(crate) place: PlaceRecord,
    /// What it says.
    pub(crate) content: ContentRecord,
}

/// What an entry says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ContentRecord {
    /// A leader has begun its term.
    Term,
    /// A command.
    Command(Box<Command>),
    /// Others vote from here on.
    Members(MembersRecord),
}

impl From<&RaftEntry> for EntryRecord {
    fn from(entry: &RaftEntry) -> EntryRecord {
        let content = match &entry.payload {
            EntryPayload::Blank => ContentRecord::Term,
            EntryPayload::Normal(proposal) => ContentRecord::Command(Box::new(proposal.0.clone())),
            EntryPayload::Membership(members) => ContentRecord::Members(members.into()),
        };
        EntryRecord {
            place: PlaceRecord::from(&entry.log_id),
            content,
        }
    }
}

impl From<EntryRecord> for RaftEntry {
    fn from(entry: EntryRecord) -> RaftEntry {
        let payload = match entry.content {
            ContentRecord::Term => EntryPayload::Blank,
            ContentRecord::Command(command) => EntryPayload::Normal(Proposal(*command)),
            ContentRecord::Members(members) => EntryPayload::Membership(members.into()),
        };
        RaftEntry {
            log_id: entry.place.into(),
            payload,
        }
    }
}

/// How far has been applied, and what that has led to. A program that applies the entries differently finds out here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct AppliedRecord {
    /// The latest entry that was applied.
    pub(crate) place: PlaceRecord,
    /// The generation it has led to.
    pub(crate) generation: Generation,
    /// The id of that generation.
    pub(crate) lineage: LineageId,
    /// [`crate::record::digest`] of the cluster.
    pub(crate) digest: u32,
}

/// The cluster as a whole with who votes. It is what a snapshot is, in the file and between nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StateRecord {
    /// The latest entry that is in it; none when nothing has been applied.
    pub(crate) place: Option<PlaceRecord>,
    /// The entry that says who votes.
    pub(crate) members_since: Option<PlaceRecord>,
    /// Who votes.
    pub(crate) members: MembersRecord,
    /// [`crate::record::digest`] of the cluster.
    pub(crate) digest: u32,
    /// The cluster.
    pub(crate) cluster: Cluster,
}

impl StateRecord {
    /// What openraft knows of it without reading it.
    pub(crate) fn announced(&self) -> Announced {
        let members = self.members.clone().into();
        Announced {
            last_log_id: self.place.map(LogId::from),
            last_membership: Members::new(self.members_since.map(LogId::from), members),
        }
    }
}
