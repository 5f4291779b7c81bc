//! What a path leads to, and everything that lies under it: the file under a loop device, the disk under a partition, the
//! members under a device that the kernel puts together, the device under a file system. Whoever takes one of them takes
//! what is made of it, whatever it is called; the kernel's exclusive opening knows of partitions and holders, and nothing
//! of loop devices, which open neither their file nor their device exclusively.

use super::loops;
use super::mount::Mount;
use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Layers that are looked through. Deeper ones are somebody's joke.
const LAYERS_MAX: usize = 64;

/// A file or a block device of this machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StorageId {
    /// A block device, by its number.
    Block(u64),
    /// A file, by the number of its file system's device and its inode.
    File {
        /// Number of the device.
        device: u64,
        /// Number of the inode.
        inode: u64,
    },
}

/// How one thing stands to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Position {
    /// They are the same, by whatever names.
    Same,
    /// The other is made of it, or lies on it: a disk under its partition, a device under a file of its file system.
    Beneath,
    /// It is made of the other, or lies on it.
    Above,
}

/// What a path leads to, with what lies under it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Underlay {
    /// The thing itself, under all its names: a loop device is its file.
    same: BTreeSet<StorageId>,
    /// It, and everything under it.
    all: BTreeSet<StorageId>,
}

impl Underlay {
    /// Of whatever a path leads to. What cannot be asked has nothing under it.
    ///
    /// # Errors
    /// There is nothing.
    pub fn of(path: &Path) -> io::Result<Underlay> {
        let (mut same, mut all) = (BTreeSet::new(), BTreeSet::new());
        let first = storage_id(&fs::metadata(path)?);
        let mut open = vec![(first, true)];
        // A subvolume has a number that no block device has: what its file system lies on is asked of the mount.
        if matches!(first, StorageId::File { .. }) {
            let devices = Mount::at(path).map(|mount| mount.devices()).unwrap_or_default();
            open.extend(
                devices
                    .into_iter()
                    .map(|number| (StorageId::Block(number), false)),
            );
        }
        while let Some((id, is_same)) = open.pop() {
            if all.len() >= LAYERS_MAX || !all.insert(id) {
                continue;
            }
            if is_same {
                same.insert(id);
            }
            let below = under(id).into_iter();
            open.extend(below.map(|(id, is_all_of_it)| (id, is_same && is_all_of_it)));
        }
        Ok(Underlay { same, all })
    }

    /// Whether one of the two lies under the other, or they are the same. Two partitions of one disk do not meet.
    pub fn meets(&self, other: &Underlay) -> bool {
        self.against(other).is_some()
    }

    /// How this stands to another; `None` when they have nothing to do with each other.
    pub fn against(&self, other: &Underlay) -> Option<Position> {
        if !self.same.is_disjoint(&other.same) {
            return Some(Position::Same);
        }
        match (
            self.all.is_disjoint(&other.same),
            other.all.is_disjoint(&self.same),
        ) {
            (false, _) => Some(Position::Above),
            (true, false) => Some(Position::Beneath),
            (true, true) => None,
        }
    }
}

pub(super) fn storage_id(meta: &Metadata) -> StorageId {
    match meta.file_type().is_block_device() {
        true => StorageId::Block(meta.rdev()),
        false => StorageId::File {
            device: meta.dev(),
            inode: meta.ino(),
        },
    }
}

/// What lies right under a thing, and whether the thing is all of that and nothing else.
fn under(id: StorageId) -> Vec<(StorageId, bool)> {
    match id {
        // A file system without a device of its own has a number that no block device has.
        StorageId::File { device, .. } => vec![(StorageId::Block(device), false)],
        StorageId::Block(device) => {
            let number = format!("{}:{}", libc::major(device), libc::minor(device));
            let Ok(directory) = fs::canonicalize(Path::new("/sys/dev/block").join(number)) else {
                return Vec::new();
            };
            let mut found = Vec::new();
            if directory.join("partition").exists() {
                found.extend(directory.parent().and_then(number_in));
            }
            let slaves = fs::read_dir(directory.join("slaves"))
                .into_iter()
                .flatten()
                .flatten();
            found.extend(slaves.filter_map(|slave| number_in(&slave.path())));
            let mut found: Vec<_> = found
                .into_iter()
                .map(|number| (StorageId::Block(number), false))
                .collect();
            if directory.join("loop").exists() {
                found.extend(backing(&directory));
            }
            found
        }
    }
}

/// The number of a block device in its directory of sysfs.
pub(super) fn number_in(directory: &Path) -> Option<u64> {
    let text = fs::read_to_string(directory.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some(libc::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// What a loop device is made of: as the driver has it open, else as it was called when that was opened.
fn backing(directory: &Path) -> Option<(StorageId, bool)> {
    let told = loops::backing_at(&Path::new("/dev").join(directory.file_name()?));
    let told = told.map(|backing| (backing.storage, backing.is_whole()));
    told.or_else(|| {
        let path = loops::shown(directory)?;
        fs::metadata(path).ok().map(|meta| (storage_id(&meta), true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::process::Command;

    struct Loop(PathBuf);

    impl Loop {
        fn over(path: &Path) -> Option<Loop> {
            let made = Command::new("losetup")
                .args(["-f", "--show"])
                .arg(path)
                .output()
                .ok()?;
            let name = String::from_utf8(made.stdout).ok()?.trim().to_owned();
            (made.status.success() && !name.is_empty()).then(|| Loop(name.into()))
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
        }
    }

    fn of(path: &Path) -> Underlay {
        Underlay::of(path).unwrap()
    }

    #[test]
    fn a_file_lies_above_the_device_of_its_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("d1");
        fs::write(&file, b"x").unwrap();
        let devices = Mount::at(&file).map(|mount| mount.devices()).unwrap_or_default();
        let Some(number) = devices.first() else {
            eprintln!("skipped: the temporary folder lies on no block device");
            return;
        };
        let device = format!("/dev/block/{}:{}", libc::major(*number), libc::minor(*number));
        let Ok(device) = Underlay::of(Path::new(&device)) else {
            eprintln!("skipped: {device} is not there");
            return;
        };
        assert_eq!(device.against(&of(&file)), Some(Position::Beneath));
        assert_eq!(of(&file).against(&device), Some(Position::Above));
    }

    #[test]
    fn one_file_by_all_its_names_is_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("d1"), b"x").unwrap();
        fs::write(at("d2"), b"x").unwrap();
        symlink(at("d1"), at("link")).unwrap();
        fs::hard_link(at("d1"), at("hard")).unwrap();
        let open = File::open(at("d1")).unwrap();
        let by_number = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        for other in [at("link"), at("hard"), by_number] {
            assert!(of(&at("d1")).meets(&of(&other)), "{}", other.display());
        }
        assert!(!of(&at("d1")).meets(&of(&at("d2"))));
        assert!(Underlay::of(&at("nowhere")).is_err());
    }

    #[test]
    fn a_loop_device_is_what_it_is_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("d1");
        File::create(&file).unwrap().set_len(16 << 20).unwrap();
        let Some(first) = Loop::over(&file) else {
            eprintln!("skipped: no loop device can be made here");
            return;
        };
        assert!(of(&file).meets(&of(&first.0)));
        // A second one over the file, and one over the first.
        assert_eq!(of(&file).against(&of(&first.0)), Some(Position::Same));
        let (second, third) = (Loop::over(&file).unwrap(), Loop::over(&first.0).unwrap());
        assert!(of(&third.0).meets(&of(&file)) && of(&third.0).meets(&of(&first.0)));
        assert!(of(&second.0).meets(&of(&first.0)) && of(&second.0).meets(&of(&third.0)));
        // Whatever the file is called by now.
        fs::rename(&file, folder.path().join("d9")).unwrap();
        assert!(of(&first.0).meets(&of(&folder.path().join("d9"))));
    }
}
