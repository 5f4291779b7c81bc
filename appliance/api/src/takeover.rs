//! Disks that carry more, or something else, than the database knows: what each side knows, and which one is to hold.

use crate::disk::{BlockMedium, FileMedium};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which side is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What the disk says: the database takes it over.
    Disk,
    /// What the database says: it is written to the disk.
    Database,
}

/// The request to decide about a disk. Without `take` nothing is changed, and the answer says what would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskAdopt {
    /// Which side is to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<Side>,
    /// The `seen` of the answer that showed what would be lost. Needed with `take`: what has changed since is not
    /// decided about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// What the medium `holds` is written over where superblocks belong, although nothing there says that it is the disk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// A volume, or the part of one that lies on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumePart {
    /// Its name.
    pub id: String,
    /// Its permanent id.
    pub uuid: String,
    /// Bytes of it on the disk.
    pub bytes: u64,
    /// Bytes of it there as the database has it, where both have it and in other places or of another size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_bytes: Option<u64>,
}

/// A volume of the database in whose place the disk has another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeOverwritten {
    /// The database's volume, with the bytes that the other one has taken.
    pub volume: VolumePart,
    /// The name of the other one on the disk.
    pub by: String,
    /// Bytes from the beginning of the database's volume that nobody else has had, and that stay as the disk has them. What
    /// comes behind is emptied.
    #[serde(default)]
    pub kept_bytes: u64,
}

/// What a disk and the database know of each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskAdoption {
    /// The disk.
    pub disk: String,
    /// How the disk stands to the database: `in_force`, `older` (brought up to date by itself), `older_copy` (an older copy of
    /// the medium was put in its place), `end_lost` (an end of the medium was cut off or written over), `newer`,
    /// `diverged`, `lost`, `damaged`, `foreign`.
    pub standing: String,
    /// The same in a sentence.
    pub message: String,
    /// Generation that the disk carries, if it can be read.
    pub disk_generation: Option<u64>,
    /// Id of that generation, if it has one.
    pub disk_lineage: Option<String>,
    /// Generation that the database would write to the disk.
    pub database_generation: u64,
    /// Id of that generation.
    pub database_lineage: String,
    /// Volumes that only the disk knows. Taking the database's side loses them with their data.
    pub only_on_disk: Vec<VolumePart>,
    /// Volumes that only the database knows there. Taking the disk's side forgets them.
    pub only_in_database: Vec<VolumePart>,
    /// Volumes that both know, in other places or of another size. Either way one of the two is lost.
    pub elsewhere: Vec<VolumePart>,
    /// Volumes of the database that lie where the disk has other ones, whose guests have written there since. Taking the
    /// database's side empties them from the first such place on: they read as zeros there afterwards.
    #[serde(default)]
    pub overwritten: Vec<VolumeOverwritten>,
    /// Volumes that both know, on an older copy: whichever side is taken, their content is as it was when the copy was made.
    #[serde(default)]
    pub as_of_copy: Vec<VolumePart>,
    /// What the medium holds where nothing on it says that it is the disk, in words; `nothing` when it is blank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<String>,
    /// To be given with `take`.
    pub seen: String,
    /// The side that was taken by this request.
    pub taken: Option<Side>,
    /// The sides that can be taken as things are.
    #[serde(default)]
    pub choices: Vec<Side>,
    /// The other sides, where something is to be decided.
    #[serde(default)]
    pub refused: Vec<SideRefused>,
}

/// A side that cannot be taken as things are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SideRefused {
    /// Which.
    pub side: Side,
    /// Why not.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// One medium to be taken in with what its superblock says: exactly one of `file` and `block`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportMedium {
    /// A file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileMedium>,
    /// A block device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<BlockMedium>,
    /// The disk's id. Absent: its name as its superblock has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl ImportMedium {
    /// Where it lies.
    pub fn path(&self) -> Option<&str> {
        let file = self.file.as_ref().map(|file| file.path.as_str());
        file.or_else(|| Some(self.block.as_ref()?.path.as_str()))
    }
}

/// The request to take disks in with the volumes that their superblocks tell of. Nothing on them is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskImport {
    /// The media, together when volumes lie across them.
    pub disks: Vec<ImportMedium>,
    /// Only say what would be taken in.
    #[serde(default)]
    pub dry_run: bool,
    /// Take disks of another cluster although this one has disks of its own. That cluster must not use them any more.
    #[serde(default)]
    pub other_cluster: bool,
    /// Take them also where they do not last: on a file system in memory, or made of memory.
    #[serde(default)]
    pub volatile: bool,
}

/// A disk that was, or would be, taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedDisk {
    /// Its id here.
    pub id: String,
    /// Where it is.
    pub path: String,
    /// Its permanent id.
    pub uuid: String,
    /// The cluster that its superblock names.
    pub cluster: String,
    /// The generation that it carries.
    pub generation: u64,
    /// What is not as it should be with its superblock.
    pub damage: Vec<String>,
}

/// A volume that was, or would be, taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedVolume {
    /// Its id here. Another than on the disk when that is taken.
    pub id: String,
    /// Its name on the disk.
    pub name: String,
    /// Its permanent id.
    pub uuid: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes of it that are here. Less than all: the rest lies on disks that are missing, and it cannot be attached yet.
    pub present_bytes: u64,
}

/// What was, or would be, taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskImported {
    /// The disks.
    pub disks: Vec<ImportedDisk>,
    /// The volumes that lie on them, wholly or in part.
    pub volumes: Vec<ImportedVolume>,
    /// Whether the cluster has taken over the permanent id of theirs, as after its database was lost.
    pub takes_cluster_id: bool,
    /// Whether it was done.
    pub done: bool,
}
