//! # forward: disks behind other nodes
//!
//! Storey 1, on top of the port. To the engine a disk that another node reaches is a device like any other: its operations become
//! messages of a [`PortSession`](palisade_port::PortSession), and what the other node's engine answers becomes their result. At
//! the node asked they are requests like a guest's, of a source that carries many volumes.
//!
//! ```text
//!   this reactor                                                  a reactor of another node
//!   engine -> PeerDevices -> operations -> session -> links ~~~~~> links -> session -> serving -> ServedQueue -> engine
//!     ^            |            |                                              ^          |                        |
//!     '- results --+--- local --'                                              '- answers-'<---- Exchange <--------'
//! ```
//!
//! It must never know sockets, threads or clocks, nor choose the node that is asked, nor what volumes lie on which disks.
//!
//! ## Invariants
//!
//! - An operation ends once. A change ends when it is done, has failed for good, or is proved not to be carried out any more;
//!   "path lost", "timed out" and "aborted" are no answers for it, and until then the engine keeps it.
//! - What is asked is a range of a volume under one mapping. It is carried out under that mapping, or not at all; a node that
//!   does not know the mapping yet keeps it waiting, and one that has a newer one says so.
//! - What another node has asked for is never asked of a third.
//! - A change is answered when it is on stable storage (the source's attachment is
//!   [`write_through`](palisade_block::mailbox::AttachmentSettings::write_through)), so that a flush has nothing to wait for.
//!   Zeroes are written as data, which is made stable in the same way: a disk behind another node offers no write-zeroes.
//! - A new round of a session begins only when nothing lands any more of what was asked in the one before; where the node that was
//!   asked cannot say that of a change, it waits for somebody who can.
//! - A node that asks for more than it may, for what it may not, or in words that nobody understands gets an answer, or loses its
//!   link; a connection that is refused is told why, and none waits for another.
//! - A guest's memory is touched while its operation lives and no longer. One that is gone is that guest's affair and no link's.
//! - Buffers, places and queues are made when a session begins; a turn allocates nothing.
//!
//! Start reading at [`order`], then [`devices`]; [`links`] is what stands below.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

mod arena;
mod asking;
pub mod devices;
pub mod exchange;
pub mod links;
mod node_session;
pub mod order;
mod result;
pub mod served_queue;
mod serving;

pub use arena::PAYLOAD_BUFFER_BYTES;
pub use devices::PeerDevices;
pub use exchange::Exchange;
pub use links::{FrameBody, FrameLinks, LinkEnd, LinkEvent, LinkPlace, OutFrame};
pub use node_session::SessionStanding;
pub use order::{NodeDevice, PeerOrder, PeerReport, RemoteDisk, SESSIONS_MAX, SessionEnd, SessionPlace};
pub use served_queue::ServedQueue;
pub use serving::{EARLY_HELD_FOR, ServingCounters};
