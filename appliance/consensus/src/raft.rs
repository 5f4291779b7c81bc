//! Raft around the model: what a voter keeps, and how `openraft` finds it.
//!
//! ```text
//!   client_write -> log of the leader -> logs of a majority -> committed
//!                     (voter-log.redb)                            |
//!                                           every node: apply -> voter-state.redb -> published -> answered
//! ```
//!
//! Invariants:
//! - What openraft is told is durable is durable: a vote, entries and a snapshot are on stable storage, whole, when it hears
//!   of them. Nothing is published or answered before it is on record how far has been applied.
//! - Both files are read and checked before anything is done with them, and they have to fit each other. A voter whose files
//!   are missing, empty, damaged or of another time does not start: what it has promised to the others it cannot know
//!   any more. There is no way by which an existing voter begins with an empty log: [`create`] and [`open`] are two calls,
//!   and each refuses what is the other's.
//! - A command is answered by what it does to the cluster that all entries before it have led to. One that is refused leaves the
//!   cluster and its generation as they were, and is an entry and an answer like any other.
//! - After a restart a node is where it was: the cluster that [`open`] finds is the one that was published last, or a
//!   later one.
//!
//! - What a voter has promised is remembered by its peers, on stable storage, and what one says that shows less does not count
//!   (issue 10, rule 10): [`remembered`], [`peers`].
//! - Who votes follows the nodes of the cluster, by one change at a time, on the node that leads (rule 9): [`voters`], [`follow`].
//! - A single node's database becomes the first voter's files without losing anything, and is opened by nobody afterwards: [`growth`].
//!
//! The runtime is a parameter of everything that decides or keeps something ([`Voting`]), so that the simulator runs the same code
//! on one of its own. What is bound to threads and connections is the [`member`] and its [`network`].
//!
//! Start reading at [`voting`], then [`log_store`] and [`state_machine`]; what stands in the files is in [`record`]; what runs is
//! a [`member`].

mod asked;
pub mod files;
pub mod follow;
pub mod growth;
mod log_database;
pub mod log_store;
pub mod member;
pub mod network;
pub mod peers;
pub mod proposal;
pub mod propose;
pub mod record;
pub mod remembered;
pub mod rules;
pub mod shows;
mod state_database;
pub mod state_machine;
mod voter;
pub mod voter_error;
pub mod voter_id;
pub mod voters;
pub mod voting;

#[cfg(test)]
mod tests;

pub use files::VoterFiles;
pub use follow::follow;
pub use growth::{GrowthError, grow};
pub use log_store::LogStore;
pub use member::{
    ClusterMember, MemberError, MemberRole, MemberSettings, MemberStanding, ReadNowError, VoterStanding,
};
pub use network::{Dialing, VoterDial, VoterStream};
pub use peers::{NotCounted, PEERS_FILE, Peers};
pub use proposal::{EntryOutcome, Proposal};
pub use propose::{Written, propose};
pub use remembered::{News, Remembered, Shown, ShowsLess};
pub use rules::rules;
pub use shows::Shows;
pub use state_machine::StateMachine;
pub use voter::{LOG_FILE, STATE_FILE, create, open};
pub use voter_error::VoterError;
pub use voter_id::VoterId;
pub use voters::{VotersChange, VotersSeen, next_change};
pub use voting::Voting;
