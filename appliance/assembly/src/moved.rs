//! What is said of a disk that is not under its path: the same while it is open, where its path leads elsewhere by now, and
//! after a restart, when it cannot be opened. All that is needed for it is in what was agreed on, and in the folder itself.

use palisade_model::{Disk, Medium};
use palisade_words::Name;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Entries of a folder that are looked at: one that holds disks has a few, and a look must not last for ever.
const ENTRIES_MAX: usize = 4096;

/// What to do about a disk that is not under its path; names where it is, if its file was only renamed.
pub fn remedy(name: &Name, disk: &Disk) -> String {
    match renamed(disk) {
        Some(path) => {
            let path = path.display();
            format!(
                "its file is {path} now: rename it back, or record that: palisade disk confirm {name} --path {path}"
            )
        }
        None => format!(
            "put it back in its place, or say where it is now: palisade disk confirm {name} --path PATH"
        ),
    }
}

/// The file of a disk under another name in the folder that it was in: by its inode, which whoever confirms it has compared
/// in full.
fn renamed(disk: &Disk) -> Option<PathBuf> {
    let (Medium::File { path, .. }, Some(recorded)) = (&disk.medium, disk.record.file) else {
        return None;
    };
    let path = Path::new(path);
    let is_it = |entry: &fs::DirEntry| {
        let about = entry.metadata();
        about.is_ok_and(|about| about.is_file() && about.ino() == recorded.inode)
    };
    let entries = fs::read_dir(path.parent()?).ok()?.take(ENTRIES_MAX).flatten();
    let mut found = entries
        .filter(is_it)
        .map(|entry| entry.path())
        .filter(|other| other != path);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}
