//! # engine: the reactor
//!
//! Storey 1. One reactor owns some virtqueues, a private copy of every route it needs, and devices; it carries
//! each request from its [`Source`](palisade_block::Source) to its [`Devices`](palisade_block::Devices) and back.
//! It is told the time and told of changes; it makes no system call, starts no thread, reads no clock.
//!
//! It must never know virtio, Linux, sockets or the cluster model.
//!
//! What it holds (numbers of `invariants`): every request taken from a source is answered exactly once (1); no
//! request straddles two generations of a route (7), and what is older than what is known changes nothing (6); a device that fails or hangs takes only its own requests with
//! it (11); every operation has a deadline and shows up when it is past it (12). After start a turn allocates
//! nothing, locks nothing, blocks on nothing and logs nothing.
//!
//! ```text
//!           pull           start; kept by the device: in a slot
//!  Source -------> batch ----------------------------> Devices ---- reap ---+
//!    ^               |                                  ^                   |
//!    |               v  needs pieces?                   |                   |
//!    |            slots (parts): a run's border, a bounce buffer,           |
//!    |                           one flush to each device                   |
//!    +---- finish at once or later, publish once per turn <-----------------+
//! ```
//!
//! Start reading at [`reactor`]: `turn` is the whole loop; `batch` takes what a queue has, `carry` and `parts` do what is
//! rare, `rations` says how much of a large request is begun when, `ranges` how discards and write-zeroes go,
//! `steps` for whom a turn was kept waiting, `mapping` how one mapping of a volume follows another, with its states drawn,
//! and `parking` what becomes of requests meanwhile. [`control`](Reactor::apply) takes changes between two turns; [`idle`] decides when the loop may sleep.

#![forbid(unsafe_code)]

mod alignment;
mod batch;
mod books;
mod carry;
mod control;
pub mod idle;
mod mapping;
pub mod pace;
mod parking;
mod parts;
mod queue;
mod ranges;
mod rations;
pub mod reactor;
mod stall;
mod steps;
mod touches;
mod volumes;
mod walks;
mod watched;

pub use idle::{Idle, IdlePolicy};
pub use reactor::{RETRY_AFTER, Reactor, ReactorConfig};
