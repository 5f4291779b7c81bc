//! A disk in memory that keeps the sectors written to it.
#![allow(dead_code, reason = "each test file uses its part")]

use palisade_wire::{
    DATA_START_LEAST, DecodeError, Decoded, ExtentRecord, ExtentRole, Label, Phase, SECTOR_4K_BYTES,
    SectorWrite, Superblock, Update, decode, format,
};
use palisade_words::limits::ALLOCATION_UNIT_SECTORS;
use palisade_words::{Epoch, Generation, Lba, Uuid};
use std::collections::BTreeMap;
use std::convert::Infallible;

pub const DISK_SECTORS: u64 = 200_003;

#[derive(Clone, PartialEq, Eq)]
pub struct Disk {
    pub sectors: u64,
    pub written: BTreeMap<u64, [u8; SECTOR_4K_BYTES]>,
}

impl Disk {
    pub fn blank(sectors: u64) -> Disk {
        Disk {
            sectors,
            written: BTreeMap::new(),
        }
    }

    pub fn write(&mut self, write: &SectorWrite) {
        assert!(
            write.lba.0.is_multiple_of(8) && write.lba.0 + 8 <= self.sectors,
            "{write:?}"
        );
        self.written.insert(write.lba.0, write.bytes);
    }

    /// The first `pieces` pieces of 512 bytes arrive.
    pub fn write_torn(&mut self, write: &SectorWrite, pieces: usize) {
        let mut bytes = self.read(write.lba);
        bytes[..pieces * 512].copy_from_slice(&write.bytes[..pieces * 512]);
        self.written.insert(write.lba.0, bytes);
    }

    pub fn write_all(&mut self, phases: &[Phase]) {
        phases
            .iter()
            .flat_map(|phase| &phase.writes)
            .for_each(|write| self.write(write));
    }

    pub fn read(&self, lba: Lba) -> [u8; SECTOR_4K_BYTES] {
        self.written.get(&lba.0).copied().unwrap_or([0; SECTOR_4K_BYTES])
    }

    pub fn decode(&self) -> Result<Decoded, DecodeError> {
        decode(self.sectors, |lba| Ok::<_, Infallible>(self.read(lba)))
    }
}

pub fn superblock(disk_sectors: u64) -> Superblock {
    let label = Label::new("disk0").unwrap();
    let (disk, cluster, owner) = (0xd15c << 64 | 1, 0xc105 << 64 | 2, 0x0de << 64 | 3);
    let new = Superblock::new(Uuid(disk), Uuid(cluster), Uuid(owner), label, 512, disk_sectors).unwrap();
    Superblock {
        generation: Generation(10),
        epoch: Epoch(1),
        ..new
    }
}

/// `count` extents of one allocation unit or less, each of another volume.
pub fn extents(count: u64) -> Vec<ExtentRecord> {
    let one = |index: u64| ExtentRecord {
        volume: Uuid(0x0100 + u128::from(index)),
        volume_name: Label::new(&["vol-", &index.to_string()].concat()).unwrap(),
        role: ExtentRole::Linear,
        part: 0,
        block_bytes: 4096,
        volume_lba: Lba(0),
        disk_lba: Lba(DATA_START_LEAST.0 + index * ALLOCATION_UNIT_SECTORS),
        sectors: ALLOCATION_UNIT_SECTORS - index,
        volume_sectors: ALLOCATION_UNIT_SECTORS - index,
    };
    (0..count).map(one).collect()
}

/// A disk for `sectors` with `count` extents, just formatted.
pub fn formatted(sectors: u64, count: u64) -> (Disk, Update) {
    let mut disk = Disk::blank(sectors);
    let update = format(&superblock(sectors), &extents(count)).unwrap();
    disk.write_all(&update.phases);
    (disk, update)
}
