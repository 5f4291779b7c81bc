//! Disks whose paths lead to each other's media: found by what each medium says of itself, and recorded in one step.
//!
//! Block devices without an identity of their own get their names anew at each boot. A pooled one is known by its
//! superblock, and is opened under the path of another when all that have changed places are there, each once
//! ([`search`](palisade_reconcile::search)). One that is given whole is known by its content alone, which a copy of it
//! has as well: there it is left to an operator to record what was found.

mod placed;

pub use placed::{command as placed_at, found_under};

use crate::last_seen::LastSeen;
use crate::medium::{self, Manner};
use crate::moved;
use crate::opening;
use crate::problem;
use crate::recorded::are_one;
use crate::shared::Shared;
use crate::superblocks;
use palisade_api as api;
use palisade_api::{Problem, ProblemKind};
use palisade_model::{Cluster, Command, Disk, RelocateDisks, Relocation, Usage};
use palisade_reconcile::{Ring, Search, search};
use palisade_sys::Opened;
use palisade_volume::{Standing, image, standing};
use palisade_words::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Whether a disk may be found under the path of another: its device has no identity, and its content tells it.
pub fn may_be(disk: &Disk) -> bool {
    medium::is_nameless_block(disk) && (is_told_by_superblock(disk) || medium::needs_fingerprint(disk))
}

/// Whether a disk is told by its superblock.
fn is_told_by_superblock(disk: &Disk) -> bool {
    disk.has_superblock() && disk.first_superblock.is_on_medium()
}

/// Whether something that is recorded of a disk's medium tells it, which no copy has as well: an identity of its own, or that of
/// the file under a loop device.
fn is_told_by_record(disk: &Disk) -> bool {
    disk.has_identity() || disk.record.backing.is_some()
}

/// What is looked at when disks are searched for.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// What is agreed on.
    pub cluster: &'a Cluster,
    /// What disks that are told by their content looked like.
    pub seen: &'a LastSeen,
    /// Disks that are in use: each is what it is, whatever is written to it meanwhile.
    pub open: &'a BTreeMap<Name, Arc<Opened>>,
}

/// Opens a disk under the path of another, if the search for it found that they have exchanged theirs; else says what is
/// wrong, which is `reason` where the search has brought nothing to light.
///
/// # Errors
/// A sentence for an operator.
pub fn open(
    places: &Places<'_>,
    name: &Name,
    search: Search,
    open_at: &dyn Fn(&str) -> Result<Opened, String>,
    (reason, manner): (String, Manner),
) -> Result<Opened, String> {
    match search {
        Search::Exchanged(ring) if ring.disks().iter().all(|one| places.is_safe(one)) => {
            let path = ring
                .place_of(name)
                .and_then(|place| path_of(places.cluster, place));
            let path = path.ok_or_else(|| reason.clone())?;
            let opened = open_at(path)?;
            // Once more, now that nobody else can open it.
            places.holds(name, Path::new(path), &opened).map_err(|other| {
                format!("{path} has just held the medium of disk {name}, and does not any more: {other}")
            })?;
            manner.tell(format_args!(
                "disk {name}: {reason}; its medium is {path} now, and {}",
                told(&ring)
            ));
            Ok(opened)
        }
        Search::Exchanged(ring) => {
            let path = ring
                .place_of(name)
                .and_then(|place| path_of(places.cluster, place))
                .unwrap_or_default();
            Err(format!(
                "its path leads to the medium of another disk, and {path} {}: {}. Nothing was written to any of them. Record where \
                 they are now: {}",
                found_by(places.cluster, name),
                told(&ring),
                command(&ring)
            ))
        }
        Search::NotFound(found) => match found.first() {
            Some(holder) => {
                let path = path_of(places.cluster, name).unwrap_or_default();
                // One that is told by its superblock may be a copy: the other disk is where it was then.
                let is_alone = places.is_safe(name);
                let command = match is_alone {
                    true => format!("it is: palisade disk confirm {name} --path PATH"),
                    false => format!(
                        "both are, in one step: {}. While nobody knows where disk {name} is: {}",
                        placed::command(&[(name, None), (holder, Some(path))]),
                        placed::command(&[(holder, Some(path))])
                    ),
                };
                Err(format!(
                    "{path} holds the medium of disk {holder}, and not that of disk {name}. Nothing was written to it. Bring the \
                     right medium back, or say where {command}"
                ))
            }
            None => Err(match places.holder_of(name) {
                Some(other) => placed::found_elsewhere(places.cluster, name, other),
                None => reason,
            }),
        },
        Search::InPlace => Err(reason),
    }
}

/// By what the medium of a disk that keeps no superblock was found under the path of another one, as the end of a clause.
fn found_by(cluster: &Cluster, name: &Name) -> String {
    let backing = cluster.disks.get(name).and_then(|disk| disk.record.backing);
    match backing {
        Some(backing) => format!("is the medium of disk {name} (backing file {backing})"),
        None => format!("holds what disk {name} held when it was last seen"),
    }
}

/// Which disks these are, in words.
pub fn told(ring: &Ring) -> String {
    let names: Vec<&str> = ring.disks().iter().map(Name::as_str).collect();
    format!("disks {} have exchanged their paths", names.join(", "))
}

/// What records where they are.
pub fn command(ring: &Ring) -> String {
    let names: Vec<&str> = ring.disks().iter().map(Name::as_str).collect();
    format!("palisade disk confirm {}", names.join(" "))
}

impl<'a> Places<'a> {
    /// As things are now, with the disks that are in use.
    fn now(shared: &'a Shared, cluster: &'a Cluster, open: &'a BTreeMap<Name, Arc<Opened>>) -> Places<'a> {
        Places {
            cluster,
            seen: &shared.last_seen,
            open,
        }
    }

    /// The disks that have exchanged their paths with one, whatever tells their media, each beyond doubt.
    pub fn ring(&self, name: &Name) -> Option<Ring> {
        let among = self.with_paths(self.cluster.disks.get(name)?);
        match search(name, |of| self.medium_under(of, &among)) {
            Search::Exchanged(ring) => Some(ring),
            Search::InPlace | Search::NotFound(_) => None,
        }
    }

    /// Looks for a disk among those that may have exchanged their paths.
    pub fn search(&self, name: &Name) -> Search {
        let disks = self.cluster.disks.iter();
        let among: BTreeSet<&Name> = disks
            .filter(|(_, disk)| may_be(disk))
            .map(|(name, _)| name)
            .collect();
        search(name, |of| self.medium_under(of, &among))
    }

    /// Another disk, under whose path the medium of a disk lies that is told by its content alone.
    pub fn holder_of(&self, name: &Name) -> Option<&'a Name> {
        let disk = self.cluster.disks.get(name)?;
        if !medium::needs_fingerprint(disk) {
            return None;
        }
        let is_of = |place: &Name, of: &Name| {
            let found = self.medium_under(place, &BTreeSet::from([of]));
            found.as_ref() == Some(of)
        };
        let others = self
            .cluster
            .disks
            .iter()
            .filter(|(other, found)| *other != name && found.custodian() == disk.custodian());
        let mut nameless = others.filter(|(_, other)| may_be(other));
        // What could be either's is where the other one has always been.
        let found = nameless.find(|(other, _)| is_of(other, name) && !is_of(other, other));
        found.map(|(other, _)| other)
    }

    /// The disks that the node of a disk reaches by a path.
    fn with_paths(&self, of: &Disk) -> BTreeSet<&'a Name> {
        let disks = self.cluster.disks.iter();
        disks
            .filter(|(_, disk)| disk.path_of(of.custodian()).is_some())
            .map(|(name, _)| name)
            .collect()
    }

    /// Where a disk is said to be, and where the one is by that whose path it takes, if its medium lies under the path of the
    /// first.
    fn with_holder<'b>(
        &self,
        name: &'b Name,
        path: &'b str,
        holder: &'b Name,
    ) -> Vec<(&'b Name, Option<&'b str>)>
    where
        'a: 'b,
    {
        let own = path_of(self.cluster, name);
        let there = self
            .cluster
            .disks
            .get(name)
            .and_then(|disk| medium::beside(disk).ok());
        let is_there = own
            .zip(there)
            .is_some_and(|(own, there)| self.holds(holder, Path::new(own), &there).is_ok());
        let its = is_there.then_some((holder, own));
        std::iter::once((name, Some(path))).chain(its).collect()
    }

    /// Whether anything is recorded of a disk by which another medium under its path is known to be another.
    fn tells(&self, disk: &Disk) -> bool {
        disk.has_superblock() || is_told_by_record(disk) || medium::was_seen(disk, self.seen)
    }

    fn is_safe(&self, disk: &Name) -> bool {
        self.cluster.disks.get(disk).is_some_and(is_told_by_superblock)
    }

    /// Of these disks the one, and no other, whose medium lies under the recorded path of a disk.
    pub fn medium_under(&self, disk: &Name, among: &BTreeSet<&Name>) -> Option<Name> {
        let of = self.cluster.disks.get(disk)?;
        let path = of.medium.path()?;
        let there = Opened::beside(&opening::spec(&of.medium, of.block_bytes).medium).ok()?;
        let mut holders = among
            .iter()
            .filter(|name| self.holds(name, Path::new(path), &there).is_ok());
        let holder = holders.next()?;
        holders.next().is_none().then(|| (*holder).clone())
    }

    /// As [`is_written_by_guest`].
    fn is_written_by_guest(&self, name: &Name, opened: &Opened) -> bool {
        let (Some(disk), Some(path)) = (self.cluster.disks.get(name), opened.path()) else {
            return false;
        };
        let is_elsewhere = |other: &Name| {
            let open = self.open.get(other);
            open.is_some_and(|open| {
                open.path().is_some_and(|its| !are_one(its, path)) && matches!(open.is_at(path), Ok(false))
            })
        };
        // What a disk is known by without a record is what lies there: that proves nothing.
        let is_recorded = is_told_by_record(disk) || medium::was_seen(disk, self.seen);
        let others = superblocks::disks_named_by(self.cluster, opened);
        disk.usage == Usage::Whole
            && is_recorded
            && self.holds(name, path, opened).is_ok()
            && others.filter(|other| *other != name).all(is_elsewhere)
    }

    /// Whether what was opened under a path is the medium of a disk: by identity, size and block, and by its superblock with
    /// its lineage, or its content where it keeps none and stands on no file whose inode is recorded.
    fn holds(&self, name: &Name, path: &Path, there: &Opened) -> Result<(), String> {
        let cluster = self.cluster;
        let disk = cluster.disks.get(name).ok_or("there is no such disk")?;
        if let Some(open) = self.open.get(name) {
            return match open.is_at(path) {
                Ok(true) => Ok(()),
                Ok(false) => Err("it is in use elsewhere".into()),
                Err(error) => Err(error.to_string()),
            };
        }
        medium::check(disk, there).map_err(|other| other.to_string())?;
        if there.sectors().0 < disk.sectors {
            return Err("it is shorter than the disk".into());
        }
        if is_told_by_superblock(disk) {
            let found = superblocks::read(there).map_err(|error| error.to_string())?;
            let should = image(cluster, name).map_err(|error| error.to_string())?;
            return match standing(&found, &should) {
                Standing::InForce | Standing::Unstamped | Standing::Behind => Ok(()),
                other => Err(format!("its superblock is not the one of the disk ({other:?})")),
            };
        }
        // What is recorded of it has been compared above. That somebody has written to the file under a loop device meanwhile is
        // asked about when the disk is opened.
        match is_told_by_record(disk) && !disk.has_superblock() {
            true => Ok(()),
            false if medium::needs_fingerprint(disk) && medium::was_seen(disk, self.seen) => {
                medium::is_content_of(disk, there, self.seen)
            }
            false => Err("nothing tells whether it is the disk".into()),
        }
    }
}

/// The disks that lie in each other's place with one that is open, by the paths under which they were opened.
pub fn ring_of<'a>(
    name: &Name,
    open: impl Fn(&Name) -> Option<(&'a Disk, &'a Opened)>,
    all: &[&'a Name],
) -> Option<Ring> {
    let under = |of: &Name| {
        let (disk, _) = open(of)?;
        let path = Path::new(disk.medium.path()?);
        let is_there = |one: &&&Name| open(one).is_some_and(|(_, opened)| opened.path() == Some(path));
        all.iter().find(is_there).map(|one| (*one).clone())
    };
    match search(name, under) {
        Search::Exchanged(ring) => Some(ring),
        Search::InPlace | Search::NotFound(_) => None,
    }
}

/// Records disks where they are that lie under each other's paths.
///
/// # Errors
/// There is no such disk, or the medium of one is under none of the paths, or under several.
pub fn relocate(shared: &Shared, request: &api::DiskRelocate) -> Result<api::DiskRelocated, Problem> {
    if !request.places.is_empty() {
        return placed::relocate(shared, request);
    }
    let cluster = shared.cluster();
    let names: Vec<Name> = request
        .disks
        .iter()
        .map(|id| Name::new(id.as_str()).map_err(|_| Problem::not_found("disk", id)))
        .collect::<Result<_, _>>()?;
    for name in &names {
        let disk = cluster
            .disks
            .get(name)
            .ok_or_else(|| Problem::not_found("disk", name.as_str()))?;
        if disk.medium.path().is_none() {
            let message = format!("disk {name} has no path that it could have exchanged");
            let remedy = "name disks of files and block devices only";
            return Err(
                Problem::new(ProblemKind::Invalid, "invalid_argument", message, remedy).about("disks"),
            );
        }
    }
    let disks = moves(shared, &cluster, &names)?;
    let relocated = disks.iter().map(|one| api::RelocatedDisk {
        id: one.name.to_string(),
        before: path_of(&cluster, &one.name).unwrap_or_default().to_owned(),
        path: one.path.clone(),
        // Nothing else is taken without a word of the operator's.
        holds: Some("the medium of the disk".to_owned()),
        unproved: false,
    });
    let relocated = relocated.collect();
    agree(shared, &cluster, RelocateDisks { disks }, request.dry_run)?;
    Ok(api::DiskRelocated { disks: relocated })
}

/// Has it agreed on, or sees that it would be.
fn agree(shared: &Shared, cluster: &Cluster, moves: RelocateDisks, dry_run: bool) -> Result<(), Problem> {
    let command = Command::RelocateDisks(moves);
    match dry_run {
        true => match cluster.apply(&command) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(problem::of_refusal(&refusal)),
        },
        false => match shared.propose(command) {
            Ok(_) => Ok(()),
            Err(error) => Err(problem::of_proposal(&error)),
        },
    }
}

/// The path that is recorded for a disk.
fn path_of<'a>(cluster: &'a Cluster, disk: &Name) -> Option<&'a str> {
    cluster.disks.get(disk)?.medium.path()
}

/// The disk that a node reaches by a path, as far as that is recorded.
pub fn recorded_at<'a>(cluster: &'a Cluster, node: &Name, path: &str) -> Option<(&'a Name, &'a Disk)> {
    let mut disks = cluster.disks.iter();
    disks.find(|(_, disk)| disk.path_of(node) == Some(path))
}

/// Each of these disks with the path under which its medium was found; of a last one that was not, the path that is left.
fn known_places<'a>(
    places: &Places<'a>,
    names: &'a [Name],
    under: &BTreeMap<&Name, Option<Name>>,
) -> Vec<(&'a Name, Option<&'a str>)> {
    let cluster = places.cluster;
    let place = |name: &Name| {
        let mut at = under.iter().filter(|(_, medium)| medium.as_ref() == Some(name));
        let (place, another) = (at.next(), at.next());
        place.filter(|_| another.is_none()).map(|(place, _)| *place)
    };
    let is_taken = |one: &Name| names.iter().any(|name| place(name) == Some(one));
    let unknown = names.iter().filter(|name| place(name).is_none()).count();
    // Not where the medium of a disk lies that is not named.
    let is_anothers = |one: &Name| {
        let all = cluster.disks.get(one).map(|disk| places.with_paths(disk));
        let there = all.and_then(|all| places.medium_under(one, &all));
        there.is_some_and(|there| !names.contains(&there))
    };
    let left = names
        .iter()
        .find(|one| unknown == 1 && !is_taken(one) && !is_anothers(one));
    let found = names.iter().map(|name| {
        let place = place(name).or(left);
        (name, place.and_then(|place| path_of(cluster, place)))
    });
    found.collect()
}

/// Where each of these disks is among the paths of all of them.
fn moves(shared: &Shared, cluster: &Cluster, names: &[Name]) -> Result<Vec<Relocation>, Problem> {
    let open = open_disks(shared);
    let places = Places::now(shared, cluster, &open);
    let among: BTreeSet<&Name> = names.iter().collect();
    let under: BTreeMap<&Name, Option<Name>> = names
        .iter()
        .map(|name| (name, places.medium_under(name, &among)))
        .collect();
    let mut moves = Vec::new();
    for name in names {
        let mut at = under
            .iter()
            .filter(|(_, medium)| medium.as_ref() == Some(name))
            .map(|(place, _)| *place);
        let (place, another) = (at.next(), at.next());
        let (Some(place), None) = (place, another) else {
            let paths: Vec<&str> = names.iter().filter_map(|name| path_of(cluster, name)).collect();
            let paths = paths.join(", ");
            let message = match place {
                None => format!("none of {paths} holds the medium of disk {name} beyond doubt"),
                Some(_) => {
                    format!("more than one of {paths} holds what looks like the medium of disk {name}")
                }
            };
            if let Some(ring) = places.ring(name).filter(|_| place.is_none()) {
                let remedy = format!(
                    "{}: record where all of them are, in one step: {}. Nothing was changed",
                    told(&ring),
                    command(&ring)
                );
                return Err(
                    Problem::new(ProblemKind::Conflict, "disks_not_exchanged", message, &remedy)
                        .about("disks"),
                );
            }
            let named = known_places(&places, names, &under);
            let remedy = format!(
                "name all disks that have exchanged their paths, and no others; or say where each of them is, of which --dry-run \
                 shows what lies there, and --yes says that it is the disk where nothing proves it: {}. Nothing was changed",
                placed::command(&named)
            );
            return Err(
                Problem::new(ProblemKind::Conflict, "disks_not_exchanged", message, remedy).about("disks"),
            );
        };
        moves.push(Relocation {
            name: name.clone(),
            uuid: cluster.disks.get(name).map(|disk| disk.uuid).unwrap_or_default(),
            path: path_of(cluster, place).unwrap_or_default().to_owned(),
            found: None,
            confirmed: false,
            expected: cluster.disks.get(name).map(|disk| disk.revision),
        });
    }
    Ok(moves)
}

/// The disks that are in use.
pub fn open_disks(shared: &Shared) -> BTreeMap<Name, Arc<Opened>> {
    let state = shared.seen();
    let is_used = |name: &Name| {
        state
            .control
            .observed
            .disks
            .get(name)
            .is_some_and(|observed| observed.disk.is_its_own(observed.superblock))
    };
    let used = state.disks.iter().filter(|(name, _)| is_used(name));
    used.map(|(name, open)| (name.clone(), Arc::clone(&open.opened)))
        .collect()
}

/// Refuses a path that is recorded for another disk, and the medium of another one under a disk's own path, where the medium
/// of each is known to be somewhere else: it has to be said of both at once, or first of the other.
///
/// # Errors
/// What is true of the two, and the command that says it.
pub fn refuse_recorded(shared: &Shared, cluster: &Cluster, name: &Name, path: &str) -> Result<(), Problem> {
    let Some(disk) = cluster.disks.get(name) else {
        return Ok(());
    };
    // Its own path, or that of another disk.
    let Some((holder, at_path)) = recorded_at(cluster, disk.custodian(), path) else {
        return Ok(());
    };
    let open = open_disks(shared);
    let places = Places::now(shared, cluster, &open);
    let among = places.with_paths(disk);
    let (message, remedy) = match search(name, |of| places.medium_under(of, &among)) {
        Search::Exchanged(ring) if holder == name || ring.place_of(name) == Some(holder) => {
            let at = ring.place_of(name).unwrap_or(holder);
            let path = |disk| path_of(cluster, disk).unwrap_or_default();
            let (own, other) = (path(name), ring.disks().get(1).unwrap_or(holder));
            (
                format!(
                    "{} holds the medium of disk {name}, and {own}, its path, that of disk {other}: {}",
                    path(at),
                    told(&ring)
                ),
                format!("record where they are now, in one step: {}", command(&ring)),
            )
        }
        _ if holder != name && places.medium_under(holder, &among).as_ref() == Some(name) => (
            format!("{path} holds the medium of disk {name} and is recorded as the path of disk {holder}"),
            format!(
                "record where they are, in one step: {}",
                placed::command(&places.with_holder(name, path, holder))
            ),
        ),
        // Under its own path lies something else, and it is under that of another.
        _ if holder == name
            && let Some(other) = places.holder_of(name) =>
        {
            (
                placed::found_elsewhere(cluster, name, other),
                format!(
                    "say where both are, in one step: {}",
                    placed::command(&[(name, path_of(cluster, other)), (other, Some(path))])
                ),
            )
        }
        // Its file was moved over that of another one, and that, or a copy of it, may be what lies here.
        _ if holder == name
            && !open.contains_key(name)
            && let Some(other) = moved::over_another(cluster, name, disk) =>
        {
            let at = path_of(cluster, other);
            (
                format!(
                    "{} holds the medium of disk {name} and is recorded as the path of disk {other}; what lies under {path}, its own, \
                     is something else. Nothing was changed",
                    at.unwrap_or_default()
                ),
                format!(
                    "see what lies where: {} --dry-run. If that is right, the same without --dry-run; where nothing proves that a \
                     medium is the disk, as of a copy, with --yes. While nobody knows where disk {other} is: {}",
                    placed::command(&[(name, at), (other, Some(path))]),
                    placed::command(&[(name, at)])
                ),
            )
        }
        // What lies there may be a copy: the path is the other's all the same, and not its medium.
        _ if holder != name
            && !open.contains_key(holder)
            && let Ok(there) = medium::beside(at_path)
            && let Err(why) = places.holds(holder, Path::new(path), &there) =>
        {
            let command = placed::command(&places.with_holder(name, path, holder));
            (
                format!(
                    "{path} is recorded as the path of disk {holder}, and does not hold its medium: {why}. Nothing was changed"
                ),
                format!(
                    "no two disks have one path, so where they are is recorded in one step. See what lies where: {command} \
                     --dry-run. If that is right, the same without --dry-run; where nothing proves that a medium is the disk, as \
                     of a copy, with --yes"
                ),
            )
        }
        // It is that disk's, or nobody's that is known: said by those who refuse a disk's medium.
        _ => return Ok(()),
    };
    Err(Problem::new(ProblemKind::Conflict, "disks_exchanged", message, remedy).about("path"))
}

/// Whether the superblocks of other disks on the medium of a disk that is given whole are what its guest has written: the medium
/// is the recorded one, and each of those disks is in use on a medium of its own elsewhere, so that this one is none of them.
pub fn is_written_by_guest(shared: &Shared, cluster: &Cluster, name: &Name, opened: &Opened) -> bool {
    let open = open_disks(shared);
    Places::now(shared, cluster, &open).is_written_by_guest(name, opened)
}

/// Whether what lies under the path of a disk that is closed is known to be the medium of another one.
pub fn is_anothers(shared: &Shared, cluster: &Cluster, holder: &Name, other: &Name) -> bool {
    let Some(disk) = cluster.disks.get(holder) else {
        return false;
    };
    let open = open_disks(shared);
    let places = Places::now(shared, cluster, &open);
    places.medium_under(holder, &places.with_paths(disk)).as_ref() == Some(other)
}

#[cfg(test)]
mod tests;
