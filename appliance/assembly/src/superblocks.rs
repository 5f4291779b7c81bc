//! Superblocks read from and written to open devices: what may be written is decided by `palisade_volume`, each time
//! with what is on the medium at that moment.

use crate::effects::work::Job;
use crate::last_superblock::LastSuperblock;
use crate::lost_end;
use crate::message::Done;
use crate::own_file::Obstacle;
use crate::strangers;
use palisade_control::SuperblockLook;
use palisade_model::{Cluster, Disk};
use palisade_reconcile::SuperblockState;
use palisade_sys::Opened;
use palisade_sys::device::probe;
use palisade_volume::{
    Bare, Forbidden, Known, Leaving, OnRecord, agreed, carried, image, is_first_write_cut_off,
    is_to_be_erased, renewal,
};
use palisade_wire::{
    DecodeError, Decoded, ExtentRecord, Phase, SECTOR_4K_BYTES, Sector, decode, disks_named,
};
use palisade_words::{Lba, Name};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// How often a superblock is written in a row so that all copies are sound: each write renews half of them.
const WRITES_MAX: usize = 3;

/// Looks whose superblock an open disk carries.
///
/// # Errors
/// A sentence: it cannot be read, or was written by a later version.
pub fn look(
    wanted: &Cluster,
    name: &Name,
    disk: &Disk,
    opened: &Opened,
    last: &LastSuperblock,
) -> Result<SuperblockLook, String> {
    if !disk.has_superblock() {
        return Ok(strangers::look(wanted, disk, opened));
    }
    let should = image(wanted, name).map_err(|error| error.to_string())?;
    let found = read(opened);
    let known = known(last, name, disk, &found)?;
    let superblock = carried(&found, &should, known, || is_cut_off(wanted, disk, opened))
        .map_err(|error| format!("the superblock of disk {name} cannot be used: {error}"))?;
    let damage: Vec<String> = match (&found, superblock) {
        // It is told as that.
        (Ok(_), SuperblockState::EndLost { .. }) => Vec::new(),
        (Ok(found), _) => found.damage.iter().map(ToString::to_string).collect(),
        (Err(error), SuperblockState::Damaged) => vec![error.to_string()],
        (Err(_), _) => Vec::new(),
    };
    let sides = match (&found, superblock) {
        (Ok(found), SuperblockState::Older { .. }) => {
            let agreed = agreed(wanted, name).unwrap_or(should.extents);
            Some(sides(found, &agreed))
        }
        (Ok(found), SuperblockState::Foreign) if found.superblock.disk != disk.uuid => {
            Some(strangers::whose(wanted, opened, &[]))
        }
        (Ok(found), SuperblockState::EndLost { tail, .. }) => Some(lost_end::told(name, found, opened, tail)),
        _ => None,
    };
    Ok(SuperblockLook {
        superblock,
        damage,
        mended: Vec::new(),
        sides,
    })
}

/// What is known of a disk's medium, which what was found there is held against.
fn known(
    last: &LastSuperblock,
    name: &Name,
    disk: &Disk,
    found: &Result<Decoded, DecodeError>,
) -> Result<Known, String> {
    let Ok(found) = found else {
        return Ok(Known::NOTHING.of(disk));
    };
    let last_known = last.known(disk, found);
    let known = Known {
        last: last_known
            .map_err(|Obstacle { what, remedy }| format!("disk {name}: {what}. To do: {remedy}"))?,
        end_excused: last.is_end_excused(disk),
    };
    Ok(known.of(disk))
}

/// Which volumes each side knows.
fn sides(found: &Decoded, agreed: &[ExtentRecord]) -> String {
    let names = |extents: &[ExtentRecord]| {
        let names: BTreeSet<&str> = extents.iter().map(|extent| extent.volume_name.as_str()).collect();
        match names.is_empty() {
            true => "no volume".to_owned(),
            false => Vec::from_iter(names).join(", "),
        }
    };
    format!(
        "The medium has {}; the database has {} on this disk",
        names(&found.extents),
        names(agreed)
    )
}

/// Keeps which generation a disk that has just been opened carries, where that is not on record yet: what a daemon has
/// written that ended before it could say so, or one of a version that did not. The disk was flushed before it was looked at,
/// so no power cut takes back what was read.
pub fn keep_opened(disk: &Disk, look: &SuperblockLook, last: &LastSuperblock) -> io::Result<()> {
    let SuperblockState::Ours { generation, flawed } = look.superblock else {
        return Ok(());
    };
    let (kept, level) = (last.recall(disk.uuid)?, disk.superblock_generation());
    match OnRecord::is_outdated_by(kept, generation, flawed, level) {
        true => last.keep(disk.uuid, generation),
        false => Ok(()),
    }
}

/// Whether a first write of ours was cut off there.
fn is_cut_off(wanted: &Cluster, disk: &Disk, opened: &Opened) -> bool {
    is_first_write_cut_off(wanted, disk, opened.sectors().0, |lba| sector(opened, lba))
}

/// What a disk says about itself.
///
/// # Errors
/// See [`DecodeError`].
pub fn read(opened: &Opened) -> Result<Decoded, DecodeError> {
    decode(opened.sectors().0, |lba| sector(opened, lba))
}

/// The disk of this cluster that a medium says it is, by whatever is left of a superblock there.
pub fn disk_named<'a>(cluster: &'a Cluster, opened: &Opened) -> Option<(&'a Name, &'a Disk)> {
    let named = disks_named(opened.sectors().0, |lba| sector(opened, lba));
    cluster.disks.iter().find(|(_, disk)| named.contains(&disk.uuid))
}

/// All disks of this cluster that a medium says it is, by whatever is left of their superblocks there.
pub fn disks_named_by<'a>(cluster: &'a Cluster, opened: &Opened) -> impl Iterator<Item = &'a Name> {
    let named = disks_named(opened.sectors().0, |lba| sector(opened, lba));
    let disks = cluster.disks.iter();
    let found = disks.filter(move |(_, disk)| named.contains(&disk.uuid));
    found.map(|(name, _)| name)
}

/// Whether what is left of a superblock or table on a medium names a disk, sound or not.
pub fn names(disk: &Disk, opened: &Opened) -> bool {
    disks_named(opened.sectors().0, |lba| sector(opened, lba)).contains(&disk.uuid)
}

pub(crate) fn sector(opened: &Opened, lba: Lba) -> io::Result<Sector> {
    let mut sector = [0; SECTOR_4K_BYTES];
    let offset = lba.checked_bytes().ok_or(io::ErrorKind::InvalidInput)?;
    opened.read_at(offset, &mut sector).map(|()| sector)
}

/// Looks again whose superblock an open disk carries.
pub fn examine(wanted: Arc<Cluster>, name: Name, opened: Option<Arc<Opened>>, last: LastSuperblock) -> Job {
    Box::new(move || {
        let opened = opened.ok_or_else(|| format!("disk {name} is not open"))?;
        let disk = wanted
            .disks
            .get(&name)
            .ok_or_else(|| format!("there is no disk {name}"))?;
        look(&wanted, &name, disk, &opened, &last).map(Done::Looked)
    })
}

/// Writes superblock and extents of a pooled disk, if what is on the medium now allows it. `examined`: this very daemon
/// has looked at the medium and was told to take it, so that a first superblock may be written whatever is there; what
/// shows up under the path after a restart may be another disk with somebody's data. `last` keeps what is written, once that
/// is stable.
pub fn write(
    wanted: Arc<Cluster>,
    name: Name,
    opened: Option<Arc<Opened>>,
    examined: bool,
    last: LastSuperblock,
) -> Job {
    Box::new(move || {
        let opened = opened.ok_or_else(|| format!("disk {name} is not open"))?;
        let disk = wanted
            .disks
            .get(&name)
            .ok_or_else(|| format!("there is no disk {name}"))?;
        let should = image(&wanted, &name).map_err(|error| error.to_string())?;
        let pending = !disk.first_superblock.is_on_medium();
        let bare = || Bare {
            pending,
            examined,
            blank: matches!(probe::probe(&opened), Ok(probe::Content::Blank)),
            cut_off: is_cut_off(&wanted, disk, &opened),
        };
        let mut mended: Vec<String> = Vec::new();
        for _ in 0..WRITES_MAX {
            let found = read(&opened);
            if mended.is_empty()
                && let Ok(found) = &found
            {
                mended = found.damage.iter().map(ToString::to_string).collect();
            }
            let known = known(&last, &name, disk, &found)?;
            let phases = match renewal(&found, &should, known, bare) {
                Ok(phases) => phases,
                Err(
                    Forbidden::Standing(_)
                    | Forbidden::Lost
                    | Forbidden::Older { .. }
                    | Forbidden::EndLost { .. },
                ) => {
                    return look(&wanted, &name, disk, &opened, &last).map(Done::Looked);
                }
                Err(forbidden) => return refused(&name, &forbidden).map(Done::Looked),
            };
            carry_out(&opened, &phases)
                .map_err(|error| format!("the superblock of disk {name} cannot be written: {error}"))?;
            let there = read(&opened);
            if let Err(error) = &there {
                return Err(format!(
                    "the superblock just written to disk {name} is not there: {error}"
                ));
            }
            let in_force = SuperblockState::Ours {
                generation: should.superblock.generation,
                flawed: false,
            };
            if carried(&there, &should, Known::NOTHING, || false) == Ok(in_force) {
                let kept = last.keep(disk.uuid, should.superblock.generation);
                kept.map_err(|error| {
                    format!(
                        "the superblock of disk {name} was written, and that cannot be kept in the state directory: {error}; \
                         make room there and see that the daemon may write to it"
                    )
                })?;
                return Ok(Done::Looked(SuperblockLook {
                    superblock: in_force,
                    mended,
                    ..SuperblockLook::default()
                }));
            }
        }
        let damage = read(&opened).map(|there| there.damage).unwrap_or_default();
        let damage: Vec<String> = damage.iter().map(ToString::to_string).collect();
        Err(format!(
            "the superblock of disk {name} was written and is still damaged ({}): replace the disk soon",
            damage.join("; ")
        ))
    })
}

/// What a medium carries over which no superblock is written, for the planner to decide what becomes of it; or that it
/// cannot be told.
fn refused(name: &Name, forbidden: &Forbidden) -> Result<SuperblockLook, String> {
    let (superblock, damage) = match forbidden {
        Forbidden::NotBlank => (SuperblockState::Occupied, Vec::new()),
        Forbidden::Unusable(
            error @ (DecodeError::Damaged { .. }
            | DecodeError::Contradiction(_)
            | DecodeError::Impossible { .. }),
        ) => (SuperblockState::Damaged, vec![error.to_string()]),
        _ => {
            return Err(format!(
                "disk {name}: {forbidden}: it is left alone; `palisade-inspect` shows what is there"
            ));
        }
    };
    Ok(SuperblockLook {
        superblock,
        damage,
        mended: Vec::new(),
        sides: None,
    })
}

/// Erases the superblock of a disk that leaves, or has left, the cluster, if it is that one and none that grew on
/// elsewhere; also what an erasure before has left that did not come to its end.
pub fn erase(opened: Option<Arc<Opened>>, leaving: Leaving) -> Job {
    Box::new(move || {
        let Some(opened) = opened else {
            return Ok(Done::Plain);
        };
        let read_sector = |lba| sector(&opened, lba);
        match is_to_be_erased(&read(&opened), &leaving, opened.sectors().0, read_sector) {
            Ok(true) => wipe(&opened).map(|()| Done::Plain),
            Ok(false) => Ok(Done::Plain),
            Err(error) => Err(format!("the superblock cannot be read: {error}")),
        }
    })
}

/// Makes a disk carry no superblock of ours.
///
/// # Errors
/// A sentence: it cannot be written.
pub fn wipe(opened: &Opened) -> Result<(), String> {
    let phases = palisade_wire::erase(opened.sectors().0).map_err(|error| error.to_string())?;
    by_phases(opened, &phases, |offset, bytes| {
        // A file with holes may have no room to write to: zeros are there already, or take none.
        opened.erase_at(offset, bytes.len() as u64)
    })
    .map_err(|error| format!("the superblock cannot be erased: {error}"))
}

fn carry_out(opened: &Opened, phases: &[Phase]) -> io::Result<()> {
    by_phases(opened, phases, |offset, bytes| opened.write_at(offset, bytes))
}

/// Each phase is stable before the next begins.
fn by_phases(
    opened: &Opened,
    phases: &[Phase],
    write: impl Fn(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    for phase in phases {
        for sector in &phase.writes {
            let offset = sector.lba.checked_bytes().ok_or(io::ErrorKind::InvalidInput)?;
            write(offset, &sector.bytes)?;
        }
        opened.sync()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
