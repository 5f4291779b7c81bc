//! # engine: the reactor
//!
//! Storey 1. One reactor owns some virtqueues, a private copy of every route it needs, and devices; it carries
//! each request from its [`Source`](palisade_block::Source) to its [`Devices`](palisade_block::Devices) and back.
//! It is told the time and told of changes; it makes no system call, starts no thread, reads no clock.
//!
//! It must never know virtio, Linux, sockets or the cluster model.
//!
//! What it holds (numbers of `invariants`): every request taken from a source is answered exactly once (1); no request
//! straddles two generations of a route (7), and what is older than what is known changes nothing (6); a device that
//! fails or hangs takes only its own requests with it (11); every operation has a deadline and shows up when it is past
//! it (12). After start a turn allocates nothing, locks nothing, blocks on nothing and logs nothing.
//!
//! The way of a read from file to file, which is the way to read this crate:
//!
//! ```text
//! reactor                      a turn: reap, pull, submit, notify
//!   pull ----> resume          what had to wait tries again
//!        ----> batch           what a queue may have now: `volumes`, `pace`, `books` (room)
//!                intake          one request from its ring
//!                  way             checked against its volume: to one device, in pieces, or nowhere
//!                start           to its device. Answered at once: back to the ring. Kept: into a slot (books: enter)
//!              carry           all others: into a slot (books: enter)
//!                pieces          a run's border, a bounce buffer, a flush to each device: piece, cut, part
//!                  launch          to its device
//!   reap ----> carry           an operation has ended: the next piece, or
//!                ending          the answer (books: exit), or
//!                  parking         a wait for a decision
//!   notify --> queue           answers are shown, once per turn
//! ```
//!
//! None calls one that stands above it. Beside that way: `books` say what is in flight and who holds how much of what,
//! and can be checked as a whole; `rations` and `ranges` say how much of large requests, and of discards, is begun
//! when; `steps` and `touches` for whom a turn was kept waiting; `mapping` how one mapping of a volume follows another,
//! with its states drawn; [`control`](Reactor::apply) takes changes between two turns; `sleep` and [`idle`] decide when
//! the loop may.

#![forbid(unsafe_code)]

mod alignment;
mod batch;
mod books;
mod carry;
mod control;
mod ending;
pub mod idle;
mod launch;
mod mapping;
mod order;
pub mod pace;
mod parking;
mod pieces;
mod queue;
mod ranges;
mod rations;
pub mod reactor;
mod resume;
mod sleep;
mod stall;
mod steps;
mod touches;
mod volumes;
mod walks;
mod watched;
mod way;

pub use idle::{Idle, IdlePolicy};
pub use reactor::{Reactor, ReactorConfig};
pub use sleep::RETRY_AFTER;
