//! Who a block device says it is. Names under /dev change from boot to boot, these do not.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a block device tells of itself; each is `None` when it does not tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BlockIdentity {
    /// The kernel's name, `sda1`: valid until the next boot.
    pub kernel_name: String,
    /// World-wide name: `naa.…`, `eui.…`, `nvme.…`, `t10.…`. Of the whole disk when it is a partition.
    pub wwid: Option<String>,
    /// The maker's serial number of the whole disk.
    pub serial: Option<String>,
    /// The maker's name for the model.
    pub model: Option<String>,
    /// Partition number; `None` for a whole disk.
    pub partition: Option<u32>,
    /// Whether it has a seek time.
    pub rotational: Option<bool>,
}

/// Asks sysfs who a block device is.
///
/// # Errors
/// The device is not there or sysfs cannot be read.
pub fn identity(path: &Path) -> io::Result<BlockIdentity> {
    let device = fs::metadata(path)?.rdev();
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    identity_in(Path::new("/sys"), &number)
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
    Ok(BlockIdentity {
        kernel_name: directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        // NVMe namespaces have it beside the queue, SCSI disks in the SCSI device.
        wwid: first(&["wwid", "device/wwid"]),
        serial: first(&["serial", "device/serial"]).or_else(|| vpd_serial(&disk.join("device/vpd_pg80"))),
        model: first(&["device/model"]),
        partition,
        rotational: first(&["queue/rotational"]).map(|flag| flag == "1"),
    })
}

/// A file's text without the blanks around and between.
fn word(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
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
        assert_eq!((part.wwid, part.serial), (disk.wwid, disk.serial));
    }
}
