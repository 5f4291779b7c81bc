//! The seam: how the rest of the appliance reaches agreement, whoever has to agree.

use palisade_model::{Cluster, Command, Outcome, Refusal};
use palisade_words::Generation;
use std::sync::Arc;
use std::time::Duration;

/// Brings commands into the one order in which all nodes apply them.
pub trait Agreement: Send + Sync {
    /// Applies a command. When it returns, the change is as durable as this agreement makes things. Blocks.
    fn propose(&self, command: Command) -> Result<Outcome, ProposeError>;

    /// The cluster as agreed now. Cheap: a reference to a value that never changes.
    fn cluster(&self) -> Arc<Cluster>;

    /// The generation of the cluster as agreed now.
    fn generation(&self) -> Generation {
        self.cluster().generation
    }

    /// Waits until the cluster is beyond a generation, at most as long as `patience`; returns the cluster as agreed
    /// then, whether it is or not.
    fn wait_beyond(&self, generation: Generation, patience: Duration) -> Arc<Cluster>;
}

/// Why a command has not been acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// The model refuses it. Nothing has changed.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It could not be written to stable storage. Whether it is there is open until all has been written anew.
    #[error(
        "the change could not be written to {file} ({reason}), and no more are taken until all has been written anew, \
         which is tried again and again: look after the file system. This change is then not in it and can be asked for \
         again"
    )]
    Storage {
        /// The file.
        file: String,
        /// What the storage said.
        reason: String,
    },
    /// An earlier command could not be written.
    #[error(
        "an earlier change could not be written, so no more are taken until all has been written anew, which is tried \
         again and again: look after the file system"
    )]
    Halted,
    /// Files of the database are not in their places: what was written to them would be gone at the next start. Nothing
    /// has changed.
    #[error("the change was not taken, because it would be gone at the next start: {what}")]
    Misplaced {
        /// Which files, and how.
        what: String,
    },
}

impl ProposeError {
    /// The stable code for programs, in snake case.
    pub fn code(&self) -> &'static str {
        match self {
            ProposeError::Refused(refusal) => refusal.code(),
            ProposeError::Storage { .. } => "storage_failed",
            ProposeError::Halted => "storage_halted",
            ProposeError::Misplaced { .. } => "storage_misplaced",
        }
    }
}
