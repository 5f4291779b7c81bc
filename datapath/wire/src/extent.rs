//! The extent table: which part of a disk belongs to which part of which volume.

use crate::geometry::SECTORS_PER_4K;
use crate::label::{LABEL_BYTES_MAX, Label};
use crate::sector::{BODY_BYTES, RecordType, Sector, SectorError, SectorHeader, crc32c, open, seal};
use crate::superblock::Superblock;
use palisade_words::{Lba, SECTOR_BYTES, Sectors, Uuid};
use zerocopy::byteorder::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute};

/// What an extent is for. The numbers are on disk and never change their meaning; 2 (stripe column) and 3 (mirror
/// leg) are taken, with [`ExtentRecord::part`] as their number, but not built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum ExtentRole {
    /// A stretch of a volume with linear layout.
    Linear = 1,
}

/// One extent of a volume on this disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExtentRecord {
    /// Permanent id of the volume.
    pub volume: Uuid,
    /// The volume's name when it was written.
    pub volume_name: Label,
    /// What it is for.
    pub role: ExtentRole,
    /// Number of the stripe column or mirror leg; 0 for linear.
    pub part: u16,
    /// Logical block of the volume in bytes: 512 or 4096.
    pub block_bytes: u32,
    /// First position on the volume.
    pub volume_lba: Lba,
    /// First position on this disk; a multiple of 8.
    pub disk_lba: Lba,
    /// Length in units of 512 bytes, never 0.
    pub sectors: u64,
    /// Size of the whole volume in units of 512 bytes.
    pub volume_sectors: u64,
}

/// Records in one sector of the table.
pub const RECORDS_PER_SECTOR: usize = 30;

const RECORD_BYTES: usize = 128;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawExtent {
    volume: U128,
    volume_name: [u8; LABEL_BYTES_MAX],
    volume_lba: U64,
    disk_lba: U64,
    sectors: U64,
    volume_sectors: U64,
    block_bytes: U32,
    role: U16,
    part: U16,
    reserved: [u8; 8],
}

/// The body of one sector of the table.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawTableSector {
    /// Number of the sector inside its table.
    index: U32,
    /// Records used in this sector.
    count: U32,
    records: [RawExtent; RECORDS_PER_SECTOR],
    reserved: [u8; BODY_BYTES - 8 - RECORDS_PER_SECTOR * RECORD_BYTES],
}

const _: () = assert!(size_of::<RawExtent>() == RECORD_BYTES);
const _: () = assert!(size_of::<RawTableSector>() == BODY_BYTES);
const _: () = assert!(std::mem::offset_of!(RawExtent, volume_lba) == 80);
const _: () = assert!(std::mem::offset_of!(RawTableSector, records) == 8);

impl RawExtent {
    const EMPTY: RawExtent = RawExtent {
        volume: U128::ZERO,
        volume_name: [0; LABEL_BYTES_MAX],
        volume_lba: U64::ZERO,
        disk_lba: U64::ZERO,
        sectors: U64::ZERO,
        volume_sectors: U64::ZERO,
        block_bytes: U32::ZERO,
        role: U16::ZERO,
        part: U16::ZERO,
        reserved: [0; 8],
    };

    fn of(extent: &ExtentRecord) -> RawExtent {
        RawExtent {
            volume: U128::new(extent.volume.0),
            volume_name: extent.volume_name.to_field(),
            volume_lba: U64::new(extent.volume_lba.0),
            disk_lba: U64::new(extent.disk_lba.0),
            sectors: U64::new(extent.sectors),
            volume_sectors: U64::new(extent.volume_sectors),
            block_bytes: U32::new(extent.block_bytes),
            role: U16::new(extent.role as u16),
            part: U16::new(extent.part),
            reserved: [0; 8],
        }
    }

    /// What it says, if it can be said with our words; whether that can be is asked of the whole table.
    fn parsed(&self) -> Result<ExtentRecord, SectorError> {
        let malformed = |field| SectorError::Malformed { field };
        if self.role.get() != ExtentRole::Linear as u16 {
            return Err(malformed("role"));
        }
        if self.reserved != [0; 8] {
            return Err(malformed("reserved"));
        }
        Ok(ExtentRecord {
            volume: Uuid(self.volume.get()),
            volume_name: Label::from_field(&self.volume_name).map_err(|_| malformed("volume_name"))?,
            role: ExtentRole::Linear,
            part: self.part.get(),
            block_bytes: self.block_bytes.get(),
            volume_lba: Lba(self.volume_lba.get()),
            disk_lba: Lba(self.disk_lba.get()),
            sectors: self.sectors.get(),
            volume_sectors: self.volume_sectors.get(),
        })
    }
}

impl ExtentRecord {
    /// First position on the disk behind the extent.
    pub fn disk_end(&self) -> Lba {
        Lba(self.disk_lba.0.saturating_add(self.sectors))
    }

    /// The first field with a value that this version never writes. Also asked before writing.
    pub(crate) fn impossible_field(&self) -> Option<&'static str> {
        let end = |start: Lba| start.checked_add(Sectors(self.sectors)).map(|end| end.0);
        let checks = [
            ("volume", !self.volume.is_nil()),
            ("volume_name", !self.volume_name.as_str().is_empty()),
            (
                "block_bytes",
                matches!(u64::from(self.block_bytes), SECTOR_BYTES | 4096),
            ),
            ("part", self.part == 0),
            ("sectors", self.sectors != 0),
            (
                "disk_lba",
                self.disk_lba.0.is_multiple_of(SECTORS_PER_4K) && end(self.disk_lba).is_some(),
            ),
            (
                "volume_lba",
                end(self.volume_lba).is_some_and(|end| end <= self.volume_sectors),
            ),
        ];
        checks.iter().find(|(_, holds)| !holds).map(|(field, _)| *field)
    }
}

/// CRC-32C over the records of all extents, wherever they lie.
pub(crate) fn table_crc(extents: &[ExtentRecord]) -> u32 {
    let raw: Vec<RawExtent> = extents.iter().map(RawExtent::of).collect();
    crc32c(raw.as_bytes())
}

/// The sectors of the table that begins at `start`, for the write of `superblock`.
pub(crate) fn table_sectors<'a>(
    superblock: &'a Superblock,
    extents: &'a [ExtentRecord],
    start: Lba,
) -> impl Iterator<Item = (Lba, Sector)> + 'a {
    extents
        .chunks(RECORDS_PER_SECTOR)
        .zip(0u32..)
        .map(move |(some, index)| {
            let mut raw = RawTableSector {
                index: U32::new(index),
                count: U32::new(some.len() as u32),
                records: [RawExtent::EMPTY; RECORDS_PER_SECTOR],
                reserved: [0; _],
            };
            for (record, extent) in raw.records.iter_mut().zip(some) {
                *record = RawExtent::of(extent);
            }
            let lba = Lba(start.0 + u64::from(index) * SECTORS_PER_4K);
            (
                lba,
                seal(&superblock.header(RecordType::Extents, lba), transmute!(raw)),
            )
        })
}

/// Parses the table sector `index` read from `lba`: whose it is, and what it says if that can be.
pub(crate) fn table_sector(
    bytes: &Sector,
    lba: Lba,
    index: u32,
) -> Result<(SectorHeader, Result<Vec<ExtentRecord>, SectorError>), SectorError> {
    let (header, body) = open(bytes, RecordType::Extents, lba)?;
    Ok((header, records(&transmute!(body), index)))
}

fn records(raw: &RawTableSector, index: u32) -> Result<Vec<ExtentRecord>, SectorError> {
    let malformed = |field| Err(SectorError::Malformed { field });
    if raw.index.get() != index {
        return malformed("index");
    }
    let Some(used) = raw.records.get(..raw.count.get() as usize) else {
        return malformed("count");
    };
    if raw.reserved.iter().any(|byte| *byte != 0) {
        return malformed("reserved");
    }
    used.iter().map(RawExtent::parsed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent() -> ExtentRecord {
        ExtentRecord {
            volume: Uuid(1),
            volume_name: Label::new("v").unwrap(),
            role: ExtentRole::Linear,
            part: 0,
            block_bytes: 512,
            volume_lba: Lba(0),
            disk_lba: Lba(8192),
            sectors: 8,
            volume_sectors: 8,
        }
    }

    fn with(change: impl FnOnce(&mut ExtentRecord)) -> ExtentRecord {
        let mut extent = extent();
        change(&mut extent);
        extent
    }

    /// The sector of these, with `change` made to its body.
    fn read(
        extents: &[ExtentRecord],
        change: impl FnOnce(&mut RawTableSector),
    ) -> Result<Vec<ExtentRecord>, SectorError> {
        let superblock = Superblock::new(Uuid(1), Uuid(2), Uuid(3), Label::default(), 512, 100_000).unwrap();
        let (lba, sector) = table_sectors(&superblock, extents, Lba(512)).next().unwrap();
        let (header, body) = open(&sector, RecordType::Extents, lba)?;
        let mut raw: RawTableSector = transmute!(body);
        change(&mut raw);
        table_sector(&seal(&header, transmute!(raw)), lba, 0)?.1
    }

    #[test]
    fn an_extent_is_impossible_at_the_first_value_that_is_never_written() {
        type Change = fn(&mut ExtentRecord);
        let cases: [(&str, Change); 20] = [
            ("", |_| {}),
            ("", |one| one.block_bytes = 4096),
            ("block_bytes", |one| one.block_bytes = 0),
            ("block_bytes", |one| one.block_bytes = 1024),
            ("part", |one| one.part = 1),
            ("sectors", |one| one.sectors = 0),
            ("", |one| one.sectors = 1),
            ("disk_lba", |one| one.disk_lba = Lba(8193)),
            ("disk_lba", |one| one.disk_lba = Lba(8199)),
            ("", |one| one.disk_lba = Lba(8200)),
            ("disk_lba", |one| one.disk_lba = Lba(u64::MAX - 7)),
            ("", |one| (one.disk_lba, one.sectors) = (Lba(u64::MAX - 7), 7)),
            ("volume", |one| one.volume = Uuid::NIL),
            ("volume_name", |one| one.volume_name = Label::default()),
            ("volume_lba", |one| one.volume_lba = Lba(1)),
            ("volume_lba", |one| one.volume_sectors = 7),
            ("", |one| one.volume_sectors = 9),
            ("", |one| (one.volume_lba, one.volume_sectors) = (Lba(1), 9)),
            ("", |one| {
                (one.volume_lba, one.volume_sectors) = (Lba(u64::MAX - 8), u64::MAX)
            }),
            ("volume_lba", |one| {
                (one.volume_lba, one.volume_sectors) = (Lba(u64::MAX - 7), u64::MAX)
            }),
        ];
        for (number, (field, change)) in cases.into_iter().enumerate() {
            let one = with(change);
            assert_eq!(one.impossible_field().unwrap_or_default(), field, "case {number}");
            // A sector can say so; the table that it belongs to is asked.
            let said = vec![extent(), one];
            assert_eq!(read(&said, |_| {}), Ok(said), "case {number}");
        }
    }

    #[test]
    fn what_a_sector_of_the_table_cannot_say_is_refused() {
        let many: Vec<ExtentRecord> = (0..RECORDS_PER_SECTOR).map(|_| extent()).collect();
        let full = RECORDS_PER_SECTOR as u32;
        assert_eq!(read(&many, |_| {}).as_ref(), Ok(&many));
        assert_eq!(
            read(&many, |raw| raw.count = U32::new(full - 1)).map(|some| some.len()),
            Ok(29)
        );
        let refused = |change: fn(&mut RawTableSector)| match read(&[extent()], change) {
            Err(SectorError::Malformed { field }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(|raw| raw.count = U32::new(31)), "count");
        assert_eq!(refused(|raw| raw.index = U32::new(1)), "index");
        assert_eq!(refused(|raw| raw.records[0].role = U16::new(2)), "role");
        assert_eq!(refused(|raw| raw.records[0].reserved[7] = 1), "reserved");
        assert_eq!(refused(|raw| raw.records[0].volume_name[0] = 0xff), "volume_name");
        assert_eq!(refused(|raw| raw.reserved[0] = 1), "reserved");
        assert_eq!(refused(|raw| *raw.reserved.last_mut().unwrap() = 1), "reserved");
    }
}
