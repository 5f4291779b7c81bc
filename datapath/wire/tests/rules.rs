//! What a superblock and its table must satisfy, written down once more over the raw bytes: whatever is put into a valid
//! disk, with right checksums, is read exactly when it breaks none of these rules.

#![cfg(test)]

mod disk;

use disk::{DISK_SECTORS, Disk, superblock};
use palisade_wire::{
    DecodeError, ExtentRecord, ExtentRole, Label, SECTOR_4K_BYTES, SectorError, Superblock, Why, format,
    mend, update,
};
use palisade_words::{Lba, Uuid};
use proptest::prelude::*;

type Sector = [u8; SECTOR_4K_BYTES];

const TAIL: u64 = DISK_SECTORS / 8 * 8 - 4096;

/// Of the first write: table B. Of each area.
const SUPERBLOCKS: [u64; 4] = [0, 128, TAIL, TAIL + 128];
const TABLES: [u64; 2] = [1792, TAIL + 1792];

/// Where the records begin in a sector of the table, and how long one is.
const RECORDS_AT: usize = 96 + 8;
const RECORD_BYTES: usize = 128;

const EXTENTS: usize = 6;

fn crc(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

fn sealed(mut sector: Sector) -> Sector {
    sector[12..16].fill(0);
    let sum = crc(&sector);
    sector[12..16].copy_from_slice(&sum.to_le_bytes());
    sector
}

/// Three volumes, one of them in three pieces.
fn extents() -> Vec<ExtentRecord> {
    let of = |volume: u128, volume_lba: u64, unit: u64, sectors: u64, volume_sectors: u64| ExtentRecord {
        volume: Uuid(volume),
        volume_name: Label::new(["a", "b", "c"][volume as usize - 1]).unwrap(),
        role: ExtentRole::Linear,
        part: 0,
        block_bytes: 512,
        volume_lba: Lba(volume_lba),
        disk_lba: Lba(8192 * unit),
        sectors,
        volume_sectors,
    };
    vec![
        of(1, 0, 1, 8192, 30_000),
        of(1, 8192, 3, 8192, 30_000),
        of(1, 16_384, 2, 100, 30_000),
        of(2, 0, 4, 8, 8),
        of(3, 0, 5, 8192, 20_000),
        of(3, 16_384, 22, 3616, 20_000),
    ]
}

/// Fields of a record: name, offset, bytes.
const FIELDS: [(&str, usize, usize); 10] = [
    ("volume", 0, 16),
    ("name", 16, 64),
    ("volume_lba", 80, 8),
    ("disk_lba", 88, 8),
    ("sectors", 96, 8),
    ("volume_sectors", 104, 8),
    ("block_bytes", 112, 4),
    ("role", 116, 2),
    ("part", 118, 2),
    ("reserved", 120, 8),
];

type Record = [u8; RECORD_BYTES];

fn number(record: &Record, name: &str) -> u128 {
    let (_, at, bytes) = FIELDS.into_iter().find(|(field, ..)| *field == name).unwrap();
    let mut number = [0; 16];
    number[..bytes].copy_from_slice(&record[at..at + bytes]);
    u128::from_le_bytes(number)
}

/// The rules, in no order.
fn keeps_the_rules(records: &[Record]) -> bool {
    let data_end = u128::from((TAIL / 8192) * 8192);
    let span = |record: &Record, start: &str| {
        let start = number(record, start);
        (start, start + number(record, "sectors"))
    };
    let apart = |(a, a_end): (u128, u128), (b, b_end): (u128, u128)| a_end <= b || b_end <= a;
    let by_itself = |record: &Record| {
        let name = &record[16..80];
        let used = name
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let text = std::str::from_utf8(&name[..used]);
        number(record, "volume") != 0
            && text.is_ok_and(|text| !text.is_empty() && !text.contains(char::is_control))
            && [512, 4096].contains(&number(record, "block_bytes"))
            && (
                number(record, "role"),
                number(record, "part"),
                number(record, "reserved"),
            ) == (1, 0, 0)
            && number(record, "sectors") > 0
            && number(record, "disk_lba").is_multiple_of(8)
            && number(record, "disk_lba") >= 8192
            && span(record, "disk_lba").1 <= data_end
            && span(record, "volume_lba").1 <= number(record, "volume_sectors")
    };
    let together = |a: &Record, b: &Record| {
        let one_volume = number(a, "volume") == number(b, "volume");
        let alike = a[16..80] == b[16..80]
            && number(a, "block_bytes") == number(b, "block_bytes")
            && number(a, "volume_sectors") == number(b, "volume_sectors");
        apart(span(a, "disk_lba"), span(b, "disk_lba"))
            && (!one_volume || (alike && apart(span(a, "volume_lba"), span(b, "volume_lba"))))
    };
    let pairs = records
        .iter()
        .enumerate()
        .flat_map(|(at, a)| records.iter().skip(at + 1).map(move |b| (a, b)));
    records.iter().all(by_itself) && pairs.into_iter().all(|(a, b)| together(a, b))
}

/// A disk with these records in its table, all checksums right. Beneath it lies an older state.
fn with_records(records: &[Record]) -> Disk {
    let mut disk = Disk::blank(DISK_SECTORS);
    let first = format(&superblock(DISK_SECTORS), &[]).unwrap();
    disk.write_all(&first.phases);
    let second = update(&first.superblock, &first.superblock, &[]).unwrap();
    disk.write_all(&second.phases);
    let third = update(&second.superblock, &second.superblock, &extents()).unwrap();
    disk.write_all(&third.phases);
    let sum = crc(records.as_flattened());
    for lba in TABLES {
        let sector = disk.written.get_mut(&lba).unwrap();
        sector[RECORDS_AT..RECORDS_AT + EXTENTS * RECORD_BYTES].copy_from_slice(records.as_flattened());
        *sector = sealed(*sector);
    }
    for lba in [128, TAIL + 128] {
        let sector = disk.written.get_mut(&lba).unwrap();
        sector[96 + 100..96 + 104].copy_from_slice(&sum.to_le_bytes());
        *sector = sealed(*sector);
    }
    disk
}

fn records() -> Vec<Record> {
    let made = format(&superblock(DISK_SECTORS), &extents()).unwrap();
    let mut disk = Disk::blank(DISK_SECTORS);
    disk.write_all(&made.phases);
    let sector = disk.read(Lba(TABLES[0]));
    let records = sector[RECORDS_AT..].chunks(RECORD_BYTES).take(EXTENTS);
    records.map(|record| record.try_into().unwrap()).collect()
}

/// A value for a field: a small or a large one, that of another record, or one a little beside what is there.
fn changed(
    records: &[Record],
    at: usize,
    (_, offset, bytes): (&str, usize, usize),
    how: u8,
    value: u64,
) -> Record {
    let mut record = records[at];
    let there = &mut record[offset..offset + bytes];
    let mut little = [0; 16];
    let wide = bytes.min(16);
    little[..wide].copy_from_slice(&there[..wide]);
    let now = u128::from_le_bytes(little);
    let other = &records[value as usize % EXTENTS][offset..offset + bytes];
    let new = match how {
        0 => u128::from(value % 3),
        1 => now.wrapping_add(u128::from(value % 17)).wrapping_sub(8),
        2 => now.wrapping_add(8 * u128::from(value % 5)).wrapping_sub(16),
        3 => u128::from(value),
        4 => u128::MAX - u128::from(value % 9),
        5 => [512, 4096, 8192, 1024][value as usize % 4],
        _ => {
            there.copy_from_slice(other);
            return record;
        }
    };
    there[..wide].copy_from_slice(&new.to_le_bytes()[..wide]);
    record
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_table_is_read_exactly_when_it_keeps_the_rules(
        changes in proptest::collection::vec((0..EXTENTS, 0..FIELDS.len(), 0..8u8, any::<u64>()), 0..3),
    ) {
        let mut records = records();
        for (at, field, how, value) in changes {
            records[at] = changed(&records, at, FIELDS[field], how, value);
        }
        let found = with_records(&records).decode();
        match keeps_the_rules(&records) {
            true => {
                let found = found.unwrap();
                prop_assert_eq!(found.extents.len(), EXTENTS);
                // What is read can be written.
                prop_assert!(update(&found.superblock, &found.superblock, &found.extents).is_ok());
            }
            // The state before it is whole, and is not taken for it.
            false => prop_assert!(matches!(found, Err(DecodeError::Impossible { sequence: 3, .. })), "{:?}", found),
        }
    }
}

#[test]
fn each_rule_of_a_table_has_its_sentence() {
    let original = records();
    assert!(keeps_the_rules(&original) && with_records(&original).decode().is_ok());
    let set = |at: usize, name: &str, value: u128| {
        let (_, offset, bytes) = FIELDS.into_iter().find(|(field, ..)| *field == name).unwrap();
        let mut records = original.clone();
        records[at][offset..offset + bytes.min(16)].copy_from_slice(&value.to_le_bytes()[..bytes.min(16)]);
        records
    };
    let cases = [
        (set(0, "volume", 0), "extent 0: impossible `volume`"),
        (set(3, "name", 0), "extent 3: impossible `volume_name`"),
        (set(3, "name", 0x1b), "impossible value in `volume_name`"),
        (set(3, "volume_lba", 1), "extent 3: impossible `volume_lba`"),
        (set(4, "sectors", 0), "extent 4: impossible `sectors`"),
        (set(4, "disk_lba", 4096), "extent 4: impossible `disk_lba`"),
        (set(5, "sectors", 8192), "extent 5: impossible `volume_lba`"),
        (
            set(4, "block_bytes", 4096),
            "extents 4 and 5 are of one volume and differ in `block_bytes`",
        ),
        (
            set(4, "name", u128::from(b'd')),
            "extents 4 and 5 are of one volume and differ in `volume_name`",
        ),
        (
            set(4, "volume_sectors", 20_008),
            "extents 4 and 5 are of one volume and differ in `volume_sectors`",
        ),
        (
            set(1, "volume_lba", 8191),
            "extents 0 and 1 hold the same part of one volume, from LBA 8191 of it on",
        ),
        (
            set(1, "disk_lba", 16_384 + 96),
            "extents 2 and 1 overlap at LBA 16480",
        ),
        (set(1, "role", 2), "impossible value in `role`"),
    ];
    for (records, sentence) in cases {
        assert!(!keeps_the_rules(&records), "{sentence}");
        let error = with_records(&records).decode().unwrap_err().to_string();
        assert!(error.contains("is of write 3 and says what cannot be"), "{error}");
        assert!(error.contains(sentence), "{error}: {sentence}");
    }
}

/// A superblock that says what cannot be, with a right checksum: the newest is refused, an older one is damage.
#[test]
fn a_newest_superblock_that_cannot_be_is_refused_and_an_older_one_is_damage() {
    let disk = with_records(&records());
    let spoil = |disk: &Disk, lba: u64, at: usize, bytes: &[u8]| {
        let mut disk = disk.clone();
        let sector = disk.written.get_mut(&lba).unwrap();
        sector[at..at + bytes.len()].copy_from_slice(bytes);
        *sector = sealed(*sector);
        disk
    };
    // Label, size, start and end of data, block, place of the table, ids.
    let cases: [(usize, &[u8], &str); 8] = [
        (96, &[7], "label"),
        (160, &[1, 0, 0], "disk_sectors"),
        (168, &[1], "data_start"),
        (176, &[1], "data_end"),
        (184, &[1], "block_bytes"),
        (188, &[0], "table_slot"),
        (48, &[0; 16], "owner"),
        (192, &[255, 255], "table_count"),
    ];
    for (at, bytes, field) in cases {
        for lba in [128, TAIL + 128] {
            let found = spoil(&disk, lba, at, bytes).decode().unwrap_err();
            let DecodeError::Impossible { sequence: 3, .. } = &found else {
                panic!("{field}: {found:?}")
            };
            assert!(
                found
                    .to_string()
                    .contains(&SectorError::Malformed { field }.to_string()),
                "{found}"
            );
        }
        if field == "table_slot" {
            continue;
        }
        for lba in [0, TAIL] {
            let found = spoil(&disk, lba, at, bytes).decode().unwrap();
            assert_eq!((found.superblock.sequence, found.damage.len()), (3, 1), "{field}");
        }
    }
    // Of another disk: it does not speak of this one.
    let mut other = spoil(&disk, TAIL + 128, 80, &[9; 16]);
    other = spoil(&other, TAIL + 128, 188, &[0]);
    assert_eq!(other.decode().unwrap().damage.len(), 1);
    // All of them: there is nothing to choose from.
    let mut all = disk;
    for lba in SUPERBLOCKS {
        all = spoil(&all, lba, 48, &[0; 16]);
    }
    assert!(matches!(all.decode(), Err(DecodeError::Damaged { damage }) if damage.len() == 4));
}

/// In one area alone it is damage of that sector, and the other area's is the disk's.
#[test]
fn a_sector_of_a_table_that_cannot_be_said_is_mended_from_the_other_area() {
    let disk = with_records(&records());
    for lba in TABLES {
        let mut spoilt = disk.clone();
        let sector = spoilt.written.get_mut(&lba).unwrap();
        sector[RECORDS_AT + 116] = 2;
        *sector = sealed(*sector);
        let found = spoilt.decode().unwrap();
        let field = "role";
        let why: Vec<_> = found
            .damage
            .iter()
            .map(|damage| (damage.lba, &damage.why))
            .collect();
        assert_eq!(why, [(Lba(lba), &Why::Sector(SectorError::Malformed { field }))]);
        spoilt.write_all(&mend(&found).unwrap());
        assert!(spoilt == disk, "bit for bit");
    }
}

/// What is never written is not written.
#[test]
fn ids_that_are_nobodys_are_not_written() {
    let mine = superblock(DISK_SECTORS);
    for (bad, field) in [
        (
            Superblock {
                disk: Uuid(0),
                ..mine.clone()
            },
            "disk",
        ),
        (
            Superblock {
                cluster: Uuid(0),
                ..mine.clone()
            },
            "cluster",
        ),
        (
            Superblock {
                owner: Uuid(0),
                ..mine
            },
            "owner",
        ),
    ] {
        let refused = format(&bad, &[]).unwrap_err();
        assert_eq!(refused.to_string(), format!("superblock: impossible `{field}`"));
    }
}
