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
use palisade_model::superblock::end_in_words;
use palisade_model::{AdoptDisk, Cluster, Command, Disk, Extent};
use palisade_reconcile::SuperblockState;
use palisade_sys::Opened;
use palisade_sys::device::Look;
use palisade_volume::{image, judged};
use palisade_wire::{Decoded, ExtentRecord};
use palisade_words::{Name, SECTOR_BYTES};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// How much is read at most to see how far the zeros go from an end, in bytes; holes of a file are not read.
const READ_MAX: u64 = 64 << 20;

/// How much is read at once, in bytes.
const PIECE: u64 = 1 << 20;

/// The zeros next to an end of a data area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Zeros {
    /// How many bytes.
    bytes: u64,
    /// It was looked no further: there may be more.
    go_on: bool,
}

/// What may have been lost with an end of a medium: the volumes next to it, and how to go on.
pub fn told(name: &Name, found: &Decoded, opened: &Opened, tail: bool) -> String {
    let zeros = zeros(found, opened, tail);
    let (volumes, further) = next_to(found, tail, zeros.bytes);
    let there = match zeros {
        Zeros { bytes: 0, .. } => "What lies next to it is not zeros".to_owned(),
        Zeros { bytes, go_on: false } => format!("Next to it {} read as zeros", human(bytes)),
        Zeros { bytes, go_on: true } => format!(
            "Next to it at least {} read as zeros, and it was looked no further",
            human(bytes)
        ),
    };
    let whose = match volumes.as_slice() {
        [] => "and belong to no volume".to_owned(),
        volumes => format!("where these volumes lie: {}", volumes.join(", ")),
    };
    let more = match further.as_slice() {
        further @ [_, ..] if zeros.go_on => {
            format!(
                ". These lie further on, and may have lost something as well: {}",
                further.join(", ")
            )
        }
        _ => String::new(),
    };
    format!(
        "{there}, {whose}{more}. To go on with what is there, once you know what is to be restored: palisade disk confirm {name} \
         --yes"
    )
}

/// How many bytes next to an end of the data area are zeros. The holes of a file are followed to their other end, which a file
/// that was cut off and made as long as before has; elsewhere [`READ_MAX`] are read at most.
fn zeros(found: &Decoded, opened: &Opened, tail: bool) -> Zeros {
    let superblock = &found.superblock;
    let [start, end] = [superblock.data_start, superblock.data_end].map(|lba| lba.0 * SECTOR_BYTES);
    let all = end.saturating_sub(start);
    let (mut bytes, mut read, mut step) = (0, 0, PIECE);
    while bytes < all {
        let piece = step.min(all - bytes);
        let at = match tail {
            true => end - bytes - piece,
            false => start + bytes,
        };
        // What lies behind the end of a medium that is shorter now cannot be read, and is lost just so.
        let is_behind = at >= opened.sectors().bytes();
        if is_behind || opened.is_hole(at, piece).unwrap_or(false) {
            bytes += piece;
            step = step.saturating_mul(2);
        } else if piece > PIECE {
            step = PIECE.max(piece / 4);
        } else if read >= READ_MAX {
            return Zeros { bytes, go_on: true };
        } else {
            let zeros = zeros_of(opened, at, piece, tail);
            (bytes, read) = (bytes + zeros, read + piece);
            if zeros < piece {
                break;
            }
        }
    }
    Zeros { bytes, go_on: false }
}

/// How many bytes of a piece are zeros, from that side on which an end of the medium is. None, where it cannot be read.
fn zeros_of(opened: &Opened, at: u64, bytes: u64, tail: bool) -> u64 {
    let there = opened.sectors().bytes().saturating_sub(at).min(bytes);
    let mut piece = vec![0; there as usize];
    if opened.read_at(at, &mut piece).is_err() {
        return 0;
    }
    let is_set = |byte: &u8| *byte != 0;
    match tail {
        true => piece
            .iter()
            .rposition(is_set)
            .map_or(bytes, |last| bytes - last as u64 - 1),
        false => piece.iter().position(is_set).map_or(bytes, |first| first as u64),
    }
}

/// The volumes that lie within so many bytes of an end of the data area, or the one that lies nearest, if that is none; and
/// those that lie further on only.
fn next_to(found: &Decoded, tail: bool, bytes: u64) -> (Vec<String>, Vec<String>) {
    let superblock = &found.superblock;
    let sectors = bytes / SECTOR_BYTES;
    let end = |extent: &ExtentRecord| extent.disk_lba.0.saturating_add(extent.sectors);
    let is_in = |extent: &&ExtentRecord| match tail {
        true => end(extent) > superblock.data_end.0.saturating_sub(sectors),
        false => extent.disk_lba.0 < superblock.data_start.0.saturating_add(sectors),
    };
    let name = |extent: &ExtentRecord| extent.volume_name.to_string();
    let mut names: BTreeSet<String> = found.extents.iter().filter(is_in).map(name).collect();
    if names.is_empty() && bytes == 0 {
        let nearest = match tail {
            true => found.extents.iter().max_by_key(|extent| end(extent)),
            false => found.extents.iter().min_by_key(|extent| extent.disk_lba.0),
        };
        names.extend(nearest.map(name));
    }
    let all: BTreeSet<String> = found.extents.iter().map(name).collect();
    let further = all.difference(&names).cloned().collect();
    (names.into_iter().collect(), further)
}

/// What is said of a disk that is, or was, shorter than the `agreed` bytes; `shortest` is the least size that was seen, or 0 where
/// nobody has seen that.
pub fn shrunk(
    cluster: &Cluster,
    name: &Name,
    path: &Path,
    look: &Look,
    (agreed, shortest): (u64, u64),
) -> String {
    let volumes = behind(cluster, name, shortest);
    match look.bytes < agreed {
        true if shortest == 0 && look.file.is_some() => format!(
            "disk {name} has been made shorter by somebody: {} are there, {} were agreed on. It was in use meanwhile, and what \
             is written behind the end of a file makes it longer again: nobody has seen down to where it was cut off, and what \
             is gone would read as zeros, so all requests fail{volumes}. To go on with what is there, once you know what is to \
             be restored: make it as long as it was, truncate -s {agreed} {}, and then palisade disk confirm {name} --yes",
            human(look.bytes),
            human(agreed),
            path.display()
        ),
        true => format!(
            "disk {name} has been made shorter by somebody: {} are there, {} were agreed on{volumes}",
            human(look.bytes),
            human(agreed)
        ),
        false => format!(
            "disk {name} was made shorter by somebody, {}, and is as long as before: what lay behind that is lost and would \
             read as zeros, so requests there fail{volumes}. To go on with what is there, once you know what is to be \
             restored: palisade disk confirm {name} --yes",
            match shortest {
                0 => "nobody has seen down to where".to_owned(),
                shortest => format!("down to {}", human(shortest)),
            }
        ),
    }
}

/// The volumes of which something lies behind so many bytes of a disk, as a clause.
fn behind(cluster: &Cluster, name: &Name, bytes: u64) -> String {
    let is_behind = |extent: &Extent| {
        extent.disk == *name && (extent.disk_lba + extent.sectors).saturating_mul(SECTOR_BYTES) > bytes
    };
    let concerned = cluster
        .volumes
        .iter()
        .filter(|(_, volume)| volume.all_extents().iter().any(is_behind));
    let names: Vec<&str> = concerned.map(|(name, _)| name.as_str()).collect();
    match names.as_slice() {
        [] => "; no volume lies there".to_owned(),
        names => format!("; these volumes lie there: {}", names.join(", ")),
    }
}

/// An operator has said that a disk is to be used as it is: that it was cut off under its guests is held against it no more, if
/// it is as long as it should be.
pub fn go_on_with_the_rest(shared: &Shared, name: &Name, disk: &Disk) {
    let open = shared.seen().disks.get(name).map(|open| Arc::clone(&open.opened));
    let Some((opened, cut)) = open.and_then(|opened| opened.cut().map(|cut| (opened, cut))) else {
        return;
    };
    if !opened.refresh_size().is_ok_and(|there| there.0 >= disk.sectors) {
        return;
    }
    if let Some(open) = shared.state().disks.get_mut(name) {
        opened.go_on_without_what_was_cut();
        open.sight.shortest = None;
    }
    let message = format!(
        "an operator goes on with disk {name}, which was cut off under its guests{}",
        behind(&shared.cluster(), name, cut)
    );
    let subject = format!("disk/{name}");
    shared
        .events
        .push(Severity::Warning, "disk_end_lost", subject, message);
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
    let Ok(SuperblockState::EndLost { tail, .. }) = look.map(|look| look.superblock) else {
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
    go_on_with_the_rest(shared, name, disk);
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
