//! # frontend: how a virtual machine comes in
//!
//! Storey 4, a door. The back-end side of vhost-user for virtio-blk: sockets, negotiation, guest memory, the in-flight
//! region, the dirty log, and the order in which queues start and stop.
//!
//! It must never know volumes, reactors, the cluster or REST. What a request in a ring means is `vhost/virtio`'s
//! affair; who runs the queues is behind [`Host`].
//!
//! What always holds:
//!
//! - **A queue that runs stands on firm ground.** Memory, features, addresses and logs change only between
//!   [`Host::stop_queue`] being answered and the next [`Host::start_queue`]. Only the interrupt's descriptor may be
//!   exchanged under it.
//! - **Nobody waits for a front-end.** Each attachment has a thread of its own, and no other thread touches what its
//!   front-end gave us; a front-end that sends half a message, does not read its replies, never answers, or gives us
//!   files that hang, holds up its own session and nothing else, and is cut off when it holds that up for too long.
//! - **Nothing is in this process that may hang in closing.** Descriptors are received by a process of its own
//!   ([`palisade_sys::fd_filter`]) that passes on memory, eventfds and Unix sockets only: when the daemon ends, however, what
//!   a front-end sent keeps no lock, socket or disk from its successor. What each front-end may make us spend is listed in
//!   `vhost/README.md`.
//! - **Every message ends in one reply, in being carried out, or in the end of its session** with a sentence that
//!   says why. No file descriptor that came with it outlives it unseen.
//! - **Every wait has a name**: [`SessionReport::waiting`].
//!
//! Start reading at [`session`] (what each message does, no sockets), then [`codec`] (the bytes), then [`door`] (the
//! thread and its sockets).
//!
//! The session is our own: `vhost-user-backend` 0.24 refuses the in-flight region, and `vhost` 0.18 cannot tell a
//! guest that its disk has grown.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

mod call;
pub mod codec;
pub mod door;
pub mod features;
mod interrupts;
pub mod session;
pub mod shortage;
mod socket;
mod socket_file;

pub use call::CallNotify;
pub use door::{
    AttachError, AttachmentSpec, Door, DoorHandle, DoorSettings, HangingReport, HeldShut, Host, PaceReport,
    Rates, SessionReport, ShutdownTimedOut, StallReport, StuckReport, WaitReport,
};
pub use interrupts::Interrupts;
pub use session::{Offer, QueueReport, Session, SessionAction, SessionRefusal};
pub use socket_file::{BindError, SocketOwner, remove_dead};
