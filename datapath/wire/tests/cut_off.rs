//! What a first write that was cut off has left is told from what is somebody else's: only the first may be written over.

#![cfg(test)]

mod disk;

use disk::{DISK_SECTORS, Disk, extents, superblock};
use palisade_wire::{AREA_SECTORS, Geometry, Lba, MAGIC, SECTOR_BYTES, format, is_cut_off_write_of};
use std::convert::Infallible;

fn is_cut_off(disk: &Disk) -> bool {
    let ours = superblock(DISK_SECTORS);
    is_cut_off_write_of(DISK_SECTORS, ours.disk, ours.cluster, |lba| {
        Ok::<_, Infallible>(disk.read(lba))
    })
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
            .any(|write| write.bytes != [0; SECTOR_BYTES])
    };
    for upto in 1..=writes.len() {
        let mut disk = Disk::blank(DISK_SECTORS);
        writes[..upto].iter().for_each(|write| disk.write(write));
        assert_eq!(is_cut_off(&disk), carries_something(upto), "after {upto} writes");
    }
    for write in writes.iter().filter(|write| write.bytes != [0; SECTOR_BYTES]) {
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
        let mut end = [0; SECTOR_BYTES];
        end[SECTOR_BYTES - 512..].copy_from_slice(&write.bytes[SECTOR_BYTES - 512..]);
        let mut torn = Disk::blank(DISK_SECTORS);
        torn.written.insert(write.lba.0, end);
        let says_anything = end != [0; SECTOR_BYTES];
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
            let mut sector = [0; SECTOR_BYTES];
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
    let mut end = [0; SECTOR_BYTES];
    end[SECTOR_BYTES - 8] = 1;
    strange.written.insert(0, end);
    let torn_alone = is_cut_off(&strange);
    strange.written.insert(Lba(8).0, [7; SECTOR_BYTES]);
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
    let none = |_| Ok::<_, Infallible>([0; SECTOR_BYTES]);
    assert!(!is_cut_off_write_of(8, ours.disk, ours.cluster, none));
}
