//! One medium, one disk: whatever path leads to it. Names are many (links, loop devices, partitions, second paths of one
//! logical unit), and two disks on one medium give one tenant's data to another, so this holds however much somebody
//! insists: neither `force` nor `confirm` is about it.
//!
//! A medium is known by what lies under its path ([`underlay`](palisade_sys::device::underlay)), by its WWID (the model
//! sees to that), and by a superblock that names a disk of this cluster.

use crate::exchanged;
use crate::local_state::OpenDisk;
use crate::medium;
use crate::recorded::{Recorded, Records};
use crate::shared::Shared;
use crate::superblocks;
use palisade_api::{Problem, ProblemKind};
use palisade_model::{Cluster, Disk};
use palisade_sys::Opened;
use palisade_sys::device::underlay::{Position, Underlay};
use palisade_words::Name;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Refuses a path to the medium, or to a part of the medium, of a disk that there is; `but` is the one that is asked about.
///
/// # Errors
/// That it is that disk's.
pub fn refuse(shared: &Shared, cluster: &Cluster, but: Option<&Name>, path: &str) -> Result<(), Problem> {
    refuse_beside(shared, cluster, (but, &[]), path)
}

/// The same beside other disks that are said to be elsewhere in the same step.
///
/// # Errors
/// As [`refuse`].
pub fn refuse_beside(
    shared: &Shared,
    cluster: &Cluster,
    (but, left_out): (Option<&Name>, &[&Name]),
    path: &str,
) -> Result<(), Problem> {
    let Ok(asked) = Underlay::of(Path::new(path)) else {
        return Ok(());
    };
    // A disk in use is where it was found, which may be elsewhere than its path leads to by now.
    let found: BTreeMap<Name, Found> = {
        let state = shared.seen();
        let open = state.disks.iter();
        let found = |open: &OpenDisk| {
            Some(Found {
                path: open.opened.path()?.to_path_buf(),
                opened: Arc::clone(&open.opened),
            })
        };
        open.filter_map(|(name, open)| Some((name.clone(), found(open)?)))
            .collect()
    };
    let is_asked = |name: &Name| Some(name) == but || left_out.contains(&name);
    let others = cluster.disks.iter().filter(|(name, _)| !is_asked(name));
    for (name, disk) in others {
        let position = match (found.get(name), disk.path_of(&shared.name)) {
            // What it is called by now is another thing, which only its descriptor can be compared with.
            (Some(found), _) if found.opened.is_at(&found.path).is_ok_and(|there| !there) => {
                let is_it = found.opened.is_at(Path::new(path)).unwrap_or(false);
                is_it.then_some(Position::Same)
            }
            (Some(found), _) => position(&asked, &found.path),
            (None, Some(recorded)) => {
                let its = || !but.is_some_and(|but| exchanged::is_anothers(shared, cluster, name, but));
                position(&asked, Path::new(recorded)).filter(|_| its())
            }
            (None, None) => None,
        };
        let its_path = || match found.get(name) {
            Some(found) => found.path.display().to_string(),
            None => disk.path_of(&shared.name).unwrap_or_default().to_owned(),
        };
        match position {
            None => {}
            Some(Position::Same) => return Err(taken(path, name, found.contains_key(name))),
            Some(Position::Beneath) => return Err(lies_on(path, name, &its_path())),
            Some(Position::Above) => return Err(lies_in(path, name, &its_path())),
        }
    }
    Ok(())
}

/// A disk that is open, and the path under which it was found.
struct Found {
    path: PathBuf,
    opened: Arc<Opened>,
}

/// How what is asked about stands to the medium of a disk.
fn position(asked: &Underlay, medium: &Path) -> Option<Position> {
    asked.against(&Underlay::of(medium).ok()?)
}

/// A disk lies on what is asked for, as a file on a file system there or as a part of it.
fn lies_on(path: &str, holder: &Name, holder_path: &str) -> Problem {
    let message = format!(
        "{path} is no disk of this appliance itself, but disk {holder} lies on it: {holder_path} is on a file system there, or \
         made of it or of a part of it"
    );
    let remedy = format!(
        "name a device on which no disk lies. This one can be given only when nothing is mounted on it and nothing is made of it, \
         which `lsblk {path}` shows, and that ends disk {holder} too: what it holds: palisade disk show {holder}. `force` does \
         not lift this"
    );
    Problem::new(ProblemKind::Conflict, "medium_taken", message, remedy).about("path")
}

/// What is asked for lies on a disk, as a partition of it or a file of a file system there.
fn lies_in(path: &str, holder: &Name, holder_path: &str) -> Problem {
    let message = format!(
        "{path} lies on disk {holder} of this appliance: it is on a file system on {holder_path}, or made of it or of a part of \
         it"
    );
    let remedy = format!(
        "name a file or device that lies elsewhere; what disk {holder} holds: palisade disk show {holder}. `force` does not \
         lift this"
    );
    Problem::new(ProblemKind::Conflict, "medium_taken", message, remedy).about("path")
}

/// Refuses an open medium that is one of a disk that there is by its WWID, or by what else is recorded of that disk, or whose
/// superblock, or what is left of it, names one; unless it is beyond doubt the whole disk that is asked about, whose guest has
/// copied that superblock.
///
/// # Errors
/// That it is that disk's, or a copy of it.
pub fn refuse_open(
    shared: &Shared,
    cluster: &Cluster,
    but: Option<&Name>,
    opened: &Opened,
) -> Result<(), Problem> {
    let Some(path) = opened.path().map(|path| path.display().to_string()) else {
        return Ok(());
    };
    let is_open = |name: &Name| shared.seen().disks.contains_key(name);
    let (_, wwid) = opened.identity().map(medium::record_of).unwrap_or_default();
    let others = || cluster.disks.iter().filter(|(name, _)| Some(*name) != but);
    let by_wwid = others().find(|(_, disk)| wwid.is_some() && disk.medium.wwid() == wwid.as_deref());
    if let Some((name, _)) = by_wwid {
        return Err(taken(&path, name, is_open(name)));
    }
    match superblocks::disk_named(cluster, opened) {
        Some((name, disk)) if Some(name) != but => {
            let is_guests =
                but.is_some_and(|but| exchanged::is_written_by_guest(shared, cluster, but, opened));
            if !is_guests {
                return Err(carries(shared, &path, name, disk));
            }
        }
        _ => {}
    }
    refuse_recorded(shared, cluster, but, opened)
}

/// Refuses an open medium that is recorded as that of another disk, by its inode, its serial number, the file under it or its
/// content.
///
/// # Errors
/// Whose it is, and what records where that disk is.
pub fn refuse_recorded(
    shared: &Shared,
    cluster: &Cluster,
    but: Option<&Name>,
    opened: &Opened,
) -> Result<(), Problem> {
    let open = exchanged::open_disks(shared);
    let records = Records {
        cluster,
        seen: &shared.last_seen,
        open: &open,
    };
    let places = exchanged::Places {
        cluster,
        seen: &shared.last_seen,
        open: &open,
    };
    let path = opened.path().unwrap_or(Path::new("")).display().to_string();
    let Some(Recorded { name, disk, by, .. }) = records.another(but, &shared.name, opened) else {
        return Ok(());
    };
    let (message, remedy) = match but {
        Some(asked) => (
            format!(
                "{path} holds the medium of disk {name} ({by}), and not that of disk {asked}: its guest would get the data of \
                 another. Nothing was changed"
            ),
            format!(
                "bring the right medium back, or say where it is: palisade disk confirm {asked} --path PATH. {}. `confirm` \
                 (--yes) does not lift this",
                exchanged::found_under(&places, asked, name, &path)
            ),
        ),
        None => (
            format!(
                "{path} is the medium of disk {name} of this appliance, {}: {by}",
                state(open.contains_key(name))
            ),
            format!(
                "{}. To use it for something else, give disk {name} up first: palisade disk remove {name}. `force` does not lift \
                 this",
                match exchanged::recorded_at(cluster, disk.custodian(), &path) {
                    Some(_) => format!("use that disk: palisade disk show {name}"),
                    None =>
                        format!("say that the disk is there now: palisade disk confirm {name} --path {path}"),
                }
            ),
        ),
    };
    Err(Problem::new(ProblemKind::Conflict, "medium_taken", message, remedy).about("path"))
}

/// Where the medium of a disk lies at this moment, as far as that is known: where it is open, or else under its recorded path, if
/// what lies there names it.
pub fn place_of(shared: &Shared, name: &Name, disk: &Disk) -> Option<String> {
    let open = shared.seen().disks.get(name).map(|open| Arc::clone(&open.opened));
    if let Some(open) = open {
        return open.path().map(|path| path.display().to_string());
    }
    let there = medium::beside(disk).ok()?;
    let path = disk.path_of(&shared.name)?.to_owned();
    superblocks::names(disk, &there).then_some(path)
}

/// A path that leads to none of the media in use, and carries the superblock of a disk that there is.
pub fn carries(shared: &Shared, path: &str, name: &Name, disk: &Disk) -> Problem {
    let is_open = shared.seen().disks.contains_key(name);
    match place_of(shared, name, disk) {
        Some(original) => copied(path, name, &original, is_open),
        None => {
            let mut problem = taken(path, name, is_open);
            problem.message = format!("{}: its superblock says so", problem.message);
            problem.remedy = format!(
                "that disk is not where it was found last: say where it is, palisade disk confirm {name} --path {path}. What is \
                 said against it then tells whether it is the disk, or a copy of it"
            );
            problem
        }
    }
}

/// Two media carry the superblock of one disk.
fn copied(path: &str, name: &Name, original: &str, is_open: bool) -> Problem {
    let message = format!(
        "{path} is disk {name} of this appliance, {}, or a copy of it: its superblock says so, and the same lies at {original}",
        state(is_open)
    );
    let remedy = format!(
        "use that disk: palisade disk show {name}. {path} and {original} are two media with one content, or two ways to one \
         medium; of two media one has to go. What is on each, which changes nothing: palisade-inspect {path}, palisade-inspect \
         {original}. To go on from {path}, stop the daemon, take the medium of {original} from its place, start the daemon, and \
         say where the disk is: palisade disk confirm {name} --path {path} --yes; palisade disk adopt {name} then shows what \
         each side knows. To use {path} for something else, empty it first by other means, when you are certain which of the \
         two it is"
    );
    Problem::new(ProblemKind::Conflict, "medium_taken", message, remedy).about("path")
}

/// Refuses another path for a disk, while what lies under the one on record carries its superblock as well: which of the two is
/// the disk nothing tells but an operator.
///
/// # Errors
/// That there are two.
pub fn refuse_copy(name: &Name, disk: &Disk, path: &str, opened: &Opened) -> Result<(), Problem> {
    let Some(recorded) = disk.medium.path().filter(|recorded| *recorded != path) else {
        return Ok(());
    };
    let is_there = || medium::beside(disk).is_ok_and(|there| superblocks::names(disk, &there));
    let is_same = opened.is_at(Path::new(recorded)).unwrap_or(false);
    // What has an identity of its own is compared by that.
    let tells = disk.medium.wwid().is_some() || disk.record.serial.is_some() || disk.record.file.is_some();
    if is_same || tells || !disk.has_superblock() || !is_there() {
        return Ok(());
    }
    let message = format!(
        "{path} and {recorded}, the path of disk {name}, both carry the superblock of that disk: one of them is a copy of the \
         other, or both are ways to one medium. Nothing was changed"
    );
    let remedy = format!(
        "see what is on each, which changes nothing: palisade-inspect {path}, palisade-inspect {recorded}. Take the one away that \
         is not the disk; or, when you are certain, say that {path} is: palisade disk confirm {name} --path {path} --yes"
    );
    Err(Problem::new(ProblemKind::Conflict, "disk_copied", message, remedy).about("path"))
}

fn taken(path: &str, holder: &Name, in_use: bool) -> Problem {
    let message = format!("{path} is disk {holder} of this appliance, {}", state(in_use));
    let remedy = format!("use that disk: palisade disk show {holder}");
    Problem::new(ProblemKind::Conflict, "medium_taken", message, remedy).about("path")
}

fn state(in_use: bool) -> &'static str {
    match in_use {
        true => "in use",
        false => "closed now",
    }
}
