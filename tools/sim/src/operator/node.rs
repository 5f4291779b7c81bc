//! A node as the daemon has it, on simulated disks: the same planner, the same decision what may be written, the same
//! bytes. Its steps on a disk are cut into single writes, so that the end can come between any two.

use super::name;
use crate::disk::Medium;
use crate::rng::Rng;
use palisade_model::{Cluster, Command, ConfirmSuperblock, RecordCleared, ReleaseDisk};
use palisade_reconcile::{Action, Observed, Opened, Step, Superblock, plan};
use palisade_volume::{
    Bare, Forbidden, Known, Leaving, carried, image, is_first_write_cut_off, is_to_be_erased, renewal,
};
use palisade_wire::{
    AREA_SECTORS, DecodeError, Decoded, SECTOR_4K_BYTES, Sector, SectorWrite, decode, erase,
};
use palisade_words::{Lba, Name, Sectors};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;

/// A disk's medium, which is there whatever the cluster knows of it.
pub(super) struct Drive {
    medium: Medium,
    sectors: u64,
    /// The process that runs has looked at it and was told to take it.
    examined: bool,
}

/// What is under way on a disk: single writes, each group stable before the next.
struct Work {
    step: Step,
    wanted: Cluster,
    phases: VecDeque<VecDeque<SectorWrite>>,
}

/// The node: what the process that runs knows, and its disks.
pub(super) struct Node {
    /// The disks.
    pub drives: BTreeMap<Name, Drive>,
    observed: Observed,
    works: Vec<Work>,
}

impl Drive {
    pub(super) fn new(sectors: u64, block_bytes: u32) -> Drive {
        Drive {
            medium: Medium::new(Sectors(sectors), block_bytes),
            sectors,
            examined: false,
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
        self.examined = true;
    }

    fn sector(&self, lba: palisade_words::Lba) -> Sector {
        let mut sector = [0; SECTOR_4K_BYTES];
        let bytes = self.medium.read(Lba(lba.0), Sectors(8));
        if bytes.len() == sector.len() {
            sector.copy_from_slice(bytes);
        }
        sector
    }

    fn bare(&self, cluster: &Cluster, disk: &Name) -> Bare {
        let ends = [0, self.sectors - AREA_SECTORS];
        let is_zero = |start: u64| {
            let bytes = self.medium.read(Lba(start), Sectors(AREA_SECTORS));
            bytes.iter().all(|byte| *byte == 0)
        };
        Bare {
            pending: is_pending(cluster, disk),
            examined: self.examined,
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
    fn superblock(&self, cluster: &Cluster, disk: &Name) -> Result<Superblock, String> {
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
    pub(super) fn new(drives: BTreeMap<Name, Drive>) -> Node {
        Node {
            drives,
            observed: Observed::default(),
            works: Vec::new(),
        }
    }

    /// The process ends wherever it is, by itself or with the power, and starts anew.
    pub(super) fn restart(&mut self, power: bool, rng: &mut Rng) {
        for drive in self.drives.values_mut() {
            drive.examined = false;
            if power {
                drive.medium.power_cut(rng);
            }
        }
        self.works.clear();
        self.observed = Observed::default();
    }

    /// Whether nothing is under way and nothing left to do.
    pub(super) fn is_at_rest(&self, cluster: &Cluster) -> Result<bool, String> {
        Ok(self.works.is_empty() && plan(cluster, &name("node", 0)?, &self.observed).is_empty())
    }

    /// Whether the disk is open.
    pub(super) fn has_open(&self, disk: &Name) -> bool {
        self.observed.disks.contains_key(disk)
    }

    /// What the node's rule at the door says of a proposal.
    pub(super) fn objects(&self, before: &Cluster, after: &Cluster) -> Result<bool, String> {
        Ok(palisade_reconcile::objection(before, after, &name("node", 0)?, &self.observed).is_some())
    }

    /// One write of something that is under way, or the next steps of the planner. What the cluster is to be told comes
    /// back, with the step that is done once it has been agreed on.
    pub(super) fn turn(&mut self, cluster: &Cluster, rng: &mut Rng) -> Result<Vec<(Command, Step)>, String> {
        if !self.works.is_empty() && !rng.one_in(8) {
            let index = rng.index(self.works.len());
            self.go_on_with(index)?;
            return Ok(Vec::new());
        }
        self.observed.now_ms += 60_000;
        let mut told = Vec::new();
        for step in plan(cluster, &name("node", 0)?, &self.observed) {
            told.extend(self.begin(cluster, step, rng)?);
        }
        Ok(told)
    }

    /// A step has been done whose effect was to tell the cluster something.
    pub(super) fn has_told(&mut self, cluster: &Cluster, step: &Step) {
        self.observed.record(cluster, step, Opened::default());
    }

    fn go_on_with(&mut self, index: usize) -> Result<(), String> {
        let Some(work) = self.works.get_mut(index) else {
            return Ok(());
        };
        let (_, disk) = work.step.action.target();
        let Some(drive) = self.drives.get_mut(disk) else {
            return Err(format!("a step on {disk}, which is no disk"));
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
        let superblock = match work.step.action {
            Action::EraseSuperblock { .. } => Superblock::Missing,
            _ => drive.superblock(&work.wanted, disk)?,
        };
        let Work { step, wanted, .. } = self.works.swap_remove(index);
        self.observed
            .record(&wanted, &step, Opened { index: 0, superblock });
        Ok(())
    }

    fn begin(
        &mut self,
        cluster: &Cluster,
        step: Step,
        rng: &mut Rng,
    ) -> Result<Option<(Command, Step)>, String> {
        let (_, target) = step.action.target();
        if let (Action::OpenDisk { .. }, Some(drive)) = (&step.action, self.drives.get_mut(target)) {
            drive.make_stable();
        }
        let drive = self.drives.get(target);
        match (&step.action, drive) {
            (Action::OpenDisk { disk } | Action::ExamineSuperblock { disk }, Some(drive)) => {
                let superblock = drive.superblock(cluster, disk)?;
                self.observed
                    .record(cluster, &step, Opened { index: 0, superblock });
            }
            (Action::WriteSuperblock { disk }, Some(drive)) => {
                let wanted = image(cluster, disk).map_err(|error| error.to_string())?;
                match renewal(&drive.read(), &wanted, known(cluster, disk), || {
                    drive.bare(cluster, disk)
                }) {
                    Ok(phases) => self.start(step, cluster, phases, rng),
                    Err(
                        Forbidden::Standing(_)
                        | Forbidden::Lost
                        | Forbidden::Older { .. }
                        | Forbidden::EndLost { .. },
                    ) => {
                        let superblock = drive.superblock(cluster, disk)?;
                        self.observed
                            .record(cluster, &step, Opened { index: 0, superblock });
                    }
                    Err(forbidden) => self.observed.record_failure(&step, forbidden.to_string()),
                }
            }
            (Action::EraseSuperblock { disk }, Some(drive)) => {
                match self.is_to_be_erased(cluster, disk, drive)? {
                    true => {
                        let phases = erase(drive.sectors).map_err(|error| error.to_string())?;
                        self.start(step, cluster, phases, rng);
                    }
                    false => self.observed.record(cluster, &step, Opened::default()),
                }
            }
            (Action::ReleaseDisk { disk }, _) => {
                let uuid = cluster.disks.get(disk).map(|disk| disk.uuid).unwrap_or_default();
                let name = disk.clone();
                return Ok(Some((Command::ReleaseDisk(ReleaseDisk { name, uuid }), step)));
            }
            (Action::ConfirmSuperblock { disk }, _) => {
                let uuid = cluster.disks.get(disk).map(|disk| disk.uuid).unwrap_or_default();
                let name = disk.clone();
                return Ok(Some((
                    Command::ConfirmSuperblock(ConfirmSuperblock { name, uuid }),
                    step,
                )));
            }
            (Action::ClearVolume { volume }, _) => {
                // As much of it as is cleared before somebody asks again.
                let Some(clearing) = self.observed.begin_clearing(cluster, volume) else {
                    self.observed.record(cluster, &step, Opened::default());
                    return Ok(None);
                };
                let all: u64 = clearing.extents.iter().map(|extent| extent.sectors).sum();
                let record = RecordCleared {
                    name: volume.clone(),
                    uuid: clearing.uuid,
                    sectors: clearing.start + rng.between(all / 2, all),
                    start: clearing.start,
                };
                return Ok(Some((Command::RecordCleared(record), step)));
            }
            _ => self.observed.record(cluster, &step, Opened::default()),
        }
        Ok(None)
    }

    /// As the daemon decides.
    fn is_to_be_erased(&self, cluster: &Cluster, disk: &Name, drive: &Drive) -> Result<bool, String> {
        let Some(open) = self.observed.disks.get(disk) else {
            return Ok(false);
        };
        let leaving = Leaving::of(cluster, disk, &open.disk, open.touched);
        let read = |lba| Ok::<_, Infallible>(drive.sector(lba));
        is_to_be_erased(&drive.read(), &leaving, drive.sectors, read).map_err(|error| error.to_string())
    }

    fn start(&mut self, step: Step, wanted: &Cluster, phases: Vec<palisade_wire::Phase>, rng: &mut Rng) {
        self.observed.begin(&step);
        let mut phases: VecDeque<VecDeque<SectorWrite>> =
            phases.into_iter().map(|phase| phase.writes.into()).collect();
        for phase in &mut phases {
            rng.shuffle(phase.make_contiguous());
        }
        self.works.push(Work {
            step,
            wanted: wanted.clone(),
            phases,
        });
    }
}
