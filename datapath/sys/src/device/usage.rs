//! Whether something on this machine uses a block device.

use std::fmt;
use std::fs;
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
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Mounted { device, at } => write!(f, "{device} is mounted on {}", at.display()),
            Use::Swap { device } => write!(f, "{device} is swap space"),
            Use::Held { device, by } => write!(f, "{device} is a part of {by}"),
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
