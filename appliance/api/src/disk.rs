//! Disks: the media that volumes lie on.

use crate::state::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A file as a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileMedium {
    /// Absolute path. The file is created when it does not exist.
    #[schema(example = "/var/lib/palisade-disks/d1.img")]
    pub path: String,
    /// Size in bytes of a file to be created. Absent: the file must exist and is taken as long as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether a file to be created may have holes. Absent: its space is reserved. Of a disk that is there: whether it was
    /// made so.
    #[serde(default)]
    pub sparse: bool,
}

/// A block device as a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockMedium {
    /// Absolute path, best one that does not change, as below /dev/disk/by-id.
    #[schema(example = "/dev/disk/by-id/nvme-eui.0025385b91b00001")]
    pub path: String,
}

/// Memory as a disk; its content is gone when the daemon ends. For tests and measuring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryMedium {
    /// Size in bytes.
    pub bytes: u64,
}

/// A disk that answers at once and keeps nothing. For measuring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NullMedium {
    /// Size in bytes.
    pub bytes: u64,
}

/// What a disk is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// A file.
    File(FileMedium),
    /// A block device.
    Block(BlockMedium),
    /// Memory.
    Memory(MemoryMedium),
    /// Nothing.
    Null(NullMedium),
}

/// What a disk is made of: exactly one of these.
// [`Medium`] as it is described: one object with a field for each kind. Generators of clients cannot join the fields of a
// resource with one of several objects.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(crate) struct DiskMedium {
    /// A file.
    file: Option<FileMedium>,
    /// A block device.
    block: Option<BlockMedium>,
    /// Memory.
    memory: Option<MemoryMedium>,
    /// Nothing.
    null: Option<NullMedium>,
}

impl Medium {
    /// Its name in the API.
    pub fn name(&self) -> &'static str {
        match self {
            Medium::File(_) => "file",
            Medium::Block(_) => "block",
            Medium::Memory(_) => "memory",
            Medium::Null(_) => "null",
        }
    }

    /// The path of a file or block device.
    pub fn path(&self) -> Option<&str> {
        match self {
            Medium::File(FileMedium { path, .. }) | Medium::Block(BlockMedium { path }) => Some(path),
            Medium::Memory(_) | Medium::Null(_) => None,
        }
    }
}

/// How a disk's space is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskUsage {
    /// It carries our superblock; its extents are given to volumes.
    #[default]
    Pooled,
    /// It is given to one volume untouched.
    Whole,
}

/// The request for a disk: an id, exactly one of `file`, `block`, `memory`, `null`, and how to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "DiskCreateFields")]
pub struct DiskCreate {
    /// Chosen by the client; asking twice for the same is asking once.
    pub id: String,
    /// The node that reaches it: its id or name, or `self`. Absent: the node that is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What it is made of.
    #[serde(flatten)]
    pub medium: Medium,
    /// How its space is used.
    pub usage: DiskUsage,
    /// Logical block in bytes, 512 or 4096. Absent: the smallest that the medium takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
    /// Take the disk although it holds a filesystem, a partition table or a superblock. What it holds is lost.
    pub force: bool,
    /// Take a disk in a place that is emptied when the machine or the daemon stops, as /dev/shm.
    pub volatile: bool,
}

/// The request for a disk: an id, exactly one of `file`, `block`, `memory`, `null`, and how to use it.
// [`DiskCreate`] field by field, as it is read and described: unknown fields are refused here.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DiskCreateFields {
    /// Chosen by the client; asking twice for the same is asking once.
    #[schema(example = "d1")]
    id: String,
    /// The node that reaches it: its id or name, or `self`. Absent: the node that is asked.
    node: Option<String>,
    /// Made of a file.
    file: Option<FileMedium>,
    /// Made of a block device.
    block: Option<BlockMedium>,
    /// Made of memory.
    memory: Option<MemoryMedium>,
    /// Made of nothing.
    null: Option<NullMedium>,
    /// How its space is used.
    #[serde(default)]
    usage: DiskUsage,
    /// Logical block in bytes, 512 or 4096. Absent: the smallest that the medium takes.
    block_bytes: Option<u32>,
    /// Take the disk although it holds a filesystem, a partition table or a superblock. What it holds is lost.
    #[serde(default)]
    force: bool,
    /// Take a disk in a place that is emptied when the machine or the daemon stops, as /dev/shm.
    #[serde(default)]
    volatile: bool,
}

impl PartialSchema for DiskCreate {
    fn schema() -> RefOr<Schema> {
        DiskCreateFields::schema()
    }
}

impl ToSchema for DiskCreate {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        DiskCreateFields::schemas(schemas);
    }
}

/// How many media a request for a disk names instead of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a disk is made of exactly one of `file`, `block`, `memory`, `null`; the request names {0}")]
pub struct MediumCount(pub usize);

impl TryFrom<DiskCreateFields> for DiskCreate {
    type Error = MediumCount;

    fn try_from(fields: DiskCreateFields) -> Result<DiskCreate, MediumCount> {
        let mut media = [
            fields.file.map(Medium::File),
            fields.block.map(Medium::Block),
            fields.memory.map(Medium::Memory),
            fields.null.map(Medium::Null),
        ]
        .into_iter()
        .flatten();
        match (media.next(), media.count()) {
            (Some(medium), 0) => Ok(DiskCreate {
                id: fields.id,
                node: fields.node,
                medium,
                usage: fields.usage,
                block_bytes: fields.block_bytes,
                force: fields.force,
                volatile: fields.volatile,
            }),
            (None, _) => Err(MediumCount(0)),
            (Some(_), more) => Err(MediumCount(1 + more)),
        }
    }
}

/// A change of a disk: it may grow, its medium may be found elsewhere, and it can be protected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskPatch {
    /// New size in bytes of a file. Absent: the size of the medium is read again, as after a block device has
    /// grown; it stays as it is when `protected` is given alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Where the medium is found from now on, as an absolute path. It must be the medium that was recorded, unless
    /// `confirm` says that what is found there is the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What lies under the path is the disk, although it is not the medium that was recorded. Nothing on it is changed by
    /// that; an older copy of the disk waits for a decision (`adopt`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm: bool,
    /// Whether its removal is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
}

/// The request to record disks where they are that lie under each other's paths, all in one step. Either `disks` names those that
/// have exchanged their paths, and the medium of each has to be under the path of one of them beyond doubt; or `places` says
/// where each of them is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskRelocate {
    /// Their ids, two or more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<String>,
    /// Where each of them is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<DiskPlace>,
    /// What lies in a place is the disk that it is said to be, also where it is another medium than the recorded one, as a copy
    /// is, or its content is not what that disk held when it was last seen. Not for what is the medium of another disk, as
    /// that is recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm: bool,
    /// Only say what lies in each place. What would be refused is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Where a disk is said to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskPlace {
    /// The disk.
    pub id: String,
    /// The path of its medium, absolute.
    pub path: String,
}

/// Where a disk was recorded, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelocatedDisk {
    /// The disk.
    pub id: String,
    /// The path that was recorded for it.
    pub before: String,
    /// The path under which its medium lies, recorded from now on.
    pub path: String,
    /// What lies there, in words, where its place was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<String>,
    /// Nothing proves that it is the disk, as of a copy: it is taken with `confirm` only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproved: bool,
}

/// Where disks are recorded now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskRelocated {
    /// The disks of the request, in its order; then those whose paths they have taken and whose own medium lies nowhere that is
    /// known. Each of these has got a path that has become free, and is not opened there before its medium is.
    pub disks: Vec<RelocatedDisk>,
}

/// How a disk is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskCondition {
    /// Not opened yet.
    #[default]
    Closed,
    /// It works.
    Online,
    /// Its oldest operation is past the deadline.
    Stalled,
    /// It answers with errors.
    Failing,
    /// It cannot be reached, or is not the disk it should be.
    Missing,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// Chosen by who added it.
    pub id: String,
    /// Permanent id, also in its superblock.
    pub uuid: String,
    /// Name of the node that it belongs to.
    #[serde(default)]
    pub node: String,
    /// What it is made of.
    #[serde(flatten)]
    #[schema(value_type = DiskMedium)]
    pub medium: Medium,
    /// How its space is used.
    pub usage: DiskUsage,
    /// Size in bytes; 0 while it is not known.
    pub bytes: u64,
    /// Bytes that can still be given to volumes; on a disk that one volume has whole, by which that volume may still grow.
    pub free_bytes: u64,
    /// Logical block in bytes.
    pub block_bytes: u32,
    /// How it is doing.
    pub condition: DiskCondition,
    /// By what its medium is known again, in words; absent when it has no identity of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Whether a file was made with holes, so that it takes its space as it is written to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
    /// Bytes that a file has taken of its file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_bytes: Option<u64>,
    /// What is to be known about it, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The volumes that lie on it.
    pub volumes: Vec<String>,
    /// Whether its removal is refused.
    #[serde(default)]
    pub protected: bool,
    /// It has been given up, and is gone once its superblock is erased and it is closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Operations in flight now.
    pub in_flight: u64,
    /// Age in milliseconds of the oldest operation in flight; 0 when none.
    pub oldest_ms: u64,
    /// Faults since the daemon started, by name (`media`, `no_space`, `gone`, ...); those that never happened are left out.
    /// What guests brought on themselves (`guest_memory`) is counted with their attachments only.
    pub faults: BTreeMap<String, u64>,
    /// Wanted and in force.
    pub state: State,
}
