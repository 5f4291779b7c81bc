//! Which generation of its superblock each pooled disk was last known to carry: kept beside the cluster database, so that an
//! older copy of a medium that is put in its place is told from the medium itself.
//!
//! Nothing on such a copy tells it from a medium whose last write of a superblock a crash cut short: both carry a
//! configuration that ours has grown out of. What does is the order of two stable writes, of the medium first and of this
//! record afterwards: a crash leaves the medium at what is on record, or beyond it, and never before it.
//!
//! ```text
//! agreed     written, flushed, read back     on record      a crash in between leaves
//!    |------------------|------------------------|
//!    g on medium        g+1 on medium            g+1        g or g+1 on the medium, g on record: no copy
//! ```
//!
//! It is this node's own observation and no part of the agreed configuration: as one, it would cost an entry of the log, and
//! its flush, for each superblock that is written, and would be restored with the database from a time when the media were
//! other ones. A record that is older than the truth finds fewer copies and accuses no medium. Where there is none, as after a
//! state directory was restored, only a medium that is level with the database is taken for the present one, and recorded at
//! once.

use crate::own_file;
use palisade_model::{Disk, Generation, Uuid};
use palisade_volume::OnRecord;
use palisade_wire::{Ancestor, Decoded};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The folder in which it is kept, a file for each disk, and the copies that an operator has just decided to go on from.
#[derive(Clone, Debug)]
pub struct LastSuperblock {
    folder: PathBuf,
    known: Arc<Mutex<Known>>,
}

/// What this daemon knows by itself.
#[derive(Debug, Default)]
struct Known {
    /// Copies that an operator has just decided to go on from.
    chosen: BTreeMap<Uuid, Chosen>,
    /// What it has seen or written: counts where a record has been lost since, or could not be kept.
    carried: BTreeMap<Uuid, Generation>,
    /// Disks whose lost end an operator goes on without, and the generation of each when that was decided. Not kept beyond
    /// this daemon: until the end is written anew, the next one asks once more.
    without_end: BTreeMap<Uuid, Generation>,
}

/// A copy that an operator goes on from.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    /// What it carries.
    carries: Ancestor,
    /// The disk's generation when that was decided. It counts once the cluster has agreed, which makes the disk's a later one.
    since: Generation,
}

impl LastSuperblock {
    /// Below the state directory.
    pub fn below(state_dir: &Path) -> LastSuperblock {
        LastSuperblock {
            folder: state_dir.join("media"),
            known: Arc::default(),
        }
    }

    /// What is on record of a disk's medium, for what was `found` on it: nothing is held against that once an operator has
    /// decided to go on from it.
    ///
    /// # Errors
    /// A sentence: the record is there and cannot be read.
    pub fn known(&self, disk: &Disk, found: &Decoded) -> Result<OnRecord, String> {
        let chosen = self.lock().chosen.get(&disk.uuid).copied();
        let is_chosen = |chosen: Chosen| {
            chosen.carries == found.superblock.point() && disk.superblock_generation() > chosen.since
        };
        if chosen.is_some_and(is_chosen) {
            return Ok(OnRecord::Waived);
        }
        let known = self.recall(disk.uuid).map_err(|error| {
            format!(
                "which generation the disk was last known to carry cannot be read from {}: {error}",
                self.folder.display()
            )
        })?;
        Ok(OnRecord::of(disk, known))
    }

    /// The generation on record, or else what this daemon has seen. What is damaged is as if it had never been kept.
    ///
    /// # Errors
    /// What the file system says, unless there is none.
    pub fn recall(&self, disk: Uuid) -> io::Result<Option<Generation>> {
        let kept = self.kept(disk)?;
        Ok(kept.or_else(|| self.lock().carried.get(&disk).copied()))
    }

    fn kept(&self, disk: Uuid) -> io::Result<Option<Generation>> {
        match own_file::read(&self.path(disk)) {
            Ok(text) => Ok(text.trim().parse().ok().map(Generation)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps that a disk's medium carries a generation, stable when this returns. To be called once that is stable on the
    /// medium itself.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(&self, disk: Uuid, carries: Generation) -> io::Result<()> {
        let mut known = self.lock();
        known.carried.insert(disk, carries);
        self.record(disk, carries)?;
        known.chosen.remove(&disk);
        known.without_end.remove(&disk);
        Ok(())
    }

    /// The cluster has agreed on going on from what a medium carries: so it is the present one, also for the next daemon.
    ///
    /// # Errors
    /// What the file system says.
    pub fn settle(&self, disk: Uuid) -> io::Result<()> {
        // Under the lock: the superblock may have been written, and kept, already.
        let mut known = self.lock();
        let Some(chosen) = known.chosen.get(&disk) else {
            return Ok(());
        };
        let carries = Generation(chosen.carries.generation);
        known.carried.insert(disk, carries);
        self.record(disk, carries)
    }

    fn record(&self, disk: Uuid, carries: Generation) -> io::Result<()> {
        if matches!(self.kept(disk), Ok(Some(kept)) if kept == carries) {
            return Ok(());
        }
        let path = self.path(disk);
        let beside = path.with_extension("superblock-new");
        own_file::replace(&self.folder, &path, &beside, &carries.0.to_string())
    }

    /// An operator goes on from what a medium carries, older or not. Counts when the cluster has agreed on it.
    pub fn choose(&self, disk: &Disk, carries: Ancestor) {
        let since = disk.superblock_generation();
        self.lock().chosen.insert(disk.uuid, Chosen { carries, since });
    }

    /// An operator goes on without an end of a medium that is lost. Counts when the cluster has agreed on it.
    pub fn go_on_without_end(&self, disk: &Disk) {
        let since = disk.superblock_generation();
        self.lock().without_end.insert(disk.uuid, since);
    }

    /// Whether that was decided, and agreed on, and the end has not been written anew since.
    pub fn is_end_excused(&self, disk: &Disk) -> bool {
        let since = self.lock().without_end.get(&disk.uuid).copied();
        since.is_some_and(|since| disk.superblock_generation() > since)
    }

    /// The cluster has refused that.
    pub fn unchoose(&self, disk: Uuid) {
        self.lock().chosen.remove(&disk);
    }

    /// Forgets a disk that has left.
    pub fn forget(&self, disk: Uuid) {
        let mut known = self.lock();
        known.without_end.remove(&disk);
        known.chosen.remove(&disk);
        known.carried.remove(&disk);
        // What cannot be removed is asked about once more if the medium ever comes back by an import.
        let _ = fs::remove_file(self.path(disk));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, disk: Uuid) -> PathBuf {
        self.folder.join(format!("{disk}.superblock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept_until_forgotten_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let last = LastSuperblock::below(folder.path());
        assert_eq!(last.recall(Uuid(1)).unwrap(), None);
        for generation in [46, 46, 47, 3] {
            last.keep(Uuid(1), Generation(generation)).unwrap();
            let known = LastSuperblock::below(folder.path()).recall(Uuid(1)).unwrap();
            assert_eq!(known, Some(Generation(generation)));
        }
        assert_eq!(last.recall(Uuid(2)).unwrap(), None);
        fs::write(last.path(Uuid(1)), "4x").unwrap();
        let another = LastSuperblock::below(folder.path());
        assert_eq!(another.recall(Uuid(1)).unwrap(), None);
        let seen = last.recall(Uuid(1)).unwrap();
        assert_eq!(seen, Some(Generation(3)), "the daemon that has seen it knows it");
        last.forget(Uuid(1));
        assert_eq!(last.recall(Uuid(1)).unwrap(), None);
        assert!(!last.path(Uuid(1)).exists());
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let last = LastSuperblock::below(folder.path());
        fs::create_dir_all(last.path(Uuid(1))).unwrap();
        assert!(last.recall(Uuid(1)).is_err());
    }
}
