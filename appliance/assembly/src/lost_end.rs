//! A medium that has lost one of its ends: what may have been lost with it, and an operator who goes on without.
//!
//! Such a disk is not served until then: guests would read zeros where their data was, and a file system that has done so
//! writes on from there, which no backup mends.

use crate::medium;
use crate::problem;
use crate::shared::Shared;
use crate::superblocks;
use crate::takeover::on_medium;
use palisade_api::size::human;
use palisade_api::{Problem, ProblemKind, Severity};
use palisade_block::SECTOR_BYTES;
use palisade_model::superblock::end_in_words;
use palisade_model::{AdoptDisk, Command, Disk, Name};
use palisade_reconcile::Superblock;
use palisade_sys::Opened;
use palisade_volume::{image, judged};
use palisade_wire::{Decoded, ExtentRecord, Geometry};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far from an end it is looked how much there reads as zeros, in bytes.
const LOOKED_AT: u64 = 64 << 20;

/// How much is read at once, in bytes.
const PIECE: u64 = 1 << 20;

/// What may have been lost with an end of a medium: the volumes next to it, and how to go on.
pub fn told(name: &Name, found: &Decoded, opened: &Opened, tail: bool) -> String {
    let zeros = zeros(found, opened, tail);
    let volumes = next_to(found, tail, zeros);
    let least = match zeros >= LOOKED_AT {
        true => "at least ",
        false => "",
    };
    let there = match zeros {
        0 => "What lies next to it is not zeros".to_owned(),
        zeros => format!("Next to it {least}{} read as zeros", human(zeros)),
    };
    let whose = match volumes.as_slice() {
        [] => "and belong to no volume".to_owned(),
        volumes => format!("where these volumes lie: {}", volumes.join(", ")),
    };
    format!(
        "{there}, {whose}. To go on with what is there, once you know what is to be restored: palisade disk confirm {name} --yes"
    )
}

/// How many bytes next to an end of the data area are zeros, [`LOOKED_AT`] at most.
fn zeros(found: &Decoded, opened: &Opened, tail: bool) -> u64 {
    let Ok(geometry) = Geometry::of(found.superblock.disk_sectors) else {
        return 0;
    };
    let [start, end] = [geometry.data_start, geometry.data_end].map(|lba| lba.0 * SECTOR_BYTES);
    let most = LOOKED_AT.min(end.saturating_sub(start));
    let mut piece = vec![0; PIECE as usize];
    let mut zeros = 0;
    while zeros < most {
        let bytes = PIECE.min(most - zeros);
        let at = match tail {
            true => end - zeros - bytes,
            false => start + zeros,
        };
        let Some(part) = piece.get_mut(..bytes as usize) else {
            break;
        };
        // What lies behind the end of a medium that is shorter now cannot be read, and is lost just so.
        let behind = tail && at + bytes > opened.sectors().0 * SECTOR_BYTES;
        if !behind && (opened.read_at(at, part).is_err() || part.iter().any(|byte| *byte != 0)) {
            break;
        }
        zeros += bytes;
    }
    zeros
}

/// The volumes that lie within so many bytes of an end of the data area; the one that lies nearest, if that is none.
fn next_to(found: &Decoded, tail: bool, bytes: u64) -> Vec<String> {
    let Ok(geometry) = Geometry::of(found.superblock.disk_sectors) else {
        return Vec::new();
    };
    let sectors = bytes / SECTOR_BYTES;
    let end = |extent: &ExtentRecord| extent.disk_lba.0.saturating_add(extent.sectors);
    let is_in = |extent: &&ExtentRecord| match tail {
        true => end(extent) > geometry.data_end.0.saturating_sub(sectors),
        false => extent.disk_lba.0 < geometry.data_start.0.saturating_add(sectors),
    };
    let names: BTreeSet<String> = found
        .extents
        .iter()
        .filter(is_in)
        .map(|extent| extent.volume_name.to_string())
        .collect();
    if !names.is_empty() || bytes > 0 {
        return names.into_iter().collect();
    }
    let nearest = match tail {
        true => found.extents.iter().max_by_key(|extent| end(extent)),
        false => found.extents.iter().min_by_key(|extent| extent.disk_lba.0),
    };
    nearest
        .map(|extent| extent.volume_name.to_string())
        .into_iter()
        .collect()
}

/// Goes on with a medium that has lost an end, if that is what is the matter with a disk; whether it was.
///
/// # Errors
/// The disk has changed since it was seen, cannot be read, or the cluster refuses.
pub fn go_on_without(
    shared: &Shared,
    name: &Name,
    disk: &Disk,
    expected: Option<u64>,
) -> Result<bool, Problem> {
    let cluster = shared.cluster();
    if !disk.has_superblock() {
        return Ok(false);
    }
    let open = shared.seen().disks.get(name).map(|open| Arc::clone(&open.opened));
    let Some(opened) = open.or_else(|| beside(disk).map(Arc::new)) else {
        return Ok(false);
    };
    let look = superblocks::look(&cluster, name, disk, &opened, &shared.last_superblock);
    let Ok(Superblock::EndLost { tail, .. }) = look.map(|look| look.superblock) else {
        return Ok(false);
    };
    let (Ok(found), Ok(wanted)) = (superblocks::read(&opened), image(&cluster, name)) else {
        return Ok(false);
    };
    let there = opened.refresh_size().map(|sectors| sectors.0).unwrap_or_default();
    if there < disk.sectors {
        let message = format!(
            "disk {name} is shorter than it was: {there} sectors are there, {} were agreed on",
            disk.sectors
        );
        let remedy = "put a copy of the whole medium in its place; or make it as long as before, knowing that what was cut off \
                      is lost and reads as zeros, and say this again";
        return Err(Problem::new(
            ProblemKind::Conflict,
            "disk_shrunk",
            message,
            remedy,
        ));
    }
    if let Some(expected) = expected.filter(|&expected| expected != disk.revision.0) {
        return Err(Problem::changed("disk", name.as_str(), expected, disk.revision.0));
    }
    shared.last_superblock.go_on_without_end(disk);
    let goes_on = Command::AdoptDisk(AdoptDisk {
        name: name.clone(),
        uuid: disk.uuid,
        seen: Some(on_medium(judged(&found, &wanted).0)),
        empties: Vec::new(),
        keeps: Default::default(),
        older: true,
    });
    shared
        .propose(goes_on)
        .map_err(|error| problem::of_proposal(&error))?;
    let end = end_in_words(tail);
    let message = format!(
        "an operator goes on with disk {name}, which has lost the {end} of its medium. {}",
        told(name, &found, &opened, tail)
    );
    let subject = format!("disk/{name}");
    shared
        .events
        .push(Severity::Warning, "disk_end_lost", subject, message);
    Ok(true)
}

/// The medium of a disk that is closed, open to be looked at, if it is the one on record.
fn beside(disk: &Disk) -> Option<Opened> {
    let opened = medium::beside(disk).ok()?;
    medium::check(disk, &opened).ok()?;
    Some(opened)
}
