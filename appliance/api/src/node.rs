//! The node and its reactors.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A node of the cluster, as every node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeSummary {
    /// Permanent id, never an address.
    pub id: String,
    /// Name given by its operator.
    pub name: String,
    /// Whether it is the one that has answered.
    pub answers: bool,
    /// Where its own interface is reached from other machines, as far as that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// What it is in the cluster.
    #[serde(default)]
    pub member: Member,
}

/// What the nodes have agreed on of one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Whether it is a member yet.
    pub membership: Membership,
    /// Whether it has a vote.
    pub role: NodeRole,
    /// The generation at which it last changed: what If-Match is compared with, in quotes, when it is changed or taken out.
    #[serde(default)]
    pub revision: u64,
    /// Which of its daemon's starts is the latest; 0 before it has said so once.
    pub incarnation: u64,
    /// What its version of the program can, as it said at its latest start; 0 before. What the whole cluster can is what all of
    /// its members can.
    pub feature_level: u64,
    /// Where other nodes reach it, the preferred address first. Empty while there are no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["192.0.2.7:7781"]))]
    pub peer_addresses: Vec<String>,
    /// What it fails together with: a rack, a room, a supply. Absent: it fails by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "rack-3")]
    pub failure_domain: Option<String>,
}

/// Whether a node is a member of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// It is one.
    #[default]
    Active,
    /// It has been let in, and has not started as one yet.
    Joining,
    /// The others did not hear it and have given it up. It is taken back when they hear it.
    Evicted,
}

/// Whether a node has a vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// What is agreed on needs a majority of these.
    #[default]
    Voter,
    /// It is told what was agreed on, and has no vote.
    Learner,
}

/// One appliance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Permanent id, never an address.
    pub id: String,
    /// Name given by its operator.
    pub name: String,
    /// Version of the daemon.
    pub version: String,
    /// Kernel release of the machine.
    pub kernel: String,
    /// What it is in the cluster.
    #[serde(default)]
    pub member: Member,
    /// Number of the cluster membership.
    pub epoch: u64,
    /// Number of the configuration agreed on.
    pub generation: u64,
    /// Number of the configuration wholly in force here; below `generation` while changes are being carried out.
    pub applied: u64,
    /// When the daemon started, in milliseconds since 1970 (UTC).
    pub started_unix_ms: u64,
    /// Process id of the daemon.
    pub pid: u32,
    /// The hugepage pool.
    pub hugepages: Hugepages,
    /// Folders below which files may be disks, as configured. One that is not there yet is made when the first file is to
    /// lie in it.
    #[serde(default)]
    pub disk_folders: Vec<String>,
}

/// What the daemon's buffers are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hugepages {
    /// Bytes of one page in use for the pool (4096 when no hugepages could be had).
    pub page_bytes: u64,
    /// Size of the pool in bytes, all reactors together.
    pub pool_bytes: u64,
    /// Of these, bytes in use now.
    pub used_bytes: u64,
}

/// How a reactor waits for work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PollMode {
    /// It polls, and sleeps after a time without work.
    #[default]
    Adaptive,
    /// It never sleeps.
    AlwaysPoll,
}

/// One pinned thread in poll mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reactor {
    /// Its number, from 0.
    pub index: u16,
    /// The core it is pinned to; absent when it is not pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<u32>,
    /// NUMA node of the core; absent when not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// How it waits for work.
    pub poll_mode: PollMode,
    /// Whether it sleeps just now.
    pub sleeping: bool,
    /// Virtqueues it serves.
    pub queues: u32,
    /// Turns of its loop since the daemon started.
    pub turns: u64,
    /// Turns that found work.
    pub busy_turns: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Requests it can have in flight.
    pub slots: u64,
    /// Slots in use now.
    pub slots_used: u64,
    /// Turns in which a queue waited because no slot was free.
    pub slots_short: u64,
    /// Turns in which an operation waited for a bounce buffer.
    pub pool_short: u64,
    /// Requests parked now: on no disk until the change of their volume is decided on.
    #[serde(default)]
    pub parked: u64,
    /// Times it stopped using a disk because that had refused this node.
    #[serde(default)]
    pub fenced_devices: u64,
    /// Changes of volumes it was told too late, which have changed nothing.
    #[serde(default)]
    pub stale_commands: u64,
    /// Turns with work that lasted longer than 100 ms of wall time.
    #[serde(default)]
    pub slow_turns: u64,
}
