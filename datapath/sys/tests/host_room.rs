//! What a host's file system and loop devices say of the disks on them: room that is root's, files that were deleted.
//! Skipped, and said so, where no loop device can be made.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use palisade_sys::Opened;
use palisade_sys::device::{DeviceMedium, DeviceSpec};
use palisade_sys::filesystem::FileSystem;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A loop device, given back at the end.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path, bytes: u64) -> Option<Loop> {
        File::create_new(file).unwrap().set_len(bytes).unwrap();
        let made = Command::new("losetup").args(["-f", "--show"]).arg(file).output();
        match made {
            Ok(made) if made.status.success() => {
                Some(Loop(String::from_utf8(made.stdout).unwrap().trim().into()))
            }
            _ => {
                eprintln!("skipped: no loop device can be made here");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn done(program: &str, arguments: &[&str]) -> bool {
    let done = Command::new(program).args(arguments).output();
    done.is_ok_and(|done| done.status.success())
}

fn open(medium: DeviceMedium) -> Opened {
    let spec = DeviceSpec {
        medium,
        block_bytes: 512,
        read_only: false,
    };
    Opened::open(&spec, Duration::from_secs(5)).unwrap()
}

/// A fifth of the file system is root's. What is told to be free is what can be written, to a few blocks of its own tables.
#[test]
fn what_ext4_keeps_for_root_counts_for_root() {
    let folder = tempfile::tempdir().unwrap();
    let Some(device) = Loop::over(&folder.path().join("image"), 128 * MIB) else {
        return;
    };
    let at = folder.path().join("at");
    fs::create_dir(&at).unwrap();
    let shown = device.0.to_str().unwrap();
    if !done("mkfs.ext4", &["-q", "-m", "20", shown]) || !done("mount", &[shown, at.to_str().unwrap()]) {
        eprintln!("skipped: no ext4 here");
        return;
    }
    let _mounted = Mounted(at.clone());
    let seen = || FileSystem::of(File::open(&at).unwrap()).unwrap();
    let before = seen();
    let kept = before.free_bytes - before.unreserved_bytes;
    assert!(kept > 20 * MIB && kept < 28 * MIB, "{before:?}");
    // Until others get nothing more, and we still do.
    let mut filler = File::create(at.join("filler")).unwrap();
    let piece = vec![1; 1 << 20];
    while seen().unreserved_bytes > 0 {
        filler.write_all(&piece).unwrap();
        filler.sync_all().unwrap();
    }
    let left = seen().free_bytes;
    assert!(left > 20 * MIB, "{left} are left");
    // And until we get nothing more either.
    let mut written = 0;
    let small = vec![1; 64 << 10];
    while written < 2 * left && filler.write_all(&small).is_ok() && filler.sync_all().is_ok() {
        written += 64 << 10;
    }
    assert!(
        written.abs_diff(left) < MIB,
        "{left} were told to be free, and {written} were written"
    );
    assert!(seen().free_bytes < MIB, "{:?}", seen());
}

#[test]
fn a_loop_device_whose_file_was_deleted_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    // A name as the kernel would show one of a deleted file.
    for name in ["image", "image (deleted)"] {
        let file = folder.path().join(name);
        let Some(device) = Loop::over(&file, 32 * MIB) else {
            return;
        };
        let opened = open(DeviceMedium::Block {
            path: device.0.clone(),
        });
        let is_unlinked = || opened.look().unwrap().unwrap().is_unlinked();
        assert!(!is_unlinked(), "{name}");
        fs::remove_file(&file).unwrap();
        assert!(is_unlinked(), "{name}");
        // Another one of that name is not it.
        File::create(&file).unwrap();
        assert!(is_unlinked(), "{name}");
        drop(opened);
        fs::remove_file(&file).unwrap();
    }
}

/// A loop device over a loop device, and a file on a file system on one.
#[test]
fn what_stands_on_such_a_loop_device_is_seen_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image");
    let Some(device) = Loop::over(&file, 64 * MIB) else {
        return;
    };
    let at = folder.path().join("at");
    fs::create_dir(&at).unwrap();
    let shown = device.0.to_str().unwrap();
    if !done("mkfs.ext4", &["-q", shown]) || !done("mount", &[shown, at.to_str().unwrap()]) {
        eprintln!("skipped: no ext4 here");
        return;
    }
    let mounted = Mounted(at.clone());
    let path = at.join("d1");
    File::create(&path).unwrap().set_len(16 * MIB).unwrap();
    let opened = open(DeviceMedium::File { path, create: None });
    let is_unlinked = || opened.look().unwrap().unwrap().is_unlinked();
    assert!(!is_unlinked());
    fs::remove_file(&file).unwrap();
    assert!(is_unlinked());
    drop(opened);
    drop(mounted);
    let below = Loop::over(&file, 32 * MIB).unwrap();
    let made = Command::new("losetup")
        .args(["-f", "--show"])
        .arg(&below.0)
        .output()
        .unwrap();
    let above = Loop(String::from_utf8(made.stdout).unwrap().trim().into());
    let opened = open(DeviceMedium::Block {
        path: above.0.clone(),
    });
    assert!(!opened.look().unwrap().unwrap().is_unlinked());
    fs::remove_file(&file).unwrap();
    assert!(opened.look().unwrap().unwrap().is_unlinked());
    drop(opened);
    drop(above);
}
