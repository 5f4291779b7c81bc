//! Block devices: loop devices over files of our own. Skipped, and said so, where they cannot be made.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{DeviceKind, Fault, Op};
use palisade_sys::device::probe::{Content, probe};
use palisade_sys::device::usage::{Use, uses};
use palisade_sys::device::{Create, DeviceMedium, DeviceSpec, Holder, identity};
use palisade_sys::{OpenError, Opened};
use palisade_words::Sectors;
use rig::{Buffer, DEVICE, MIB, Rig};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A loop device and the file under it.
struct Loop {
    directory: TempDir,
    device: PathBuf,
    mounted: bool,
}

impl Loop {
    fn new(bytes: u64, sector_bytes: u32) -> Option<Loop> {
        let directory = rig::directory();
        let file = directory.path().join("image");
        fs::File::create_new(&file).unwrap().set_len(bytes).unwrap();
        let sector = sector_bytes.to_string();
        let made = Command::new("losetup")
            .args(["-f", "--show", "-b", &sector])
            .arg(&file)
            .output();
        match made {
            Ok(made) if made.status.success() => {
                let device = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
                Some(Loop {
                    directory,
                    device,
                    mounted: false,
                })
            }
            _ => {
                eprintln!("skipped: no loop device can be made here");
                None
            }
        }
    }

    fn spec(&self, block_bytes: u32) -> DeviceSpec {
        let medium = DeviceMedium::Block {
            path: self.device.clone(),
        };
        DeviceSpec {
            medium,
            block_bytes,
            read_only: false,
        }
    }

    fn open(&self, block_bytes: u32) -> Result<Opened, OpenError> {
        Opened::open(&self.spec(block_bytes), Duration::from_secs(5))
    }

    /// Makes a file system on it and mounts that.
    fn mount(&mut self) -> PathBuf {
        self.mount_as("ext4").unwrap()
    }

    /// The same of a kind; `None` where its tools or the kernel's part are not there.
    fn mount_as(&mut self, kind: &str) -> Option<PathBuf> {
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let made = Command::new(format!("mkfs.{kind}"))
            .arg("-q")
            .arg(&self.device)
            .status();
        if !known.contains(kind) || !made.is_ok_and(|made| made.success()) {
            eprintln!("skipped: no {kind} can be made or mounted here");
            return None;
        }
        let at = self.directory.path().join("mounted");
        fs::create_dir(&at).unwrap();
        run("mount", &[&self.device, &at]);
        self.mounted = true;
        Some(at)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if self.mounted {
            // What was taken apart before lets go of its files at its own pace: a loop device, a disk's process.
            let at = self.directory.path().join("mounted");
            let patience = Instant::now() + Duration::from_secs(20);
            while !Command::new("umount").arg(&at).status().unwrap().success() {
                assert!(Instant::now() < patience, "{} stays in use", at.display());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        run("losetup", &["-d".as_ref(), &self.device]);
    }
}

fn run(program: &str, arguments: &[&Path]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

#[test]
fn a_loop_device_is_given_whole_blocks_and_not_tried() {
    let Some(device) = Loop::new(16 * MIB, 4096) else {
        return;
    };
    let opened = device.open(4096).unwrap();
    assert_eq!(opened.limits().memory_alignment, 4096);
    assert_eq!(opened.limits().length_alignment, 4096);
}

#[test]
fn a_block_device_keeps_zeroes_and_discards() {
    for block_bytes in [512, 4096] {
        let Some(disk) = Loop::new(8 * MIB, block_bytes) else {
            return;
        };
        let opened = Arc::new(disk.open(block_bytes).unwrap());
        let limits = opened.limits();
        assert_eq!(
            (limits.kind, limits.sectors),
            (DeviceKind::Block, Sectors(8 * MIB / 512))
        );
        assert!(limits.discard && limits.write_zeroes);
        let known_as = disk.device.file_name().unwrap().to_string_lossy();
        let told = fs::read_to_string(format!("/sys/class/block/{known_as}/queue/discard_granularity"));
        let told: u32 = told.unwrap().trim().parse().unwrap();
        assert_eq!(limits.discard_granularity, told);
        let mut rig = Rig::new(opened);
        rig::keeps_and_zeroes(&mut rig);
        let buffer = Buffer::new(4 << 20);
        rig.on(&buffer);
        let allocated = || {
            fs::metadata(disk.directory.path().join("image"))
                .unwrap()
                .blocks()
                * 512
        };
        assert_eq!(rig.write(4 * MIB, &[buffer.segment(0, 4 << 20)]), Ok(()));
        let before = allocated();
        assert_eq!(rig.run(Op::Discard, 4 * MIB, 4 * MIB, &[]), Ok(()));
        assert_eq!(rig.run(Op::Flush, 0, 0, &[]), Ok(()));
        assert!(
            allocated() + 4 * MIB <= before,
            "discard reaches the file under the loop device"
        );
        rig.devices.remove_device(DEVICE);
    }
}

#[test]
fn blocks_smaller_than_the_disks_own_are_refused() {
    let Some(disk) = Loop::new(MIB, 4096) else {
        return;
    };
    let error = disk.open(512).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::BlockTooSmall {
                asked: 512,
                device: 4096,
                ..
            }
        ),
        "{error}"
    );
    let error = disk.open(4096).unwrap();
    assert_eq!(error.limits().block_bytes, 4096);
}

#[test]
fn a_disk_in_use_is_refused_with_its_use() {
    let Some(mut disk) = Loop::new(16 * MIB, 512) else {
        return;
    };
    assert!(uses(&disk.device).unwrap().is_empty());
    let first = disk.open(512).unwrap();
    let error = Opened::open(&disk.spec(512), Duration::from_millis(60)).unwrap_err();
    let ours = Some(Holder::Running(std::process::id()));
    assert!(
        matches!(&error, OpenError::Locked { holder, .. } if *holder == ours),
        "{error}"
    );
    drop(first);
    let at = disk.mount();
    let error = disk.open(512).unwrap_err();
    let OpenError::InUse { uses, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        matches!(&uses[..], [Use::Mounted { at: place, .. }] if *place == at),
        "{error}"
    );
}

#[test]
fn a_file_system_is_recognised_and_the_disk_named() {
    let Some(disk) = Loop::new(16 * MIB, 512) else {
        return;
    };
    assert_eq!(probe(&disk.open(512).unwrap()).unwrap(), Content::Blank);
    run("mkfs.ext4", &["-q".as_ref(), &disk.device]);
    assert_eq!(
        probe(&disk.open(512).unwrap()).unwrap(),
        Content::Filesystem { kind: "ext2/3/4" }
    );
    let identity = identity::identity(&disk.device).unwrap();
    assert_eq!(
        Some(identity.kernel_name.as_str()),
        disk.device.file_name().unwrap().to_str()
    );
    assert_eq!(identity.partition, None);
}

#[test]
fn a_full_file_system_is_no_space_and_recovers() {
    let Some(mut disk) = Loop::new(16 * MIB, 512) else {
        return;
    };
    let path = disk.mount().join("sparse");
    let create = Some(Create {
        bytes: 64 * MIB,
        sparse: true,
    });
    let mut rig = Rig::new(rig::open(DeviceMedium::File { path, create }, 4096));
    let mut buffer = Buffer::new(1 << 20);
    rig.on(&buffer);
    buffer.fill(0, 1 << 20, 9);
    let full = (0..64).find_map(|at| rig.write(at * MIB, &[buffer.segment(0, 1 << 20)]).err());
    assert_eq!(full, Some(Fault::NoSpace));
    assert_eq!(rig.run(Op::Discard, 0, 4 * MIB, &[]), Ok(()));
    assert_eq!(rig.write(0, &[buffer.segment(0, 1 << 20)]), Ok(()));
    rig.devices.remove_device(DEVICE);
}

/// Whatever is there is forgotten although nothing can be written, and the space of what is cleared is there at once.
#[test]
fn a_file_with_holes_on_a_full_file_system_is_erased_and_gives_space_back() {
    let Some(mut disk) = Loop::new(32 * MIB, 512) else {
        return;
    };
    let at = disk.mount();
    let make = |name: &str, mib: u64, sparse| {
        let bytes = mib * MIB;
        let create = Some(Create { bytes, sparse });
        let path = at.join(name);
        (path.clone(), rig::open(DeviceMedium::File { path, create }, 512))
    };
    let (whole, kept) = make("kept", 4, false);
    let (path, sparse) = make("sparse", 64, true);
    sparse.write_at(4096, &vec![1; 8 << 20]).unwrap();
    sparse.write_at(33 * MIB + 512, &[1; 512]).unwrap();
    sparse.sync().unwrap();
    let fill = fs::File::create(at.join("fill")).unwrap();
    for bytes in [1 << 20, 4096, 512] {
        while std::os::unix::fs::FileExt::write_all_at(&fill, &vec![1; bytes], fill.metadata().unwrap().len())
            .is_ok()
        {}
        let _ = fill.sync_all();
    }
    let no_room = || {
        sparse
            .write_at(50 * MIB, &[1; 4096])
            .map_err(|error| error.kind())
    };
    assert_eq!(no_room(), Err(std::io::ErrorKind::StorageFull));
    // A hole, the middle of data, a sector alone, and both ends.
    for (from, bytes) in [
        (50 * MIB, MIB),
        (MIB, 512),
        (33 * MIB, 4096),
        (0, 8192),
        (63 * MIB, MIB),
    ] {
        sparse.erase_at(from, bytes).unwrap();
        sparse.sync().unwrap();
        let mut found = vec![1; bytes as usize];
        sparse.read_at(from, &mut found).unwrap();
        assert!(found.iter().all(|byte| *byte == 0), "{from}+{bytes}");
    }
    // A file that keeps its space is written to as before, and nobody else has had it.
    let before = fs::metadata(&whole).unwrap().blocks();
    kept.write_at(0, &vec![1; 4 << 20]).unwrap();
    kept.clear(0, 4 * MIB).unwrap();
    kept.write_at(0, &vec![1; 4 << 20]).unwrap();
    assert_eq!(fs::metadata(&whole).unwrap().blocks(), before);
    let before = fs::metadata(&path).unwrap().blocks() * 512;
    sparse.clear(2 * MIB, 3 * MIB).unwrap();
    let after = fs::metadata(&path).unwrap().blocks() * 512;
    assert!(after + 3 * MIB <= before, "{before} {after}");
    sparse.wipe().unwrap();
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < MIB);
    sparse.write_at(50 * MIB, &vec![1; 4 << 20]).unwrap();
    sparse.sync().unwrap();
}

#[test]
fn a_file_grows_as_it_was_made_or_stays_as_it_was() {
    let Some(mut disk) = Loop::new(64 * MIB, 512) else {
        return;
    };
    let at = disk.mount();
    let make = |name: &str, sparse| {
        let create = Some(Create {
            bytes: 8 * MIB,
            sparse,
        });
        let path = at.join(name);
        let opened = rig::open(
            DeviceMedium::File {
                path: path.clone(),
                create,
            },
            4096,
        );
        (path, opened)
    };
    let allocated = |path: &Path| fs::metadata(path).unwrap().blocks() * 512;
    let (whole, opened) = make("whole", false);
    opened.grow(16 * MIB, false).unwrap();
    assert!(allocated(&whole) >= 16 * MIB);
    assert_eq!(opened.refresh_size().unwrap(), Sectors(16 * MIB / 512));
    // More than the file system has: told, and nothing has changed. Twice, as the second finds what the first has left.
    for bytes in [1 << 30, 60 * MIB] {
        let before = allocated(&whole);
        let error = opened.grow(bytes, false).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
        assert_eq!(
            (fs::metadata(&whole).unwrap().len(), allocated(&whole)),
            (16 * MIB, before)
        );
    }
    // Never shorter.
    opened.grow(8 * MIB, false).unwrap();
    assert_eq!(fs::metadata(&whole).unwrap().len(), 16 * MIB);
    let (sparse, opened) = make("sparse", true);
    opened.grow(1 << 30, true).unwrap();
    assert_eq!(fs::metadata(&sparse).unwrap().len(), 1 << 30);
    assert!(allocated(&sparse) < MIB);
    assert!(
        rig::open(DeviceMedium::Null { bytes: MIB }, 512)
            .grow(2 * MIB, true)
            .is_err()
    );
}

#[test]
fn a_new_file_on_btrfs_is_written_in_place_and_another_is_told_from_it() {
    let Some(mut disk) = Loop::new(128 * MIB, 512) else {
        return;
    };
    let Some(at) = disk.mount_as("btrfs") else {
        return;
    };
    let path = at.join("ours");
    let create = Some(Create {
        bytes: 8 * MIB,
        sparse: false,
    });
    let ours = rig::open(DeviceMedium::File { path, create }, 4096);
    let seen = |opened: &Opened| opened.look().unwrap().unwrap().file.unwrap();
    assert!(seen(&ours).filesystem.is_btrfs());
    assert_eq!(seen(&ours).nocow, Some(true));
    let path = at.join("theirs");
    fs::write(&path, vec![1; 1 << 20]).unwrap();
    let theirs = rig::open(DeviceMedium::File { path, create: None }, 4096);
    assert_eq!(seen(&theirs).nocow, Some(false));
}

/// A file of 32 MiB that has all its space, on a file system of a kind that is full, mounted under `at`.
fn reserved_on_a_full(at: &Path) -> (PathBuf, Arc<Opened>) {
    let path = at.join("reserved");
    let create = Some(Create {
        bytes: 32 * MIB,
        sparse: false,
    });
    let medium = DeviceMedium::File {
        path: path.clone(),
        create,
    };
    let opened = rig::open(medium, 4096);
    assert!(opened.keeps_space());
    (path, opened)
}

fn fill_up(at: &Path) {
    let zeros = vec![0; 1 << 20];
    let mut filler = fs::File::create(at.join("filler")).unwrap();
    for bytes in [1 << 20, 4096] {
        while std::io::Write::write_all(&mut filler, &zeros[..bytes]).is_ok() {}
        // What the file system could not write shows here.
        let _ = filler.sync_all();
    }
}

/// A guest writes zeros and discards on a full file system, and the volume is cleared; then it writes everywhere. The file
/// has its space throughout.
#[test]
fn a_reserved_file_on_a_full_file_system_can_be_zeroed_and_written_again() {
    for (kind, bytes) in [("ext4", 128 * MIB), ("xfs", 320 * MIB), ("btrfs", 256 * MIB)] {
        let Some(mut disk) = Loop::new(bytes, 512) else {
            return;
        };
        let Some(at) = disk.mount_as(kind) else {
            continue;
        };
        let (path, opened) = reserved_on_a_full(&at);
        let mut buffer = Buffer::new(4 << 20);
        {
            let mut rig = Rig::new(Arc::clone(&opened));
            rig.on(&buffer);
            buffer.fill(0, 4 << 20, 5);
            for part in 0..8 {
                assert_eq!(
                    rig.write(part * 4 * MIB, &[buffer.segment(0, 4 << 20)]),
                    Ok(()),
                    "{kind}"
                );
            }
            opened.sync().unwrap();
            fill_up(&at);
            let allocated = || fs::metadata(&path).unwrap().blocks() * 512;
            let before = allocated();
            assert!(before >= 32 * MIB, "{kind}: {before}");
            // What cannot be done without new space is "not offered": the engine answers a discard, and writes the zeros.
            for (op, part) in [
                (Op::Discard, 0),
                (Op::WriteZeroes { unmap: true }, 1),
                (Op::WriteZeroes { unmap: false }, 2),
            ] {
                let done = rig.run(op, part * 4 * MIB, 4 * MIB, &[]);
                assert!(
                    matches!(done, Ok(()) | Err(Fault::Unsupported)),
                    "{kind}, {op:?}: {done:?}"
                );
            }
            opened.clear(12 * MIB, 4 * MIB).unwrap();
            opened.erase_at(16 * MIB, MIB).unwrap();
            opened.sync().unwrap();
            assert_eq!(rig.read(12 * MIB, &[buffer.segment(0, 4 << 20)]), Ok(()));
            assert!(buffer.slice().iter().all(|byte| *byte == 0), "{kind}");
            assert!(allocated() >= before, "{kind}: {} of {before}", allocated());
            buffer.fill(0, 4 << 20, 9);
            for part in 0..8 {
                assert_eq!(
                    rig.write(part * 4 * MIB, &[buffer.segment(0, 4 << 20)]),
                    Ok(()),
                    "{kind}"
                );
            }
        }
        // The file system is given back before its device is.
        drop(opened);
    }
}

/// A subvolume of btrfs has a device number of its own, which no block device has; a copy that shares its extents (reflink)
/// is another file all the same.
#[test]
fn a_file_on_a_subvolume_is_known_as_the_same_medium_and_its_holder_is_told() {
    let Some(mut disk) = Loop::new(256 * MIB, 512) else {
        return;
    };
    let Some(at) = disk.mount_as("btrfs") else {
        return;
    };
    let subvolume = at.join("sub");
    run(
        "btrfs",
        &["-q".as_ref(), "subvolume".as_ref(), "create".as_ref(), &subvolume],
    );
    let path = subvolume.join("disk");
    fs::write(&path, vec![3; 16 << 20]).unwrap();
    let copy = subvolume.join("copy");
    run("cp", &["--reflink=always".as_ref(), &path, &copy]);
    let other = subvolume.join("hard");
    fs::hard_link(&path, &other).unwrap();
    let medium = |path: &Path| DeviceMedium::File {
        path: path.into(),
        create: None,
    };
    let spec = |path: &Path| DeviceSpec {
        medium: medium(path),
        block_bytes: 4096,
        read_only: false,
    };
    let opened = Opened::open(&spec(&path), Duration::ZERO).unwrap();
    assert!(opened.is_at(&path).unwrap() && opened.is_at(&other).unwrap());
    assert!(!opened.is_at(&copy).unwrap());
    // Both subvolumes share the room of their file system.
    let top = at.join("top");
    fs::write(&top, vec![3; 1 << 20]).unwrap();
    let shares = |opened: &Opened| opened.look().unwrap().unwrap().file.unwrap().device;
    let top_device = fs::metadata(&top).unwrap().dev();
    assert_ne!(top_device, fs::metadata(&path).unwrap().dev());
    let top = Opened::open(&spec(&top), Duration::ZERO).unwrap();
    assert_eq!(shares(&opened), shares(&top));
    // Its other name is the same file, and whoever has it is named; the copy is free.
    let Err(OpenError::Locked { holder, .. }) = Opened::open(&spec(&other), Duration::ZERO) else {
        panic!("the same file under another name")
    };
    assert_eq!(holder, Some(Holder::Running(std::process::id())));
    drop(Opened::open(&spec(&copy), Duration::ZERO).unwrap());
    // A loop device over it is the file.
    let made = Command::new("losetup")
        .args(["-f", "--show"])
        .arg(&path)
        .output()
        .unwrap();
    let device = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
    let of = |path: &Path| palisade_sys::device::underlay::Underlay::of(path).unwrap();
    let meets = [of(&path), of(&other), of(&copy)].map(|under| under.meets(&of(&device)));
    let on_device = of(&disk.device).meets(&of(&path));
    let block = DeviceSpec {
        medium: DeviceMedium::Block { path: device.clone() },
        block_bytes: 4096,
        read_only: false,
    };
    let held = Opened::open(&block, Duration::ZERO);
    drop(opened);
    let free = Opened::open(&block, Duration::from_secs(5)).map(drop);
    run("losetup", &["-d".as_ref(), &device]);
    assert_eq!(meets, [true, true, false]);
    let Err(OpenError::Beneath { source, .. }) = held else {
        panic!("{held:?}")
    };
    assert!(
        matches!(
            *source,
            OpenError::Locked {
                holder: Some(Holder::Running(_)),
                ..
            }
        ),
        "{source:?}"
    );
    assert!(free.is_ok(), "{free:?}");
    assert!(on_device, "the device under the file system is under the file");
}

#[test]
fn what_happens_to_a_file_under_us_is_seen() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 4096);
    let look = || opened.look().unwrap().unwrap();
    let file = look().file.unwrap();
    assert_eq!((look().bytes, look().gone, file.links), (MIB, false, 1));
    assert!(file.allocated >= MIB && !file.filesystem.read_only && file.nocow.is_none());
    assert!(opened.is_at(&path).unwrap());
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(4096)
        .unwrap();
    assert_eq!(look().bytes, 4096);
    let aside = directory.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    assert!(opened.is_at(&path).is_err() && opened.is_at(&aside).unwrap());
    fs::write(&path, b"another").unwrap();
    assert!(!opened.is_at(&path).unwrap());
    fs::remove_file(&aside).unwrap();
    assert_eq!(look().file.unwrap().links, 0);
    assert_eq!(
        rig::open(DeviceMedium::Null { bytes: MIB }, 512).look().unwrap(),
        None
    );
}

#[test]
fn a_file_under_a_loop_device_is_in_use_and_so_is_what_is_mounted_there() {
    let Some(mut under) = Loop::new(64 * MIB, 512) else {
        return;
    };
    let device = under.device.file_name().unwrap().to_str().unwrap().to_owned();
    let at = under.mount();
    let image = DeviceSpec {
        medium: DeviceMedium::File {
            path: under.directory.path().join("image"),
            create: None,
        },
        block_bytes: 512,
        read_only: false,
    };
    let opened = Opened::open(&image, Duration::from_secs(5)).unwrap();
    let on = Use::Loop {
        device: device.clone(),
    };
    assert_eq!(opened.uses().unwrap(), [on, Use::Mounted { device, at }]);
    drop(opened);
    drop(under);
    let free = rig::directory();
    let path = free.path().join("free");
    fs::File::create_new(&path).unwrap().set_len(16 * MIB).unwrap();
    let medium = DeviceMedium::File { path, create: None };
    let opened = Opened::open(&DeviceSpec { medium, ..image }, Duration::from_secs(5)).unwrap();
    assert_eq!(opened.uses().unwrap(), []);
}

#[test]
fn a_block_device_that_takes_no_writes_says_so() {
    let Some(device) = Loop::new(16 * MIB, 512) else {
        return;
    };
    assert!(!device.open(512).unwrap().is_read_only().unwrap());
    run("blockdev", &["--setro".as_ref(), &device.device]);
    // Later kernels may refuse to open it for writing, which says it as well.
    match device.open(512) {
        Ok(opened) => assert!(opened.is_read_only().unwrap()),
        Err(error) => assert!(error.to_string().contains("may only be read"), "{error}"),
    }
    run("blockdev", &["--setrw".as_ref(), &device.device]);
}

/// One that was read-only before it was opened is read as ever, takes no change, shows what it is at each look, and heals as
/// it is.
#[test]
fn a_device_that_was_read_only_before_heals_without_being_opened_anew() {
    let Some(device) = Loop::new(16 * MIB, 512) else {
        return;
    };
    run("blockdev", &["--setro".as_ref(), &device.device]);
    let Ok(opened) = device.open(512) else {
        run("blockdev", &["--setrw".as_ref(), &device.device]);
        return;
    };
    let opened = Arc::new(opened);
    let mut rig = Rig::new(Arc::clone(&opened));
    let buffer = Buffer::new(4096);
    rig.on(&buffer);
    let shows = || opened.look().unwrap().unwrap().read_only;
    assert!(shows());
    assert_eq!(rig.read(0, &[buffer.segment(0, 4096)]), Ok(()));
    let refused = rig.write(0, &[buffer.segment(0, 4096)]);
    assert!(
        matches!(refused, Err(Fault::Denied | Fault::ReadOnly)),
        "{refused:?}"
    );
    run("blockdev", &["--setrw".as_ref(), &device.device]);
    assert!(!shows());
    assert_eq!(rig.write(0, &[buffer.segment(0, 4096)]), Ok(()));
    rig.devices.remove_device(DEVICE);
}

/// What is answered well is on the medium, also on one that is made read-only under us: changes are refused from then on,
/// and a flush only speaks of those before.
#[test]
fn a_device_that_becomes_read_only_under_us_refuses_changes() {
    let Some(device) = Loop::new(16 * MIB, 512) else {
        return;
    };
    let mut rig = Rig::new(Arc::new(device.open(512).unwrap()));
    let mut buffer = Buffer::new(8192);
    rig.on(&buffer);
    buffer.fill(0, 4096, 1);
    assert_eq!(rig.write(0, &[buffer.segment(0, 4096)]), Ok(()));
    run("blockdev", &["--setro".as_ref(), &device.device]);
    buffer.fill(0, 4096, 2);
    let changes = [
        rig.write(0, &[buffer.segment(0, 4096)]),
        rig.write(MIB, &[buffer.segment(0, 4096)]),
        rig.run(Op::WriteZeroes { unmap: false }, 0, 4096, &[]),
        rig.run(Op::WriteZeroes { unmap: true }, 0, 4096, &[]),
        rig.run(Op::Discard, 0, MIB, &[]),
    ];
    for change in changes {
        assert!(
            matches!(change, Err(Fault::Denied | Fault::ReadOnly)),
            "{changes:?}"
        );
    }
    assert_eq!(rig.run(Op::Flush, 0, 0, &[]), Ok(()));
    assert_eq!(rig.read(0, &[buffer.segment(4096, 4096)]), Ok(()));
    assert!(
        buffer.holds(4096, 4096, 1),
        "what was acknowledged is there, and nothing else"
    );
    run("blockdev", &["--setrw".as_ref(), &device.device]);
    assert_eq!(rig.write(0, &[buffer.segment(0, 4096)]), Ok(()));
    rig.devices.remove_device(DEVICE);
}
