//! Where things lie on a pooled disk.

use crate::extent::RECORDS_PER_SECTOR;
use crate::sector::SECTOR_4K_BYTES;
use palisade_words::limits::{ALLOCATION_UNIT_SECTORS, EXTENTS_PER_DISK_MAX};
use palisade_words::{Lba, SECTOR_BYTES};

/// Sectors of 512 bytes, the unit of [`Lba`], in one of 4 KiB.
pub const SECTORS_PER_4K: u64 = SECTOR_4K_BYTES as u64 / SECTOR_BYTES;

/// Where data begins: behind the head area, aligned to the allocation unit.
pub const DATA_START: Lba = Lba(ALLOCATION_UNIT_SECTORS);

/// Length of the mirrored area at the head and at the tail: 2 MiB, in units of 512 bytes.
pub const AREA_SECTORS: u64 = (2 << 20) / SECTOR_BYTES;

/// Places of superblock A and B inside the head and tail area.
pub const SUPERBLOCKS: [u64; 2] = [0, (64 << 10) / SECTOR_BYTES];

/// Places of extent table A and B inside the head and tail area.
pub const TABLES: [u64; 2] = [(256 << 10) / SECTOR_BYTES, (896 << 10) / SECTOR_BYTES];

/// Sectors of 4 KiB in one extent table.
pub const TABLE_SECTORS: u64 = 160;

/// Where the member slots will lie (record type 3): 2 MiB to 3 MiB.
pub const MEMBER_SLOTS: Lba = Lba((2 << 20) / SECTOR_BYTES);

/// Where write-intent regions and journals will lie (record types 4 and 5): 3 MiB to the start of data.
pub const INTENT_AND_JOURNALS: Lba = Lba((3 << 20) / SECTOR_BYTES);

const _: () = {
    let table = TABLE_SECTORS * SECTORS_PER_4K;
    let ([a, b], [c, d]) = (SUPERBLOCKS, TABLES);
    assert!(a < b && b + SECTORS_PER_4K <= c && c + table <= d && d + table <= AREA_SECTORS);
    assert!(AREA_SECTORS <= MEMBER_SLOTS.0 && MEMBER_SLOTS.0 < INTENT_AND_JOURNALS.0);
    assert!(INTENT_AND_JOURNALS.0 < DATA_START.0);
    assert!(DATA_START.0.is_multiple_of(ALLOCATION_UNIT_SECTORS));
    assert!(TABLE_SECTORS as usize * RECORDS_PER_SECTOR == EXTENTS_PER_DISK_MAX);
    // The place of data on disks that exist.
    assert!(ALLOCATION_UNIT_SECTORS * SECTOR_BYTES == 4 << 20);
};

/// Why a disk cannot be pooled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GeometryError {
    /// Not even one allocation unit would be left for data. Units of 512 bytes.
    #[error("{disk_sectors} sectors of 512 bytes are too few for a pooled disk: {least} are needed")]
    TooSmall {
        /// Size of the disk.
        disk_sectors: u64,
        /// Least size.
        least: u64,
    },
    /// The end of the disk lies beyond 2^64 bytes.
    #[error("{disk_sectors} sectors of 512 bytes do not fit 64 bits in bytes")]
    TooLarge {
        /// Size of the disk in units of 512 bytes.
        disk_sectors: u64,
    },
}

/// What follows from the size of a disk. Lengths in units of 512 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Size of the disk.
    pub disk_sectors: u64,
    /// First position of data.
    pub data_start: Lba,
    /// First position behind the data; whole allocation units lie between.
    pub data_end: Lba,
    /// First position of the tail area.
    pub tail: Lba,
}

impl Geometry {
    /// The smallest disk that can be pooled, in units of 512 bytes: head, one allocation unit, tail.
    pub const LEAST_SECTORS: u64 = DATA_START.0 + ALLOCATION_UNIT_SECTORS + AREA_SECTORS;

    /// The layout of a disk of `disk_sectors` units of 512 bytes.
    pub fn of(disk_sectors: u64) -> Result<Geometry, GeometryError> {
        if disk_sectors < Geometry::LEAST_SECTORS {
            let least = Geometry::LEAST_SECTORS;
            return Err(GeometryError::TooSmall { disk_sectors, least });
        }
        if disk_sectors.checked_mul(SECTOR_BYTES).is_none() {
            return Err(GeometryError::TooLarge { disk_sectors });
        }
        let tail = disk_sectors / SECTORS_PER_4K * SECTORS_PER_4K - AREA_SECTORS;
        Ok(Geometry {
            disk_sectors,
            data_start: DATA_START,
            data_end: Lba(tail / ALLOCATION_UNIT_SECTORS * ALLOCATION_UNIT_SECTORS),
            tail: Lba(tail),
        })
    }

    /// Room for data, in units of 512 bytes.
    pub fn data_sectors(&self) -> u64 {
        self.data_end.0 - self.data_start.0
    }

    /// Start of the area (head or tail) `from`.
    pub(crate) fn area(&self, tail: bool) -> u64 {
        if tail { self.tail.0 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_disk_has_one_unit_and_nothing_overlaps_on_any_other() {
        let least = Geometry::of(Geometry::LEAST_SECTORS).unwrap();
        assert_eq!(least.data_sectors(), ALLOCATION_UNIT_SECTORS);
        assert!(matches!(
            Geometry::of(Geometry::LEAST_SECTORS - 1),
            Err(GeometryError::TooSmall { .. })
        ));
        assert!(matches!(
            Geometry::of(u64::MAX),
            Err(GeometryError::TooLarge { .. })
        ));
        for more in (0..20_000).step_by(7) {
            let geometry = Geometry::of(Geometry::LEAST_SECTORS + more).unwrap();
            assert!(geometry.data_end <= geometry.tail);
            assert!(geometry.tail.0 - geometry.data_end.0 < ALLOCATION_UNIT_SECTORS);
            assert!(geometry.tail.0 + AREA_SECTORS <= geometry.disk_sectors);
            assert!(geometry.tail.0.is_multiple_of(SECTORS_PER_4K));
        }
    }
}
