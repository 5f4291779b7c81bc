//! Tokens by which new nodes are let in: each once, for a time.

use crate::node::NodeRole;
use palisade_words::{Generation, Name, Sha256Sum, Uuid};
use serde::{Deserialize, Serialize};

/// A token as the cluster knows it. The token itself is with the operator who asked for it: here is a sum that tells the one
/// shown from every other, and from which it cannot be had.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinToken {
    /// The generation at which it was made.
    pub created: Generation,
    /// The generation at which it last changed.
    pub revision: Generation,
    /// SHA-256 of its secret.
    pub hash: Sha256Sum,
    /// From when on it lets nobody in, in seconds since 1970.
    pub expires_at_s: u64,
    /// What who comes with it is let in for.
    pub admits: NodeRole,
    /// The permanent id of the node that it has let in; it lets no other in. The entry stays until it expires, for the same node to
    /// ask again, as one has to that has heard no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<Uuid>,
}

impl JoinToken {
    /// Whether it lets nobody in any more at a time, in seconds since 1970.
    pub fn has_expired(&self, now_s: u64) -> bool {
        now_s >= self.expires_at_s
    }
}

/// Makes a token, by its sum.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateToken {
    /// Its name.
    pub name: Name,
    /// SHA-256 of its secret.
    pub hash: Sha256Sum,
    /// What time it is on the node that proposes this, in seconds since 1970. Not an argument in the sense of
    /// [`Command`](crate::Command).
    pub now_s: u64,
    /// From when on it lets nobody in, in seconds since 1970.
    pub expires_at_s: u64,
    /// What who comes with it is let in for.
    pub admits: NodeRole,
}

/// Takes a token back. Who was let in by it stays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevokeToken {
    /// Which.
    pub name: Name,
    /// The revision it must have.
    pub expected: Option<Generation>,
}
