//! Invariant 15: what a disk carries is written over only by a database that has itself been where the disk is, or by
//! one whose operator has been shown what would be lost.
//!
//! Databases are copied, restored, lost and made anew; one at a time runs on a node, with the daemon's own control
//! machine and its own decision of what may be written. Its steps on the disk are cut into single writes, and anything
//! comes between two of them: a command, the removal of the disk, the end of the process, a power cut, a turned bit,
//! another copy of the database, an older copy of the medium. The checker knows nothing of lineages: it keeps with each
//! database every table that this database ever had, and holds each table that vanishes from the disk against those.

mod copies;
mod decisions;
mod owner;
mod record;
mod removal;
mod restored;
mod work;

use crate::disk::Medium;
use crate::finding::{Findings, Invariant};
use crate::node::SimNode;
use crate::plan::Break;
use crate::rng::{Rng, RunHash};
use owner::Lock;
use palisade_block::Nanos;
use palisade_model::{
    AddDisk, ChangeVolume, Clear, Cluster, Command, CreateVolume, DeleteVolume, GrowVolume, InitCluster,
    Medium as Made, MediumRecord, Usage,
};
use palisade_reconcile::{SuperblockState, objection};
use palisade_volume::{Known, carried, image, is_first_write_cut_off};
use palisade_wire::{
    AREA_SECTORS, DecodeError, Decoded, ExtentRecord, Geometry, SECTOR_4K_BYTES, Sector, decode,
};
use palisade_words::limits::ALLOCATION_UNIT_SECTORS;
use palisade_words::{Generation, Lba, Name, Sectors, Uuid};
use record::Record;
use restored::Restored;
use std::convert::Infallible;
use std::sync::Arc;
use work::Writes;

/// Rounds of planning after which a disk that nothing is wrong with must be as wanted.
const SETTLED_AFTER: usize = 60;

/// Writes in a row that one step may take: the tables and superblocks of a disk, and their wiping.
const WRITES_AT_REST: usize = 1_000;

/// Runs it.
pub fn run(rng: Rng, broken: Option<Break>, findings: &Findings) -> RunHash {
    live(rng, None, broken, findings)
}

/// The same on a node that loses its record of the medium now and then.
pub fn run_unrecorded(rng: Rng, broken: Option<Break>, findings: &Findings) -> RunHash {
    let losing = rng.split("losing");
    live(rng, Some(losing), broken, findings)
}

fn live(mut rng: Rng, losing: Option<Rng>, broken: Option<Break>, findings: &Findings) -> RunHash {
    let mut hash = RunHash::default();
    let (first, node) = match begin(&mut rng).and_then(|first| Ok((first, name("n")?))) {
        Ok(both) => both,
        Err(what) => {
            findings.add(Invariant::OneLineage, Nanos(0), what);
            return hash;
        }
    };
    let mut world = World::new(first, node, rng, broken);
    world.record = Record::new(losing);
    if let Err(what) = world.life(&mut hash) {
        findings.add(world.lock.is_about(), Nanos(0), what);
    }
    hash
}

/// A table of extents, and nothing else.
type Table = Vec<ExtentRecord>;

/// A cluster database with all that it has ever said of the disk.
#[derive(Clone)]
struct Database {
    cluster: Arc<Cluster>,
    been: Vec<Table>,
    /// The generations of the disk that it has been at, each by its mark: tables of two databases may say the same.
    marks: Vec<palisade_words::Ancestor>,
    /// The generation that the medium carried when it was last taken as it was found.
    taken: Option<Generation>,
}

struct World {
    medium: Medium,
    disk_sectors: u64,
    running: Database,
    kept: Vec<Database>,
    node: SimNode,
    /// Steps under way on the disk. The control machine says when another may begin; nothing here holds it back.
    works: Vec<Writes>,
    /// The table that the disk was last seen to carry.
    carried: Table,
    /// The path leads nowhere at present.
    absent: bool,
    /// What the node keeps of the superblock that was last on the medium: outlives the process.
    record: Record,
    /// The generation that the node last knew to be there, for the check, which loses nothing.
    last: Option<Generation>,
    /// Configurations that the node has known to be on the medium, since the beginning.
    known: u64,
    /// The latest of those.
    counted: Option<palisade_words::Ancestor>,
    /// A copy of the medium, with the number of those by then.
    copy: Option<(Medium, u64)>,
    /// An older copy is in the disk's place and its operator has not chosen: nothing may be written to it.
    left: Option<Restored>,
    /// A bit of a superblock has turned since the medium was wiped.
    turned: bool,
    /// Who has the medium.
    lock: Lock,
    rng: Rng,
}

fn begin(rng: &mut Rng) -> Result<Database, String> {
    let init = InitCluster {
        id: Uuid(u128::from(rng.bits()) + 1),
        node: name("n")?,
        node_uuid: Uuid(2),
    };
    let cluster = Cluster::empty().apply(&Command::InitCluster(init));
    let (cluster, _) = cluster.map_err(|refusal| refusal.to_string())?;
    Ok(Database {
        cluster: Arc::new(cluster),
        been: vec![Vec::new()],
        marks: Vec::new(),
        taken: None,
    })
}

impl World {
    fn new(first: Database, node: Name, mut rng: Rng, broken: Option<Break>) -> World {
        let disk_sectors = Geometry::LEAST_SECTORS + 3 * ALLOCATION_UNIT_SECTORS;
        let block_bytes = if rng.one_in(2) { 512 } else { 4096 };
        World {
            medium: Medium::new(Sectors(disk_sectors), block_bytes),
            disk_sectors,
            running: first,
            kept: Vec::new(),
            node: SimNode::new(node, rng.split("node")),
            works: Vec::new(),
            carried: Vec::new(),
            absent: false,
            record: Record::default(),
            last: None,
            known: 0,
            counted: None,
            copy: None,
            left: None,
            turned: false,
            lock: Lock::new(broken),
            rng,
        }
    }

    fn life(&mut self, hash: &mut RunHash) -> Result<(), String> {
        self.add_disk(1)?;
        for _ in 0..self.rng.between(30, 150) {
            match self.rng.below(100) {
                0..55 => self.turn()?,
                55..75 => self.command()?,
                75..77 => self.owner_comes()?,
                77..80 => self.kept.push(self.running.clone()),
                80..86 => self.restart(false)?,
                86..90 => self.other_database()?,
                90..93 => self.restart(true)?,
                93..95 => self.turn_a_bit(),
                95..97 => self.adopt()?,
                97..98 => self.import()?,
                98..99 => self.restore_medium()?,
                _ => self.remove_and_add()?,
            }
            self.record.may_be_lost();
            hash.add([self.running.cluster.generation.0, self.rng.bits()]);
        }
        self.come_to_rest()
    }

    /// When nothing more happens, the disk is as wanted, or the operator is told why not.
    fn come_to_rest(&mut self) -> Result<(), String> {
        self.restart(false)?;
        for _ in 0..SETTLED_AFTER {
            self.node.pass(Nanos::from_secs(60));
            self.turn()?;
            for _ in 0..WRITES_AT_REST {
                if self.is_idle() {
                    break;
                }
                self.turn()?;
            }
            if !self.works.is_empty() {
                let found = self
                    .read()
                    .map(|found| (found.damage, found.superblock, found.sound));
                return Err(format!(
                    "at rest the superblock is written again and again: {found:?}"
                ));
            }
        }
        let disk = name("d")?;
        let Some(wanted) = self.running.cluster.disks.get(&disk) else {
            return Ok(());
        };
        if wanted.leaving {
            return Err("at rest the disk is still leaving".into());
        }
        let known = self.node.control.observed.last_read(&disk);
        let known = known.ok_or("the disk is neither open nor refused at rest")?;
        let generation = wanted.superblock_generation();
        let in_force = SuperblockState::Ours {
            generation,
            flawed: false,
        };
        match known {
            found if found == in_force && wanted.first_superblock.is_on_medium() => self.is_whole(),
            SuperblockState::Newer { .. } | SuperblockState::Diverged { .. } | SuperblockState::Foreign => {
                Ok(())
            }
            SuperblockState::Older { .. }
                if self.left.is_some() || self.is_asked_about(&self.running.cluster, &disk) =>
            {
                Ok(())
            }
            SuperblockState::Missing | SuperblockState::Damaged
                if self.read().is_err() && wanted.first_superblock.is_on_medium() =>
            {
                Ok(())
            }
            // A bit has turned in what was left of copies, before there were others.
            SuperblockState::Damaged if self.read().is_err() && self.turned => Ok(()),
            // The operator is told, and nobody is served.
            SuperblockState::EndLost { tail, .. } if self.is_end_gone(tail) => Ok(()),
            // Another database has used the medium meanwhile: it is not the one that was looked at when the disk was added.
            SuperblockState::Missing | SuperblockState::Damaged
                if self.has_remains_of_another(wanted.uuid) =>
            {
                Ok(())
            }
            other => Err(format!(
                "at rest the disk is stuck: {other:?}, {:?}, {:?}, blank {}",
                wanted.first_superblock,
                self.node.control.observed.failures,
                self.is_blank()
            )),
        }
    }

    /// What the database says is what the disk says, in all copies.
    fn is_whole(&mut self) -> Result<(), String> {
        let found = self.read().map_err(|error| error.to_string())?;
        let wanted = image(&self.running.cluster, &name("d")?).map_err(|error| error.to_string())?;
        match found.extents == wanted.extents && found.damage.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "at rest the disk does not say what it should: {:?}",
                found.damage
            )),
        }
    }

    /// What the planner is told of a superblock, as the daemon tells it.
    fn superblock_of(&mut self, cluster: &Cluster, disk: &Name) -> Result<SuperblockState, String> {
        let wanted = image(cluster, disk).map_err(|error| error.to_string())?;
        let known = self.known(cluster, disk);
        carried(&self.read(), &wanted, known, || self.is_cut_off(cluster, disk))
            .map_err(|error| error.to_string())
    }

    fn known(&self, cluster: &Cluster, disk: &Name) -> Known {
        let Some(disk) = cluster.disks.get(disk) else {
            return Known::NOTHING;
        };
        let known = Known {
            last: self.record.of(disk),
            ..Known::NOTHING
        };
        known.of(disk)
    }

    fn is_pending(&self, cluster: &Cluster, disk: &Name) -> bool {
        cluster
            .disks
            .get(disk)
            .is_some_and(|disk| !disk.first_superblock.is_on_medium())
    }

    fn is_cut_off(&self, cluster: &Cluster, disk: &Name) -> bool {
        let read = |lba| Ok::<_, Infallible>(self.sector(lba));
        let disk = cluster.disks.get(disk);
        disk.is_some_and(|disk| is_first_write_cut_off(cluster, disk, self.disk_sectors, read))
    }

    /// Whether no copy of a superblock begins at one end.
    fn is_end_gone(&self, tail: bool) -> bool {
        let start = match tail {
            true => Geometry::of(self.disk_sectors).map_or(0, |geometry| geometry.tail.0),
            false => 0,
        };
        let is_there = |at: u64| {
            self.sector(palisade_words::Lba(start + at))
                .starts_with(&palisade_wire::MAGIC)
        };
        ![0, 128].into_iter().any(is_there)
    }

    fn is_blank(&self) -> bool {
        let ends = [0, self.disk_sectors - 2048].map(|start| self.medium.read(Lba(start), Sectors(2048)));
        ends.iter().all(|bytes| bytes.iter().all(|byte| *byte == 0))
    }

    fn sector(&self, lba: palisade_words::Lba) -> Sector {
        let mut sector = [0; SECTOR_4K_BYTES];
        let bytes = self.medium.read(Lba(lba.0), Sectors(8));
        if bytes.len() == sector.len() {
            sector.copy_from_slice(bytes);
        }
        sector
    }

    fn read(&self) -> Result<Decoded, DecodeError> {
        decode(self.disk_sectors, |lba| Ok::<_, Infallible>(self.sector(lba)))
    }

    /// The check: a table that is gone from the disk was one that the database which runs has had itself.
    fn look_at_what_is_carried(&mut self) -> Result<(), String> {
        let Ok(found) = self.read() else { return Ok(()) };
        if found.extents == self.carried {
            return Ok(());
        }
        if !self.has_had_what_is_carried() {
            let names = |table: &Table| -> Vec<String> {
                table
                    .iter()
                    .map(|extent| extent.volume_name.to_string())
                    .collect()
            };
            return Err(format!(
                "a table that this database never had ({:?}) was written over by {:?}, generation {}",
                names(&self.carried),
                names(&found.extents),
                found.superblock.generation
            ));
        }
        self.carried = found.extents;
        Ok(())
    }

    fn has_had_what_is_carried(&self) -> bool {
        self.running.been.contains(&self.carried)
    }

    /// The same of an erasure. Copies of before that come to light while the later ones go are what those were written over.
    fn may_be_erased(&mut self) -> Result<(), String> {
        if !self.has_had_what_is_carried() {
            return Err("a table that this database never had is erased".into());
        }
        if self.read().is_err() {
            self.carried = Vec::new();
        }
        Ok(())
    }

    /// Agrees on a command, and notes what the database then says of the disk.
    fn apply(&mut self, command: &Command) -> bool {
        let Ok((next, _)) = self.running.cluster.apply(command) else {
            return false;
        };
        self.running.cluster = Arc::new(next);
        self.note_table();
        true
    }

    fn note_table(&mut self) {
        let Ok(disk) = name("d") else { return };
        let Ok(image) = image(&self.running.cluster, &disk) else {
            return;
        };
        if !self.running.been.contains(&image.extents) {
            self.running.been.push(image.extents);
        }
        self.running.marks.push(image.superblock.point());
    }

    /// An operator's command, refused at the door where the node's own rule refuses it.
    fn command(&mut self) -> Result<(), String> {
        let volume = name(&format!("v{}", self.rng.below(4)))?;
        let sectors = self.rng.between(1, 2) * ALLOCATION_UNIT_SECTORS;
        let command = match self.rng.below(7) {
            // Nothing of the disk's: the number of the configuration grows, and no superblock with it.
            5.. => Command::ChangeVolume(ChangeVolume {
                name: volume,
                protected: None,
                clear: Some(if self.rng.one_in(2) {
                    Clear::Never
                } else {
                    Clear::OnDelete
                }),
                expected: None,
            }),
            0..3 => Command::CreateVolume(CreateVolume {
                name: volume,
                uuid: Uuid(u128::from(self.rng.bits()) + 1),
                node: name("n")?,
                disk: Some(name("d")?),
                sectors: Some(sectors),
                block_bytes: Some(4096),
                clear: None,
                clears: false,
                clears_reused: false,
                clears_unknown_past: false,
            }),
            3 => Command::GrowVolume(GrowVolume {
                name: volume,
                sectors,
                disk: None,
                expected: None,
                clears: false,
            }),
            _ => Command::DeleteVolume(DeleteVolume {
                name: volume,
                expected: None,
                clear: Some(false),
                detaches: false,
            }),
        };
        let before = &self.running.cluster;
        if let Ok((after, _)) = before.apply(&command)
            && objection(before, &after, &name("n")?, &self.node.control.observed).is_none()
        {
            self.apply(&command);
        }
        Ok(())
    }

    fn add_disk(&mut self, uuid: u128) -> Result<(), String> {
        let geometry = Geometry::of(self.disk_sectors).map_err(|error| error.to_string())?;
        // What `disk add` looks at: a medium that somebody has open is not taken, be it the node for the disk before, nor one
        // that carries a superblock.
        if self.lock.is_held() || !matches!(self.read(), Err(DecodeError::NotOurs)) {
            return Ok(());
        }
        // What it finds else it takes by force, which wipes both ends.
        for start in [0, geometry.tail.0] {
            let end = start + AREA_SECTORS;
            for lba in (start..end)
                .step_by(8)
                .filter(|lba| self.sector(palisade_words::Lba(*lba)) != [0; SECTOR_4K_BYTES])
                .collect::<Vec<_>>()
            {
                self.medium.write(Lba(lba), &[0; SECTOR_4K_BYTES], true, || true);
            }
        }
        self.turned = false;
        let add = self.as_added(uuid, &geometry)?;
        if self.apply(&Command::AddDisk(add)) {
            self.carried = Vec::new();
            self.running.taken = None;
        }
        Ok(())
    }

    fn as_added(&self, uuid: u128, geometry: &Geometry) -> Result<AddDisk, String> {
        Ok(AddDisk {
            name: name("d")?,
            uuid: Uuid(uuid),
            node: name("n")?,
            medium: Made::File {
                path: "/d".into(),
                bytes: self.disk_sectors * 512,
                created: true,
            },
            record: MediumRecord::default(),
            usage: Usage::Pooled,
            block_bytes: 512,
            sectors: self.disk_sectors,
            data_start: geometry.data_start.0,
            data_end: geometry.data_end.0,
            superblock_pending: true,
        })
    }

    /// The process ends, by itself or with the power, and starts again with the same database.
    fn restart(&mut self, power: bool) -> Result<(), String> {
        if power {
            self.medium.power_cut(&mut self.rng);
        }
        self.works.clear();
        self.lock.end();
        self.record.end();
        self.node.restart(self.running.cluster.generation);
        let Ok(found) = self.read() else { return Ok(()) };
        // After a cut the disk may carry what it carried before.
        self.carried = found.extents;
        Ok(())
    }

    /// One bit of one copy of the superblock.
    fn turn_a_bit(&mut self) {
        if !self.works.is_empty() {
            return;
        }
        // The last sector of the disk's copies in the head, where one of two lies.
        let lba = palisade_words::Lba(128 * self.rng.below(2));
        let mut sector = self.sector(lba);
        // One that was never written is no copy of anything.
        if sector == [0; SECTOR_4K_BYTES] {
            return;
        }
        let before = self.read().map(|found| found.superblock.point());
        let at = self.rng.index(sector.len());
        if let Some(byte) = sector.get_mut(at) {
            *byte ^= 1 << self.rng.below(8);
        }
        self.medium.write(Lba(lba.0), &sector, true, || true);
        self.turned = true;
        if let Ok(found) = self.read() {
            self.carried = found.extents;
        }
        if before != self.read().map(|found| found.superblock.point()) {
            self.has_turned();
        }
    }
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}
