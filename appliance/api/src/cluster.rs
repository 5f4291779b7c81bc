//! The cluster: which nodes belong to it, how they agree, and how another one joins.

use crate::node::{Membership, NodeRole};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What the text of every join token begins with.
pub const JOIN_TOKEN_PREFIX: &str = "palisade-join-";
/// Characters of the longest text that is taken for a join token.
pub const JOIN_TOKEN_CHARS_MAX: usize = 512;
/// What stands for a join token wherever something is written down or shown that holds one.
pub const JOIN_TOKEN_WITHHELD: &str = "[withheld]";

/// Addresses of one node that may be named.
pub const NODE_ADDRESSES_MAX: usize = 8;

/// Seconds of the shortest time that a join token may let somebody in for.
pub const TOKEN_VALID_S_MIN: u64 = 60;
/// Seconds of the longest: 30 days.
pub const TOKEN_VALID_S_MAX: u64 = 30 * 24 * 3600;

/// Seconds that a join token lets somebody in for when nothing is said.
pub const TOKEN_VALID_S: u64 = 3600;

/// The cluster, as the node that is asked knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    /// Permanent id.
    pub id: String,
    /// The node that has answered.
    pub node: String,
    /// How that node takes part.
    pub part: ClusterPart,
    /// The node that brings changes into their order, as far as that is known. Volumes that run do not need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Whether a majority of the voters answers, as far as the node that is asked can tell. Without one nothing can be changed, and
    /// what is shown here may be behind.
    pub has_majority: bool,
    /// How often the voters have elected.
    pub term: u64,
    /// The last change that the node has applied, by its place in the log; 0 while it agrees with itself alone.
    pub applied: u64,
    /// The last change that it knows to be agreed on.
    pub agreed: u64,
    /// Number of the configuration.
    pub generation: u64,
    /// Number of the membership.
    pub epoch: u64,
    /// What is switched on: all members can do this much.
    pub feature_level: u64,
    /// Where the node waits for other nodes. Absent: it does not, as it is in no cluster of several, or cannot, which is a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "192.0.2.7:7781")]
    pub waits_at: Option<String>,
    /// All nodes, by name.
    pub members: Vec<ClusterMember>,
}

/// How a node takes part in what is agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClusterPart {
    /// It is in no cluster of several: it agrees with itself.
    Alone,
    /// It brings changes into their order.
    Leader,
    /// It has a vote.
    Follower,
    /// It asks to be elected.
    Candidate,
    /// It is told what was agreed on, and has no vote.
    Learner,
}

/// How another node seems to be, by its heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberCondition {
    /// It hears and is heard, on all links.
    Alive,
    /// It hears and is heard, and something is wrong all the same.
    Limping,
    /// It is heard, and does not show that it hears.
    OneWay,
    /// It is not heard.
    Silent,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterMember {
    /// Its name.
    pub name: String,
    /// Permanent id.
    pub id: String,
    /// Whether it is a member yet.
    pub membership: Membership,
    /// What it is wanted as.
    pub role: NodeRole,
    /// Whether it has a vote now: one that is wanted as a voter gets its vote when three have caught up.
    pub votes: bool,
    /// Whether it leads.
    pub leads: bool,
    /// Changes that it has not got yet, as the leader knows it. Absent where the node that is asked does not lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// How long ago the node that is asked heard it last, in milliseconds; 0 of itself. Absent where it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// How it seems to be to the node that is asked. Absent of that node itself, and while it has not been there for long enough to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<MemberCondition>,
    /// What is wrong with it, to follow its name. Absent of one that is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "is heard, and not at 192.0.2.7:7781")]
    pub unwell: Option<String>,
    /// Where other nodes reach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// What it fails together with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
}

/// Makes the node that is asked the first of a cluster of several. Nothing that it serves is interrupted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterInit {
    /// Where other nodes reach it: an address of this machine, with a port.
    #[schema(example = json!(["192.0.2.7:7781"]))]
    pub addresses: Vec<String>,
    /// What it fails together with: a rack, a room, a supply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
}

/// Has the node that is asked join a cluster. It must have no disks, volumes or attachments.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterJoin {
    /// Where nodes of the cluster are reached; one that answers is enough.
    #[schema(example = json!(["192.0.2.7:7781"]))]
    pub peers: Vec<String>,
    /// The token that the cluster has made for it.
    pub token: String,
    /// Where other nodes reach the node that is asked: an address of this machine, with a port.
    #[schema(example = json!(["192.0.2.8:7781"]))]
    pub addresses: Vec<String>,
    /// Its name in the cluster. Absent: the one it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it fails together with: a rack, a room, a supply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
}

/// What a node has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterJoined {
    /// Permanent id of the cluster.
    pub cluster: String,
    /// The node's name there.
    pub node: String,
    /// What happens next, in a sentence.
    pub next: String,
}

/// The request for a join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenCreate {
    /// Chosen by the client.
    #[schema(example = "node-2")]
    pub id: String,
    /// What who comes with it is let in as. Absent: a voter.
    #[serde(default)]
    pub role: NodeRole,
    /// For how many seconds it lets somebody in: from a minute to 30 days. Absent: an hour.
    #[serde(default = "valid_s")]
    #[schema(minimum = 60, maximum = 2592000)]
    pub valid_s: u64,
}

/// A new token. It is told this once, and kept by nobody: the cluster knows it by a checksum.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenMade {
    /// Its id.
    pub id: String,
    /// The token. It lets one node in, and names the cluster's certificate, so that the node knows whom it joins.
    pub token: String,
    /// What who comes with it is let in as.
    pub role: NodeRole,
    /// Until when, in seconds since 1970.
    pub expires_unix_s: u64,
    /// Where nodes of the cluster are reached.
    pub peers: Vec<String>,
}

/// A token that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenSummary {
    /// Its id.
    pub id: String,
    /// What who comes with it is let in as.
    pub role: NodeRole,
    /// Until when, in seconds since 1970.
    pub expires_unix_s: u64,
    /// The node that it has let in, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<String>,
}

/// A change of a node's membership. What is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodePatch {
    /// Where other nodes reach it, the preferred address first: all of them, as those that are left out are given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_addresses: Option<Vec<String>>,
    /// What it fails together with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
    /// What it is wanted as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<NodeRole>,
}

/// Without the token: what a program writes of a request for its log lets nobody in.
impl fmt::Debug for ClusterJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterJoin")
            .field("peers", &self.peers)
            .field("token", &JOIN_TOKEN_WITHHELD)
            .field("addresses", &self.addresses)
            .field("name", &self.name)
            .field("failure_domain", &self.failure_domain)
            .finish()
    }
}

/// Without the token, likewise.
impl fmt::Debug for JoinTokenMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTokenMade")
            .field("id", &self.id)
            .field("token", &JOIN_TOKEN_WITHHELD)
            .field("role", &self.role)
            .field("expires_unix_s", &self.expires_unix_s)
            .field("peers", &self.peers)
            .finish()
    }
}

fn valid_s() -> u64 {
    TOKEN_VALID_S
}
