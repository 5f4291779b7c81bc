//! The cluster as a value.

use crate::attachment::Attachment;
use crate::disk::Disk;
use crate::fragment::{Fragment, Piece};
use crate::join_token::JoinToken;
use crate::node::Node;
use crate::volume::{Extent, Volume};
use palisade_words::{Epoch, FeatureLevel, Generation, LineageId, Name, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything agreed on. It changes through [`Cluster::apply`] only; the fields are open for reading.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cluster {
    /// Permanent id; nil before the first command.
    pub id: Uuid,
    /// The number of this configuration.
    pub generation: Generation,
    /// The id of this configuration; nil before the first command.
    #[serde(default, skip_serializing_if = "LineageId::is_nil")]
    pub lineage: LineageId,
    /// The number of the membership.
    pub epoch: Epoch,
    /// What is switched on: every member can do this much, and it is never taken back. Databases of before members said
    /// what they can have none.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub feature_level: FeatureLevel,
    /// All nodes.
    pub nodes: BTreeMap<Name, Node>,
    /// All disks.
    pub disks: BTreeMap<Name, Disk>,
    /// All volumes.
    pub volumes: BTreeMap<Name, Volume>,
    /// All attachments.
    pub attachments: BTreeMap<Name, Attachment>,
    /// What is here of volumes that are not whole, by the volume's permanent id: the rest lies on disks that are not
    /// in the cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fragments: BTreeMap<Uuid, Fragment>,
    /// The tokens that let nodes in, until they expire.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<Name, JoinToken>,
}

impl Cluster {
    /// The cluster before its first command: generation 0, nothing in it.
    pub fn empty() -> Cluster {
        Cluster::default()
    }

    /// Whether the first command has been applied.
    pub fn is_initialised(&self) -> bool {
        !self.id.is_nil()
    }

    /// What all members can, whether or not it is switched on; those that were given up among them, since they come back.
    pub fn common_feature_level(&self) -> FeatureLevel {
        let members = self.nodes.values().filter(|node| node.has_joined());
        members.map(|node| node.feature_level).min().unwrap_or_default()
    }

    /// The node of a permanent id, with its name.
    pub fn node_by_id(&self, uuid: Uuid) -> Option<(&Name, &Node)> {
        self.nodes.iter().find(|(_, node)| node.uuid == uuid)
    }

    /// Every extent on a disk with the volume it belongs to, by volume, in the volume's order.
    pub fn extents_on<'a>(
        &'a self,
        disk: &'a Name,
    ) -> impl Iterator<Item = (&'a Name, &'a Volume, &'a Extent)> {
        self.volumes.iter().flat_map(move |(name, volume)| {
            let here = volume
                .all_extents()
                .iter()
                .filter(move |extent| extent.disk == *disk);
            here.map(move |extent| (name, volume, extent))
        })
    }

    /// The volumes that lie on a disk, each once.
    pub fn volumes_on(&self, disk: &Name) -> Vec<Name> {
        let mut volumes: Vec<Name> = self.extents_on(disk).map(|(name, ..)| name.clone()).collect();
        volumes.dedup();
        volumes
    }

    /// Every extent on a disk that belongs to a volume which is not whole.
    pub fn fragments_on<'a>(
        &'a self,
        disk: &'a Name,
    ) -> impl Iterator<Item = (&'a Uuid, &'a Fragment, &'a Piece)> {
        self.fragments.iter().flat_map(move |(uuid, fragment)| {
            let here = fragment
                .pieces
                .iter()
                .filter(move |piece| piece.extent.disk == *disk);
            here.map(move |piece| (uuid, fragment, piece))
        })
    }

    /// The attachments of a volume.
    pub fn attachments_of<'a>(
        &'a self,
        volume: &'a Name,
    ) -> impl Iterator<Item = (&'a Name, &'a Attachment)> {
        self.attachments
            .iter()
            .filter(move |(_, attachment)| attachment.volume == *volume)
    }

    /// The other nodes that offer a volume and ask the one that reaches its disks for it, each with whether it may change it.
    pub fn askers_of(&self, volume: &Name) -> BTreeMap<Name, bool> {
        let reaches = self.node_of(volume);
        let mut askers = BTreeMap::new();
        for (_, attachment) in self.attachments_of(volume) {
            if Some(&attachment.node) != reaches {
                *askers.entry(attachment.node.clone()).or_default() |= !attachment.read_only;
            }
        }
        askers
    }

    /// The node that reaches a volume's disks.
    pub fn node_of(&self, volume: &Name) -> Option<&Name> {
        let first = self.volumes.get(volume)?.all_extents().first()?;
        self.disks.get(&first.disk).map(|disk| &disk.node)
    }
}

fn is_nothing(level: &FeatureLevel) -> bool {
    *level == FeatureLevel::default()
}
