//! # words: the one vocabulary
//!
//! Storey 0, below the contracts. Ids, units, numbers, names and the limits that more than one room keeps: one type per
//! concept in the whole workspace. A word of this crate is imported from here by its own name and from nowhere else;
//! `cargo xtask vocabulary` refuses a second one.
//!
//! It must never know what is done with a word: no request, no bytes on disk, no cluster, no REST.
//!
//! - [`units`]: positions and counts of sectors, which are 512 bytes everywhere ([`SECTOR_BYTES`]).
//! - [`index`]: the small dense numbers of devices, volumes, attachments, reactors and slots of one node, and of the links and
//!   streams between two.
//! - [`uuid`] and [`name`]: what a resource is called for good, and what an operator calls it.
//! - [`number`] and [`lineage`]: the numbers that never go back, and the ids that tell which grew out of which.
//! - [`sha256`]: sums that stand for keys and secrets.
//! - [`limits`]: bounds that are the same on disk, in the model and in the data path.
//!
//! Invariants: a name is valid once it exists; an index of one kind is never taken for one of another; a word that is
//! written down ([`Uuid`], [`Name`], [`Generation`], [`Epoch`], [`LineageId`],
//! [`Sha256Sum`]) has one text form.
//!
//! Start reading at [`units`], then [`index`].

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod index;
pub mod limits;
pub mod lineage;
pub mod name;
pub mod number;
pub mod sha256;
pub mod units;
pub mod uuid;

pub use index::{
    AttachmentIndex, DeviceIndex, LinkIndex, MemoryId, PinnedId, QueueId, ReactorIndex, SlotIndex,
    StreamIndex, VolumeIndex,
};
pub use lineage::{Ancestor, LineageId};
pub use name::{Name, NameError};
pub use number::{Epoch, FeatureLevel, Generation, Incarnation};
pub use sha256::{Sha256Sum, Sha256SumError};
pub use units::{Lba, SECTOR_BYTES, Sectors};
pub use uuid::{Uuid, UuidError};
