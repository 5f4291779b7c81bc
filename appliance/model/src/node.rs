//! Nodes.

use palisade_words::{FeatureLevel, Generation, Incarnation, Name, Sha256Sum, Uuid};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One appliance. Its permanent id is never an address.
///
/// What is left out when it says nothing was not there in databases of earlier versions: their nodes are active voters that
/// have not said yet what they can.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Permanent id.
    pub uuid: Uuid,
    /// The generation at which it came into the cluster.
    pub created: Generation,
    /// The generation at which it last changed.
    pub revision: Generation,
    /// Which of its runs is the latest; 0 before it has said so once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub incarnation: Incarnation,
    /// Whether it is a member.
    #[serde(default, skip_serializing_if = "is_default")]
    pub membership: Membership,
    /// Whether it has a vote.
    #[serde(default, skip_serializing_if = "is_default")]
    pub role: NodeRole,
    /// What its program can, as it said at its latest start; 0 before.
    #[serde(default, skip_serializing_if = "is_default")]
    pub feature_level: FeatureLevel,
    /// Where other nodes reach it, the preferred one first. Empty while there are no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<SocketAddr>,
    /// What it fails together with: a rack, a room, a supply. Nodes without one fail each by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<Name>,
    /// What it was let in for: one that is to vote is given a vote once it has caught up, another is not by itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub meant_for: NodeRole,
    /// SHA-256 of its public key, of one that a token has let in. Who comes as this node has that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Sha256Sum>,
}

/// Whether a node is a member of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// It is one.
    #[default]
    Active,
    /// It has been let in, and has not started as one yet: nothing counts on it, and nothing is given to it.
    Joining,
    /// It was one and the others have given it up, as they do not hear it: nothing counts on it until it is taken back. It keeps
    /// its vote, so that it can be told so.
    Evicted,
}

/// Whether a node has a vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// What is agreed on needs a majority of these.
    #[default]
    Voter,
    /// It is told what was agreed on, and has no vote.
    Learner,
}

impl Node {
    /// A member with a vote that has not said anything of itself yet, as of a generation.
    pub fn of(uuid: Uuid, created: Generation) -> Node {
        Node {
            uuid,
            created,
            revision: created,
            incarnation: Incarnation(0),
            membership: Membership::Active,
            role: NodeRole::Voter,
            feature_level: FeatureLevel(0),
            addresses: Vec::new(),
            failure_domain: None,
            meant_for: NodeRole::Voter,
            key: None,
        }
    }

    /// Whether it is a member.
    pub fn is_active(&self) -> bool {
        self.membership == Membership::Active
    }

    /// Whether it has started as a member once, whatever became of it.
    pub fn has_joined(&self) -> bool {
        self.membership != Membership::Joining
    }

    /// Whether it has a vote.
    pub fn votes(&self) -> bool {
        self.has_joined() && self.role == NodeRole::Voter
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
