//! How what a medium says relates to what it should say.
//!
//! A later number is a later state only on one lineage. So a medium is brought up to date only when it carries a
//! configuration that ours has grown out of, by its id. One that carries more than we know, or something else, is left
//! alone until an operator has decided.
//!
//! A superblock of version 1 has no lineage. It is taken for ours when it says, at the same number, exactly what we
//! say; or at a lower number, when nothing that it tells of would be lost. It gets its lineage with the next write.

use crate::image::Image;
use palisade_wire::{Decoded, ExtentRecord, Kinship, Superblock};
use palisade_words::{Generation, Uuid};
use std::collections::BTreeMap;

/// How what a medium says relates to what it should say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The same.
    InForce,
    /// The same or less, and without a lineage: to be written again, with one.
    Unstamped,
    /// What it should say has grown out of it: an update is due.
    Behind,
    /// It has grown out of what we know: the cluster's database is an old one. Nothing may be written.
    Ahead,
    /// It grew on elsewhere. Nothing may be written.
    Diverged {
        /// The latest generation that both remember, if there is one.
        since: Option<Generation>,
    },
    /// Of the same generation, yet different. Nothing may be written.
    Differs,
    /// Another disk than the one looked for.
    OtherDisk,
    /// The disk of another cluster.
    OtherCluster,
}

/// Compares what a medium says with what it should say.
pub fn standing(found: &Decoded, wanted: &Image) -> Standing {
    judged(found, wanted).1
}

/// The superblock on a medium that decides about it, and how it stands to what the medium should say: the one in force; or
/// one beside it that would be written over and has gone on from us, although its table is lost.
pub fn judged<'a>(found: &'a Decoded, wanted: &Image) -> (&'a Superblock, Standing) {
    let of_the_one_in_force = of_what_is_in_force(found, wanted);
    let may_be_replaced = matches!(
        of_the_one_in_force,
        Standing::InForce | Standing::Unstamped | Standing::Behind
    );
    let in_the_way = |beside| Some((beside, of_what_is_beside(beside, wanted)?));
    may_be_replaced
        .then(|| beside(found).find_map(in_the_way))
        .flatten()
        .unwrap_or((&found.superblock, of_the_one_in_force))
}

/// Sound superblocks that are of the number in force or a later one, and not in force because their tables are lost. One
/// that the one in force has grown out of is no loss.
pub(crate) fn beside(found: &Decoded) -> impl Iterator<Item = &Superblock> {
    let in_force = &found.superblock;
    let copies = found.copies.iter().map(|(_, superblock)| superblock);
    copies.filter(move |one| {
        one.sequence >= in_force.sequence && *one != in_force && one.kinship(in_force) != Kinship::Ancestor
    })
}

/// `None` of what we have grown out of ourselves. One of version 1 whose table is lost proves nothing.
fn of_what_is_beside(beside: &Superblock, wanted: &Image) -> Option<Standing> {
    match beside.kinship(&wanted.superblock) {
        Kinship::Same | Kinship::Ancestor => None,
        Kinship::Descendant => Some(Standing::Ahead),
        Kinship::Apart { since } => Some(Standing::Diverged { since: Some(since) }),
        Kinship::Unknown => Some(Standing::Diverged { since: None }),
    }
}

fn of_what_is_in_force(found: &Decoded, wanted: &Image) -> Standing {
    let (is, should) = (&found.superblock, &wanted.superblock);
    if is.disk != should.disk {
        return Standing::OtherDisk;
    }
    let kinship = is.kinship(should);
    if is.cluster != should.cluster && kinship != Kinship::Ancestor {
        return Standing::OtherCluster;
    }
    match kinship {
        // The number of the membership only grows, on each lineage.
        Kinship::Same if is.epoch < should.epoch => Standing::Behind,
        Kinship::Same if is.epoch > should.epoch => Standing::Ahead,
        Kinship::Same if says_the_same(found, wanted) => Standing::InForce,
        Kinship::Same => Standing::Differs,
        Kinship::Ancestor => Standing::Behind,
        Kinship::Descendant => Standing::Ahead,
        Kinship::Apart { since } => Standing::Diverged { since: Some(since) },
        Kinship::Unknown if is.lineage.is_some() => Standing::Diverged { since: None },
        Kinship::Unknown => without_lineage(found, wanted),
    }
}

/// A superblock of version 1: there is nothing but the numbers and what it says.
fn without_lineage(found: &Decoded, wanted: &Image) -> Standing {
    let (is, should) = (&found.superblock, &wanted.superblock);
    if is.epoch > should.epoch || is.generation > should.generation {
        return Standing::Ahead;
    }
    if (is.epoch, is.generation) == (should.epoch, should.generation) {
        return match says_the_same(found, wanted) {
            true => Standing::Unstamped,
            false => Standing::Differs,
        };
    }
    match difference(&found.extents, &wanted.extents).loses_nothing() {
        true => Standing::Unstamped,
        false => Standing::Diverged { since: None },
    }
}

/// The number of the write, the place of the table and the lineage left aside.
fn says_the_same(found: &Decoded, wanted: &Image) -> bool {
    let (is, should) = (&found.superblock, &wanted.superblock);
    let numbered = Superblock {
        sequence: is.sequence,
        table: is.table,
        lineage: is.lineage.clone(),
        ..should.clone()
    };
    numbered == *is && found.extents == wanted.extents
}

/// A volume, or the part of one that lies on a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumePart {
    /// Permanent id of the volume.
    pub volume: Uuid,
    /// Its name there.
    pub name: String,
    /// Sectors of it on the disk.
    pub sectors: u64,
}

/// What the tables of two sides have of volumes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableDifference {
    /// Only the medium has it.
    pub only_on_medium: Vec<VolumePart>,
    /// Only the database has it.
    pub only_in_database: Vec<VolumePart>,
    /// Both have it, and not in the same places; as the medium has it.
    pub elsewhere: Vec<VolumePart>,
    /// Of these, the ones of which the database has all that the medium has, and more: volumes that have grown.
    grown: usize,
}

impl TableDifference {
    /// Whether writing the database's table over the medium's loses nothing of what the medium tells of.
    pub fn loses_nothing(&self) -> bool {
        self.only_on_medium.is_empty() && self.elsewhere.len() == self.grown
    }

    /// Whether both have the same.
    pub fn is_empty(&self) -> bool {
        self.only_on_medium.is_empty() && self.only_in_database.is_empty() && self.elsewhere.is_empty()
    }
}

/// Compares a table on a medium with the one that the database would write.
pub fn difference(medium: &[ExtentRecord], database: &[ExtentRecord]) -> TableDifference {
    let (on_medium, in_database) = (by_volume(medium), by_volume(database));
    let mut difference = TableDifference::default();
    for (volume, extents) in &on_medium {
        let Some(ours) = in_database.get(volume) else {
            difference.only_on_medium.push(part(*volume, extents));
            continue;
        };
        let places = |extents: &[&ExtentRecord]| -> Vec<_> {
            let place = |extent: &&ExtentRecord| (extent.volume_lba, extent.disk_lba, extent.sectors);
            extents.iter().map(place).collect()
        };
        if places(extents) == places(ours) {
            continue;
        }
        difference.elsewhere.push(part(*volume, extents));
        let contains = |theirs: &&ExtentRecord| {
            let holds = |ours: &&ExtentRecord| {
                ours.volume_lba == theirs.volume_lba
                    && ours.disk_lba == theirs.disk_lba
                    && ours.sectors >= theirs.sectors
            };
            ours.iter().any(holds)
        };
        difference.grown += usize::from(extents.iter().all(contains));
    }
    let new = in_database
        .iter()
        .filter(|(volume, _)| !on_medium.contains_key(*volume));
    difference.only_in_database = new.map(|(volume, extents)| part(*volume, extents)).collect();
    difference
}

/// A volume of the database that lies where the medium has another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overlap {
    /// The volume of the database, with the sectors of it that the other one has.
    pub database: VolumePart,
    /// The name of the other one on the medium.
    pub medium: String,
}

/// Where the database has a volume, and the medium another one: what lies there is the other's.
pub fn overlaps(medium: &[ExtentRecord], database: &[ExtentRecord]) -> Vec<Overlap> {
    let mut shared: BTreeMap<(Uuid, Uuid), Overlap> = BTreeMap::new();
    for ours in database {
        for theirs in medium.iter().filter(|theirs| theirs.volume != ours.volume) {
            let from = ours.disk_lba.0.max(theirs.disk_lba.0);
            let to = ours.disk_end().0.min(theirs.disk_end().0);
            let Some(sectors) = to.checked_sub(from).filter(|sectors| *sectors > 0) else {
                continue;
            };
            let overlap = shared
                .entry((ours.volume, theirs.volume))
                .or_insert_with(|| Overlap {
                    database: VolumePart {
                        sectors: 0,
                        ..part(ours.volume, &[ours])
                    },
                    medium: theirs.volume_name.to_string(),
                });
            overlap.database.sectors += sectors;
        }
    }
    shared.into_values().collect()
}

/// What the database has of volumes where the medium does not have the same sectors of the same volume. On an older copy
/// that is space which nobody has cleared for them there: it holds what was there when the copy was made.
pub fn unheld(medium: &[ExtentRecord], database: &[ExtentRecord]) -> Vec<VolumePart> {
    let mut parts: BTreeMap<Uuid, VolumePart> = BTreeMap::new();
    for ours in database {
        let held = medium
            .iter()
            .filter(|theirs| theirs.volume == ours.volume && is_same_place(theirs, ours));
        let held: u64 = held
            .map(|theirs| {
                let from = ours.disk_lba.0.max(theirs.disk_lba.0);
                let to = ours.disk_end().0.min(theirs.disk_end().0);
                to.saturating_sub(from)
            })
            .sum();
        let missing = ours.sectors.saturating_sub(held);
        if missing > 0 {
            let none = VolumePart {
                sectors: 0,
                ..part(ours.volume, &[ours])
            };
            parts.entry(ours.volume).or_insert(none).sectors += missing;
        }
    }
    parts.into_values().collect()
}

/// Sectors of a volume of the database, from its beginning, of which all that lie on the disk are the same sectors of the same
/// volume on the medium, and nobody else's there. `None`: there is no end of that on this disk.
pub fn level(medium: &[ExtentRecord], database: &[ExtentRecord], volume: Uuid) -> Option<u64> {
    let is_ours = |one: &&ExtentRecord| one.volume == volume;
    let first_lost = |ours: &ExtentRecord| {
        let mut held: Vec<&ExtentRecord> = medium.iter().filter(is_ours).collect();
        held.retain(|theirs| is_same_place(theirs, ours));
        held.sort_by_key(|theirs| theirs.disk_lba);
        let reached = held
            .iter()
            .fold(ours.disk_lba.0, |at, theirs| match theirs.disk_lba.0 <= at {
                true => at.max(theirs.disk_end().0),
                false => at,
            });
        // What begins behind it takes nothing.
        let others = medium
            .iter()
            .filter(|theirs| theirs.volume != volume && theirs.disk_end() > ours.disk_lba);
        let taken = others.map(|theirs| theirs.disk_lba.0.max(ours.disk_lba.0)).min();
        let lost = taken.unwrap_or(u64::MAX).min(reached);
        (lost < ours.disk_end().0).then(|| ours.volume_lba.0 + (lost - ours.disk_lba.0))
    };
    let block = |ours: &ExtentRecord| u64::from(ours.block_bytes / 512).max(1);
    let ours = database.iter().filter(is_ours);
    let ends = ours.filter_map(|ours| Some(first_lost(ours)? / block(ours) * block(ours)));
    ends.min()
}

/// The volumes of the database that hold what guests of others have written, or may hold it, when it is written over a medium;
/// each with the sectors from its beginning that hold nothing of the kind. `copy`: the medium is an older copy.
pub fn emptied(medium: &[ExtentRecord], database: &[ExtentRecord], copy: bool) -> BTreeMap<Uuid, u64> {
    let overlaps = overlaps(medium, database);
    let others = overlaps.iter().map(|overlap| overlap.database.volume);
    let uncleared = match copy {
        true => unheld(medium, database),
        false => Vec::new(),
    };
    let volumes = others.chain(uncleared.iter().map(|part| part.volume));
    let kept = |volume| level(medium, database, volume).unwrap_or_default();
    volumes.map(|volume| (volume, kept(volume))).collect()
}

/// Whether each sector of two extents of one volume that both have on the disk is the same sector of the volume: both are as far
/// apart on the disk as in the volume.
fn is_same_place(theirs: &ExtentRecord, ours: &ExtentRecord) -> bool {
    theirs.disk_lba.0.wrapping_sub(ours.disk_lba.0) == theirs.volume_lba.0.wrapping_sub(ours.volume_lba.0)
}

fn by_volume(extents: &[ExtentRecord]) -> BTreeMap<Uuid, Vec<&ExtentRecord>> {
    let mut volumes: BTreeMap<Uuid, Vec<&ExtentRecord>> = BTreeMap::new();
    for extent in extents {
        volumes.entry(extent.volume).or_default().push(extent);
    }
    for extents in volumes.values_mut() {
        extents.sort_by_key(|extent| extent.volume_lba);
    }
    volumes
}

fn part(volume: Uuid, extents: &[&ExtentRecord]) -> VolumePart {
    VolumePart {
        volume,
        name: extents
            .first()
            .map_or_else(String::new, |extent| extent.volume_name.to_string()),
        sectors: extents.iter().map(|extent| extent.sectors).sum(),
    }
}
