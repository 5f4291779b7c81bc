//! Why a store cannot be opened.

use palisade_model::{BrokenRule, Refusal};
use palisade_sys::device::holder_at;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a store cannot be opened. Whatever it is, no file has been changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system failed.
    #[error("{path} cannot be used: {source}")]
    Io {
        /// On which file or directory.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error(
        "{path} is locked: another daemon uses this state directory{}; stop it, or name another directory",
        by(.holder)
    )]
    InUse {
        /// The lock.
        path: PathBuf,
        /// Who has it, as "palisaded, process 4711", where that is to be seen.
        holder: Option<String>,
    },
    /// The file is not a database in order.
    #[error("{path} is damaged: {reason}. {RESTORE}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file is of a later format.
    #[error("{path} is of format {format}, this program knows formats up to {known}: start a later version")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
        /// The latest format known here.
        known: u64,
    },
    /// It is as it was written, and says what this program does not know. It would be lost.
    #[error(
        "{path} was written by a later version, and this program cannot read all of it: {what}. Nothing has been changed; \
         start a later version"
    )]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// What is not known.
        what: String,
    },
    /// There was a database, and no file of it is left.
    #[error(
        "the database of cluster {cluster} has vanished: {path} remembers it, and no file of it is left. \
         {RESTORE}"
    )]
    Vanished {
        /// The lock, which remembers it.
        path: PathBuf,
        /// The cluster that it was of.
        cluster: String,
    },
    /// A restore was begun and not finished.
    #[error(
        "a restore was begun here and not finished ({path}): run `palisade state restore` again with the same \
         file"
    )]
    UnfinishedRestore {
        /// Its mark.
        path: PathBuf,
    },
    /// One of the two files is missing.
    #[error(
        "{path} is missing while its counterpart is there. Bring it back; without it the latest changes are \
         unknown. {RESTORE}"
    )]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// The log does not follow the state: the two files do not belong together.
    #[error(
        "{path} goes on with command {found} where {expected} is due: the files of the directory do not belong \
         together. {RESTORE}"
    )]
    Gap {
        /// The log.
        path: PathBuf,
        /// The index that comes next after the state.
        expected: u64,
        /// The index found.
        found: u64,
    },
    /// A command of the log is refused when it is applied again.
    #[error(
        "command {index} of {path} was accepted once and is refused now ({refusal}): it was written by another \
         version; start that version once and stop it cleanly. {RESTORE}"
    )]
    Refused {
        /// The log.
        path: PathBuf,
        /// The command's index.
        index: u64,
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// A command of the log leads to another cluster than it did when it was accepted.
    #[error(
        "command {index} of {path} leads to another cluster than it did when it was accepted: it was written by \
         another version; start that version once and stop it cleanly. {RESTORE}"
    )]
    Diverged {
        /// The log.
        path: PathBuf,
        /// The command's index.
        index: u64,
    },
    /// The cluster that was read is not in order.
    #[error("the cluster in {path} is not in order: {broken}. {RESTORE}")]
    Broken {
        /// The state.
        path: PathBuf,
        /// What is not.
        #[source]
        broken: BrokenRule,
    },
}

impl StoreError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.into();
        move |source| StoreError::Io { path, source }
    }

    /// Of a file that another process has.
    pub(crate) fn in_use(path: &Path) -> StoreError {
        StoreError::InUse {
            path: path.into(),
            holder: holder_at(path).map(|holder| holder.who()),
        }
    }

    /// Of a file that the database library cannot make sense of.
    pub(crate) fn unread(path: impl Into<PathBuf>, error: impl Into<redb::Error>) -> StoreError {
        let reason = match error.into() {
            redb::Error::Corrupted(what) => format!(
                "its parts do not fit each other, as when it was cut off or written over from outside (the database library \
                 says: {what})"
            ),
            other => format!("it cannot be read (the database library says: {other})"),
        };
        StoreError::damaged(path, reason)
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, reason: impl fmt::Display) -> StoreError {
        StoreError::Damaged {
            path: path.into(),
            reason: reason.to_string(),
        }
    }
}

/// Why a database could not be written anew, or a file of it not be put back. What is in its place is what was there.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// A new file cannot be written.
    #[error("{path} cannot be written: {reason}")]
    NotWritten {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What was written is not what is read.
    #[error(
        "{path} does not give back what was just written to it ({reason}): the storage below it cannot be trusted. Keep the \
         daemon running, take a backup now (`palisade state backup FILE`, to other storage), and restore it there"
    )]
    NotKept {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The old files are not in their places, so nothing is written there.
    #[error("{0}")]
    Misplaced(String),
}

impl From<StoreError> for RenewError {
    fn from(error: StoreError) -> RenewError {
        match error {
            StoreError::Io { path, source } => RenewError::NotWritten {
                path,
                reason: source.to_string(),
            },
            // It has not got its name yet: it was still being written.
            StoreError::Damaged { path, reason } if path.extension().is_some_and(|end| end == "new") => {
                RenewError::NotWritten { path, reason }
            }
            StoreError::Damaged { path, reason } => RenewError::NotKept { path, reason },
            other => RenewError::Misplaced(other.to_string()),
        }
    }
}

fn by(holder: &Option<String>) -> String {
    holder.as_ref().map(|who| format!(" ({who})")).unwrap_or_default()
}

const RESTORE: &str = "Nothing has been changed. Keep a copy of the directory as it is. If there is a backup: move the \
                       directory away and run `palisade state restore`. If there is none: move it away, start the \
                       daemon, and bring the pooled disks back with their volumes by `palisade disk import`: adding those \
                       anew would give their space away. A disk given whole carries nothing to import: add it again by \
                       `palisade disk add ID --block PATH --whole --force`, or with `--file PATH` for a file, which leaves \
                       its content as it is";
