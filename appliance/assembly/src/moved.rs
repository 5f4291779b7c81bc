//! What is said of a disk that is not under its path: the same while it is open, where its path leads elsewhere by now, and
//! after a restart, when it cannot be opened. All that is needed for it is in what was agreed on, and in the folder itself.

use crate::exchanged;
use palisade_model::{Cluster, Disk, Medium};
use palisade_words::Name;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Entries of a folder that are looked at: one that holds disks has a few, and a look must not last for ever.
const ENTRIES_MAX: usize = 4096;

/// What to do about a disk that is not under its path; names where it is, if its file was only renamed.
pub fn remedy(cluster: &Cluster, name: &Name, disk: &Disk) -> String {
    let Some(path) = renamed(disk).map(|path| path.display().to_string()) else {
        return format!(
            "put it back in its place, or say where it is now: palisade disk confirm {name} --path PATH"
        );
    };
    let command = match over_another(cluster, name, disk).and_then(|other| cluster.disks.get_key_value(other))
    {
        None => format!("palisade disk confirm {name} --path {path}"),
        // No two have one path: the other is recorded elsewhere in the same step.
        Some((other, found)) => {
            let its = renamed(found).map(|path| path.display().to_string());
            let its = its.as_deref().map(|path| (other, Some(path)));
            let places: Vec<_> = std::iter::once((name, Some(path.as_str()))).chain(its).collect();
            exchanged::placed_at(&places)
        }
    };
    format!("its file is {path} now: rename it back, or record that: {command}")
}

/// The disk in whose place the file of another one lies by now.
pub fn over_another<'a>(cluster: &'a Cluster, name: &Name, disk: &Disk) -> Option<&'a Name> {
    let path = renamed(disk)?.display().to_string();
    let (other, _) = exchanged::recorded_at(cluster, disk.custodian(), &path)?;
    (other != name).then_some(other)
}

/// The file of a disk under another name in the folder that it was in: by its inode, which whoever confirms it has compared
/// in full.
pub fn renamed(disk: &Disk) -> Option<PathBuf> {
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
