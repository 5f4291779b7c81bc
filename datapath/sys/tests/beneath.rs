//! What lies under a block device is kept from others as long as the device is open, by whatever way they come: two that
//! open each in a process of its own. Loop devices over files of our own; skipped, and said so, where they cannot be made.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_sys::device::usage::Use;
use palisade_sys::device::{DeviceMedium, DeviceSpec, Holder, Identity};
use palisade_sys::{OpenError, Opened};
use rig::MIB;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const HOLDER: &str = "PALISADE_TEST_HOLDER";

/// A loop device, let go when dropped.
struct Loop(PathBuf);

impl Loop {
    fn over(path: &Path, options: &[&str]) -> Option<Loop> {
        let made = Command::new("losetup")
            .args(["-f", "--show"])
            .args(options)
            .arg(path)
            .output()
            .ok()?;
        let name = String::from_utf8(made.stdout).ok()?.trim().to_owned();
        if !made.status.success() || name.is_empty() {
            eprintln!("skipped: no loop device can be made here");
            return None;
        }
        Some(Loop(name.into()))
    }

    fn name(&self) -> String {
        self.0.file_name().unwrap().to_str().unwrap().to_owned()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Partitions would stay, and be those of the next file.
        let _ = Command::new("partx")
            .arg("-d")
            .arg(&self.0)
            .stderr(Stdio::null())
            .status();
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

fn image(directory: &TempDir, name: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::File::create_new(&path).unwrap().set_len(32 * MIB).unwrap();
    path
}

fn open(path: &Path) -> Result<Opened, OpenError> {
    let path = path.to_path_buf();
    let medium = match path.starts_with("/dev") {
        true => DeviceMedium::Block { path },
        false => DeviceMedium::File { path, create: None },
    };
    let spec = DeviceSpec {
        medium,
        block_bytes: 512,
        read_only: false,
    };
    Opened::open(&spec, Duration::from_millis(100))
}

/// Another process that has a disk open until it is dropped.
struct Other(Child);

impl Other {
    fn with(path: &Path) -> Other {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "held_by_another_process", "--nocapture"])
            .env(HOLDER, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("it is held")), "{path:?}");
        Other(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test by itself: what [`Other`] runs.
#[test]
fn held_by_another_process() {
    let Some(path) = std::env::var_os(HOLDER) else {
        return;
    };
    let opened = open(Path::new(&path)).unwrap();
    println!("it is held");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(opened);
}

/// None of them can be opened while another process has one of them, and each can be when it has ended.
#[track_caller]
fn exclude_each_other(ways: &[&Path]) {
    for (number, one) in ways.iter().enumerate() {
        let other = Other::with(one);
        for (_, way) in ways.iter().enumerate().filter(|(at, _)| *at != number) {
            let error = open(way).unwrap_err();
            let cause = match &error {
                OpenError::Beneath { source, .. } => source,
                error => error,
            };
            let is_it = match cause {
                OpenError::Locked { holder, .. } => {
                    holder.is_none() || *holder == Some(Holder::Running(other.0.id()))
                }
                OpenError::InUse { .. } => true,
                _ => false,
            };
            assert!(
                is_it,
                "{} while {} is held: {error}",
                way.display(),
                one.display()
            );
        }
        drop(other);
        rig::until(|| ways.iter().all(|way| open(way).is_ok()));
    }
}

#[test]
fn a_file_is_one_disk_whatever_loop_devices_stand_on_it() {
    let directory = rig::directory();
    let file = image(&directory, "image");
    let (Some(first), Some(second)) = (Loop::over(&file, &[]), Loop::over(&file, &[])) else {
        return;
    };
    let third = Loop::over(&first.0, &[]).unwrap();
    exclude_each_other(&[&file, &first.0, &second.0, &third.0]);
    // A whole, and a part of it.
    let part = Loop::over(&file, &["--offset", "1048576", "--sizelimit", "4194304"]).unwrap();
    exclude_each_other(&[&file, &part.0]);
    exclude_each_other(&[&second.0, &part.0]);
    exclude_each_other(&[&third.0, &part.0]);
}

#[test]
fn parts_of_a_file_are_kept_apart_where_they_overlap() {
    let directory = rig::directory();
    let file = image(&directory, "image");
    let part = |from: u64, mib: u64| {
        let (offset, limit) = ((from * MIB).to_string(), (mib * MIB).to_string());
        Loop::over(&file, &["--offset", &offset, "--sizelimit", &limit])
    };
    let (Some(first), Some(second), Some(both)) = (part(1, 4), part(5, 4), part(4, 2)) else {
        return;
    };
    exclude_each_other(&[&first.0, &both.0]);
    exclude_each_other(&[&second.0, &both.0]);
    let other = Other::with(&first.0);
    drop(open(&second.0).unwrap());
    drop(other);
}

#[test]
fn a_partition_is_a_part_of_what_its_disk_stands_on() {
    let directory = rig::directory();
    let file = image(&directory, "image");
    let table = "label: dos\nstart=2048, size=8192\nstart=10240, size=8192\n";
    let made = Command::new("sh")
        .args(["-c", &format!("printf '{table}' | sfdisk -q \"$0\"")])
        .arg(&file)
        .status();
    if !made.is_ok_and(|made| made.success()) {
        eprintln!("skipped: no partition table can be made here");
        return;
    }
    let Some(disk) = Loop::over(&file, &[]) else {
        return;
    };
    // Told to the kernel one by one, which may not know this kind of table.
    let _ = Command::new("partx")
        .arg("-a")
        .arg(&disk.0)
        .stderr(Stdio::null())
        .status();
    let partition = |number: u32| PathBuf::from(format!("{}p{number}", disk.0.display()));
    let (first, second) = (partition(1), partition(2));
    if !first.exists() || !second.exists() {
        eprintln!("skipped: partitions of loop devices do not show here");
        return;
    }
    let over = Loop::over(&file, &[]).unwrap();
    exclude_each_other(&[&file, &first]);
    exclude_each_other(&[&disk.0, &first]);
    exclude_each_other(&[&over.0, &first]);
    let on_it = Loop::over(&first, &[]).unwrap();
    exclude_each_other(&[&file, &first, &on_it.0]);
    // The same stretch of the disk without the kernel's partition, of which exclusive opening knows nothing.
    let stretch = Loop::over(&disk.0, &["--offset", "1048576", "--sizelimit", "4194304"]).unwrap();
    exclude_each_other(&[&stretch.0, &first]);
    let other = Other::with(&first);
    drop(open(&second).unwrap());
    drop(other);
    let other = Other::with(&stretch.0);
    drop(open(&second).unwrap());
    drop(other);
}

/// Whether QEMU would find a file or device in use: it asks for the bytes that say so, from 100 and from 200 on.
fn is_kept_from_qemu(path: &Path) -> bool {
    let file = fs::File::open(path).unwrap();
    let held = |start: libc::off_t| {
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: start,
            l_len: 4,
            l_pid: 0,
        };
        // SAFETY: F_OFD_GETLK reads and writes one `struct flock`, and takes no lock.
        let failed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
        assert_eq!(failed, 0);
        lock.l_type != libc::F_UNLCK as libc::c_short
    };
    // Both are let go, one after the other.
    rig::until(|| held(100) == held(200));
    held(100)
}

#[test]
fn what_lies_under_a_device_is_kept_from_qemu_too_as_long_as_one_part_is_open() {
    let directory = rig::directory();
    let file = image(&directory, "image");
    let Some(whole) = Loop::over(&file, &[]) else {
        return;
    };
    // Told of no use: what we have ourselves, once more beneath it, is none.
    let opened = open(&whole.0).unwrap();
    assert_eq!(
        (opened.uses().unwrap(), opened.open_to_qemu()),
        (Vec::new(), None)
    );
    assert!(is_kept_from_qemu(&whole.0) && is_kept_from_qemu(&file));
    drop(opened);
    rig::until(|| !is_kept_from_qemu(&whole.0) && !is_kept_from_qemu(&file));
    drop(whole);

    // The first of them begins where the bytes lie that both take.
    let part = |offset: &str, limit: &str| Loop::over(&file, &["--offset", offset, "--sizelimit", limit]);
    let first = part("0", "4194304").unwrap();
    let second = part("4194304", "4194304").unwrap();
    for ways in [[&first.0, &second.0], [&second.0, &first.0]] {
        let [one, other] = ways.map(|path| Other::with(path));
        assert!(is_kept_from_qemu(&file));
        drop(one);
        rig::until(|| !is_kept_from_qemu(ways[0]));
        assert!(is_kept_from_qemu(&file), "one part is open");
        // The first one again, beside the other.
        drop(open(ways[0]).unwrap());
        drop(other);
        rig::until(|| !is_kept_from_qemu(&file));
    }
}

#[test]
fn a_device_is_refused_while_qemu_writes_to_what_lies_under_it() {
    let directory = rig::directory();
    let file = image(&directory, "image");
    let (Some(whole), Some(part)) = (
        Loop::over(&file, &[]),
        Loop::over(&file, &["--offset", "1048576"]),
    ) else {
        return;
    };
    let held = Command::new("qemu-io")
        .args(["-f", "raw"])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    let Ok(mut held) = held else {
        eprintln!("skipped: there is no qemu-io here");
        return;
    };
    rig::until(|| is_locked_by_qemu(&file));
    for way in [&whole.0, &part.0] {
        let error = open(way).unwrap_err();
        let is_it = |error: &OpenError| matches!(error, OpenError::HeldByQemu { writes: true, holder: Some(holder), .. } if holder.process == held.id());
        assert!(
            matches!(&error, OpenError::Beneath { source, .. } if is_it(source)),
            "{error}"
        );
    }
    held.kill().unwrap();
    held.wait().unwrap();
    rig::until(|| [&whole.0, &part.0].into_iter().all(|way| open(way).is_ok()));
}

/// Whether anybody has the byte locked that says that he writes.
fn is_locked_by_qemu(path: &Path) -> bool {
    let inode = format!(":{}", fs::metadata(path).unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks
        .lines()
        .any(|line| line.contains(&format!("{inode} 100 101")))
}

#[test]
fn a_file_that_cannot_be_reached_is_not_taken() {
    let directory = rig::directory();
    let file = image(&directory, "image");
    let Some(over) = Loop::over(&file, &[]) else {
        return;
    };
    let refused = || {
        let error = open(&over.0).unwrap_err();
        assert!(
            matches!(&error, OpenError::Beneath { source, .. } if matches!(**source, OpenError::OtherMedium { .. })),
            "{error}"
        );
    };
    drop(open(&over.0).unwrap());
    // By another name of its own the kernel follows it.
    let aside = directory.path().join("aside");
    fs::rename(&file, &aside).unwrap();
    drop(open(&over.0).unwrap());
    fs::hard_link(&aside, directory.path().join("second name")).unwrap();
    fs::remove_file(&aside).unwrap();
    refused();
    image(&directory, "aside");
    refused();
}

#[test]
fn what_uses_the_file_uses_the_loop_device() {
    let directory = rig::directory();
    let file = image(&directory, "image");
    let Some(over) = Loop::over(&file, &[]) else {
        return;
    };
    assert_eq!(open(&over.0).unwrap().uses().unwrap(), []);
    let second = Loop::over(&file, &[]).unwrap();
    let device = second.name();
    assert_eq!(open(&over.0).unwrap().uses().unwrap(), [Use::Loop { device }]);
    let third = Loop::over(&over.0, &[]).unwrap();
    let device = second.name();
    assert_eq!(open(&third.0).unwrap().uses().unwrap(), [Use::Loop { device }]);
}

/// The kernel numbers loop devices anew at each boot; the file under one stays the same, and the place in it.
#[test]
fn a_loop_device_tells_the_file_that_it_stands_on() {
    let directory = rig::directory();
    let path = image(&directory, "image");
    let (Some(all), Some(part)) = (Loop::over(&path, &[]), Loop::over(&path, &["-o", "1048576"])) else {
        return;
    };
    let of = |path: &Path| Identity::of(&fs::File::open(path).unwrap()).unwrap();
    let Identity::File(file) = of(&path) else {
        panic!("it is a file");
    };
    for (device, offset) in [(&all, 0), (&part, MIB)] {
        let Identity::Block(block) = of(&device.0) else {
            panic!("it is a block device");
        };
        let backing = block.backing.unwrap();
        assert_eq!((backing.file, backing.offset), (file, offset));
    }
}

/// Somebody who sets a device up has it for himself meanwhile, and is refused where another has claimed it: what is not the
/// medium that was meant is left alone, whoever has it.
#[test]
fn a_device_that_was_not_meant_is_looked_at_without_a_claim() {
    let directory = rig::directory();
    let Some(device) = Loop::over(&image(&directory, "image"), &[]) else {
        return;
    };
    let claimed = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(&device.0)
        .unwrap();
    let spec = DeviceSpec {
        medium: DeviceMedium::Block {
            path: device.0.clone(),
        },
        block_bytes: 512,
        read_only: false,
    };
    let refused = |_: &Identity| Err("it is another".to_owned());
    let opened = Opened::open_checked(&spec, Duration::ZERO, &refused);
    assert!(matches!(opened, Err(OpenError::OtherMedium { .. })), "{opened:?}");
    assert!(matches!(open(&device.0), Err(OpenError::InUse { .. })));
    drop(claimed);
    open(&device.0).unwrap();
}

#[test]
fn a_device_without_a_medium_is_looked_at_without_a_claim() {
    let directory = rig::directory();
    let path = directory.path().join("nothing");
    fs::File::create_new(&path).unwrap();
    let Some(device) = Loop::over(&path, &[]) else {
        return;
    };
    let _claimed = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(&device.0)
        .unwrap();
    let opened = open(&device.0);
    assert!(matches!(opened, Err(OpenError::Empty { .. })), "{opened:?}");
}
