//! Invariants 2 and 14 across a restore: a database that was put back from a backup clears nothing that a guest has written
//! since, unless an operator has said so to that very database, and shows nothing of it to the guests of volumes made from then
//! on.
//!
//! A disk that is given whole keeps no superblock, and so nothing on it tells a database that it is an old one: what it knows
//! as still to be cleared may have been cleared, and served, and given to another since. One node lives on such disks, with the
//! daemon's planner; its clearings are cut into pieces, and commands, restarts and restores come between. The checker keeps
//! what guests were told is written, by the piece, and what operators have given up; it knows nothing of what is held.

use crate::finding::{Findings, Invariant};
use crate::node::{SimNode, Todo};
use crate::rng::{Rng, RunHash};
use palisade_block::Nanos;
use palisade_consensus::Backup;
use palisade_control::{SuperblockLook, TaskEnd, TaskId, Work};
use palisade_model::{
    AddDisk, ChangeVolume, Clear, ClearHeld, Cluster, Command, CreateAttachment, CreateVolume, DeleteVolume,
    Extent, GrowVolume, IdentifyDisk, InitCluster, Limits, Medium, MediumRecord, RecordCleared, Usage,
};
use palisade_words::{Name, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Sectors that are written or cleared at a time.
const PIECE: u64 = 64;

/// Pieces of each disk.
const PIECES: u64 = 12;

/// How many disks there are, each with room for one volume.
const DISKS: u64 = 2;

/// Turns after which a node with nothing new to do must be at rest.
const TURNS_AT_REST: usize = 2_000;

/// Runs it.
pub fn run(rng: Rng, findings: &Findings) -> RunHash {
    let mut hash = RunHash::default();
    let lived = World::new(rng).and_then(|mut world| world.life(&mut hash));
    if let Err((invariant, what)) = lived {
        findings.add(invariant, Nanos(0), what);
    }
    hash
}

type Lived<T> = Result<T, (Invariant, String)>;

/// What a guest was told is written in a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Written {
    /// The volume.
    volume: Uuid,
    /// It was deleted by an operator since.
    is_given_up: bool,
}

/// A clearing under way.
struct Clearing {
    task: TaskId,
    name: Name,
    volume: Uuid,
    start: u64,
    /// It was told to end, which it does with the piece under way.
    is_stopped: bool,
    /// What is still to be cleared, the last first.
    left: Vec<(Name, u64)>,
    done: u64,
}

struct World {
    cluster: Arc<Cluster>,
    node: SimNode,
    works: Vec<Clearing>,
    /// What is on the disks, by the piece.
    written: BTreeMap<(Name, u64), Written>,
    backups: Vec<String>,
    /// Volumes whose clearing an operator has ordered from the database that runs.
    ordered: BTreeSet<Uuid>,
    /// Those of which that includes what their own guests have written.
    emptied: BTreeSet<Uuid>,
    /// Volumes that were made in the database that runs, and of which no operator has said that they are not to be cleared.
    made: BTreeSet<Uuid>,
    volumes: u128,
    seen: Seen,
    rng: Rng,
}

/// What has happened, for a look at what a seed is worth.
#[derive(Default, Debug)]
struct Seen {
    restores: u64,
    held: u64,
    disks_confirmed: u64,
    confirmed: u64,
    cleared: u64,
    /// Volumes made after a restore on a disk that the database says has had none.
    first_again: u64,
}

impl World {
    fn new(mut rng: Rng) -> Lived<World> {
        let init = InitCluster {
            id: Uuid(u128::from(rng.bits()) + 1),
            node: name("n", 0)?,
            node_uuid: Uuid(2),
        };
        let mut world = World {
            cluster: Arc::new(Cluster::empty()),
            node: SimNode::new(name("n", 0)?, rng.split("node")),
            works: Vec::new(),
            written: BTreeMap::new(),
            backups: Vec::new(),
            ordered: BTreeSet::new(),
            emptied: BTreeSet::new(),
            made: BTreeSet::new(),
            volumes: 100,
            seen: Seen::default(),
            rng,
        };
        world.apply(&Command::InitCluster(init));
        for number in 0..DISKS {
            let sectors = PIECES * PIECE;
            let add = AddDisk {
                name: name("d", number)?,
                uuid: Uuid(10 + u128::from(number)),
                node: name("n", 0)?,
                medium: Medium::File {
                    path: format!("/d{number}"),
                    bytes: sectors * 512,
                    created: true,
                },
                record: MediumRecord::default(),
                usage: Usage::Whole,
                block_bytes: 512,
                sectors,
                data_start: 0,
                data_end: sectors,
                superblock_pending: false,
            };
            if !world.apply(&Command::AddDisk(add)) {
                return Err((Invariant::AllOrNothing, "a disk cannot be added".into()));
            }
        }
        Ok(world)
    }

    fn life(&mut self, hash: &mut RunHash) -> Lived<()> {
        for _ in 0..self.rng.between(60, 200) {
            match self.rng.below(100) {
                0..40 => self.turn()?,
                40..60 => self.guests_read_and_write()?,
                60..84 => self.command()?,
                84..90 => self.restart(),
                90..95 => self.backups.push(self.backup().to_text()),
                _ => self.restore()?,
            }
            hash.add([self.cluster.generation.0, self.rng.bits()]);
        }
        self.come_to_rest()
    }

    fn backup(&self) -> Backup {
        Backup {
            taken_unix_s: 0,
            cluster: Cluster::clone(&self.cluster),
        }
    }

    /// `palisade state restore`: the daemon is stopped, and a database is made of the backup.
    fn restore(&mut self) -> Lived<()> {
        if self.backups.is_empty() {
            return Ok(());
        }
        let text = &self.backups[self.rng.index(self.backups.len())];
        let backup = Backup::from_text(text, Path::new("backup"));
        let backup = backup.map_err(|error| (Invariant::AllOrNothing, error.to_string()))?;
        self.seen.restores += 1;
        self.seen.held += backup.held_clearings().len() as u64;
        self.cluster = Arc::new(backup.held());
        self.ordered.clear();
        self.emptied.clear();
        self.made.clear();
        self.restart();
        // The operator looks at what lies there, by other means, and mostly goes on with it at once.
        for number in 0..DISKS {
            if !self.rng.one_in(4) {
                self.confirm(number)?;
            }
        }
        Ok(())
    }

    /// `palisade disk confirm --yes`: the disk is as the database has it.
    fn confirm(&mut self, number: u64) -> Lived<()> {
        let name = name("d", number)?;
        let record = self.cluster.disks.get(&name).map(|disk| disk.record.clone());
        let identify = IdentifyDisk {
            name,
            path: None,
            wwid: None,
            record: record.unwrap_or_default(),
            confirmed: true,
            expected: None,
        };
        if self.apply(&Command::IdentifyDisk(identify)) {
            self.seen.disks_confirmed += 1;
        }
        Ok(())
    }

    /// Whether a volume lies on a disk that waits for an operator's word.
    fn is_on_held(&self, volume: &palisade_model::Volume) -> bool {
        let mut extents = volume.all_extents().iter();
        extents.any(|extent| {
            let disk = self.cluster.disks.get(&extent.disk);
            disk.is_some_and(|disk| disk.held.is_some())
        })
    }

    /// The process ends, and another begins with the same database.
    fn restart(&mut self) {
        self.works.clear();
        self.node.restart(self.cluster.generation);
    }

    /// When nothing more happens, everything is clear but what waits for an operator's word, and nobody is served that.
    fn come_to_rest(&mut self) -> Lived<()> {
        self.restart();
        for _ in 0..TURNS_AT_REST {
            self.turn()?;
        }
        if !self.works.is_empty() {
            return Err((
                Invariant::BoundedWaiting,
                "at rest something is still being cleared".into(),
            ));
        }
        let stuck = |(name, volume): (&Name, &palisade_model::Volume)| {
            let waits = volume.clearing.is_some_and(|clearing| !clearing.held) && !self.is_on_held(volume);
            waits.then(|| {
                format!(
                    "at rest volume {name} is still to be cleared: {:?}",
                    volume.clearing
                )
            })
        };
        if let Some(what) = self.cluster.volumes.iter().find_map(stuck) {
            return Err((Invariant::BoundedWaiting, what));
        }
        let is_held = |name: &&Name| {
            let volume = self.cluster.volumes.get(*name);
            volume.is_some_and(|volume| volume.is_clearing_held() || self.is_on_held(volume))
        };
        let served = self.node.used().map(|used| &used.place.name).find(is_held);
        match served {
            Some(name) => Err((
                Invariant::ForeignBytes,
                format!("guests are served what may be another's: volume {name}"),
            )),
            None => Ok(()),
        }
    }

    /// A piece of a clearing, or whatever else the node does.
    fn turn(&mut self) -> Lived<()> {
        if !self.works.is_empty() && !self.rng.one_in(8) {
            let index = self.rng.index(self.works.len());
            return self.go_on_with(index);
        }
        self.node.pass(Nanos::from_secs(1));
        let cluster = Arc::clone(&self.cluster);
        self.node.look(&cluster);
        while let Some(todo) = self.node.next(&cluster)? {
            match todo {
                Todo::Work { task, work, .. } => self.begin(task, work),
                Todo::StopClearing { volume } => {
                    let its = self.works.iter_mut().filter(|work| work.name == volume);
                    its.for_each(|work| work.is_stopped = true);
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, task: TaskId, work: Work) {
        let end = match work {
            Work::ClearSpace {
                volume,
                uuid,
                start,
                extents,
            } => {
                let mut left: Vec<(Name, u64)> = extents.iter().flat_map(pieces).collect();
                left.reverse();
                return self.works.push(Clearing {
                    task,
                    name: volume,
                    volume: uuid,
                    start,
                    is_stopped: false,
                    left,
                    done: 0,
                });
            }
            Work::OpenDisk { .. } => TaskEnd::Opened {
                look: SuperblockLook::default(),
                is_agreed: true,
            },
            _ => TaskEnd::Done,
        };
        self.node.finish(task, Ok(end));
    }

    /// One piece is cleared, and now and then that is put on record; or it ends.
    fn go_on_with(&mut self, index: usize) -> Lived<()> {
        let Some(work) = self.works.get_mut(index) else {
            return Ok(());
        };
        if work.is_stopped {
            let Clearing { task, .. } = self.works.swap_remove(index);
            self.node.finish(task, Ok(TaskEnd::Done));
            return Ok(());
        }
        let (name, uuid) = (work.name.clone(), work.volume);
        let next = work.left.pop();
        work.done += next.as_ref().map_or(0, |_| PIECE);
        let is_done = next.is_none();
        let record = RecordCleared {
            name,
            uuid,
            sectors: work.start + work.done,
            start: work.start,
        };
        if let Some(piece) = next {
            self.clear(piece, uuid)?;
        }
        if is_done || self.rng.one_in(4) {
            self.apply(&Command::RecordCleared(record));
        }
        if is_done {
            let Clearing { task, .. } = self.works.swap_remove(index);
            self.node.finish(task, Ok(TaskEnd::Done));
            self.forget_orders();
        }
        Ok(())
    }

    /// The check: what is cleared was written by nobody, or given up, or an operator has ordered it from this database.
    fn clear(&mut self, piece: (Name, u64), volume: Uuid) -> Lived<()> {
        self.seen.cleared += 1;
        let Some(written) = self.written.remove(&piece) else {
            return Ok(());
        };
        let may_go = match written.volume == volume {
            true => self.emptied.contains(&volume),
            false => self.ordered.contains(&volume),
        };
        if written.is_given_up || may_go {
            return Ok(());
        }
        let (disk, lba) = piece;
        Err((
            Invariant::WriteKept,
            format!(
                "what guests of volume {} have written at {lba} of disk {disk} is cleared for volume {volume}, and nobody \
                 has said so",
                written.volume
            ),
        ))
    }

    /// An order is carried out once there is nothing left to clear.
    fn forget_orders(&mut self) {
        let clear = |volume: &&palisade_model::Volume| volume.clearing.is_none();
        for volume in self.cluster.volumes.values().filter(clear) {
            self.ordered.remove(&volume.uuid);
            self.emptied.remove(&volume.uuid);
        }
    }

    /// Guests read all they can, then write somewhere, and are told that it is done. The check: what they read is their
    /// own, where their volume was made in the database that runs. One that came with it is what an operator says it is.
    fn guests_read_and_write(&mut self) -> Lived<()> {
        for used in self.node.used() {
            let volume = &used.place.uuid;
            let all: Vec<(Name, u64)> = used.place.extents.iter().flat_map(pieces).collect();
            if all.is_empty() {
                continue;
            }
            let of_another = |piece: &&(Name, u64)| {
                let found = self.written.get(piece);
                found.is_some_and(|written| written.volume != *volume)
            };
            if self.made.contains(volume)
                && let Some((disk, lba)) = all.iter().find(of_another)
            {
                let what = format!(
                    "guests of the new volume {volume} read what another's wrote at {lba} of disk {disk}"
                );
                return Err((Invariant::ForeignBytes, what));
            }
            for _ in 0..self.rng.between(1, 4) {
                // What is written until the route is taken away goes with the volume.
                let of_it = |one: &&palisade_model::Volume| one.uuid == *volume && !one.deleting;
                let written = Written {
                    volume: *volume,
                    is_given_up: !self.cluster.volumes.values().any(|one| of_it(&one)),
                };
                let piece = all[self.rng.index(all.len())].clone();
                self.written.insert(piece, written);
            }
        }
        Ok(())
    }

    fn apply(&mut self, command: &Command) -> bool {
        let Ok((next, _)) = self.cluster.apply(command) else {
            return false;
        };
        let is_new = next != *self.cluster;
        self.cluster = Arc::new(next);
        is_new
    }

    /// An operator's command, which he knows the meaning of.
    fn command(&mut self) -> Lived<()> {
        let number = self.rng.below(DISKS);
        if self.rng.one_in(10) {
            return self.confirm(number);
        }
        let volume = name("v", number)?;
        let uuid = self.cluster.volumes.get(&volume).map(|found| found.uuid);
        match (self.rng.below(9), uuid) {
            (0..3, None) => self.create(number, volume),
            (3, Some(uuid)) => {
                let grow = GrowVolume {
                    name: volume,
                    sectors: self.rng.between(1, PIECES) * PIECE,
                    disk: None,
                    expected: None,
                    clears: true,
                };
                if self.apply(&Command::GrowVolume(grow)) {
                    self.ordered.insert(uuid);
                }
                Ok(())
            }
            (4 | 5, Some(uuid)) => {
                let delete = DeleteVolume {
                    name: volume.clone(),
                    expected: None,
                    clear: [None, Some(true), Some(false)][self.rng.index(3)],
                    detaches: true,
                };
                if self.apply(&Command::DeleteVolume(delete)) {
                    self.ordered.insert(uuid);
                    self.is_deleted(uuid);
                }
                Ok(())
            }
            (6 | 8, Some(uuid)) => {
                let held = ClearHeld {
                    name: volume,
                    expected: None,
                };
                if self.apply(&Command::ClearHeld(held)) {
                    self.seen.confirmed += 1;
                    self.ordered.insert(uuid);
                    self.emptied.insert(uuid);
                }
                Ok(())
            }
            (7, Some(uuid)) => {
                let clear = [Clear::OnDelete, Clear::Never][self.rng.index(2)];
                let change = ChangeVolume {
                    name: volume,
                    protected: None,
                    clear: Some(clear),
                    expected: None,
                };
                self.apply(&Command::ChangeVolume(change));
                if clear == Clear::Never {
                    self.made.remove(&uuid);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A volume on one of the disks, and who uses it.
    fn create(&mut self, number: u64, volume: Name) -> Lived<()> {
        self.volumes += 1;
        let uuid = Uuid(self.volumes);
        let create = CreateVolume {
            name: volume.clone(),
            uuid,
            node: name("n", 0)?,
            disk: Some(name("d", number)?),
            sectors: Some(self.rng.between(1, PIECES) * PIECE),
            block_bytes: None,
            clear: [None, Some(Clear::Now), Some(Clear::OnDelete)][self.rng.index(3)],
            clears: true,
            clears_reused: true,
            clears_unknown_past: true,
        };
        let disks = &self.cluster.disks;
        let had_none = |disk: &palisade_model::Disk| !disk.has_had_volumes();
        let is_first = create
            .disk
            .as_ref()
            .and_then(|disk| disks.get(disk))
            .is_some_and(had_none);
        if !self.apply(&Command::CreateVolume(create)) {
            return Ok(());
        }
        self.ordered.insert(uuid);
        self.made.insert(uuid);
        self.seen.first_again += u64::from(is_first && self.seen.restores > 0);
        let attach = CreateAttachment {
            name: name("a", number)?,
            uuid: Uuid(2000 + u128::from(number)),
            volume,
            node: name("n", 0)?,
            socket: format!("/run/palisade/{number}.sock"),
            queues: 1,
            queue_size: 128,
            owner: None,
            group: None,
            mode: 0o660,
            read_only: false,
            serial: None,
            limits: Limits::default(),
            write_cache: true,
        };
        match self.apply(&Command::CreateAttachment(attach)) {
            true => Ok(()),
            false => Err((Invariant::AllOrNothing, "a volume cannot be attached".into())),
        }
    }

    /// What its guests have written is given up.
    fn is_deleted(&mut self, uuid: Uuid) {
        let its = self.written.values_mut().filter(|written| written.volume == uuid);
        its.for_each(|written| written.is_given_up = true);
    }
}

/// The places of the pieces of an extent.
fn pieces(extent: &Extent) -> impl Iterator<Item = (Name, u64)> + use<> {
    let disk = extent.disk.clone();
    let places = (extent.disk_lba..extent.disk_lba + extent.sectors).step_by(PIECE as usize);
    places.map(move |lba| (disk.clone(), lba))
}

fn name(kind: &str, number: u64) -> Lived<Name> {
    Name::new(format!("{kind}{number}")).map_err(|error| (Invariant::AllOrNothing, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scenario in which nothing is held would prove nothing, nor one in which no operator ever answers.
    #[test]
    fn restores_meet_clearings_and_operators_answer() {
        let mut seen = Seen::default();
        for seed in 0..60 {
            let mut world = World::new(Rng::new(seed)).unwrap();
            world.life(&mut RunHash::default()).unwrap();
            seen.restores += world.seen.restores;
            seen.held += world.seen.held;
            seen.confirmed += world.seen.confirmed;
            seen.disks_confirmed += world.seen.disks_confirmed;
            seen.cleared += world.seen.cleared;
            seen.first_again += world.seen.first_again;
        }
        let answered = seen.confirmed.min(seen.disks_confirmed);
        let least = seen.restores.min(seen.held).min(answered);
        assert!(
            least > 20 && seen.cleared > 500 && seen.first_again > 20,
            "{seen:?}"
        );
    }
}
