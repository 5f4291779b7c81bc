//! Where things lie on a pooled disk.

use crate::extent::RECORDS_PER_SECTOR;
use crate::sector::SECTOR_4K_BYTES;
use palisade_words::limits::{ALLOCATION_UNIT_SECTORS, EXTENTS_PER_DISK_MAX, NODES_MAX};
use palisade_words::{Lba, SECTOR_BYTES};

/// Sectors of 512 bytes, the unit of [`Lba`], in one of 4 KiB.
pub const SECTORS_PER_4K: u64 = SECTOR_4K_BYTES as u64 / SECTOR_BYTES;

/// Where data begins on a small disk, and on each disk of format version 2 and before: behind the head area, at 4 MiB. A node
/// has 16 KiB there for its write intents and its journal.
pub const DATA_START_LEAST: Lba = Lba(ALLOCATION_UNIT_SECTORS);

/// Where data begins on a disk of [`ROOMY_SECTORS_MIN`] and more: at 68 MiB. A node has a little more than 1 MiB there:
/// half of it holds a bit for each 16 MiB of a disk of 64 TiB.
pub const DATA_START_ROOMY: Lba = Lba(17 * ALLOCATION_UNIT_SECTORS);

/// No disk is believed whose data begins further on than 4 GiB: room for 64 MiB for each node.
pub const DATA_START_MOST: Lba = Lba(1024 * ALLOCATION_UNIT_SECTORS);

/// Size of a disk, 8 GiB in units of 512 bytes, from which on it is laid out with [`DATA_START_ROOMY`]: that costs less than one
/// hundredth of it then.
pub const ROOMY_SECTORS_MIN: u64 = (8 << 30) / SECTOR_BYTES;

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

/// Where write-intent regions and journals will lie (record types 4 and 5): 3 MiB to the start of data, the same share for each
/// node ([`Geometry::node_sectors`]).
pub const INTENT_AND_JOURNALS: Lba = Lba((3 << 20) / SECTOR_BYTES);

const _: () = {
    let table = TABLE_SECTORS * SECTORS_PER_4K;
    let ([a, b], [c, d]) = (SUPERBLOCKS, TABLES);
    assert!(a < b && b + SECTORS_PER_4K <= c && c + table <= d && d + table <= AREA_SECTORS);
    assert!(AREA_SECTORS <= MEMBER_SLOTS.0 && MEMBER_SLOTS.0 < INTENT_AND_JOURNALS.0);
    assert!(INTENT_AND_JOURNALS.0 < DATA_START_LEAST.0);
    assert!(DATA_START_ROOMY.0 * 100 <= ROOMY_SECTORS_MIN);
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
    pub const LEAST_SECTORS: u64 = DATA_START_LEAST.0 + ALLOCATION_UNIT_SECTORS + AREA_SECTORS;

    /// The layout that a new disk of `disk_sectors` units of 512 bytes gets. On one that is laid out already the data may begin
    /// elsewhere ([`Geometry::starting_at`]); all else is the same.
    ///
    /// # Errors
    /// It is too small, or larger than 2^64 bytes.
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
            data_start: match disk_sectors >= ROOMY_SECTORS_MIN {
                true => DATA_START_ROOMY,
                false => DATA_START_LEAST,
            },
            data_end: Lba(tail / ALLOCATION_UNIT_SECTORS * ALLOCATION_UNIT_SECTORS),
            tail: Lba(tail),
        })
    }

    /// The layout of a disk of this size whose superblock says that its data begins at `data_start`; `None` where no program can
    /// have laid it out so.
    pub fn starting_at(self, data_start: Lba) -> Option<Geometry> {
        let is_unit = data_start.0.is_multiple_of(ALLOCATION_UNIT_SECTORS);
        let is_near = (DATA_START_LEAST..=DATA_START_MOST).contains(&data_start);
        (is_unit && is_near && data_start < self.data_end).then_some(Geometry { data_start, ..self })
    }

    /// What each node has for its write intents and its journal, in units of 512 bytes; whole sectors of 4 KiB.
    pub fn node_sectors(&self) -> u64 {
        let share = (self.data_start.0 - INTENT_AND_JOURNALS.0) / NODES_MAX as u64;
        share / SECTORS_PER_4K * SECTORS_PER_4K
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
        assert_eq!(least.node_sectors(), (16 << 10) / SECTOR_BYTES);
        for more in (0..20_000).step_by(7) {
            let geometry = Geometry::of(Geometry::LEAST_SECTORS + more).unwrap();
            assert!(geometry.data_end <= geometry.tail);
            assert!(geometry.tail.0 - geometry.data_end.0 < ALLOCATION_UNIT_SECTORS);
            assert!(geometry.tail.0 + AREA_SECTORS <= geometry.disk_sectors);
            assert!(geometry.tail.0.is_multiple_of(SECTORS_PER_4K));
        }
    }

    #[test]
    fn a_large_disk_has_a_mebibyte_for_each_node_and_gives_a_hundredth_for_it() {
        let below = Geometry::of(ROOMY_SECTORS_MIN - 1).unwrap();
        assert_eq!(below.data_start, DATA_START_LEAST);
        let large = Geometry::of(ROOMY_SECTORS_MIN).unwrap();
        assert_eq!(
            (large.data_start, large.data_start.bytes()),
            (DATA_START_ROOMY, 68 << 20)
        );
        assert_eq!(large.node_sectors() * SECTOR_BYTES, 1040 << 10);
        let tail = (4 << 20) / SECTOR_BYTES;
        assert!(large.data_sectors() + tail >= ROOMY_SECTORS_MIN / 100 * 99);
    }

    #[test]
    fn data_begins_where_a_superblock_says_if_that_can_be() {
        let large = Geometry::of(ROOMY_SECTORS_MIN).unwrap();
        let old = large.starting_at(DATA_START_LEAST).unwrap();
        assert_eq!((old.data_end, old.tail), (large.data_end, large.tail));
        assert_eq!(
            old.data_sectors() - large.data_sectors(),
            16 * ALLOCATION_UNIT_SECTORS
        );
        assert_eq!(large.starting_at(DATA_START_ROOMY), Some(large));
        for start in [
            0,
            8,
            DATA_START_LEAST.0 - 8,
            DATA_START_LEAST.0 + 8,
            DATA_START_MOST.0 + ALLOCATION_UNIT_SECTORS,
        ] {
            assert_eq!(large.starting_at(Lba(start)), None, "{start}");
        }
        let least = Geometry::of(Geometry::LEAST_SECTORS).unwrap();
        assert_eq!(least.starting_at(DATA_START_LEAST), Some(least));
        assert_eq!(least.starting_at(DATA_START_ROOMY), None, "no room is left");
        assert_eq!(least.starting_at(least.data_end), None, "no unit is left");
    }
}
