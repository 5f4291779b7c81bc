//! # virtio: rings into requests, answers into rings
//!
//! Storey 3, a translator. A [`BlkQueue`] is one virtqueue of one virtio-blk disk seen as a
//! [`Source`](palisade_block::Source) of block requests: it copies each descriptor chain out of guest memory once,
//! parses it once, and writes each answer back once.
//!
//! It must never know sockets, sessions, reactors or devices. All access to guest memory goes through
//! `palisade-memory`; there is no `unsafe` here.
//!
//! What always holds:
//!
//! - **Every chain taken from the ring is returned exactly once** (invariant 1): as a request's answer, or answered
//!   here when it is malformed, unsupported or asks for the device id. Whatever is wrong with a chain, its last
//!   writable byte tells so, if it has one in guest memory; without it is returned with length 0.
//! - **A chain may be as long as the ring** (virtio 1.3, 2.7.5.3.1), and a ring as long as the standard allows. One with
//!   more segments than the list that was passed is handed over when a longer one is. A longer one is refused.
//! - **Nothing a guest writes can hurt** (invariant 14): no panic, no unbounded work. A chain costs at most
//!   [`chain_descriptors_max`](chain::chain_descriptors_max) looks, and no more at once than the reactor lets it: one that
//!   has more waits for its turn. A ring whose indices make no
//!   sense is broken: the queue takes nothing more from it and [`BlkQueue::broken`] says why.
//! - Descriptors and headers are read once. What is checked is what is used.
//! - One store of the used index and at most one notification per `publish`.
//!
//! Start reading at [`queue`], then [`chain`] (descriptors to parts), [`blk`] (parts to a request), [`split`] (the
//! ring's indices and notifications; a packed ring would be a second file beside it with the same methods).
//! [`driver`] is the other side of a ring, for tests, the simulator and measurements.
//!
//! ## Feeding raw bytes to a queue
//! A fuzzer needs three calls and no driver: `GuestMemory::anonymous(&[(0, 1 << 16)])`, `memory.write(0, bytes)` for
//! the whole content including the rings, and [`BlkQueue::new`] with ring addresses inside it. Then pull until
//! [`Pulled::Empty`](palisade_block::Pulled), finish every request, publish. A broken ring ends the loop; a ring that
//! is not broken gives at most its size in requests until the available index is written again.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod blk;
pub mod chain;
pub mod driver;
pub mod owed;
pub mod queue;
pub mod split;
pub mod stats;

#[cfg(test)]
mod tests;

pub use blk::config::{ConfigSpace, ConfigWriteError, VolumeGeometry};
pub use blk::features::Features;
pub use owed::Owed;
pub use queue::{BlkQueue, Notify, QueueSetup, SetupError};
pub use split::Broken;
pub use stats::QueueStats;
