//! # forward: disks behind other nodes
//!
//! Storey 1, on top of the port. To the engine a disk that another node reaches is a device like any other: its operations become
//! messages of a [`PortSession`](palisade_port::PortSession), and what the other node's engine answers becomes their result. At
//! the node asked they are requests like a guest's, of a source that carries many volumes.
//!
//! It must never know sockets, threads or clocks, nor choose the node that is asked.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod links;

pub use links::{FrameBody, FrameLinks, LinkEnd, LinkEvent, LinkPlace, OutFrame};
