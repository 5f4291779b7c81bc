//! # membership: who may go on
//!
//! Storey 1. A node that cannot prove that it is a member completes no write on a disk that another node reaches (invariant 5),
//! and those who have given it up know when that is so. This crate holds the machines of that proof, the [`LeaseHolder`], the
//! [`LeaseVoter`] and, for who waits, [`EndedLeases`]; the [`Sensor`], that finds who is to be given up; [`Returns`], that says
//! when one is taken back; and the times by which all of them go ([`LeaseTimes`]).
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
//! That holds of one majority of one set of voters, for one member, and for one length of the lease. So each word says which voters its
//! giver has in its log, by which entry; since when it has the holder as a member; and how long it holds. Only words
//! for the member that the holder knows itself to be count, and together only those that agree in the rest. Else
//!
//! - a voter that has not heard of the eviction and one that has heard of a return would be a majority of three;
//! - a voter that was behind, gave its word, and then heard at once of the eviction and that it is the only voter since, would be
//!   a majority alone;
//! - the voters of before, who have no vote any more and hear of nothing, would go on for ever;
//! - voters by two entries of one index, of which another leader has taken one away, would be counted by neither;
//! - one voter that has not heard that leases are shorter, and one that has, would together hold for the longer one.
//!
//! With it: of voters that name set K, those that have appended a later change of the voters, or the eviction, are in the way of
//! each majority of K, except by a word given before; and that one has ended by the time of the proof.
//!
//! An entry that stands in a log and is not committed may be taken away by another leader (Raft, figure 8). So what takes leases away, an
//! eviction or a shorter lease, counts from its append, and what gives more of them, a return or a longer lease, from its commit.
//!
//! ## What this takes for granted, and others have to see to
//! - A voter that starts is confirmed by a leader who made sure, after that start, that it is the leader, and that this log has all that
//!   is committed ([`LeaseVoter::confirmed`]). One that may have forgotten something (emptied, put back from a copy) does not count
//!   in that, and before that for no vote and for no commit either.
//! - The machine is told of an entry before its append is acknowledged ([`NotedEntry`]).
//! - Clocks are CLOCK_BOOTTIME. One that stands still, on a node that hears nobody, is found by nothing in here.
//!
//! ## Invariants
//! - A lease that was proven to have ended is held by nobody, whatever messages were lost or late, whichever entries were taken
//!   away again, and whatever clocks whose rates differ by no more than the bound.
//! - Time counts from the sending of a question, never from its answer.
//! - The leader is needed for nothing: a lease lasts as long as a majority of voters answers, also while voters change.
//! - A clock that does not keep the bound is found by those of others within a lease, and ends its node's lease; a good one stays good.
//!
//! - Nobody is proposed for eviction who hears and is heard by all, over one link at least; and all who stay together propose the same.
//!
//! Start reading at [`times`], then [`holder`] and [`voter`], and for who is there at [`sensor`].

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

mod clique;
pub mod clock_watch;
pub mod ended;
pub mod holder;
pub mod log_change;
pub mod returns;
pub mod sensor;
pub mod times;
pub mod voter;
pub mod voter_sets;

pub use clock_watch::{ClockRate, ClockReading, ClockWatch};
pub use ended::EndedLeases;
pub use holder::{LeaseHolder, LeaseQuestion};
pub use log_change::{AgreedMembership, LogPosition, MembershipChange};
pub use returns::Returns;
pub use sensor::{Evict, HeartbeatRefusal, Limp, PeerState, SensedMembers, Sensor, SensorIdentity};
pub use times::{LeaseTimes, LeaseTimesError};
pub use voter::{LeaseAnswer, LeaseRefusal, LeaseVoter, LeaseWord, NotedEntry};
pub use voter_sets::VoterSets;
