//! Why the files of a voter cannot be used.

use crate::store_error::StoreError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why the files of a voter cannot be used. Whatever it is, no file has been changed.
#[derive(Debug, thiserror::Error)]
pub enum VoterError {
    /// The file cannot be had, or is of a later version: nothing is wrong with what is in it.
    #[error("{0}")]
    Unusable(#[source] Box<StoreError>),
    /// The file is not as this voter left it.
    #[error("{path} is damaged: {reason}. {REJOIN}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The voter has had this file, and it is not there.
    #[error(
        "{path} is missing: without it this node does not know what it has promised to the others. {REJOIN}"
    )]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// A new voter is to begin where one has been.
    #[error(
        "{path} is there already: a voter has been in this directory, and a new one does not begin in its place. Nothing has \
         been changed; name another directory, or start the voter that is here"
    )]
    Present {
        /// Which.
        path: PathBuf,
    },
}

impl VoterError {
    pub(crate) fn damaged(path: &Path, reason: impl fmt::Display) -> VoterError {
        VoterError::Damaged {
            path: path.into(),
            reason: reason.to_string(),
        }
    }
}

impl From<StoreError> for VoterError {
    fn from(error: StoreError) -> VoterError {
        match error {
            StoreError::Damaged { path, reason } => VoterError::Damaged { path, reason },
            StoreError::Io { path, source } if source.kind() == io::ErrorKind::NotFound => {
                VoterError::Missing { path }
            }
            other => VoterError::Unusable(Box::new(other)),
        }
    }
}

/// Neither a backup nor another node's copy is a remedy: a voter that has forgotten what it promised can vote twice.
const REJOIN: &str = "Nothing has been changed. Do not put a copy from a backup or from another node in its place: the others \
                      would count on promises that are not in it. Keep a copy of the directory as it is, take this node out \
                      of the cluster on another node, and let it join anew with an empty directory; what was agreed on is \
                      with the others";
