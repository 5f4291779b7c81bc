//! Any disk content: nothing panics, and what is accepted can be written again.
//!
//! The input is a disk in short form: the first two bytes choose its size, then come records of one byte that
//! chooses a place, one byte of flags and up to 255 bytes to lay over the sector there. Bit 0 of the flags asks for
//! checksum, magic and place to be put right, so that the fuzzer gets behind the checksum.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_wire::{Geometry, Lba, MAGIC, RecordType, SECTOR_BYTES, VERSION, decode, recognise, update};
use std::collections::BTreeMap;

type Disk = BTreeMap<u64, [u8; SECTOR_BYTES]>;

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
    recognise(disk.get(&0).unwrap_or(&[0; SECTOR_BYTES]));
    let read = |disk: &Disk, lba: Lba| disk.get(&lba.0).copied().ok_or("not there");
    let Ok(found) = decode(sectors, |lba| read(&disk, lba)) else {
        return;
    };
    let Ok(change) = update(&found.superblock, &found.superblock, &found.extents) else {
        return;
    };
    if found.superblock.disk_sectors > sectors {
        return;
    }
    for write in change.phases.iter().flat_map(|phase| &phase.writes) {
        disk.insert(write.lba.0, write.bytes);
    }
    let again = decode(sectors, |lba| read(&disk, lba)).expect("just written");
    assert_eq!(again.superblock, change.superblock);
    assert_eq!(again.extents, found.extents);
});

fn laid_out(sectors: u64, mut records: &[u8]) -> Disk {
    let mut disk = Disk::new();
    let tail = Geometry::of(sectors).expect("large enough").tail.0;
    while let [place, flags, length, rest @ ..] = records {
        let (bytes, after) = rest.split_at(usize::from(*length).min(rest.len()));
        records = after;
        let area = if place & 1 == 0 { 0 } else { tail };
        let (offset, record) = PLACES[usize::from(place >> 1) % PLACES.len()];
        let lba = area + offset;
        let sector = disk.entry(lba).or_insert([0; SECTOR_BYTES]);
        // Bits 4 to 7 of the flags: how far into the sector, in steps of 64 bytes.
        let start = usize::from(flags >> 4) * 64;
        sector[start..start + bytes.len()].copy_from_slice(bytes);
        if flags & 1 == 1 {
            put_right(sector, lba, record);
        }
    }
    disk
}

/// Gives a sector the frame of a sound one; its other numbers stay as they are.
fn put_right(sector: &mut [u8; SECTOR_BYTES], lba: u64, record: RecordType) {
    sector[..8].copy_from_slice(&MAGIC);
    sector[8..10].copy_from_slice(&(record as u16).to_le_bytes());
    sector[10..12].copy_from_slice(&VERSION.to_le_bytes());
    sector[12..16].fill(0);
    sector[16..24].copy_from_slice(&lba.to_le_bytes());
    sector.copy_within(40..48, SECTOR_BYTES - 8);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, sector) as u32;
    sector[12..16].copy_from_slice(&crc.to_le_bytes());
}
