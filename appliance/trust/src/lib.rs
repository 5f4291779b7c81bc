//! # trust: who is who between nodes
//!
//! Storey 3. Turns a connection into the node at its other end, and a machine with a token into a node of the cluster. A node
//! is known by its permanent id and the cluster's, never by an address or a host name: both stand in its certificate, which
//! the cluster's own authority has signed.
//!
//! ```text
//!   authority (key: all nodes that are to vote)        signs        certificate of a node
//!   palisade:cluster:C                                ------->      palisade:cluster:C:node:N, a year
//!                                                                   key: made on N, never leaves it
//! ```
//!
//! **Who holds the authority's key.** Every node that votes or is meant to, sent to it over the connection by which it joins,
//! which it has authenticated by its token. With the key on one node alone, the loss of that node would end growth and, within
//! a year, the cluster, since nobody could renew a certificate. The risk: whoever reads the state directory of *one* such node
//! can sign certificates in the name of any. What limits it: the file opens for root alone; a node that a token has let in is
//! known by the sum of its key ([`Roster`]), so that a certificate for its id with another key is refused everywhere; and
//! learners, a node without disks in a less trusted place among them, have no such key. Who has lost the directory of a voter
//! to somebody else makes a new cluster authority, by a new cluster: there is no revocation.
//!
//! It must never know REST, Raft, frames of the data port, or what a connection is used for beyond its [`Purpose`].
//!
//! Invariants:
//! - TLS 1.3 alone, both ends show a certificate, nothing is resumed and nothing is sent early; the one exception is a machine
//!   that joins: it has no certificate yet, knows the authority by the token, and shows the token before it counts.
//! - A private key is never in an error, a log line or a `Debug`.
//! - What a peer sends is bounded before it is kept ([`join::codec`]).
//! - On a link that the kernel encrypts no key is ever updated: a peer that tries ends the link ([`kernel`]).
//! - Of a token only a SHA-256 is kept ([`token`]).
//!
//! Start reading at [`authority`] and [`identity`], then [`link`] and [`join`].

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod authority;
pub mod buffered;
pub mod certificate;
pub mod counters;
pub mod credentials;
pub mod directory;
pub mod identity;
pub mod join;
pub mod kernel;
pub mod link;
pub mod link_error;
pub mod node_key;
pub mod offered;
pub mod purpose;
mod random;
pub mod roster;
pub mod token;
mod verifier;

pub use authority::{Authority, AuthorityError};
pub use buffered::{BufferedError, BufferedTls};
pub use certificate::{CertificateUnreadable, CertificateValidity, NodeCertificate};
pub use counters::RefusalCounters;
pub use credentials::Credentials;
pub use directory::{KeyDirectory, KeyDirectoryError};
pub use identity::{IdentityTextError, PeerIdentity};

pub use kernel::{HandshakeSide, KernelHandshake, KernelLink};
pub use link::{Accepted, Acceptor, Caller, Connector};
pub use link_error::{LinkError, PeerVerdict};
pub use node_key::NodeKey;
pub use offered::offered;
pub use purpose::Purpose;
pub use roster::{PeerStanding, Roster};
pub use token::{TokenSecret, TokenText, TokenTextError};
