//! What disks without an identity looked like when this node last looked: kept beside the cluster database, because it is
//! this node's own observation and changes all the time. And how short the files of disks that are given whole have been seen:
//! nothing on them tells that they were cut off once they are as long as before, and what was there reads as zeros.

use crate::own_file::{self, Obstacle};
use palisade_sys::device::fingerprint::{Fingerprint, Hold};
use palisade_words::Uuid;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The folder in which it is kept, a file for each disk.
#[derive(Clone, Debug)]
pub struct LastSeen {
    folder: PathBuf,
    /// Disks of which this daemon knows by itself under which path they are: an operator has said so, or they were opened and
    /// have been there since.
    placed: Arc<Mutex<BTreeSet<Uuid>>>,
}

impl LastSeen {
    /// Below the state directory.
    pub fn below(state_dir: &Path) -> LastSeen {
        LastSeen {
            folder: state_dir.join("media"),
            placed: Arc::default(),
        }
    }

    /// A disk is under its path, as long as this daemon sees it there.
    pub fn place(&self, disk: Uuid) {
        self.lock().insert(disk);
    }

    /// Its device has gone: what comes in its place may be another one.
    pub fn displace(&self, disk: Uuid) {
        self.lock().remove(&disk);
    }

    /// Whether this daemon knows by itself under which path a disk is.
    pub fn is_placed(&self, disk: Uuid) -> bool {
        self.lock().contains(&disk)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Uuid>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is kept.
    #[cfg(test)]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a disk looked like, and when that was. What is damaged is as if it had never been kept.
    pub fn recall(&self, disk: Uuid) -> Option<(Fingerprint, Hold)> {
        let text = own_file::read(&self.path(disk)).ok()?;
        let (hold, print) = text.trim().split_once(' ')?;
        let hold = match hold {
            "let-go" => Hold::LetGo,
            "in-use" => Hold::InUse,
            _ => return None,
        };
        Some((print.parse().ok()?, hold))
    }

    /// Keeps it, stable when this returns.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(&self, disk: Uuid, print: &Fingerprint, hold: Hold) -> io::Result<()> {
        let hold = match hold {
            Hold::LetGo => "let-go",
            Hold::InUse => "in-use",
        };
        let path = self.path(disk);
        let beside = path.with_extension("new");
        own_file::replace(&self.folder, &path, &beside, &format!("{hold} {print}"))
    }

    /// Forgets a disk that has left, or that an operator has said to be another medium.
    pub fn forget(&self, disk: Uuid) {
        // What cannot be removed belongs to an id that no other disk will ever have.
        let _ = fs::remove_file(self.path(disk));
    }

    /// The least size in bytes that the file of a disk was seen to have, where that was less than the disk's and nobody has
    /// said since that it is to be used. One that is there and damaged tells that it was cut off, and is as if nothing had been
    /// left of it.
    ///
    /// # Errors
    /// What the file system says, unless there is none: nothing is known of a cut then, and none is to be told.
    pub fn cut(&self, disk: Uuid) -> io::Result<Option<u64>> {
        match own_file::read(&self.cut_path(disk)) {
            Ok(text) => Ok(Some(text.trim().parse().unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What keeps what is known of a cut from being read or forgotten.
    pub fn obstacle_to_cut(&self, disk: Uuid, error: &io::Error) -> Obstacle {
        own_file::obstacle(&self.folder, &self.cut_path(disk), error)
    }

    /// What keeps what a disk looks like from being kept.
    pub fn obstacle(&self, disk: Uuid, error: &io::Error) -> Obstacle {
        own_file::obstacle(&self.folder, &self.path(disk), error)
    }

    /// Keeps that the file of a disk has been seen as short as that, stable when this returns, unless it was seen shorter.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_cut(&self, disk: Uuid, bytes: u64) -> io::Result<()> {
        if matches!(self.cut(disk), Ok(Some(least)) if least <= bytes) {
            return Ok(());
        }
        let path = self.cut_path(disk);
        let beside = path.with_extension("cut-new");
        own_file::replace(&self.folder, &path, &beside, &bytes.to_string())
    }

    /// The disk has left, or an operator has said that its file is to be used as it is.
    ///
    /// # Errors
    /// What the file system says, unless there is nothing to forget.
    pub fn forget_cut(&self, disk: Uuid) -> io::Result<()> {
        match fs::remove_file(self.cut_path(disk)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, disk: Uuid) -> PathBuf {
        self.folder.join(format!("{disk}.seen"))
    }

    fn cut_path(&self, disk: Uuid) -> PathBuf {
        self.folder.join(format!("{disk}.cut"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept_until_forgotten_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let seen = LastSeen::below(folder.path());
        let print: Fingerprint = "1:4096:ext 0102:7f".parse().unwrap();
        assert_eq!(seen.recall(Uuid(1)), None);
        for hold in [Hold::InUse, Hold::LetGo] {
            seen.keep(Uuid(1), &print, hold).unwrap();
            assert_eq!(seen.recall(Uuid(1)), Some((print.clone(), hold)));
        }
        assert_eq!(seen.recall(Uuid(2)), None);
        fs::write(seen.path(Uuid(1)), "let-go 1:40").unwrap();
        assert_eq!(seen.recall(Uuid(1)), None);
        seen.forget(Uuid(1));
        assert!(!seen.path(Uuid(1)).exists());
    }

    #[test]
    fn the_least_size_of_a_file_is_kept_until_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let seen = LastSeen::below(folder.path());
        assert_eq!(seen.cut(Uuid(1)).unwrap(), None);
        for (bytes, least) in [(512, 512), (1024, 512), (0, 0), (512, 0)] {
            seen.keep_cut(Uuid(1), bytes).unwrap();
            assert_eq!(seen.cut(Uuid(1)).unwrap(), Some(least));
        }
        // What the disk looks like is another thing.
        seen.forget(Uuid(1));
        assert_eq!([1, 2].map(|disk| seen.cut(Uuid(disk)).unwrap()), [Some(0), None]);
        for damaged in [&b"no number"[..], b"", b"\0\0", b"\xff\xfe"] {
            fs::write(seen.cut_path(Uuid(1)), damaged).unwrap();
            assert_eq!(
                seen.cut(Uuid(1)).unwrap(),
                Some(0),
                "that it was cut is known all the same"
            );
        }
        for _ in 0..2 {
            seen.forget_cut(Uuid(1)).unwrap();
            assert_eq!(seen.cut(Uuid(1)).unwrap(), None);
        }
    }
}
