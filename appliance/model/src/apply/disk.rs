//! Disks come, grow and go.

use super::text::{path_is_good, wwid_is_good};
use super::{
    block_is_known, exists, expect_revision, not_found, not_nil, require, room_for_one, whole_blocks,
};
use crate::argument::{Field, Rule};
use crate::cluster::Cluster;
use crate::command::{
    AddDisk, AdoptDisk, ChangeDisk, ConfirmSuperblock, GrowDisk, IdentifyDisk, OnMedium, Outcome,
    ReleaseDisk, RemoveDisk,
};
use crate::disk::{Disk, FirstSuperblock, Held, Medium, Usage};
use crate::limits::{GENERATION_MAX, SECTORS_MAX};
use crate::lineage::History;
use crate::medium_record::{FINGERPRINT_BYTES_MAX, MediumRecord, NESTED_MAX};
use crate::refusal::{Kind, Refusal};
use palisade_words::limits::{ALLOCATION_UNIT_SECTORS, DISKS_MAX};
use palisade_words::{Generation, Name, Uuid};
use std::collections::{BTreeMap, BTreeSet};

impl Cluster {
    pub(super) fn add_disk(&mut self, add: &AddDisk) -> Result<Outcome, Refusal> {
        if let Some(disk) = self.disks.get(&add.name) {
            stays(&add.name, disk)?;
            let same = [
                (Field::Node, disk.node == add.node),
                (Field::Medium, is_same_medium(&disk.medium, &add.medium)),
                (Field::Usage, disk.usage == add.usage),
                (Field::BlockBytes, disk.block_bytes == add.block_bytes),
                (Field::Sectors, disk.sectors == add.sectors),
            ];
            return exists(Kind::Disk, &add.name, disk.revision, &same);
        }
        rules_of_disk(add)?;
        self.is_member(&add.node)?;
        room_for_one(Kind::Disk, self.disks.len(), DISKS_MAX)?;
        if let Some((holder, _)) = self.disks.iter().find(|(_, disk)| disk.uuid == add.uuid) {
            let holder = holder.clone();
            return Err(Refusal::UuidTaken {
                kind: Kind::Disk,
                holder,
            });
        }
        if let Some(disk) = self.disk_with_medium(None, &add.node, &add.medium) {
            return Err(Refusal::MediumTaken { disk: disk.clone() });
        }
        let revision = self.generation;
        let mut disk = disk_of(add, revision);
        if add.superblock_pending && disk.has_superblock() {
            disk.first_superblock = FirstSuperblock::Pending;
        }
        self.disks.insert(add.name.clone(), disk);
        Ok(Outcome::Created { revision })
    }

    pub(super) fn remove_disk(&mut self, remove: &RemoveDisk) -> Result<Outcome, Refusal> {
        let name = &remove.name;
        let disk = self.disks.get(name).ok_or_else(|| not_found(Kind::Disk, name))?;
        expect_revision(Kind::Disk, name, remove.expected, disk.revision)?;
        if disk.protected {
            return Err(Refusal::Protected {
                kind: Kind::Disk,
                name: name.clone(),
            });
        }
        let owner = |going| {
            self.extents_on(name)
                .find(|(_, volume, _)| volume.deleting == going)
        };
        if let Some((volume, ..)) = owner(false) {
            return Err(Refusal::DiskInUse {
                disk: name.clone(),
                volume: volume.clone(),
            });
        }
        if let Some((volume, ..)) = owner(true) {
            return Err(Refusal::VolumeGoing {
                volume: volume.clone(),
            });
        }
        if let Some((_, fragment, _)) = self.fragments_on(name).next() {
            return Err(Refusal::DiskHoldsFragment {
                disk: name.clone(),
                volume: fragment.name.clone(),
            });
        }
        let revision = self.generation;
        if !remove.releases {
            self.disks.remove(name);
            return Ok(Outcome::Removed { revision });
        }
        if disk.leaving {
            return Ok(Outcome::Unchanged {
                revision: disk.revision,
            });
        }
        // What its superblock says does not change, and so neither does the disk's revision.
        if let Some(disk) = self.disks.get_mut(name) {
            disk.leaving = true;
        }
        Ok(Outcome::Changed { revision })
    }

    pub(super) fn release_disk(&mut self, release: &ReleaseDisk) -> Result<Outcome, Refusal> {
        let name = &release.name;
        let found = self.disks.get(name).filter(|disk| disk.uuid == release.uuid);
        let disk = found.ok_or_else(|| not_found(Kind::Disk, name))?;
        let rule = Rule::GivenUp;
        require(disk.leaving, Kind::Disk, name, Field::Leaving, rule)?;
        self.disks.remove(name);
        Ok(Outcome::Removed {
            revision: self.generation,
        })
    }

    pub(super) fn confirm_superblock(&mut self, confirm: &ConfirmSuperblock) -> Result<Outcome, Refusal> {
        let name = &confirm.name;
        let revision = self.generation;
        let found = self.disks.get_mut(name).filter(|disk| disk.uuid == confirm.uuid);
        let disk = found.ok_or_else(|| not_found(Kind::Disk, name))?;
        if disk.first_superblock == FirstSuperblock::OnMedium {
            return Ok(Outcome::Unchanged {
                revision: disk.revision,
            });
        }
        // What the superblock says does not change, and so neither does the disk's revision.
        disk.first_superblock = FirstSuperblock::OnMedium;
        Ok(Outcome::Changed { revision })
    }

    pub(super) fn adopt_disk(&mut self, adopt: &AdoptDisk) -> Result<Outcome, Refusal> {
        let name = &adopt.name;
        let found = self.disks.get(name).filter(|disk| disk.uuid == adopt.uuid);
        let disk = found.ok_or_else(|| not_found(Kind::Disk, name))?;
        stays(name, disk)?;
        require(
            disk.has_superblock(),
            Kind::Disk,
            name,
            Field::Usage,
            Rule::KeepsContent,
        )?;
        let Some(seen) = &adopt.seen else {
            return Ok(self.write_superblock_anew(name));
        };
        let on_it: BTreeSet<Uuid> = self.extents_on(name).map(|(_, volume, _)| volume.uuid).collect();
        require(
            adopt.empties.iter().all(|uuid| on_it.contains(uuid)),
            Kind::Disk,
            name,
            Field::Empties,
            Rule::EmptiesOnDisk,
        )?;
        require(
            adopt.keeps.iter().all(|kept| self.can_keep(adopt, kept)),
            Kind::Disk,
            name,
            Field::Keeps,
            Rule::Keeps,
        )?;
        let is_known = disk.history.iter().any(|point| *point == seen.point);
        if is_known && !adopt.older {
            return Ok(Outcome::Unchanged {
                revision: disk.revision,
            });
        }
        let revision = self.go_beyond(name, seen)?;
        if let Some(disk) = self.disks.get_mut(name) {
            if !is_known {
                disk.history.push(seen.point);
            }
            disk.revision = revision;
            disk.first_superblock = FirstSuperblock::OnMedium;
            disk.taken_at = Some(seen.point.generation);
        }
        self.clear_again(name);
        self.empty_volumes(&adopt.empties, &adopt.keeps);
        if !adopt.older {
            // The medium has been where the database has not: that is an old copy, also for disks that cannot tell.
            self.hold_clearings();
            self.disks.values_mut().for_each(Disk::forget_past);
        }
        Ok(Outcome::Changed { revision })
    }

    /// Whether a volume that is emptied may keep so much.
    fn can_keep(&self, adopt: &AdoptDisk, (uuid, sectors): (&Uuid, &u64)) -> bool {
        let mut volumes = self.volumes.values();
        let volume = volumes.find(|volume| volume.uuid == *uuid && adopt.empties.contains(uuid));
        volume.is_some_and(|volume| {
            let fits = *sectors <= volume.usable_sectors() && *sectors < volume.sectors;
            fits && whole_blocks(*sectors, volume.block_bytes)
        })
    }

    /// The superblock is lost: it counts as never written.
    fn write_superblock_anew(&mut self, name: &Name) -> Outcome {
        let revision = self.generation;
        if let Some(disk) = self.disks.get_mut(name) {
            disk.revision = revision;
            disk.first_superblock = FirstSuperblock::Pending;
        }
        self.clear_again(name);
        Outcome::Changed { revision }
    }

    /// Lets this generation be later, by its number too, than one that the medium of a disk carries; returns it.
    pub(super) fn go_beyond(&mut self, disk: &Name, seen: &OnMedium) -> Result<Generation, Refusal> {
        let known = seen.point.generation.0.max(seen.epoch.0) <= GENERATION_MAX;
        require(known, Kind::Disk, disk, Field::Generation, Rule::Generation)?;
        self.generation = self.generation.max(seen.point.generation.next());
        self.epoch = self.epoch.max(seen.epoch);
        Ok(self.generation)
    }

    pub(super) fn grow_disk(&mut self, grow: &GrowDisk) -> Result<Outcome, Refusal> {
        let (name, generation) = (&grow.name, self.generation);
        let disk = self
            .disks
            .get_mut(name)
            .ok_or_else(|| not_found(Kind::Disk, name))?;
        expect_revision(Kind::Disk, name, grow.expected, disk.revision)?;
        stays(name, disk)?;
        if grow.sectors < disk.sectors || grow.data_end < disk.data_end {
            return Err(Refusal::CannotShrink {
                kind: Kind::Disk,
                name: name.clone(),
                sectors: disk.sectors,
                wanted_sectors: grow.sectors,
            });
        }
        let rule = |holds, field, rule| require(holds, Kind::Disk, name, field, rule);
        rule(
            sectors_fit(grow.sectors, disk.block_bytes),
            Field::Sectors,
            Rule::Sectors,
        )?;
        rule(
            area_fits(
                disk.usage,
                disk.block_bytes,
                disk.data_start,
                grow.data_end,
                grow.sectors,
            ),
            Field::DataEnd,
            Rule::Area,
        )?;
        if grow.sectors == disk.sectors && grow.data_end == disk.data_end {
            return Ok(Outcome::Unchanged {
                revision: disk.revision,
            });
        }
        disk.sectors = grow.sectors;
        disk.data_end = grow.data_end;
        match &mut disk.medium {
            Medium::Null { bytes } | Medium::Memory { bytes } | Medium::File { bytes, .. } => {
                *bytes = grow.sectors * 512;
            }
            Medium::Block { .. } => {}
        }
        disk.revision = generation;
        Ok(Outcome::Changed { revision: generation })
    }

    pub(super) fn change_disk(&mut self, change: &ChangeDisk) -> Result<Outcome, Refusal> {
        let (name, generation) = (&change.name, self.generation);
        let disk = self
            .disks
            .get_mut(name)
            .ok_or_else(|| not_found(Kind::Disk, name))?;
        expect_revision(Kind::Disk, name, change.expected, disk.revision)?;
        stays(name, disk)?;
        let protected = change.protected.unwrap_or(disk.protected);
        if protected == disk.protected {
            return Ok(Outcome::Unchanged {
                revision: disk.revision,
            });
        }
        disk.protected = protected;
        disk.revision = generation;
        Ok(Outcome::Changed { revision: generation })
    }

    pub(super) fn identify_disk(&mut self, identify: &IdentifyDisk) -> Result<Outcome, Refusal> {
        let (name, generation) = (&identify.name, self.generation);
        let disk = self.disks.get(name).ok_or_else(|| not_found(Kind::Disk, name))?;
        expect_revision(Kind::Disk, name, identify.expected, disk.revision)?;
        let mut medium = disk.medium.clone();
        if let (Medium::File { path, .. } | Medium::Block { path, .. }, Some(new)) =
            (&mut medium, &identify.path)
        {
            path.clone_from(new);
        }
        if let Medium::Block { wwid, .. } = &mut medium {
            wwid.clone_from(&identify.wwid);
        }
        rules_of_medium(name, &medium, &identify.record)?;
        if let Some(other) = self.disk_with_medium(Some(name), &disk.node, &medium) {
            return Err(Refusal::MediumTaken { disk: other.clone() });
        }
        let held = disk.held.filter(|_| !identify.confirmed);
        if disk.medium == medium && disk.record == identify.record && disk.held == held {
            let revision = disk.revision;
            return Ok(Outcome::Unchanged { revision });
        }
        if let Some(disk) = self.disks.get_mut(name) {
            disk.medium = medium;
            disk.record = identify.record.clone();
            disk.held = held;
            disk.revision = generation;
            if identify.confirmed {
                disk.forget_past();
            }
        }
        Ok(Outcome::Changed { revision: generation })
    }

    /// Holds all disks that keep no record, as the database that knows of them was put back from a copy.
    pub(super) fn hold_disks(&mut self, held: Held) -> Outcome {
        let revision = self.generation;
        let mut is_changed = false;
        let is_other = |disk: &&mut Disk| disk.keeps_no_record() && disk.held != Some(held);
        for disk in self.disks.values_mut().filter(is_other) {
            disk.held = Some(held);
            disk.forget_past();
            disk.revision = revision;
            is_changed = true;
        }
        match is_changed {
            true => Outcome::Changed { revision },
            false => Outcome::Unchanged { revision },
        }
    }

    /// The disk, other than `but`, with the medium: the same path on the same node, or the same WWID anywhere.
    pub(super) fn disk_with_medium(&self, but: Option<&Name>, node: &Name, medium: &Medium) -> Option<&Name> {
        let (path, wwid) = (medium.path(), medium.wwid());
        let taken = |disk: &Disk| {
            let same_path = path.is_some() && disk.path_of(node) == path;
            same_path || (wwid.is_some() && disk.medium.wwid() == wwid)
        };
        self.disks
            .iter()
            .find(|(name, disk)| Some(*name) != but && taken(disk))
            .map(|(name, _)| name)
    }
}

pub(super) fn rules_of_disk(add: &AddDisk) -> Result<(), Refusal> {
    let rule = |holds, field, rule| require(holds, Kind::Disk, &add.name, field, rule);
    not_nil(add.uuid, Kind::Disk, &add.name)?;
    rule(
        block_is_known(add.block_bytes),
        Field::BlockBytes,
        Rule::LogicalBlock,
    )?;
    rule(
        sectors_fit(add.sectors, add.block_bytes),
        Field::Sectors,
        Rule::Sectors,
    )?;
    if let Some(bytes) = add.medium.bytes() {
        rule(bytes == add.sectors * 512, Field::Bytes, Rule::BytesOfSectors)?;
    }
    rules_of_medium(&add.name, &add.medium, &add.record)?;
    let area = area_fits(
        add.usage,
        add.block_bytes,
        add.data_start,
        add.data_end,
        add.sectors,
    );
    rule(area, Field::DataEnd, Rule::Area)
}

/// Rules for the texts that come from a medium, or lead to it.
pub(super) fn rules_of_medium(name: &Name, medium: &Medium, record: &MediumRecord) -> Result<(), Refusal> {
    let rule = |holds, field, rule| require(holds, Kind::Disk, name, field, rule);
    if let Some(path) = medium.path() {
        rule(path_is_good(path), Field::Path, Rule::Path)?;
    }
    if let Some(wwid) = medium.wwid() {
        rule(wwid_is_good(wwid), Field::Wwid, Rule::Wwid)?;
    }
    if let Some(serial) = &record.serial {
        rule(wwid_is_good(serial), Field::Serial, Rule::Wwid)?;
    }
    if let Some(print) = &record.fingerprint {
        let good = print.len() <= FINGERPRINT_BYTES_MAX && !print.chars().any(char::is_control);
        rule(good, Field::Fingerprint, Rule::Fingerprint)?;
    }
    let few = record.nested.len() <= NESTED_MAX;
    rule(few, Field::Nested, Rule::Nested)
}

/// A disk as it is described, with nothing on it and no history, as of a generation.
pub(super) fn disk_of(add: &AddDisk, revision: Generation) -> Disk {
    Disk {
        uuid: add.uuid,
        node: add.node.clone(),
        medium: add.medium.clone(),
        other_paths: BTreeMap::new(),
        record: add.record.clone(),
        usage: add.usage,
        block_bytes: add.block_bytes,
        sectors: add.sectors,
        data_start: add.data_start,
        data_end: add.data_end,
        extents_revision: revision,
        created: revision,
        revision,
        protected: false,
        leaving: false,
        held: None,
        unknown_past: false,
        first_superblock: FirstSuperblock::OnMedium,
        taken_at: None,
        history: History::default(),
    }
}

/// Refuses what is asked of a disk that is being given up.
pub(super) fn stays(name: &Name, disk: &Disk) -> Result<(), Refusal> {
    match disk.leaving {
        true => Err(Refusal::DiskGoing { disk: name.clone() }),
        false => Ok(()),
    }
}

fn sectors_fit(sectors: u64, block_bytes: u32) -> bool {
    (1..=SECTORS_MAX).contains(&sectors) && whole_blocks(sectors, block_bytes)
}

fn area_fits(usage: Usage, block_bytes: u32, start: u64, end: u64, sectors: u64) -> bool {
    match usage {
        Usage::Whole => start == 0 && end == sectors,
        Usage::Pooled => {
            end <= sectors
                && end
                    .checked_sub(start)
                    .is_some_and(|area| area >= ALLOCATION_UNIT_SECTORS)
                && whole_blocks(start, block_bytes)
                && whole_blocks(end, block_bytes)
        }
    }
}

/// Whether two descriptions name the same medium. Who made a file is no part of that.
fn is_same_medium(a: &Medium, b: &Medium) -> bool {
    match (a, b) {
        (
            Medium::File {
                path: a, bytes: x, ..
            },
            Medium::File {
                path: b, bytes: y, ..
            },
        ) => a == b && x == y,
        _ => a == b,
    }
}
