//! The connections that the assembly makes: by mutual TLS between appliances, bare in tests.

use crate::raft::voter_id::VoterId;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection between two voters, each of which knows who the other is.
pub trait VoterStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> VoterStream for S {}

/// A connection that is being made.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn VoterStream>>> + Send>>;

/// Makes connections to other voters.
pub trait VoterDial: fmt::Debug + Send + Sync {
    /// Makes one, and makes sure that `voter` is at its other end, and nobody else. It is given up by being dropped, and runs on
    /// the runtime of the member.
    ///
    /// # Errors
    /// It cannot be reached, or is somebody else.
    fn connect(&self, voter: VoterId) -> Dialing;
}
