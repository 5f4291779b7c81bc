//! # membership: who may go on
//!
//! Storey 1. A node that cannot prove that it is a member completes no write on a disk that another node reaches (invariant 5),
//! and those who have given it up know when that is so. This crate holds the two machines of that proof, the [`LeaseHolder`] and the
//! [`LeaseVoter`], and the times by which they go ([`LeaseTimes`]).
//!
//! It must never know Raft, sockets or disks: it is told what a voter has put into its log, what time it is and what has
//! come, and says what is to be asked and answered. Who is a member is decided elsewhere, by agreement.
//!
//! ## Why an evicted node has stopped
//!
//! ```text
//!   holder   ask --------------------------------> lease ends: from `ask` on, L by its own clock
//!              \
//!   voter       '--> grants      appends the eviction: grants no more
//!                                     |
//!   cluster                           '- a majority has: committed --------> proven: L x (1 + drift) later, by whose clock ever
//! ```
//!
//! A lease is the word of a majority of the voters; an eviction is in the logs of a majority. One voter is in both. It gave its
//! word before it appended the eviction, and the holder asked for that word earlier still, and counts from then.
//!
//! That holds of one majority of one set of voters, and for one member. So each word says which voters its giver has in its log, and
//! since when it has the holder as a member. Only words for the member that the holder knows itself to be count, and together
//! only those that agree in the voters, by whom they are counted. Else
//!
//! - a voter that has not heard of the eviction and one that has heard of a return on which nobody has agreed yet would be a
//!   majority of three;
//! - a voter that was behind, gave its word, and then heard at once of the eviction and that it is the only voter since, would be
//!   a majority alone;
//! - the voters of before, who have no vote any more and hear of nothing, would go on for ever.
//!
//! With it: of voters that name set K, those that have appended a later change of the voters, or the eviction, are in the way of
//! each majority of K, except by a word given before; and that one has ended by the time of the proof.
//!
//! ## What this takes for granted, and others have to see to
//! - A voter's log forgets nothing. One that was put back from a copy, or emptied, gives no word before its log has been confirmed
//!   up to where the cluster has agreed, by the leader, or has another id.
//! - A voter hears of an eviction before its append is acknowledged, and of a member taken back only once that is committed.
//! - All go by the same times; they are changed by an entry of the log, and never while a lease of the longer time may last.
//! - A clock that stands still is found by its answers only after a while: the longer it was right before, the later.
//!
//! ## Invariants
//! - A lease that was proven to have ended is held by nobody, whatever messages were lost or late, and whatever clocks whose rates
//!   differ by no more than the bound.
//! - Time counts from the sending of a question, never from its answer.
//! - The leader is needed for nothing: a lease lasts as long as a majority of voters answers.
//! - A clock that does not keep the bound is found by the answers of others, and its node told to stop.
//!
//! Start reading at [`times`], then [`holder`] and [`voter`].

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod clock_watch;
pub mod holder;
pub mod times;
pub mod voter;
pub mod voter_sets;

pub use clock_watch::{ClockRate, ClockWatch};
pub use holder::{LeaseHolder, LeaseQuestion};
pub use times::{LeaseTimes, LeaseTimesError};
pub use voter::{LeaseRefusal, LeaseVoter, LeaseWord};
pub use voter_sets::VoterSets;
