//! Commands about nodes.

use crate::node::NodeRole;
use palisade_words::{Epoch, FeatureLevel, Generation, Incarnation, Name, Sha256Sum, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Lets a node into the cluster, without a vote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddNode {
    /// Its name.
    pub name: Name,
    /// Its permanent id, of its own making. Another node of the name is another one, so this is an argument.
    pub uuid: Uuid,
    /// Where other nodes reach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<SocketAddr>,
    /// What it fails together with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<Name>,
}

/// Lets a node in that has shown a token. A node that asks twice is let in once, and answered the same way; one that was let
/// in before comes back with a new token, its old id and its old key, wherever it is now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AdmitNode {
    /// SHA-256 of the secret that it has shown.
    pub token: Sha256Sum,
    /// SHA-256 of its public key (the DER of its SubjectPublicKeyInfo, RFC 5280, 4.1.2.7). It has proved that it has the
    /// private one.
    pub key: Sha256Sum,
    /// What time it is on the node that was asked, in seconds since 1970.
    pub now_s: u64,
    /// What its program can.
    pub feature_level: FeatureLevel,
    /// Which node, and where.
    pub node: AddNode,
}

/// A node says that it has started, before it does anything else. Saying the same again changes nothing: a node whose
/// question was answered by nobody repeats it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStarted {
    /// Its permanent id.
    pub node: Uuid,
    /// Which of its runs this is: a later one than any that the cluster knows of.
    pub incarnation: Incarnation,
    /// What its program can.
    pub feature_level: FeatureLevel,
}

/// Switches on what all members can. A level that is switched on already changes nothing, and none is ever switched off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RaiseFeatureLevel {
    /// Up to where.
    pub to: FeatureLevel,
}

/// Changes where a node is, or whether it has a vote. What is left out stays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeNode {
    /// Which.
    pub name: Name,
    /// Where other nodes reach it, all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<SocketAddr>>,
    /// What it fails together with. It cannot be unset, only set to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<Name>,
    /// Whether it has a vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<NodeRole>,
    /// The revision it must have.
    pub expected: Option<Generation>,
}

/// Takes a node away that reaches no disk and offers no volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RemoveNode {
    /// Which.
    pub name: Name,
    /// The revision it must have.
    pub expected: Option<Generation>,
}

/// Gives members up that the others do not hear (F17, F20). A majority of the voters has to be among those who stay: that is what
/// it takes to agree on anything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EvictNodes {
    /// The membership of which this was judged: of another one it says nothing.
    pub epoch: Epoch,
    /// Permanent ids of members.
    pub nodes: BTreeSet<Uuid>,
}

/// Takes a node back that was given up, as it is heard again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReadmitNode {
    /// The membership of which this was judged.
    pub epoch: Epoch,
    /// Its permanent id.
    pub node: Uuid,
    /// The run of it that is heard.
    pub incarnation: Incarnation,
}
