//! Disks whose places an operator names, all in one step: of those that are known by their content alone, and have been
//! written to since it was last looked at, nothing else tells which is which.

use super::{Places, open_disks, path_of};
use crate::hands;
use crate::last_seen::LastSeen;
use crate::medium;
use crate::places;
use crate::problem;
use crate::shared::Shared;
use palisade_api as api;
use palisade_api::{Problem, ProblemKind};
use palisade_model::{Cluster, Command, Disk, Medium, RelocateDisks, Relocation};
use palisade_sys::Opened;
use palisade_sys::device::fingerprint::{Fingerprint, Hold};
use palisade_words::Name;
use std::path::Path;

/// What records where several disks are; a path that is not known is left to the operator.
pub fn command(places: &[(&Name, Option<&str>)]) -> String {
    let places = places
        .iter()
        .map(|(name, path)| format!(" {name}={}", path.unwrap_or("PATH")));
    format!("palisade disk confirm{}", places.collect::<String>())
}

/// What is said of a disk whose medium lies under the path of another one.
pub fn found_elsewhere(cluster: &Cluster, name: &Name, other: &Name) -> String {
    let (own, path) = (path_of(cluster, name), path_of(cluster, other));
    format!(
        "{} holds what disk {name} held when it was last seen, and is recorded as the path of disk {other}; what lies under {}, \
         its own, is something else. Nothing was written to either. Look at what lies where, and record both in one step: {} \
         --dry-run",
        path.unwrap_or_default(),
        own.unwrap_or_default(),
        command(&[(name, path), (other, own)])
    )
}

/// Whether what lies in a place is the disk that it is said to be.
enum Verdict {
    /// It is.
    Is(String),
    /// Nothing proves it, or its content is not what the disk held when it was last seen: an operator may know better.
    Unproved(String),
    /// It is not.
    IsNot(String),
}

/// Records disks where an operator says that they are.
///
/// # Errors
/// There is no such disk, a path may not be used, or what lies there is not the disk.
pub fn relocate(shared: &Shared, wish: &api::DiskRelocate) -> Result<api::DiskRelocated, Problem> {
    let cluster = shared.cluster();
    let open = open_disks(shared);
    let known = Places::now(shared, &cluster, &open);
    let (mut moves, mut shown, mut looks) = (Vec::new(), Vec::new(), Vec::new());
    for place in &wish.places {
        let name = Name::new(place.id.as_str()).map_err(|_| Problem::not_found("disk", &place.id))?;
        let disk = cluster
            .disks
            .get(&name)
            .ok_or_else(|| Problem::not_found("disk", &place.id))?;
        let is_block = matches!(disk.medium, Medium::Block { .. });
        shared
            .settings
            .allow
            .check_disk_path(&place.path, is_block, "places.path")?;
        places::refuse_own(shared, &place.path)?;
        let there = at(disk, &place.path)?;
        let verdict = judge(&known, &name, disk, &place.path, &there);
        let refused = match &verdict {
            Verdict::Is(_) => None,
            Verdict::Unproved(why) if !wish.confirm => Some((
                why,
                "look at what lies where with --dry-run; if it is the disk all the same, say so: --yes, `confirm` in REST",
            )),
            Verdict::Unproved(_) => None,
            Verdict::IsNot(why) => Some((why, "name the path of the medium that the disk is on")),
        };
        if let Some((why, remedy)) = refused.filter(|_| !wish.dry_run) {
            let message = format!(
                "{} is not known to hold disk {name}: {why}. Nothing was changed",
                place.path
            );
            return Err(
                Problem::new(ProblemKind::Conflict, "disk_other_medium", message, remedy).about("places"),
            );
        }
        let (Verdict::Is(words) | Verdict::Unproved(words) | Verdict::IsNot(words)) = verdict;
        shown.push(api::RelocatedDisk {
            id: name.to_string(),
            before: path_of(&cluster, &name).unwrap_or_default().to_owned(),
            path: place.path.clone(),
            holds: Some(words),
        });
        if medium::needs_fingerprint(disk) && !open.contains_key(&name) {
            let print = Fingerprint::of(&there).map_err(|error| problem::of_reading(&place.path, error))?;
            looks.push((disk.uuid, print));
        }
        moves.push(Relocation {
            name,
            uuid: disk.uuid,
            path: place.path.clone(),
            found: None,
            confirmed: wish.confirm,
            expected: Some(disk.revision),
        });
    }
    let relocated = api::DiskRelocated { disks: shown };
    if wish.dry_run {
        return Ok(relocated);
    }
    let agreed = shared.propose(Command::RelocateDisks(RelocateDisks { disks: moves }));
    agreed.map_err(|error| problem::of_proposal(&error))?;
    for (uuid, print) in looks {
        shared.last_seen.place(uuid);
        shared
            .last_seen
            .keep(uuid, &print, Hold::LetGo)
            .map_err(|error| {
                let message =
                    format!("the paths are recorded, and what the disks look like cannot be kept: {error}");
                let remedy = "make room in the state directory, and say the same again";
                Problem::new(ProblemKind::Internal, "state_not_writable", message, remedy)
            })?;
    }
    Ok(relocated)
}

/// What lies under a path, open to be looked at.
fn at(disk: &Disk, path: &str) -> Result<Opened, Problem> {
    let mut medium = disk.medium.clone();
    let (Medium::File { path: own, .. } | Medium::Block { path: own, .. }) = &mut medium else {
        let message = "a disk without a path cannot be found elsewhere".to_owned();
        let remedy = "name disks of files and block devices only";
        return Err(Problem::new(ProblemKind::Invalid, "invalid_argument", message, remedy).about("places"));
    };
    path.clone_into(own);
    Opened::beside(&hands::spec(&medium, disk.block_bytes).medium).map_err(|error| problem::of_open(&error))
}

fn judge(known: &Places<'_>, name: &Name, disk: &Disk, path: &str, there: &Opened) -> Verdict {
    let held = known.holds(name, Path::new(path), there);
    let by_content = medium::needs_fingerprint(disk);
    match held {
        Ok(()) if known.open.contains_key(name) => Verdict::Is("it is in use there".into()),
        Ok(()) if by_content => Verdict::Is("the content that the disk had when it was last seen".into()),
        Ok(()) => Verdict::Is("the medium of the disk".into()),
        Err(why) if by_content && !known.open.contains_key(name) && there.sectors().0 >= disk.sectors => {
            match medium::check(disk, there) {
                Ok(()) => {
                    Verdict::Unproved(format!("{why}{}", whose(known.cluster, known.seen, name, there)))
                }
                Err(other) => Verdict::IsNot(other.to_string()),
            }
        }
        Err(why) => Verdict::IsNot(why),
    }
}

/// Of which other disk a content is, if it is that of one.
fn whose(cluster: &Cluster, seen: &LastSeen, name: &Name, there: &Opened) -> String {
    let is_of = |other: &Disk| {
        medium::needs_fingerprint(other)
            && medium::was_seen(other, seen)
            && medium::is_content_of(other, there, seen).is_ok()
    };
    let mut others = cluster.disks.iter().filter(|(other, _)| *other != name);
    match others.find(|(_, other)| is_of(other)) {
        Some((other, _)) => format!("; it is what disk {other} held when that was last seen"),
        None => String::new(),
    }
}
