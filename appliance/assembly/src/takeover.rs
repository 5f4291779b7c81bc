//! Disks that carry more, or something else, than the database knows: shown, and decided about by an operator.

mod import;
mod older_copy;
mod reach;
mod undecided;

pub use import::import;
pub(crate) use reach::{DiskHold, hold_at_once};
pub use undecided::{refused as refused_undecided, undecided};

use crate::medium;
use crate::problem;
use crate::rest::STATE_PATIENCE;
use crate::shared::Shared;
use crate::superblocks;
use older_copy::{OlderCopy, copy, emptied, of_copy, on_both, overwritten};
use palisade_api as api;
use palisade_api::size::human;
use palisade_api::{Problem, ProblemKind, Side};
use palisade_model::superblock::end_in_words;
use palisade_model::{
    AddDisk, AdoptDisk, Cluster, Command, Disk, ImportDisks, ImportedDisk, ImportedExtent, Kind, Medium,
    OnMedium, Outcome, Refusal,
};
use palisade_reconcile::SuperblockState;
use palisade_sys::Opened;
use palisade_sys::device::probe::Content;
use palisade_volume::{Image, Standing, TableDifference, VolumePart, agreed, difference, image, judged};
use palisade_wire::{Claim, DecodeError, Decoded, ExtentRecord, Kinship};
use palisade_words::{Name, SECTOR_BYTES};
use std::sync::Arc;

/// Shows what a disk and the database know of each other, and takes a side if that is asked for. A side is taken of what lies
/// on the medium under its lock, which is held from before it is read until the disk is opened with it.
///
/// # Errors
/// There is no such disk, it cannot be opened, nothing is to be decided, or the decision was made about something else.
pub fn adopt(shared: &Shared, id: &str, request: &api::DiskAdopt) -> Result<api::DiskAdoption, Problem> {
    let name = Name::new(id).map_err(|_| Problem::not_found("disk", id))?;
    let cluster = shared.cluster();
    let disk = cluster
        .disks
        .get(&name)
        .ok_or_else(|| Problem::not_found("disk", id))?;
    let wanted = image(&cluster, &name).map_err(|error| {
        conflict(
            "nothing_to_adopt",
            error.to_string(),
            "only pooled disks carry a superblock",
        )
    })?;
    let mut reached = reach::reach(shared, &cluster, &name, disk, request.take.is_some())?;
    let (opened, other) = (Arc::clone(&reached.opened), reached.other.take());
    let found = superblocks::read(&opened);
    // What is not clear yet is on no medium, and lost with the side of the database all the same.
    let agreed = agreed(&cluster, &name).unwrap_or_else(|_| wanted.extents.clone());
    let copy = copy(shared, disk, &found, &wanted)?;
    let is_being_written = is_being_written(shared, &cluster, &name, disk, &opened);
    let mut adoption = compare(&name, &found, &wanted, &agreed, (copy, is_being_written));
    if found.is_err() && !matches!(found, Err(DecodeError::Contradiction(_))) {
        // Nothing that can be read names what was shown.
        let unread = |error| problem::of_reading(format_args!("disk {id}"), error);
        let mark = medium::mark_of_ends(&opened).map_err(unread)?;
        adoption.seen = format!("{}-{mark}", adoption.seen);
    }
    if let Ok(found) = &found
        && found.superblock.disk_sectors > disk.sectors
    {
        adoption.message = format!(
            "{}; the disk has been made larger since the database was copied, from {} to {}, and is that large with the side \
             of the disk",
            adoption.message,
            human(disk.sectors * SECTOR_BYTES),
            human(found.superblock.disk_sectors * SECTOR_BYTES)
        );
    }
    let foreign = found.is_err().then(|| medium::foreign(&opened)).flatten();
    if let Some(content) = &foreign {
        adoption.message = format!("{}; it carries {content}", adoption.message);
    }
    let holds = match (&found, &foreign) {
        (Err(_), None) if !is_being_written => medium::holds(disk, &opened),
        _ => None,
    };
    if let Some(content) = &holds {
        tell_held(&mut adoption, content);
    }
    tell_lost_end(shared, &cluster, &name, disk, &opened, &mut adoption);
    let is_to_be_decided = matches!(
        adoption.standing.as_str(),
        "newer" | "diverged" | "lost" | "damaged" | "older_copy"
    );
    let knowledge = Knowledge {
        cluster: &cluster,
        name: &name,
        disk,
        found: &found,
        wanted: &wanted,
        copy,
        sectors: opened.sectors().0,
        foreign: foreign.as_ref(),
        holds: holds.as_ref().filter(|_| !request.force),
        other: other.as_ref(),
    };
    if is_to_be_decided {
        for side in [Side::Disk, Side::Database] {
            match knowledge.may_take(side) {
                Ok(()) => adoption.choices.push(side),
                Err(problem) => adoption.refused.push(api::SideRefused {
                    side,
                    message: problem.message,
                    remedy: problem.remedy,
                }),
            }
        }
    }
    let Some(side) = request.take else {
        return Ok(adoption);
    };
    if let Some(other) = other {
        return Err(other);
    }
    if side == Side::Database {
        refuse_foreign(id, foreign.as_ref())?;
    }
    if !is_to_be_decided {
        let message = format!("disk {id}: {}", adoption.message);
        return Err(conflict(
            "nothing_to_adopt",
            message,
            "there is nothing to decide: leave it as it is",
        ));
    }
    if request.seen.as_deref() != Some(adoption.seen.as_str()) {
        let message = format!("what disk {id} carries has changed since it was shown, or was never shown");
        let remedy = "look again at what would be lost, and give the `seen` of that answer";
        return Err(conflict("adopt_not_seen", message, remedy).about("seen"));
    }
    if side == Side::Database {
        refuse_unknown(id, knowledge.holds)?;
    }
    let command = knowledge.command(side)?;
    if found.is_err() {
        // It has been looked at, and its operator says that it is the one.
        let state = shared.state_within(STATE_PATIENCE);
        let mut state = state.ok_or_else(problem::of_busy_control)?;
        state.control.renew(disk.uuid);
    }
    if let Ok(found) = &found {
        if copy.is_none() {
            note_seen(shared, &name, disk, found);
        }
        shared.last_superblock.choose(disk, found.superblock.point());
    }
    let agreed = shared.propose(command);
    let outcome = agreed.map_err(|error| {
        shared.last_superblock.unchoose(disk.uuid);
        problem::of_proposal(&error)
    })?;
    // Without it the next daemon asks once more, if the superblock is not written before.
    if !matches!(outcome, Outcome::Unchanged { .. })
        && let Err(error) = shared.last_superblock.settle(disk.uuid)
    {
        log::warn!("disk {name}: which generation it carries cannot be kept: {error}");
    }
    reached.is_decided();
    adoption.taken = Some(side);
    Ok(adoption)
}

/// Whether it has been agreed on that a superblock is written to a medium that carries none, and nothing there is in the way.
fn is_being_written(shared: &Shared, cluster: &Cluster, name: &Name, disk: &Disk, opened: &Opened) -> bool {
    let look = || superblocks::look(cluster, name, disk, opened, &shared.last_superblock);
    !disk.first_superblock.is_on_medium()
        && look().is_ok_and(|look| look.superblock == SuperblockState::Missing)
}

/// Keeps what a medium is seen to carry, where nothing is known of it: a daemon that ends once this is agreed on is followed by
/// one that takes the medium for the one that was decided about.
fn note_seen(shared: &Shared, name: &Name, disk: &Disk, found: &Decoded) {
    let last = &shared.last_superblock;
    if !matches!(last.recall(disk.uuid), Ok(None)) {
        return;
    }
    let kept = last.keep(disk.uuid, found.superblock.generation);
    if let Err(error) = kept {
        log::warn!("disk {name}: which generation it carries cannot be kept: {error}");
    }
}

/// What is known of a disk that is to be decided about.
struct Knowledge<'a> {
    cluster: &'a Cluster,
    name: &'a Name,
    disk: &'a Disk,
    found: &'a Result<Decoded, DecodeError>,
    wanted: &'a Image,
    /// What was found is an older copy, or may be one.
    copy: Option<OlderCopy>,
    /// How long the medium is.
    sectors: u64,
    /// What of others lies there.
    foreign: Option<&'a Content>,
    /// What lies there where nothing says that it is the disk, unless that may be written over.
    holds: Option<&'a Content>,
    /// What stands against deciding at all.
    other: Option<&'a Problem>,
}

impl Knowledge<'_> {
    /// Whether a side could be taken now, by the rules that a decision is held against.
    fn may_take(&self, side: Side) -> Result<(), Problem> {
        if let Some(other) = self.other {
            return Err(other.clone());
        }
        let applied = self.cluster.apply(&self.command(side)?);
        applied.map(drop).map_err(|refusal| match &refusal {
            Refusal::VolumeInUse { volume, attachment } if side == Side::Disk => {
                let id = self.name;
                let message =
                    format!("volume {volume} is attached as {attachment}, and would be gone, or not whole, by what the disk says");
                let remedy = format!(
                    "take that attachment away first (palisade attachment rm {attachment}), and then the side of the disk \
                     (palisade disk adopt {id} --take disk)"
                );
                conflict(refusal.code(), message, &remedy)
            }
            Refusal::Protected { kind: Kind::Volume, name } if side == Side::Disk => {
                let id = self.name;
                let message = format!(
                    "volume {name} is protected, and would be gone, not whole, or smaller, by what the disk says"
                );
                let remedy = format!(
                    "lift its protection first (palisade volume set {name} --unprotect), and then take the side of the disk \
                     (palisade disk adopt {id} --take disk)"
                );
                conflict(refusal.code(), message, &remedy)
            }
            _ => problem::of_refusal(&refusal),
        })
    }

    /// What takes a side.
    fn command(&self, side: Side) -> Result<Command, Problem> {
        let id = self.name.as_str();
        match (side, self.found) {
            (Side::Database, found) => {
                self.refuse_database()?;
                let found = found.as_ref().ok();
                let emptied = found.map(|found| emptied(found, self.wanted, self.copy));
                let emptied = emptied.unwrap_or_default();
                Ok(Command::AdoptDisk(AdoptDisk {
                    name: self.name.clone(),
                    uuid: self.disk.uuid,
                    seen: found.map(|found| on_medium(judged(found, self.wanted).0)),
                    empties: emptied.keys().copied().collect(),
                    keeps: emptied.into_iter().filter(|(_, kept)| *kept > 0).collect(),
                    older: self.copy.is_some(),
                }))
            }
            (Side::Disk, Ok(found)) => {
                let disk = known(self.name, self.disk, &found.superblock);
                is_as_long(&format!("the medium of disk {id}"), self.sectors, disk.sectors)?;
                Ok(Command::ImportDisks(ImportDisks {
                    disks: vec![imported(disk, found)?],
                    cluster: None,
                    holds_clearings: true,
                    regards_protection: true,
                }))
            }
            (Side::Disk, Err(error)) => {
                let message = format!("disk {id} says nothing that could be taken over: {error}");
                // Only what can be done.
                let remedy = match self.refuse_database() {
                    Ok(()) => "take the side of the database".to_owned(),
                    Err(refused) => refused.remedy,
                };
                Err(conflict("nothing_on_disk", message, &remedy).about("take"))
            }
        }
    }

    /// Why what the database says is not to be written, whatever it is.
    fn refuse_database(&self) -> Result<(), Problem> {
        let id = self.name.as_str();
        refuse_foreign(id, self.foreign)?;
        refuse_unknown(id, self.holds)?;
        match self.found {
            Ok(_) => Ok(()),
            Err(error) => refuse_neither(id, error, self.wanted),
        }
    }
}

/// Says so where disk and database agree, and an end of the medium is lost all the same.
fn tell_lost_end(
    shared: &Shared,
    cluster: &Cluster,
    name: &Name,
    disk: &Disk,
    opened: &Opened,
    adoption: &mut api::DiskAdoption,
) {
    if !matches!(adoption.standing.as_str(), "in_force" | "older") {
        return;
    }
    let look = superblocks::look(cluster, name, disk, opened, &shared.last_superblock);
    let Ok(palisade_control::SuperblockLook {
        superblock: SuperblockState::EndLost { tail, .. },
        sides,
        ..
    }) = look
    else {
        return;
    };
    adoption.standing = "end_lost".to_owned();
    adoption.message = format!(
        "disk and database tell of the same volumes, and both copies of the superblock at the {} of the medium are gone: what \
         guests had there may be gone as well. {}",
        end_in_words(tail),
        sides.unwrap_or_default()
    );
}

/// Nothing of others is written over by taking the side of the database.
fn refuse_foreign(id: &str, foreign: Option<&Content>) -> Result<(), Problem> {
    let Some(content) = foreign else {
        return Ok(());
    };
    Err(conflict(
        "foreign_data",
        format!(
            "what lies under the path of disk {id} carries {content}: it is another medium, or was written over"
        ),
        &format!(
            "see what it is, which changes nothing: wipefs --no-act PATH, with the path that `palisade disk show {id}` tells. If \
             it is another medium, leave it as it is and say where the disk is: palisade disk confirm {id} --path PATH. If it is \
             the disk, and what it carries now is to go for good, keep an image of it, stop the daemon and take that away by \
             its own tools; then look again: palisade disk adopt {id}"
        ),
    ))
}

/// Nothing is written over what nobody knows, unless that is said.
fn refuse_unknown(id: &str, holds: Option<&Content>) -> Result<(), Problem> {
    let Some(content) = holds.filter(|content| !matches!(content, Content::Blank)) else {
        return Ok(());
    };
    Err(conflict(
        "disk_holds_data",
        format!("what lies under the path of disk {id} holds {content}, and nothing there says that it is the disk"),
        &format!(
            "if it is another medium, say where the disk is: palisade disk confirm {id} --path PATH; if it is the disk, and \
             somebody has written over its superblocks, keep an image of it and say so: palisade disk adopt {id} --take database \
             --force"
        ),
    )
    .about("force"))
}

/// Says what becomes of the volumes of a disk when its superblock is written to a medium on which nothing says that it is the
/// disk.
fn tell_held(adoption: &mut api::DiskAdoption, content: &Content) {
    let volumes: Vec<String> = adoption
        .only_in_database
        .iter()
        .map(|part| format!("{} ({})", part.id, human(part.bytes)))
        .collect();
    let volumes = match volumes.is_empty() {
        true => "no volume".to_owned(),
        false => volumes.join(", "),
    };
    adoption.message = match content {
        Content::Blank => format!(
            "the medium is blank wherever it was looked at: if it is the disk, what its volumes held is lost, and they read as \
             zeros: {volumes}"
        ),
        _ => format!(
            "the medium holds {content}, and nothing on it says that it is the disk: if it is another one, what its volumes held \
             is not there, and their guests would read what is: {volumes}"
        ),
    };
    adoption.holds = Some(content.to_string());
    let mark = if matches!(content, Content::Blank) {
        "blank"
    } else {
        "data"
    };
    adoption.seen = format!("{}-{mark}", adoption.seen);
}

/// Of two states that contradict each other one must be the database's own: where neither is, what lies on the disk is
/// others', and their tables cannot be asked what of it is whose.
fn refuse_neither(id: &str, error: &DecodeError, wanted: &Image) -> Result<(), Problem> {
    let DecodeError::Contradiction(claims) = error else {
        return Ok(());
    };
    let is_ours = |claim: &Claim| {
        let kinship = claim.superblock.kinship(&wanted.superblock);
        matches!(kinship, Kinship::Same | Kinship::Ancestor)
    };
    match claims.iter().any(is_ours) {
        true => Ok(()),
        false => Err(conflict(
            "contradiction",
            format!("disk {id}: {error}; and the database has grown out of neither"),
            &format!(
                "keep an image of the disk: `palisade-inspect` shows what is on it, copy by copy. If nothing of that is needed, \
                 give the disk up (palisade disk rm {id} --force), erase it and add it anew"
            ),
        )),
    }
}

fn compare(
    name: &Name,
    found: &Result<Decoded, DecodeError>,
    wanted: &Image,
    agreed: &[ExtentRecord],
    (copy, is_being_written): (Option<OlderCopy>, bool),
) -> api::DiskAdoption {
    let (standing, message) = match found {
        Ok(found) if let Some(copy) = copy => ("older_copy", of_copy(found, copy)),
        Ok(found) => words(judged(found, wanted).1),
        Err(error) if is_being_written => (
            "older",
            format!(
                "that what the database knows is to be written to it anew has been agreed on, and is being done: {error}"
            ),
        ),
        Err(DecodeError::NotOurs | DecodeError::TooSmall { .. }) => (
            "lost",
            "the medium carries no superblock; what the database knows can be written to it anew".to_owned(),
        ),
        Err(error) => ("damaged", format!("the superblock cannot be used: {error}")),
    };
    let on_disk = told(found);
    let on_disk = on_disk.as_slice();
    let TableDifference {
        only_on_medium,
        only_in_database,
        elsewhere,
        ..
    } = difference(on_disk, agreed);
    let parts = |parts: &[VolumePart]| parts.iter().map(part).collect();
    let in_both = |one: &VolumePart| {
        let ours = agreed.iter().filter(|extent| extent.volume == one.volume);
        api::VolumePart {
            database_bytes: Some(ours.map(|extent| extent.sectors).sum::<u64>() * SECTOR_BYTES),
            ..part(one)
        }
    };
    let superblock = found.as_ref().ok().map(|found| judged(found, wanted).0);
    let lineage = |superblock: &palisade_wire::Superblock| {
        superblock.lineage.as_ref().map(|lineage| lineage.id.to_string())
    };
    let mark =
        |superblock: &palisade_wire::Superblock| format!("{}-{}", superblock.point().id, superblock.sequence);
    let seen = match found {
        Ok(_) => superblock.map(mark).unwrap_or_default(),
        Err(DecodeError::Contradiction(claims)) => {
            claims.each_ref().map(|claim| mark(&claim.superblock)).join("-")
        }
        Err(_) => standing.to_owned(),
    };
    api::DiskAdoption {
        disk: name.to_string(),
        standing: standing.to_owned(),
        message,
        disk_generation: superblock.map(|superblock| superblock.generation.0),
        disk_lineage: superblock.and_then(lineage),
        database_generation: wanted.superblock.generation.0,
        database_lineage: lineage(&wanted.superblock).unwrap_or_default(),
        only_on_disk: parts(&only_on_medium),
        only_in_database: parts(&only_in_database),
        elsewhere: elsewhere.iter().map(in_both).collect(),
        overwritten: overwritten(
            found.as_ref().map_or(&[], |found| &found.extents),
            &wanted.extents,
            copy,
        ),
        as_of_copy: match copy {
            Some(_) => on_both(on_disk, agreed),
            None => Vec::new(),
        },
        holds: None,
        seen,
        taken: None,
        choices: Vec::new(),
        refused: Vec::new(),
    }
}

/// The extents that a medium tells of; of two states that contradict each other those of both.
fn told(found: &Result<Decoded, DecodeError>) -> Vec<ExtentRecord> {
    match found {
        Ok(found) => found.extents.clone(),
        Err(DecodeError::Contradiction(claims)) => {
            let [one, other] = claims.each_ref().map(|claim| &claim.extents);
            let more = other.iter().filter(|extent| !one.contains(extent));
            one.iter().chain(more).cloned().collect()
        }
        Err(_) => Vec::new(),
    }
}

fn words(standing: Standing) -> (&'static str, String) {
    let (word, sentence) = match standing {
        Standing::InForce => ("in_force", "disk and database say the same".to_owned()),
        Standing::Unstamped | Standing::Behind => (
            "older",
            "the database has grown out of what the disk says; the disk is brought up to date by itself"
                .to_owned(),
        ),
        Standing::Ahead => (
            "newer",
            "what the disk says has grown out of what the database knows: the database is an old copy"
                .to_owned(),
        ),
        Standing::Diverged { since: Some(since) } => (
            "diverged",
            format!("disk and database went on apart after generation {since}"),
        ),
        Standing::Diverged { since: None } | Standing::Differs => (
            "diverged",
            "disk and database went on apart, and have nothing in common that both remember".to_owned(),
        ),
        Standing::OtherDisk => (
            "foreign",
            "the medium carries the superblock of another disk".to_owned(),
        ),
        Standing::OtherCluster => (
            "foreign",
            "the medium carries the superblock of another cluster".to_owned(),
        ),
    };
    (word, sentence)
}

/// A disk as the database has it, to be told of anew, and as large as its superblock says where it has been made larger since the database was
/// copied.
fn known(name: &Name, disk: &Disk, superblock: &palisade_wire::Superblock) -> AddDisk {
    let mut known = AddDisk {
        name: name.clone(),
        uuid: disk.uuid,
        node: disk.custodian().clone(),
        medium: disk.medium.clone(),
        record: disk.record.clone(),
        usage: disk.usage,
        block_bytes: disk.block_bytes,
        sectors: disk.sectors,
        data_start: disk.data_start,
        data_end: disk.data_end,
        superblock_pending: false,
    };
    if superblock.disk_sectors > disk.sectors {
        known.sectors = superblock.disk_sectors;
        known.data_start = superblock.data_start.0;
        known.data_end = superblock.data_end.0;
        if let Medium::File { bytes, .. } = &mut known.medium {
            *bytes = superblock.disk_sectors * SECTOR_BYTES;
        }
    }
    known
}

/// Whether a medium is as long as its superblock says.
fn is_as_long(medium: &str, has: u64, needs: u64) -> Result<(), Problem> {
    if has >= needs {
        return Ok(());
    }
    let message = format!("{medium} has shrunk: {has} sectors are there, its superblock says {needs}");
    Err(conflict("disk_shrunk", message, "make it as large as it was"))
}

fn imported(disk: AddDisk, found: &Decoded) -> Result<ImportedDisk, Problem> {
    let extent = |extent: &ExtentRecord| {
        Ok(ImportedExtent {
            volume: extent.volume,
            name: Name::new(extent.volume_name.as_str())
                .map_err(|error| problem::of_name("volume", error))?,
            volume_sectors: extent.volume_sectors,
            block_bytes: extent.block_bytes,
            volume_lba: extent.volume_lba.0,
            disk_lba: extent.disk_lba.0,
            sectors: extent.sectors,
        })
    };
    Ok(ImportedDisk {
        disk,
        seen: on_medium(&found.superblock),
        extents: found.extents.iter().map(extent).collect::<Result<_, Problem>>()?,
    })
}

pub(crate) fn on_medium(superblock: &palisade_wire::Superblock) -> OnMedium {
    let oldest_first = superblock
        .lineage
        .iter()
        .flat_map(|lineage| lineage.ancestors.iter().rev());
    OnMedium {
        point: superblock.point(),
        epoch: superblock.epoch,
        ancestors: oldest_first.copied().collect(),
    }
}

fn part(part: &VolumePart) -> api::VolumePart {
    api::VolumePart {
        id: part.name.clone(),
        uuid: part.volume.to_string(),
        bytes: part.sectors * SECTOR_BYTES,
        database_bytes: None,
    }
}

fn conflict(code: &'static str, message: String, remedy: &str) -> Problem {
    Problem::new(ProblemKind::Conflict, code, message, remedy)
}

#[cfg(test)]
mod tests;
