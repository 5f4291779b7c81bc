//! How a connection to another node is made: by whoever knows certificates.

use palisade_words::Uuid;
use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Makes connections for data. One that it gives is authenticated at both ends, and what is written to it is encrypted by the
/// kernel; or it is neither, on a network that the operator has marked as trusted.
pub trait PeerTransport: Debug + Send + Sync {
    /// Connects to a node at one of these addresses. Blocks, for so long at most.
    ///
    /// # Errors
    /// Nobody answers there, or it is not that node.
    fn connect(&self, peer: Uuid, address: SocketAddr, within: Duration) -> io::Result<OwnedFd>;
}
