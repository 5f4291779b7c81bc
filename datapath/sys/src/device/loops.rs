//! What a loop device says of itself (linux/loop.h).

use super::underlay::{StorageId, number_in, storage_id};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;

/// What a loop device stands on, and which part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Backing {
    pub(super) storage: StorageId,
    /// Where it begins, in bytes.
    pub(super) offset: u64,
    /// Bytes at most; 0: up to the end.
    pub(super) size_limit: u64,
}

impl Backing {
    /// Whether the loop device is all of it. One that begins later or ends earlier is a part, as a partition is.
    pub(super) fn is_whole(&self) -> bool {
        self.offset == 0 && self.size_limit == 0
    }
}

/// The beginning of `struct loop_info64`, and room for its rest.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    rest: [u64; 24],
}

const _: () = assert!(size_of::<LoopInfo>() == 232);

/// As the driver has it open; `None` of what is no loop device, or one that stands on nothing.
pub(super) fn backing(device: &File) -> Option<Backing> {
    let mut info = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        rest: [0; 24],
    };
    // SAFETY: LOOP_GET_STATUS64 writes one `struct loop_info64`, 232 bytes, to which the pointer points.
    let failed = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
    if failed != 0 {
        return None;
    }
    // `rdevice` is a block device's own number. For a file it is none, or that of its file system once more.
    let storage = match info.rdevice == 0 || info.rdevice == info.device {
        true => StorageId::File {
            device: decoded(info.device),
            inode: info.inode,
        },
        false => StorageId::Block(decoded(info.rdevice)),
    };
    Some(Backing {
        storage,
        offset: info.offset,
        size_limit: info.size_limit,
    })
}

/// The same of a device that is to be opened for it.
pub(super) fn backing_at(node: &Path) -> Option<Backing> {
    let device = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(node);
    device.ok().and_then(|device| backing(&device))
}

/// The path that sysfs shows of what a loop device stands on, by the device's directory there. Another file may lie there by
/// now, or none.
pub(super) fn shown(directory: &Path) -> Option<PathBuf> {
    let mut text = fs::read(directory.join("loop/backing_file")).ok()?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(text)))
}

/// Layers that are looked through for a loop device.
const LAYERS_MAX: usize = 16;

/// Whether a block device is, or is made of, a loop device whose file has been deleted: its data is there until the loop
/// device is given back, and gone after that.
pub(super) fn stands_on_deleted(number: u64) -> bool {
    let (mut open, mut seen) = (vec![number], 0);
    while let Some(number) = open.pop() {
        seen += 1;
        let number = format!("{}:{}", libc::major(number), libc::minor(number));
        let Ok(directory) = fs::canonicalize(Path::new("/sys/dev/block").join(number)) else {
            continue;
        };
        if is_deleted(&directory) {
            return true;
        }
        if seen >= LAYERS_MAX {
            return false;
        }
        if directory.join("partition").exists() {
            open.extend(directory.parent().and_then(number_in));
        }
        let slaves = fs::read_dir(directory.join("slaves"))
            .into_iter()
            .flatten()
            .flatten();
        open.extend(slaves.filter_map(|slave| number_in(&slave.path())));
        if let Some(below) = shown(&directory).and_then(|path| fs::metadata(path).ok()) {
            open.push(match storage_id(&below) {
                StorageId::Block(number) | StorageId::File { device: number, .. } => number,
            });
        }
    }
    false
}

/// Whether the file of a loop device, by the device's directory in sysfs, has no name any more.
fn is_deleted(directory: &Path) -> bool {
    let Some(shown) = shown(directory) else {
        return false;
    };
    if !shown.as_os_str().as_bytes().ends_with(b" (deleted)") {
        return false;
    }
    // A file may be called so.
    let device = directory.file_name().map(|name| Path::new("/dev").join(name));
    let backing = device.and_then(|device| backing_at(&device));
    match (fs::metadata(&shown), backing) {
        (Ok(there), Some(backing)) => storage_id(&there) != backing.storage,
        _ => true,
    }
}

/// A device's number as the kernel packs it (`huge_encode_dev`).
fn decoded(number: u64) -> u64 {
    let (major, minor) = (
        (number >> 8) & 0xfff,
        (number & 0xff) | ((number >> 12) & 0xfff00),
    );
    libc::makedev(major as u32, minor as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_packed_as_the_kernel_packs_them() {
        assert_eq!(decoded(0x700), libc::makedev(7, 0));
        assert_eq!(decoded(0x103), libc::makedev(1, 3));
        assert_eq!(decoded(0x0010_0834), libc::makedev(8, 0x134));
    }
}
