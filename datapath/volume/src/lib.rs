//! # volume: from where a volume lies to where its requests go
//!
//! Storey 1. Pure conversions between the three ways in which a volume's place is told: the agreed layout
//! (`palisade-model`), the route of a reactor (`palisade-block`) and the records on a disk (`palisade-wire`).
//!
//! ```text
//!            model::Layout
//!            /           \
//!     compile             image, standing, carried, renewal, erasure
//!          /               \
//!   block::Route        wire::Superblock + wire::ExtentRecord
//! ```
//!
//! It must never know which device is a file, how a sector is written, or who asked for the change. Where a volume
//! *should* lie is decided by the model, inside `apply`; nothing here allocates space.
//!
//! Linear is the one layout there is. A stripe will be one more arm in [`compile`] (its columns are runs of one
//! chunk each) and a mirror one more kind of route (a run with several legs); on disk both have their extent roles
//! reserved in `palisade-wire`.
//!
//! Invariants: a compiled route covers each sector of its volume exactly once and ends where the volume ends;
//! the image of a disk names each extent that the model puts there and nothing else.
//!
//! A medium is written only over a configuration that the cluster's has grown out of ([`renewal`]), and erased only of
//! one that is its own ([`is_to_be_erased`]).
//!
//! What the planner is told of a medium is [`carried`].
//!
//! Start reading at [`compile`], then [`image`], [`standing`] and [`renewal`].

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod carried;
pub mod compile;
pub mod erasure;
pub mod image;
pub mod renewal;
pub mod standing;

pub use carried::{Known, OnRecord, carried, is_first_write_cut_off};
pub use compile::{CompileError, compile, compile_remote};
pub use erasure::{Leaving, is_to_be_erased};
pub use image::{Image, ImageError, agreed, image};
pub use renewal::{Bare, Forbidden, renewal};
pub use standing::{
    Overlap, Standing, TableDifference, VolumePart, difference, emptied, judged, level, overlaps, standing,
    unheld,
};

#[cfg(test)]
mod tests;
