//! Where a disk may lie, and the database. A place that the machine or the service manager empties, or that is this daemon's
//! own, is refused for a disk unless it is asked for; of the database it is told.

use crate::config::AllowSettings;
use crate::shared::Shared;
use palisade_api as api;
use palisade_api::{Problem, ProblemKind};
use palisade_sys::filesystem::FileSystem;
use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Kernel names of block devices that are made of memory: ram0, zram1, nullb0.
const MEMORY_DEVICES: [&str; 3] = ["ram", "zram", "nullb"];

/// Refuses a medium in a place that is none for data.
pub fn refuse_hidden(shared: &Shared, request: &api::DiskCreate) -> Result<(), Problem> {
    let Some(path) = request.medium.path() else {
        return Ok(());
    };
    refuse_own(shared, path)?;
    match &request.medium {
        api::Medium::File(file) if file.bytes.is_some() => refuse_among_devices(path)?,
        // What is no device is told so when it is opened.
        api::Medium::Block(_) if !is_block(path) => return Ok(()),
        _ => {}
    }
    match request.volatile || shared.settings.allow.takes_any_place() {
        true => Ok(()),
        false => refuse_volatile(&shared.settings.allow, path),
    }
}

/// Refuses to make a file where devices have theirs: who names one there has mistyped the name of a device.
fn refuse_among_devices(path: &str) -> Result<(), Problem> {
    let Some(place) = place_of(Path::new(path)).filter(|place| !place.exists()) else {
        return Ok(());
    };
    let mounts = mounts();
    match Mount::of(&mounts, &place) {
        Some(mount) if mount.holds_devices() => {
            let message = format!("there is no {path}, and no file is made among the devices");
            let remedy = "see which devices there are (`lsblk --paths`) and name one as `block` (--block), or choose a folder that \
                          is for disk files";
            Err(Problem::new(ProblemKind::Invalid, "disk_place", message, remedy).about("file.path"))
        }
        _ => Ok(()),
    }
}

/// Refuses a path into a folder that is the daemon's own.
pub fn refuse_own(shared: &Shared, path: &str) -> Result<(), Problem> {
    let file = backing_file(path).unwrap_or_else(|| path.into());
    place_of(&file).map_or(Ok(()), |place| {
        refuse_own_folders(shared, &place, &file.display().to_string())
    })
}

/// Refuses a device that is made of memory, and a file in a place that the machine or the service manager empties: what lies
/// there is gone some day without a word.
pub fn refuse_volatile(allow: &AllowSettings, path: &str) -> Result<(), Problem> {
    if let Some(message) = of_memory(path) {
        return Err(refused(allow, message, path));
    }
    let file = match backing_file(path) {
        Some(file) => file,
        None if is_block(path) => return Ok(()),
        None => path.into(),
    };
    let Some(place) = place_of(&file) else {
        return Ok(());
    };
    match place.parent().and_then(|folder| why_volatile(&place, folder)) {
        Some(why) => {
            let shown = file.display().to_string();
            Err(refused(allow, format!("{shown} lies {why}"), &shown))
        }
        None => Ok(()),
    }
}

/// Why the database does not last where it lies, in a sentence, if it does not.
pub fn of_state(state_dir: &Path) -> Option<String> {
    let place = state_dir.canonicalize().ok()?;
    let why = why_volatile(&place, &place)?;
    Some(format!("the state directory {} lies {why}", state_dir.display()))
}

/// Why what lies in a folder that is there does not last, to follow "it lies".
fn why_volatile(place: &Path, folder: &Path) -> Option<String> {
    let mounts = mounts();
    let in_memory = is_in_memory(folder).unwrap_or(false);
    Mount::of(&mounts, place)?.why_volatile(in_memory, is_in_memory)
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

/// Where a path ends. A file that is to be made has no place yet; its folder has.
fn place_of(file: &Path) -> Option<PathBuf> {
    let whole = file.canonicalize().ok();
    whole.or_else(|| Some(file.parent()?.canonicalize().ok()?.join(file.file_name()?)))
}

fn refuse_own_folders(shared: &Shared, place: &Path, shown: &str) -> Result<(), Problem> {
    for (folder, whose) in [
        (&shared.settings.state_dir, "state directory"),
        (&shared.settings.run_dir, "directory of sockets"),
    ] {
        if folder
            .canonicalize()
            .is_ok_and(|folder| place.starts_with(folder))
        {
            let message = format!("{shown} lies in the daemon's {whose} {}", folder.display());
            let remedy =
                "choose a folder that is for disks only: this one may be moved away or emptied as a whole";
            return Err(Problem::new(ProblemKind::Invalid, "disk_place", message, remedy).about("path"));
        }
    }
    Ok(())
}

/// Whether what lies in a folder is kept in memory; `None` when the folder cannot be seen from here.
fn is_in_memory(folder: &Path) -> Option<bool> {
    let folder = File::open(folder).ok()?;
    Some(FileSystem::of(folder).ok()?.is_volatile())
}

fn refused(allow: &AllowSettings, message: String, path: &str) -> Problem {
    let others = allow.folders_beside(Path::new(path));
    let where_to = match others.is_empty() {
        true => {
            "choose a folder on a lasting file system, which allow.files in the daemon's configuration has to name"
                .to_owned()
        }
        false => format!("choose a folder on a lasting file system, below {}", others.join(" or ")),
    };
    let remedy = format!("{where_to}; or take it with `volatile` (--volatile) if {path} need not last");
    Problem::new(ProblemKind::Invalid, "disk_volatile_place", message, remedy).about("path")
}

fn is_block(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|about| about.file_type().is_block_device())
}

/// What the kernel calls a block device. A file of such a name is none.
fn kernel_name(path: &str) -> Option<String> {
    if !is_block(path) {
        return None;
    }
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
        Some(Mount {
            root,
            at: of_octal(at),
            kind,
            options,
        })
    }

    /// Whether it is where devices have their files: the kernel's own, or what stands for that in a container.
    fn holds_devices(&self) -> bool {
        self.kind == "devtmpfs" || self.at == Path::new("/dev")
    }

    /// Why what lies there does not last, to follow "it lies". `upper_in_memory` is asked about the folder in which an
    /// overlay keeps what is written to it.
    fn why_volatile(
        &self,
        in_memory: bool,
        upper_in_memory: impl Fn(&Path) -> Option<bool>,
    ) -> Option<String> {
        let at = self.at.display();
        // PrivateTmp= of systemd.exec(5) mounts a folder of its own there, removed with the unit.
        if self.root.contains("/systemd-private-") {
            return Some(format!(
                "in the unit's private {at}, which is emptied when the daemon stops"
            ));
        }
        if in_memory {
            return Some(format!(
                "in {at}, which is memory and is emptied when the machine stops"
            ));
        }
        if self.kind != "overlay" {
            return None;
        }
        // Linux 5.10: nothing is ever made stable there. Later ones tell the option in other words than it is given in.
        let keeps_none = |option: &str| matches!(option, "volatile" | "fsync=volatile");
        if self.options.split(',').any(keeps_none) {
            return Some(format!(
                "on the volatile overlay {at}, which keeps no promise about a flush"
            ));
        }
        let upper = self
            .options
            .split(',')
            .find_map(|option| option.strip_prefix("upperdir="))?;
        match upper_in_memory(&of_octal(upper)) {
            Some(false) => None,
            Some(true) => Some(format!(
                "on the overlay {at}, which keeps what is written in memory ({upper})"
            )),
            None => Some(format!(
                "on the overlay {at}, whose upper folder {upper} cannot be seen from here, as in a container with which it \
                 goes"
            )),
        }
    }
}

/// A path as mountinfo writes it: blanks and the like are told in octal there.
fn of_octal(text: &str) -> PathBuf {
    let plain = text.replace("\\040", " ").replace("\\011", "\t");
    plain.replace("\\134", "\\").into()
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
                          34 22 0:41 / /var/lib/jar rw - overlay overlay rw,upperdir=/u\n\
                          35 22 0:42 / /var/lib/live rw - overlay overlay rw,lowerdir=/l,upperdir=/m\\040m,workdir=/w\n\
                          36 22 0:43 / /var/lib/inner rw - overlay overlay rw,upperdir=/nowhere\n\
                          38 22 0:45 / /var/lib/crate rw - overlay overlay rw,upperdir=/u,uuid=on,fsync=volatile\n\
                          37 22 0:44 / /var/lib/below rw - overlay overlay ro,lowerdir=/l\n";

    fn why(place: &str, in_memory: bool) -> Option<String> {
        let upper = |folder: &Path| match folder.to_str().unwrap() {
            "/u" => Some(false),
            "/m m" => Some(true),
            _ => None,
        };
        Mount::of(MOUNTS, Path::new(place))
            .unwrap()
            .why_volatile(in_memory, upper)
    }

    #[test]
    fn places_that_are_emptied_are_known() {
        for (place, in_memory, words) in [
            ("/tmp/d1", false, "the unit's private /tmp"),
            ("/dev/shm/d1", true, "in /dev/shm, which is memory"),
            ("/dev/d1", true, "in /dev, which is memory"),
            // Wherever somebody has mounted it.
            ("/mnt/my ram/d1", true, "in /mnt/my ram, which is memory"),
            ("/var/lib/box/d1", false, "on the volatile overlay"),
            ("/var/lib/crate/d1", false, "on the volatile overlay"),
            ("/var/lib/live/d1", false, "keeps what is written in memory"),
            ("/var/lib/inner/d1", false, "cannot be seen from here"),
        ] {
            let told = why(place, in_memory).unwrap_or_default();
            assert!(told.contains(words), "{place}: {told}");
        }
    }

    #[test]
    fn places_that_last_are_taken() {
        assert_eq!(why("/srv/d1", false), None);
        assert_eq!(why("/var/lib/jar/d1", false), None);
        assert_eq!(
            why("/var/lib/below/d1", false),
            None,
            "an overlay that is only read"
        );
        assert_eq!(why("/tmpfoo", false), None);
    }

    #[test]
    fn no_file_is_made_among_devices() {
        let holds = |place| Mount::of(MOUNTS, Path::new(place)).unwrap().holds_devices();
        assert!(holds("/dev/sdx") && holds("/dev/mapper/x"));
        assert!(!holds("/dev/shm/d1") && !holds("/srv/d1") && !holds("/development"));
        let said = refuse_among_devices("/dev/no-such-disk").unwrap_err();
        assert!(
            said.message.contains("there is no /dev/no-such-disk") && said.remedy.contains("--block"),
            "{said:?}"
        );
        // What is there is told as what it is, and a folder elsewhere takes files.
        refuse_among_devices("/dev/null").unwrap();
        let folder = tempfile::tempdir().unwrap();
        refuse_among_devices(folder.path().join("d1").to_str().unwrap()).unwrap();
    }

    #[test]
    fn a_database_in_memory_is_told_with_the_reason() {
        // Every Linux machine has one, and /proc is none that files are kept in.
        let said = of_state(Path::new("/dev/shm")).unwrap();
        assert!(
            said.starts_with("the state directory /dev/shm lies in /dev/shm, which is memory"),
            "{said}"
        );
        assert_eq!(of_state(Path::new("/proc")), None);
        assert_eq!(of_state(Path::new("/no/such/folder")), None);
    }

    #[test]
    fn advice_names_folders_that_are_allowed() {
        let mut allow = AllowSettings {
            files: vec!["/mnt/ram".into(), "/srv/disks".into()],
            devices: Vec::new(),
            sockets: Vec::new(),
            owners: Vec::new(),
            anything: false,
        };
        let remedy = |allow: &AllowSettings| refused(allow, "m".to_owned(), "/mnt/ram/d1").remedy;
        let said = remedy(&allow);
        assert!(
            said.contains("below /srv/disks;") && !said.contains("/mnt/ram or"),
            "{said}"
        );
        allow.files.pop();
        let said = remedy(&allow);
        assert!(said.contains("allow.files") && !said.contains("below"), "{said}");
    }

    #[test]
    fn devices_of_memory_are_known_by_name() {
        assert_eq!(of_memory("/dev/null"), None);
        assert_eq!(of_memory("/nowhere"), None);
    }
}
