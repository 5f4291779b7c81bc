//! What is here of a volume that is not whole, because some of its disks are not in the cluster.
//!
//! It cannot be attached. Its extents are nobody else's all the same: when the missing disk is imported too, it is a
//! volume again.

use crate::volume::Extent;
use palisade_words::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The part of a volume that is here. Its permanent id is its key in [`Cluster::fragments`](crate::Cluster::fragments).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fragment {
    /// The volume's name as its disks tell it. Another volume may have it by now.
    pub name: Name,
    /// Size of the whole volume in sectors.
    pub sectors: u64,
    /// Logical block in bytes, 512 or 4096.
    pub block_bytes: u32,
    /// The parts that are here, in the order of the volume's sectors, never none.
    pub pieces: Vec<Piece>,
}

/// One part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// The volume's sector that it begins at.
    pub volume_lba: u64,
    /// Where it lies.
    pub extent: Extent,
}

impl Fragment {
    /// Sectors that are here.
    pub fn present_sectors(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.extent.sectors).sum()
    }

    /// The disks that they lie on.
    pub fn disks(&self) -> BTreeSet<&Name> {
        self.pieces.iter().map(|piece| &piece.extent.disk).collect()
    }
}
