//! # port: what nodes ask of each other, and how that arrives once and in order
//!
//! Storey 1. A data port is one pipe to another node over several links: whoever uses it names neither addresses nor
//! connections, and sees nothing of a link that is lost (specification: data port services, items 003-1 to 37). This crate holds
//! its machines: a [`PortSession`] between one reactor of this node and one of another, of which both ends are the same machine,
//! and the [`Port`] above it.
//!
//! It must never know sockets, threads, clocks or memory: it is told what has come and what time it is, and says what is to be
//! sent by which link and where what arrives goes. It must never know what its clients say to each other, nor choose the node
//! that it talks to.
//!
//! ## What the three completions promise
//!
//! | [`Completes`] | the client is told when | specification |
//! |---|---|---|
//! | `Sent` | its last byte was given to the network; it may be lost with its link, which is counted | 003-23 |
//! | `Accepted` | the other end has given it to its client; it may be lost with that node | 003-22 |
//! | `Answered` | the other end's client has answered: executed, or stable, as the answer's words say | 003-21 |
//!
//! A block request completes on nothing less than `Answered`.
//!
//! ## What this takes for granted, and others have to see to
//! A session knows nothing of runs before its own. It begins no round and confirms none before it was told that nothing which they
//! have submitted can land any more ([`PortSession::earlier_runs_landed`]); its owner says so, and has the proof. Of one node and
//! another there are several sessions: the owner lets a later run of the other node greet one of them when no clients are at
//! work for an earlier one in any ([`LinkRefusal::Draining`](palisade_wire::LinkRefusal)).
//!
//! ## Invariants
//!
//! - Each message that was taken has one [`Completion`]. After [`PortEffect::Down`] none is taken, and those that are not done come
//!   back after it, each once.
//! - In one round a message is delivered once, in the order of its stream, whatever links are lost; unless its answer was
//!   repeatable, and is lost.
//! - When a session is up again, nothing of the round before, or of a run before, is under way at either end.
//! - Nothing is written to where a client wants an answer after its message is done, nor by two links at once.
//! - A link that is lost brings no session down while another one is there.
//! - What waits is bounded: messages by the session's places, and of each stream by its window.
//! - No frame of a peer leads to a panic or an allocation; one that no program of ours sends cuts its link and is counted.
//!
//! Start reading at [`message`], then [`session`]. [`port`] is the pipe that its users see, and goes on from one node to the next.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod greeting;
mod inbox;
pub mod links;
pub mod message;
mod outbox;
pub mod port;
pub mod session;
pub mod settings;

pub use greeting::Ends;
pub use links::LinkState;
pub use message::{
    BufferIndex, ClientWords, Completes, Completion, CutCause, DownCause, Landed, Landing, MessageAnswer,
    Payload, PortEffect, PortMessage, SendError, Violation,
};
pub use port::{AskedUntil, Port, PortError, PortEvent, PortOrder, PortState};
pub use session::{Counters, PortSession, ResetWait, SessionPhase};
pub use settings::{
    LINKS_MAX, MESSAGES_MAX, PORT_STREAMS_MAX, SessionSettings, SessionSettingsError, WINDOW_MAX,
};
