//! What disks without an identity looked like when this node last looked: kept beside the cluster database, because it is
//! this node's own observation and changes all the time.

use crate::own_file;
use palisade_model::Uuid;
use palisade_sys::device::fingerprint::{Fingerprint, Hold};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder in which it is kept, a file for each disk.
#[derive(Clone, Debug)]
pub struct LastSeen {
    folder: PathBuf,
}

impl LastSeen {
    /// Below the state directory.
    pub fn below(state_dir: &Path) -> LastSeen {
        LastSeen {
            folder: state_dir.join("media"),
        }
    }

    /// Where it is kept.
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

    fn path(&self, disk: Uuid) -> PathBuf {
        self.folder.join(format!("{disk}.seen"))
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
}
