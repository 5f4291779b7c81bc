//! What is left on a disk that cannot be decoded: of a write or an erasure that was cut off, and of whom.

use crate::geometry::{AREA_SECTORS, Geometry, SECTORS_PER_4K, SUPERBLOCKS};
use crate::sector::{Sector, claimed, is_end_of_a_torn_sector};
use palisade_words::{Lba, Uuid};
use std::collections::BTreeSet;

/// Whether what lies in the head and tail area of a disk that cannot be decoded is what a first write of this disk's
/// superblock has left that was cut off: some sector names the disk, and none another; or there is nothing but zeroes and
/// the ends of torn superblocks. On a disk whose first superblock is still to come, nothing else of ours can lie there.
pub fn is_cut_off_write_of<E>(
    disk_sectors: u64,
    disk: Uuid,
    cluster: Uuid,
    mut read: impl FnMut(Lba) -> Result<Sector, E>,
) -> bool {
    let Ok(geometry) = Geometry::of(disk_sectors) else {
        return false;
    };
    let (mut named, mut torn, mut other) = (false, false, false);
    for tail in [false, true] {
        let start = geometry.area(tail);
        for lba in (start..start + AREA_SECTORS)
            .step_by(SECTORS_PER_4K as usize)
            .map(Lba)
        {
            let Ok(bytes) = read(lba) else { return false };
            match claimed(&bytes) {
                Some(whose) if whose == (disk, cluster) => named = true,
                Some(_) => return false,
                None if bytes.iter().all(|byte| *byte == 0) => {}
                // The beginning, which carries the name, did not arrive, and the end did.
                None if is_end_of_a_torn_sector(&bytes) => torn = true,
                None => other = true,
            }
        }
    }
    named || (torn && !other)
}

/// Whether what lies in the head and tail area of a disk that cannot be decoded is what an [`erase`](crate::erase) of
/// this disk has left that was cut off: no superblock at the tail, which goes first, and some sector that names the disk,
/// and none another. A superblock that was damaged by itself has a copy at the tail.
pub fn is_cut_off_erasure_of<E>(
    disk_sectors: u64,
    disk: Uuid,
    mut read: impl FnMut(Lba) -> Result<Sector, E>,
) -> bool {
    let Ok(geometry) = Geometry::of(disk_sectors) else {
        return false;
    };
    let mut named = false;
    for tail in [false, true] {
        let start = geometry.area(tail);
        for place in (0..AREA_SECTORS).step_by(SECTORS_PER_4K as usize) {
            let Ok(bytes) = read(Lba(start + place)) else {
                return false;
            };
            match claimed(&bytes) {
                Some((whose, _)) if whose != disk => return false,
                Some(_) if tail && SUPERBLOCKS.contains(&place) => return false,
                Some(_) => named = true,
                None => {}
            }
        }
    }
    named
}

/// The disks that sectors of the head and tail area name, sound or not. What cannot be read names none.
pub fn disks_named<E>(disk_sectors: u64, mut read: impl FnMut(Lba) -> Result<Sector, E>) -> BTreeSet<Uuid> {
    let Ok(geometry) = Geometry::of(disk_sectors) else {
        return BTreeSet::new();
    };
    let starts = [geometry.area(false), geometry.area(true)];
    let places = starts
        .into_iter()
        .flat_map(|start| (start..start + AREA_SECTORS).step_by(SECTORS_PER_4K as usize));
    let claims = places.filter_map(|lba| claimed(&read(Lba(lba)).ok()?));
    claims.map(|(disk, _)| disk).collect()
}
