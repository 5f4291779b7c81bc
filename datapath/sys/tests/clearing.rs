//! A stretch that is cleared reads as zeros, what lies beside it stays, and a file's space stays as it was reserved.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_sys::Opened;
use palisade_sys::device::{Create, DeviceMedium, DeviceSpec};
use rig::MIB;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const BYTES: u64 = 16 * MIB;

/// Fills the device, clears stretches of it, and looks.
fn clears(opened: &Opened) {
    let block = u64::from(opened.limits().block_bytes);
    let stretches = [
        (0, block),
        (3 * block, 5 * block),
        (MIB - block, 3 * MIB),
        (8 * MIB, 4 * MIB),
        (BYTES - block, block),
    ];
    for (offset, bytes) in stretches {
        opened.write_at(0, &vec![0xa5; BYTES as usize]).unwrap();
        opened.sync().unwrap();
        opened.clear(offset, bytes).unwrap();
        opened.sync().unwrap();
        let mut found = vec![1; BYTES as usize];
        opened.read_at(0, &mut found).unwrap();
        let wrong = found.iter().enumerate().find(|(at, byte)| {
            let inside = (offset..offset + bytes).contains(&(*at as u64));
            **byte != if inside { 0 } else { 0xa5 }
        });
        assert_eq!(wrong, None, "{offset}+{bytes}");
    }
    assert!(opened.clear(0, block + 1).is_err());
    assert!(opened.clear(BYTES, block).is_err());
    assert!(opened.clear(u64::MAX - block + 1, block).is_err());
    opened.clear(0, BYTES).unwrap();
    let mut found = vec![1; BYTES as usize];
    opened.read_at(0, &mut found).unwrap();
    assert!(found.iter().all(|byte| *byte == 0));
}

fn file(path: &Path, sparse: bool, block_bytes: u32) -> Opened {
    let create = Some(Create { bytes: BYTES, sparse });
    let spec = DeviceSpec {
        medium: DeviceMedium::File {
            path: path.into(),
            create,
        },
        block_bytes,
        read_only: false,
    };
    Opened::open(&spec, Duration::ZERO).unwrap()
}

fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn a_file_with_all_its_space_keeps_it() {
    let directory = rig::directory();
    for block_bytes in [512, 4096] {
        let path = directory.path().join(block_bytes.to_string());
        let opened = file(&path, false, block_bytes);
        assert!(allocated(&path) >= BYTES);
        clears(&opened);
        assert!(allocated(&path) >= BYTES, "what was reserved stays so");
    }
}

#[test]
fn a_file_with_holes_gets_holes_back() {
    let directory = rig::directory();
    let path = directory.path().join("disk");
    let opened = file(&path, true, 512);
    // Nothing is there, and nothing is done.
    opened.clear(0, BYTES).unwrap();
    assert!(allocated(&path) < MIB);
    opened.write_at(4 * MIB, &vec![7; 2 * MIB as usize]).unwrap();
    opened.sync().unwrap();
    opened.clear(0, BYTES).unwrap();
    opened.sync().unwrap();
    assert!(allocated(&path) < MIB, "{}", allocated(&path));
    // A hole in the middle of data makes it a file with holes also when it is full otherwise.
    opened.write_at(0, &vec![7; BYTES as usize]).unwrap();
    opened.clear(0, 4096).unwrap();
    clears(&opened);
}

#[test]
fn memory_is_cleared() {
    let opened = rig::open(DeviceMedium::Memory { bytes: BYTES }, 512);
    clears(&opened);
}

#[test]
fn a_read_only_device_is_left_alone() {
    let directory = rig::directory();
    let path = directory.path().join("disk");
    drop(file(&path, true, 512));
    let spec = DeviceSpec {
        medium: DeviceMedium::File { path, create: None },
        block_bytes: 512,
        read_only: true,
    };
    let opened = Opened::open(&spec, Duration::ZERO).unwrap();
    let error = opened.clear(0, 512).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

/// A file system that neither punches holes nor zeroes ranges: zeros are written.
#[test]
fn a_file_is_cleared_where_nothing_but_writing_works() {
    let Some(ramfs) = Ramfs::mount() else {
        eprintln!("skipped: no ramfs can be mounted here");
        return;
    };
    let path = ramfs.0.path().join("disk");
    std::fs::File::create_new(&path).unwrap().set_len(BYTES).unwrap();
    let punched = Command::new("fallocate")
        .args(["-p", "-l", "4096"])
        .arg(&path)
        .output();
    assert!(
        !punched.unwrap().status.success(),
        "there are holes here: this shows nothing"
    );
    let opened = rig::open(DeviceMedium::File { path, create: None }, 512);
    clears(&opened);
}

/// A loop device over a file that takes holes has a command for zeros that unmaps.
#[test]
fn a_block_device_with_a_command_for_zeros_is_cleared() {
    let directory = rig::directory();
    clears_loop_devices_in(directory.path(), |most| most > 0);
}

/// One over a file on a file system without holes has none: the kernel writes zeros when it is asked to (BLKZEROOUT).
#[test]
fn a_block_device_without_a_command_for_zeros_is_cleared() {
    let Some(ramfs) = Ramfs::mount() else {
        eprintln!("skipped: no ramfs can be mounted here");
        return;
    };
    clears_loop_devices_in(ramfs.0.path(), |most| most == 0);
}

/// A file system that knows nothing of holes; gone when this is dropped.
struct Ramfs(tempfile::TempDir);

impl Ramfs {
    fn mount() -> Option<Ramfs> {
        let place = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "ramfs", "none"])
            .arg(place.path())
            .output();
        mounted.ok()?.status.success().then_some(Ramfs(place))
    }
}

impl Drop for Ramfs {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .args(["-l".as_ref(), self.0.path()])
            .status();
    }
}

/// `expected` is told how many bytes one command for zeros of the device takes, as the kernel shows it.
fn clears_loop_devices_in(directory: &Path, expected: fn(u64) -> bool) {
    for block_bytes in [512u32, 4096] {
        let image = directory.join(block_bytes.to_string());
        std::fs::File::create_new(&image).unwrap().set_len(BYTES).unwrap();
        let made = Command::new("losetup")
            .args(["-f", "--show", "-b", &block_bytes.to_string()])
            .arg(&image)
            .output();
        let Some(made) = made.ok().filter(|made| made.status.success()) else {
            eprintln!("skipped: no loop device can be made here");
            return;
        };
        let device = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let shown = format!(
            "/sys/class/block/{}/queue/write_zeroes_max_bytes",
            device.trim_start_matches("/dev/")
        );
        let most = std::fs::read_to_string(shown).unwrap().trim().parse().unwrap();
        let as_expected = expected(most);
        let opened: Arc<Opened> = rig::open(
            DeviceMedium::Block {
                path: device.clone().into(),
            },
            block_bytes,
        );
        clears(&opened);
        drop(opened);
        let ended = Command::new("losetup").args(["-d", &device]).status().unwrap();
        assert!(ended.success());
        assert!(
            as_expected,
            "it is not the kind of device that is to be shown: {most}"
        );
    }
}
