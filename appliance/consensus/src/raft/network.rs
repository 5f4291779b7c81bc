//! Between voters: what openraft wants to say, in frames of our own over connections that the assembly makes.
//!
//! ```text
//!   asking                                           serving
//!   frame: question, from, to, what I show      ->   the sender is who was authenticated? shows no less than before?
//!                                               <-   frame: answer, from, to, what I show
//!   shows no less than before? only then openraft hears of it
//! ```
//!
//! A connection has one question on its way, and is dropped when its answer is late: what comes after that is nobody's. Who asks
//! next takes one that nothing is on its way on, or makes another.
//!
//! Start reading at [`frame`] and [`message`], then [`links`], [`connection`] and [`serving`].

pub mod channel;
pub mod connection;
pub mod counts;
pub mod frame;
pub mod links;
pub mod message;
pub mod serving;
pub mod transport;

#[cfg(test)]
mod tests;

pub use connection::VoterConnections;
pub use counts::FrameCounts;
pub use frame::{VOTER_BODY_BYTES_MAX, VoterFrame, VoterFrameError, VoterFrameKind};
pub use links::Links;
pub use message::VoterMessage;
pub use transport::{Dialing, VoterDial, VoterStream};
