//! Who a medium says it is. Names under /dev change from boot to boot, and what lies under a path can be exchanged at any
//! time; so the question is asked of an open descriptor, which stays what it is.
//!
//! A block device tells its identity by itself (WWID or serial number), or has none: loop devices, virtio disks without
//! a serial number, null_blk, brd. A file is told by its inode, where the file system keeps those. What has no identity
//! is told by its content ([`fingerprint`](super::fingerprint)), and a loop device by the file that it stands on as well.

use super::beneath;
use crate::filesystem::FileSystem;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Who a file or block device is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Identity {
    /// A block device.
    Block(BlockIdentity),
    /// A file.
    File(FileIdentity),
}

impl Identity {
    /// Of an open file or block device.
    ///
    /// # Errors
    /// The descriptor cannot be asked, or sysfs does not know the device (any more).
    pub fn of(file: &File) -> io::Result<Identity> {
        let meta = file.metadata()?;
        if meta.file_type().is_block_device() {
            let identity = BlockIdentity::of_number(meta.rdev())?;
            return Ok(Identity::Block(BlockIdentity {
                backing: LoopFile::of(file),
                ..identity
            }));
        }
        let filesystem = FileSystem::of(file)?;
        let keeps = filesystem.keeps_inodes();
        Ok(Identity::File(FileIdentity {
            inode: keeps.then_some(meta.ino()),
            generation: generation(file).filter(|_| keeps),
            filesystem: filesystem.keeps_its_id().then_some(filesystem.id),
        }))
    }
}

/// Who a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileIdentity {
    /// Number of its inode; `None` on a file system that numbers anew at each mount.
    pub inode: Option<u64>,
    /// The inode's generation, which tells a file from a later one of the same number.
    pub generation: Option<u32>,
    /// Id of the file system, where that is written on it.
    pub filesystem: Option<u64>,
}

/// The file that a loop device stands on, and where in it the device begins. The device's own number is given away anew at each
/// boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoopFile {
    /// Who the file is.
    pub file: FileIdentity,
    /// Where the device begins in it, in bytes.
    pub offset: u64,
}

impl LoopFile {
    /// `None` of what is no loop device, and of one whose file cannot be found by its path.
    fn of(device: &File) -> Option<LoopFile> {
        let (file, offset) = beneath::file_of_loop(device)?;
        match Identity::of(&file).ok()? {
            Identity::File(file) => Some(LoopFile { file, offset }),
            Identity::Block(_) => None,
        }
    }
}

/// What a block device tells of itself; each is `None` when it does not tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BlockIdentity {
    /// The kernel's name, `sda1`: valid until the next boot.
    pub kernel_name: String,
    /// World-wide name: `naa.…`, `eui.…`, `nvme.…`, `t10.…`; `dm.…` and `md.…` for devices that the kernel puts
    /// together. Of the whole disk when it is a partition.
    pub wwid: Option<String>,
    /// The maker's serial number of the whole disk.
    pub serial: Option<String>,
    /// The maker's name for the model.
    pub model: Option<String>,
    /// Partition number; `None` for a whole disk.
    pub partition: Option<u32>,
    /// First sector of a partition on its disk, in units of 512 bytes.
    pub partition_start: Option<u64>,
    /// Logical block in bytes.
    pub block_bytes: Option<u32>,
    /// Whether it has a seek time.
    pub rotational: Option<bool>,
    /// What a loop device stands on; of one that was asked by its open descriptor only.
    pub backing: Option<LoopFile>,
}

impl BlockIdentity {
    fn of_number(device: u64) -> io::Result<BlockIdentity> {
        let number = format!("{}:{}", libc::major(device), libc::minor(device));
        identity_in(Path::new("/sys"), &number)
    }

    /// Whether it tells who it is.
    pub fn is_known(&self) -> bool {
        self.wwid.is_some() || self.serial.is_some()
    }
}

/// Asks sysfs who the block device is that a path leads to now.
///
/// # Errors
/// The device is not there or sysfs cannot be read.
pub fn identity(path: &Path) -> io::Result<BlockIdentity> {
    BlockIdentity::of_number(fs::metadata(path)?.rdev())
}

/// All block devices of this machine with a node below /dev, and who they are: where to look for a medium whose path
/// has changed. Whoever opens one must ask its descriptor again.
///
/// # Errors
/// sysfs cannot be read.
pub fn all() -> io::Result<Vec<(PathBuf, BlockIdentity)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/class/block")?.flatten() {
        // A name with a slash, as cciss/c0d0, has an exclamation mark there.
        let name = entry.file_name().to_string_lossy().replace('!', "/");
        let Some(number) = word(&entry.path().join("dev")) else {
            continue;
        };
        if let Ok(identity) = identity_in(Path::new("/sys"), &number) {
            found.push((Path::new("/dev").join(name), identity));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// The same for a device number and a sysfs that is mounted elsewhere.
fn identity_in(sysfs: &Path, number: &str) -> io::Result<BlockIdentity> {
    let directory = fs::canonicalize(sysfs.join("dev/block").join(number))?;
    let partition = word(&directory.join("partition")).and_then(|number| number.parse().ok());
    let disk = match partition {
        Some(_) => directory.parent().unwrap_or(&directory),
        None => &directory,
    };
    let first = |names: &[&str]| names.iter().find_map(|name| word(&disk.join(name)));
    let built = |file: &str, prefix: &str| Some(format!("{prefix}.{}", word(&disk.join(file))?));
    Ok(BlockIdentity {
        kernel_name: directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        // NVMe namespaces have it beside the queue, SCSI disks in the SCSI device.
        wwid: first(&["wwid", "device/wwid"])
            .or_else(|| built("dm/uuid", "dm"))
            .or_else(|| built("md/uuid", "md")),
        serial: first(&["serial", "device/serial"]).or_else(|| vpd_serial(&disk.join("device/vpd_pg80"))),
        model: first(&["device/model"]),
        partition,
        partition_start: partition.and_then(|_| word(&directory.join("start"))?.parse().ok()),
        block_bytes: first(&["queue/logical_block_size"]).and_then(|bytes| bytes.parse().ok()),
        rotational: first(&["queue/rotational"]).map(|flag| flag == "1"),
        backing: None,
    })
}

/// The generation of an inode, where the file system has one (`FS_IOC_GETVERSION`).
fn generation(file: &File) -> Option<u32> {
    let mut version = [0_u32; 2];
    // SAFETY: FS_IOC_GETVERSION writes one int, whatever its number says, and never more than a long; both have room.
    let failed = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETVERSION, version.as_mut_ptr()) };
    (failed == 0).then_some(version[0])
}

/// A file's text without the blanks around and between, and without what is not printable ASCII.
fn word(path: &Path) -> Option<String> {
    let text = fs::read(path).ok()?;
    let text: String = text
        .iter()
        .map(|&byte| match byte {
            b'!'..=b'~' => char::from(byte),
            _ => ' ',
        })
        .collect();
    let words: Vec<_> = text.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}
/// The unit serial number page (SPC-4 7.8.15): four bytes of header, the last of them the length.
fn vpd_serial(path: &Path) -> Option<String> {
    let page = fs::read(path).ok()?;
    let length = usize::from(*page.get(3)?);
    let serial = page.get(4..)?.iter().take(length).map(|&byte| char::from(byte));
    let text: String = serial.filter(|letter| letter.is_ascii_graphic()).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_the_identity_of_its_disk() {
        let sysfs = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &[u8]| {
            let path = sysfs.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("devices/sda/sda1/partition", b"1\n");
        put("devices/sda/sda1/start", b"2048\n");
        put("devices/sda/queue/logical_block_size", b"4096\n");
        put("devices/sda/device/wwid", b"naa.5000c500a1b2c3d4\n");
        put("devices/sda/device/model", b"ST4000  NM0035   \n");
        put("devices/sda/device/vpd_pg80", b"\0\x80\0\x08ZC1ABCDEmore");
        put("devices/sda/queue/rotational", b"1\n");
        fs::create_dir_all(sysfs.path().join("dev/block")).unwrap();
        for (number, to) in [("8:0", "../../devices/sda"), ("8:1", "../../devices/sda/sda1")] {
            std::os::unix::fs::symlink(to, sysfs.path().join("dev/block").join(number)).unwrap();
        }
        let disk = identity_in(sysfs.path(), "8:0").unwrap();
        assert_eq!(disk.wwid.as_deref(), Some("naa.5000c500a1b2c3d4"));
        assert_eq!(disk.model.as_deref(), Some("ST4000 NM0035"));
        assert_eq!(disk.serial.as_deref(), Some("ZC1ABCDE"));
        assert_eq!((disk.partition, disk.rotational), (None, Some(true)));
        let part = identity_in(sysfs.path(), "8:1").unwrap();
        assert_eq!((part.kernel_name.as_str(), part.partition), ("sda1", Some(1)));
        assert_eq!((part.partition_start, disk.partition_start), (Some(2048), None));
        assert_eq!((part.block_bytes, disk.block_bytes), (Some(4096), Some(4096)));
        assert_eq!((part.wwid, part.serial), (disk.wwid, disk.serial));
    }

    #[test]
    fn what_the_kernel_puts_together_has_an_id_and_what_is_none_has_none() {
        let sysfs = tempfile::tempdir().unwrap();
        let block = sysfs.path().join("dev/block");
        for (number, file, text) in [
            ("253:0", "dm/uuid", "LVM-abc\n"),
            ("9:0", "md/uuid", "1b-2c\n"),
            ("7:0", "serial", "\n"),
        ] {
            let file = block.join(number).join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let of = |number| identity_in(sysfs.path(), number).unwrap();
        assert_eq!(of("253:0").wwid.as_deref(), Some("dm.LVM-abc"));
        assert_eq!(of("9:0").wwid.as_deref(), Some("md.1b-2c"));
        assert!(!of("7:0").is_known() && of("9:0").is_known());
    }
}
