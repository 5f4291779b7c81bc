//! Why a command is refused. A refusal is an outcome too: the same on every node, and it changes nothing. It says what is in the
//! way; what to do about it says who speaks to operators.

use crate::argument::{Field, Rule};
use palisade_words::limits::ALLOCATION_UNIT_SECTORS;
use palisade_words::{Epoch, FeatureLevel, Generation, Incarnation, Name, Uuid};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;

/// The kinds of resources.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nodes.
    Node,
    /// Disks.
    Disk,
    /// Volumes.
    Volume,
    /// Attachments.
    Attachment,
    /// Tokens that let nodes in.
    Token,
}

/// Why a command is refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// There is no cluster yet.
    #[error("there is no cluster yet")]
    NotInitialised,
    /// There is a cluster already, and it is another one.
    #[error("this is cluster {id} already")]
    AlreadyInitialised {
        /// The one there is.
        id: Uuid,
    },
    /// There is no such resource.
    #[error("there is no {kind} {name}")]
    NotFound {
        /// Of which kind.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// The name is in use with other arguments.
    #[error("{kind} {name} exists with another {differs}")]
    Exists {
        /// Kind of the resource.
        kind: Kind,
        /// Its name.
        name: Name,
        /// The first argument that differs.
        differs: Field,
    },
    /// The resource has changed since the client last saw it.
    #[error("{kind} {name} is at revision {actual}, not {expected}")]
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
        field: Field,
        /// The rule.
        rule: Rule,
    },
    /// There are as many of the kind as there may be.
    #[error("there are {max} {kind}s, and no more may be")]
    TooMany {
        /// Which kind.
        kind: Kind,
        /// How many there may be.
        max: usize,
    },
    /// The permanent id is in use.
    #[error("the uuid belongs to {kind} {holder}")]
    UuidTaken {
        /// Kind of the resource.
        kind: Kind,
        /// Who has it.
        holder: Name,
    },
    /// No node of the cluster has the permanent id.
    #[error("node {id} is not in the cluster")]
    NotAMember {
        /// The one that was told of.
        id: Uuid,
    },
    /// A node tells of a run that is not later than one known already: of an earlier one of its own, or of another machine
    /// that has its identity.
    #[error("node {node} is known to be in incarnation {known}, and {told} is not a later one")]
    IncarnationNotLater {
        /// The node.
        node: Name,
        /// The latest that is known.
        known: Incarnation,
        /// The one told of.
        told: Incarnation,
    },
    /// A program can less than is needed.
    #[error("the program of node {node} is at feature level {level}, and {needed} is needed")]
    FeatureLevelTooLow {
        /// The node.
        node: Name,
        /// What its program can.
        level: FeatureLevel,
        /// What it should.
        needed: FeatureLevel,
    },
    /// What is asked for is not switched on yet.
    #[error("that needs feature level {needed}, and the cluster is at {level} until all of its nodes can it")]
    FeatureOff {
        /// What must be switched on.
        needed: FeatureLevel,
        /// What is.
        level: FeatureLevel,
    },
    /// The node has been let in and has not started as a member yet.
    #[error("node {node} is not a member yet, as it has not started since it was let in")]
    NodeJoining {
        /// The node.
        node: Name,
    },
    /// The others do not hear the node, and have given it up.
    #[error("node {node} was evicted, as the others did not hear it, and has not been taken back yet")]
    NodeEvicted {
        /// The node.
        node: Name,
    },
    /// What was judged of one membership says nothing of another.
    #[error(
        "that was judged of the members as they were at epoch {judged}, and they are those of epoch {now}"
    )]
    OtherMembership {
        /// Of which it was judged.
        judged: Epoch,
        /// Which there is.
        now: Epoch,
    },
    /// Another run of the node was heard than the one that the cluster knows.
    #[error("node {node} is known to be in incarnation {known}, and {told} was heard")]
    OtherIncarnation {
        /// The node.
        node: Name,
        /// The latest that is known.
        known: Incarnation,
        /// The one that was heard.
        told: Incarnation,
    },
    /// Something lies on the node.
    #[error("{kind} {holder} is on node {node}")]
    NodeInUse {
        /// The node.
        node: Name,
        /// Kind of what lies on it.
        kind: Kind,
        /// Its name.
        holder: Name,
    },
    /// Without the node nobody would have a vote.
    #[error("node {node} is the only one with a vote")]
    LastVoter {
        /// The node.
        node: Name,
    },
    /// Another node has the address.
    #[error("node {holder} has the address {address}")]
    AddressTaken {
        /// The address.
        address: SocketAddr,
        /// Who has it.
        holder: Name,
    },
    /// The cluster has no token with the secret that was shown.
    #[error(
        "no token of the cluster has the secret that was shown, as it was never made here, was taken back or has expired"
    )]
    TokenUnknown,
    /// The token lets nobody in any more.
    #[error("token {token} expired {ago_s} s ago, by the clock of the node that was asked")]
    TokenExpired {
        /// The token.
        token: Name,
        /// How long ago, in seconds.
        ago_s: u64,
    },
    /// The token has let another node in, or this one with another key.
    #[error("token {token} has let node {node} in already, and lets in only one")]
    TokenUsed {
        /// The token.
        token: Name,
        /// Whom it has let in.
        node: Name,
    },
    /// A node of the id is in the cluster and has proved itself by another key.
    #[error("node {node} is in the cluster already, and is not known by the key that was shown")]
    NodeKeyDiffers {
        /// The node.
        node: Name,
    },
    /// Another node has the key.
    #[error("node {holder} has the key that was shown")]
    KeyTaken {
        /// Who has it.
        holder: Name,
    },
    /// The medium (path on the node, or WWID) is in use under another name.
    #[error("the medium is in use as disk {disk}")]
    MediumTaken {
        /// The disk that has it.
        disk: Name,
    },
    /// Volumes lie on the disk.
    #[error("volume {volume} lies on disk {disk}")]
    DiskInUse {
        /// The disk.
        disk: Name,
        /// One of them.
        volume: Name,
    },
    /// Parts of a volume that is not whole lie on the disk.
    #[error("a part of volume {volume} lies on disk {disk}, and the rest on disks that are not here")]
    DiskHoldsFragment {
        /// The disk.
        disk: Name,
        /// The volume.
        volume: Name,
    },
    /// The disk's first superblock is not on its medium yet.
    #[error("the first superblock of disk {disk} is not on its medium yet")]
    SuperblockPending {
        /// The disk.
        disk: Name,
    },
    /// The cluster has disks of its own and cannot take another's permanent id.
    #[error("this cluster has disks of its own, such as {disk}, and keeps its id")]
    ClusterHasDisks {
        /// One of them.
        disk: Name,
    },
    /// Two disks that are imported tell of the same sectors, or of sectors that the database has given away.
    #[error("what disk {disk} tells of volume {volume} lies where another volume lies; nothing is taken")]
    ImportOverlaps {
        /// The disk.
        disk: Name,
        /// One of the two volumes.
        volume: Name,
    },
    /// The volume is attached.
    #[error("volume {volume} is attached as {attachment}")]
    VolumeInUse {
        /// The volume.
        volume: Name,
        /// Where.
        attachment: Name,
    },
    /// The resource is protected against being taken away.
    #[error("{kind} {name} is protected against being taken away")]
    Protected {
        /// Kind of the resource.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// The volume is deleted and only keeps its space until that is cleared.
    #[error("volume {volume} is being deleted and keeps its name and space until that is cleared")]
    VolumeGoing {
        /// The volume.
        volume: Name,
    },
    /// The disk has been given up and stays only until its node has let go of the medium.
    #[error(
        "disk {disk} is being given up and keeps its name and medium until its superblock is erased and it is closed"
    )]
    DiskGoing {
        /// The disk.
        disk: Name,
    },
    /// The node has no pooled disk with a suitable block.
    #[error("node {node} has no pooled disk with a fitting logical block")]
    NoDisk {
        /// The node.
        node: Name,
    },
    /// The disk has not enough free space.
    #[error(
        "disk {disk} has {} MiB free in units of {} MiB, {} MiB are asked for",
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
    #[error("the free space of disk {disk} is in too many pieces (at most {pieces_max} may be used)")]
    Fragmented {
        /// The disk.
        disk: Name,
        /// Pieces that a volume, or all volumes on one disk, may have.
        pieces_max: usize,
    },
    /// A whole disk is given to one volume, and this one is given away.
    #[error("disk {disk} is given whole to volume {volume}")]
    DiskTaken {
        /// The disk.
        disk: Name,
        /// The volume that has it.
        volume: Name,
    },
    /// Disks and volumes only grow.
    #[error("{kind} {name} has {sectors} sectors and cannot shrink to {wanted_sectors}")]
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
        "disk {disk} has a logical block of {disk_block_bytes} bytes, and the volume's may not be smaller ({block_bytes})"
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
    #[error("disk {disk} is reached by node {disk_node}, not by {node}")]
    DiskElsewhere {
        /// The disk.
        disk: Name,
        /// The node that reaches it.
        disk_node: Name,
        /// The node that was named.
        node: Name,
    },
    /// Another attachment of the node has the socket.
    #[error("attachment {attachment} has the socket {socket}")]
    SocketTaken {
        /// The path.
        socket: String,
        /// Who has it.
        attachment: Name,
    },
    /// The volume has a writable attachment, and no other may be beside it.
    #[error(
        "volume {volume} is attached writable as {attachment}, and neither writers nor readers may be beside a writer"
    )]
    HasWriter {
        /// The volume.
        volume: Name,
        /// The writable one.
        attachment: Name,
    },
    /// The volume has read-only attachments, and no writable one may be beside them.
    #[error("volume {volume} is attached read-only as {attachment}, and no writer may be beside readers")]
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
            Kind::Token => "token",
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
                Kind::Token => "token_not_found",
            },
            Refusal::Exists { kind, .. } => match kind {
                Kind::Node => "node_exists",
                Kind::Disk => "disk_exists",
                Kind::Volume => "volume_exists",
                Kind::Attachment => "attachment_exists",
                Kind::Token => "token_exists",
            },
            Refusal::RevisionMismatch { .. } => "revision_mismatch",
            Refusal::Invalid { .. } => "invalid_argument",
            Refusal::TooMany { .. } => "too_many",
            Refusal::UuidTaken { .. } => "uuid_taken",
            Refusal::NotAMember { .. } => "node_not_a_member",
            Refusal::IncarnationNotLater { .. } => "incarnation_not_later",
            Refusal::FeatureLevelTooLow { .. } => "feature_level_too_low",
            Refusal::FeatureOff { .. } => "feature_off",
            Refusal::NodeJoining { .. } => "node_joining",
            Refusal::NodeEvicted { .. } => "node_evicted",
            Refusal::OtherMembership { .. } => "other_membership",
            Refusal::OtherIncarnation { .. } => "other_incarnation",
            Refusal::NodeInUse { .. } => "node_in_use",
            Refusal::LastVoter { .. } => "last_voter",
            Refusal::AddressTaken { .. } => "address_taken",
            Refusal::TokenUnknown => "token_unknown",
            Refusal::TokenExpired { .. } => "token_expired",
            Refusal::TokenUsed { .. } => "token_used",
            Refusal::NodeKeyDiffers { .. } => "node_key_differs",
            Refusal::KeyTaken { .. } => "key_taken",
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
        let field = match self {
            Refusal::Invalid { field, .. } => *field,
            Refusal::Exists { differs, .. } => *differs,
            Refusal::SocketTaken { .. } => Field::Socket,
            Refusal::AddressTaken { .. } => Field::Addresses,
            Refusal::TokenUnknown | Refusal::TokenExpired { .. } | Refusal::TokenUsed { .. } => Field::Token,
            Refusal::NodeKeyDiffers { .. } | Refusal::KeyTaken { .. } => Field::Key,
            Refusal::IncarnationNotLater { .. } => Field::Incarnation,
            Refusal::FeatureLevelTooLow { .. } => Field::FeatureLevel,
            Refusal::BlockTooSmall { .. } => Field::BlockBytes,
            Refusal::CannotShrink { .. } | Refusal::NoSpace { .. } => Field::Sectors,
            _ => return None,
        };
        Some(field.as_str())
    }
}
