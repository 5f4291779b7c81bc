//! Volumes' space is cleared, and how volumes are treated changes.

use super::{expect_revision, not_found, require};
use crate::argument::{Field, Rule};
use crate::clearing::{Clear, Clearing};
use crate::cluster::Cluster;
use crate::command::{ChangeVolume, ClearHeld, Outcome, RecordCleared};
use crate::disk::{Disk, Medium, Usage};
use crate::refusal::{Kind, Refusal};
use crate::volume::Volume;
use palisade_words::{Generation, Name, Uuid};
use std::collections::BTreeMap;

impl Cluster {
    /// When a volume's space is cleared: as its operator has chosen, else before use on pooled disks and never on a
    /// whole one, which the first volume on it gets untouched. `None` for an unknown volume.
    pub fn clear_of(&self, volume: &Name) -> Option<Clear> {
        let volume = self.volumes.get(volume)?;
        let disk = self.disks.get(&volume.all_extents().first()?.disk)?;
        Some(clear_on(disk, volume.clear))
    }

    pub(super) fn change_volume(&mut self, change: &ChangeVolume) -> Result<Outcome, Refusal> {
        let (name, generation) = (&change.name, self.generation);
        let volume = self
            .volumes
            .get(name)
            .ok_or_else(|| not_found(Kind::Volume, name))?;
        not_going(name, volume)?;
        expect_revision(Kind::Volume, name, change.expected, volume.revision)?;
        let mut next = volume.clone();
        next.protected = change.protected.unwrap_or(next.protected);
        next.clear = change.clear.or(next.clear);
        if next == *volume {
            return Ok(Outcome::Unchanged {
                revision: volume.revision,
            });
        }
        let gives = change.clear == Some(Clear::Never) && next.clearing.is_some();
        let is_others = next.clearing.is_some_and(|clearing| clearing.withheld);
        let rule = Rule::ClearsOthers;
        require(!(gives && is_others), Kind::Volume, name, Field::Clear, rule)?;
        // What guests may use is as before, and so is its route.
        next.layout_revision = Some(volume.route_generation());
        next.revision = generation;
        if gives {
            next.end_clearing(generation);
            self.touch_disks(&next);
        }
        self.volumes.insert(name.clone(), next);
        Ok(Outcome::Changed { revision: generation })
    }

    pub(super) fn record_cleared(&mut self, record: &RecordCleared) -> Result<Outcome, Refusal> {
        let (name, generation) = (&record.name, self.generation);
        let found = self.volumes.get(name);
        let volume = found
            .filter(|volume| volume.uuid == record.uuid)
            .ok_or_else(|| not_found(Kind::Volume, name))?;
        let fits = record.sectors <= volume.sectors
            && record.sectors.is_multiple_of(u64::from(volume.block_bytes / 512));
        let rule = Rule::WholeBlocksInside;
        require(fits, Kind::Volume, name, Field::Sectors, rule)?;
        let follows = |now: &Clearing| (record.start..record.sectors).contains(&now.cleared);
        let Some(clearing) = volume.clearing.filter(follows) else {
            return Ok(Outcome::Unchanged {
                revision: volume.revision,
            });
        };
        let is_all = record.sectors == volume.sectors;
        let mut next = volume.clone();
        if is_all && volume.deleting {
            self.volumes.remove(name);
            return Ok(Outcome::Removed { revision: generation });
        }
        if is_all {
            next.end_clearing(generation);
            self.touch_disks(&next);
        } else {
            next.clearing = Some(Clearing {
                cleared: record.sectors,
                ..clearing
            });
        }
        self.volumes.insert(name.clone(), next);
        Ok(Outcome::Changed { revision: generation })
    }

    /// Holds the clearings on disks without a superblock, as the database that knows of them was put back from a copy.
    pub(super) fn hold_clearings(&mut self) -> Outcome {
        let (revision, disks) = (self.generation, &self.disks);
        let mut is_changed = false;
        for volume in self.volumes.values_mut() {
            let on = volume
                .all_extents()
                .first()
                .and_then(|extent| disks.get(&extent.disk));
            let is_unrecorded = on.is_some_and(|disk| disk.medium.is_lasting() && !disk.has_superblock());
            let Some(clearing) = volume.clearing.as_mut().filter(|_| is_unrecorded) else {
                continue;
            };
            if clearing.held {
                continue;
            }
            clearing.held = true;
            volume.layout_revision = None;
            volume.revision = revision;
            is_changed = true;
        }
        match is_changed {
            true => Outcome::Changed { revision },
            false => Outcome::Unchanged { revision },
        }
    }

    /// An operator says that what lies under a volume whose clearing is held is nobody's.
    pub(super) fn clear_held(&mut self, held: &ClearHeld) -> Result<Outcome, Refusal> {
        let (name, revision) = (&held.name, self.generation);
        let found = self.volumes.get_mut(name);
        let volume = found.ok_or_else(|| not_found(Kind::Volume, name))?;
        expect_revision(Kind::Volume, name, held.expected, volume.revision)?;
        let before = volume.revision;
        let Some(clearing) = volume.clearing.as_mut().filter(|clearing| clearing.held) else {
            return Ok(Outcome::Unchanged { revision: before });
        };
        clearing.held = false;
        volume.layout_revision = None;
        volume.revision = revision;
        Ok(Outcome::Changed { revision })
    }

    /// Begins the clearings anew that have come further on a disk: its medium is another one by now, or was in other hands, and
    /// what was cleared is not known to be so there.
    pub(super) fn clear_again(&mut self, disk: &Name) {
        let revision = self.generation;
        for volume in self.volumes.values_mut().filter(|volume| volume.lies_on(disk)) {
            let in_force = volume.route_generation();
            let Some(clearing) = volume.clearing.as_mut().filter(|now| now.cleared > now.from) else {
                continue;
            };
            clearing.cleared = clearing.from;
            // What guests may use is as before, and so is its route.
            volume.layout_revision = Some(in_force);
            volume.revision = revision;
        }
    }

    /// Clears volumes behind what they keep, from their beginning if that is nothing, before a guest sees anything of that
    /// again: somebody else has written there.
    pub(super) fn empty_volumes(&mut self, empties: &[Uuid], keeps: &BTreeMap<Uuid, u64>) {
        let generation = self.generation;
        let of = |volume: &&mut Volume| empties.contains(&volume.uuid);
        let mut emptied = Vec::new();
        for volume in self.volumes.values_mut().filter(of) {
            let kept = keeps.get(&volume.uuid).copied().unwrap_or_default();
            volume.clearing = Some(Clearing {
                withheld: true,
                ..Clearing::behind(kept, generation)
            });
            volume.layout_revision = None;
            volume.revision = generation;
            emptied.push(volume.clone());
        }
        emptied.iter().for_each(|volume| self.touch_disks(volume));
    }

    /// Whether a guest may have written to a volume, and it may still be there.
    pub fn holds_data(&self, volume: &Volume) -> bool {
        let may_hold = volume.usable_sectors() > 0 || volume.is_clearing_held();
        may_hold && self.keeps_content(volume)
    }

    /// Whether a volume lies on anything that keeps what is written to it.
    pub fn keeps_content(&self, volume: &Volume) -> bool {
        let extents = volume.all_extents().iter();
        let mut disks = extents.filter_map(|extent| self.disks.get(&extent.disk));
        disks.any(|disk| disk.medium.keeps())
    }

    /// Takes a volume from everybody and keeps its space until that is cleared.
    pub(super) fn begin_deletion(&mut self, name: &Name) -> Outcome {
        let generation = self.generation;
        if let Some(mut volume) = self.volumes.remove(name) {
            volume.deleting = true;
            volume.clearing = Some(Clearing::behind(0, generation));
            volume.layout_revision = None;
            volume.revision = generation;
            self.touch_disks(&volume);
            self.volumes.insert(name.clone(), volume);
        }
        Outcome::Changed { revision: generation }
    }
}

impl Volume {
    /// Before the volume grows in `generation`: what it has stays in use, and what comes is cleared first, if it is to
    /// be. What is being cleared already goes on.
    pub(super) fn begin_clearing(&mut self, generation: Generation, clears: bool) {
        let (from, in_force) = (self.sectors, self.route_generation());
        match &mut self.clearing {
            Some(clearing) => clearing.since = generation,
            None if clears => {
                self.clearing = Some(Clearing::behind(from, generation));
                self.layout_revision = Some(in_force);
            }
            None => self.layout_revision = None,
        }
    }

    /// All of it may be used from `generation` on.
    fn end_clearing(&mut self, generation: Generation) {
        self.clearing = None;
        self.layout_revision = Some(generation);
    }
}

impl Medium {
    /// Whether it keeps what is written to it at all, be it only as long as the daemon runs.
    pub(crate) fn keeps(&self) -> bool {
        !matches!(self, Medium::Null { .. })
    }
}

/// When space of a disk is cleared for a volume with a choice or without one.
pub(super) fn clear_on(disk: &Disk, choice: Option<Clear>) -> Clear {
    choice.unwrap_or(match disk.usage {
        Usage::Pooled => Clear::Now,
        Usage::Whole => Clear::Never,
    })
}

/// Refuses what is asked of a volume that is being deleted.
pub(super) fn not_going(name: &Name, volume: &Volume) -> Result<(), Refusal> {
    match volume.deleting {
        true => Err(Refusal::VolumeGoing { volume: name.clone() }),
        false => Ok(()),
    }
}
