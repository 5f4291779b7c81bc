//! Disks: the cluster's names for physical media.

use crate::lineage::History;
use crate::medium_record::{MediumRecord, OtherMedium};
use crate::superblock::SuperblockState;
use palisade_words::{Generation, Name, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One physical medium, whoever reaches it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Disk {
    /// Permanent id; a pooled disk's superblock carries it.
    pub uuid: Uuid,
    /// Its custodian: the node that reaches it by the path in `medium`, and writes its superblock.
    pub node: Name,
    /// What it is made of.
    pub medium: Medium,
    /// The paths of the other nodes that reach it, by node. A disk of versions before has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other_paths: BTreeMap<Name, DiskPath>,
    /// What was recorded of the medium, so that another one under its path is known for what it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub record: MediumRecord,
    /// How its space is given away.
    pub usage: Usage,
    /// Logical block in bytes, 512 or 4096.
    pub block_bytes: u32,
    /// Size in sectors.
    pub sectors: u64,
    /// First sector of the data area: 0 for a whole disk, behind the head superblock for a pooled one.
    pub data_start: u64,
    /// First sector behind the data area.
    pub data_end: u64,
    /// The generation at which the extents on it last changed. They are kept with the volumes, so this is no change
    /// of the disk's own revision.
    pub extents_revision: Generation,
    /// The generation at which it was added.
    pub created: Generation,
    /// The generation at which it last changed.
    pub revision: Generation,
    /// Whether its removal is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    /// It has been given up, and is gone once its node has let go of the medium. Nothing is put on it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// It keeps no superblock, and the database was put back from a copy: nobody opens it before an operator has said that it
    /// is as the database has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// It keeps no superblock, and volumes may have lain on its medium of which the database does not know: that was put back
    /// from a copy, or the medium is another one. Its next volume is cleared before use, like one after another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown_past: bool,
    /// Whether its first superblock is on the medium. No extent is put on it before.
    #[serde(default, skip_serializing_if = "FirstSuperblock::is_on_medium")]
    pub first_superblock: FirstSuperblock,
    /// The generation that its medium carried when it was last taken as it was found, by an import or because an operator chose
    /// it: a medium that carries an earlier one is an older copy, whatever a node may have on record of it. None where that has
    /// not happened, and in databases of versions that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Generation>,
    /// The generations at which what its superblock says has changed.
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub history: History,
}

/// The way from one node to a disk. Whether it works at present is seen by the node, and agreed on by nobody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DiskPath {
    /// Absolute path on that node: the same medium may have another name on each.
    pub path: String,
    /// The generation at which the node said that it reaches the disk by it.
    pub since: Generation,
}

/// Why a disk is held: what was given to whom on it since is known to nobody here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Held {
    /// When the copy was taken that the database was put back from, in seconds since 1970, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_unix_s: Option<u64>,
}

/// Whether a disk's first superblock has been written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstSuperblock {
    /// It is on the medium, or the disk keeps none.
    #[default]
    OnMedium,
    /// The node has yet to write it, and to say so.
    Pending,
}

impl FirstSuperblock {
    /// Whether nothing is to come.
    pub fn is_on_medium(&self) -> bool {
        *self == FirstSuperblock::OnMedium
    }
}

/// What a disk is made of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Medium {
    /// Answers at once and keeps nothing; for measuring.
    Null {
        /// Size.
        bytes: u64,
    },
    /// Memory of the daemon: content is gone when it ends. For tests and measuring.
    Memory {
        /// Size.
        bytes: u64,
    },
    /// A file.
    File {
        /// Absolute path on the disk's node.
        path: String,
        /// Size.
        bytes: u64,
        /// The appliance made the file, before the disk was added. A file missing later is a fault, never something
        /// to make anew: its content would be gone without a word.
        created: bool,
    },
    /// A block device.
    Block {
        /// Absolute path on the disk's node. It may change between boots where there is a WWID to find it by.
        path: String,
        /// World-wide id of the medium, if it has one.
        wwid: Option<String>,
    },
}

/// How a disk's space is given away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// Our superblock at head and tail, extents in between given to volumes.
    Pooled,
    /// Given to one volume untouched.
    Whole,
}

fn is_default(record: &MediumRecord) -> bool {
    *record == MediumRecord::default()
}

impl Disk {
    /// Whether a medium of which `found` and `wwid` were read is this disk's.
    ///
    /// # Errors
    /// The first thing that differs.
    pub fn check_medium(&self, found: &MediumRecord, wwid: Option<&str>) -> Result<(), OtherMedium> {
        self.record.check(self.medium.wwid(), found, wwid)
    }

    /// Whether what was found where superblocks belong is as it should be: our own on a pooled disk that lasts, and on any other
    /// none.
    pub fn is_its_own(&self, found: SuperblockState) -> bool {
        match self.has_superblock() {
            true => matches!(found, SuperblockState::Ours { .. }),
            false => found == SuperblockState::Missing,
        }
    }

    /// Of the disks whose superblocks were `found` on its medium, those that nobody has said to be its guest's: somebody else
    /// has made the medium his own, as far as is known. Only what is given whole, and lasts, is asked; a pooled disk has its
    /// own superblock there.
    pub fn strangers<'a>(
        &'a self,
        found: impl IntoIterator<Item = Uuid> + 'a,
    ) -> impl Iterator<Item = Uuid> + 'a {
        let is_asked = self.usage == Usage::Whole && self.medium.is_lasting();
        let found = found.into_iter();
        found.filter(move |uuid| is_asked && !self.record.nested.contains(uuid))
    }

    /// The node that writes its superblock.
    pub fn custodian(&self) -> &Name {
        &self.node
    }

    /// Whether a node reaches it.
    pub fn is_reached_by(&self, node: &Name) -> bool {
        self.node == *node || self.other_paths.contains_key(node)
    }

    /// Under which path a node finds its medium; none where the node does not reach it, or the medium has none.
    pub fn path_of(&self, node: &Name) -> Option<&str> {
        match self.node == *node {
            true => self.medium.path(),
            false => self.other_paths.get(node).map(|path| path.path.as_str()),
        }
    }

    /// Whether the medium tells by itself who it is: by WWID, serial number or inode, or by our superblock on it.
    pub fn has_identity(&self) -> bool {
        let tells =
            self.medium.wwid().is_some() || self.record.serial.is_some() || self.record.file.is_some();
        tells || self.has_superblock() || !self.medium.is_lasting()
    }

    /// Whether a volume lies on it, or has lain on it since it was added: whatever it carries may be a guest's.
    pub fn has_had_volumes(&self) -> bool {
        // Nothing but volumes that come, grow and go changes its extents.
        self.extents_revision > self.created
    }

    /// Notes that the database may be older than its medium, or of another one: what lay on it meanwhile is not known. What
    /// keeps a superblock is known by that.
    pub(crate) fn forget_past(&mut self) {
        self.unknown_past |= self.keeps_no_record();
    }

    /// The generation that the superblock on the medium must show: of the latest change of the disk or its extents.
    pub fn superblock_generation(&self) -> Generation {
        self.revision.max(self.extents_revision)
    }

    /// Whether its content outlives the daemon and nothing on it tells whose that is: given whole, on a medium that lasts.
    pub fn keeps_no_record(&self) -> bool {
        self.medium.is_lasting() && !self.has_superblock()
    }

    /// Whether it keeps a superblock: pooled, on a medium that outlives the daemon.
    pub fn has_superblock(&self) -> bool {
        self.usage == Usage::Pooled && self.medium.is_lasting()
    }
}

impl Medium {
    /// Whether content outlives the daemon.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Medium::File { .. } | Medium::Block { .. })
    }

    /// The size that belongs to the medium's description; `None` for a block device, which is asked for its size.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Medium::Null { bytes } | Medium::Memory { bytes } | Medium::File { bytes, .. } => Some(*bytes),
            Medium::Block { .. } => None,
        }
    }

    /// The WWID that was recorded, if it has one.
    pub fn wwid(&self) -> Option<&str> {
        match self {
            Medium::Block { wwid, .. } => wwid.as_deref(),
            Medium::File { .. } | Medium::Null { .. } | Medium::Memory { .. } => None,
        }
    }

    /// The path, if it has one.
    pub fn path(&self) -> Option<&str> {
        match self {
            Medium::File { path, .. } | Medium::Block { path, .. } => Some(path),
            Medium::Null { .. } | Medium::Memory { .. } => None,
        }
    }
}
