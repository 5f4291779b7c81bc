//! Volumes: what a guest sees as one disk.

use crate::state::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The wish for a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeCreate {
    /// Chosen by the client; asking twice for the same is asking once.
    #[schema(example = "v1")]
    pub id: String,
    /// Size in bytes, a multiple of the logical block.
    #[schema(example = 10737418240u64)]
    pub bytes: u64,
    /// The disk to lie on. Absent: a pooled disk with enough room is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// Logical block in bytes, 512 or 4096. Absent: that of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
}

/// A change of a volume: it may grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumePatch {
    /// New size in bytes, not below the present one.
    pub bytes: u64,
}

/// A piece of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Extent {
    /// The disk.
    pub disk: String,
    /// Where it begins, in bytes from the start of the disk's space for volumes.
    pub offset_bytes: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// How a volume's blocks map to disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Layout {
    /// One extent after the other.
    Linear {
        /// In the order of the volume's blocks.
        extents: Vec<Extent>,
    },
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// Chosen by who created it.
    pub id: String,
    /// Permanent id.
    pub uuid: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Logical block in bytes.
    pub block_bytes: u32,
    /// Where its blocks lie.
    pub layout: Layout,
    /// The attachments that offer it.
    pub attachments: Vec<String>,
    /// Wanted and in force.
    pub state: State,
}
