//! What adding a disk would find and do, shown before it is done.

use super::content::{self, Fate, Weighed, volumes_in_words};
use super::room::room_for;
use super::{BLOCK_BYTES, Making, may_be_added, notes, open, unread};
use crate::medium;
use crate::shared::Shared;
use palisade_api as api;
use palisade_api::Problem;
use palisade_api::size::human;
use palisade_sys::Opened;
use palisade_sys::device::probe::{self, HEAD_BYTES, PartitionEntry, TAIL_BYTES};
use palisade_wire::{Decoded, ExtentRecord};
use palisade_words::{Name, SECTOR_BYTES, Uuid};
use std::fs;
use std::io;

/// What [`command_for`](super::command_for) would find and do. Nothing is made or changed.
///
/// # Errors
/// What it would refuse before it has looked at the content.
pub fn preview(
    shared: &Shared,
    name: &Name,
    request: &api::DiskCreate,
    uuid: Uuid,
) -> Result<api::DiskPreview, Problem> {
    may_be_added(shared, name, request, uuid)?;
    let bytes = super::bytes_asked_for(&request.medium).unwrap_or_default();
    match file_to_be_made(&request.medium) {
        Some(file) => {
            let notes = room_for(shared, file)?;
            let holes = match file.sparse {
                true => "with holes: it takes its space as it is written to",
                false => "and its space is reserved",
            };
            let made = format!("file {} is made, {} long, {holes}", file.path, human(bytes));
            let block_bytes = request.block_bytes.unwrap_or(BLOCK_BYTES);
            let preview = shown(request, bytes, block_bytes, vec![made]);
            Ok(api::DiskPreview { notes, ..preview })
        }
        None => match open(shared, request, Making::Nothing)? {
            None => {
                let made = format!("{} of memory are taken", human(bytes));
                Ok(shown(
                    request,
                    bytes,
                    request.block_bytes.unwrap_or(BLOCK_BYTES),
                    vec![made],
                ))
            }
            Some(opened) => of_open(shared, request, &opened),
        },
    }
}

/// Of a disk that is there, added by the same request.
pub fn of_known(disk: api::Disk) -> api::DiskPreview {
    let nothing = format!(
        "disk {} is there already, added by the same request: nothing happens",
        disk.id
    );
    api::DiskPreview {
        id: disk.id,
        medium: disk.medium,
        usage: disk.usage,
        bytes: disk.bytes,
        block_bytes: disk.block_bytes,
        identity: disk.identity,
        found: Vec::new(),
        partitions: Vec::new(),
        palisade: None,
        effects: vec![nothing],
        notes: Vec::new(),
        refusal: None,
    }
}

fn shown(request: &api::DiskCreate, bytes: u64, block_bytes: u32, made: Vec<String>) -> api::DiskPreview {
    let mut effects = made;
    let what = request.medium.path().unwrap_or(request.medium.name());
    effects.push(match request.usage {
        api::DiskUsage::Pooled if request.medium.path().is_some() => {
            format!("{what} gets a superblock at either end, and its space is shared between volumes")
        }
        api::DiskUsage::Pooled => "its space is shared between volumes".to_owned(),
        api::DiskUsage::Whole => format!("{what} is given to one volume untouched"),
    });
    api::DiskPreview {
        id: request.id.clone(),
        medium: request.medium.clone(),
        usage: request.usage,
        bytes,
        block_bytes,
        identity: None,
        found: Vec::new(),
        partitions: Vec::new(),
        palisade: None,
        effects,
        notes: Vec::new(),
        refusal: None,
    }
}

fn of_open(shared: &Shared, request: &api::DiskCreate, opened: &Opened) -> Result<api::DiskPreview, Problem> {
    let Weighed { found, ours, fate } = content::weigh(request, opened)?;
    let partitions = match found.is_empty() {
        true => Vec::new(),
        false => probe::partitions(opened).map_err(|error| unread(request, &error))?,
    };
    let (record, wwid) =
        medium::record_open(opened, content::usage(request)).map_err(|error| unread(request, &error))?;
    let ours = ours.and_then(Result::ok);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    let lost = match &fate {
        Ok(fate) => effects(request, *fate, &found, ours.as_ref()),
        // It would be left alone.
        Err(_) => Vec::new(),
    };
    let bytes = opened.sectors().0 * SECTOR_BYTES;
    let mut preview = shown(request, bytes, opened.limits().block_bytes, lost);
    if fate.is_err() {
        preview.effects.clear();
    }
    Ok(api::DiskPreview {
        identity: medium::describe(&record, wwid.as_deref()),
        found,
        partitions: partitions.into_iter().map(partition).collect(),
        palisade: ours.as_ref().map(pooled),
        notes: notes(shared, opened),
        refusal: fate.err(),
        ..preview
    })
}

fn effects(request: &api::DiskCreate, fate: Fate, found: &[String], ours: Option<&Decoded>) -> Vec<String> {
    let path = request.medium.path().unwrap_or_default();
    match fate {
        Fate::Kept => found
            .iter()
            .map(|content| format!("{content} on {path} stays, and the volume shows it to its guest"))
            .collect(),
        Fate::SuperblockErased => {
            let lost =
                ours.map(|ours| format!("{} on {path}: lost with the superblock", volumes_in_words(ours)));
            let erased = format!(
                "the Palisade superblock on {path} is erased at either end; what else is there stays"
            );
            lost.into_iter().chain([erased]).collect()
        }
        Fate::Wiped => {
            let lost = found.iter().map(|content| format!("{content} on {path} is lost"));
            let volumes = ours.map(|ours| {
                let disk = &ours.superblock.label;
                format!("what disk {disk} holds is lost: {}", volumes_in_words(ours))
            });
            let wiped = format!(
                "the first {} and the last {} of {path} are overwritten with zeroes, and every copy of a superblock that is \
                 known in between",
                human(HEAD_BYTES as u64),
                human(TAIL_BYTES as u64)
            );
            lost.chain(volumes).chain([wiped]).collect()
        }
    }
}

fn partition(found: PartitionEntry) -> api::PartitionFound {
    api::PartitionFound {
        number: found.number,
        name: found.name,
        offset_bytes: found.offset_bytes,
        bytes: found.bytes,
    }
}

fn pooled(found: &Decoded) -> api::PooledFound {
    let mut volumes: Vec<api::VolumePart> = Vec::new();
    for ExtentRecord {
        volume,
        volume_name,
        sectors,
        ..
    } in &found.extents
    {
        let uuid = volume.to_string();
        let bytes = sectors * SECTOR_BYTES;
        match volumes.iter_mut().find(|one| one.uuid == uuid) {
            Some(known) => known.bytes += bytes,
            None => volumes.push(api::VolumePart {
                id: volume_name.to_string(),
                uuid,
                bytes,
                database_bytes: None,
            }),
        }
    }
    api::PooledFound {
        id: found.superblock.label.to_string(),
        uuid: found.superblock.disk.to_string(),
        cluster: found.superblock.cluster.to_string(),
        generation: found.superblock.generation.0,
        volumes,
        damage: found.damage.iter().map(ToString::to_string).collect(),
    }
}

/// The file that a request would make: one that is not there, or is there and empty, and is given a size.
fn file_to_be_made(medium: &api::Medium) -> Option<&api::FileMedium> {
    let api::Medium::File(file) = medium else {
        return None;
    };
    file.bytes?;
    let is_missing = match fs::metadata(&file.path) {
        Ok(found) => found.is_file() && found.len() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    is_missing.then_some(file)
}
