//! # reconcile: from what is wanted and what is to the next steps
//!
//! Storey 1. [`plan`] compares the agreed cluster with what one node has at the moment and says which steps can be
//! taken now. Whoever carries them out notes the results in [`Observed`] and plans again, until the plan is empty.
//! Pure: no clock (the time is part of what is observed), no chance, no files, no sockets.
//!
//! It must never know how a step is done.
//!
//! ```text
//! towards a guest                              away from it
//! OpenDisk      the medium is ours to use      WithdrawSocket   drained, gone
//!   GrowDisk                                   ClearRoute       nothing in flight
//! WriteSuperblock  extents recorded            WriteSuperblock  extents free again
//! ClearVolume   what was there before is gone  EraseSuperblock  the disk leaves the cluster
//! SetRoute      requests have somewhere to go  StopClearing     its volume is gone or has been given as it is
//! OfferSocket   last                           CloseDisk        others may open it
//!                                              ReleaseDisk      last: the disk is gone from the cluster
//! ```
//!
//! Invariants, each with a property test:
//! - A plan holds only steps whose preconditions are met already, so its steps may run in any order or together, and
//!   one that fails holds up nothing but what depends on it (invariant 11).
//! - A socket is offered only over a route in place; a route only over open disks that have the volume's extents on
//!   record; a disk is closed only when no route leads to it.
//! - Two routes in use never share a sector, and a writer is never beside another attachment, in between included.
//! - Zeros are written only where no route leads, for a volume that has the space on record; no route leads to where
//!   zeros may still be written, and no disk is closed under it.
//! - A disk that says it is another one, has lost or outgrown what the cluster knows, or is an older copy, is used by nobody,
//!   and is not held: it is closed as soon as nothing leads to it, and looked at now and then ([`refused`]).
//! - No step belongs to an older generation than what it changes.
//! - Two steps are never under way on one disk, so that none overtakes what another leaves on the medium.
//! - When steps succeed, planning comes to an end, from any state towards any other.
//!
//! [`objection()`] says what must not be agreed on in the first place, because a medium knows more than the database.
//! [`search()`] finds disks whose paths lead to each other's media.
//!
//! Start reading at [`plan()`], then [`step`] and [`observed`]. [`waits`] says what is not as wanted, and why.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod backoff;
pub mod exchange;
pub mod objection;
pub mod observed;
pub mod plan;
pub mod refused;
pub mod step;

pub use backoff::Failure;
pub use exchange::{Ring, Search, search};
pub use objection::{Objection, objection};
pub use observed::{Observed, ObservedClearing, ObservedDisk, ObservedRoute, ObservedSocket, StepOutcome};
pub use palisade_model::SuperblockState;
pub use plan::{Cause, Wait, plan, waits};
pub use refused::Refused;
pub use step::{Action, Step};
