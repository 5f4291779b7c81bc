//! The seam: how the rest of the appliance reaches agreement, whoever has to agree.
//!
//! Everywhere the order is the same: a command is answered by what it does to the cluster that all commands before it have led
//! to, and by nothing else. So a refusal is an outcome like any other, and every member comes to the same one.
//!
//! ```text
//!   one node       apply ---- refused, or nothing new: answered, not in the log
//!                    `------- changes something: append, durable, publish, answer
//!   several nodes  append, agreed on by a majority, apply ---- refused, nothing new, or changed: answered
//! ```
//!
//! A cluster of one may look first: it proposes one command at a time, so that the cluster it looks at is the one that an entry
//! appended now would be applied to, and what changes nothing costs no write and no place in the log. A leader of several may
//! not answer from what it knows alone: it may have been replaced, and entries that it has appended and not applied come first.
//! There every command is an entry; one whose outcome is a refusal leaves the cluster and its generation as they were.

use palisade_model::{Cluster, Command, Outcome, Refusal};
use palisade_words::Name;
use std::fmt;
use std::sync::Arc;

/// Brings commands into the one order in which all nodes apply them.
///
/// A command that was proposed once may be proposed again, here or at another node, whatever came of it: what it asks for is not
/// done twice. So [`ProposeError::NotLeader`] and [`ProposeError::OutcomeUnknown`] are both answered by asking again.
pub trait Agreement: fmt::Debug {
    /// Applies a command. When it returns, the change is as durable as this agreement makes things. Blocks.
    fn propose(&self, command: Command) -> Result<Outcome, ProposeError>;

    /// The cluster as agreed now. Cheap: a reference to a value that never changes.
    fn cluster(&self) -> Arc<Cluster>;
}

/// The node that brings commands into their order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leader {
    /// Its name.
    pub node: Name,
    /// Where its interface for operators is reached, as far as that is known.
    pub addresses: Vec<String>,
}

/// Why a command has not been acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// The model refuses it. Nothing has changed.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Another node brings commands into their order. Nothing has changed.
    #[error("this node does not lead the cluster: {}", known(.leader))]
    NotLeader {
        /// Who does, if this node knows.
        leader: Option<Leader>,
    },
    /// It was proposed, and no answer has come: it may be agreed on, now or later, or never.
    #[error("the change was proposed, and whether it is agreed on is not known")]
    OutcomeUnknown,
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
            ProposeError::NotLeader { leader: Some(_) } => "not_leader",
            ProposeError::NotLeader { leader: None } => "no_leader",
            ProposeError::OutcomeUnknown => "outcome_unknown",
            ProposeError::Storage { .. } => "storage_failed",
            ProposeError::Halted => "storage_halted",
            ProposeError::Misplaced { .. } => "storage_misplaced",
        }
    }
}

fn known(leader: &Option<Leader>) -> String {
    match leader {
        Some(leader) => format!("node {} does", leader.node),
        None => "it knows of none that does".into(),
    }
}
