//! Whether something on this machine uses a block device, or a file.

use super::underlay::{StorageId, storage_id};
use super::{Program, beneath, lock, loops, qemu};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One use of a block device or of a partition of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Use {
    /// A file system on it is mounted.
    Mounted {
        /// Kernel name of the device or partition.
        device: String,
        /// Where.
        at: PathBuf,
    },
    /// It is swapped to.
    Swap {
        /// Kernel name of the device or partition.
        device: String,
    },
    /// Another block device is built on it (device mapper, md, bcache).
    Held {
        /// Kernel name of the device or partition.
        device: String,
        /// Kernel name of what is built on it.
        by: String,
    },
    /// A loop device stands on the file.
    Loop {
        /// Its kernel name.
        device: String,
    },
    /// A program has locked a part of it, as QEMU does with its images.
    Locked {
        /// Which, if that can be found out.
        program: Option<Program>,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Mounted { device, at } => write!(f, "{device} is mounted on {}", at.display()),
            Use::Swap { device } => write!(f, "{device} is swap space"),
            Use::Held { device, by } => write!(f, "{device} is a part of {by}"),
            Use::Loop { device } => write!(f, "{device} stands on it"),
            Use::Locked {
                program: Some(program),
            } => write!(
                f,
                "{program} has locked a part of it, as QEMU and its tools do with an image that they have open"
            ),
            Use::Locked { program: None } => write!(
                f,
                "a program has locked a part of it, as QEMU locks its images (lsof shows which)"
            ),
        }
    }
}

/// All uses of a block device and its partitions that the kernel tells of.
///
/// # Errors
/// The device is not there or sysfs cannot be read.
pub fn uses(path: &Path) -> io::Result<Vec<Use>> {
    let meta = fs::metadata(path)?;
    let number = format!("{}:{}", libc::major(meta.rdev()), libc::minor(meta.rdev()));
    let directory = fs::canonicalize(format!("/sys/dev/block/{number}"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let mut found = Vec::new();
    for part in with_partitions(&directory)? {
        let device = name(&part);
        let number = fs::read_to_string(part.join("dev")).unwrap_or_default();
        let mounted = mounts_of(&mounts, number.trim());
        found.extend(mounted.map(|at| Use::Mounted {
            device: device.clone(),
            at,
        }));
        if is_swap(&swaps, &device) {
            found.push(Use::Swap {
                device: device.clone(),
            });
        }
        let holders = fs::read_dir(part.join("holders")).into_iter().flatten().flatten();
        found.extend(holders.map(|by| Use::Held {
            device: device.clone(),
            by: name(&by.path()),
        }));
    }
    Ok(found)
}

/// What uses an open file or block device beside us, as far as opening and locking it did not tell: a file system in a
/// mounted image, swap space in a file, the virtual machine that runs on it. What uses the file under a loop device uses
/// the device.
///
/// # Errors
/// It cannot be asked about.
pub(super) fn uses_of_open(file: &File) -> io::Result<Vec<Use>> {
    let Some((under, ours)) = beneath::file_under(file) else {
        let mut found = match file.metadata()?.is_file() {
            true => uses_of_file(file, &[])?,
            false => Vec::new(),
        };
        found.extend(locked(file, 0, 0));
        return Ok(found);
    };
    let mut found = uses_of_file(&under, &ours)?;
    found.extend(locked(file, 0, 0));
    // We have it open a second time, and QEMU's bytes of it with that: who had them in our way was seen then.
    let before = locked(&under, 0, qemu::BYTES.start);
    found.extend(before.or_else(|| locked(&under, qemu::BYTES.end, 0)));
    Ok(found)
}

/// What stands on a file, but for some loop devices, and whether it is swap space.
fn uses_of_file(file: &File, ours: &[String]) -> io::Result<Vec<Use>> {
    let about = file.metadata()?;
    let mut found = Vec::new();
    for device in loops_over(&about) {
        if ours.contains(&device) {
            continue;
        }
        let of_device = uses(&Path::new("/dev").join(&device)).unwrap_or_default();
        found.push(Use::Loop { device });
        found.extend(of_device);
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    found.extend(swap_file(&swaps, &about));
    Ok(found)
}

/// Kernel names of the loop devices over a file.
fn loops_over(file: &Metadata) -> Vec<String> {
    let all = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let bound = all.filter(|entry| entry.path().join("loop/backing_file").exists());
    let is_over = |entry: &fs::DirEntry| {
        let told = loops::backing_at(&Path::new("/dev").join(entry.file_name()));
        let told = told.map(|backing| backing.storage);
        told.or_else(|| storage_id_by_path(&entry.path())) == Some(storage_id(file))
    };
    bound.filter(is_over).map(|entry| name(&entry.path())).collect()
}

/// The same by the path that sysfs gives, for a daemon that may not open the device. A file may have been put in the place
/// of the one that is meant.
fn storage_id_by_path(directory: &Path) -> Option<StorageId> {
    Some(storage_id(&fs::metadata(loops::shown(directory)?).ok()?))
}

/// Whether /proc/swaps names the file: its first column is a path.
fn swap_file(swaps: &str, file: &Metadata) -> Option<Use> {
    let mut paths = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    let is_it = |path: &&str| {
        fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
    };
    paths.find(is_it).map(|path| Use::Swap {
        device: path.to_owned(),
    })
}

/// A lock of fcntl(2) on any part of a stretch; no bytes: up to the end. Not those of the open file itself, which are ours.
/// A file system that has no such locks tells of none.
fn locked(file: &File, offset: u64, bytes: u64) -> Option<Use> {
    let lock = lock::other_lock(file, libc::F_WRLCK, offset, bytes).ok()??;
    Some(Use::Locked {
        program: lock::holder_of(lock, file),
    })
}

/// A device's directory in sysfs and those of its partitions.
fn with_partitions(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = vec![directory.to_path_buf()];
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.join("partition").exists() {
            all.push(path);
        }
    }
    Ok(all)
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Mount points of a device number; the third word of a line is the number, the fifth the place (proc(5)).
fn mounts_of<'a>(mountinfo: &'a str, number: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    mountinfo.lines().filter_map(move |line| {
        let mut words = line.split(' ');
        (words.nth(2) == Some(number))
            .then(|| words.nth(1).map(PathBuf::from))
            .flatten()
    })
}

/// Whether /proc/swaps names the device: its first column is a path.
fn is_swap(swaps: &str, device: &str) -> bool {
    let paths = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    paths
        .map(Path::new)
        .any(|path| name(&fs::canonicalize(path).unwrap_or(path.into())) == device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn a_lock_of_somebody_else_is_seen_and_our_own_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let ours = OpenOptions::new()
            .read(true)
            .write(true)
            .open(file.path())
            .unwrap();
        ours.try_lock().unwrap();
        // As a reader of QEMU's does.
        let lock_as_reader = |file: &File| lock::set_range(file, libc::F_RDLCK, 100, 1).unwrap();
        lock::set_range(&ours, libc::F_RDLCK, 100, 4).unwrap();
        assert_eq!(uses_of_open(&ours).unwrap(), []);
        let other = File::open(file.path()).unwrap();
        lock_as_reader(&other);
        let found = uses_of_open(&ours).unwrap();
        let [
            Use::Locked {
                program: Some(program),
            },
        ] = found.as_slice()
        else {
            panic!("{found:?}");
        };
        assert_eq!(program.process, std::process::id());
        drop(other);
        assert_eq!(uses_of_open(&ours).unwrap(), []);
    }

    #[test]
    fn a_swap_file_is_known_by_what_its_path_leads_to() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let swaps = format!("Filename Type Size Used Priority\n/nowhere file 1 0 -2\n{path} file 1 0 -3\n");
        let about = file.as_file().metadata().unwrap();
        let found = swap_file(&swaps, &about);
        assert_eq!(found, Some(Use::Swap { device: path.into() }));
        assert_eq!(swap_file("Filename\n", &about), None);
    }

    const MOUNTS: &str = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                          30 22 0:25 / /dev/shm rw - tmpfs tmpfs rw\n\
                          31 22 254:0 /srv /mnt/srv rw - ext4 /dev/vda rw\n";

    #[test]
    fn finds_every_mount_of_a_number() {
        let at = |number| mounts_of(MOUNTS, number).collect::<Vec<_>>();
        assert_eq!(at("254:0"), [Path::new("/"), Path::new("/mnt/srv")]);
        assert!(at("54:0").is_empty());
    }

    #[test]
    fn finds_swap_by_kernel_name() {
        let swaps = "Filename Type Size Used Priority\n/dev/none3 partition 8 0 -2\n";
        assert!(is_swap(swaps, "none3"));
        assert!(!is_swap(swaps, "none"));
        assert!(!is_swap("Filename Type\n", "Filename"));
    }
}
