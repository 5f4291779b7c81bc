//! What goes into the log, and what comes of it.

use palisade_model::{Command, Outcome, Refusal};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A command on its way into the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal(pub Command);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// What an entry has come to. The same on every node that has applied it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryOutcome {
    /// It was about Raft itself, and has not touched the cluster.
    Nothing,
    /// The model has applied the command.
    Applied(Outcome),
    /// The model has refused the command: cluster and generation are as they were.
    Refused(Refusal),
}

impl fmt::Display for EntryOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryOutcome::Nothing => f.write_str("nothing"),
            EntryOutcome::Applied(outcome) => write!(f, "{outcome:?}"),
            EntryOutcome::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}
