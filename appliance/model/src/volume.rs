//! Volumes: what a guest sees as one virtio-blk disk.

use crate::generation::Generation;
use crate::name::Name;
use crate::uuid::Uuid;
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
    /// The generation at which it last changed; its route carries it.
    pub revision: Generation,
}

/// How a volume's blocks map to disks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
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
    /// All pieces of disks that belong to the volume.
    pub fn extents(&self) -> &[Extent] {
        match &self.layout {
            Layout::Linear { extents } => extents,
        }
    }

    /// All pieces with the volume's sector that each begins at.
    pub fn placed_extents(&self) -> impl Iterator<Item = (u64, &Extent)> {
        self.extents().iter().scan(0, |at, extent| {
            let begins = *at;
            *at += extent.sectors;
            Some((begins, extent))
        })
    }

    /// Whether any of it lies on a disk.
    pub fn lies_on(&self, disk: &Name) -> bool {
        self.extents().iter().any(|extent| extent.disk == *disk)
    }
}
