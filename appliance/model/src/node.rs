//! Nodes.

use palisade_words::{Generation, Uuid};
use serde::{Deserialize, Serialize};

/// One appliance. Its permanent id is never an address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Permanent id.
    pub uuid: Uuid,
    /// The generation at which it came into the cluster.
    pub created: Generation,
    /// The generation at which it last changed.
    pub revision: Generation,
}
