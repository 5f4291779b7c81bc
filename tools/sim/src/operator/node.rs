//! The node on simulated disks: the control machine ([`SimNode`]), the same decision what may be written, the same bytes.
//! Work on a disk is cut into single writes, so that the end can come between any two.

use super::drive::{Drive, known};
use crate::node::{ServedRoute, SimNode, Todo};
use crate::rng::Rng;
use palisade_block::Nanos;
use palisade_control::{SuperblockLook, TaskEnd, TaskId, Work};
use palisade_model::{Cluster, Command, RecordCleared};
use palisade_reconcile::{SuperblockState, plan};
use palisade_volume::{Forbidden, image, renewal};
use palisade_wire::{SectorWrite, erase};
use palisade_words::{Generation, Lba, Name, Uuid};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What is under way on a disk: single writes, each group stable before the next.
struct Writes {
    task: TaskId,
    cluster: Arc<Cluster>,
    disk: Name,
    erases: bool,
    phases: VecDeque<VecDeque<SectorWrite>>,
}

/// All media, by the names of their disks.
pub(super) type Drives = BTreeMap<Name, Drive>;

/// A node.
pub(super) struct Node {
    name: Name,
    node: SimNode,
    works: Vec<Writes>,
}

impl Node {
    /// One that has just started.
    pub(super) fn new(name: Name, rng: Rng) -> Node {
        Node {
            node: SimNode::new(name.clone(), rng).with_restless_devices(),
            name,
            works: Vec::new(),
        }
    }

    /// The same, whose reactors now and then cannot use a device that they are given.
    pub(super) fn with_unusable_devices(self) -> Node {
        Node {
            node: self.node.with_unusable_devices(),
            ..self
        }
    }

    /// The process ends wherever it is, and another starts, at a generation of the cluster.
    pub(super) fn restart(&mut self, started: Generation) {
        self.works.clear();
        self.node.restart(started);
    }

    /// Whether nothing is under way and nothing left to do.
    pub(super) fn is_at_rest(&self, cluster: &Cluster) -> bool {
        self.node.is_quiet() && self.has_no_steps(cluster)
    }

    /// Whether no step is under way and none left to do, whatever its devices tell of themselves.
    pub(super) fn has_no_steps(&self, cluster: &Cluster) -> bool {
        let control = &self.node.control;
        let is_done = || plan(cluster, &self.name, &control.observed).is_empty();
        self.works.is_empty() && control.under_way.is_empty() && is_done()
    }

    /// Whether the disk is open.
    pub(super) fn has_open(&self, disk: &Name) -> bool {
        self.node.control.observed.disks.contains_key(disk)
    }

    /// What the node's rule at the door says of a proposal.
    pub(super) fn objects(&self, before: &Cluster, after: &Cluster) -> bool {
        let observed = &self.node.control.observed;
        palisade_reconcile::objection(before, after, &self.name, observed).is_some()
    }

    /// The disks that it has open.
    pub(super) fn open_disks(&self) -> impl Iterator<Item = &Name> {
        self.node.open_disks()
    }

    /// What its reactors serve guests by.
    pub(super) fn used(&self) -> impl Iterator<Item = &ServedRoute> {
        self.node.used()
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
        drives: &mut Drives,
        rng: &mut Rng,
    ) -> Result<Vec<(Command, TaskId)>, String> {
        if !self.works.is_empty() && !rng.one_in(8) {
            let index = rng.index(self.works.len());
            self.go_on_with(index, drives)?;
            return Ok(Vec::new());
        }
        self.node.pass(Nanos::from_secs(60));
        self.node.look(cluster);
        let mut told = Vec::new();
        while let Some(todo) = self.node.next(cluster)? {
            if let Todo::Work { task, cluster, work } = todo {
                told.extend(self.begin((task, cluster, work), drives, rng)?);
            }
        }
        Ok(told)
    }

    /// Work has been done.
    pub(super) fn done(&mut self, task: TaskId) {
        self.node.finish(task, Ok(TaskEnd::Done));
    }

    /// Work could not be done.
    pub(super) fn failed(&mut self, task: TaskId, why: String) {
        self.node.finish(task, Err(why));
    }

    fn go_on_with(&mut self, index: usize, drives: &mut Drives) -> Result<(), String> {
        let Some(work) = self.works.get_mut(index) else {
            return Ok(());
        };
        let drive = drive_of(drives, &work.disk)?;
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
        (task, cluster, work): (TaskId, Arc<Cluster>, Work),
        drives: &mut Drives,
        rng: &mut Rng,
    ) -> Result<Option<(Command, TaskId)>, String> {
        match work {
            Work::OpenDisk { disk, .. } => {
                let drive = drive_of(drives, &disk)?;
                drive.make_stable();
                let look = look(drive.superblock(&cluster, &disk)?);
                let is_agreed = true;
                self.node.finish(task, Ok(TaskEnd::Opened { look, is_agreed }));
            }
            Work::ExamineSuperblock { disk, .. } => {
                let look = look(drive_of(drives, &disk)?.superblock(&cluster, &disk)?);
                self.node.finish(task, Ok(TaskEnd::Looked(look)));
            }
            Work::WriteSuperblock { disk, examined, .. } => {
                self.write_superblock((task, cluster, disk), examined, drives, rng)?
            }
            Work::EraseSuperblock {
                disk, known, touched, ..
            } => {
                let drive = drive_of(drives, &disk)?;
                match drive.is_to_be_erased(&cluster, &disk, &known, touched)? {
                    true => {
                        drive.is_of(known.uuid, &self.name)?;
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
        (task, cluster, disk): (TaskId, Arc<Cluster>, Name),
        examined: bool,
        drives: &mut Drives,
        rng: &mut Rng,
    ) -> Result<(), String> {
        let wanted = image(&cluster, &disk).map_err(|error| error.to_string())?;
        let drive = drive_of(drives, &disk)?;
        let bare = || drive.bare(&cluster, &disk, examined);
        match renewal(&drive.read(), &wanted, known(&cluster, &disk), bare) {
            Ok(phases) => {
                let own = cluster.disks.get(&disk).map_or(Uuid::NIL, |disk| disk.uuid);
                drive.is_of(own, &self.name)?;
                self.start_writing(task, (cluster, disk, false), phases, rng);
            }
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

fn drive_of<'a>(drives: &'a mut Drives, disk: &Name) -> Result<&'a mut Drive, String> {
    let drive = drives.get_mut(disk);
    drive.ok_or_else(|| format!("work on {disk}, which is no disk"))
}

fn look(superblock: SuperblockState) -> SuperblockLook {
    SuperblockLook {
        superblock,
        ..SuperblockLook::default()
    }
}
