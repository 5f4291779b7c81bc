//! # model: the cluster as a value
//!
//! Storey 0. What nodes, disks, volumes and attachments there are, and what an operator may do to them. A change is
//! a [`Command`]; [`Cluster::apply`] turns a cluster and a command into the next cluster or a [`Refusal`]. It is pure
//! and total: the same on every node, no clock, no chance (uuids come with the command), nothing half done.
//!
//! It must never know REST, files, sockets, the bytes of a superblock, or how a request moves.
//!
//! Invariants, all verified by [`check`]: no sector of a disk belongs to two volumes; every extent lies in its disk's
//! data area; every reference leads somewhere; a volume has one writer or any number of readers; the generation only
//! grows, by one with each change, and no resource is newer than the cluster; a token has let in at most one
//! node, which is there.
//!
//! A generation has an id besides its number ([`lineage`]): a larger number is later only on the same lineage. No
//! extent is put on a disk before its superblock is on the medium.
//!
//! Start reading at [`cluster`], then [`command`] and [`apply`]. [`allocation`] decides where a volume lies.
//!
//! A sector is 512 bytes everywhere, whatever the logical block of a disk or volume.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod allocation;
pub mod apply;
pub mod argument;
pub mod attachment;
pub mod check;
pub mod clearing;
pub mod cluster;
pub mod command;
pub mod disk;
pub mod feature;
pub mod fragment;
pub mod join_token;
pub mod limits;
pub mod lineage;
pub mod medium_record;
pub mod node;
pub mod refusal;
pub mod superblock;
pub mod volume;

pub use argument::{Field, Rule};
pub use attachment::{Account, Attachment, Limits};
pub use check::{BrokenRule, check};
pub use clearing::{Clear, Clearing};
pub use cluster::Cluster;
pub use command::{
    AddDisk, AddNode, AddPath, AdmitNode, AdoptDisk, ChangeAttachment, ChangeDisk, ChangeNode, ChangeVolume,
    ClearHeld, Command, ConfirmSuperblock, CreateAttachment, CreateVolume, DeleteAttachment, DeleteFragment,
    DeleteVolume, EvictNodes, FoundMedium, GrowDisk, GrowVolume, IdentifyDisk, ImportDisks, ImportedDisk,
    ImportedExtent, InitCluster, NodeStarted, OnMedium, Outcome, RaiseFeatureLevel, ReadmitNode,
    RecordCleared, ReleaseDisk, RelocateDisks, Relocation, RemoveDisk, RemoveNode, RemovePath,
};
pub use disk::{Disk, DiskPath, FirstSuperblock, Held, Medium, Usage};
pub use feature::{EVICTION, FEATURE_LEVEL};
pub use fragment::{Fragment, Piece};
pub use join_token::{CreateToken, JoinToken, RevokeToken};
pub use lineage::History;
pub use medium_record::{
    BackingRecord, FileRecord, MediumRecord, NESTED_MAX, OtherMedium, Partition, part_wwid,
};
pub use node::{Membership, Node, NodeRole};
pub use refusal::{Kind, Refusal};
pub use superblock::SuperblockState;
pub use volume::{Extent, Layout, Volume};
