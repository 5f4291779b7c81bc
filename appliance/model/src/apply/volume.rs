//! Volumes come, grow and go.

use super::clearing::{clear_on, not_going};
use super::disk::stays;
use super::{
    block_is_known, exists, expect_revision, not_found, not_nil, require, room_for_one, whole_blocks,
};
use crate::allocation;
use crate::argument::{Field, Rule};
use crate::clearing::{Clear, Clearing};
use crate::cluster::Cluster;
use crate::command::{CreateVolume, DeleteFragment, DeleteVolume, GrowVolume, Outcome};
use crate::disk::{Disk, Usage};
use crate::limits::{SECTORS_MAX, VOLUMES_MAX};
use crate::refusal::{Kind, Refusal};
use crate::volume::{Extent, Layout, Volume};
use palisade_words::Name;

impl Cluster {
    pub(super) fn create_volume(&mut self, create: &CreateVolume) -> Result<Outcome, Refusal> {
        let name = &create.name;
        if let Some(volume) = self.volumes.get(name) {
            not_going(name, volume)?;
            let lies_first_on = volume.all_extents().first().map(|extent| &extent.disk);
            let same = [
                (Field::Node, self.node_of(name) == Some(&create.node)),
                (
                    Field::Disk,
                    create.disk.is_none() || create.disk.as_ref() == lies_first_on,
                ),
                (
                    Field::Sectors,
                    create.sectors.is_none_or(|sectors| sectors == volume.sectors),
                ),
                (
                    Field::BlockBytes,
                    create.block_bytes.is_none_or(|bytes| bytes == volume.block_bytes),
                ),
                (
                    Field::Clear,
                    create
                        .clear
                        .is_none_or(|clear| self.clear_of(name) == Some(clear)),
                ),
            ];
            return exists(Kind::Volume, name, volume.revision, &same);
        }
        let rule = |holds, field, rule| require(holds, Kind::Volume, name, field, rule);
        if self.fragments.contains_key(&create.uuid) {
            return Err(Refusal::UuidTaken {
                kind: Kind::Volume,
                holder: name.clone(),
            });
        }
        not_nil(create.uuid, Kind::Volume, name)?;
        rule(
            create.block_bytes.is_none_or(block_is_known),
            Field::BlockBytes,
            Rule::LogicalBlock,
        )?;
        self.is_member(&create.node)?;
        room_for_one(Kind::Volume, self.volumes.len(), VOLUMES_MAX)?;
        if let Some((holder, _)) = self.volumes.iter().find(|(_, volume)| volume.uuid == create.uuid) {
            let holder = holder.clone();
            return Err(Refusal::UuidTaken {
                kind: Kind::Volume,
                holder,
            });
        }
        let (disk_name, disk) = self.disk_for(create)?;
        let block_bytes = create.block_bytes.unwrap_or(disk.block_bytes);
        block_holds(disk_name, disk, block_bytes)?;
        let sectors = match (create.sectors, disk.usage) {
            (Some(sectors), _) => sectors,
            (None, Usage::Whole) => disk.sectors,
            (None, Usage::Pooled) => {
                rule(false, Field::Sectors, Rule::GivenWhenPooled)?;
                0
            }
        };
        rule(sectors_fit(sectors, block_bytes), Field::Sectors, Rule::Sectors)?;
        let mut extents = Vec::new();
        self.extend(name, disk_name, disk, &mut extents, sectors)?;
        let revision = self.generation;
        // Kept as if it had been chosen, so that it holds for what the volume grows by as well.
        let is_reused = disk.usage == Usage::Whole
            && (create.clears_reused && disk.has_had_volumes()
                || create.clears_unknown_past && disk.unknown_past);
        let clear = create.clear.or(is_reused.then_some(Clear::Now));
        let keeps_what_was = !disk.medium.keeps() || clear_on(disk, clear) == Clear::Never;
        let clearing = (create.clears && !keeps_what_was).then_some(Clearing::behind(0, revision));
        let volume = Volume {
            uuid: create.uuid,
            sectors,
            block_bytes,
            layout: Layout::Linear { extents },
            created: revision,
            revision,
            layout_revision: None,
            clear,
            clearing,
            deleting: false,
            protected: false,
        };
        self.touch_disks(&volume);
        self.volumes.insert(name.clone(), volume);
        Ok(Outcome::Created { revision })
    }

    pub(super) fn grow_volume(&mut self, grow: &GrowVolume) -> Result<Outcome, Refusal> {
        let name = &grow.name;
        let volume = self
            .volumes
            .get(name)
            .ok_or_else(|| not_found(Kind::Volume, name))?;
        not_going(name, volume)?;
        expect_revision(Kind::Volume, name, grow.expected, volume.revision)?;
        if grow.sectors < volume.sectors {
            return Err(Refusal::CannotShrink {
                kind: Kind::Volume,
                name: name.clone(),
                sectors: volume.sectors,
                wanted_sectors: grow.sectors,
            });
        }
        let rule = |holds, field, rule| require(holds, Kind::Volume, name, field, rule);
        rule(
            sectors_fit(grow.sectors, volume.block_bytes),
            Field::Sectors,
            Rule::Sectors,
        )?;
        if grow.sectors == volume.sectors {
            return Ok(Outcome::Unchanged {
                revision: volume.revision,
            });
        }
        let mut next = volume.clone();
        let Layout::Linear { extents } = &mut next.layout;
        let ends_on = extents.last().map(|last| last.disk.clone());
        let Some(disk_name) = grow.disk.clone().or(ends_on) else {
            return Err(not_found(Kind::Volume, name));
        };
        let disk = self
            .disks
            .get(&disk_name)
            .ok_or_else(|| not_found(Kind::Disk, &disk_name))?;
        if let Some(node) = self.node_of(name).filter(|node| **node != disk.node) {
            return Err(elsewhere(&disk_name, disk, node));
        }
        block_holds(&disk_name, disk, next.block_bytes)?;
        self.extend(name, &disk_name, disk, extents, grow.sectors - volume.sectors)?;
        let keeps_what_was = !disk.medium.keeps() || clear_on(disk, next.clear) == Clear::Never;
        next.begin_clearing(self.generation, grow.clears && !keeps_what_was);
        next.sectors = grow.sectors;
        next.revision = self.generation;
        self.touch_disks(&next);
        self.volumes.insert(name.clone(), next);
        Ok(Outcome::Changed {
            revision: self.generation,
        })
    }

    pub(super) fn delete_volume(&mut self, delete: &DeleteVolume) -> Result<Outcome, Refusal> {
        let name = &delete.name;
        let volume = self
            .volumes
            .get(name)
            .ok_or_else(|| not_found(Kind::Volume, name))?;
        expect_revision(Kind::Volume, name, delete.expected, volume.revision)?;
        if volume.deleting && delete.clear != Some(false) {
            return Ok(Outcome::Unchanged {
                revision: volume.revision,
            });
        }
        if volume.protected {
            return Err(Refusal::Protected {
                kind: Kind::Volume,
                name: name.clone(),
            });
        }
        let attachment = self.attachments_of(name).next().filter(|_| !delete.detaches);
        if let Some((attachment, _)) = attachment {
            return Err(Refusal::VolumeInUse {
                volume: name.clone(),
                attachment: attachment.clone(),
            });
        }
        let wanted = delete
            .clear
            .unwrap_or(self.clear_of(name) == Some(Clear::OnDelete));
        let begins = wanted && self.holds_data(volume);
        self.attachments
            .retain(|_, attachment| attachment.volume != *name);
        if begins {
            return Ok(self.begin_deletion(name));
        }
        if let Some(volume) = self.volumes.remove(name) {
            self.touch_disks(&volume);
        }
        Ok(Outcome::Removed {
            revision: self.generation,
        })
    }

    pub(super) fn delete_fragment(&mut self, delete: DeleteFragment) -> Result<Outcome, Refusal> {
        let revision = self.generation;
        let Some(fragment) = self.fragments.remove(&delete.uuid) else {
            return Ok(Outcome::Unchanged { revision });
        };
        for piece in &fragment.pieces {
            if let Some(disk) = self.disks.get_mut(&piece.extent.disk) {
                disk.extents_revision = revision;
            }
        }
        Ok(Outcome::Removed { revision })
    }

    /// The disk that a new volume is to lie on.
    fn disk_for<'a>(&'a self, create: &'a CreateVolume) -> Result<(&'a Name, &'a Disk), Refusal> {
        let found = match &create.disk {
            Some(named) => Some(named),
            None => allocation::roomiest_disk(self, &create.node, create.block_bytes.unwrap_or(u32::MAX)),
        };
        let name = found.ok_or_else(|| self.no_disk_for(create))?;
        let disk = self.disks.get(name).ok_or_else(|| not_found(Kind::Disk, name))?;
        if disk.node != create.node {
            return Err(elsewhere(name, disk, &create.node));
        }
        Ok((name, disk))
    }

    /// Why no disk can be chosen for a new volume.
    fn no_disk_for(&self, create: &CreateVolume) -> Refusal {
        let pending =
            |disk: &Disk| disk.node == create.node && !disk.first_superblock.is_on_medium() && !disk.leaving;
        match self.disks.iter().find(|(_, disk)| pending(disk)) {
            Some((disk, _)) => Refusal::SuperblockPending { disk: disk.clone() },
            None => Refusal::NoDisk {
                node: create.node.clone(),
            },
        }
    }

    /// Extends a volume's extents by `sectors` on a disk of either usage.
    fn extend(
        &self,
        volume: &Name,
        disk_name: &Name,
        disk: &Disk,
        extents: &mut Vec<Extent>,
        sectors: u64,
    ) -> Result<(), Refusal> {
        stays(disk_name, disk)?;
        // A volume that has a disk whole lies on no other, and nobody else lies on that disk.
        let mut disks = extents.iter().filter_map(|extent| self.disks.get(&extent.disk));
        let has_whole = disks.any(|disk| disk.usage == Usage::Whole);
        let elsewhere = extents.iter().any(|extent| extent.disk != *disk_name);
        if elsewhere && (has_whole || disk.usage == Usage::Whole) {
            let rule = Rule::DiskOfVolume;
            return require(false, Kind::Volume, volume, Field::Disk, rule);
        }
        if !disk.first_superblock.is_on_medium() {
            return Err(Refusal::SuperblockPending {
                disk: disk_name.clone(),
            });
        }
        match disk.usage {
            Usage::Pooled => allocation::extend(self, disk_name, disk, extents, sectors),
            Usage::Whole => self.extend_whole(volume, disk_name, disk, extents, sectors),
        }
    }

    fn extend_whole(
        &self,
        volume: &Name,
        disk_name: &Name,
        disk: &Disk,
        extents: &mut Vec<Extent>,
        sectors: u64,
    ) -> Result<(), Refusal> {
        if let Some((owner, ..)) = self.extents_on(disk_name).find(|(owner, ..)| *owner != volume) {
            return Err(Refusal::DiskTaken {
                disk: disk_name.clone(),
                volume: owner.clone(),
            });
        }
        let used: u64 = extents.iter().map(|extent| extent.sectors).sum();
        let free_sectors = disk.sectors.saturating_sub(used);
        if sectors > free_sectors {
            return Err(Refusal::NoSpace {
                disk: disk_name.clone(),
                wanted_sectors: sectors,
                free_sectors,
            });
        }
        match extents.last_mut() {
            Some(only) => only.sectors += sectors,
            None => extents.push(Extent {
                disk: disk_name.clone(),
                disk_lba: 0,
                sectors,
            }),
        }
        Ok(())
    }

    /// Notes that the extents on a volume's disks change with this generation.
    pub(super) fn touch_disks(&mut self, volume: &Volume) {
        for extent in volume.all_extents() {
            if let Some(disk) = self.disks.get_mut(&extent.disk) {
                disk.extents_revision = self.generation;
            }
        }
    }
}

pub(super) fn sectors_fit(sectors: u64, block_bytes: u32) -> bool {
    (1..=SECTORS_MAX).contains(&sectors) && whole_blocks(sectors, block_bytes)
}

fn block_holds(name: &Name, disk: &Disk, block_bytes: u32) -> Result<(), Refusal> {
    if block_bytes >= disk.block_bytes {
        return Ok(());
    }
    Err(Refusal::BlockTooSmall {
        disk: name.clone(),
        disk_block_bytes: disk.block_bytes,
        block_bytes,
    })
}

fn elsewhere(name: &Name, disk: &Disk, node: &Name) -> Refusal {
    Refusal::DiskElsewhere {
        disk: name.clone(),
        disk_node: disk.node.clone(),
        node: node.clone(),
    }
}
