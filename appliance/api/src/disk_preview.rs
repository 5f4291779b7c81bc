//! What adding a disk would find and do, before it is done.

use crate::disk::{DiskUsage, Medium};
use crate::problem::Problem;
use crate::takeover::VolumePart;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A partition that a table on the medium tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionFound {
    /// Its place in the table, counted from 1.
    pub number: u32,
    /// Its name; empty when it has none.
    pub name: String,
    /// Where it begins, in bytes.
    pub offset_bytes: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// The pooled disk of Palisade that the medium says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PooledFound {
    /// Its name in the cluster that it belongs to.
    pub id: String,
    /// Its permanent id.
    pub uuid: String,
    /// That cluster.
    pub cluster: String,
    /// The generation that it carries.
    pub generation: u64,
    /// The volumes that lie on it, with the bytes of each.
    pub volumes: Vec<VolumePart>,
    /// What is not as it should be with its superblock.
    pub damage: Vec<String>,
}

/// What adding a disk would find and do. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskPreview {
    /// The id that was asked for.
    pub id: String,
    /// What it would be made of.
    #[serde(flatten)]
    #[schema(value_type = crate::disk::DiskMedium)]
    pub medium: Medium,
    /// How its space would be used.
    pub usage: DiskUsage,
    /// Size in bytes.
    pub bytes: u64,
    /// Logical block in bytes.
    pub block_bytes: u32,
    /// By what its medium would be known again, in words; absent when it has no identity of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// What was found on the medium, each in words, what names it best first. Empty when it is blank, and for an image
    /// that is given to one volume whole, which may hold anything.
    pub found: Vec<String>,
    /// The partitions that a table found there tells of.
    pub partitions: Vec<PartitionFound>,
    /// The pooled disk that the medium is, or was, when it carries a superblock that can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub palisade: Option<PooledFound>,
    /// What would happen, each in a sentence.
    #[schema(example = json!(["a partition table (gpt) on /dev/sdb is lost"]))]
    pub effects: Vec<String>,
    /// What is to be known about it, a sentence each.
    pub notes: Vec<String>,
    /// Why it would be refused for what was found; absent when it would be added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Problem>,
}
