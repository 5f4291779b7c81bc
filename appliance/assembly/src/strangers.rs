//! Superblocks of Palisade on disks that are given whole, where none of ours belongs: somebody has made a pool of the medium,
//! or the guest runs Palisade itself. Which of the two an operator says, and what he has said is remembered with the disk.

use crate::superblocks;
use palisade_control::SuperblockLook;
use palisade_model::{Cluster, Disk, NESTED_MAX, Usage};
use palisade_reconcile::SuperblockState;
use palisade_sys::Opened;
use palisade_wire::disks_named;
use palisade_words::{Name, Uuid};
use std::path::Path;

/// Looks at all places of superblocks on an open disk that is given whole.
pub fn look(cluster: &Cluster, disk: &Disk, opened: &Opened) -> SuperblockLook {
    let found = named(disk, opened);
    let strangers: Vec<Uuid> = disk.strangers(found).collect();
    if strangers.is_empty() {
        return SuperblockLook::default();
    }
    SuperblockLook {
        superblock: SuperblockState::Foreign,
        sides: Some(whose(cluster, opened, &strangers)),
        ..SuperblockLook::default()
    }
}

/// The disks that superblocks on one that is given whole name, sound or not; so many as can be remembered.
pub fn named(disk: &Disk, opened: &Opened) -> Vec<Uuid> {
    if disk.usage != Usage::Whole || !disk.medium.is_lasting() {
        return Vec::new();
    }
    let named = disks_named(opened.sectors().0, |lba| superblocks::sector(opened, lba));
    named.into_iter().take(NESTED_MAX).collect()
}

/// Whose the superblock is that lies where a disk's own should be, and where that disk is, if it is one of this cluster's: then
/// one of the two is a copy.
pub fn whose(cluster: &Cluster, opened: &Opened, strangers: &[Uuid]) -> String {
    let told = described(opened, strangers);
    match superblocks::disk_named(cluster, opened) {
        Some((name, disk)) => format!("{told}. {}", is_ours(name, disk, opened)),
        None => told,
    }
}

/// Said of a superblock that names a disk of this cluster in the place of another one.
fn is_ours(name: &Name, disk: &Disk, opened: &Opened) -> String {
    let here = opened.path().unwrap_or(Path::new("")).display();
    let recorded = disk.medium.path().unwrap_or_default();
    format!(
        "That is disk {name} of this appliance, recorded at {recorded}: {here} is a copy of it, or the two have changed places"
    )
}

/// Whose it is.
fn described(opened: &Opened, strangers: &[Uuid]) -> String {
    match superblocks::read(opened) {
        Ok(found) => {
            let superblock = &found.superblock;
            format!(
                "It is that of disk {}, called {} there, of cluster {}, generation {}",
                superblock.disk, superblock.label, superblock.cluster, superblock.generation
            )
        }
        Err(error) => {
            let named: Vec<String> = strangers.iter().map(ToString::to_string).collect();
            format!("It names disk {}, and cannot be used: {error}", named.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk_growth::tests::disk;
    use crate::opening;
    use palisade_model::Medium;
    use palisade_wire::{Geometry, Label, Superblock, TableRef, format};
    use palisade_words::{Epoch, Generation};
    use std::time::Duration;

    const BYTES: u64 = 64 << 20;

    /// A file that is given whole, and its disk.
    fn whole(path: &Path) -> (Disk, Opened) {
        std::fs::File::create(path).unwrap().set_len(BYTES).unwrap();
        let medium = Medium::File {
            path: path.display().to_string(),
            bytes: BYTES,
            created: true,
        };
        let opened = Opened::open(&opening::spec(&medium, 512), Duration::ZERO).unwrap();
        let sectors = BYTES / 512;
        let disk = Disk {
            usage: Usage::Whole,
            sectors,
            data_end: sectors,
            ..disk(medium)
        };
        (disk, opened)
    }

    /// Another daemon makes a pool of the medium.
    fn pool(opened: &Opened, id: u128) {
        let geometry = Geometry::of(BYTES / 512).unwrap();
        let superblock = Superblock {
            disk: Uuid(id),
            cluster: Uuid(4),
            owner: Uuid(5),
            label: Label::new("theirs").unwrap(),
            block_bytes: 512,
            disk_sectors: BYTES / 512,
            data_start: geometry.data_start,
            data_end: geometry.data_end,
            generation: Generation(9),
            epoch: Epoch(1),
            sequence: 0,
            table: TableRef::default(),
            lineage: None,
        };
        let update = format(&superblock, &[]).unwrap();
        for write in update.phases.iter().flat_map(|phase| &phase.writes) {
            opened.write_at(write.lba.0 * 512, &write.bytes).unwrap();
        }
    }

    #[test]
    fn a_whole_disk_that_somebody_has_pooled_is_told_from_one_that_its_guest_has() {
        let folder = tempfile::tempdir().unwrap();
        let (mut disk, opened) = whole(&folder.path().join("d1"));
        assert_eq!(look(&Cluster::empty(), &disk, &opened), SuperblockLook::default());
        pool(&opened, 7);
        let found = look(&Cluster::empty(), &disk, &opened);
        assert_eq!(found.superblock, SuperblockState::Foreign);
        let told = found.sides.unwrap();
        let whose = [Uuid(7).to_string(), "theirs".to_owned(), Uuid(4).to_string()];
        assert!(whose.iter().all(|one| told.contains(one)), "{told}");

        // That of a disk of ours is a copy, or the two have changed places: both paths are told.
        let mut cluster = Cluster::empty();
        let original = Disk {
            uuid: Uuid(7),
            ..crate::disk_growth::tests::disk(Medium::Block {
                path: "/dev/original".into(),
                wwid: None,
            })
        };
        cluster.disks.insert(Name::new("d7").unwrap(), original);
        let told = look(&cluster, &disk, &opened).sides.unwrap();
        let paths = ["disk d7 of this appliance", "/dev/original", "d1 is a copy of it"];
        assert!(paths.iter().all(|one| told.contains(one)), "{told}");

        // One copy is enough, sound or not, at either end.
        let area = palisade_wire::AREA_SECTORS * 512;
        let all: Vec<u64> = (0..BYTES / 4096).map(|at| at * 4096).collect();
        let mut sector = [0; 4096];
        let mut places = Vec::new();
        for at in all.into_iter().filter(|at| *at < area || *at >= BYTES - area) {
            opened.read_at(at, &mut sector).unwrap();
            if sector.starts_with(&palisade_wire::MAGIC) {
                places.push((at, sector));
            }
        }
        assert!(places.len() >= 4, "{}", places.len());
        for (at, sector) in &places {
            superblocks::wipe(&opened).unwrap();
            assert_eq!(look(&Cluster::empty(), &disk, &opened), SuperblockLook::default());
            let mut damaged = *sector;
            damaged[4000] ^= 1;
            opened.write_at(*at, &damaged).unwrap();
            assert_eq!(
                look(&Cluster::empty(), &disk, &opened).superblock,
                SuperblockState::Foreign,
                "at {at}"
            );
        }

        // What an operator has called the guest's is asked no more; what comes after it is.
        superblocks::wipe(&opened).unwrap();
        pool(&opened, 7);
        disk.record.nested = named(&disk, &opened);
        assert_eq!(disk.record.nested, [Uuid(7)]);
        assert_eq!(look(&Cluster::empty(), &disk, &opened), SuperblockLook::default());
        superblocks::wipe(&opened).unwrap();
        pool(&opened, 8);
        assert_eq!(
            look(&Cluster::empty(), &disk, &opened).superblock,
            SuperblockState::Foreign
        );
    }
}
