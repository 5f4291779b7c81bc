//! # control: the state machine that decides what a node does next
//!
//! Storey 1, on top of the other machines. [`Control`] holds what a node knows and has begun: what was observed, which
//! steps are under way, who has yet to acknowledge, what is due when. It is told [events](Event) and answers with
//! [effects](Effect): tell a reactor, begin work outside, tell the door, propose a command, clear a finding. The planner
//! (`reconcile`) says which steps can be taken; this machine begins them, follows them through their phases, and tells the
//! planner what came of each.
//!
//! It must never know a thread, a clock, a path that it opens, a socket, or who carries its effects out. The daemon carries
//! them out on a machine, the simulator in a world of its own, and not one line here differs between the two.
//!
//! ```text
//!   event ──► take ──► node state ──► plan ──► effects ──► outside
//!     ▲        what has happened       what follows          │
//!     └──── finished · acknowledged · the door has let go ◄──┘
//! ```
//!
//! Invariants:
//! - Whatever takes a while outside has a [`TaskId`] that is never used again, and its end comes back with that. An end of a
//!   task that is not under way, or a second acknowledgement of one reactor, changes nothing and is counted
//!   ([`NodeState::strays`]).
//! - A device is closed only when every reactor has acknowledged that it uses it no more, and no number is given to another
//!   before whoever had it has let go: devices, volumes, attachments.
//! - A route is in use, or ended, only when every reactor has said so; two changes of one volume's route are never under way
//!   together, as the end of one may come before that of the other.
//! - An attachment that is taken away for good is gone only when every reactor has let go of its volume and the door of its
//!   socket, in whatever order.
//! - The same events give the same effects in the same order: no chance, and no order but that of names and numbers.
//!
//! Effects are carried out in the order in which they are given. The process may end between any two of them: nothing here
//! outlives it, and the next one begins with what the cluster and the media say.
//!
//! Start reading at [`control`], then [`event`] and [`effect`]; [`begin`] has each step's beginning, [`take`] its end.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod attachment;
pub mod begin;
pub mod control;
pub mod disk;
pub mod door;
pub mod effect;
pub mod event;
pub mod last_read;
pub mod left;
mod looks;
pub mod peers;
mod returning;
pub mod state;
pub mod take;
pub mod task;
mod withdrawal;

#[cfg(test)]
mod testing;

pub use attachment::{GivenUp, Offered, pace};
pub use control::Control;
pub use disk::{DiskState, SuperblockLook};
pub use effect::{DoorChange, Effect, LogEntry, Work};
pub use event::{NodeEvent, TaskEnd};
pub use last_read::LastRead;
pub use left::{LEFT_MAX, Left};
pub use state::NodeState;
pub use task::{StepPhase, TaskId, UnderWay};
