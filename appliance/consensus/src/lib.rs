//! # consensus: the one agreed cluster
//!
//! Storey 3. Takes commands, has them applied by the model, and keeps what came of it. A cluster of one node agrees with
//! itself ([`store`]); what several nodes agree on by Raft each of them keeps in [`raft`].
//!
//! It must never know REST, nor what a step on a node is, nor decide anything about the cluster: that is `apply`'s.
//!
//! Invariants:
//! - A change that [`Agreement::propose`] has acknowledged is on stable storage, wholly; one that it has not
//!   acknowledged is there wholly or not at all (invariant 10).
//! - What is read back is checked: checksums, the order of the log, the digest of the state after each command, and
//!   the model's own `check`. What this program does not know is not lost by it: a file that says such is refused. A file
//!   that is not in order is left as it is and named, with what to do.
//! - The log is bounded: after so many commands the state is kept as a whole and the log before it dropped.
//! - A change that could not be written stops all others until everything agreed on has been written into new files; files
//!   that were deleted from outside are put back, and a change that would be lost with them is refused.
//!
//! ```text
//! propose -> apply -> append to log.redb, durable -> publish -> acknowledge
//!                         |
//!                         every so many commands: state.redb, durable, then drop the log up to there
//! ```
//!
//! Several nodes agree by a [`raft::ClusterMember`] each: the same [`Agreement`], at whichever of them it is asked. The assembly
//! makes their connections ([`raft::VoterDial`]), authenticates them, and hands those of others over to be served.
//!
//! A [`backup`] is the state as a file of its own; it is restored into an empty directory only. Which node of the cluster a
//! directory is says its [`identity`].
//!
//! Start reading at [`agreement`], then [`store`], then [`raft`]. The simulator has an agreement of its own, that loses answers.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod agreement;
pub mod backup;
mod database;
pub mod database_file;
pub mod difference;
pub mod identity;
mod log_file;
mod places;
mod private;
mod published;
pub mod raft;
mod record;
mod state_file;
pub mod store;
pub mod store_error;
#[cfg(test)]
#[path = "../tests/story/mod.rs"]
mod story;
#[cfg(test)]
mod tape;
mod unread;

pub use agreement::{Agreement, Leader, ProposeError};
pub use backup::{Backup, BackupError, Restored, rehearse_restore};
pub use database_file::{DatabaseFile, InDirectory};
pub use difference::Difference;
pub use identity::{IdentityError, NodeIdentity};
pub use store::{Store, cluster_of};
pub use store_error::{RenewError, StoreError};
