//! What an operator may ask for. A command carries everything it needs: apply draws no chance and reads no clock.

use crate::attachment::{Account, Limits};
use crate::clearing::Clear;
use crate::disk::{Held, Medium, Usage};
use crate::join_token::{CreateToken, RevokeToken};
use crate::limits::QUEUE_SIZE_DEFAULT;
use crate::medium_record::MediumRecord;
use palisade_words::{Ancestor, Epoch, Generation, Name, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod node;
pub use node::{
    AddNode, AdmitNode, ChangeNode, EvictNodes, NodeStarted, RaiseFeatureLevel, ReadmitNode, RemoveNode,
};

/// A change of the cluster.
///
/// Creation is idempotent: the same name with the same arguments leaves the cluster as it is
/// ([`Outcome::Unchanged`]). The uuid is not an argument in that sense: a client that repeats itself draws a new one.
/// An argument left out is not compared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Begins the cluster.
    InitCluster(InitCluster),
    /// Lets a node into the cluster, which becomes a member once it says that it has started.
    AddNode(AddNode),
    /// Makes a token that lets a node in.
    CreateToken(CreateToken),
    /// Takes a token back.
    RevokeToken(RevokeToken),
    /// Lets a node in that has shown a token, which is used up in the same step.
    AdmitNode(AdmitNode),
    /// A node says that it has started, and what it can.
    NodeStarted(NodeStarted),
    /// Switches on what all members can.
    RaiseFeatureLevel(RaiseFeatureLevel),
    /// Changes where a node is, or whether it has a vote.
    ChangeNode(ChangeNode),
    /// Takes a node away that nothing lies on.
    RemoveNode(RemoveNode),
    /// Gives members up that the others do not hear.
    EvictNodes(EvictNodes),
    /// Takes a node back that was given up.
    ReadmitNode(ReadmitNode),
    /// Adds a disk.
    AddDisk(AddDisk),
    /// Takes a disk away that no volume lies on.
    RemoveDisk(RemoveDisk),
    /// Says that a disk's node has let go of the medium of a disk that leaves.
    ReleaseDisk(ReleaseDisk),
    /// Says that a disk has become larger.
    GrowDisk(GrowDisk),
    /// Says which medium a disk is, or under which path it is found.
    IdentifyDisk(IdentifyDisk),
    /// Says under which paths disks are found, of several in one step.
    RelocateDisks(RelocateDisks),
    /// Says that another node reaches a disk.
    AddPath(AddPath),
    /// Says that another node reaches a disk no longer.
    RemovePath(RemovePath),
    /// Changes how a disk is treated.
    ChangeDisk(ChangeDisk),
    /// Says that a disk's first superblock is on the medium.
    ConfirmSuperblock(ConfirmSuperblock),
    /// Takes a medium that grew on elsewhere over, as the database has it.
    AdoptDisk(AdoptDisk),
    /// Takes disks into the cluster with the volumes that their superblocks tell of.
    ImportDisks(ImportDisks),
    /// Creates a volume.
    CreateVolume(CreateVolume),
    /// Makes a volume larger.
    GrowVolume(GrowVolume),
    /// Changes how a volume is treated.
    ChangeVolume(ChangeVolume),
    /// Deletes a volume that is not attached.
    DeleteVolume(DeleteVolume),
    /// Gives up what is here of a volume that is not whole.
    DeleteFragment(DeleteFragment),
    /// Says how far a volume's space has been cleared.
    RecordCleared(RecordCleared),
    /// Says that the database was put back from a copy: what it would clear where no superblock tells whether that is still to
    /// be cleared waits for [`ClearHeld`], or for a [`ChangeVolume`] to [`Clear::Never`]. Refused by none.
    HoldClearings,
    /// Says the same of what lies on disks without a superblock: they are held until an operator has said of each that it is
    /// as the database has it ([`IdentifyDisk`], [`RelocateDisks`]). Refused by none.
    HoldDisks(Held),
    /// Clears a volume whose clearing is held.
    ClearHeld(ClearHeld),
    /// Offers a volume to a VM.
    CreateAttachment(CreateAttachment),
    /// Changes how a volume is offered.
    ChangeAttachment(ChangeAttachment),
    /// Ends an offer.
    DeleteAttachment(DeleteAttachment),
}

/// Begins the cluster, with its first node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InitCluster {
    /// Permanent id of the cluster.
    pub id: Uuid,
    /// Name of its first node.
    pub node: Name,
    /// Permanent id of that node.
    pub node_uuid: Uuid,
}

/// Adds a disk. The proposer has looked at the medium and laid out its data area.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddDisk {
    /// Its name.
    pub name: Name,
    /// Permanent id.
    pub uuid: Uuid,
    /// The node that reaches it.
    pub node: Name,
    /// What it is made of. Where the description has a size, it is `sectors`.
    pub medium: Medium,
    /// What was read of it to know it by.
    #[serde(default)]
    pub record: MediumRecord,
    /// How its space is given away.
    pub usage: Usage,
    /// Logical block in bytes, 512 or 4096.
    pub block_bytes: u32,
    /// Size in sectors, a multiple of the block.
    pub sectors: u64,
    /// First sector of the data area; 0 for a whole disk.
    pub data_start: u64,
    /// First sector behind the data area; `sectors` for a whole disk.
    pub data_end: u64,
    /// The node says with [`ConfirmSuperblock`] when the first superblock is on the medium. Commands of old logs lack
    /// it, and their disks are taken to have one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub superblock_pending: bool,
}

/// Says that a disk's first superblock is on the medium, stable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfirmSuperblock {
    /// Which disk.
    pub name: Name,
    /// Its permanent id: another disk may have got the name.
    pub uuid: Uuid,
}

/// The configuration that a medium carries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OnMedium {
    /// Number and id of its generation.
    pub point: Ancestor,
    /// Number of its membership.
    pub epoch: Epoch,
    /// The generations that it carried before, as it remembers them, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<Ancestor>,
}

/// Takes a medium that grew on elsewhere over as the database has it: what only the medium knows is lost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AdoptDisk {
    /// Which disk.
    pub name: Name,
    /// Its permanent id.
    pub uuid: Uuid,
    /// What the medium carried when the operator was shown what would be lost; `None` when it carried no superblock that
    /// could be used.
    pub seen: Option<OnMedium>,
    /// Volumes on the disk whose space the medium has given to others: what those have written there must not be shown to
    /// their guests, so they are emptied before they are used again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empties: Vec<Uuid>,
    /// Of these, the ones that keep something: sectors from the volume's beginning that are its own on the medium as well, in
    /// the same places. They are as the medium has them; what comes behind is emptied.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keeps: BTreeMap<Uuid, u64>,
    /// What the medium carried is a generation that the disk had carried before: it is an older copy, which the disk goes on
    /// from. Without this such a generation has been adopted already, and nothing changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub older: bool,
}

/// Takes disks into the cluster with the volumes that their superblocks tell of. A disk that is in the cluster
/// already is told of anew: what the database had on it is replaced by what its superblock says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImportDisks {
    /// Which.
    pub disks: Vec<ImportedDisk>,
    /// The cluster takes this permanent id for its own. Only while it has no disks: after its database was lost.
    pub cluster: Option<Uuid>,
    /// A disk that the database does not know names this very cluster: the database may be an old copy, and what it would clear
    /// on disks without a superblock is held. It is held as well when a disk is told of anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_clearings: bool,
    /// Refused where a protected volume would be gone by it, not whole, or smaller. False in commands of versions that took no
    /// notice: they mean the same for ever.
    #[serde(default, skip_serializing_if = "is_false")]
    pub regards_protection: bool,
}

/// A disk with what its superblock says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImportedDisk {
    /// Name, permanent id, medium and geometry.
    pub disk: AddDisk,
    /// The configuration that it carries.
    pub seen: OnMedium,
    /// The extents of its table.
    pub extents: Vec<ImportedExtent>,
}

/// One extent as a superblock's table has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImportedExtent {
    /// Permanent id of its volume.
    pub volume: Uuid,
    /// The volume's name when it was written.
    pub name: Name,
    /// Size of the whole volume in sectors.
    pub volume_sectors: u64,
    /// Logical block of the volume in bytes.
    pub block_bytes: u32,
    /// First sector on the volume.
    pub volume_lba: u64,
    /// First sector on the disk.
    pub disk_lba: u64,
    /// Length in sectors.
    pub sectors: u64,
}

/// Says which medium a disk is, or under which path it is found. The proposer has looked at the medium.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IdentifyDisk {
    /// Which.
    pub name: Name,
    /// Absolute path under which the medium is found; as before without one.
    pub path: Option<String>,
    /// World-wide id of the medium, if it has one; of block devices only.
    pub wwid: Option<String>,
    /// What was read of it to know it by.
    pub record: MediumRecord,
    /// An operator says that it is the disk, as the database has it: it is held no longer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub confirmed: bool,
    /// The revision it must have.
    pub expected: Option<Generation>,
}

/// Says under which paths disks are found. The proposer has looked at each medium. All of it is one step, so disks may
/// exchange their paths.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelocateDisks {
    /// Which, each once.
    pub disks: Vec<Relocation>,
}

/// Where one disk is found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Relocation {
    /// Which.
    pub name: Name,
    /// Its permanent id: another disk may have got the name.
    pub uuid: Uuid,
    /// Absolute path under which its medium is found.
    pub path: String,
    /// What was read of another medium than the recorded one, such as a copy, which an operator says is the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundMedium>,
    /// As in [`IdentifyDisk`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub confirmed: bool,
    /// The revision it must have.
    pub expected: Option<Generation>,
}

/// What a medium says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FoundMedium {
    /// World-wide id, if it has one; of block devices only.
    pub wwid: Option<String>,
    /// What else was read of it to know it by.
    pub record: MediumRecord,
}

/// Says that another node than its custodian reaches a disk. The proposer is that node, and has read the disk's identity and
/// superblock through the path: nobody else's word is taken for it. A node that finds the medium elsewhere says so again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddPath {
    /// Which disk.
    pub disk: Name,
    /// Its permanent id: another disk may have got the name.
    pub uuid: Uuid,
    /// The node.
    pub node: Name,
    /// Absolute path on the node.
    pub path: String,
}

/// Says that another node reaches a disk no longer. One that did not changes nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RemovePath {
    /// Which disk.
    pub disk: Name,
    /// Its permanent id.
    pub uuid: Uuid,
    /// The node.
    pub node: Name,
}

/// Takes a disk away that no volume lies on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RemoveDisk {
    /// Which.
    pub name: Name,
    /// The revision it must have.
    pub expected: Option<Generation>,
    /// The disk stays, as leaving, until its node has erased its superblock and closed it, and says so with
    /// [`ReleaseDisk`]. Without, it is gone at once, also one that leaves already, and what its medium carries may stay
    /// there: the meaning of commands of versions before, and what is left to do about a medium that cannot be reached.
    #[serde(default, skip_serializing_if = "is_false")]
    pub releases: bool,
}

/// Says that a disk's node has let go of the medium of a disk that leaves: its superblock is erased, and it is closed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReleaseDisk {
    /// Which disk.
    pub name: Name,
    /// Its permanent id: another disk may have got the name.
    pub uuid: Uuid,
}

/// Says that a disk has become larger.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GrowDisk {
    /// Which.
    pub name: Name,
    /// New size in sectors.
    pub sectors: u64,
    /// New end of the data area in sectors; `sectors` for a whole disk.
    pub data_end: u64,
    /// The revision it must have.
    pub expected: Option<Generation>,
}

/// Creates a volume with a linear layout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateVolume {
    /// Its name.
    pub name: Name,
    /// Permanent id.
    pub uuid: Uuid,
    /// The node whose disks are looked at when none is named.
    pub node: Name,
    /// The disk to lie on; without one, the node's pooled disk with the most free space.
    pub disk: Option<Name>,
    /// Size in sectors, a multiple of the block. May be left out on a whole disk, whose size it then has.
    pub sectors: Option<u64>,
    /// Logical block in bytes, 512 or 4096; without one, the disk's.
    pub block_bytes: Option<u32>,
    /// When its space is cleared; without a choice, before use on a pooled disk, and never on a whole one that has had
    /// no volume yet, which is given untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<Clear>,
    /// Whether what is not known to be clear is kept from guests until it is. False in commands of versions that did
    /// not clear: they mean the same for ever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clears: bool,
    /// Without a choice, clear it before use also on a whole disk that has had a volume before: what that held is not
    /// for the next one. False in commands of versions that gave such a disk untouched: they mean the same for ever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clears_reused: bool,
    /// The same on a whole disk of which it is not known whether it has had one ([`Disk::unknown_past`]). False in commands of
    /// versions that gave such a disk untouched: they mean the same for ever.
    ///
    /// [`Disk::unknown_past`]: crate::Disk::unknown_past
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clears_unknown_past: bool,
}

/// Makes a volume larger, never smaller.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GrowVolume {
    /// Which.
    pub name: Name,
    /// New size in sectors, a multiple of the block.
    pub sectors: u64,
    /// Where the new space comes from; without one, the disk that the volume ends on.
    pub disk: Option<Name>,
    /// The revision it must have.
    pub expected: Option<Generation>,
    /// As [`CreateVolume::clears`], for the new space.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clears: bool,
}

/// Changes how a volume is treated. What is left out stays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeVolume {
    /// Which.
    pub name: Name,
    /// Whether its deletion is refused.
    pub protected: Option<bool>,
    /// When its space is cleared. [`Clear::Never`] also gives guests what is not clear yet, and is refused where that is what
    /// guests of others have written.
    pub clear: Option<Clear>,
    /// The revision it must have.
    pub expected: Option<Generation>,
}

/// Changes how a disk is treated. What is left out stays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeDisk {
    /// Which.
    pub name: Name,
    /// Whether its removal is refused.
    pub protected: Option<bool>,
    /// The revision it must have.
    pub expected: Option<Generation>,
}

/// Deletes a volume that is not attached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteVolume {
    /// Which.
    pub name: Name,
    /// The revision it must have.
    pub expected: Option<Generation>,
    /// Whether its space is cleared before anybody else gets it; without a choice, as the volume says. `false` also
    /// ends the clearing of one that is being deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<bool>,
    /// Whether its attachments are taken away with it. Without, one that is attached stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detaches: bool,
}

/// Gives up what is here of a volume whose rest lies on disks that are not in the cluster. Its space is free then, and the
/// rest cannot be joined to it any more. One that is not there changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteFragment {
    /// The volume's permanent id: several may have one name.
    pub uuid: Uuid,
}

/// Says how far a volume's space has been cleared, on stable storage. Proposed by the node that does it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordCleared {
    /// Which.
    pub name: Name,
    /// Its permanent id: another volume of the name knows nothing of it.
    pub uuid: Uuid,
    /// Sectors from the volume's beginning that are in use or read as zeros.
    pub sectors: u64,
    /// The sector that the clearing began at. Where less than that is clear by now the volume was taken from its guests, or
    /// emptied, since: what is behind `start` says nothing of what is before it.
    #[serde(default)]
    pub start: u64,
}

/// Says that what lies under a volume whose clearing is held is to be zeroed. One of which nothing is held changes nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClearHeld {
    /// Which.
    pub name: Name,
    /// The revision it must have.
    pub expected: Option<Generation>,
}

/// Offers a volume to a VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateAttachment {
    /// Its name.
    pub name: Name,
    /// Permanent id. Commands of versions before have none, and mean the same for ever: it is taken once attachments have one.
    #[serde(default, skip_serializing_if = "crate::attachment::has_none")]
    pub uuid: Uuid,
    /// Which volume.
    pub volume: Name,
    /// On which node. One that does not reach the volume's disks asks the one that does; below
    /// [level 5](crate::FEATURE_LEVEL) there is no such node.
    pub node: Name,
    /// Absolute path of the socket, at most 107 bytes.
    pub socket: String,
    /// Virtqueues, 1 to 64.
    pub queues: u16,
    /// Entries of each ring, a power of two from 2 to 32768.
    #[serde(default = "queue_size_default")]
    pub queue_size: u16,
    /// Who owns the socket.
    pub owner: Option<Account>,
    /// The socket's group.
    pub group: Option<Account>,
    /// Permission bits of the socket, up to 0o777.
    pub mode: u32,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Serial, up to 20 printable ASCII characters; without one, the first 20 digits of the volume's uuid.
    pub serial: Option<String>,
    /// How fast it may go.
    #[serde(default)]
    pub limits: Limits,
    /// Whether a volatile write cache is offered.
    pub write_cache: bool,
}

/// Changes how a volume is offered. What is left out stays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeAttachment {
    /// Which.
    pub name: Name,
    /// Virtqueues. The VM's session ends and begins anew.
    pub queues: Option<u16>,
    /// Entries of each ring. The VM's session ends and begins anew.
    pub queue_size: Option<u16>,
    /// Who owns the socket. It cannot be unset, only set to another.
    pub owner: Option<Account>,
    /// The socket's group. It cannot be unset, only set to another.
    pub group: Option<Account>,
    /// Permission bits of the socket, up to 0o777.
    pub mode: Option<u32>,
    /// Whether writes are refused. The VM's session ends and begins anew.
    pub read_only: Option<bool>,
    /// Serial. The VM's session ends and begins anew.
    pub serial: Option<String>,
    /// How fast it may go.
    pub limits: Option<Limits>,
    /// Whether a volatile write cache is offered. The VM's session ends and begins anew.
    pub write_cache: Option<bool>,
    /// The revision it must have.
    pub expected: Option<Generation>,
}

/// Ends an offer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteAttachment {
    /// Which.
    pub name: Name,
    /// The revision it must have.
    pub expected: Option<Generation>,
}

/// What a command did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The resource is new.
    Created {
        /// Its revision.
        revision: Generation,
    },
    /// The resource was changed.
    Changed {
        /// Its revision.
        revision: Generation,
    },
    /// The resource is gone.
    Removed {
        /// The generation in which it no longer is.
        revision: Generation,
    },
    /// Everything was as asked for already; the generation has not grown.
    Unchanged {
        /// The resource's revision.
        revision: Generation,
    },
}

impl ChangeAttachment {
    /// A change that changes nothing yet.
    pub fn of(name: Name) -> ChangeAttachment {
        ChangeAttachment {
            name,
            queues: None,
            queue_size: None,
            owner: None,
            group: None,
            mode: None,
            read_only: None,
            serial: None,
            limits: None,
            write_cache: None,
            expected: None,
        }
    }
}

impl Outcome {
    /// The revision of the resource, for its ETag.
    pub fn revision(self) -> Generation {
        match self {
            Outcome::Created { revision }
            | Outcome::Changed { revision }
            | Outcome::Removed { revision }
            | Outcome::Unchanged { revision } => revision,
        }
    }
}

fn queue_size_default() -> u16 {
    QUEUE_SIZE_DEFAULT
}

fn is_false(flag: &bool) -> bool {
    !flag
}
