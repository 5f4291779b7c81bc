//! What a first write that was cut off has left is told from what is somebody else's: only the first may be written over.

#![cfg(test)]

mod disk;

use disk::{DISK_SECTORS, Disk, extents, superblock};
use palisade_wire::{
    AREA_SECTORS, Geometry, MAGIC, SECTOR_4K_BYTES, disks_named, erase, format, is_cut_off_erasure_of,
    is_cut_off_write_of,
};
use palisade_words::{Lba, Uuid};
use std::collections::BTreeSet;
use std::convert::Infallible;

fn is_cut_off(disk: &Disk) -> bool {
    let ours = superblock(DISK_SECTORS);
    is_cut_off_write_of(DISK_SECTORS, ours.disk, ours.cluster, |lba| {
        Ok::<_, Infallible>(disk.read(lba))
    })
}

fn is_erased_in_part(disk: &Disk) -> bool {
    let ours = superblock(DISK_SECTORS).disk;
    is_cut_off_erasure_of(DISK_SECTORS, ours, |lba| Ok::<_, Infallible>(disk.read(lba)))
}

/// A sector that names a disk, and is sound by nothing else.
fn naming(disk: u128) -> [u8; SECTOR_4K_BYTES] {
    let mut sector = [0; SECTOR_4K_BYTES];
    sector[..MAGIC.len()].copy_from_slice(&MAGIC);
    sector[80..96].copy_from_slice(&disk.to_le_bytes());
    sector
}

/// The places at the ends of the two areas.
fn ends() -> [u64; 4] {
    let tail = Geometry::of(DISK_SECTORS).unwrap().tail.0;
    [0, AREA_SECTORS - 8, tail, tail + AREA_SECTORS - 8]
}

/// An erasure begins with the superblocks at the tail. As long as one of these is there, a disk that cannot be read is a
/// damaged one, and nothing more of it may be erased.
#[test]
fn an_erasure_is_known_from_the_moment_at_which_the_tail_is_gone() {
    let made = format(&superblock(DISK_SECTORS), &extents(3)).unwrap();
    let mut disk = Disk::blank(DISK_SECTORS);
    disk.write_all(&made.phases);
    let phases = erase(DISK_SECTORS).unwrap();
    let mut known = vec![is_erased_in_part(&disk)];
    for write in phases.iter().flat_map(|phase| &phase.writes) {
        let before = disk.read(write.lba);
        disk.write(write);
        if before != write.bytes {
            known.push(is_erased_in_part(&disk));
        }
    }
    // Whole; tail A, tail B; head A, head B; the tables at tail and head, of which the last one is all that was left.
    assert_eq!(known, [false, false, true, true, true, true, false]);
    // In the other order of the two at the tail.
    let mut disk = Disk::blank(DISK_SECTORS);
    disk.write_all(&made.phases);
    disk.write(&phases[0].writes[1]);
    assert!(!is_erased_in_part(&disk));
}

#[test]
fn what_is_not_of_this_disk_is_no_cut_off_erasure() {
    let ours = superblock(DISK_SECTORS).disk;
    let [_, _, tail, _] = ends();
    for lba in [8, 128, AREA_SECTORS - 8, tail + 8, tail + AREA_SECTORS - 8] {
        let mut disk = Disk::blank(DISK_SECTORS);
        assert!(!is_erased_in_part(&disk), "nothing names it");
        disk.written.insert(lba, naming(ours.0));
        assert!(is_erased_in_part(&disk), "only what lies at {lba} names it");
        for other in ends() {
            let mut disk = disk.clone();
            disk.written.insert(other, naming(ours.0 + 1));
            assert!(lba == other || !is_erased_in_part(&disk), "another's at {other}");
        }
        // Bytes of nobody's are not ours to judge: volumes' data has no place here.
        disk.written.insert(16, [7; SECTOR_4K_BYTES]);
        assert!(is_erased_in_part(&disk));
    }
    for lba in [tail, tail + 128] {
        let mut disk = Disk::blank(DISK_SECTORS);
        disk.written.insert(0, naming(ours.0));
        disk.written.insert(lba, naming(ours.0));
        assert!(!is_erased_in_part(&disk), "a superblock at the tail, {lba}");
    }
    let named = |lba: Lba| {
        if lba.0 == tail + 8 {
            Err(())
        } else {
            Ok(naming(ours.0))
        }
    };
    assert!(!is_cut_off_erasure_of(DISK_SECTORS, ours, named));
    assert!(!is_cut_off_erasure_of(8, ours, |_| Ok::<_, Infallible>(naming(
        ours.0
    ))));
}

#[test]
fn all_disks_are_named_that_any_sector_of_the_two_areas_names() {
    let mut disk = Disk::blank(DISK_SECTORS);
    for (number, lba) in ends().into_iter().enumerate() {
        disk.written.insert(lba, naming(number as u128 + 1));
    }
    let [_, _, tail, _] = ends();
    for beside in [AREA_SECTORS, tail - 8] {
        disk.written.insert(beside, naming(9));
    }
    let all = disks_named(DISK_SECTORS, |lba| Ok::<_, Infallible>(disk.read(lba)));
    assert_eq!(all, BTreeSet::from([1, 2, 3, 4].map(Uuid)));
    // One that cannot be read names none, and hides none.
    let some = disks_named(DISK_SECTORS, |lba| match lba.0 {
        0 => Err("input/output error"),
        _ => Ok(disk.read(lba)),
    });
    assert_eq!(some, BTreeSet::from([2, 3, 4].map(Uuid)));
    let none = disks_named(8, |_| Ok::<_, Infallible>(naming(1)));
    assert_eq!(none, BTreeSet::new());
}

/// Whatever part of the first write has arrived, in whichever order within a phase, it is known for what it is.
#[test]
fn each_beginning_of_a_first_write_is_known() {
    let made = format(&superblock(DISK_SECTORS), &extents(3)).unwrap();
    let writes: Vec<_> = made.phases.iter().flat_map(|phase| &phase.writes).collect();
    assert!(!is_cut_off(&Disk::blank(DISK_SECTORS)), "nothing has arrived");
    let carries_something = |upto: usize| {
        writes[..upto]
            .iter()
            .any(|write| write.bytes != [0; SECTOR_4K_BYTES])
    };
    for upto in 1..=writes.len() {
        let mut disk = Disk::blank(DISK_SECTORS);
        writes[..upto].iter().for_each(|write| disk.write(write));
        assert_eq!(is_cut_off(&disk), carries_something(upto), "after {upto} writes");
    }
    for write in writes.iter().filter(|write| write.bytes != [0; SECTOR_4K_BYTES]) {
        let mut disk = Disk::blank(DISK_SECTORS);
        disk.write(write);
        assert!(is_cut_off(&disk), "only the one at {}", write.lba.0);
        let mut torn = Disk::blank(DISK_SECTORS);
        torn.write_torn(write, 1);
        assert!(
            is_cut_off(&torn),
            "only the beginning of the one at {}",
            write.lba.0
        );
        // The end alone: the number of the write, and no name.
        let mut end = [0; SECTOR_4K_BYTES];
        end[SECTOR_4K_BYTES - 512..].copy_from_slice(&write.bytes[SECTOR_4K_BYTES - 512..]);
        let mut torn = Disk::blank(DISK_SECTORS);
        torn.written.insert(write.lba.0, end);
        let says_anything = end != [0; SECTOR_4K_BYTES];
        assert!(
            !says_anything || is_cut_off(&torn),
            "only the end of the one at {}",
            write.lba.0
        );
    }
}

/// One sector of somebody else's, wherever in the two areas, and nothing is written over.
#[test]
fn what_is_not_of_this_disk_is_no_cut_off_write() {
    let made = format(&superblock(DISK_SECTORS), &extents(3)).unwrap();
    let mut ours = Disk::blank(DISK_SECTORS);
    ours.write_all(&made.phases);
    assert!(is_cut_off(&ours));
    let tail = Geometry::of(DISK_SECTORS).unwrap().tail.0;
    for lba in [0, 8, AREA_SECTORS - 8, tail, tail + AREA_SECTORS - 8] {
        // The cluster's id and the disk's.
        for byte in [64, 80] {
            let mut foreign = ours.clone();
            let mut sector = [0; SECTOR_4K_BYTES];
            sector[..MAGIC.len()].copy_from_slice(&MAGIC);
            let mine = made.phases.iter().flat_map(|phase| &phase.writes);
            let named = mine
                .map(|write| write.bytes)
                .find(|bytes| bytes.starts_with(&MAGIC));
            sector[64..96].copy_from_slice(&named.unwrap()[64..96]);
            sector[byte] ^= 0x55;
            foreign.written.insert(lba, sector);
            assert!(!is_cut_off(&foreign), "another's at {lba}, byte {byte}");
        }
    }
    // A stranger's bytes beside torn ends are a stranger's.
    let mut strange = Disk::blank(DISK_SECTORS);
    let mut end = [0; SECTOR_4K_BYTES];
    end[SECTOR_4K_BYTES - 8] = 1;
    strange.written.insert(0, end);
    let torn_alone = is_cut_off(&strange);
    strange.written.insert(Lba(8).0, [7; SECTOR_4K_BYTES]);
    assert!(!is_cut_off(&strange));
    assert!(torn_alone, "the end of a torn sector alone");
    // Nor is it when a sector cannot be read, or the disk is too small for any.
    let ours = superblock(DISK_SECTORS);
    assert!(!is_cut_off_write_of(
        DISK_SECTORS,
        ours.disk,
        ours.cluster,
        |_| Err(())
    ));
    let none = |_| Ok::<_, Infallible>([0; SECTOR_4K_BYTES]);
    assert!(!is_cut_off_write_of(8, ours.disk, ours.cluster, none));
}
