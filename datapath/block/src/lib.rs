//! # block: what a block operation is
//!
//! Storey 0. Requests, limits and the traits through which the rooms of the data path meet, in the words of
//! [`palisade_words`]. Nothing here acts: no system call, no clock, no thread, no allocation.
//!
//! It must never know virtio, Linux, sockets or REST.
//!
//! Start reading at [`request`], then [`device`] (what stands below the engine) and [`source`] (what stands
//! above it). [`lease`] says who may point at memory. [`limits`] holds every bound, each written once.

// Not `forbid`: `lease` declares one unsafe trait (`ci/storeys.toml`).
#![deny(unsafe_code)]

pub mod device;
pub mod lease;
pub mod ledger;
pub mod limits;
pub mod mailbox;
pub mod pool;
pub mod progress;
pub mod request;
pub mod route;
pub mod source;
pub mod stats;
pub mod time;

pub use device::{DeviceKind, DeviceLimits, Devices, Fault, Io, Origin, Started};
pub use lease::{Lease, Mapped, Segment};
pub use pool::Pool;
pub use progress::{Doing, Progress, Whom};
pub use request::{LongList, Op, Request, SegmentList, Status, Token};
pub use route::{MappingId, Route, RouteError, Run};
pub use source::{Answer, Pulled, Source};
pub use time::{Clock, Lap, Nanos, Stopwatch};
