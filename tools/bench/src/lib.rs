//! # bench: how fast the appliance is, shown beside the others, and what it takes
//!
//! Storey 6. Starts targets on one core and a native poll-mode vhost-user-blk client on another, lets the targets take
//! turns in short windows, and writes tables and a chart that describe the machine they come from.
//!
//! It must never know how a target works: every vhost-user-blk server is measured through the same socket by the same
//! client with the same rings. The one exception is [`bare`], which has no socket and is the limit the device sets.
//!
//! What always holds:
//!
//! - **The same client for all.** Nothing in [`ring`] or [`window`] asks who serves.
//! - **Targets take turns** within a row, in another order each round, and those whose turn it is not are stopped
//!   (SIGSTOP), so that a poller does not take the core from its neighbour.
//! - **Every figure has its spread.** A median never stands without minimum, maximum and the number of windows, a ratio
//!   never without its [`interval`].
//! - A request that fails, is answered twice or never ends the run; it is never counted.
//!
//! Start reading at [`row`] (what is measured), then [`window`] (the loop that measures), [`paced`] (the one that keeps
//! to a rate), [`ring`] and [`session`] (the client), [`target`] and [`contestant`] (who is measured, and when),
//! [`figures`] and [`interval`], [`report`] and [`chart`] (pages). [`sizing`] is what more attachments and
//! reactors take. README.md says how to run it and how to read what it writes.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod bare;
pub mod chart;
pub mod contestant;
pub mod failure;
pub mod figures;
pub mod footprint;
pub mod interval;
pub mod latency;
pub mod machine;
pub mod paced;
pub mod pages;
pub mod places;
pub mod process;
pub mod reference;
pub mod report;
pub mod ring;
pub mod row;
pub mod run;
pub mod session;
pub mod sizing;
pub mod table;
pub mod target;
pub mod window;

pub use failure::Failure;
