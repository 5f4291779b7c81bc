//! Why a store cannot be opened.

use palisade_model::{Broken, Refusal};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a store cannot be opened. Whatever it is, no file has been changed.
#[derive(Debug)]
pub enum StoreError {
    /// The file system failed.
    Io {
        /// On which file or directory.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// Another process has the store open.
    InUse {
        /// The lock.
        path: PathBuf,
    },
    /// The file is not a database in order.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file is of a later format.
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
        /// The latest format known here.
        known: u64,
    },
    /// There was a database, and no file of it is left.
    Vanished {
        /// The lock, which remembers it.
        path: PathBuf,
        /// The cluster that it was of.
        cluster: String,
    },
    /// A restore was begun and not finished.
    UnfinishedRestore {
        /// Its mark.
        path: PathBuf,
    },
    /// One of the two files is missing.
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// The log does not follow the state: the two files do not belong together.
    Gap {
        /// The log.
        path: PathBuf,
        /// The index that comes next after the state.
        expected: u64,
        /// The index found.
        found: u64,
    },
    /// A command of the log is refused when it is applied again.
    Refused {
        /// The log.
        path: PathBuf,
        /// The command's index.
        index: u64,
        /// Why.
        refusal: Refusal,
    },
    /// A command of the log leads to another cluster than it did when it was accepted.
    Diverged {
        /// The log.
        path: PathBuf,
        /// The command's index.
        index: u64,
    },
    /// The cluster that was read is not in order.
    Broken {
        /// The state.
        path: PathBuf,
        /// What is not.
        broken: Broken,
    },
}

impl StoreError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.into();
        move |source| StoreError::Io { path, source }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, reason: impl fmt::Display) -> StoreError {
        StoreError::Damaged {
            path: path.into(),
            reason: reason.to_string(),
        }
    }
}

const RESTORE: &str = "Nothing has been changed. Keep a copy of the directory as it is. If there is a backup: move the \
                       directory away and run `palisade state restore`. If there is none: move it away, start the \
                       daemon, and bring the disks back with their volumes by `palisade disk import`; never add them \
                       anew, which would give their space away";

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            StoreError::InUse { path } => write!(
                f,
                "{} is locked: another daemon uses this state directory; stop it, or name another directory",
                path.display()
            ),
            StoreError::Damaged { path, reason } => {
                write!(f, "{} is damaged: {reason}. {RESTORE}", path.display())
            }
            StoreError::TooNew { path, format, known } => write!(
                f,
                "{} is of format {format}, this program knows formats up to {known}: start a later version",
                path.display()
            ),
            StoreError::Vanished { path, cluster } => write!(
                f,
                "the database of cluster {cluster} has vanished: {} remembers it, and no file of it is left. {RESTORE}",
                path.display()
            ),
            StoreError::UnfinishedRestore { path } => write!(
                f,
                "a restore was begun here and not finished ({}): run `palisade state restore` again with the same file",
                path.display()
            ),
            StoreError::Missing { path } => write!(
                f,
                "{} is missing while its counterpart is there. Bring it back; without it the latest changes are \
                 unknown. {RESTORE}",
                path.display()
            ),
            StoreError::Gap {
                path,
                expected,
                found,
            } => write!(
                f,
                "{} goes on with command {found} where {expected} is due: the files of the directory do not belong \
                 together. {RESTORE}",
                path.display()
            ),
            StoreError::Refused { path, index, refusal } => write!(
                f,
                "command {index} of {} was accepted once and is refused now ({refusal}): it was written by another \
                 version; start that version once and stop it cleanly. {RESTORE}",
                path.display()
            ),
            StoreError::Diverged { path, index } => write!(
                f,
                "command {index} of {} leads to another cluster than it did when it was accepted: it was written by \
                 another version; start that version once and stop it cleanly. {RESTORE}",
                path.display()
            ),
            StoreError::Broken { path, broken } => {
                write!(
                    f,
                    "the cluster in {} is not in order: {broken}. {RESTORE}",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Io { source, .. } => Some(source),
            StoreError::Refused { refusal, .. } => Some(refusal),
            StoreError::Broken { broken, .. } => Some(broken),
            _ => None,
        }
    }
}
