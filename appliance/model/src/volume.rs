//! Volumes: what a guest sees as one virtio-blk disk.

use crate::clearing::{Clear, Clearing};
use palisade_words::{Generation, Name, Uuid};
use serde::{Deserialize, Serialize};

/// One virtual disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// Permanent id.
    pub uuid: Uuid,
    /// Size in sectors.
    pub sectors: u64,
    /// Logical block in bytes, 512 or 4096, not smaller than that of any of its disks.
    pub block_bytes: u32,
    /// How its blocks map to disks.
    pub layout: Layout,
    /// The generation at which it was created.
    pub created: Generation,
    /// The generation at which it last changed.
    pub revision: Generation,
    /// The generation at which what guests may use of it last changed; its route carries it. Absent: the revision is
    /// it. See [`Volume::route_generation`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout_revision: Option<Generation>,
    /// When its space is cleared, if the operator has chosen. See [`Cluster::clear_of`](crate::Cluster::clear_of).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<Clear>,
    /// The part of it that is not known to read as zeros yet. Absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clearing: Option<Clearing>,
    /// Whether it is gone for operators and guests, and only keeps its space until that is cleared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
    /// Whether its deletion is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
}

/// How a volume's blocks map to disks. Whoever has to know how matches on it, and so finds out by the compiler when there
/// is another way: what does not matter on it walks [`Volume::all_extents`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Layout {
    /// One extent behind the other. Together they are exactly as long as the volume.
    Linear {
        /// In the order of the volume's sectors.
        extents: Vec<Extent>,
    },
}

/// A contiguous piece of a disk that belongs to a volume. On a pooled disk it begins on a unit of allocation
/// (counted from the start of the data area) and owns all units it touches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Extent {
    /// Which disk.
    pub disk: Name,
    /// First sector, counted from the start of the disk (not of its data area).
    pub disk_lba: u64,
    /// Length in sectors, never zero.
    pub sectors: u64,
}

impl Volume {
    /// All pieces of disks that belong to the volume, whatever each is there for: no more than that may be read out of their
    /// order.
    pub fn all_extents(&self) -> &[Extent] {
        match &self.layout {
            Layout::Linear { extents } => extents,
        }
    }

    /// The pieces that its sectors lie on, in their order, each with the volume's sector that it begins at.
    pub fn placed_extents(&self) -> impl Iterator<Item = (u64, &Extent)> {
        match &self.layout {
            Layout::Linear { extents } => extents.iter().scan(0, |at, extent| {
                let begins = *at;
                *at += extent.sectors;
                Some((begins, extent))
            }),
        }
    }

    /// Sectors from its beginning that guests may use: all but those that are still to be cleared.
    pub fn usable_sectors(&self) -> u64 {
        match &self.clearing {
            None => self.sectors,
            Some(clearing) if clearing.held => 0,
            Some(clearing) => clearing.from,
        }
    }

    /// Whether its clearing waits for an operator's decision.
    pub fn is_clearing_held(&self) -> bool {
        self.clearing.is_some_and(|clearing| clearing.held)
    }

    /// The generation at which what guests may use of it last changed: that of its route.
    pub fn route_generation(&self) -> Generation {
        self.layout_revision.unwrap_or(self.revision)
    }

    /// The pieces of disks that guests may use, in order.
    pub fn usable_extents(&self) -> Vec<Extent> {
        match (&self.clearing, &self.layout) {
            // As they are recorded: what is wrong with them is for whoever serves them to find.
            (None, Layout::Linear { extents }) => extents.clone(),
            (Some(_), _) => self.extents_between(0, self.usable_sectors()),
        }
    }

    /// The pieces of disks that are not known to read as zeros, in order.
    pub fn uncleared_extents(&self) -> Vec<Extent> {
        self.clearing.as_ref().map_or_else(Vec::new, |clearing| {
            self.extents_between(clearing.cleared, self.sectors)
        })
    }

    /// The pieces of disks under the volume's sectors from `start` up to `end`.
    pub fn extents_between(&self, start: u64, end: u64) -> Vec<Extent> {
        let piece = |(at, extent): (u64, &Extent)| {
            let (first, last) = (start.max(at), end.min(at.saturating_add(extent.sectors)));
            (first < last).then(|| Extent {
                disk: extent.disk.clone(),
                disk_lba: extent.disk_lba + (first - at),
                sectors: last - first,
            })
        };
        self.placed_extents().filter_map(piece).collect()
    }

    /// Whether any of it lies on a disk.
    pub fn lies_on(&self, disk: &Name) -> bool {
        self.all_extents().iter().any(|extent| extent.disk == *disk)
    }
}
