//! The cluster database as a file to keep elsewhere.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A backup of the cluster database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateBackup {
    /// When it was taken, in seconds since 1970.
    pub taken_unix_s: u64,
    /// Generation of the cluster in it.
    pub generation: u64,
    /// Id of that generation.
    pub lineage: String,
    /// Content of the file, with a checksum in its first line.
    pub file: String,
}
