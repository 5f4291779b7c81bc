//! What the tests of the door stand on: a guest's memory, a front-end that speaks the protocol by hand, and a host
//! that serves queues from a vector.
#![allow(dead_code, reason = "each test program uses a part of the stand")]

pub mod client;
pub mod fuse;
pub mod guest;
pub mod ram_host;
pub mod walk;

use palisade_frontend::{AttachmentSpec, Door, DoorSettings, SocketOwner};
use palisade_virtio::VolumeGeometry;
use palisade_words::{AttachmentIndex, Sectors};
use ram_host::{RamHost, Seen};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Size of the disk in the tests.
pub const DISK_SECTORS: u64 = 2048;

/// A small disk with two queues.
pub fn geometry() -> VolumeGeometry {
    VolumeGeometry {
        sectors: Sectors(DISK_SECTORS),
        block_bytes: 512,
        physical_block_bytes: 512,
        optimal_io_bytes: 0,
        read_only: false,
        queues: 2,
        discard: true,
        discard_alignment_bytes: 0,
        write_zeroes: true,
        writeback: true,
    }
}

/// The same, on a socket.
pub fn spec(index: u16, path: &Path) -> AttachmentSpec {
    AttachmentSpec {
        index: AttachmentIndex(index),
        name: format!("web{index}"),
        path: path.to_owned(),
        owner: SocketOwner {
            user: None,
            group: None,
            mode: 0o600,
        },
        geometry: geometry(),
        queue_size_max: 256,
        volume: 7,
        serial: *b"palisade-test-disk\0\0",
        share: palisade_memory::Shares::new(palisade_memory::ShareLimits::default()).join(),
    }
}

/// A door with one attachment, on a socket in a folder of its own.
pub struct Entrance {
    pub door: Door,
    pub seen: Seen,
    pub path: PathBuf,
    pub folder: TempDir,
}

impl Entrance {
    pub fn new(index: u16) -> Entrance {
        Entrance::with(index, DoorSettings::default())
    }

    pub fn with(index: u16, settings: DoorSettings) -> Entrance {
        let seen = Seen::new();
        let door = Door::open(settings, |handle| RamHost::new(handle, seen.clone())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm.sock");
        door.handle().attach(spec(index, &path)).unwrap();
        Entrance {
            door,
            seen,
            path,
            folder,
        }
    }
}

/// File descriptors this process has open.
pub fn open_fds() -> usize {
    // The one that the process keeps from its first door on counts from the beginning.
    palisade_sys::fd_filter::prepare().unwrap();
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until something holds; fails after ten seconds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{what} did not come to pass"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}
