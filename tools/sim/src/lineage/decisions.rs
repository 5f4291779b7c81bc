//! What an operator decides about the disk: a side is taken, or the disk is taken in by a new database.

use super::{World, begin, name};
use palisade_model::{AdoptDisk, Command, ImportDisks, ImportedDisk, ImportedExtent, OnMedium};
use palisade_reconcile::SuperblockState;
use palisade_volume::{emptied, image};
use palisade_wire::{Decoded, ExtentRecord, Geometry};
use palisade_words::limits::ALLOCATION_UNIT_SECTORS;
use palisade_words::{Name, Uuid};
use std::collections::BTreeSet;

impl World {
    /// The operator looks at what would be lost, and takes it.
    pub(super) fn adopt(&mut self) -> Result<(), String> {
        let disk = name("d")?;
        let known = self.last_read()?.filter(|_| self.is_idle());
        let (Some(known), Some(wanted)) = (known, self.running.cluster.disks.get(&disk)) else {
            return Ok(());
        };
        let older = matches!(known, SuperblockState::Older { .. });
        let is_open_question = matches!(
            known,
            SuperblockState::Newer { .. } | SuperblockState::Diverged { .. }
        );
        if !is_open_question && !older {
            return Ok(());
        }
        let (uuid, over) = (wanted.uuid, wanted.superblock_generation());
        let Ok(found) = self.read() else {
            return Ok(());
        };
        // Whoever carries the decision out reads again under the lock, and refuses what is not what was shown; the planner and
        // the rule of what may be written stand even where that is left out.
        if self.rng.one_in(4) {
            self.owner_comes()?;
        }
        let should = image(&self.running.cluster, &disk).map_err(|error| error.to_string())?;
        let emptied = emptied(&found.extents, &should.extents, older);
        let adopt = AdoptDisk {
            name: disk.clone(),
            uuid,
            seen: Some(seen(&found)),
            empties: emptied.keys().copied().collect(),
            keeps: emptied.into_iter().filter(|(_, kept)| *kept > 0).collect(),
            older,
        };
        let before = self.running.cluster.generation;
        if self.apply(&Command::AdoptDisk(adopt)) {
            if self.running.cluster.generation > before {
                self.record.choose(found.superblock.point(), over);
            }
            self.shows_only_its_own(&disk, &found, older)?;
            self.knows(found.superblock.generation);
            self.left = None;
            // It is this database's from now on, and goes with the disk when that is given up.
            self.running.marks.push(found.superblock.point());
            self.running.taken = Some(found.superblock.generation);
            self.running.been.push(found.extents);
        }
        Ok(())
    }

    /// What guests may use of the disk after a side was taken was their volume's own on the medium as well: sector by sector.
    fn shows_only_its_own(&self, disk: &Name, found: &Decoded, older: bool) -> Result<(), String> {
        let now = image(&self.running.cluster, disk).map_err(|error| error.to_string())?;
        let own = |volume: Uuid, lba: u64, at: u64| {
            found.extents.iter().any(|extent| {
                let inside = (extent.disk_lba.0..extent.disk_end().0).contains(&at);
                inside && extent.volume == volume && extent.volume_lba.0 + (at - extent.disk_lba.0) == lba
            })
        };
        let others = |volume: Uuid, at: u64| {
            let mut all = found.extents.iter();
            all.any(|extent| {
                extent.volume != volume && (extent.disk_lba.0..extent.disk_end().0).contains(&at)
            })
        };
        for extent in &now.extents {
            let steps = (0..extent.sectors).step_by(ALLOCATION_UNIT_SECTORS as usize);
            for into in steps.chain([extent.sectors - 1]) {
                let (lba, at) = (extent.volume_lba.0 + into, extent.disk_lba.0 + into);
                if others(extent.volume, at) || older && !own(extent.volume, lba, at) {
                    return Err(format!(
                        "volume {:x} shows sector {at} of the disk, which was not its own there",
                        extent.volume.0
                    ));
                }
            }
        }
        Ok(())
    }

    /// The database is lost; a new one takes the disk in with what it tells.
    pub(super) fn import(&mut self) -> Result<(), String> {
        if self.read().is_err() {
            return Ok(());
        }
        self.restart(false)?;
        // As at each opening, what is in the disk's cache is made stable before it is relied on.
        let mark = self.medium.flush_begin();
        self.medium.flush_end(mark);
        let Ok(found) = self.read() else { return Ok(()) };
        let fresh = begin(&mut self.rng)?;
        self.kept.push(std::mem::replace(&mut self.running, fresh));
        self.node.restart(self.running.cluster.generation);
        let geometry = Geometry::of(self.disk_sectors).map_err(|error| error.to_string())?;
        let disk = self.as_added(found.superblock.disk.0, &geometry)?;
        let extents: Result<Vec<ImportedExtent>, String> = found.extents.iter().map(imported).collect();
        let import = ImportDisks {
            disks: vec![ImportedDisk {
                disk,
                seen: seen(&found),
                extents: extents?,
            }],
            cluster: self.rng.one_in(2).then_some(found.superblock.cluster),
            holds_clearings: false,
            regards_protection: true,
        };
        if !self.apply(&Command::ImportDisks(import)) {
            return Err("a disk cannot be imported".into());
        }
        self.record.keep_of_new(found.superblock.generation);
        self.knows(found.superblock.generation);
        self.left = None;
        let volumes: BTreeSet<Uuid> = self
            .running
            .cluster
            .volumes
            .values()
            .map(|volume| volume.uuid)
            .collect();
        let told: BTreeSet<Uuid> = found.extents.iter().map(|extent| extent.volume).collect();
        if volumes != told {
            return Err(format!(
                "{} volumes were told of and {} came",
                told.len(),
                volumes.len()
            ));
        }
        self.running.marks.push(found.superblock.point());
        self.running.taken = Some(found.superblock.generation);
        self.running.been.push(found.extents);
        Ok(())
    }
}

fn imported(extent: &ExtentRecord) -> Result<ImportedExtent, String> {
    Ok(ImportedExtent {
        volume: extent.volume,
        name: name(extent.volume_name.as_str())?,
        volume_sectors: extent.volume_sectors,
        block_bytes: extent.block_bytes,
        volume_lba: extent.volume_lba.0,
        disk_lba: extent.disk_lba.0,
        sectors: extent.sectors,
    })
}

fn seen(found: &Decoded) -> OnMedium {
    let oldest_first = found
        .superblock
        .lineage
        .iter()
        .flat_map(|lineage| lineage.ancestors.iter().rev());
    OnMedium {
        point: found.superblock.point(),
        epoch: found.superblock.epoch,
        ancestors: oldest_first.copied().collect(),
    }
}
