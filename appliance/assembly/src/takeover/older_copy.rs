//! An older copy of a disk in its medium's place: whether it is one, and what each side has of the volumes.

use super::part;
use crate::own_file::Obstacle;
use crate::shared::Shared;
use palisade_api as api;
use palisade_api::{Problem, ProblemKind};
use palisade_model::Disk;
use palisade_reconcile::SuperblockState;
use palisade_volume::{Image, Known, VolumePart, carried, level, overlaps, unheld};
use palisade_wire::{DecodeError, Decoded, ExtentRecord};
use palisade_words::{Generation, SECTOR_BYTES, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// A medium that is an older copy, or may be one.
#[derive(Clone, Copy, Debug)]
pub(super) struct OlderCopy {
    /// The generation that the disk's was last known to carry, if that is known.
    last: Option<Generation>,
}

/// Whether what was found on a medium is an older copy.
pub(super) fn copy(
    shared: &Shared,
    disk: &Disk,
    found: &Result<Decoded, DecodeError>,
    wanted: &Image,
) -> Result<Option<OlderCopy>, Problem> {
    let Ok(decoded) = found else { return Ok(None) };
    let last = shared
        .last_superblock
        .known(disk, decoded)
        .map_err(|Obstacle { what, remedy }| {
            Problem::new(ProblemKind::Internal, "state_not_readable", what, &remedy)
        })?;
    let known = Known {
        last,
        end_excused: true,
    };
    Ok(match carried(found, wanted, known, || false) {
        Ok(SuperblockState::Older { last, .. }) => Some(OlderCopy { last }),
        _ => None,
    })
}

/// What is told of one.
pub(super) fn of_copy(found: &Decoded, copy: OlderCopy) -> String {
    let generation = found.superblock.generation;
    match copy.last {
        Some(last) => format!(
            "the medium carries generation {generation}, and was at generation {last} when this node last wrote or saw it: \
             its superblock is an earlier one, as on an older copy of the disk. What guests have written meanwhile to another copy \
             is not on it, whichever side is taken"
        ),
        None => format!(
            "the medium carries generation {generation}, which the database has gone on from, and this node does not know what \
             it carried last: it may be an older copy of the disk. If it is one, what guests have written since it was made is \
             not on it, whichever side is taken"
        ),
    }
}

/// The volumes of the database in whose place others have written; on an older copy, also those that have space there which
/// was not theirs, and so not cleared for them, when the copy was made.
pub(super) fn overwritten(
    medium: &[ExtentRecord],
    database: &[ExtentRecord],
    copy: Option<OlderCopy>,
) -> Vec<api::VolumeOverwritten> {
    let overlaps = overlaps(medium, database);
    let kept_bytes = |part: &VolumePart| {
        let kept = level(medium, database, part.volume).unwrap_or_default();
        kept * SECTOR_BYTES
    };
    let by_others = overlaps.iter().map(|overlap| api::VolumeOverwritten {
        volume: part(&overlap.database),
        by: overlap.medium.clone(),
        kept_bytes: kept_bytes(&overlap.database),
    });
    let mut all: Vec<api::VolumeOverwritten> = by_others.collect();
    let unheld = copy.map(|_| unheld(medium, database)).unwrap_or_default();
    let is_known = |part: &VolumePart| {
        overlaps
            .iter()
            .any(|overlap| overlap.database.volume == part.volume)
    };
    let uncleared = unheld.iter().filter(|part| !is_known(part));
    all.extend(uncleared.map(|one| api::VolumeOverwritten {
        volume: part(one),
        by: "whoever had that space before".to_owned(),
        kept_bytes: kept_bytes(one),
    }));
    all
}

/// The volumes that both have.
pub(super) fn on_both(medium: &[ExtentRecord], database: &[ExtentRecord]) -> Vec<api::VolumePart> {
    let known: BTreeSet<Uuid> = database.iter().map(|extent| extent.volume).collect();
    let mut both: BTreeMap<Uuid, VolumePart> = BTreeMap::new();
    for extent in medium.iter().filter(|extent| known.contains(&extent.volume)) {
        let none = VolumePart {
            volume: extent.volume,
            name: extent.volume_name.to_string(),
            sectors: 0,
        };
        both.entry(extent.volume).or_insert(none).sectors += extent.sectors;
    }
    both.values().map(part).collect()
}

/// The volumes of the database that hold what guests of others have written, or may hold it; each with the sectors that it
/// keeps.
pub(super) fn emptied(found: &Decoded, wanted: &Image, copy: Option<OlderCopy>) -> BTreeMap<Uuid, u64> {
    palisade_volume::emptied(&found.extents, &wanted.extents, copy.is_some())
}
