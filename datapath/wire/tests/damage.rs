//! Damage is noticed, told, and read around.

#![cfg(test)]

mod disk;

use disk::{DISK_SECTORS, Disk, extents, formatted, superblock};
use palisade_wire::{
    Damage, DecodeError, EXTENTS_MAX, EncodeError, Geometry, Lba, Part, Place, SECTOR_BYTES, SectorError,
    Superblock, Why, decode, format, update,
};

const TAIL: u64 = DISK_SECTORS / 8 * 8 - 4096;

/// A disk that was formatted and changed once: A and B differ by one write.
fn changed() -> (Disk, Superblock) {
    let (mut disk, first) = formatted(DISK_SECTORS, 2);
    let next = Superblock {
        generation: 11,
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
        for bit in 0..SECTOR_BYTES * 8 {
            let mut turned = disk.read(Lba(lba));
            turned[bit / 8] ^= 1 << (bit % 8);
            let read = |at: Lba| Ok::<_, String>(if at.0 == lba { turned } else { disk.read(at) });
            let found = decode(DISK_SECTORS, read).unwrap();
            assert_eq!(
                (&found.superblock, found.extents.len()),
                (&wanted, 20),
                "bit {bit} at {lba}"
            );
            let place = Place {
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
    assert!(
        found
            .damage
            .iter()
            .any(|damage| damage.why == Why::TableLost { sequence: 2 })
    );
}

#[test]
fn a_misdirected_sector_and_one_of_another_disk_are_refused() {
    let (mut disk, wanted) = changed();
    let elsewhere = disk.read(Lba(128));
    disk.written.insert(0, elsewhere);
    let other = Superblock {
        disk: 99,
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
            &Why::OtherDisk { disk: 99, cluster }
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
    sector[10] = 3;
    sector[12..16].fill(0);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &sector) as u32;
    sector[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.written.insert(128, sector);
    assert_eq!(disk.decode(), Err(DecodeError::WrongVersion { found: 3 }));
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
    assert!(found.damage.len() == 2 && found.damage.iter().all(|damage| damage.why == beyond));
}

#[test]
fn what_is_not_ours_has_a_name() {
    assert_eq!(
        Disk::blank(100).decode(),
        Err(DecodeError::TooSmall { disk_sectors: 100 })
    );
    assert_eq!(Disk::blank(DISK_SECTORS).decode(), Err(DecodeError::NotOurs));
    let broken = decode(DISK_SECTORS, |_| {
        Err::<[u8; SECTOR_BYTES], _>("input/output error")
    });
    assert!(matches!(broken, Err(DecodeError::Unreadable { damage }) if damage.len() == 4));
    let (mut disk, _) = changed();
    for lba in [0, 128, TAIL, TAIL + 128] {
        spoil(&mut disk, lba);
    }
    assert!(matches!(disk.decode(), Err(DecodeError::Damaged { damage }) if damage.len() == 4));
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
    let many = vec![extents(1).remove(0); EXTENTS_MAX + 1];
    let (count, limit) = (EXTENTS_MAX + 1, EXTENTS_MAX);
    assert_eq!(
        format(&mine, &many),
        Err(EncodeError::TooManyExtents { count, limit })
    );
    let older = Superblock {
        generation: 9,
        ..mine.clone()
    };
    assert!(matches!(
        update(&mine, &older, &[]),
        Err(EncodeError::Older { .. })
    ));
    let other = Superblock {
        disk: 1,
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
        spoilt.written.insert(lba, [0x5a; SECTOR_BYTES]);
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
