//! Disks come back with what their superblocks tell: after the database was lost, or is an old one, or from another
//! cluster.
//!
//! What the database has on an imported disk is replaced by what the disk says. A volume is made of the parts on all
//! disks that are here; one whose parts do not cover it is kept as a [`Fragment`] until the missing disks come too.

use super::disk::{disk_of, rules_of_disk, stays};
use super::volume::sectors_fit;
use super::{block_is_known, not_nil, require, room_for_one};
use crate::argument::{Field, Rule};
use crate::clearing::Clear;
use crate::cluster::Cluster;
use crate::command::{ImportDisks, ImportedDisk, ImportedExtent, Outcome};
use crate::disk::Disk;
use crate::fragment::{Fragment, Piece};
use crate::limits::{EXTENTS_PER_VOLUME_MAX, FRAGMENTS_MAX, VOLUMES_MAX};
use crate::refusal::{Kind, Refusal};
use crate::volume::{Extent, Layout, Volume};
use palisade_words::limits::{ALLOCATION_UNIT_SECTORS, DISKS_MAX, NAME_BYTES_MAX};
use palisade_words::{Generation, Name, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a volume while it is put together.
struct Parts {
    /// Its name, and whether it is in the database under that name already.
    name: Name,
    known: bool,
    created: Generation,
    /// What of it guests may use by the database, 0 where that does not have it.
    sectors: u64,
    /// Sizes that were told of it.
    sizes: BTreeSet<u64>,
    block_bytes: u32,
    pieces: Vec<Piece>,
    clear: Option<Clear>,
    protected: bool,
}

impl Cluster {
    pub(super) fn import_disks(&mut self, import: &ImportDisks) -> Result<Outcome, Refusal> {
        if let Some(id) = import.cluster.filter(|id| *id != self.id) {
            if let Some(disk) = self.disks.keys().next() {
                return Err(Refusal::ClusterHasDisks { disk: disk.clone() });
            }
            self.id = id;
        }
        for disk in &import.disks {
            self.go_beyond(&disk.disk.name, &disk.seen)?;
        }
        let revision = self.generation;
        let is_told_anew = |disk: &ImportedDisk| self.disks.contains_key(&disk.disk.name);
        // The media have been where the database has not: that is an old copy, also for disks that cannot tell.
        let holds = import.holds_clearings || import.disks.iter().any(is_told_anew);
        let mut names = BTreeSet::new();
        for disk in &import.disks {
            self.take_disk(disk)?;
            names.insert(disk.disk.name.clone());
        }
        let mut volumes = self.take_apart(&names, import);
        for disk in &import.disks {
            for extent in &disk.extents {
                add_piece(&mut volumes, &disk.disk.name, extent, revision)?;
            }
        }
        let protected = volumes.iter().filter(|(_, parts)| parts.protected);
        let protected: Vec<_> = protected
            .map(|(uuid, parts)| (*uuid, parts.name.clone(), parts.sectors))
            .collect();
        for (uuid, parts) in volumes {
            self.put_together(uuid, parts)?;
        }
        self.refuse_overlaps()?;
        if holds {
            self.hold_clearings();
            self.disks.values_mut().for_each(Disk::forget_past);
        }
        if import.regards_protection {
            for (uuid, name, sectors) in protected {
                self.refuse_loss(uuid, name, sectors)?;
            }
        }
        Ok(Outcome::Changed { revision })
    }

    /// The disk itself.
    fn take_disk(&mut self, imported: &ImportedDisk) -> Result<(), Refusal> {
        let add = &imported.disk;
        rules_of_disk(add)?;
        self.is_member(&add.node)?;
        let mut disk = disk_of(add, self.generation);
        require(
            disk.has_superblock(),
            Kind::Disk,
            &add.name,
            Field::Usage,
            Rule::KeepsContent,
        )?;
        let holder = self.disks.iter().find(|(_, disk)| disk.uuid == add.uuid);
        match holder {
            Some((name, known)) if *name == add.name => {
                stays(name, known)?;
                disk.created = known.created;
                disk.history = known.history.clone();
                disk.protected = known.protected;
                disk.other_paths = known.other_paths.clone();
                disk.other_paths.remove(&add.node);
            }
            Some((holder, _)) => {
                return Err(Refusal::UuidTaken {
                    kind: Kind::Disk,
                    holder: holder.clone(),
                });
            }
            None => {
                if self.disks.contains_key(&add.name) {
                    return Err(Refusal::Exists {
                        kind: Kind::Disk,
                        name: add.name.clone(),
                        differs: Field::Uuid,
                    });
                }
                if let Some(disk) = self.disk_with_medium(None, &add.node, &add.medium) {
                    return Err(Refusal::MediumTaken { disk: disk.clone() });
                }
                room_for_one(Kind::Disk, self.disks.len(), DISKS_MAX)?;
            }
        }
        // What it says is taken over, and with it where that comes from.
        for ancestor in &imported.seen.ancestors {
            disk.history.push(*ancestor);
        }
        disk.history.push(imported.seen.point);
        disk.taken_at = Some(imported.seen.point.generation);
        self.disks.insert(add.name.clone(), disk);
        Ok(())
    }

    /// Takes out of the cluster what must be put together anew: volumes and fragments that lie on the disks, or of
    /// which the disks tell. What lay on the disks is left out of it.
    fn take_apart(&mut self, disks: &BTreeSet<Name>, import: &ImportDisks) -> BTreeMap<Uuid, Parts> {
        let told: BTreeSet<Uuid> = import
            .disks
            .iter()
            .flat_map(|disk| disk.extents.iter().map(|extent| extent.volume))
            .collect();
        let mut parts = BTreeMap::new();
        let concerned = |uuid: &Uuid, mut on: BTreeSet<&Name>| {
            on.retain(|disk| disks.contains(*disk));
            told.contains(uuid) || !on.is_empty()
        };
        for (name, volume) in std::mem::take(&mut self.volumes) {
            let on = volume.all_extents().iter().map(|extent| &extent.disk).collect();
            if !concerned(&volume.uuid, on) {
                self.volumes.insert(name, volume);
                continue;
            }
            let mut at = 0;
            let usable = volume.usable_extents().into_iter();
            let pieces = usable.map(|extent| {
                let volume_lba = at;
                at += extent.sectors;
                Piece { volume_lba, extent }
            });
            let pieces: Vec<Piece> = pieces
                .filter(|piece| !disks.contains(&piece.extent.disk))
                .collect();
            let mut sizes = BTreeSet::new();
            // What was said of a volume whose parts are all told of anew counts no longer.
            if !pieces.is_empty() {
                sizes.insert(volume.usable_sectors());
            }
            let before = Parts {
                name,
                known: true,
                created: volume.created,
                sectors: volume.usable_sectors(),
                sizes,
                block_bytes: volume.block_bytes,
                pieces,
                clear: volume.clear,
                protected: volume.protected,
            };
            parts.insert(volume.uuid, before);
        }
        let fragments = std::mem::take(&mut self.fragments);
        for (uuid, fragment) in fragments {
            if !concerned(&uuid, fragment.disks()) {
                self.fragments.insert(uuid, fragment);
                continue;
            }
            let mut pieces = fragment.pieces;
            pieces.retain(|piece| !disks.contains(&piece.extent.disk));
            let before = Parts {
                name: fragment.name,
                known: false,
                created: self.generation,
                sectors: 0,
                sizes: BTreeSet::from([fragment.sectors]),
                block_bytes: fragment.block_bytes,
                pieces,
                clear: None,
                protected: false,
            };
            parts.insert(uuid, before);
        }
        parts
    }

    /// Puts a volume back: whole, or as the fragment that it is.
    fn put_together(&mut self, uuid: Uuid, mut parts: Parts) -> Result<(), Refusal> {
        if parts.pieces.is_empty() {
            return self.refuse_attached(&parts);
        }
        parts.pieces.sort_by_key(|piece| piece.volume_lba);
        // Volumes never shrink: of two sizes that the disks tell, the larger is the later, if it is all there.
        let whole = parts
            .sizes
            .iter()
            .rev()
            .find_map(|sectors| covering(&parts.pieces, *sectors));
        let revision = self.generation;
        for piece in &parts.pieces {
            if let Some(disk) = self.disks.get_mut(&piece.extent.disk) {
                disk.extents_revision = revision;
            }
        }
        let Some((sectors, extents)) = whole.filter(|(_, extents)| self.makes_a_volume(&parts, extents))
        else {
            self.refuse_attached(&parts)?;
            require(
                self.fragments.len() < FRAGMENTS_MAX,
                Kind::Volume,
                &parts.name,
                Field::Parts,
                Rule::Parts,
            )?;
            // No piece reaches beyond the size that was told with it.
            let sectors = parts.sizes.last().copied().unwrap_or_default();
            let fragment = Fragment {
                name: parts.name,
                sectors,
                block_bytes: parts.block_bytes,
                pieces: parts.pieces,
            };
            self.fragments.insert(uuid, fragment);
            return Ok(());
        };
        room_for_one(Kind::Volume, self.volumes.len(), VOLUMES_MAX)?;
        let name = self.free_name(&parts.name, uuid, parts.known);
        let volume = Volume {
            uuid,
            sectors,
            block_bytes: parts.block_bytes,
            layout: Layout::Linear { extents },
            created: parts.created,
            revision,
            layout_revision: None,
            clear: parts.clear,
            // A table names what guests may use, and nothing else.
            clearing: None,
            deleting: false,
            protected: parts.protected,
        };
        self.volumes.insert(name, volume);
        Ok(())
    }

    /// Whether a volume of these extents would be one that this node can serve.
    fn makes_a_volume(&self, parts: &Parts, extents: &[Extent]) -> bool {
        let node_of = |extent: &Extent| self.disks.get(&extent.disk).map(|disk| &disk.node);
        let one_node = extents.windows(2).all(|pair| match pair {
            [a, b] => node_of(a) == node_of(b),
            _ => true,
        });
        let mut disks = extents.iter().filter_map(|extent| self.disks.get(&extent.disk));
        let blocks = disks.all(|disk| disk.block_bytes <= parts.block_bytes);
        one_node && blocks && extents.len() <= EXTENTS_PER_VOLUME_MAX
    }

    /// A volume that is no longer whole, or gone, may not be attached.
    fn refuse_attached(&self, parts: &Parts) -> Result<(), Refusal> {
        let mut of_it = self.attachments_of(&parts.name);
        match of_it.next().filter(|_| parts.known) {
            None => Ok(()),
            Some((attachment, _)) => Err(Refusal::VolumeInUse {
                volume: parts.name.clone(),
                attachment: attachment.clone(),
            }),
        }
    }

    /// A protected volume has to be there afterwards, as large as it was.
    fn refuse_loss(&self, uuid: Uuid, name: Name, sectors: u64) -> Result<(), Refusal> {
        let mut volumes = self.volumes.values();
        match volumes.any(|volume| volume.uuid == uuid && volume.sectors >= sectors) {
            true => Ok(()),
            false => Err(Refusal::Protected {
                kind: Kind::Volume,
                name,
            }),
        }
    }

    /// The name that a volume gets: its own, unless another has it.
    fn free_name(&self, wanted: &Name, uuid: Uuid, known: bool) -> Name {
        if known || !self.volumes.contains_key(wanted) {
            return wanted.clone();
        }
        let id = uuid.to_string();
        let mut stem = wanted.as_str();
        for digits in [8, 36] {
            let suffix = id.get(..digits).unwrap_or(&id);
            while stem.len() + 1 + suffix.len() > NAME_BYTES_MAX {
                stem = stem.get(..stem.len() - 1).unwrap_or_default();
            }
            let candidate = Name::new(format!("{}-{suffix}", stem.trim_end_matches('-')));
            if let Ok(name) = candidate
                && !self.volumes.contains_key(&name)
            {
                return name;
            }
        }
        // A volume that is called like the permanent id of this one is not met twice.
        Name::new(id).unwrap_or_else(|_| wanted.clone())
    }

    /// Nothing that was imported may lie over anything else: a superblock that says so is not to be believed.
    fn refuse_overlaps(&self) -> Result<(), Refusal> {
        match crate::check::check_extents(self) {
            None => Ok(()),
            Some((disk, volume)) => Err(Refusal::ImportOverlaps { disk, volume }),
        }
    }
}

/// Adds what a disk tells of a volume.
fn add_piece(
    volumes: &mut BTreeMap<Uuid, Parts>,
    disk: &Name,
    extent: &ImportedExtent,
    created: Generation,
) -> Result<(), Refusal> {
    let rule = |holds, field, rule| require(holds, Kind::Volume, &extent.name, field, rule);
    not_nil(extent.volume, Kind::Volume, &extent.name)?;
    rule(
        block_is_known(extent.block_bytes),
        Field::BlockBytes,
        Rule::LogicalBlock,
    )?;
    let whole = sectors_fit(extent.volume_sectors, extent.block_bytes) && extent.sectors > 0;
    rule(whole, Field::Sectors, Rule::WholeBlocks)?;
    let end = extent.volume_lba.checked_add(extent.sectors);
    let inside = end.is_some_and(|end| end <= extent.volume_sectors);
    rule(inside, Field::VolumeLba, Rule::WithinVolume)?;
    let parts = volumes.entry(extent.volume).or_insert_with(|| Parts {
        name: extent.name.clone(),
        known: false,
        created,
        sectors: 0,
        sizes: BTreeSet::new(),
        block_bytes: extent.block_bytes,
        pieces: Vec::new(),
        clear: None,
        protected: false,
    });
    rule(
        parts.block_bytes == extent.block_bytes,
        Field::BlockBytes,
        Rule::SameOnAllDisks,
    )?;
    parts.sizes.insert(extent.volume_sectors);
    parts.pieces.push(Piece {
        volume_lba: extent.volume_lba,
        extent: Extent {
            disk: disk.clone(),
            disk_lba: extent.disk_lba,
            sectors: extent.sectors,
        },
    });
    Ok(())
}

/// The extents of a volume of this size, if the pieces are exactly that: no gap, nothing twice, nothing beyond.
fn covering(pieces: &[Piece], sectors: u64) -> Option<(u64, Vec<Extent>)> {
    let mut at = 0;
    let mut extents: Vec<Extent> = Vec::new();
    for piece in pieces {
        if piece.volume_lba != at {
            return None;
        }
        at = at.checked_add(piece.extent.sectors)?;
        extents.push(piece.extent.clone());
    }
    // Growth fills the last unit of a disk before it goes on elsewhere on it.
    let torn = extents
        .iter()
        .zip(extents.iter().skip(1))
        .any(|(this, next)| this.disk == next.disk && !this.sectors.is_multiple_of(ALLOCATION_UNIT_SECTORS));
    (at == sectors && !torn).then_some((sectors, extents))
}
