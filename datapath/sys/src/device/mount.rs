//! The mount that an open file lies in, as the kernel tells it (proc_pid_mountinfo(5)).

use super::underlay::number_in;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What is told of a mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mount {
    /// Number of the file system's device, as locks name it. It is not `st_dev` where each subvolume has a number of its own
    /// (btrfs).
    pub(super) device: (u32, u32),
    kind: String,
    source: String,
}

impl Mount {
    pub(super) fn of(file: &File) -> Option<Mount> {
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
        let id = about.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        mounts.lines().find_map(|line| told(line, id.trim()))
    }

    /// That of what lies at a path, which is not opened for it.
    pub(super) fn at(path: &Path) -> Option<Mount> {
        let place = File::options().read(true).custom_flags(libc::O_PATH).open(path);
        place.ok().and_then(|place| Mount::of(&place))
    }

    /// The number of its device in one.
    pub(super) fn number(&self) -> u64 {
        let (major, minor) = self.device;
        libc::makedev(major, minor)
    }

    /// Numbers of the block devices that the file system lies on, as far as they are told.
    pub(super) fn devices(&self) -> Vec<u64> {
        let source = fs::metadata(&self.source).ok();
        let Some(source) = source.filter(|source| source.file_type().is_block_device()) else {
            return Vec::new();
        };
        if self.kind == "btrfs"
            && let Some(all) = members_of_btrfs(source.rdev())
        {
            return all;
        }
        vec![source.rdev()]
    }
}

/// All devices of the btrfs that one of them belongs to.
fn members_of_btrfs(one: u64) -> Option<Vec<u64>> {
    let systems = fs::read_dir("/sys/fs/btrfs").ok()?.flatten();
    let members = systems.map(|system| {
        let devices = fs::read_dir(system.path().join("devices"))
            .into_iter()
            .flatten()
            .flatten();
        devices.filter_map(|device| number_in(&device.path())).collect()
    });
    members
        .into_iter()
        .find(|members: &Vec<u64>| members.contains(&one))
}

/// `id parent major:minor root point options ... - kind source options`, if it is of this id.
fn told(line: &str, id: &str) -> Option<Mount> {
    let (start, end) = line.split_once(" - ")?;
    let mut words = start.split(' ');
    let number = (words.next() == Some(id)).then(|| words.nth(1))??;
    let (major, minor) = number.split_once(':')?;
    let mut words = end.split(' ');
    Some(Mount {
        device: (major.parse().ok()?, minor.parse().ok()?),
        kind: words.next()?.into(),
        source: words.next()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_that_of_its_mount() {
        let line = "29 1 0:34 /sub /mnt/a\\040b rw,noatime shared:1 - btrfs /dev/vdb rw,subvol=/sub";
        let expected = Mount {
            device: (0, 34),
            kind: "btrfs".into(),
            source: "/dev/vdb".into(),
        };
        assert_eq!(told(line, "29"), Some(expected));
        for other in ["2", "1", "0:34", ""] {
            assert_eq!(told(line, other), None, "{other}");
        }
        assert_eq!(told("29 1 0:34 /", "29"), None);
    }
}
