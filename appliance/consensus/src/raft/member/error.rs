//! Why a member does not start, and why a read is not answered.

use crate::raft::growth::GrowthError;
use crate::raft::voter_error::VoterError;
use crate::store_error::StoreError;
use std::io;
use std::path::PathBuf;

/// Why a member does not start. Nothing of what was agreed on is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Its files cannot be used.
    #[error("{0}")]
    Voter(#[from] VoterError),
    /// The database of a single node was about to become its files, and that cannot be gone on with.
    #[error("{0}")]
    Growth(#[source] Box<GrowthError>),
    /// Its directory cannot be used.
    #[error("{0}")]
    Directory(#[source] Box<StoreError>),
    /// A new member is to begin where the database of a single node is.
    #[error(
        "{path} is the database of a single node: a new member does not begin beside it. Nothing has been changed; let this node \
         become the first voter of a cluster with what it has, or name an empty directory"
    )]
    SingleDatabase {
        /// The file.
        path: PathBuf,
    },
    /// There are no threads for it.
    #[error("no threads can be had for the agreement of the cluster: {source}")]
    Threads {
        /// Why.
        source: io::Error,
    },
    /// Openraft does not start on what is there.
    #[error("the agreement of the cluster does not start: {why}")]
    Raft {
        /// Why.
        why: String,
    },
}

impl From<StoreError> for MemberError {
    fn from(error: StoreError) -> MemberError {
        MemberError::Directory(Box::new(error))
    }
}

impl From<GrowthError> for MemberError {
    fn from(error: GrowthError) -> MemberError {
        MemberError::Growth(Box::new(error))
    }
}

/// Why nobody vouches for what a read would see.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadNowError {
    /// No leader is known, or can be reached.
    #[error("no leader of the cluster can be reached, so that what this node knows may be out of date")]
    NoLeader,
    /// No majority confirms in time that the leader leads.
    #[error(
        "no majority of the voters has answered in time, so that what this node knows may be out of date"
    )]
    NoMajority,
    /// It is confirmed, and this node has not come so far in time.
    #[error("this node has not caught up in time with what is agreed on")]
    Behind,
    /// The member has stopped.
    #[error("the member has stopped")]
    Stopped,
}

impl ReadNowError {
    /// The stable code for programs, in snake case.
    pub fn code(&self) -> &'static str {
        match self {
            ReadNowError::NoLeader => "no_leader",
            ReadNowError::NoMajority => "no_majority",
            ReadNowError::Behind => "behind",
            ReadNowError::Stopped => "stopped",
        }
    }
}
