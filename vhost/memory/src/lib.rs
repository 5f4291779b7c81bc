//! # memory: the guest's memory, and nothing a guest can do to us through it
//!
//! Storey 2, the hands. Maps what a vhost-user front-end offers, translates addresses, and reads and writes rings,
//! the dirty log and the in-flight region. It decides nothing: what a descriptor means is `vhost/virtio`'s affair.
//!
//! It must never know virtio-blk, sockets, sessions or the engine.
//!
//! What always holds:
//!
//! - **No Rust reference to guest memory exists.** The guest, its other devices and its monitor write it at any
//!   moment. Bytes are read and written through raw pointers, volatile, or through atomics; what was read once is a
//!   value from there on.
//! - Every address is checked against the mapped regions before it is followed. A [`Segment`](palisade_block::Segment)
//!   that comes back as an argument is checked again: safe code cannot make this crate touch foreign memory.
//! - Mappings live as long as anything that points into them: [`SplitRing`], [`MemoryView`] and [`InflightQueue`]
//!   each keep what they need.
//!
//! ## What it costs us, and whom it makes wait
//! A front-end's memory, in-flight region and dirty log are mapped only from files whose pages are the kernel's own (a
//! memfd, tmpfs, hugetlbfs): an access to a page of FUSE waits for its server, uninterruptibly, and reactors make it. So an
//! operator cannot choose otherwise either: it would be a choice for all guests.
//! Whether it is one of them is found out without asking the file system. Address space and mappings are taken from the
//! attachment's [`MemoryShare`], and of the whole a part is kept for each of the others.
//!
//! ## A file that shrinks
//! A file is measured when it is mapped, so a short one is refused. One that shrinks *later* turns an access into
//! SIGBUS. Where the file takes seals (memfd), it is sealed against shrinking when it is mapped; every VMM's memfd
//! memory is. For a file that cannot be sealed (hugetlbfs or tmpfs by path), [`RegionInfo::sealed`] is false. Should
//! it shrink, or have no page to give, that one mapping is given up and nothing else ([`GuestMemory::is_lost`]).
//!
//! Start reading at [`guest`], then [`view`] (a queue's own translation) and [`ring`]. [`inflight`] and [`dirty`]
//! are the two other shared areas of vhost-user. [`stepped`] is for tests alone.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod dirty;
pub mod guest;
pub mod inflight;
mod kind;
mod lost;
pub mod mapping;
mod raw;
mod resident;
pub mod ring;
pub mod share;
pub mod stepped;
pub mod view;

pub use dirty::DirtyLog;
pub use guest::{GuestMemory, RegionInfo, RegionSpec};
pub use inflight::{InflightError, InflightQueue, InflightRegion};
pub use mapping::MapError;
pub use ring::{Descriptor, IndirectTable, RingAddresses, RingError, SplitRing};
pub use share::{ADDRESS_BYTES_TOTAL, MAPPINGS_TOTAL, MappingTotals, MemoryShare, ShareLimits, Shares};
pub use view::MemoryView;
