//! By which id Raft knows a node.

use palisade_words::Uuid;
use std::fmt;

/// A node as Raft knows it: by its permanent id, which no other node ever has. A node whose files are lost comes back as another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VoterId(pub Uuid);

impl fmt::Display for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Openraft's own tests count their nodes.
#[cfg(test)]
impl From<u64> for VoterId {
    fn from(number: u64) -> VoterId {
        VoterId(Uuid(number.into()))
    }
}
