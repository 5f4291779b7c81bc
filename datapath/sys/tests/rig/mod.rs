//! What the integration tests stand on: real files below the build directory, aligned memory, one reactor's devices
//! and a loop that carries one operation through.

#![allow(dead_code, reason = "each test binary uses its own part of the rig")]

pub mod ends;

use palisade_block::{Devices, Fault, Io, MappingId, Nanos, Op, Segment, Started};
use palisade_sys::device::{Create, DeviceMedium, DeviceSpec};
use palisade_sys::{HugeMemory, LocalDevices, LocalSettings, MemoryRegistration, Opened};
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, MemoryId, PinnedId, Sectors, SlotIndex, Uuid};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const MIB: u64 = 1 << 20;

/// A directory on the file system of the build, which is no tmpfs.
pub fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

pub fn file_spec(path: &Path, bytes: u64, block_bytes: u32) -> DeviceSpec {
    let create = Some(Create { bytes, sparse: false });
    DeviceSpec {
        medium: DeviceMedium::File {
            path: path.into(),
            create,
        },
        block_bytes,
        read_only: false,
    }
}

pub fn open(medium: DeviceMedium, block_bytes: u32) -> Arc<Opened> {
    let spec = DeviceSpec {
        medium,
        block_bytes,
        read_only: false,
    };
    Arc::new(Opened::open(&spec, Duration::ZERO).unwrap())
}

pub fn open_file(directory: &TempDir, bytes: u64, block_bytes: u32) -> (PathBuf, Arc<Opened>) {
    let path = directory.path().join("disk");
    let opened = Opened::open(&file_spec(&path, bytes, block_bytes), Duration::ZERO).unwrap();
    (path, Arc::new(opened))
}

/// Whether the kernel of this machine is at least so new.
pub fn kernel_is_from(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|other: char| !other.is_ascii_digit());
    let mut next = || numbers.next().unwrap().parse::<u32>().unwrap();
    (next(), next()) >= (major, minor)
}

/// Aligned memory for data.
pub struct Buffer(pub HugeMemory);

impl Buffer {
    pub fn new(bytes: usize) -> Buffer {
        Buffer(HugeMemory::new(bytes).unwrap())
    }

    pub fn segment(&self, at: usize, bytes: usize) -> Segment {
        self.0.segment().part(at, bytes).unwrap()
    }

    pub fn slice(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is private to this value, and no operation is in flight while a test looks at it.
        unsafe { std::slice::from_raw_parts_mut(self.0.segment().address() as *mut u8, self.0.bytes()) }
    }

    /// Fills a range with bytes that depend on `seed` and the position.
    pub fn fill(&mut self, at: usize, bytes: usize, seed: u8) {
        for (index, byte) in self.slice()[at..at + bytes].iter_mut().enumerate() {
            *byte = pattern(seed, index);
        }
    }

    /// Whether a range holds what `fill` would put there.
    pub fn holds(&mut self, at: usize, bytes: usize, seed: u8) -> bool {
        self.slice()[at..at + bytes]
            .iter()
            .enumerate()
            .all(|(index, &byte)| byte == pattern(seed, index))
    }
}

fn pattern(seed: u8, index: usize) -> u8 {
    seed.wrapping_add((index % 251) as u8).wrapping_mul(7)
}

/// The devices of one reactor with one operation in flight at a time.
pub struct Rig {
    pub devices: LocalDevices,
    pub memory: MemoryId,
    pub durable: bool,
    alone: bool,
}

pub const DEVICE: DeviceIndex = DeviceIndex(5);

/// Whatever is asked is asked under one mapping.
pub const MAPPING: MappingId = MappingId::new(Uuid(1), Generation(1), Epoch(1));

impl Rig {
    pub fn new(opened: Arc<Opened>) -> Rig {
        let settings = LocalSettings {
            slots: 64,
            in_flight_max: 64,
            submission_entries: 16,
            ..LocalSettings::default()
        };
        let mut devices = LocalDevices::new(settings).unwrap();
        devices.add_device(DEVICE, opened).unwrap();
        Rig {
            devices,
            memory: MemoryId(0),
            durable: false,
            alone: false,
        }
    }

    /// Goes on with operations from and to a buffer.
    pub fn on(&mut self, buffer: &Buffer) {
        self.memory = self.devices.keep(buffer.0.lease());
    }

    /// Carries one operation out; `at` and `bytes` are bytes on the device.
    /// Every other one comes alone, the others are announced.
    pub fn run(&mut self, op: Op, at: u64, bytes: u64, segments: &[Segment]) -> Result<(), Fault> {
        let slot = SlotIndex(3);
        self.alone = !self.alone;
        if !self.alone {
            self.devices.expect(DEVICE, Lba(at / 512), Sectors(bytes / 512));
        }
        let io = Io {
            device: DEVICE,
            slot,
            mapping: &MAPPING,
            deadline: Nanos(u64::MAX),
            op,
            lba: Lba(at / 512),
            sectors: Sectors(bytes / 512),
            durable: self.durable,
            alone: self.alone,
            memory: self.memory,
            segments,
        };
        match self.devices.start(io) {
            Started::Done(result) => return result,
            Started::Busy => panic!("busy with nothing in flight"),
            Started::Pending => {}
        }
        let mut results = Vec::new();
        until(|| {
            self.devices.submit();
            self.devices.reap(|slot, result| results.push((slot, result)));
            !results.is_empty()
        });
        assert_eq!(
            (results.len(), results[0].0, self.devices.in_flight()),
            (1, slot, 0)
        );
        results[0].1
    }

    pub fn write(&mut self, at: u64, segments: &[Segment]) -> Result<(), Fault> {
        self.run(Op::Write, at, sum(segments), segments)
    }

    pub fn read(&mut self, at: u64, segments: &[Segment]) -> Result<(), Fault> {
        self.run(Op::Read, at, sum(segments), segments)
    }
}

pub fn sum(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| segment.bytes() as u64).sum()
}

/// Repeats until true, for 20 s at most.
pub fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "it takes too long");
        std::thread::yield_now();
    }
}

/// Writes, reads, discards and zeroes the first MiB.
pub fn keeps_and_zeroes(rig: &mut Rig) {
    let block = u64::from(rig.devices.limits(DEVICE).unwrap().block_bytes);
    let mut buffer = Buffer::new(4 << 20);
    rig.on(&buffer);
    let guest = PinnedId(9);
    for pinned in [false, true] {
        if pinned {
            let registration = Arc::new(MemoryRegistration::prepare(buffer.0.lease()));
            rig.devices.add_memory(guest, registration);
        }
        for count in [1, 2, 7, 126] {
            let bytes = block as usize;
            let out: Vec<_> = (0..count)
                .map(|index| buffer.segment(index * 2 * bytes, bytes))
                .collect();
            let back: Vec<_> = (0..count)
                .map(|index| buffer.segment((2 << 20) + index * 3 * bytes, bytes))
                .collect();
            (0..count).for_each(|index| buffer.fill(index * 2 * bytes, bytes, index as u8));
            assert_eq!(rig.write(block, &out), Ok(()));
            assert_eq!(rig.run(Op::Flush, 0, 0, &[]), Ok(()));
            assert_eq!(rig.read(block, &back), Ok(()));
            for index in 0..count {
                assert!(
                    buffer.holds((2 << 20) + index * 3 * bytes, bytes, index as u8),
                    "{count} {index}"
                );
            }
        }
        for op in [
            Op::Discard,
            Op::WriteZeroes { unmap: true },
            Op::WriteZeroes { unmap: false },
        ] {
            let (whole, back) = (buffer.segment(0, 64 << 10), buffer.segment(2 << 20, 64 << 10));
            buffer.fill(0, 64 << 10, 3);
            assert_eq!(rig.write(0, &[whole]), Ok(()));
            assert_eq!(rig.run(op, 16 << 10, 32 << 10, &[]), Ok(()));
            assert_eq!(rig.read(0, &[back]), Ok(()));
            assert!(buffer.holds(2 << 20, 16 << 10, 3));
            let (middle, end) = ((2 << 20) + (16 << 10), (2 << 20) + (48 << 10));
            assert!(
                buffer.slice()[middle..end].iter().all(|&byte| byte == 0),
                "{op:?}"
            );
            let expected = buffer.slice()[48 << 10..64 << 10].to_vec();
            assert_eq!(buffer.slice()[end..end + (16 << 10)], expected);
        }
    }
    assert!(rig.devices.remove_memory(guest).is_some());
    assert!(rig.devices.remove_memory(guest).is_none());
}
