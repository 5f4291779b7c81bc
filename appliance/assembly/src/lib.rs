//! # assembly: the rooms joined
//!
//! Storey 5. Starts the threads of a node, lets REST speak to the cluster database, and has the planner's steps
//! carried out by reactors, door and disks. Decisions are made below: in the model (`apply`), the planner
//! (`reconcile`), the control machine (`control`) and the engine; what is here carries values between them.
//!
//! ```text
//!  REST ---- propose ----> store (model) ---- changed ----> control loop ---- event ----> control machine
//!   ^                                                        ^    |                            |
//!   +---- views <---- local state (what there is) <----------|----+---- effects <--------------+
//!                                                            |    v
//!                                                 messages --+-- reactors, door, work on threads of its own
//! ```
//!
//! Start reading at [`node`], then [`control_loop`] and [`effects`].

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

mod accounts;
mod agreed;
mod alias;
mod allow;
mod clearing;
mod cluster;
pub mod config;
mod control_loop;
mod counted;
mod database;
mod disk_growth;
mod effects;
#[cfg(test)]
mod endings;
mod event_ids;
mod event_journal;
mod exchanged;
mod findings;
mod halted;
mod host;
mod identify;
mod last_limit;
mod last_run;
mod last_seen;
mod last_superblock;
mod local_state;
mod lost_end;
mod medium;
mod message;
mod moved;
mod new_disk;
mod new_token;
mod next_start;
pub mod node;
mod node_source;
mod opening;
mod own_file;
mod peers;
mod pinning;
mod places;
mod problem;
mod reactor_thread;
mod recorded;
mod recorder;
mod removal;
mod rest;
mod samples;
mod shared;
mod sight;
mod slow_turns;
mod smaller_copy;
mod sockets;
mod standing;
mod started;
mod strangers;
mod superblocks;
mod takeover;
mod turn_watch;
mod unix_time;
mod views;
mod watch;
mod write_cache;

pub use effects::executor::{Executor, SlowWork, Threads};
pub use node::{Condition, DRAIN_PATIENCE, RunningNode, StartError};
pub use watch::Stuck;
