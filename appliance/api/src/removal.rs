//! Taking something away: how it may be done, and what it does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How something is to be taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovalOptions {
    /// Take it away although a virtual machine is connected to it; a disk, although its medium cannot be reached.
    pub force: bool,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Whether a volume's space is cleared before anybody else gets it; `None`: as the volume says.
    pub clear: Option<bool>,
}

/// What taking something away does, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Removal {
    /// What is taken away.
    #[schema(example = "volume v1")]
    pub subject: String,
    /// The generation that it has: sent in If-Match, it says that nothing has changed since this was read.
    pub generation: u64,
    /// What happens, each in a sentence.
    #[schema(example = json!(["the 10 GiB that volume v1 holds are lost"]))]
    pub effects: Vec<String>,
}
