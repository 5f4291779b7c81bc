//! Which nodes the cluster has, as this node knows, and by which keys.
//!
//! A node whose key is known and that shows another is refused in the handshake. One that is not known is not: this node may
//! have been away, and be called by one that came meanwhile and is to tell it; or the other may have been taken away, and is
//! to be told. What is agreed on decides what such a caller may ask.

use palisade_model::Cluster;
use palisade_words::{Sha256Sum, Uuid};
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// The nodes of the cluster by permanent id, each with its key if it is known. Shared between connections.
#[derive(Debug, Default)]
pub struct Roster {
    nodes: RwLock<BTreeMap<Uuid, Option<Sha256Sum>>>,
}

/// What this node knows of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerStanding {
    /// It is in the cluster.
    Known,
    /// It is not, as far as this node has heard.
    Unknown,
    /// It is in the cluster with another key.
    OtherKey,
}

impl Roster {
    /// Of the nodes of a cluster.
    pub fn of(cluster: &Cluster) -> Roster {
        let roster = Roster::default();
        roster.update(cluster);
        roster
    }

    /// Takes over what the cluster has become.
    pub fn update(&self, cluster: &Cluster) {
        let nodes = cluster.nodes.values().map(|node| (node.uuid, node.key));
        self.replace(nodes.collect());
    }

    /// The same with ids and keys alone, as a machine hears them that has just joined.
    pub fn replace(&self, nodes: BTreeMap<Uuid, Option<Sha256Sum>>) {
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// How a node stands that shows a key.
    pub fn standing(&self, node: Uuid, key: Sha256Sum) -> PeerStanding {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        match nodes.get(&node) {
            None => PeerStanding::Unknown,
            Some(Some(known)) if *known != key => PeerStanding::OtherKey,
            Some(_) => PeerStanding::Known,
        }
    }
}
