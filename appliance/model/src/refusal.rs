//! Why a command is refused. A refusal is an outcome too: the same on every node, and it changes nothing.

use palisade_words::limits::ALLOCATION_UNIT_SECTORS;
use palisade_words::{Generation, Name, Uuid};
use std::fmt;

/// The kinds of resources.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Nodes.
    Node,
    /// Disks.
    Disk,
    /// Volumes.
    Volume,
    /// Attachments.
    Attachment,
}

/// Why a command is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no cluster yet.
    #[error("there is no cluster yet: initialise it first")]
    NotInitialised,
    /// There is a cluster already, and it is another one.
    #[error("this is cluster {id} already: to begin another one, name another state directory")]
    AlreadyInitialised {
        /// The one there is.
        id: Uuid,
    },
    /// There is no such resource.
    #[error("there is no {kind} {name}: list the {kind}s to see which there are")]
    NotFound {
        /// Of which kind.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// The name is in use with other arguments.
    #[error("{kind} {name} exists with another {differs}: choose another name, or ask for what there is")]
    Exists {
        /// Kind of the resource.
        kind: Kind,
        /// Its name.
        name: Name,
        /// The first argument that differs.
        differs: &'static str,
    },
    /// The resource has changed since the client last saw it.
    #[error("{kind} {name} is at revision {actual}, not {expected}: read it again and decide anew")]
    RevisionMismatch {
        /// Kind of the resource.
        kind: Kind,
        /// Its name.
        name: Name,
        /// The revision that the client expected.
        expected: Generation,
        /// The revision that it has.
        actual: Generation,
    },
    /// An argument breaks a rule of its own, whatever the cluster is.
    #[error("{kind} {name}: {field} {rule}")]
    Invalid {
        /// Kind of the resource.
        kind: Kind,
        /// Its name.
        name: Name,
        /// The argument.
        field: &'static str,
        /// The rule, as a clause that begins with "must".
        rule: &'static str,
    },
    /// There are as many of the kind as there may be.
    #[error("there are {max} {kind}s, and no more may be: remove one that is not needed")]
    TooMany {
        /// Which kind.
        kind: Kind,
        /// How many there may be.
        max: usize,
    },
    /// The permanent id is in use.
    #[error("the uuid belongs to {kind} {holder}: leave it out and a new one is drawn")]
    UuidTaken {
        /// Kind of the resource.
        kind: Kind,
        /// Who has it.
        holder: Name,
    },
    /// The medium (path on the node, or WWID) is in use under another name.
    #[error("the medium is in use as disk {disk}: use that disk, or name another medium")]
    MediumTaken {
        /// The disk that has it.
        disk: Name,
    },
    /// Volumes lie on the disk.
    #[error(
        "volume {volume} lies on disk {disk}: the disk can go once nothing that is wanted lies on it and its \
         volumes are deleted"
    )]
    DiskInUse {
        /// The disk.
        disk: Name,
        /// One of them.
        volume: Name,
    },
    /// Parts of a volume that is not whole lie on the disk.
    #[error(
        "a part of volume {volume} lies on disk {disk}, and the rest on disks that are not here: import those \
         disks too, or, if the volume is not wanted any more, delete it first"
    )]
    DiskHoldsFragment {
        /// The disk.
        disk: Name,
        /// The volume.
        volume: Name,
    },
    /// The disk's first superblock is not on its medium yet.
    #[error(
        "the first superblock of disk {disk} is not on its medium yet: wait until `palisade disk show {disk}` \
         says that it is, or see there what is in the way"
    )]
    SuperblockPending {
        /// The disk.
        disk: Name,
    },
    /// The cluster has disks of its own and cannot take another's permanent id.
    #[error(
        "this cluster has disks of its own, such as {disk}, and keeps its id: import the disk as one of another \
         cluster"
    )]
    ClusterHasDisks {
        /// One of them.
        disk: Name,
    },
    /// Two disks that are imported tell of the same sectors, or of sectors that the database has given away.
    #[error(
        "what disk {disk} tells of volume {volume} lies where another volume lies: nothing is taken; keep an \
         image of the disk and report it"
    )]
    ImportOverlaps {
        /// The disk.
        disk: Name,
        /// One of the two volumes.
        volume: Name,
    },
    /// The volume is attached.
    #[error("volume {volume} is attached as {attachment}: delete the attachment first")]
    VolumeInUse {
        /// The volume.
        volume: Name,
        /// Where.
        attachment: Name,
    },
    /// The resource is protected against being taken away.
    #[error(
        "{kind} {name} is protected against being taken away: lift that first with `palisade {kind} set {name} \
         --unprotect`"
    )]
    Protected {
        /// Kind of the resource.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// The volume is deleted and only keeps its space until that is cleared.
    #[error(
        "volume {volume} is being deleted and keeps its name and space until that is cleared: wait for it, or end \
         it without clearing with `palisade volume delete {volume} --no-clear`"
    )]
    VolumeGoing {
        /// The volume.
        volume: Name,
    },
    /// The disk has been given up and stays only until its node has let go of the medium.
    #[error(
        "disk {disk} is being given up and keeps its name and medium until its superblock is erased and it is closed: \
         wait for it. If its medium cannot be reached any more: `palisade disk remove {disk} --force`, which leaves on the \
         medium what it carries"
    )]
    DiskGoing {
        /// The disk.
        disk: Name,
    },
    /// The node has no pooled disk with a suitable block.
    #[error("node {node} has no pooled disk with a fitting logical block: add a disk, or name one")]
    NoDisk {
        /// The node.
        node: Name,
    },
    /// The disk has not enough free space.
    #[error(
        "disk {disk} has {} MiB free in units of {} MiB, {} MiB are asked for: ask for less, name another disk, \
         or add one",
        .free_sectors / 2048,
        ALLOCATION_UNIT_SECTORS / 2048,
        .wanted_sectors.div_ceil(2048)
    )]
    NoSpace {
        /// The disk.
        disk: Name,
        /// What is asked for, in sectors.
        wanted_sectors: u64,
        /// What is free, in sectors.
        free_sectors: u64,
    },
    /// There is enough space, but in too many pieces.
    #[error(
        "the free space of disk {disk} is in too many pieces (at most {pieces_max} may be used): ask for less, or \
         name another disk"
    )]
    Fragmented {
        /// The disk.
        disk: Name,
        /// Pieces that a volume, or all volumes on one disk, may have.
        pieces_max: usize,
    },
    /// A whole disk is given to one volume, and this one is given away.
    #[error("disk {disk} is given whole to volume {volume}: name another disk")]
    DiskTaken {
        /// The disk.
        disk: Name,
        /// The volume that has it.
        volume: Name,
    },
    /// Disks and volumes only grow.
    #[error(
        "{kind} {name} has {sectors} sectors and cannot shrink to {wanted_sectors}: ask for a larger size"
    )]
    CannotShrink {
        /// Kind of the resource.
        kind: Kind,
        /// Its name.
        name: Name,
        /// Its size in sectors.
        sectors: u64,
        /// The smaller size asked for.
        wanted_sectors: u64,
    },
    /// The volume's logical block would be smaller than its disk's.
    #[error(
        "disk {disk} has a logical block of {disk_block_bytes} bytes, and the volume's may not be smaller \
         ({block_bytes}): ask for {disk_block_bytes}, or name another disk"
    )]
    BlockTooSmall {
        /// The disk.
        disk: Name,
        /// Its logical block.
        disk_block_bytes: u32,
        /// What the volume has or is asked for.
        block_bytes: u32,
    },
    /// The disk is reached by another node than the one that is to use it.
    #[error(
        "disk {disk} is reached by node {disk_node}, not by {node}: name a disk of node {node}, or node \
         {disk_node}"
    )]
    DiskElsewhere {
        /// The disk.
        disk: Name,
        /// The node that reaches it.
        disk_node: Name,
        /// The node that was named.
        node: Name,
    },
    /// Another attachment of the node has the socket.
    #[error("attachment {attachment} has the socket {socket}: choose another path")]
    SocketTaken {
        /// The path.
        socket: String,
        /// Who has it.
        attachment: Name,
    },
    /// The volume has a writable attachment, and no other may be beside it.
    #[error(
        "volume {volume} is attached writable as {attachment}, and neither writers nor readers may be beside a \
         writer: delete that attachment first, or make all attachments read-only"
    )]
    HasWriter {
        /// The volume.
        volume: Name,
        /// The writable one.
        attachment: Name,
    },
    /// The volume has read-only attachments, and no writable one may be beside them.
    #[error(
        "volume {volume} is attached read-only as {attachment}, and no writer may be beside readers: attach it \
         read-only, or delete the read-only attachments first"
    )]
    HasReaders {
        /// The volume.
        volume: Name,
        /// One of them.
        attachment: Name,
    },
}

impl Kind {
    /// In snake case, as it stands in codes.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Disk => "disk",
            Kind::Volume => "volume",
            Kind::Attachment => "attachment",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Refusal {
    /// The stable code for programs, in snake case.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NotInitialised => "not_initialised",
            Refusal::AlreadyInitialised { .. } => "already_initialised",
            Refusal::NotFound { kind, .. } => match kind {
                Kind::Node => "node_not_found",
                Kind::Disk => "disk_not_found",
                Kind::Volume => "volume_not_found",
                Kind::Attachment => "attachment_not_found",
            },
            Refusal::Exists { kind, .. } => match kind {
                Kind::Node => "node_exists",
                Kind::Disk => "disk_exists",
                Kind::Volume => "volume_exists",
                Kind::Attachment => "attachment_exists",
            },
            Refusal::RevisionMismatch { .. } => "revision_mismatch",
            Refusal::Invalid { .. } => "invalid_argument",
            Refusal::TooMany { .. } => "too_many",
            Refusal::UuidTaken { .. } => "uuid_taken",
            Refusal::MediumTaken { .. } => "medium_taken",
            Refusal::DiskInUse { .. } => "disk_in_use",
            Refusal::DiskHoldsFragment { .. } => "disk_holds_fragment",
            Refusal::SuperblockPending { .. } => "superblock_pending",
            Refusal::ClusterHasDisks { .. } => "cluster_has_disks",
            Refusal::ImportOverlaps { .. } => "import_overlaps",
            Refusal::VolumeInUse { .. } => "volume_in_use",
            Refusal::Protected { .. } => "protected",
            Refusal::VolumeGoing { .. } => "volume_going",
            Refusal::DiskGoing { .. } => "disk_going",
            Refusal::NoDisk { .. } => "no_disk",
            Refusal::NoSpace { .. } => "no_space",
            Refusal::Fragmented { .. } => "fragmented",
            Refusal::DiskTaken { .. } => "disk_taken",
            Refusal::CannotShrink { .. } => "cannot_shrink",
            Refusal::BlockTooSmall { .. } => "block_too_small",
            Refusal::DiskElsewhere { .. } => "disk_elsewhere",
            Refusal::SocketTaken { .. } => "socket_taken",
            Refusal::HasWriter { .. } => "volume_has_writer",
            Refusal::HasReaders { .. } => "volume_has_readers",
        }
    }

    /// The argument at fault, if one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Refusal::Invalid { field, .. } => Some(field),
            Refusal::Exists { differs, .. } => Some(differs),
            Refusal::SocketTaken { .. } => Some("socket"),
            Refusal::BlockTooSmall { .. } => Some("block_bytes"),
            Refusal::CannotShrink { .. } | Refusal::NoSpace { .. } => Some("sectors"),
            _ => None,
        }
    }
}
