//! Disks whose places an operator names, all in one step: of those that are known by their content alone, and have been
//! written to since it was last looked at, nothing else tells which is which; and no two disks may have one path, so one that
//! has come to lie under the path of another cannot be recorded there by itself.

use super::{Places, agree, found_by, open_disks, path_of, recorded_at};
use crate::alias;
use crate::identify;
use crate::last_seen::LastSeen;
use crate::medium;
use crate::moved;
use crate::opening;
use crate::own_file::Obstacle;
use crate::places;
use crate::problem;
use crate::recorded::{Records, are_one};
use crate::shared::Shared;
use crate::strangers;
use crate::superblocks;
use crate::takeover::{DiskHold, hold_at_once, refused_undecided, undecided};
use palisade_api as api;
use palisade_api::{Problem, ProblemKind};
use palisade_model::{Cluster, Disk, FoundMedium, Medium, MediumRecord, RelocateDisks, Relocation};
use palisade_sys::Opened;
use palisade_sys::device::fingerprint::{Fingerprint, Hold};
use palisade_words::{Name, Uuid};
use std::mem;
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
        "{} {}, and is recorded as the path of disk {other}; what lies under {}, its own, is something else. Nothing was written to \
         either. Look at what lies where, and record both in one step: {} \
         --dry-run",
        path.unwrap_or_default(),
        found_by(cluster, name),
        own.unwrap_or_default(),
        command(&[(name, path), (other, own)])
    )
}

/// What records that a path leads to the medium of `other`, while `asked` was looked for there.
pub fn found_under(known: &Places<'_>, asked: &Name, other: &Name, path: &str) -> String {
    let cluster = known.cluster;
    let records = Records {
        cluster,
        seen: known.seen,
        open: known.open,
    };
    let Some(disk) = cluster.disks.get(other) else {
        return String::new();
    };
    let its = disk.medium.path().unwrap_or_default();
    match recorded_at(cluster, disk.custodian(), path) {
        None => format!("Record where disk {other} is: palisade disk confirm {other} --path {path}"),
        Some((holder, _)) if holder == other => format!("Use disk {other}: palisade disk show {other}"),
        Some((holder, _)) => {
            let alone = format!(
                "Record where disk {other} is: {}; disk {holder} is looked for under {its} then, until it is said where it is",
                command(&[(other, Some(path))])
            );
            // What lies at its place may be the asked one's: both have been moved, and one of them was copied on the way.
            let is_free = |there: &Opened| records.another(Some(asked), disk.custodian(), there).is_none();
            match holder == asked && medium::beside(disk).is_ok_and(|there| is_free(&there)) {
                true => format!(
                    "{alone}. If what lies at {its} is disk {asked}, record both: {} --dry-run, which shows what lies where, and \
                     then with --yes",
                    command(&[(asked, Some(its)), (other, Some(path))])
                ),
                false => alone,
            }
        }
    }
}

/// Whether what lies in a place is the disk that it is said to be.
enum Verdict {
    /// It is.
    Is(String),
    /// Nothing proves it, as of a copy, or its content is not what the disk held when it was last seen: an operator may know
    /// better.
    Unproved(String),
    /// It is not.
    IsNot(String),
}

/// A disk and the path under which it is to be recorded.
struct Placed<'a> {
    name: &'a Name,
    disk: &'a Disk,
    path: &'a str,
}

/// What is recorded, and what has to be done once it is.
#[derive(Default)]
struct Step {
    moves: Vec<Relocation>,
    shown: Vec<api::RelocatedDisk>,
    /// What the content of a disk looks like that is known by it.
    looks: Vec<(Uuid, Fingerprint)>,
    /// Disks that an operator has said to be another medium than the recorded one, and why that is another.
    taken: Vec<(Name, String, String)>,
}

/// Records disks where an operator says that they are.
///
/// # Errors
/// There is no such disk, a path may not be used, or what lies there is not the disk.
pub fn relocate(shared: &Shared, request: &api::DiskRelocate) -> Result<api::DiskRelocated, Problem> {
    let cluster = shared.cluster();
    let named = named(&cluster, request)?;
    // Nobody opens them where they were recorded before, whose guests' writes would be lost with the next start.
    let held = || named.iter().map(|place| hold_at_once(shared, place.name));
    let _holds: Vec<DiskHold<'_>> = match request.dry_run {
        true => Vec::new(),
        false => held().collect::<Result<_, Problem>>()?,
    };
    let open = open_disks(shared);
    let known = Places::now(shared, &cluster, &open);
    let displaced = displaced(&known, &named)?;
    let mut step = Step::default();
    for place in &named {
        let is_block = matches!(place.disk.medium, Medium::Block { .. });
        let allow = &shared.settings.allow;
        allow.check_disk_path(place.path, is_block, "places.path")?;
        places::refuse_own(shared, place.path)?;
        let left_out = named.iter().chain(&displaced).map(|one| one.name);
        let left_out: Vec<&Name> = left_out.collect();
        alias::refuse_beside(shared, &cluster, (Some(place.name), &left_out), place.path)?;
        let there = at(place.disk, place.path)?;
        let mut verdict = judge(&known, &named, place, &there);
        let is_open = known.open.contains_key(place.name);
        if let Verdict::Is(words) = &mut verdict
            && !is_open
            && let Some(what) = undecided(shared, &cluster, place.name, place.disk, &there)
        {
            let says_nothing = named.len() == 1 && place.disk.medium.path() == Some(place.path);
            if request.confirm && says_nothing && !request.dry_run {
                return Err(refused_undecided(place.name, &what));
            }
            *words = format!("{words}; {what}: `palisade disk adopt {}` decides", place.name);
        }
        step.take(place, &there, verdict, request, is_open)?;
    }
    for place in &displaced {
        step.displace(place, &known);
    }
    let moves = RelocateDisks {
        disks: mem::take(&mut step.moves),
    };
    agree(shared, &cluster, moves, request.dry_run)?;
    if !request.dry_run {
        step.finish(shared, &cluster)?;
    }
    Ok(api::DiskRelocated { disks: step.shown })
}

/// The disks that are named, each once, and no two of them on one medium.
fn named<'a>(cluster: &'a Cluster, request: &'a api::DiskRelocate) -> Result<Vec<Placed<'a>>, Problem> {
    let mut named: Vec<Placed<'a>> = Vec::new();
    for place in &request.places {
        let not_found = || Problem::not_found("disk", &place.id);
        let name = Name::new(place.id.as_str()).map_err(|_| not_found())?;
        let (name, disk) = cluster.disks.get_key_value(&name).ok_or_else(not_found)?;
        let path = place.path.as_str();
        if let Some(other) = named.iter().find(|other| other.name == name) {
            let message = format!("disk {name} is said to be at {} and at {path}", other.path);
            let remedy = "say of each disk once where it is";
            return Err(
                Problem::new(ProblemKind::Invalid, "invalid_argument", message, remedy).about("places"),
            );
        }
        let is_one =
            |other: &&Placed<'_>| other.path == path || are_one(Path::new(other.path), Path::new(path));
        if let Some(other) = named.iter().find(is_one) {
            let message = format!(
                "{} and {path} lead to one medium, or to parts of one, which cannot be disk {} and disk {name}. Nothing was \
                 changed",
                other.path, other.name
            );
            let remedy = "name the path of the medium that each disk is on";
            return Err(conflict("medium_taken", message, remedy));
        }
        named.push(Placed { name, disk, path });
    }
    Ok(named)
}

/// Disks whose paths others take, and whose own medium is not there, each with a path that becomes free by that: it keeps
/// all that is recorded to know its medium by, and so it is not taken for what lies there.
fn displaced<'a>(known: &Places<'a>, named: &[Placed<'a>]) -> Result<Vec<Placed<'a>>, Problem> {
    let is_named = |name: &Name| named.iter().any(|place| place.name == name);
    let mut displaced = Vec::new();
    for place in named {
        let holder = recorded_at(known.cluster, place.disk.custodian(), place.path);
        let Some((holder, disk)) = holder.filter(|(holder, _)| !is_named(holder)) else {
            continue;
        };
        let refused = |why: String| {
            let message = format!(
                "{} is recorded as the path of disk {holder}, {why}. Nothing was changed",
                place.path
            );
            let its = moved::renamed(disk).map(|path| path.display().to_string());
            let remedy = format!(
                "if both have moved, say where both are, in one step: {}",
                command(&[(place.name, Some(place.path)), (holder, its.as_deref())])
            );
            Err(conflict("disks_exchanged", message, &remedy))
        };
        if known.open.contains_key(holder) {
            return refused("which is in use".into());
        }
        if at(disk, place.path).is_ok_and(|there| known.holds(holder, Path::new(place.path), &there).is_ok())
        {
            return refused("whose medium lies there".into());
        }
        if !known.tells(disk) {
            return refused("of which nothing is recorded to know its medium by".into());
        }
        match free_path(named, place) {
            Some(path) if mem::discriminant(&place.disk.medium) == mem::discriminant(&disk.medium) => {
                displaced.push(Placed {
                    name: holder,
                    disk,
                    path,
                });
            }
            _ => return refused("which is of another kind".into()),
        }
    }
    Ok(displaced)
}

/// The path that becomes free when a disk is recorded elsewhere, and those that take the paths of each other with it.
fn free_path<'a>(named: &[Placed<'a>], first: &Placed<'a>) -> Option<&'a str> {
    let mut free = first.disk.medium.path()?;
    for _ in named {
        match named.iter().find(|place| place.path == free) {
            Some(taker) => free = taker.disk.medium.path()?,
            None => return Some(free),
        }
    }
    None
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
    Opened::beside(&opening::spec(&medium, disk.block_bytes).medium).map_err(|error| problem::of_open(&error))
}

impl Step {
    /// Takes a disk as it was judged, or refuses it.
    fn take(
        &mut self,
        place: &Placed<'_>,
        there: &Opened,
        verdict: Verdict,
        request: &api::DiskRelocate,
        is_open: bool,
    ) -> Result<(), Problem> {
        let Placed { name, disk, path } = place;
        let unread = |error| problem::of_reading(path, error);
        let refused = match &verdict {
            Verdict::Is(_) => None,
            Verdict::Unproved(why) if !request.confirm && !request.dry_run => Some((
                why,
                "look at what lies where with --dry-run; if it is the disk all the same, say so: --yes, `confirm` in REST",
            )),
            Verdict::Unproved(_) => None,
            Verdict::IsNot(why) => Some((why, "name the path of the medium that the disk is on")),
        };
        if let Some((why, remedy)) = refused {
            let message = format!("{path} is not known to hold disk {name}: {why}. Nothing was changed");
            return Err(conflict("disk_other_medium", message, remedy));
        }
        let mut found = None;
        if let Verdict::Unproved(why) = &verdict {
            let (record, wwid) = medium::record_open(there, disk.usage).map_err(unread)?;
            let record = MediumRecord {
                sparse: disk.record.sparse,
                nested: strangers::named(disk, there),
                fingerprint: record.fingerprint.or_else(|| disk.record.fingerprint.clone()),
                ..record
            };
            found = Some(FoundMedium { wwid, record });
            let is_recorded = disk.has_identity() && medium::check(disk, there).is_ok();
            let other = || ((*name).clone(), (*path).to_owned(), why.clone());
            self.taken.extend((!is_recorded).then(other));
        }
        let record = found.as_ref().map_or(&disk.record, |found| &found.record);
        let known_by = Disk {
            record: record.clone(),
            ..(*disk).clone()
        };
        if medium::needs_fingerprint(&known_by) && !is_open {
            self.looks
                .push((disk.uuid, Fingerprint::of(there).map_err(unread)?));
        }
        let unproved = matches!(verdict, Verdict::Unproved(_));
        let (Verdict::Is(words) | Verdict::Unproved(words) | Verdict::IsNot(words)) = verdict;
        self.show(place, words, unproved);
        self.moves.push(place.relocation(found, request.confirm));
        Ok(())
    }

    /// Another disk has got the path of this one.
    fn displace(&mut self, place: &Placed<'_>, known: &Places<'_>) {
        let there = at(place.disk, place.path);
        let is_there =
            there.is_ok_and(|there| known.holds(place.name, Path::new(place.path), &there).is_ok());
        let words = match is_there {
            true => "the medium of the disk",
            false => "nothing that is known to be the disk: say where it is once its medium is there",
        };
        self.show(place, words.to_owned(), false);
        self.moves.push(place.relocation(None, false));
    }

    fn show(&mut self, place: &Placed<'_>, words: String, unproved: bool) {
        self.shown.push(api::RelocatedDisk {
            id: place.name.to_string(),
            before: place.disk.medium.path().unwrap_or_default().to_owned(),
            path: place.path.to_owned(),
            holds: Some(words),
            unproved,
        });
    }

    /// It has been agreed on.
    fn finish(&self, shared: &Shared, cluster: &Cluster) -> Result<(), Problem> {
        for (uuid, print) in &self.looks {
            shared.last_seen.place(*uuid);
            shared
                .last_seen
                .keep(*uuid, print, Hold::LetGo)
                .map_err(|error| {
                    let Obstacle { what, remedy } = shared.last_seen.obstacle(*uuid, &error);
                    let message = format!(
                        "the paths are recorded, and what the disks look like cannot be kept: {what}"
                    );
                    let remedy = format!("{remedy}, and that there is room; then say the same again");
                    Problem::new(ProblemKind::Internal, "state_not_writable", message, &remedy)
                })?;
        }
        for (name, path, why) in &self.taken {
            identify::tell_taken(shared, name, path, why);
            if let Some(disk) = cluster.disks.get(name) {
                identify::confirmed(shared, name, disk)?;
            }
        }
        Ok(())
    }
}

impl Placed<'_> {
    fn relocation(&self, found: Option<FoundMedium>, confirmed: bool) -> Relocation {
        Relocation {
            name: self.name.clone(),
            uuid: self.disk.uuid,
            path: self.path.to_owned(),
            found,
            confirmed,
            expected: Some(self.disk.revision),
        }
    }
}

fn judge(known: &Places<'_>, named: &[Placed<'_>], place: &Placed<'_>, there: &Opened) -> Verdict {
    let Placed { name, disk, path } = place;
    let by_content = medium::needs_fingerprint(disk);
    let is_open = known.open.contains_key(*name);
    let carries_stranger = || disk.strangers(strangers::named(disk, there)).next().is_some();
    let why = match known.holds(name, Path::new(path), there) {
        Ok(()) if !is_open && carries_stranger() => match superblocks::disk_named(known.cluster, there) {
            Some((other, _)) if !known.is_written_by_guest(name, there) => {
                return Verdict::IsNot(format!(
                    "its superblock says that it is disk {other}, or a copy of it"
                ));
            }
            _ => {
                return Verdict::Unproved(
                    "the recorded medium, with a superblock of Palisade on it: the guest's, if that has put it there itself"
                        .into(),
                );
            }
        },
        Ok(()) if is_open => return Verdict::Is("it is in use there".into()),
        Ok(()) if by_content => match (
            &disk.record.backing,
            medium::is_content_of(disk, there, known.seen),
        ) {
            (None, Ok(())) => {
                return Verdict::Is("the content that the disk had when it was last seen".into());
            }
            (Some(backing), Ok(())) => {
                return Verdict::Is(format!("the medium of the disk (backing file {backing})"));
            }
            // It is the disk, and somebody has written to it: an operator knows whether that is to be used.
            (Some(backing), Err(why)) => {
                return Verdict::Unproved(format!(
                    "the medium of the disk (backing file {backing}), but {why}"
                ));
            }
            (None, Err(why)) => why,
        },
        Ok(()) => return Verdict::Is("the medium of the disk".into()),
        Err(why) => why,
    };
    if is_open {
        return Verdict::IsNot(why);
    }
    if there.sectors().0 < disk.sectors {
        return Verdict::IsNot(format!("it is shorter than the disk; {why}"));
    }
    let records = Records {
        cluster: known.cluster,
        seen: known.seen,
        open: known.open,
    };
    match records.another(Some(name), disk.custodian(), there) {
        // What holds the same as another's is this one where an operator has found that one elsewhere.
        Some(other) if !other.may_be_copy || !named.iter().any(|place| place.name == other.name) => {
            return Verdict::IsNot(format!("it is the medium of disk {} ({})", other.name, other.by));
        }
        _ => {}
    }
    match superblocks::disk_named(known.cluster, there) {
        Some((other, _)) if other != *name => {
            return Verdict::IsNot(format!("its superblock says that it is disk {other}"));
        }
        None if disk.has_superblock() => return Verdict::IsNot(why),
        _ => {}
    }
    Verdict::Unproved(format!("{why}{}", whose(known.cluster, known.seen, name, there)))
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

fn conflict(code: &'static str, message: String, remedy: &str) -> Problem {
    Problem::new(ProblemKind::Conflict, code, message, remedy).about("places")
}
