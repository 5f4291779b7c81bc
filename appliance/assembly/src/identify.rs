//! An operator says which medium a disk is, or where it is found: what lies there is looked at and recorded, and nothing
//! on it is changed.

use crate::alias;
use crate::exchanged;
use crate::medium;
use crate::opening;
use crate::own_file::Obstacle;
use crate::problem;
use crate::shared::Shared;
use crate::smaller_copy::SmallerCopy;
use crate::strangers;
use crate::superblocks;
use crate::takeover::{DiskHold, hold_at_once, refused_undecided, undecided};
use palisade_api as api;
use palisade_api::{Problem, ProblemKind, Severity};
use palisade_model::{Disk, IdentifyDisk, Medium, MediumRecord};
use palisade_sys::Opened;
use palisade_sys::device::fingerprint::{Fingerprint, Hold};
use palisade_words::{Generation, Name};
use std::path::Path;
use std::sync::Arc;

/// What an operator has said of a disk's medium.
pub struct Identified {
    /// What records it.
    pub command: IdentifyDisk,
    /// Why it is another medium than the recorded one, if it is.
    pub other: Option<String>,
}

/// The command that records what a disk's medium is, or where it is found. Until it is agreed on, which is before the other is
/// dropped, nobody opens the disk where it was recorded before: what its guests wrote there would be lost with the next start.
///
/// # Errors
/// What lies there may not be used, or is not the disk.
pub fn command_for<'a>(
    shared: &'a Shared,
    name: &Name,
    disk: &Disk,
    patch: &api::DiskPatch,
    expected: Option<u64>,
) -> Result<(Identified, DiskHold<'a>), Problem> {
    let mut medium = disk.medium.clone();
    let (Medium::File { path, .. } | Medium::Block { path, .. }) = &mut medium else {
        let message = format!("disk {name} has no medium that could be another one");
        return Err(invalid(message, "only files and block devices can be confirmed"));
    };
    if let Some(new) = &patch.path {
        path.clone_from(new);
    }
    let path = path.clone();
    exchanged::refuse_recorded(shared, &shared.cluster(), name, &path)?;
    alias::refuse(shared, &shared.cluster(), Some(name), &path)?;
    let hold = hold_at_once(shared, name)?;
    let open = in_use(shared, name);
    let mut nested = disk.record.nested.clone();
    let mut note = |opened: &Opened| {
        if patch.confirm {
            nested = strangers::named(disk, opened);
        }
    };
    let (record, wwid, other) = match open {
        Some(open) => {
            note(&open);
            let (record, wwid) = of_open(name, disk, &open, &path)?;
            (record, wwid, None)
        }
        None => {
            let opened = opening::open_any(&medium, disk.block_bytes, shared.settings.lock_wait)
                .map_err(|error| problem::of_open(&error))?;
            alias::refuse_open(shared, &shared.cluster(), Some(name), &opened)?;
            if !patch.confirm {
                alias::refuse_copy(name, disk, &path, &opened)?;
            }
            note(&opened);
            let closed = of_closed(shared, name, disk, &opened, patch.confirm)?;
            let (_, _, other) = &closed;
            // That a file was cut off is forgotten with the same word.
            let says_nothing = patch.confirm && other.is_none() && disk.medium.path() == Some(&path);
            if says_nothing
                && medium::refuse_cut(name, disk, &shared.last_seen).is_ok()
                && let Some(what) = undecided(shared, &shared.cluster(), name, disk, &opened)
            {
                return Err(refused_undecided(name, &what));
            }
            closed
        }
    };
    let command = IdentifyDisk {
        name: name.clone(),
        path: patch.path.clone(),
        wwid,
        record: MediumRecord {
            sparse: disk.record.sparse,
            nested,
            fingerprint: record.fingerprint.or_else(|| disk.record.fingerprint.clone()),
            ..record
        },
        confirmed: patch.confirm,
        expected: expected.map(Generation),
    };
    Ok((Identified { command, other }, hold))
}

/// Another medium than the recorded one is the disk from now on, by an operator's word: it is to be seen afterwards.
pub fn tell_taken(shared: &Shared, name: &Name, path: &str, why: &str) {
    let message = format!(
        "an operator has said that {path} is disk {name} from now on, although it is another medium than the recorded one: {why}"
    );
    log::warn!("{message}");
    let subject = format!("disk/{name}");
    shared
        .events
        .push(Severity::Warning, "disk_other_medium", subject, message);
}

/// An operator has said that what lies there is the disk, as it is: that it was cut off once is told no more.
///
/// # Errors
/// It cannot be forgotten.
pub fn confirmed(shared: &Shared, name: &Name, disk: &Disk) -> Result<(), Problem> {
    let open = shared.seen().disks.get(name).map(|open| Arc::clone(&open.opened));
    // One that is as short as it was found is told still.
    if let Some(open) = &open {
        let there = open
            .refresh_size()
            .map_err(|error| problem::of_reading(format_args!("the size of disk {name}"), error))?;
        if there.0 < disk.sectors {
            return Ok(());
        }
    }
    shared.last_seen.forget_cut(disk.uuid).map_err(|error| {
        let Obstacle { what, remedy } = shared.last_seen.obstacle_to_cut(disk.uuid, &error);
        let message = format!(
            "what disk {name} is was recorded, and whether it was ever cut off can neither be looked up nor forgotten: {what}"
        );
        let remedy = format!("{remedy}; then the disk is opened by itself, unless it was cut off");
        Problem::new(ProblemKind::Internal, "state_not_writable", message, &remedy)
    })?;
    if open.is_some()
        && let Some(open) = shared.state().disks.get_mut(name)
    {
        open.sight.shortest = None;
    }
    Ok(())
}

/// What a disk is open on, unless that is not its medium: what carries another superblock, or none that can be used, is open
/// for the time of a look and used by nobody.
fn in_use(shared: &Shared, name: &Name) -> Option<Arc<Opened>> {
    let state = shared.seen();
    let open = Arc::clone(&state.disks.get(name)?.opened);
    let observed = state.control.observed.disks.get(name)?;
    observed.disk.is_its_own(observed.superblock).then_some(open)
}

/// Of a disk that is in use. It is what it is; a path must lead to it.
fn of_open(
    name: &Name,
    disk: &Disk,
    open: &Opened,
    path: &str,
) -> Result<(MediumRecord, Option<String>), Problem> {
    let leads_there = open.is_at(Path::new(path)).map_err(|error| {
        let message = format!("{path} cannot be looked at: {error}");
        invalid(message, "check the path")
    })?;
    if !leads_there {
        let message = format!("{path} leads to another medium than the one that is in use as disk {name}");
        return Err(conflict(
            "disk_other_medium",
            message,
            "a disk in use cannot be exchanged: give the path of the one it is on",
        ));
    }
    // Its content has been the guest's for a while, and the look at it at the last opening counts.
    let (record, wwid) = medium::record_kept(open, disk.usage);
    let fingerprint = disk.record.fingerprint.clone();
    Ok((
        MediumRecord {
            fingerprint,
            ..record
        },
        wwid,
    ))
}

/// Of a disk that is not in use, with what speaks against its being the recorded one.
fn of_closed(
    shared: &Shared,
    name: &Name,
    disk: &Disk,
    opened: &Opened,
    confirm: bool,
) -> Result<(MediumRecord, Option<String>, Option<String>), Problem> {
    if let Some(copy) = SmallerCopy::of(disk, opened) {
        return Err(conflict(
            "disk_smaller_copy",
            copy.told(name, disk),
            &copy.remedy(name, disk),
        ));
    }
    if opened.sectors().0 < disk.sectors {
        let message = format!(
            "disk {name} has {} sectors, and there are {} only",
            disk.sectors,
            opened.sectors()
        );
        return Err(conflict(
            "disk_shrunk",
            message,
            "give the medium that the disk is on",
        ));
    }
    let unread = |error| problem::of_reading(format_args!("disk {name}"), error);
    let (record, wwid) = medium::record_open(opened, disk.usage).map_err(unread)?;
    let seen = &shared.last_seen;
    let check_content = || match confirm {
        false => refuse_strangers(name, disk, opened)
            .and_then(|()| medium::check_content(name, disk, opened, seen)),
        true if medium::needs_fingerprint(disk) => medium::is_content_of(disk, opened, seen),
        true => Ok(()),
    };
    let other = disk
        .check_medium(&record, wwid.as_deref())
        .map_err(|other| other.to_string())
        .and_then(|()| carries_superblock(disk, opened))
        .and_then(|()| check_content())
        .err();
    if let Some(reason) = other.as_ref().filter(|_| !confirm) {
        let message = format!("what lies there is not the medium of disk {name}: {reason}");
        let path = opened.path().unwrap_or(Path::new("PATH")).display();
        let remedy = format!(
            "give the path of the right one; if this is it all the same, say so: palisade disk confirm {name} --path {path} \
             --yes"
        );
        return Err(conflict("disk_other_medium", message, &remedy));
    }
    if medium::needs_fingerprint(&Disk {
        record: record.clone(),
        ..disk.clone()
    }) {
        shared.last_seen.place(disk.uuid);
        let now = Fingerprint::of(opened).map_err(unread)?;
        shared
            .last_seen
            .keep(disk.uuid, &now, Hold::LetGo)
            .map_err(|error| {
                let Obstacle { what, remedy } = shared.last_seen.obstacle(disk.uuid, &error);
                let message = format!("what disk {name} looks like cannot be kept: {what}");
                Problem::new(ProblemKind::Internal, "state_not_writable", message, &remedy)
            })?;
    }
    Ok((record, wwid, other))
}

/// A disk without identity is known by its superblock, if it has one.
fn carries_superblock(disk: &Disk, opened: &Opened) -> Result<(), String> {
    if !exchanged::may_be(disk) || !disk.has_superblock() {
        return Ok(());
    }
    match superblocks::read(opened) {
        Ok(found) if found.superblock.disk == disk.uuid => Ok(()),
        Ok(found) => Err(format!(
            "it carries the superblock of another disk, called {} there",
            found.superblock.label
        )),
        Err(error) => Err(format!("its superblock cannot be read: {error}")),
    }
}

/// A disk given whole carries a superblock of Palisade that nobody has called its guest's.
fn refuse_strangers(name: &Name, disk: &Disk, opened: &Opened) -> Result<(), String> {
    match disk.strangers(strangers::named(disk, opened)).next() {
        None => Ok(()),
        Some(_) => Err(format!(
            "it carries a superblock of Palisade, which is the guest's of disk {name} only if that has put it there itself"
        )),
    }
}

fn invalid(message: String, remedy: &'static str) -> Problem {
    Problem::new(ProblemKind::Invalid, "invalid_argument", message, remedy).about("path")
}

fn conflict(code: &'static str, message: String, remedy: &str) -> Problem {
    Problem::new(ProblemKind::Conflict, code, message, remedy).about("path")
}
