//! Any disk content: nothing panics, what is accepted can be mended and written again, and says the same afterwards.
//!
//! The input is a disk in short form: the first two bytes choose its size, then come records of one byte that
//! chooses a place, one byte of flags and up to 255 bytes to lay over the sector there. The flags:
//!
//! | bits | ask for |
//! |---|---|
//! | 0 | checksum, magic and place of the sector to be put right |
//! | 1 | at a superblock: the table that it names to be made its own once all records are laid, checksums included |
//! | 2 | at a superblock: the geometry of the disk |
//! | 3 | with bit 2: data to begin a unit further on, as only version 3 has it |
//! | 4 to 7 | how far into the sector the bytes go, in steps of 64 |
//!
//! So the fuzzer gets behind the checksums of sectors, and of a table as a whole, to the rules for what they say.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_wire::{
    DecodeError, EncodeError, Geometry, MAGIC, Phase, RecordType, SECTOR_4K_BYTES, VERSION, decode, mend,
    recognise, update,
};
use palisade_words::Lba;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS;
use std::collections::{BTreeMap, BTreeSet};

type Disk = BTreeMap<u64, [u8; SECTOR_4K_BYTES]>;

/// The superblocks and the first two sectors of each table, counted from the start of the head or tail.
const PLACES: [(u64, RecordType); 6] = [
    (0, RecordType::Superblock),
    (128, RecordType::Superblock),
    (512, RecordType::Extents),
    (520, RecordType::Extents),
    (1792, RecordType::Extents),
    (1800, RecordType::Extents),
];

fuzz_target!(|data: &[u8]| {
    let [size, more, records @ ..] = data else { return };
    let sectors = Geometry::LEAST_SECTORS + u64::from(*size) * 8191 + u64::from(*more);
    let mut disk = laid_out(sectors, records);
    recognise(disk.get(&0).unwrap_or(&[0; SECTOR_4K_BYTES]));
    let read = |disk: &Disk, lba: Lba| disk.get(&lba.0).copied().ok_or("not there");
    let Ok(found) = decode(sectors, |lba| read(&disk, lba)) else {
        return;
    };
    if found.superblock.disk_sectors <= sectors
        && let Some(phases) = mend(&found)
    {
        let mut mended = disk.clone();
        carry_out(&mut mended, &phases);
        let again = decode(sectors, |lba| read(&mended, lba)).expect("it was accepted before it was mended");
        assert_eq!(again.superblock, found.superblock);
        assert_eq!(again.extents, found.extents);
        // On a disk that has become larger, copies may lie behind the end that the superblock tells of, too.
        let is_as_told = found.superblock.disk_sectors == sectors;
        assert!(
            !is_as_told || again.damage.is_empty(),
            "{:?} was mended",
            again.damage
        );
    }
    let change = match update(&found.superblock, &found.superblock, &found.extents) {
        Ok(change) => change,
        // No number is left for one more write.
        Err(EncodeError::Superblock { field: "sequence" }) => return,
        Err(error) => panic!("what was read cannot be written: {error}"),
    };
    if found.superblock.disk_sectors > sectors {
        return;
    }
    carry_out(&mut disk, &change.phases);
    let again = match decode(sectors, |lba| read(&disk, lba)) {
        Ok(again) => again,
        // A forged copy whose table says what nobody writes comes to light when the write before is the one it stands beside.
        // It is refused, and nothing is lost.
        Err(DecodeError::Impossible { .. }) => return,
        Err(error) => panic!("just written: {error}"),
    };
    assert_eq!(again.superblock, change.superblock);
    assert_eq!(again.extents, found.extents);
});

fn carry_out(disk: &mut Disk, phases: &[Phase]) {
    for write in phases.iter().flat_map(|phase| &phase.writes) {
        disk.insert(write.lba.0, write.bytes);
    }
}

fn laid_out(sectors: u64, mut records: &[u8]) -> Disk {
    let mut disk = Disk::new();
    let geometry = Geometry::of(sectors).expect("large enough");
    let tail = geometry.tail.0;
    let mut named = BTreeSet::new();
    while let [place, flags, length, rest @ ..] = records {
        let (bytes, after) = rest.split_at(usize::from(*length).min(rest.len()));
        records = after;
        let area = if place & 1 == 0 { 0 } else { tail };
        let (offset, record) = PLACES[usize::from(place >> 1) % PLACES.len()];
        let lba = area + offset;
        let sector = disk.entry(lba).or_insert([0; SECTOR_4K_BYTES]);
        let start = usize::from(flags >> 4) * 64;
        sector[start..start + bytes.len()].copy_from_slice(bytes);
        if record == RecordType::Superblock && flags & 4 != 0 {
            let further = if flags & 8 == 0 {
                0
            } else {
                ALLOCATION_UNIT_SECTORS
            };
            let numbers = [sectors, geometry.data_start.0 + further, geometry.data_end.0];
            for (at, number) in [160, 168, 176].into_iter().zip(numbers) {
                sector[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
        }
        if record == RecordType::Superblock && flags & 2 != 0 {
            named.insert((lba, area));
        }
        if flags & 1 == 1 {
            put_right(sector, lba, record);
        }
    }
    for (lba, area) in named {
        name_table(&mut disk, lba, area);
    }
    disk
}

/// Sectors of a table that records can be laid over.
const TABLE_SECTORS: usize = 2;

/// Records in one sector of a table, and the bytes of each.
const RECORDS: usize = 30;
const RECORD_BYTES: usize = 128;

/// Where the records of a table's sector begin.
const RECORDS_AT: usize = 104;

/// Makes the table that the superblock at `lba` names, in its own area, the table of that superblock: of the same write,
/// disk and cluster, with as many records as it says, and under the checksum that it says.
fn name_table(disk: &mut Disk, lba: u64, area: u64) {
    let mut superblock = disk[&lba];
    let number = |at: usize| u32::from_le_bytes(superblock[at..at + 4].try_into().expect("four bytes"));
    // The slot is that of the number of the write.
    let slot = superblock[40] & 1;
    let count = number(192) as usize % (TABLE_SECTORS * RECORDS + 1);
    let start = area + PLACES[2 + 2 * usize::from(slot)].0;
    let mut records = Vec::new();
    for (index, first) in (0..count).step_by(RECORDS).enumerate() {
        let at = start + 8 * index as u64;
        let used = (count - first).min(RECORDS);
        let sector = disk.entry(at).or_insert([0; SECTOR_4K_BYTES]);
        sector[24..96].copy_from_slice(&superblock[24..96]);
        sector[96..100].copy_from_slice(&(index as u32).to_le_bytes());
        sector[100..104].copy_from_slice(&(used as u32).to_le_bytes());
        sector[RECORDS_AT + RECORDS * RECORD_BYTES..].fill(0);
        put_right(sector, at, RecordType::Extents);
        records.extend_from_slice(&sector[RECORDS_AT..RECORDS_AT + used * RECORD_BYTES]);
    }
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &records) as u32;
    for (at, number) in [(188, u32::from(slot)), (192, count as u32), (196, crc)] {
        superblock[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    put_right(&mut superblock, lba, RecordType::Superblock);
    disk.insert(lba, superblock);
}

/// Gives a sector the frame of a sound one; its other numbers stay as they are.
fn put_right(sector: &mut [u8; SECTOR_4K_BYTES], lba: u64, record: RecordType) {
    sector[..8].copy_from_slice(&MAGIC);
    sector[8..10].copy_from_slice(&(record as u16).to_le_bytes());
    // Only the latest version has data elsewhere than at the first unit.
    let is_placed =
        record == RecordType::Superblock && sector[168..176] != ALLOCATION_UNIT_SECTORS.to_le_bytes();
    let version = if is_placed { VERSION } else { VERSION - 1 };
    sector[10..12].copy_from_slice(&version.to_le_bytes());
    sector[12..16].fill(0);
    sector[16..24].copy_from_slice(&lba.to_le_bytes());
    sector.copy_within(40..48, SECTOR_4K_BYTES - 8);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, sector) as u32;
    sector[12..16].copy_from_slice(&crc.to_le_bytes());
}
