//! Files and loop devices, opened as disks.

use super::*;
use crate::disk_growth::tests::disk;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

pub(super) const BYTES: u64 = 8 << 20;

const AT_ONCE: Manner = Manner {
    patience: Duration::ZERO,
    again: false,
};

pub(super) fn name() -> Name {
    Name::new("d1").unwrap()
}

/// Opens the only disk of a cluster.
pub(super) fn open_one(disk: &Disk, seen: &LastSeen) -> Result<Opened, String> {
    let mut cluster = Cluster::empty();
    cluster.disks.insert(name(), disk.clone());
    open(&cluster, &name(), AT_ONCE, seen)
}

/// The disk that is added by opening what lies there.
pub(super) fn added(medium: Medium) -> Disk {
    let sectors = BYTES / SECTOR_BYTES;
    let opened = Opened::open(&opening::spec(&medium, 512), Duration::ZERO).unwrap();
    let (record, wwid) = record_open(&opened, Usage::Whole).unwrap();
    let medium = match medium {
        Medium::Block { path, .. } => Medium::Block { path, wwid },
        other => other,
    };
    Disk {
        record,
        sectors,
        data_end: sectors,
        ..disk(medium)
    }
}

pub(super) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_file_in_the_place_of_another_is_neither_read_nor_written() {
    let folder = tempfile::tempdir().unwrap();
    let seen = LastSeen::below(folder.path());
    let (path, other) = (folder.path().join("d1"), folder.path().join("other"));
    let make = |path: &Path, fill: u8| std::fs::write(path, vec![fill; BYTES as usize]).unwrap();
    make(&path, 1);
    let disk = added(Medium::File {
        path: text(&path),
        bytes: BYTES,
        created: false,
    });
    if disk.has_identity() {
        assert!(open_one(&disk, &seen).is_ok());
        make(&other, 1);
        std::fs::rename(&path, folder.path().join("aside")).unwrap();
        std::fs::rename(&other, &path).unwrap();
        let before = std::fs::metadata(&path).unwrap();
        let refused = open_one(&disk, &seen).unwrap_err();
        assert!(
            refused.contains("leads to another medium: its inode is"),
            "{refused}"
        );
        let aside = text(&folder.path().join("aside"));
        let remedy = moved::remedy(&Cluster::empty(), &name(), &disk);
        assert!(
            remedy.ends_with(&format!("palisade disk confirm d1 --path {aside}")),
            "{remedy}"
        );
        assert!(refused.contains(&remedy), "{refused}");
        let after = std::fs::metadata(&path).unwrap();
        assert_eq!(
            (before.atime_nsec(), before.ctime_nsec(), before.blocks()),
            (after.atime_nsec(), after.ctime_nsec(), after.blocks())
        );
        // The same where nothing is in its place, and without a name where nobody knows one.
        std::fs::remove_file(&path).unwrap();
        let refused = open_one(&disk, &seen).unwrap_err();
        assert!(
            refused.contains("No such file") && refused.contains(&remedy),
            "{refused}"
        );
        let (away, back) = (tempfile::tempdir().unwrap(), folder.path().join("aside"));
        std::fs::rename(&back, away.path().join("d1")).unwrap();
        let refused = open_one(&disk, &seen).unwrap_err();
        assert!(
            refused.contains("palisade disk confirm d1 --path PATH"),
            "{refused}"
        );
        std::fs::rename(away.path().join("d1"), &path).unwrap();
    }
    assert!(open_one(&disk, &seen).is_ok());
    let longer = Disk {
        sectors: disk.sectors + 1,
        ..disk
    };
    let refused = open_one(&longer, &seen).unwrap_err();
    assert!(refused.contains("has shrunk"), "{refused}");
}

/// A loop device: a medium without any identity.
struct Loop(String);

impl Loop {
    fn over(file: &Path) -> Option<Loop> {
        let made = Command::new("losetup")
            .args(["-f", "--show"])
            .arg(file)
            .output()
            .ok()?;
        let path = String::from_utf8(made.stdout).ok()?.trim().to_owned();
        made.status.success().then_some(Loop(path))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

#[test]
fn a_medium_without_identity_is_known_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let seen = LastSeen::below(folder.path());
    let image = |name: &str, fill: u8| {
        let path = folder.path().join(name);
        let bytes: Vec<u8> = (0..BYTES).map(|at| (at / 4096) as u8 ^ fill | 1).collect();
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (ours, other) = (image("ours", 3), image("other", 77));
    let (Some(first), Some(second)) = (Loop::over(&ours), Loop::over(&other)) else {
        eprintln!("skipped: no loop device can be made here");
        return;
    };
    let link = folder.path().join("link");
    let lead = |to: &Loop| {
        let _ = std::fs::remove_file(&link);
        symlink(&to.0, &link).unwrap();
    };
    lead(&first);
    let disk = added(Medium::Block {
        path: text(&link),
        wwid: None,
    });
    assert!(!disk.has_identity() && disk.record.fingerprint.is_some());
    // As it was recorded before loop devices were told by their files, and as other devices without an identity are.
    let mut disk = disk;
    assert!(disk.record.backing.take().is_some());
    // The guest writes to its first sectors, and the daemon is killed before it has looked again.
    let opened = open_one(&disk, &seen).unwrap();
    opened.write_at(0, &[9; 8192]).unwrap();
    opened.sync().unwrap();
    drop(opened);
    drop(open_one(&disk, &seen).unwrap());
    // The kernel gives the name to another medium.
    lead(&second);
    let refused = open_one(&disk, &seen).unwrap_err();
    assert!(
        refused.contains("its content is not that of disk d1"),
        "{refused}"
    );
    assert!(refused.contains("palisade disk confirm d1"), "{refused}");
    // The same when what was last seen is lost: the one of the day it was added is left.
    seen.forget(disk.uuid);
    assert!(open_one(&disk, &seen).is_err());
    lead(&first);
    assert!(open_one(&disk, &seen).is_ok());
}

/// Two copies of one image: nothing in them tells which is which, and the kernel numbers loop devices as it likes.
#[test]
fn loop_devices_of_one_content_are_told_by_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let seen = LastSeen::below(folder.path());
    let image = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, vec![5; BYTES as usize]).unwrap();
        path
    };
    let (ours, other) = (image("ours"), image("other"));
    let (Some(first), Some(second)) = (Loop::over(&ours), Loop::over(&other)) else {
        eprintln!("skipped: no loop device can be made here");
        return;
    };
    let disk = |device: &Loop| {
        added(Medium::Block {
            path: device.0.clone(),
            wwid: None,
        })
    };
    let (mut disk, others) = (disk(&first), disk(&second));
    let files = [&disk, &others].map(|disk| disk.record.backing);
    if files.contains(&None) {
        eprintln!("skipped: the file system here keeps no inodes");
        return;
    }
    assert_ne!(files[0], files[1]);
    assert_eq!(disk.record.fingerprint, others.record.fingerprint);
    assert!(open_one(&disk, &seen).is_ok());
    // The kernel has given the number to the other file.
    disk.medium = Medium::Block {
        path: second.0.clone(),
        wwid: None,
    };
    let refused = open_one(&disk, &seen).unwrap_err();
    assert!(refused.contains("its backing file is inode"), "{refused}");
    assert!(refused.contains("palisade disk confirm d1"), "{refused}");
    // One of a pool is told by its superblock, whatever file it has been moved to.
    let opened = Opened::open(&opening::spec(&disk.medium, 512), Duration::ZERO).unwrap();
    assert_eq!(record_open(&opened, Usage::Pooled).unwrap().0.backing, None);
}

#[test]
fn a_medium_with_an_identity_is_described_by_it() {
    let record = MediumRecord {
        serial: Some("S1".into()),
        ..MediumRecord::default()
    };
    let words = describe(&record, Some("eui.1")).unwrap();
    assert_eq!(words, "WWID eui.1, serial number S1");
    assert_eq!(describe(&MediumRecord::default(), None), None);
}

#[test]
fn what_others_have_put_in_the_place_of_a_superblock_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let found = |at: usize, bytes: &[u8]| {
        let mut content = vec![0; BYTES as usize];
        content[at..at + bytes.len()].copy_from_slice(bytes);
        std::fs::write(&path, content).unwrap();
        let medium = Medium::File {
            path: path.display().to_string(),
            bytes: BYTES,
            created: false,
        };
        let opened = Opened::open(&opening::spec(&medium, 512), Duration::ZERO).unwrap();
        foreign(&opened).map(|content| content.to_string())
    };
    // Two file systems.
    assert!(found(1080, &[0x53, 0xef]).is_some_and(|named| named.contains("a file system")));
    assert!(found(0, b"XFSB").is_some_and(|named| named.contains("xfs")));
    assert_eq!(found(0, &[]), None, "nothing");
    assert_eq!(found(100, b"some text"), None, "what nobody knows");
    // What lies further in is a guest's.
    assert_eq!(found((4 << 20) + 1080, &[0x53, 0xef]), None);
}
