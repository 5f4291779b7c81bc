//! The command line's program, run for real: most of it against a whole node over real sockets. One test program, since each
//! would hold a whole node.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod advice;
mod cli;
mod cluster;
mod completion;
mod events;
mod leader;
mod paging;
mod placed;
mod preflight;
mod rehearsed;
mod removal;
mod sides;
mod site;
