//! Volumes: what a guest sees as one disk.

use crate::state::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The request for a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeCreate {
    /// Chosen by the client; asking twice for the same is asking once.
    #[schema(example = "v1")]
    pub id: String,
    /// The node on whose disks it is to lie: its id or name, or `self`. Absent: placement chooses one, which the answer names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Size in bytes, a multiple of the logical block.
    #[schema(example = 10737418240u64)]
    pub bytes: u64,
    /// The disk to lie on. Absent: a pooled disk with enough room is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// Logical block in bytes, 512 or 4096. Absent: that of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
    /// When its space is cleared. Absent: `now` on a pooled disk and on a whole one that has had a volume before, or may have
    /// had one that the database does not know of; `never` for the first volume on any other whole one, which is given untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<Clear>,
}

/// When a volume's space is cleared, so that what its guest has not written reads as zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Clear {
    /// Before a guest sees it, in the background.
    #[default]
    Now,
    /// Before a guest sees it, and again when the volume is deleted, before anybody else gets the space.
    OnDelete,
    /// Not at all: a guest may read what was there before.
    Never,
}

/// Space of a volume that is still to be cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Clearing {
    /// Bytes to be cleared in all.
    pub bytes: u64,
    /// Bytes of these that are clear.
    pub cleared_bytes: u64,
}

/// A change of a volume. At least one thing has to change; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumePatch {
    /// New size in bytes, not below the present one. Guests see it once the new part is clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether its deletion is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// When its space is cleared. `never` also gives guests what is not clear yet, and is refused where that is what guests of
    /// others have written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<Clear>,
    /// Zeroes its space, whatever lies there, where its clearing is held since the database was restored. Goes with no other
    /// change; what nothing is held of stays as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clear_held: bool,
}

/// A piece of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Extent {
    /// The disk.
    pub disk: String,
    /// Where it begins, in bytes from the start of the disk.
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
    /// Name of the node on whose disks it lies.
    #[serde(default)]
    pub node: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes of it that guests see: less than the size while the rest is cleared.
    #[serde(default)]
    pub usable_bytes: u64,
    /// Logical block in bytes.
    pub block_bytes: u32,
    /// When its space is cleared.
    #[serde(default)]
    pub clear: Clear,
    /// What is still to be cleared; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clearing: Option<Clearing>,
    /// Whether its deletion is refused.
    #[serde(default)]
    pub protected: bool,
    /// Whether it is deleted, and only keeps its name and space until that is cleared.
    #[serde(default)]
    pub deleting: bool,
    /// Where its blocks lie.
    pub layout: Layout,
    /// The attachments that offer it.
    pub attachments: Vec<String>,
    /// Wanted and in force.
    pub state: State,
}
