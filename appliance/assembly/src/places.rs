//! Where a disk may lie. A place that the machine or the service manager empties, or that is this daemon's own, is refused
//! unless it is asked for.

use crate::shared::Shared;
use palisade_api as api;
use palisade_api::{Problem, ProblemKind};
use palisade_sys::filesystem::FileSystem;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where every machine has a file system in memory for what is not meant to last.
const VOLATILE_MOUNTS: [&str; 6] = ["/tmp", "/var/tmp", "/dev", "/dev/shm", "/run", "/run/lock"];

/// Kernel names of block devices that are made of memory: ram0, zram1, nullb0.
const MEMORY_DEVICES: [&str; 3] = ["ram", "zram", "nullb"];

/// Refuses a medium in a place that is none for data.
pub fn refuse_hidden(shared: &Shared, wish: &api::DiskCreate) -> Result<(), Problem> {
    let (file, volatile) = match &wish.medium {
        api::Medium::File(file) => (PathBuf::from(&file.path), wish.volatile),
        api::Medium::Block(block) => {
            if let Some(message) = of_memory(&block.path).filter(|_| !wish.volatile) {
                return Err(refused(message, &block.path));
            }
            match backing_file(&block.path) {
                Some(file) => (file, wish.volatile),
                None => return Ok(()),
            }
        }
        api::Medium::Memory(_) | api::Medium::Null(_) => return Ok(()),
    };
    let shown = file.display().to_string();
    // A file that is to be made has no place yet; its folder has.
    let Some(place) = file
        .canonicalize()
        .ok()
        .or_else(|| Some(file.parent()?.canonicalize().ok()?.join(file.file_name()?)))
    else {
        return Ok(());
    };
    for (folder, whose) in [
        (&shared.settings.state_dir, "state directory"),
        (&shared.settings.run_dir, "directory of sockets"),
    ] {
        if folder
            .canonicalize()
            .is_ok_and(|folder| place.starts_with(folder))
        {
            let message = format!("{shown} lies in the daemon's {whose} {}", folder.display());
            let remedy = "choose a folder that is for disks only, such as /var/lib/palisade-disks: this one may be moved away \
                          or emptied as a whole";
            return Err(Problem::new(ProblemKind::Invalid, "disk_place", message, remedy).about("path"));
        }
    }
    if volatile {
        return Ok(());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(mount) = Mount::of(&mounts, &place) else {
        return Ok(());
    };
    let in_memory = place
        .parent()
        .and_then(|folder| File::open(folder).ok())
        .and_then(|folder| FileSystem::of(folder).ok())
        .is_some_and(|filesystem| filesystem.is_volatile());
    match mount.why_volatile(in_memory) {
        Some(why) => Err(refused(format!("{shown} lies {why}"), &shown)),
        None => Ok(()),
    }
}

fn refused(message: String, path: &str) -> Problem {
    let remedy = format!(
        "choose a folder on a lasting file system, such as /var/lib/palisade-disks; or add it with `volatile` if {path} \
         need not last"
    );
    Problem::new(ProblemKind::Invalid, "disk_volatile_place", message, remedy).about("path")
}

fn kernel_name(path: &str) -> Option<String> {
    let name = fs::canonicalize(path).ok()?;
    Some(name.file_name()?.to_string_lossy().into_owned())
}

/// What a block device is made of, if that is memory.
fn of_memory(path: &str) -> Option<String> {
    let name = kernel_name(path)?;
    let digits = |kind: &&str| {
        name.strip_prefix(*kind)
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    MEMORY_DEVICES
        .iter()
        .any(digits)
        .then(|| format!("{path} is made of memory"))
}

/// The file under a loop device.
fn backing_file(path: &str) -> Option<PathBuf> {
    let name = kernel_name(path)?;
    let file = fs::read_to_string(format!("/sys/class/block/{name}/loop/backing_file")).ok()?;
    Some(file.trim().into())
}

/// A line of mountinfo (proc(5)).
#[derive(Debug, PartialEq)]
struct Mount<'a> {
    /// What part of its file system is mounted.
    root: &'a str,
    /// Where.
    at: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// The one that a place lies on: the longest, of equals the last, which covers those before.
    fn of(mounts: &'a str, place: &Path) -> Option<Mount<'a>> {
        let all = mounts.lines().filter_map(Mount::parse);
        let over = all.filter(|mount| place.starts_with(&mount.at));
        over.max_by_key(|mount| mount.at.as_os_str().len())
    }

    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, at) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let kind = right.next()?;
        let options = right.nth(1).unwrap_or_default();
        // Blanks and the like are told in octal there.
        let at = at
            .replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\134", "\\");
        Some(Mount {
            root,
            at: at.into(),
            kind,
            options,
        })
    }

    /// Why what lies there does not last, to follow "it lies".
    fn why_volatile(&self, in_memory: bool) -> Option<String> {
        let at = self.at.display();
        // PrivateTmp= of systemd.exec(5) mounts a folder of its own there, removed with the unit.
        if self.root.contains("/systemd-private-") {
            return Some(format!(
                "in the unit's private {at}, which is emptied when the daemon stops"
            ));
        }
        let system = VOLATILE_MOUNTS.iter().any(|mount| self.at == Path::new(mount))
            || self.at.starts_with("/run/user");
        if in_memory && system {
            return Some(format!(
                "in {at}, which is memory and is emptied when the machine stops"
            ));
        }
        // Linux 5.10: nothing is ever made stable there.
        if self.kind == "overlay" && self.options.split(',').any(|option| option == "volatile") {
            return Some(format!(
                "on the volatile overlay {at}, which keeps no promise about a flush"
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                          23 22 0:5 / /dev rw - devtmpfs devtmpfs rw\n\
                          30 23 0:25 / /dev/shm rw shared:3 - tmpfs tmpfs rw\n\
                          31 22 254:0 /tmp/systemd-private-4f-palisaded.service-x/tmp /tmp rw - ext4 /dev/vda rw\n\
                          32 22 0:31 / /mnt/my\\040ram rw - tmpfs t rw,size=1g\n\
                          33 22 0:40 / /var/lib/box rw - overlay overlay rw,upperdir=/u,volatile\n\
                          34 22 0:41 / /var/lib/jar rw - overlay overlay rw,upperdir=/u\n";

    fn why(place: &str, in_memory: bool) -> Option<String> {
        Mount::of(MOUNTS, Path::new(place))
            .unwrap()
            .why_volatile(in_memory)
    }

    #[test]
    fn places_that_are_emptied_are_known() {
        assert!(why("/tmp/d1", false).unwrap().contains("the unit's private /tmp"));
        assert!(why("/dev/shm/d1", true).unwrap().starts_with("in /dev/shm"));
        assert!(why("/dev/d1", true).unwrap().starts_with("in /dev,"));
        assert!(
            why("/var/lib/box/d1", false)
                .unwrap()
                .contains("volatile overlay")
        );
    }

    #[test]
    fn places_that_last_or_were_made_for_it_are_taken() {
        assert_eq!(why("/srv/d1", false), None);
        assert_eq!(why("/var/lib/jar/d1", false), None);
        // Somebody has mounted it there; what it is is said, and it is not refused.
        assert_eq!(why("/mnt/my ram/d1", true), None);
        assert_eq!(why("/tmpfoo", false), None);
    }

    #[test]
    fn devices_of_memory_are_known_by_name() {
        assert_eq!(of_memory("/dev/null"), None);
        assert_eq!(of_memory("/nowhere"), None);
    }
}
