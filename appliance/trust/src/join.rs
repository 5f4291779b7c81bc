//! How a machine becomes a node: it shows a token and gets a certificate. And how a node renews its own.
//!
//! ```text
//!   machine that joins                                  any node of the cluster that has the authority's key
//!   -- TLS: no certificate; the authority is known by the token's sum -->
//!   JoinRequest: secret, id, name, addresses, key     -->  judge: token, time, what it has, feature level
//!                                                          propose AdmitNode, wait until it is agreed on
//!                <-- JoinGrant: cluster, certificate,      sign
//!                    authority (with key, if to vote), all nodes
//!                <-- or JoinRefused: code and sentence
//! ```
//!
//! Before the token has been found, nothing that the machine says is kept. The machine sends nothing before it has recognised
//! the authority; so neither somebody in the middle nor a node of another cluster sees the secret. Cut off anywhere, it is
//! asked again with the same token: the same node with the same key is answered in the same way.
//!
//! [`message`] is what is said, [`codec`] its bytes, [`judge`] what a node says to it, [`joiner`] what the machine makes of the
//! answer, [`conversation`] the one exchange over a stream.

pub mod codec;
pub mod conversation;
pub mod joiner;
pub mod judge;
pub mod message;
mod reader;

pub use codec::{CodecError, JoinFrame};
pub use conversation::{ConversationError, ask, read_frame, write_frame};
pub use joiner::{JoinError, JoinedNode, Joiner};
pub use judge::{JoinVerdict, grant, judge, renew};
pub use message::{JoinGrant, JoinRefused, JoinRequest, KnownNode, RenewGrant, RenewRequest};
