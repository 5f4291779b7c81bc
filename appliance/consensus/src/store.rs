//! Agreement of a cluster of one, on stable storage.

use crate::agreement::{Agreement, ProposeError};
use crate::backup;
use crate::log_file::{LogFile, Logged};
use crate::places::{LOCK, LOG, Misplaced, Places, STATE};
use crate::private;
use crate::published::Published;
use crate::raft::LOG_FILE;
use crate::record::{Entry, Snapshot, digest};
use crate::state_file::StateFile;
use crate::store_error::{RenewError, StoreError};
use palisade_model::{Cluster, Command, Outcome, check};
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Commands after which the state is kept as a whole and the log before it dropped.
const COMMANDS_PER_SNAPSHOT: u64 = 128;

/// The mark of a directory whose single node has become a voter of a cluster, or is about to.
pub(crate) const GROWN: &str = "voter.json";

/// More than the mark in the lock is long.
const MARK_BYTES_MAX: u64 = 256;

/// The cluster database: `log.redb`, `state.redb` and `lock` in one directory.
#[derive(Debug)]
pub struct Store {
    published: Published,
    writer: Mutex<Writer>,
}

/// Who brings commands to stable storage, one at a time.
#[derive(Debug)]
struct Writer {
    log: LogFile,
    state: StateFile,
    places: Places,
    /// Index of the latest command.
    index: u64,
    /// Index of the latest command that is in the state.
    kept: u64,
    /// A command could not be written; what is on stable storage is unknown until it is read again.
    halted: bool,
    /// Held as long as the store is open. Its content is the id of the cluster, once there is one.
    lock: File,
}

impl Store {
    /// Opens the cluster database of a directory, which is made if there is none. What is there is checked first;
    /// when it is not in order, it is left as it is. A voter of a cluster has no such database: the one that it has grown out of
    /// is not opened any more.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        refuse_voter(directory)?;
        Store::open_to_grow(directory)
    }

    /// The same, of a single node that becomes a voter.
    pub(crate) fn open_to_grow(directory: &Path) -> Result<Store, StoreError> {
        make_private(directory).map_err(StoreError::io(directory))?;
        let lock_path = directory.join(LOCK);
        let lock = lock(&lock_path)?;
        refuse_unfinished_restore(directory)?;
        let (log_path, state_path) = (directory.join(LOG), directory.join(STATE));
        if !log_path.exists() && !state_path.exists() {
            // The lock remembers whether there was a database once.
            refuse_vanished(&lock_path, &lock)?;
        }
        // The log is made first, so a state without a log has lost it.
        let (log, logged) = match log_path.exists() {
            true => LogFile::open(&log_path)?,
            false if state_path.exists() => return Err(StoreError::Missing { path: log_path }),
            false => (LogFile::create(&log_path, 0)?, Logged::default()),
        };
        let (state, snapshot) = match state_path.exists() {
            true => StateFile::open(&state_path)?,
            // A log that was never shortened begins at the beginning, and needs no state. One that was may be empty,
            // and everything that was ever agreed on in the state that is gone.
            false if logged.dropped > 0 || logged.entries.first().is_some_and(|first| first.index != 1) => {
                return Err(StoreError::Missing { path: state_path });
            }
            false => (StateFile::create(&state_path, None)?, None),
        };
        let (kept, cluster) = snapshot.map_or_else(|| (0, Cluster::empty()), |s| (s.index, s.cluster));
        if kept < logged.dropped {
            // An older state than the one the log was shortened for, from a backup perhaps.
            return Err(StoreError::Gap {
                path: log_path,
                expected: kept + 1,
                found: logged.dropped + 1,
            });
        }
        let in_order = |cluster: &Cluster| match check(cluster) {
            Ok(()) => Ok(()),
            Err(broken) => {
                let path = state_path.clone();
                Err(StoreError::Broken { path, broken })
            }
        };
        in_order(&cluster)?;
        let (index, cluster) = replay(&log_path, kept, cluster, &logged.entries)?;
        let has_lineage = !cluster.lineage.is_nil() || !cluster.is_initialised();
        let cluster = cluster.rooted();
        in_order(&cluster)?;
        let mut writer = Writer {
            log,
            state,
            places: Places::of(directory).map_err(StoreError::io(directory))?,
            index,
            kept,
            halted: false,
            lock,
        };
        if !has_lineage {
            // Where its lineage begins is kept before anything is built on it.
            let kept = writer.keep(&cluster);
            kept.map_err(|error| StoreError::damaged(&state_path, error))?;
        }
        writer.mark(&cluster).map_err(StoreError::io(&lock_path))?;
        Ok(Store {
            published: Published::new(Arc::new(cluster)),
            writer: Mutex::new(writer),
        })
    }

    /// Keeps the state as a whole and empties the log. Worth doing at a clean stop: a later version that applies
    /// commands differently then finds none to apply.
    pub fn compact(&self) -> Result<(), ProposeError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.compact(&self.published.get())
    }

    /// Looks whether the files of the database are in their places, and puts back what is missing: all that was agreed on is
    /// known here. What was wrong, if anything; `None` at the next look says that it is well again.
    ///
    /// Nothing is made in place of the directory itself, which somebody may have moved, nor over files of somebody else.
    pub fn look(&self) -> Option<String> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = writer.places.look().err()?;
        let what = wrong.to_string();
        if !wrong.can_be_mended() {
            return Some(what);
        }
        match writer.put_back(&wrong, &self.published.get()) {
            Ok(()) => Some(what),
            Err(error) => Some(format!("{what}, and cannot be put back: {error}")),
        }
    }

    /// The number of the latest command, and what it has led to.
    pub(crate) fn reached(&self) -> (u64, Cluster) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        (writer.index, Cluster::clone(&self.published.get()))
    }

    /// Whether no changes are taken because one could not be written.
    pub fn is_halted(&self) -> bool {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).halted
    }

    /// After a command could not be written: writes all that was agreed on into new files, which take the place of the old
    /// ones. The command that could not be written is then not in them, whatever of it has reached the old ones.
    ///
    /// Nothing is read from the old files: after a failed write the kernel may show what is not on the medium. What is written
    /// anew is on stable storage and was read back when this succeeds. When it fails nothing is lost: until the new files are
    /// in their places the old ones are.
    ///
    /// # Errors
    /// They cannot be written either, or hold something else than was written; or the old ones are not in their places.
    pub fn write_anew(&self) -> Result<(), RenewError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if !writer.halted {
            return Ok(());
        }
        if let Err(wrong) = writer.places.look() {
            return Err(RenewError::Misplaced(wrong.to_string()));
        }
        writer.write_anew(&self.published.get())
    }
}

impl Agreement for Store {
    fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.halted {
            return Err(ProposeError::Halted);
        }
        let (next, outcome) = self.published.get().apply(&command)?;
        if matches!(outcome, Outcome::Unchanged { .. }) {
            return Ok(outcome);
        }
        if let Err(wrong) = writer.places.look() {
            return Err(ProposeError::Misplaced {
                what: wrong.to_string(),
            });
        }
        writer.append(&next, command)?;
        if self.published.get().id != next.id
            && let Err(error) = writer.mark(&next)
        {
            // What it is for, a database that vanishes, is noticed a start later.
            log::warn!("cluster database: the lock file cannot be marked: {error}");
        }
        let next = Arc::new(next);
        self.published.set(Arc::clone(&next));
        if writer.index - writer.kept >= COMMANDS_PER_SNAPSHOT
            && let Err(error) = writer.compact(&next)
        {
            // The command itself is in the log and thereby safe.
            log::error!("cluster database: {error}");
        }
        Ok(outcome)
    }

    fn cluster(&self) -> Arc<Cluster> {
        self.published.get()
    }
}

impl Writer {
    fn append(&mut self, next: &Cluster, command: Command) -> Result<(), ProposeError> {
        let digest = digest(next).map_err(|error| self.halt(&error))?;
        let entry = Entry {
            index: self.index + 1,
            generation: next.generation,
            digest,
            lineage: Some(next.lineage),
            command,
        };
        self.log.append(&entry).map_err(|error| self.halt(&error))?;
        self.index += 1;
        Ok(())
    }

    fn compact(&mut self, cluster: &Cluster) -> Result<(), ProposeError> {
        if self.halted {
            return Err(ProposeError::Halted);
        }
        if self.kept == self.index {
            return Ok(());
        }
        self.keep(cluster)
    }

    /// Keeps the state as a whole and empties the log, whether or not that is due.
    fn keep(&mut self, cluster: &Cluster) -> Result<(), ProposeError> {
        let snapshot = Snapshot {
            index: self.index,
            cluster: cluster.clone(),
        };
        self.state.keep(&snapshot).map_err(|error| self.halt(&error))?;
        self.kept = self.index;
        self.log.drop_up_to(self.index).map_err(|error| self.halt(&error))
    }

    /// Puts back the files that are missing.
    fn put_back(&mut self, wrong: &Misplaced, cluster: &Cluster) -> Result<(), RenewError> {
        if wrong.lacks(LOCK) {
            // Its files have rights of their own, so that what cannot be done here opens none of them.
            if let Err(error) = self.places.restore_rights() {
                log::warn!("cluster database: the state directory cannot be given its rights: {error}");
            }
            let path = self.places.path(LOCK);
            self.lock = lock(&path)?;
            self.places.renew().map_err(StoreError::io(&path))?;
            self.mark(cluster).map_err(StoreError::io(&path))?;
        }
        match wrong.lacks(LOG) || wrong.lacks(STATE) {
            true => self.write_anew(cluster),
            false => Ok(()),
        }
    }

    /// The state goes first: with it and the old log a start would find all that was agreed on as well.
    fn write_anew(&mut self, cluster: &Cluster) -> Result<(), RenewError> {
        let snapshot = Snapshot {
            index: self.index,
            cluster: cluster.clone(),
        };
        let written: Result<(), StoreError> = (|| {
            self.state = StateFile::create(&self.places.path(STATE), Some(&snapshot))?;
            self.kept = self.index;
            self.log = LogFile::create(&self.places.path(LOG), self.index)?;
            Ok(())
        })();
        // One of them may be in its place although the other is not.
        let directory = self.places.directory().to_owned();
        self.places.renew().map_err(StoreError::io(&directory))?;
        self.halted = written.is_err();
        Ok(written?)
    }

    /// Writes down in the lock that there is a database of this cluster here.
    fn mark(&mut self, cluster: &Cluster) -> std::io::Result<()> {
        if !cluster.is_initialised() {
            return Ok(());
        }
        let mark = format!("cluster {}\n", cluster.id);
        let mut present = String::new();
        self.lock.seek(SeekFrom::Start(0))?;
        // What cannot be read as text is no mark.
        let _ = Read::take(&self.lock, MARK_BYTES_MAX).read_to_string(&mut present);
        if present == mark {
            return Ok(());
        }
        self.lock.seek(SeekFrom::Start(0))?;
        self.lock.set_len(0)?;
        self.lock.write_all(mark.as_bytes())?;
        self.lock.sync_all()
    }

    fn halt(&mut self, error: &dyn std::error::Error) -> ProposeError {
        self.halted = true;
        ProposeError::Storage {
            file: self.places.path(LOG).display().to_string(),
            reason: error.to_string(),
        }
    }
}

/// Applies the commands of the log that are not in the state yet. Returns the last index and the cluster.
fn replay(
    path: &Path,
    kept: u64,
    mut cluster: Cluster,
    entries: &[Entry],
) -> Result<(u64, Cluster), StoreError> {
    let mut index = kept;
    for entry in entries.iter().skip_while(|entry| entry.index <= kept) {
        let expected = index + 1;
        if entry.index != expected {
            return Err(StoreError::Gap {
                path: path.into(),
                expected,
                found: entry.index,
            });
        }
        index = entry.index;
        let applied = cluster.apply(&entry.command);
        let (next, _) = applied.map_err(|refusal| StoreError::Refused {
            path: path.into(),
            index,
            refusal,
        })?;
        // The id that was given is the one that is on disks, however this program would write the command down. In
        // a log of format 1 the lineage begins at its end.
        let next = match entry.lineage {
            Some(id) => next.known_as(id),
            None => next.unrooted(),
        };
        let digest = digest(&next).map_err(|error| StoreError::damaged(path, error))?;
        if digest != entry.digest || next.generation != entry.generation {
            return Err(StoreError::Diverged {
                path: path.into(),
                index,
            });
        }
        cluster = next;
    }
    Ok((index, cluster))
}

/// A directory is a voter's. Its database of a single node, if it has had one, has become part of what the cluster agrees on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "this directory is that of a voter of a cluster of several nodes, and no database of a single node is opened in it: its changes \
     would be known to nobody else. Nothing has been changed; start the daemon as a member of its cluster, which also finishes what \
     was begun of making it one"
)]
pub struct OfAVoter;

/// The file that says that a directory is a voter's, if it is one.
pub(crate) fn voter_in(directory: &Path) -> Option<PathBuf> {
    let files = [GROWN, LOG_FILE].map(|file| directory.join(file));
    files.into_iter().find(|file| file.exists())
}

/// A file of a single node's database in a directory, if it has one.
pub(crate) fn single_database_in(directory: &Path) -> Option<PathBuf> {
    let files = [LOG, STATE].map(|file| directory.join(file));
    files.into_iter().find(|file| file.exists())
}

fn refuse_voter(directory: &Path) -> Result<(), StoreError> {
    match voter_in(directory) {
        None => Ok(()),
        Some(path) => Err(StoreError::Io {
            path,
            source: io::Error::new(io::ErrorKind::Unsupported, OfAVoter),
        }),
    }
}

/// Refuses a directory in which a database was and is not any more: a new one in its place would know no disk.
fn refuse_vanished(path: &Path, lock: &File) -> Result<(), StoreError> {
    match marked(lock) {
        Some(cluster) => Err(StoreError::Vanished {
            path: path.into(),
            cluster,
        }),
        None => Ok(()),
    }
}

/// The cluster that a lock remembers.
fn marked(lock: &File) -> Option<String> {
    let mut mark = String::new();
    lock.take(MARK_BYTES_MAX).read_to_string(&mut mark).ok()?;
    mark.trim().strip_prefix("cluster ").map(str::to_owned)
}

/// The id of the cluster whose database a directory has or had, whoever uses it: as its lock remembers it.
pub fn cluster_of(directory: &Path) -> Option<String> {
    marked(&File::open(directory.join(LOCK)).ok()?)
}

fn refuse_unfinished_restore(directory: &Path) -> Result<(), StoreError> {
    match backup::unfinished(directory) {
        Some(path) => Err(StoreError::UnfinishedRestore { path }),
        None => Ok(()),
    }
}

/// Locks the directory, so that nobody reads files that another process is writing.
pub(crate) fn lock(path: &Path) -> Result<File, StoreError> {
    let file = private::open(path).map_err(StoreError::io(path))?;
    private::close(path).map_err(StoreError::io(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::in_use(path)),
        Err(TryLockError::Error(source)) => Err(StoreError::Io {
            path: path.into(),
            source,
        }),
    }
}

/// Makes a directory for a database if there is none: what is in it is nobody else's business.
pub(crate) fn make_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(test)]
mod power_cut;
