//! Damage is noticed, told, and read around.

#![cfg(test)]

mod disk;

use disk::{DISK_SECTORS, Disk, extents, formatted, superblock};
use palisade_wire::{
    Damage, DecodeError, EncodeError, ExtentRecord, Geometry, Part, RecordPlace, SECTOR_4K_BYTES,
    SectorError, Superblock, TableRef, VERSION, Why, decode, format, update,
};
use palisade_words::limits::EXTENTS_PER_DISK_MAX;
use palisade_words::{Generation, Lba, Uuid};

const TAIL: u64 = DISK_SECTORS / 8 * 8 - 4096;

/// A disk that was formatted and changed once: A and B differ by one write.
fn changed() -> (Disk, Superblock) {
    let (mut disk, first) = formatted(DISK_SECTORS, 2);
    let next = Superblock {
        generation: Generation(11),
        ..first.superblock.clone()
    };
    let second = update(&first.superblock, &next, &extents(20)).unwrap();
    disk.write_all(&second.phases);
    (disk, second.superblock)
}

fn spoil(disk: &mut Disk, lba: u64) {
    disk.written.get_mut(&lba).unwrap()[2000] ^= 0x10;
}

#[test]
fn each_turned_bit_of_each_superblock_copy_is_told_and_read_around() {
    let (disk, wanted) = changed();
    for (tail, copy, lba) in [
        (false, 0, 0),
        (false, 1, 128),
        (true, 0, TAIL),
        (true, 1, TAIL + 128),
    ] {
        for bit in 0..SECTOR_4K_BYTES * 8 {
            let mut turned = disk.read(Lba(lba));
            turned[bit / 8] ^= 1 << (bit % 8);
            let read = |at: Lba| Ok::<_, String>(if at.0 == lba { turned } else { disk.read(at) });
            let found = decode(DISK_SECTORS, read).unwrap();
            assert_eq!(
                (&found.superblock, found.extents.len()),
                (&wanted, 20),
                "bit {bit} at {lba}"
            );
            let place = RecordPlace {
                tail,
                part: Part::Superblock { copy },
            };
            let [
                Damage {
                    place: told,
                    why: Why::Sector(_),
                    ..
                },
            ] = &found.damage[..]
            else {
                panic!("bit {bit} at {lba}: {:?}", found.damage)
            };
            assert_eq!(*told, place);
        }
    }
}

#[test]
fn with_both_copies_at_the_head_gone_the_tail_speaks() {
    let (mut disk, wanted) = changed();
    spoil(&mut disk, 0);
    spoil(&mut disk, 128);
    let found = disk.decode().unwrap();
    assert_eq!((found.superblock, found.damage.len()), (wanted, 2));
}

#[test]
fn with_the_newest_copies_gone_the_state_before_speaks_and_says_so() {
    let (mut disk, _) = changed();
    spoil(&mut disk, 0);
    spoil(&mut disk, TAIL);
    let found = disk.decode().unwrap();
    assert_eq!((found.superblock.sequence, found.extents), (1, extents(2)));
    assert_eq!(found.damage.len(), 2);
}

#[test]
fn a_table_is_put_together_from_head_and_tail() {
    let (mut disk, first) = formatted(DISK_SECTORS, 0);
    let mut many = extents(20);
    for index in 20..100u64 {
        let mut one = many[0].clone();
        one.volume = Uuid(1000 + u128::from(index));
        (one.disk_lba, one.sectors) = (Lba(8192 * 22 + 8 * index), 8);
        many.push(one);
    }
    let next = update(&first.superblock, &first.superblock, &many).unwrap();
    disk.write_all(&next.phases);
    assert_eq!(disk.decode().unwrap().extents, many);
    spoil(&mut disk, 512);
    spoil(&mut disk, TAIL + 512 + 8);
    let found = disk.decode().unwrap();
    assert_eq!((found.extents, found.damage.len()), (many, 2));
    // The same sector in both: the write is lost, the one before is still whole.
    spoil(&mut disk, 512 + 8);
    let found = disk.decode().unwrap();
    assert_eq!((found.superblock.sequence, found.extents.len()), (1, 0));
    // Each thing is told once, although two copies of the superblock name the table.
    let lost = |damage: &&Damage| damage.why == Why::TableLost { sequence: 2 };
    assert_eq!(
        (found.damage.iter().filter(lost).count(), found.damage.len()),
        (1, 4)
    );
}

#[test]
fn a_misdirected_sector_and_one_of_another_disk_are_refused() {
    let (mut disk, wanted) = changed();
    let elsewhere = disk.read(Lba(128));
    disk.written.insert(0, elsewhere);
    let other = Superblock {
        disk: Uuid(99),
        ..wanted.clone()
    };
    disk.written.insert(TAIL + 128, other.to_sector(Lba(TAIL + 128)));
    let found = disk.decode().unwrap();
    assert_eq!(found.superblock, wanted);
    let why: Vec<&Why> = found.damage.iter().map(|damage| &damage.why).collect();
    let cluster = wanted.cluster;
    assert_eq!(
        why,
        [
            &Why::Sector(SectorError::WrongPlace { meant: Lba(128) }),
            &Why::OtherDisk {
                disk: Uuid(99),
                cluster
            }
        ]
    );
}

#[test]
fn a_lost_write_of_the_head_is_told() {
    let (mut disk, first) = formatted(DISK_SECTORS, 2);
    let next = update(&first.superblock, &first.superblock, &extents(3)).unwrap();
    disk.write_all(&next.phases[..2]);
    let found = disk.decode().unwrap();
    assert_eq!((found.superblock.sequence, found.extents.len()), (2, 3));
    assert_eq!(found.damage[0].why, Why::OtherWrite { found: 1, wanted: 2 });
    assert_eq!(found.damage.len(), 1);
}

#[test]
fn a_newer_version_is_refused_even_beside_a_known_one() {
    let (mut disk, _) = changed();
    let mut sector = disk.read(Lba(128));
    let newer = VERSION + 1;
    sector[10..12].copy_from_slice(&newer.to_le_bytes());
    sector[12..16].fill(0);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &sector) as u32;
    sector[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.written.insert(128, sector);
    assert_eq!(disk.decode(), Err(DecodeError::WrongVersion { found: newer }));
}

#[test]
fn a_disk_that_grew_is_read_by_its_old_tail_and_one_that_shrank_says_so() {
    let (mut disk, wanted) = changed();
    disk.sectors += 1000;
    assert_eq!(disk.decode().unwrap().damage, vec![]);
    disk.sectors = DISK_SECTORS - 50_000;
    let found = disk.decode().unwrap();
    assert_eq!(found.superblock, wanted);
    let beyond = Why::BeyondEnd {
        wanted: DISK_SECTORS,
        found: disk.sectors,
    };
    let places: Vec<_> = found
        .damage
        .iter()
        .map(|damage| (damage.lba, &damage.why))
        .collect();
    assert_eq!(places, [(Lba(TAIL), &beyond), (Lba(TAIL + 128), &beyond)]);
}

#[test]
fn what_is_not_ours_has_a_name() {
    assert_eq!(
        Disk::blank(100).decode(),
        Err(DecodeError::TooSmall { disk_sectors: 100 })
    );
    assert_eq!(Disk::blank(DISK_SECTORS).decode(), Err(DecodeError::NotOurs));
    let broken = decode(DISK_SECTORS, |_| {
        Err::<[u8; SECTOR_4K_BYTES], _>("input/output error")
    });
    assert!(matches!(broken, Err(DecodeError::Unreadable { damage }) if damage.len() == 4));
    let (mut disk, _) = changed();
    for lba in [0, 128, TAIL, TAIL + 128] {
        spoil(&mut disk, lba);
    }
    assert!(matches!(disk.decode(), Err(DecodeError::Damaged { damage }) if damage.len() == 4));
}

/// Of each place where a superblock belongs: it cannot be read, it is somebody else's or blank, it is a damaged one of
/// ours. Only the last shows that the disk was ours.
#[test]
fn a_disk_without_a_sound_superblock_is_what_its_places_show() {
    let (disk, _) = changed();
    let places = [0, 128, TAIL, TAIL + 128];
    for kinds in 0..4usize.pow(4) {
        let kind_of = |lba: Lba| {
            let at = places.iter().position(|place| *place == lba.0)?;
            Some(kinds / 4usize.pow(at as u32) % 4)
        };
        let read = |lba: Lba| match kind_of(lba) {
            Some(0) => Err("input/output error"),
            Some(1) => Ok([0; SECTOR_4K_BYTES]),
            Some(2) => Ok([7; SECTOR_4K_BYTES]),
            _ => {
                let mut damaged = disk.read(lba);
                damaged[3000] ^= 1;
                Ok(damaged)
            }
        };
        let has = |kind| (0..4).any(|at| kinds / 4usize.pow(at) % 4 == kind);
        let found = decode(DISK_SECTORS, read).unwrap_err();
        match (has(3), has(0)) {
            (true, _) => assert!(matches!(found, DecodeError::Damaged { .. }), "{kinds}: {found}"),
            (false, true) => assert!(
                matches!(found, DecodeError::Unreadable { .. }),
                "{kinds}: {found}"
            ),
            (false, false) => assert_eq!(found, DecodeError::NotOurs, "{kinds}"),
        }
        // The first of what is wrong is in the sentence.
        let (DecodeError::Damaged { damage } | DecodeError::Unreadable { damage }) = &found else {
            continue;
        };
        assert_eq!(damage.len(), 4);
        assert!(found.to_string().ends_with(&damage[0].to_string()), "{found}");
    }
}

/// A superblock whose table is another one than it says is none, however sound by itself.
#[test]
fn a_table_that_does_not_fit_its_superblock_is_not_taken_for_it() {
    let (disk, made) = formatted(DISK_SECTORS, 2);
    let table = made.superblock.table;
    let tables = [
        (table, true),
        (TableRef { count: 1, ..table }, false),
        (TableRef { count: 3, ..table }, false),
        (
            TableRef {
                crc: table.crc ^ 1,
                ..table
            },
            false,
        ),
        (
            TableRef {
                count: 0,
                crc: 0,
                ..table
            },
            true,
        ),
        (TableRef { count: 0, ..table }, false),
        (TableRef { slot: 0, ..table }, false),
    ];
    for (table, sound) in tables {
        let mut disk = disk.clone();
        let forged = Superblock {
            table,
            ..made.superblock.clone()
        };
        for lba in [0, 128, TAIL, TAIL + 128] {
            disk.written.insert(lba, forged.to_sector(Lba(lba)));
        }
        let found = disk.decode();
        match sound {
            true => assert_eq!(found.unwrap().extents.len(), table.count as usize),
            false => assert!(
                matches!(found, Err(DecodeError::Damaged { .. })),
                "{table:?}: {found:?}"
            ),
        }
    }
}

#[test]
fn impossible_changes_are_refused_before_anything_is_written() {
    let mine = superblock(DISK_SECTORS);
    let mut twice = extents(2);
    twice[1].disk_lba = Lba(twice[0].disk_lba.0 + 8);
    assert!(matches!(
        format(&mine, &twice),
        Err(EncodeError::Overlap { indices: [0, 1], .. })
    ));
    let mut outside = extents(1);
    outside[0].disk_lba = Geometry::of(DISK_SECTORS).unwrap().data_end;
    assert_eq!(
        format(&mine, &outside),
        Err(EncodeError::Extent {
            index: 0,
            field: "disk_lba"
        })
    );
    outside[0].disk_lba = Lba(0);
    assert_eq!(
        format(&mine, &outside),
        Err(EncodeError::Extent {
            index: 0,
            field: "disk_lba"
        })
    );
    // Up to the last sector of data, and not one further; in any order of the list, and none over another.
    let end = Geometry::of(DISK_SECTORS).unwrap().data_end.0;
    let at = |lba: u64, sectors: u64| {
        let mut one = extents(1).remove(0);
        one.volume = Uuid(1000 + u128::from(lba));
        (one.disk_lba, one.sectors) = (Lba(lba), sectors);
        one
    };
    let decoded = |list: &[ExtentRecord]| {
        let mut disk = Disk::blank(DISK_SECTORS);
        disk.write_all(&format(&mine, list)?.phases);
        Ok::<_, EncodeError>(disk.decode().unwrap().extents)
    };
    let last = vec![at(end - 16, 16), at(end - 40, 24), at(8192, 8)];
    assert_eq!(decoded(&last), Ok(last));
    let refused = |list: &[ExtentRecord]| format(&mine, list).unwrap_err();
    let field = "disk_lba";
    assert_eq!(
        refused(&[at(end - 16, 17)]),
        EncodeError::Extent { index: 0, field }
    );
    let (indices, lba) = ([1, 0], Lba(end - 16));
    assert_eq!(
        refused(&[at(end - 16, 16), at(end - 40, 25)]),
        EncodeError::Overlap { indices, lba }
    );
    let large = superblock(10_000_000);
    let full: Vec<_> = (0..EXTENTS_PER_DISK_MAX as u64)
        .map(|index| at(8192 + 8 * index, 8))
        .collect();
    let made = format(&large, &full).unwrap();
    let mut disk = Disk::blank(10_000_000);
    disk.write_all(&made.phases);
    assert_eq!(disk.decode().unwrap().extents, full);
    let many = vec![extents(1).remove(0); EXTENTS_PER_DISK_MAX + 1];
    let (count, limit) = (EXTENTS_PER_DISK_MAX + 1, EXTENTS_PER_DISK_MAX);
    assert_eq!(
        format(&mine, &many),
        Err(EncodeError::TooManyExtents { count, limit })
    );
    let older = Superblock {
        generation: Generation(9),
        ..mine.clone()
    };
    assert!(matches!(
        update(&mine, &older, &[]),
        Err(EncodeError::Older { .. })
    ));
    let other = Superblock {
        disk: Uuid(1),
        ..mine.clone()
    };
    assert!(matches!(
        update(&mine, &other, &[]),
        Err(EncodeError::OtherDisk { .. })
    ));
}

/// Any single record spoilt in any way is what it was, bit for bit, after one mending, and nothing else has changed.
#[test]
fn a_damaged_record_is_mended_from_the_sound_ones_bit_for_bit() {
    let (disk, _) = changed();
    let records: Vec<u64> = disk.written.keys().copied().collect();
    let decoded = disk.decode().unwrap();
    let in_force = |lba: u64| {
        let mut spoilt = disk.clone();
        spoilt.written.insert(lba, [0x5a; SECTOR_4K_BYTES]);
        !spoilt.decode().unwrap().damage.is_empty()
    };
    let mut mended = 0;
    for lba in records.into_iter().filter(|lba| in_force(*lba)) {
        for how in 0..3 {
            let mut spoilt = disk.clone();
            let mut sector = spoilt.read(Lba(lba));
            match how {
                0 => sector[40] ^= 8,
                1 => sector.fill(0),
                _ => sector[2048..].fill(0xff),
            }
            spoilt.written.insert(lba, sector);
            let phases = palisade_wire::mend(&spoilt.decode().unwrap()).unwrap();
            spoilt.write_all(&phases);
            assert!(spoilt == disk, "LBA {lba}, {how}");
            mended += 1;
        }
    }
    assert!(mended >= 3 * 6, "{mended}");
    assert_eq!(palisade_wire::mend(&decoded), None);
}
