//! One disk of two does not answer and the process is killed: the other disk is free at once, the process is gone at
//! once, and the disk that hangs stays locked until its own requests have ended. The disk that hangs is a file on a file
//! system that has been frozen (`fsfreeze`): writes wait for it in the kernel and cannot be killed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{Devices, Io, Nanos, Op, Started};
use palisade_sys::device::Holder;
use palisade_sys::{LocalDevices, LocalSettings, OpenError, Opened};
use palisade_words::{DeviceIndex, Lba, MemoryId, Sectors, SlotIndex};
use rig::{Buffer, MIB};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const VICTIM: &str = "PALISADE_TEST_HUNG_DISK";
const HEALTHY: DeviceIndex = DeviceIndex(0);
const HUNG: DeviceIndex = DeviceIndex(1);

#[test]
fn a_disk_that_hangs_keeps_itself_and_no_other() {
    if let Some(place) = std::env::var_os(VICTIM) {
        use_both(Path::new(&place));
    }
    let directory = rig::directory();
    let Some(frozen) = Frozen::new(directory.path()) else {
        eprintln!("skipped: it takes the rights to mount a file system");
        return;
    };
    let mut victim = victim(directory.path());
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut hear = |word: &str| assert!(lines.any(|line| line.unwrap().contains(word)), "{word}");
    hear("both are open");
    frozen.freeze();
    victim.stdin.take().unwrap().write_all(b"go\n").unwrap();
    hear("one hangs");
    // No thread of the process itself may be one that cannot be ended.
    for thread in std::fs::read_dir(format!("/proc/{}/task", victim.id())).unwrap() {
        let name = std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap();
        assert!(
            !name.starts_with("iou-wrk"),
            "a worker of the kernel's in the process: {name}"
        );
    }

    let killed = Instant::now();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(
        killed.elapsed() < Duration::from_secs(2),
        "the process is not gone"
    );
    let healthy = rig::file_spec(&directory.path().join("healthy"), 16 * MIB, 4096);
    drop(Opened::open(&healthy, Duration::from_secs(2)).unwrap());
    assert!(
        killed.elapsed() < Duration::from_secs(2),
        "the other disk is not free"
    );

    let hung = rig::file_spec(&frozen.file(), 16 * MIB, 4096);
    let error = Opened::open(&hung, Duration::from_millis(300)).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Locked {
                holder: Some(Holder::Ended(_)),
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("a daemon that has ended"), "{error}");
    frozen.thaw();
    drop(Opened::open(&hung, Duration::from_secs(10)).unwrap());
}

fn victim(place: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_disk_that_hangs_keeps_itself_and_no_other",
            "--nocapture",
        ])
        .env(VICTIM, place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Serves both disks by one set of devices until it is killed; the one that hangs has all that may hang in flight.
fn use_both(place: &Path) -> ! {
    let mut devices = LocalDevices::new(LocalSettings::default()).unwrap();
    for (device, path) in [
        (HEALTHY, place.join("healthy")),
        (HUNG, place.join("mounted/hung")),
    ] {
        let opened = Opened::open(&rig::file_spec(&path, 16 * MIB, 4096), Duration::from_secs(20)).unwrap();
        devices.add_device(device, Arc::new(opened)).unwrap();
    }
    println!("both are open");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let buffer = Buffer::new(1 << 20);
    devices.keep(buffer.0.lease());
    let list = [buffer.segment(0, 4096)];
    let io = |device, slot, op, sectors| Io {
        device,
        slot: SlotIndex(slot),
        mapping: &rig::MAPPING,
        deadline: Nanos(u64::MAX),
        op,
        lba: Lba(u64::from(slot) * 8),
        sectors: Sectors(sectors),
        durable: false,
        alone: false,
        memory: MemoryId(0),
        segments: if sectors > 0 && op == Op::Write {
            &list
        } else {
            &[]
        },
    };
    for slot in 0..32 {
        assert_eq!(devices.start(io(HUNG, slot, Op::Write, 8)), Started::Pending);
    }
    assert_eq!(devices.start(io(HUNG, 32, Op::Discard, 8)), Started::Pending);
    let (mut started, begin) = (0u32, Instant::now());
    let mut told = false;
    loop {
        assert_eq!(devices.start(io(HEALTHY, 100, Op::Write, 8)), Started::Pending);
        let mut healthy = 0;
        rig::until(|| {
            devices.submit();
            devices.reap(|slot, _| healthy += u32::from(slot.0 == 100));
            healthy > 0
        });
        started += 1;
        if !told && started > 100 && begin.elapsed() > Duration::from_millis(300) {
            told = true;
            assert!(
                devices.in_flight() >= 33,
                "nothing hangs: {}",
                devices.in_flight()
            );
            println!("one hangs");
        }
    }
}

/// A small ext4 in a file, mounted below the directory.
struct Frozen {
    at: PathBuf,
}

impl Frozen {
    fn new(directory: &Path) -> Option<Frozen> {
        let (image, at) = (directory.join("image"), directory.join("mounted"));
        std::fs::create_dir(&at).unwrap();
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(64 * MIB).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at))?;
        Some(Frozen { at })
    }

    fn file(&self) -> PathBuf {
        self.at.join("hung")
    }

    fn freeze(&self) {
        run(Command::new("fsfreeze").arg("-f").arg(&self.at)).unwrap();
    }

    fn thaw(&self) {
        run(Command::new("fsfreeze").arg("-u").arg(&self.at)).unwrap();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = run(Command::new("fsfreeze").arg("-u").arg(&self.at));
        for _ in 0..100 {
            if run(Command::new("umount").arg(&self.at)).is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn run(command: &mut Command) -> Option<()> {
    command
        .stderr(Stdio::null())
        .status()
        .ok()?
        .success()
        .then_some(())
}
