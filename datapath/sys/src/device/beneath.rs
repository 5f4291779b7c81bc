//! Locks what lies under an open block device, as whoever opens that by itself would. The kernel's exclusive opening keeps a
//! disk and its partitions apart, and the members of device mapper and md; a loop device opens what it stands on without
//! it, so that its file or device could be another's disk.
//!
//! | what lies under it | of which the device has | is held by |
//! |---|---|---|
//! | file of a loop device | all | the lock, as a file is |
//! | block device of a loop device | all | exclusive opening and the lock, as a block device is |
//! | either | a part (loop device with an offset or limit, partition) | the lock shared, and a lock of the stretch |
//! | disk of a partition | a part | the same, the stretch shared: the kernel keeps partitions apart |
//! | member of device mapper or md | | nothing: the kernel opens it exclusively |
//! | what lies under a member | whatever is made of it | the lock shared, and a shared lock of all |
//!
//! What is locked, be it shared, is kept from QEMU and its tools as well ([`qemu`](super::qemu)).
//!
//! Locks are only tried, again and again until the time is over, from the device downwards: two that are in each other's way
//! are both refused, and none waits for ever.

use super::lock::{self, Stretch};
use super::open;
use super::place::Place;
use super::underlay::{self, number_in};
use super::{OpenError, loops};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Layers that are gone down. The kernel itself allows fewer.
const DEPTH_MAX: usize = 16;

/// How much of what lies under it a device has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Share {
    /// All of it.
    All,
    /// A part, and nobody else has that.
    Part(Stretch),
    /// Nobody knows: others may have a part of it as well.
    Some,
}

impl Share {
    /// What a part of the device has.
    fn part(self, offset: u64, bytes: u64) -> Share {
        match self {
            Share::All => Share::Part(Stretch { offset, bytes }),
            Share::Part(of) => {
                let left = match of.bytes {
                    0 => bytes,
                    most => {
                        let left = most.saturating_sub(offset).max(1);
                        if bytes == 0 { left } else { bytes.min(left) }
                    }
                };
                Share::Part(Stretch {
                    offset: of.offset.saturating_add(offset),
                    bytes: left,
                })
            }
            Share::Some => Share::Some,
        }
    }
}

/// How one opens and locks.
#[derive(Clone, Copy)]
struct Way {
    read_only: bool,
    until: Instant,
}

/// What lies under a device, locked.
#[derive(Default)]
pub(super) struct Held {
    /// The locks are those of these files.
    pub(super) files: Vec<File>,
    /// Why QEMU is not kept from one of them.
    pub(super) open_to_qemu: Option<String>,
}

impl Held {
    fn take(&mut self, file: File, open_to_qemu: Option<String>) {
        self.files.push(file);
        self.open_to_qemu = self.open_to_qemu.take().or(open_to_qemu);
    }
}

/// Locks everything under an open block device.
pub(super) fn hold(device: &File, read_only: bool, until: Instant) -> Result<Held, OpenError> {
    let mut held = Held::default();
    if let Some(directory) = directory(device) {
        let way = Way { read_only, until };
        hold_under(&directory, Share::All, way, DEPTH_MAX, &mut held)?;
    }
    Ok(held)
}

fn hold_under(
    directory: &Path,
    share: Share,
    way: Way,
    depth: usize,
    held: &mut Held,
) -> Result<(), OpenError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(OpenError::Inspect {
            path: node(directory),
            source: io::Error::other("too many devices lie under it"),
        });
    };
    if directory.join("partition").exists() {
        let sectors = |name| {
            let text = fs::read_to_string(directory.join(name)).ok()?;
            text.trim().parse::<u64>().ok()?.checked_mul(512)
        };
        let (Some(start), Some(bytes), Some(disk)) = (sectors("start"), sectors("size"), directory.parent())
        else {
            return Err(silent(&node(directory)));
        };
        let share = share.part(start, bytes);
        if let Share::Part(stretch) = share {
            hold_disk(disk, stretch, way, held)?;
        }
        hold_under(disk, share, way, depth, held)?;
    }
    let members = fs::read_dir(directory.join("slaves"));
    for member in members.into_iter().flatten().flatten() {
        let member = fs::canonicalize(member.path()).map_err(|source| OpenError::Inspect {
            path: member.path(),
            source,
        })?;
        hold_under(&member, Share::Some, way, depth, held)?;
    }
    if directory.join("loop").exists() {
        hold_backing(directory, share, way, depth, held)?;
    }
    Ok(())
}

/// The disk of a partition. A daemon that may use the partition alone goes without: the kernel keeps all from it but a loop
/// device over a part of the disk.
fn hold_disk(disk: &Path, stretch: Stretch, way: Way, held: &mut Held) -> Result<(), OpenError> {
    let (path, place) = find_block(disk)?;
    let file = match place.open(true, 0) {
        Ok((file, _)) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(source) => return Err(OpenError::Open { path, source }),
    };
    let open_to_qemu = lock::lock_part(&file, &path, stretch, false, way.read_only, way.left())?;
    held.take(file, open_to_qemu);
    Ok(())
}

fn hold_backing(
    directory: &Path,
    share: Share,
    way: Way,
    depth: usize,
    held: &mut Held,
) -> Result<(), OpenError> {
    let (node, place) = find_block(directory)?;
    let (path, place, backing) = backing(&open(&place, &node, true)?, directory)?;
    let share = match backing.is_whole() {
        true => share,
        false => share.part(backing.offset, backing.size_limit),
    };
    let is_block = matches!(backing.storage, underlay::StorageId::Block(_));
    let file = match share {
        Share::All if is_block => open::claim(&place, &path, way.read_only, 0, way.until)?.0,
        Share::All | Share::Part(_) => open(&place, &path, way.read_only)?,
        Share::Some => open(&place, &path, true)?,
    };
    let all = Stretch { offset: 0, bytes: 0 };
    let open_to_qemu = match share {
        Share::All => lock::lock(&file, &path, way.read_only, way.left())?,
        Share::Part(stretch) => {
            let alone = !way.read_only && is_writable(&file);
            lock::lock_part(&file, &path, stretch, alone, way.read_only, way.left())?
        }
        Share::Some => lock::lock_part(&file, &path, all, false, way.read_only, way.left())?,
    };
    let below = self::directory(&file);
    held.take(file, open_to_qemu);
    match below {
        Some(below) => hold_under(&below, share, way, depth, held),
        None => Ok(()),
    }
}

impl Way {
    fn left(&self) -> std::time::Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// The file that a block device is nothing but, under loop devices only, and the kernel names of those. It is not locked.
pub(super) fn file_under(device: &File) -> Option<(File, Vec<String>)> {
    let mut loops = Vec::new();
    let mut device = device.try_clone().ok()?;
    for _ in 0..DEPTH_MAX {
        let directory = directory(&device)?;
        if !directory.join("loop").exists() {
            return None;
        }
        let (path, place, backing) = backing(&device, &directory).ok()?;
        if !backing.is_whole() {
            return None;
        }
        loops.push(directory.file_name()?.to_str()?.to_owned());
        let under = open(&place, &path, true).ok()?;
        match backing.storage {
            underlay::StorageId::File { .. } => return Some((under, loops)),
            underlay::StorageId::Block(_) => device = under,
        }
    }
    None
}

/// The file that an open loop device stands on, and where in it the device begins, in bytes. It is not locked.
pub(super) fn file_of_loop(device: &File) -> Option<(File, u64)> {
    let directory = directory(device)?;
    let (path, place, backing) = backing(device, &directory).ok()?;
    match backing.storage {
        underlay::StorageId::File { .. } => Some((open(&place, &path, true).ok()?, backing.offset)),
        underlay::StorageId::Block(_) => None,
    }
}

/// What a loop device stands on, found by the path that sysfs shows, if that leads to what the driver has open.
fn backing(device: &File, directory: &Path) -> Result<(PathBuf, Place, loops::Backing), OpenError> {
    let node = node(directory);
    let backing = loops::backing(device).ok_or_else(|| silent(&node))?;
    let path = loops::shown(directory).ok_or_else(|| silent(&node))?;
    let other = || OpenError::OtherMedium {
        path: path.clone(),
        reason: format!(
            "it is not what {} has open under this name, which has been moved or deleted, or lies in another mount \
             namespace, so that nobody can be kept from it. Make the loop device anew over a file that the daemon can \
             see, or give the daemon that file itself",
            node.display()
        ),
    };
    let place = Place::find(&path, false).map_err(|_| other())?;
    let about = place.about().map_err(|_| other())?;
    if underlay::storage_id(&about) != backing.storage {
        return Err(other());
    }
    Ok((path, place, backing))
}

/// A block device by its directory in sysfs.
fn find_block(directory: &Path) -> Result<(PathBuf, Place), OpenError> {
    let path = node(directory);
    let place = Place::find(&path, false).map_err(|source| OpenError::Open {
        path: path.clone(),
        source,
    })?;
    let is_it = place
        .about()
        .is_ok_and(|about| about.file_type().is_block_device() && number_in(directory) == Some(about.rdev()));
    match is_it {
        true => Ok((path, place)),
        false => Err(OpenError::OtherMedium {
            path,
            reason: "it is not the device that the kernel calls so".into(),
        }),
    }
}

/// Opens it, for reading only where it is not to be written, as a file that is swapped to or one on a file system that is
/// read-only. The lock can be had all the same.
fn open(place: &Place, path: &Path, read_only: bool) -> Result<File, OpenError> {
    let opened = match place.open(read_only, 0) {
        Err(_) if !read_only => place.open(true, 0),
        opened => opened,
    };
    opened.map(|(file, _)| file).map_err(|source| OpenError::Open {
        path: path.into(),
        source,
    })
}

fn is_writable(file: &File) -> bool {
    // SAFETY: F_GETFL takes no argument.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags & libc::O_ACCMODE == libc::O_RDWR
}

/// An open block device's directory in sysfs.
fn directory(device: &File) -> Option<PathBuf> {
    let about = device.metadata().ok()?;
    if !about.file_type().is_block_device() {
        return None;
    }
    let number = format!("{}:{}", libc::major(about.rdev()), libc::minor(about.rdev()));
    fs::canonicalize(Path::new("/sys/dev/block").join(number)).ok()
}

/// A block device's node. A slash in the kernel's name is an exclamation mark in sysfs.
fn node(directory: &Path) -> PathBuf {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    Path::new("/dev").join(name.replace('!', "/"))
}

fn silent(node: &Path) -> OpenError {
    OpenError::Inspect {
        path: node.into(),
        source: io::Error::other("it does not tell what it stands on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_part_lies_within_it() {
        let part = |offset, bytes| Share::Part(Stretch { offset, bytes });
        assert_eq!(Share::All.part(10, 5), part(10, 5));
        assert_eq!(Share::All.part(10, 0), part(10, 0));
        assert_eq!(part(100, 50).part(10, 5), part(110, 5));
        assert_eq!(part(100, 50).part(10, 0), part(110, 40));
        assert_eq!(part(100, 50).part(10, 90), part(110, 40));
        assert_eq!(part(100, 0).part(10, 0), part(110, 0));
        assert_eq!(part(100, 0).part(10, 7), part(110, 7));
        // No bytes would mean all.
        assert_eq!(part(100, 50).part(60, 0), part(160, 1));
        assert_eq!(Share::Some.part(10, 5), Share::Some);
    }
}
