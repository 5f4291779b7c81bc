//! The node on simulated disks: the control machine ([`SimNode`]), the same decision what may be written, the same bytes.
//! Work on a disk is cut into single writes, so that the end can come between any two.

use super::name;
use crate::disk::Medium;
use crate::node::{SimNode, Todo};
use crate::rng::Rng;
use palisade_block::Nanos;
use palisade_control::{SuperblockLook, TaskEnd, TaskId, Work};
use palisade_model::{Cluster, Command, Disk, RecordCleared};
use palisade_reconcile::{SuperblockState, plan};
use palisade_volume::{
    Bare, Forbidden, Known, Leaving, carried, image, is_first_write_cut_off, is_to_be_erased, renewal,
};
use palisade_wire::{
    AREA_SECTORS, DecodeError, Decoded, SECTOR_4K_BYTES, Sector, SectorWrite, decode, erase,
};
use palisade_words::{Generation, Lba, Name, Sectors};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

/// A disk's medium, which is there whatever the cluster knows of it.
pub(super) struct Drive {
    medium: Medium,
    sectors: u64,
}

/// What is under way on a disk: single writes, each group stable before the next.
struct Writes {
    task: TaskId,
    cluster: Arc<Cluster>,
    disk: Name,
    erases: bool,
    phases: VecDeque<VecDeque<SectorWrite>>,
}

/// The node and its disks.
pub(super) struct Node {
    /// The disks.
    pub drives: BTreeMap<Name, Drive>,
    node: SimNode,
    works: Vec<Writes>,
}

impl Drive {
    pub(super) fn new(sectors: u64, block_bytes: u32) -> Drive {
        Drive {
            medium: Medium::new(Sectors(sectors), block_bytes),
            sectors,
        }
    }

    /// What is there, as a daemon that starts finds it.
    pub(super) fn read(&self) -> Result<Decoded, DecodeError> {
        decode(self.sectors, |lba| Ok::<_, Infallible>(self.sector(lba)))
    }

    /// The disk is added: both ends are wiped of what a torn erasure has left.
    pub(super) fn take(&mut self) {
        for start in [0, self.sectors - AREA_SECTORS] {
            for lba in (start..start + AREA_SECTORS).step_by(8) {
                if self.sector(palisade_words::Lba(lba)) != [0; SECTOR_4K_BYTES] {
                    self.medium.write(Lba(lba), &[0; SECTOR_4K_BYTES], true, || true);
                }
            }
        }
    }

    fn sector(&self, lba: palisade_words::Lba) -> Sector {
        let mut sector = [0; SECTOR_4K_BYTES];
        let bytes = self.medium.read(Lba(lba.0), Sectors(8));
        if bytes.len() == sector.len() {
            sector.copy_from_slice(bytes);
        }
        sector
    }

    fn bare(&self, cluster: &Cluster, disk: &Name, examined: bool) -> Bare {
        let ends = [0, self.sectors - AREA_SECTORS];
        let is_zero = |start: u64| {
            let bytes = self.medium.read(Lba(start), Sectors(AREA_SECTORS));
            bytes.iter().all(|byte| *byte == 0)
        };
        Bare {
            pending: is_pending(cluster, disk),
            examined,
            blank: ends.into_iter().all(is_zero),
            cut_off: self.is_cut_off(cluster, disk),
        }
    }

    fn is_cut_off(&self, cluster: &Cluster, disk: &Name) -> bool {
        let read = |lba| Ok::<_, Infallible>(self.sector(lba));
        let disk = cluster.disks.get(disk);
        disk.is_some_and(|disk| is_first_write_cut_off(cluster, disk, self.sectors, read))
    }

    /// What a process that was killed has left in the device's cache is stable before anybody relies on it.
    fn make_stable(&mut self) {
        let mark = self.medium.flush_begin();
        self.medium.flush_end(mark);
    }

    /// What the planner is told of a superblock, as the daemon tells it.
    fn superblock(&self, cluster: &Cluster, disk: &Name) -> Result<SuperblockState, String> {
        let wanted = image(cluster, disk).map_err(|error| error.to_string())?;
        carried(&self.read(), &wanted, known(cluster, disk), || {
            self.is_cut_off(cluster, disk)
        })
        .map_err(|error| error.to_string())
    }
}

fn known(cluster: &Cluster, disk: &Name) -> Known {
    let disk = cluster.disks.get(disk);
    disk.map_or(Known::NOTHING, |disk| Known::NOTHING.of(disk))
}

fn is_pending(cluster: &Cluster, disk: &Name) -> bool {
    let found = cluster.disks.get(disk);
    found.is_some_and(|disk| !disk.first_superblock.is_on_medium())
}

impl Node {
    pub(super) fn new(drives: BTreeMap<Name, Drive>, rng: &Rng) -> Result<Node, String> {
        Ok(Node {
            drives,
            node: SimNode::new(name("node", 0)?, rng.split("node")).with_restless_devices(),
            works: Vec::new(),
        })
    }

    /// The process ends wherever it is, by itself or with the power.
    pub(super) fn end(&mut self, power: bool, rng: &mut Rng) {
        for drive in self.drives.values_mut() {
            if power {
                drive.medium.power_cut(rng);
            }
        }
        self.works.clear();
    }

    /// Another starts, at a generation of the cluster.
    pub(super) fn start(&mut self, started: Generation) {
        self.node.restart(started);
    }

    /// Whether nothing is under way and nothing left to do.
    pub(super) fn is_at_rest(&self, cluster: &Cluster) -> Result<bool, String> {
        let is_planned = || Ok::<_, String>(plan(cluster, &name("node", 0)?, &self.node.control.observed));
        Ok(self.works.is_empty() && self.node.is_quiet() && is_planned()?.is_empty())
    }

    /// Whether the disk is open.
    pub(super) fn has_open(&self, disk: &Name) -> bool {
        self.node.control.observed.disks.contains_key(disk)
    }

    /// What the node's rule at the door says of a proposal.
    pub(super) fn objects(&self, before: &Cluster, after: &Cluster) -> Result<bool, String> {
        let observed = &self.node.control.observed;
        Ok(palisade_reconcile::objection(before, after, &name("node", 0)?, observed).is_some())
    }

    /// How often something was told twice.
    #[cfg(test)]
    pub(super) fn told_twice(&self) -> u64 {
        self.node.told_twice
    }

    /// One write of something that is under way, or whatever else the node does. What the cluster is to be told comes back, with
    /// the task that is done once it has been agreed on.
    pub(super) fn turn(
        &mut self,
        cluster: &Arc<Cluster>,
        rng: &mut Rng,
    ) -> Result<Vec<(Command, TaskId)>, String> {
        if !self.works.is_empty() && !rng.one_in(8) {
            let index = rng.index(self.works.len());
            self.go_on_with(index)?;
            return Ok(Vec::new());
        }
        self.node.pass(Nanos::from_secs(60));
        self.node.look(cluster);
        let mut told = Vec::new();
        while let Some(todo) = self.node.next(cluster)? {
            if let Todo::Work { task, cluster, work } = todo {
                told.extend(self.begin(task, cluster, work, rng)?);
            }
        }
        Ok(told)
    }

    /// Work has been done.
    pub(super) fn done(&mut self, task: TaskId) {
        self.node.finish(task, Ok(TaskEnd::Done));
    }

    fn go_on_with(&mut self, index: usize) -> Result<(), String> {
        let Some(work) = self.works.get_mut(index) else {
            return Ok(());
        };
        let Some(drive) = self.drives.get_mut(&work.disk) else {
            return Err(format!("work on {}, which is no disk", work.disk));
        };
        if let Some(phase) = work.phases.front_mut() {
            if let Some(write) = phase.pop_front() {
                drive.medium.write(Lba(write.lba.0), &write.bytes, false, || true);
            } else {
                let mark = drive.medium.flush_begin();
                drive.medium.flush_end(mark);
                work.phases.pop_front();
            }
            return Ok(());
        }
        let end = match work.erases {
            true => TaskEnd::Done,
            false => TaskEnd::Looked(look(drive.superblock(&work.cluster, &work.disk)?)),
        };
        let work = self.works.swap_remove(index);
        self.node.finish(work.task, Ok(end));
        Ok(())
    }

    fn begin(
        &mut self,
        task: TaskId,
        cluster: Arc<Cluster>,
        work: Work,
        rng: &mut Rng,
    ) -> Result<Option<(Command, TaskId)>, String> {
        match work {
            Work::OpenDisk { disk, .. } => {
                let drive = self.drive(&disk)?;
                drive.make_stable();
                let look = look(drive.superblock(&cluster, &disk)?);
                let is_agreed = true;
                self.node.finish(task, Ok(TaskEnd::Opened { look, is_agreed }));
            }
            Work::ExamineSuperblock { disk, .. } => {
                let look = look(self.drive(&disk)?.superblock(&cluster, &disk)?);
                self.node.finish(task, Ok(TaskEnd::Looked(look)));
            }
            Work::WriteSuperblock { disk, examined, .. } => {
                self.write_superblock(task, cluster, disk, examined, rng)?
            }
            Work::EraseSuperblock {
                disk, known, touched, ..
            } => {
                let drive = self.drive(&disk)?;
                match drive.is_to_be_erased(&cluster, &disk, &known, touched)? {
                    true => {
                        let phases = erase(drive.sectors).map_err(|error| error.to_string())?;
                        self.start_writing(task, (cluster, disk, true), phases, rng);
                    }
                    false => self.done(task),
                }
            }
            Work::Propose { command } => return Ok(Some((*command, task))),
            Work::ClearSpace {
                volume,
                uuid,
                start,
                extents,
            } => {
                // As much of it as is cleared before somebody asks again.
                let all: u64 = extents.iter().map(|extent| extent.sectors).sum();
                let record = RecordCleared {
                    name: volume,
                    uuid,
                    sectors: start + rng.between(all / 2, all),
                    start,
                };
                return Ok(Some((Command::RecordCleared(record), task)));
            }
            _ => self.done(task),
        }
        Ok(None)
    }

    fn write_superblock(
        &mut self,
        task: TaskId,
        cluster: Arc<Cluster>,
        disk: Name,
        examined: bool,
        rng: &mut Rng,
    ) -> Result<(), String> {
        let wanted = image(&cluster, &disk).map_err(|error| error.to_string())?;
        let drive = self.drive(&disk)?;
        let bare = || drive.bare(&cluster, &disk, examined);
        match renewal(&drive.read(), &wanted, known(&cluster, &disk), bare) {
            Ok(phases) => self.start_writing(task, (cluster, disk, false), phases, rng),
            Err(
                Forbidden::Standing(_)
                | Forbidden::Lost
                | Forbidden::Older { .. }
                | Forbidden::EndLost { .. },
            ) => {
                let look = look(drive.superblock(&cluster, &disk)?);
                self.node.finish(task, Ok(TaskEnd::Looked(look)));
            }
            Err(forbidden) => self.node.finish(task, Err(forbidden.to_string())),
        }
        Ok(())
    }

    fn drive(&mut self, disk: &Name) -> Result<&mut Drive, String> {
        let drive = self.drives.get_mut(disk);
        drive.ok_or_else(|| format!("work on {disk}, which is no disk"))
    }

    fn start_writing(
        &mut self,
        task: TaskId,
        (cluster, disk, erases): (Arc<Cluster>, Name, bool),
        phases: Vec<palisade_wire::Phase>,
        rng: &mut Rng,
    ) {
        let mut phases: VecDeque<VecDeque<SectorWrite>> =
            phases.into_iter().map(|phase| phase.writes.into()).collect();
        for phase in &mut phases {
            rng.shuffle(phase.make_contiguous());
        }
        self.works.push(Writes {
            task,
            cluster,
            disk,
            erases,
            phases,
        });
    }
}

impl Drive {
    /// As the daemon decides.
    fn is_to_be_erased(
        &self,
        cluster: &Cluster,
        disk: &Name,
        known: &Disk,
        touched: bool,
    ) -> Result<bool, String> {
        let leaving = Leaving::of(cluster, disk, known, touched);
        let read = |lba| Ok::<_, Infallible>(self.sector(lba));
        is_to_be_erased(&self.read(), &leaving, self.sectors, read).map_err(|error| error.to_string())
    }
}

fn look(superblock: SuperblockState) -> SuperblockLook {
    SuperblockLook {
        superblock,
        ..SuperblockLook::default()
    }
}
