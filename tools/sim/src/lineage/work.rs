//! What the node does: the control machine's work on the disk, cut into single writes.

use super::{World, name};
use crate::node::Todo;
use palisade_block::Nanos;
use palisade_control::{SuperblockLook, TaskEnd, TaskId, Work};
use palisade_model::{Cluster, Command};
use palisade_reconcile::SuperblockState;
use palisade_volume::{Bare, Forbidden, image, renewal};
use palisade_wire::{Phase, SectorWrite, erase};
use palisade_words::{Lba, Name};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is under way on the disk: single writes, each group stable before the next.
pub(super) struct Writes {
    task: TaskId,
    cluster: Arc<Cluster>,
    disk: Name,
    erases: bool,
    phases: VecDeque<VecDeque<SectorWrite>>,
}

impl World {
    /// Whether nothing is under way, nor on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.works.is_empty() && self.node.is_quiet()
    }

    /// One write of something that is under way, or whatever else the node does: it goes on while others do, as the daemon does.
    pub(super) fn turn(&mut self) -> Result<(), String> {
        let under_way = self.works.len();
        if under_way > 0 && !self.rng.one_in(8) {
            let index = self.rng.index(under_way);
            return self.go_on_with(index);
        }
        self.node.pass(Nanos::from_millis(200));
        let cluster = Arc::clone(&self.running.cluster);
        self.node.look(&cluster);
        loop {
            let cluster = Arc::clone(&self.running.cluster);
            match self.node.next(&cluster)? {
                Some(Todo::Work { task, cluster, work }) => self.begin_work(task, cluster, work)?,
                Some(Todo::StopClearing { .. }) => {}
                None => return self.is_let_out_of_hand(),
            }
        }
    }

    /// One write of a step, or its end.
    fn go_on_with(&mut self, index: usize) -> Result<(), String> {
        if let Some(work) = self.works.get(index).filter(|work| !work.phases.is_empty()) {
            self.is_chosen(what(work.erases))?;
        }
        let Some(work) = self.works.get_mut(index) else {
            return Ok(());
        };
        let erases = work.erases;
        if let Some(phase) = work.phases.front_mut() {
            if let Some(write) = phase.pop_front() {
                self.medium.write(Lba(write.lba.0), &write.bytes, false, || true);
            } else {
                let mark = self.medium.flush_begin();
                self.medium.flush_end(mark);
                work.phases.pop_front();
            }
            return match erases {
                true => self.may_be_erased(),
                false => self.look_at_what_is_carried(),
            };
        }
        let Writes {
            task, cluster, disk, ..
        } = self.works.swap_remove(index);
        let end = match erases {
            true => TaskEnd::Done,
            false => {
                let there = self.superblock_of(&cluster, &disk)?;
                self.keep(there);
                self.is_level(&cluster, &disk);
                TaskEnd::Looked(look(there))
            }
        };
        self.node.finish(task, Ok(end));
        Ok(())
    }

    fn begin_work(&mut self, task: TaskId, cluster: Arc<Cluster>, work: Work) -> Result<(), String> {
        match work {
            Work::OpenDisk { .. } if self.absent => {
                self.node.finish(task, Err("the path leads nowhere".into()));
            }
            Work::OpenDisk { .. } if self.lock.has_owner() => {
                self.node.finish(task, Err("it is locked".into()));
            }
            Work::OpenDisk { disk, .. } => {
                self.lock.open();
                // What is in the disk's cache is made stable before anything is decided by it.
                let mark = self.medium.flush_begin();
                self.medium.flush_end(mark);
                let superblock = self.superblock_of(&cluster, &disk)?;
                self.keep(superblock);
                let level = cluster.disks.get(&disk).map(|disk| disk.superblock_generation());
                self.keep_opened(superblock, level.unwrap_or_default());
                self.is_level(&cluster, &disk);
                self.is_the_same_time(&cluster, &disk)?;
                let opened = TaskEnd::Opened {
                    look: look(superblock),
                    is_agreed: true,
                };
                self.node.finish(task, Ok(opened));
            }
            Work::CloseDevice { .. } => {
                self.lock.close();
                self.node.finish(task, Ok(TaskEnd::Done));
            }
            Work::ExamineSuperblock { disk, .. } => {
                let superblock = self.superblock_of(&cluster, &disk)?;
                self.node.finish(task, Ok(TaskEnd::Looked(look(superblock))));
            }
            Work::WriteSuperblock { disk, examined, .. } => {
                self.write_superblock(task, cluster, disk, examined)?;
            }
            Work::EraseSuperblock {
                disk, known, touched, ..
            } => match self.is_to_be_erased(&cluster, &disk, (&*known, touched)) {
                true => {
                    let phases = erase(self.disk_sectors).map_err(|error| error.to_string())?;
                    self.start(task, cluster, (disk, true), phases)?;
                }
                false => self.node.finish(task, Ok(TaskEnd::Done)),
            },
            Work::Propose { command } => {
                if let Command::ReleaseDisk(release) = &*command {
                    self.is_let_go(release.uuid)?;
                }
                self.apply(&command);
                if matches!(&*command, Command::ReleaseDisk(_)) {
                    self.forget_medium();
                }
                self.node.finish(task, Ok(TaskEnd::Done));
            }
            _ => self.node.finish(task, Ok(TaskEnd::Done)),
        }
        Ok(())
    }

    fn write_superblock(
        &mut self,
        task: TaskId,
        cluster: Arc<Cluster>,
        disk: Name,
        examined: bool,
    ) -> Result<(), String> {
        let wanted = image(&cluster, &disk).map_err(|error| error.to_string())?;
        let found = self.read();
        let bare = || Bare {
            pending: self.is_pending(&cluster, &disk),
            examined,
            blank: self.is_blank(),
            cut_off: self.is_cut_off(&cluster, &disk),
        };
        match renewal(&found, &wanted, self.known(&cluster, &disk), bare) {
            Ok(phases) => self.start(task, cluster, (disk, false), phases)?,
            Err(
                Forbidden::Standing(_)
                | Forbidden::Lost
                | Forbidden::Older { .. }
                | Forbidden::EndLost { .. },
            ) => {
                let superblock = self.superblock_of(&cluster, &disk)?;
                self.node.finish(task, Ok(TaskEnd::Looked(look(superblock))));
            }
            Err(forbidden) => self.node.finish(task, Err(forbidden.to_string())),
        }
        Ok(())
    }

    fn start(
        &mut self,
        task: TaskId,
        cluster: Arc<Cluster>,
        (disk, erases): (Name, bool),
        phases: Vec<Phase>,
    ) -> Result<(), String> {
        let mut phases: VecDeque<VecDeque<SectorWrite>> =
            phases.into_iter().map(|phase| phase.writes.into()).collect();
        for phase in &mut phases {
            self.rng.shuffle(phase.make_contiguous());
        }
        let work = Writes {
            task,
            cluster,
            disk,
            erases,
            phases,
        };
        self.is_known(&work.cluster, &work.disk, work.erases)?;
        self.works.push(work);
        Ok(())
    }

    /// The disk's superblock as it was last known, open or refused.
    pub(super) fn last_read(&self) -> Result<Option<SuperblockState>, String> {
        Ok(self.node.control.observed.last_read(&name("d")?))
    }
}

/// What is written.
pub(super) fn what(erases: bool) -> &'static str {
    match erases {
        true => "an erasure",
        false => "a superblock",
    }
}

fn look(superblock: SuperblockState) -> SuperblockLook {
    SuperblockLook {
        superblock,
        ..SuperblockLook::default()
    }
}
