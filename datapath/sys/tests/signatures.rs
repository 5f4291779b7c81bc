//! What other programs put on a disk: made by those programs, found by our probe, and gone after a wipe, with util-linux'
//! `wipefs` and `blkid` as the judges. What is not installed is skipped, and said so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_sys::Opened;
use palisade_sys::device::probe::{Content, partitions, probe};
use palisade_sys::device::{DeviceMedium, DeviceSpec};
use rig::MIB;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const BYTES: u64 = 320 * MIB;

/// A kind, the command that makes it (`{}` is the image), what it is told on its standard input, and what our probe
/// calls it.
type Maker = (
    &'static str,
    &'static [&'static str],
    &'static str,
    fn(&Content) -> bool,
);

fn is_fs(content: &Content) -> bool {
    matches!(content, Content::Filesystem { .. })
}

const MAKERS: &[Maker] = &[
    ("ext4", &["mkfs.ext4", "-q", "{}"], "", is_fs),
    (
        "ext2 with blocks of 1 KiB",
        &["mkfs.ext2", "-q", "-b", "1024", "{}"],
        "",
        is_fs,
    ),
    ("xfs", &["mkfs.xfs", "-q", "-f", "{}"], "", is_fs),
    ("btrfs", &["mkfs.btrfs", "-q", "-f", "{}"], "", is_fs),
    ("vfat", &["mkfs.vfat", "{}"], "", is_fs),
    ("f2fs", &["mkfs.f2fs", "-q", "{}"], "", is_fs),
    ("swap", &["mkswap", "-q", "{}"], "", |content| {
        *content == Content::Swap
    }),
    (
        "luks1",
        &[
            "cryptsetup",
            "luksFormat",
            "-q",
            "--type",
            "luks1",
            "--pbkdf-force-iterations",
            "1000",
            "{}",
            "-",
        ],
        "secret",
        |content| *content == Content::Luks,
    ),
    (
        "luks2",
        &[
            "cryptsetup",
            "luksFormat",
            "-q",
            "--type",
            "luks2",
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
            "{}",
            "-",
        ],
        "secret",
        |content| *content == Content::Luks,
    ),
    ("gpt", &["sfdisk", "-q", "{}"], "label: gpt\n,64M\n", |content| {
        *content == Content::PartitionTable { kind: "gpt" }
    }),
    ("mbr", &["sfdisk", "-q", "{}"], "label: dos\n,64M\n", |content| {
        *content == Content::PartitionTable { kind: "mbr" }
    }),
];

#[test]
fn what_others_make_is_found_and_wiped_as_util_linux_sees_it() {
    let directory = rig::directory();
    let path = directory.path().join("image");
    let mut made = 0;
    for &(kind, command, input, is_it) in MAKERS {
        fresh(&path);
        let command: Vec<_> = command
            .iter()
            .map(|word| word.replace("{}", path.to_str().unwrap()))
            .collect();
        let Some(output) = told(&command, input) else {
            eprintln!("skipped: {kind}, there is no {}", command[0]);
            continue;
        };
        assert!(output.status.success(), "{kind}: {output:?}");
        judge(kind, &path, is_it);
        made += 1;
    }
    assert!(
        made >= 3,
        "ext, swap and partition tables are made by what every Debian has"
    );
}

#[test]
fn partitions_are_those_that_sfdisk_made() {
    let directory = rig::directory();
    let path = directory.path().join("image");
    let made = [
        "label: gpt\n,64M,L,\nstart=256MiB,size=8MiB,name=\"second one\"\n",
        "label: dos\n,64M\n",
    ];
    for label in made {
        fresh(&path);
        let image = path.to_str().unwrap().to_owned();
        let Some(output) = told(&["sfdisk".to_owned(), "-q".to_owned(), image], label) else {
            eprintln!("skipped: there is no sfdisk");
            return;
        };
        assert!(output.status.success(), "{output:?}");
        let found = partitions(&open(&path)).unwrap();
        let places: Vec<_> = found
            .iter()
            .map(|one| {
                (
                    one.number,
                    one.name.as_str(),
                    one.offset_bytes / MIB,
                    one.bytes / MIB,
                )
            })
            .collect();
        let first = (1, "", 1, 64);
        match label.contains("gpt") {
            true => assert_eq!(places, [first, (2, "second one", 256, 8)]),
            false => assert_eq!(places, [first]),
        }
        // Nothing is left of the head: what the end says is shown.
        if label.contains("gpt") {
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[0; 4096], 0).unwrap();
            assert_eq!(partitions(&open(&path)).unwrap(), found);
        }
    }
    fresh(&path);
    assert_eq!(partitions(&open(&path)).unwrap(), []);
}

/// LVM's own tools want a block device.
#[test]
fn a_physical_volume_is_found_and_wiped_as_lvm_sees_it() {
    let directory = rig::directory();
    let path = directory.path().join("image");
    fresh(&path);
    let Some(device) = Loop::over(&path) else {
        eprintln!("skipped: no loop device can be made here");
        return;
    };
    let lvm = |command: &[&str]| {
        // No file of devices, no device mapper: only what lies on the one device.
        let mut words = vec![command[0].to_owned()];
        words.extend(["--config", "devices{use_devicesfile=0 scan_lvs=0}"].map(str::to_owned));
        words.extend(command[1..].iter().map(|&word| word.to_owned()));
        words.push(device.0.clone());
        told(&words, "")
    };
    // One metadata area at the start, one at either end.
    for copies in ["1", "2"] {
        let Some(made) = lvm(&["pvcreate", "-ff", "-y", "--metadatacopies", copies]) else {
            eprintln!("skipped: there is no pvcreate");
            return;
        };
        assert!(made.status.success(), "{made:?}");
        let is_known = || lvm(&["pvck"]).unwrap().status.success();
        assert!(is_known());
        judge("lvm", Path::new(&device.0), |content| *content == Content::Lvm);
        assert!(!is_known(), "pvck finds it again");
    }
}

/// A ZFS in user space, as `ci/guest/hosts zfs` fetches it; gone when this is dropped.
struct Zfs {
    folder: PathBuf,
    daemon: Child,
}

impl Zfs {
    /// `None` where there is none, or where a daemon of somebody else's answers already.
    fn start() -> Option<Zfs> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest/hosts/zfs");
        let daemon = Zfs::command(&folder, "zfs-fuse")
            .args(["--no-daemon", "--no-kstat-mount"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut zfs = Zfs {
            daemon: daemon.ok()?,
            folder,
        };
        for _ in 0..100 {
            if let Ok(Some(_)) = zfs.daemon.try_wait() {
                return None;
            }
            if zfs.run("zpool", &["list"]).status.success() {
                return Some(zfs);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        None
    }

    fn command(folder: &Path, program: &str) -> Command {
        let mut command = Command::new(folder.join("sbin").join(program));
        command.env("LD_LIBRARY_PATH", folder.join("lib/x86_64-linux-gnu"));
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Zfs::command(&self.folder, program);
        command.args(arguments).output().unwrap()
    }

    /// How many of an image's four labels zdb reads.
    fn labels(&self, path: &Path, pool: &str) -> usize {
        let shown = self.run("zdb", &["-l", path.to_str().unwrap()]);
        let name = format!("name: '{pool}'");
        String::from_utf8_lossy(&shown.stdout).matches(&name).count()
    }
}

impl Drop for Zfs {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[test]
fn a_member_of_a_pool_is_found_and_wiped_as_zdb_sees_it() {
    let directory = rig::directory();
    let path = directory.path().join("image");
    let Some(zfs) = Zfs::start() else {
        eprintln!("skipped: ci/guest/hosts zfs has not been run, or another ZFS in user space works here");
        return;
    };
    let pool = format!("palisade-test-{}", std::process::id());
    // Whole, and with nothing left but the two labels at the end.
    for head in [true, false] {
        fresh(&path);
        let image = path.to_str().unwrap();
        for arguments in [
            ["create", "-O", "mountpoint=none", &pool, image].as_slice(),
            &["export", &pool],
        ] {
            let made = zfs.run("zpool", arguments);
            assert!(made.status.success(), "{arguments:?}: {made:?}");
        }
        assert_eq!(zfs.labels(&path, &pool), 4);
        if !head {
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&vec![0; 8 * MIB as usize], 0).unwrap();
            assert_eq!(zfs.labels(&path, &pool), 2);
        }
        judge("zfs", &path, |content| *content == Content::Zfs);
        assert_eq!(zfs.labels(&path, &pool), 0, "zdb finds it again");
    }
}

/// mdadm makes an array with the kernel's driver only, which a test machine may lack; so the superblocks are made here,
/// sound to mdadm's own eye, and mdadm says whether they are there.
#[test]
fn a_raid_member_is_found_and_wiped_as_mdadm_sees_it() {
    let directory = rig::directory();
    let path = directory.path().join("image");
    let examine = || {
        told(
            &["mdadm", "--examine", path.to_str().unwrap()].map(str::to_owned),
            "",
        )
    };
    let is_md: fn(&Content) -> bool = |content| *content == Content::Md;
    let places = [
        ("1.0", BYTES - 8192),
        ("1.1", 0),
        ("1.2", 4096),
        ("0.90", BYTES - 65536),
    ];
    for (version, place) in places {
        fresh(&path);
        let superblock = match version {
            "0.90" => md_0_90(),
            _ => md_1(place / 512),
        };
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&superblock, place).unwrap();
        drop(file);
        let Some(before) = examine() else {
            eprintln!("skipped: there is no mdadm");
            return;
        };
        let words = String::from_utf8_lossy(&before.stdout).into_owned();
        assert!(
            before.status.success() && words.contains("correct"),
            "{version}: {before:?}"
        );
        judge(version, &path, is_md);
        assert!(
            !examine().unwrap().status.success(),
            "{version}: mdadm finds it again"
        );
    }
}

/// A superblock of version 1 of one member of a mirror of two (linux/raid/md_p.h, `mdp_superblock_1`).
fn md_1(super_sector: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &0xa92b_4efc_u32.to_le_bytes());
    put(4, &1_u32.to_le_bytes());
    // The set's uuid and name, level 1, its size in sectors, two disks.
    put(16, &[7; 16]);
    put(32, b"test:0");
    put(72, &1_u32.to_le_bytes());
    put(80, &(200 * MIB / 512).to_le_bytes());
    put(92, &2_u32.to_le_bytes());
    // Data from 16 MiB on, as many sectors; where this superblock lies; the device's uuid.
    put(128, &(16 * MIB / 512).to_le_bytes());
    put(136, &(200 * MIB / 512).to_le_bytes());
    put(144, &super_sector.to_le_bytes());
    put(168, &[9; 16]);
    // At most two roles, ours is the first.
    put(220, &2_u32.to_le_bytes());
    put(256, &[0, 0, 1, 0]);
    // The sum of all words up to the end of the roles, its own left out, folded once.
    let words = bytes[..256 + 4].chunks(4).map(|word| {
        let mut whole = [0; 4];
        whole[..word.len()].copy_from_slice(word);
        u64::from(u32::from_le_bytes(whole))
    });
    let sum: u64 = words.sum();
    let folded = (sum & 0xffff_ffff) as u32;
    let folded = folded.wrapping_add((sum >> 32) as u32);
    bytes[216..220].copy_from_slice(&folded.to_le_bytes());
    bytes
}

/// A superblock of version 0.90 (`mdp_super_t`): words in the machine's order.
fn md_0_90() -> Vec<u8> {
    let mut words = vec![0_u32; 1024];
    let constant = [
        (0, 0xa92b_4efc),
        (1, 0),
        (2, 90),
        (5, 0x0707_0707),
        // Raid level 1, its size in KiB, two disks in it.
        (7, 1),
        (8, 200 << 10),
        (9, 2),
        (10, 2),
        (13, 0x0707_0707),
        (14, 0x0707_0707),
        (15, 0x0707_0707),
        // Clean; two active and working.
        (33, 1),
        (34, 2),
        (35, 2),
    ];
    constant.into_iter().for_each(|(at, value)| words[at] = value);
    let sum: u64 = words.iter().map(|&word| u64::from(word)).sum();
    words[38] = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A loop device, gone when this is dropped.
struct Loop(String);

impl Loop {
    fn over(path: &Path) -> Option<Loop> {
        let made = Command::new("losetup")
            .args(["-f", "--show"])
            .arg(path)
            .output()
            .ok()?;
        let name = String::from_utf8(made.stdout).ok()?.trim().to_owned();
        (made.status.success() && !name.is_empty()).then_some(Loop(name))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

#[test]
fn what_lies_at_the_end_is_found_and_wiped() {
    let directory = rig::directory();
    let path = directory.path().join("image");
    // A superblock of md, versions 0.90 and 1.0 (linux/raid/md_p.h): util-linux asks for the version, the place and, of
    // 0.90, the checksum or the minor version.
    let mut old = vec![0; 4096];
    old[..16].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 0, 0, 0, 0, 90, 0, 0, 0, 0, 0, 0, 0]);
    let mut newer = vec![0; 4096];
    newer[..8].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]);
    newer[144..152].copy_from_slice(&(BYTES / 512 - 16).to_le_bytes());
    // An uberblock ring of ZFS in each of the four labels.
    let mut ring = vec![0; 128 << 10];
    for block in ring.chunks_exact_mut(1024) {
        block[..8].copy_from_slice(&0x00ba_b10c_u64.to_le_bytes());
    }
    let label = 256 << 10;
    let is_md: fn(&Content) -> bool = |content| *content == Content::Md;
    let is_zfs: fn(&Content) -> bool = |content| *content == Content::Zfs;
    type Mark<'a> = (&'a str, &'a [u8], &'a [u64], fn(&Content) -> bool);
    let places: [Mark<'_>; 4] = [
        ("md 0.90", &old, &[BYTES - 65536], is_md),
        ("md 1.0", &newer, &[BYTES - 8192], is_md),
        (
            "zfs",
            &ring,
            &[
                label / 2,
                label + label / 2,
                BYTES - 2 * label + label / 2,
                BYTES - label / 2,
            ],
            is_zfs,
        ),
        (
            "zfs, its end",
            &ring,
            &[BYTES - 2 * label + label / 2, BYTES - label / 2],
            is_zfs,
        ),
    ];
    for (kind, bytes, at, is_it) in places {
        fresh(&path);
        let file = File::options().write(true).open(&path).unwrap();
        at.iter().for_each(|&at| file.write_all_at(bytes, at).unwrap());
        judge(kind, &path, is_it);
    }
}

#[test]
fn a_blank_start_does_not_hide_what_lies_behind_it() {
    let directory = rig::directory();
    let path = directory.path().join("image");
    for (kind, command) in [
        ("ext4", &["mkfs.ext4", "-q"][..]),
        ("ext2", &["mkfs.ext2", "-q", "-b", "1024"]),
        ("xfs", &["mkfs.xfs", "-q", "-f"]),
        ("btrfs", &["mkfs.btrfs", "-q", "-f"]),
        (
            "luks2",
            &[
                "cryptsetup",
                "luksFormat",
                "-q",
                "--pbkdf",
                "pbkdf2",
                "--pbkdf-force-iterations",
                "1000",
            ],
        ),
    ] {
        fresh(&path);
        let mut command: Vec<_> = command.iter().map(|&word| word.to_owned()).collect();
        command.push(path.to_str().unwrap().to_owned());
        if kind == "luks2" {
            command.push("-".to_owned());
        }
        if told(&command, "secret").is_none_or(|output| !output.status.success()) {
            eprintln!("skipped: {kind}, there is no {}", command[0]);
            continue;
        }
        // What `dd if=/dev/zero count=...` leaves: all that is known by its place at the start is gone.
        let start = if kind == "luks2" { 16 << 10 } else { 8 * MIB };
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all_at(&vec![0; start as usize], 0)
            .unwrap();
        let found = probe(&open(&path)).unwrap();
        assert_ne!(found, Content::Blank, "{kind}");
        eprintln!("{kind} with a blank start: {found}");
    }
    // Data of no kind, a single block of it, anywhere in a file.
    fresh(&path);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[7; 4096], 77 * MIB + 12345 * 512).unwrap();
    assert_eq!(probe(&open(&path)).unwrap(), Content::Unknown);
}

/// Our probe knows what is on the image, and after a wipe neither it nor util-linux finds a mark of anything.
fn judge(kind: &str, path: &Path, is_it: fn(&Content) -> bool) {
    let judged = seen_by_wipefs(path);
    let opened = open(path);
    let found = probe(&opened).unwrap();
    assert!(
        is_it(&found),
        "{kind}: our probe says {found:?}, wipefs says {judged}"
    );
    opened.wipe().unwrap();
    let left = probe(&opened).unwrap();
    assert!(
        matches!(left, Content::Blank | Content::Unknown),
        "{kind}: {left:?} is left"
    );
    drop(opened);
    assert_eq!(seen_by_wipefs(path), "", "{kind}: left over");
    let blkid = Command::new("blkid")
        .args(["-p", path.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(
        (blkid.status.code(), blkid.stdout.len()),
        (Some(2), 0),
        "{kind}: {blkid:?}"
    );
}

fn seen_by_wipefs(path: &Path) -> String {
    let output = Command::new("wipefs")
        .args(["--noheadings", "--output", "OFFSET,TYPE"])
        .arg(path)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn fresh(path: &Path) {
    let _ = fs::remove_file(path);
    File::create_new(path).unwrap().set_len(BYTES).unwrap();
}

fn open(path: &Path) -> Opened {
    let path = path.to_owned();
    let medium = match path.starts_with("/dev") {
        true => DeviceMedium::Block { path },
        false => DeviceMedium::File { path, create: None },
    };
    let spec = DeviceSpec {
        medium,
        block_bytes: 512,
        read_only: false,
    };
    Opened::open(&spec, Duration::from_secs(5)).unwrap()
}

/// Runs a command; `None` when there is no such program.
fn told(command: &[String], input: &str) -> Option<Output> {
    let child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.ok()?;
    // A program that reads nothing may have closed it.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
    Some(child.wait_with_output().unwrap())
}
