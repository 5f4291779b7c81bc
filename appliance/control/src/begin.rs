//! The beginnings of steps: each is either done at once, or begun outside and followed.

use crate::attachment::{Offered, pace};
use crate::control::{Control, Turn};
use crate::disk::Returning;
use crate::effect::{DoorChange, Effect, LogEntry, Work};
use crate::task::StepPhase;
use palisade_block::mailbox::ReactorChange;
use palisade_model::{Cluster, Command, ConfirmSuperblock, Disk, ReleaseDisk};
use palisade_reconcile::{Action, Step, StepOutcome};
use palisade_words::{DeviceIndex, Name, Sectors, VolumeIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Control {
    /// Begins a step of a plan that was made from the present cluster, and ends it at once where that can be.
    pub(crate) fn begin(&mut self, step: Step, turn: &mut Turn<'_>) {
        turn.log(LogEntry::Begun { step: step.clone() });
        let cluster = turn.cluster;
        match step.action.clone() {
            Action::OpenDisk { disk } => self.open_disk(step, disk, turn),
            Action::WriteSuperblock { disk } => {
                let seen = |found: &Disk| {
                    found.created > self.state.started || self.state.renewed.contains(&found.uuid)
                };
                let examined = cluster.disks.get(&disk).is_some_and(seen);
                self.on_device(step, disk, turn, |disk, device| Work::WriteSuperblock {
                    disk,
                    device,
                    examined,
                });
            }
            Action::ExamineSuperblock { disk } => {
                self.on_device(step, disk, turn, |disk, device| Work::ExamineSuperblock {
                    disk,
                    device,
                });
            }
            Action::EraseSuperblock { disk } => self.erase_superblock(step, disk, turn),
            Action::ConfirmSuperblock { disk } => self.confirm_superblock(step, disk, turn),
            Action::ReleaseDisk { disk } => self.release_disk(step, disk, turn),
            Action::GrowDisk { disk } => {
                let sectors = Sectors(cluster.disks.get(&disk).map_or(0, |disk| disk.sectors));
                self.on_device(step, disk, turn, |disk, device| Work::GrowDisk {
                    disk,
                    device,
                    sectors,
                });
            }
            Action::CloseDisk { disk } => self.close_disk(step, &disk, turn),
            Action::SetRoute { volume } => self.set_route(step, &volume, turn),
            Action::ClearRoute { volume } => self.clear_route(step, &volume, turn),
            Action::ClearVolume { volume } => self.clear_volume(step, volume, turn),
            Action::StopClearing { volume } => {
                turn.effects.push(Effect::StopClearing { volume });
                self.done(&step, cluster, turn);
            }
            Action::OfferSocket { attachment } | Action::ReopenSocket { attachment }
                if !self.state.attachments.contains_key(&attachment) =>
            {
                self.offer(step, cluster, &attachment, turn);
            }
            Action::OfferSocket { attachment }
            | Action::ReopenSocket { attachment }
            | Action::WithdrawSocket { attachment } => self.withdraw(step, &attachment, turn),
            Action::ResizeVolume { attachment } => self.resize(&step, &attachment, turn),
            Action::ChangeLimits { attachment } => self.change_limits(&step, &attachment, turn),
            Action::ChangeSocketPermissions { attachment } => {
                self.start(step, cluster, Work::ChangeSocketPermissions { attachment }, turn);
            }
        }
    }

    /// Ends a step of which there is nothing to do, or nothing more.
    pub(crate) fn done(&mut self, step: &Step, cluster: &Cluster, turn: &mut Turn<'_>) {
        self.end(step, cluster, Ok(StepOutcome::default()), turn);
    }

    fn open_disk(&mut self, step: Step, disk: Name, turn: &mut Turn<'_>) {
        // The first try is a short one, so that a disk that a predecessor's requests still hold is named soon; and so is a
        // look at one that may not be used, whose owner may have it.
        let is_again = self.state.observed.refused.contains_key(&disk);
        let is_first = !self.state.observed.failures.contains_key(&step.action);
        let work = Work::OpenDisk {
            disk,
            is_short: is_first || is_again,
            is_again,
        };
        self.start(step, turn.cluster, work, turn);
    }

    /// Begins work on the device of an open disk.
    fn on_device(
        &mut self,
        step: Step,
        disk: Name,
        turn: &mut Turn<'_>,
        work: impl FnOnce(Name, DeviceIndex) -> Work,
    ) {
        match self.state.disks.get(&disk).map(|open| open.index) {
            Some(device) => self.start(step, turn.cluster, work(disk, device), turn),
            None => {
                let reason = format!("disk {disk} is not open");
                self.end(&step, turn.cluster, Err(reason), turn);
            }
        }
    }

    fn erase_superblock(&mut self, step: Step, disk: Name, turn: &mut Turn<'_>) {
        let open = self.state.disks.get(&disk).map(|open| open.index);
        match open.zip(self.state.observed.disks.get(&disk)) {
            Some((device, known)) => {
                let work = Work::EraseSuperblock {
                    disk,
                    device,
                    known: Box::new(known.disk.clone()),
                    touched: known.touched,
                };
                self.start(step, turn.cluster, work, turn);
            }
            None => self.done(&step, turn.cluster, turn),
        }
    }

    /// Tells the cluster that a disk's first superblock is on the medium.
    fn confirm_superblock(&mut self, step: Step, name: Name, turn: &mut Turn<'_>) {
        let Some(uuid) = turn.cluster.disks.get(&name).map(|disk| disk.uuid) else {
            return self.done(&step, turn.cluster, turn);
        };
        self.state.renewed.remove(&uuid);
        let command = Box::new(Command::ConfirmSuperblock(ConfirmSuperblock { name, uuid }));
        self.start(step, turn.cluster, Work::Propose { command }, turn);
    }

    /// Tells the cluster that the medium of a disk that leaves has been let go.
    fn release_disk(&mut self, step: Step, name: Name, turn: &mut Turn<'_>) {
        let Some(uuid) = turn.cluster.disks.get(&name).map(|disk| disk.uuid) else {
            return self.done(&step, turn.cluster, turn);
        };
        let command = Box::new(Command::ReleaseDisk(ReleaseDisk { name, uuid }));
        self.start(step, turn.cluster, Work::Propose { command }, turn);
    }

    fn close_disk(&mut self, step: Step, disk: &Name, turn: &mut Turn<'_>) {
        let Some(open) = self.state.disks.get_mut(disk) else {
            return self.done(&step, turn.cluster, turn);
        };
        let device = open.index;
        // Those that have let go of it already, because another was to take its place, will not say so again.
        if let Some(Returning { task, awaited }) = open.returning.take() {
            return self.enter_as(
                task,
                step,
                turn.cluster,
                (StepPhase::Reactors, device.0, awaited),
                turn.now,
            );
        }
        let task = self.enter(step, turn.cluster, (StepPhase::Reactors, device.0), turn.now);
        self.tell_all(Some(task), &ReactorChange::CloseDevice { device }, turn);
    }

    fn set_route(&mut self, step: Step, name: &Name, turn: &mut Turn<'_>) {
        let Some(volume) = turn.cluster.volumes.get(name) else {
            return self.done(&step, turn.cluster, turn);
        };
        let Some(reached_by) = turn.cluster.node_of(name).cloned() else {
            return self.done(&step, turn.cluster, turn);
        };
        let now = (turn.cluster.generation, turn.cluster.epoch);
        let is_own = reached_by == self.node;
        let (volume, revision) = (volume.clone(), volume.route_generation());
        let compiled = match is_own {
            true => {
                let device_of = |disk: &Name| self.state.disks.get(disk).map(|open| open.index);
                palisade_volume::compile(&volume, now, device_of)
            }
            false if self.state.asks_nobody => {
                let reason = "the others do not know yet in which of its runs this node is".to_owned();
                return self.end(&step, turn.cluster, Err(reason), turn);
            }
            false => match self.use_peer(&reached_by, turn) {
                Some(device) => palisade_volume::compile_remote(&volume, now, device),
                None => {
                    let reason = "more nodes are asked for volumes than there may be nodes".to_owned();
                    return self.end(&step, turn.cluster, Err(reason), turn);
                }
            },
        };
        let route = match compiled {
            Ok(route) => route,
            Err(error) => return self.end(&step, turn.cluster, Err(error.to_string()), turn),
        };
        let (index, askers) = (self.state.volume_index(name), turn.cluster.askers_of(name));
        let before = self.state.observed.routes.get(name);
        let was_asked = before.is_some_and(|route| route.reached_by == self.node && !route.askers.is_empty());
        let change = ReactorChange::Resume { volume: index, route };
        self.change_route(step, index, &change, turn);
        if is_own && (was_asked || !askers.is_empty()) {
            // Each reactor hears of the mapping first.
            turn.effects.push(Effect::Serve {
                uuid: volume.uuid,
                volume: index,
                revision,
                epoch: now.1,
                askers,
            });
        }
    }

    fn clear_route(&mut self, step: Step, name: &Name, turn: &mut Turn<'_>) {
        match self.state.volumes.contains_key(name) {
            true => {
                let volume = self.state.volume_index(name);
                let generation = turn.cluster.generation;
                let ended = self.state.observed.routes.get(name);
                if let Some(asked) = ended.filter(|route| !route.askers.is_empty()) {
                    // What is asked after this is told so, and what was before is carried out.
                    turn.effects.push(Effect::Serve {
                        uuid: asked.uuid,
                        volume,
                        revision: asked.generation,
                        epoch: asked.epoch,
                        askers: BTreeMap::new(),
                    });
                }
                let change = ReactorChange::EndVolume { volume, generation };
                self.change_route(step, volume, &change, turn);
            }
            false => self.done(&step, turn.cluster, turn),
        }
    }

    /// Tells all reactors of a volume's route. What they are told is of the cluster's generation and not of the volume's: a
    /// reactor that has heard of the end of another volume by the same number takes nothing older.
    fn change_route(&mut self, step: Step, volume: VolumeIndex, change: &ReactorChange, turn: &mut Turn<'_>) {
        let task = self.enter(step, turn.cluster, (StepPhase::Reactors, volume.0), turn.now);
        self.tell_all(Some(task), change, turn);
    }

    /// From now on nobody else uses the space, until the step has come to its end.
    fn clear_volume(&mut self, step: Step, volume: Name, turn: &mut Turn<'_>) {
        let clearing = self.state.observed.begin_clearing(turn.cluster, &volume).cloned();
        let Some(clearing) = clearing else {
            return self.done(&step, turn.cluster, turn);
        };
        let disks = &self.state.disks;
        let mut extents = clearing.extents.iter();
        if let Some(closed) = extents.find(|extent| !disks.contains_key(&extent.disk)) {
            let reason = format!("disk {} is not open", closed.disk);
            return self.end(&step, turn.cluster, Err(reason), turn);
        }
        let work = Work::ClearSpace {
            volume,
            uuid: clearing.uuid,
            start: clearing.start,
            extents: clearing.extents,
        };
        self.start(step, turn.cluster, work, turn);
    }

    /// Offers an attachment, with the cluster that its step was planned from.
    pub(crate) fn offer(&mut self, step: Step, cluster: &Arc<Cluster>, name: &Name, turn: &mut Turn<'_>) {
        let wanted = cluster.attachments.get(name);
        let route = wanted.and_then(|wanted| self.state.observed.routes.get(&wanted.volume));
        let (Some(wanted), Some(route)) = (wanted, route) else {
            let reason = format!("the volume of attachment {name} has no route");
            return self.end(&step, cluster, Err(reason), turn);
        };
        let (volume, sectors) = (VolumeIndex(route.index), Sectors(route.sectors));
        let count = usize::from(self.reactors);
        let (index, first) = (self.state.free_attachment(), self.state.least_loaded(count));
        let task = self.enter(step, cluster, (StepPhase::Work, index.0), turn.now);
        let offered = Offered::new((index, task), volume, wanted, count, first);
        self.state.attachments.insert(name.clone(), offered);
        turn.effects.push(Effect::Start {
            task,
            cluster: Arc::clone(cluster),
            work: Work::OfferSocket {
                attachment: name.clone(),
                index,
                sectors,
            },
        });
    }

    fn resize(&mut self, step: &Step, name: &Name, turn: &mut Turn<'_>) {
        let wanted = turn.cluster.attachments.get(name);
        let route = wanted.and_then(|wanted| self.state.observed.routes.get(&wanted.volume));
        if let (Some(route), Some(offered)) = (route, self.state.attachments.get(name)) {
            let (attachment, sectors) = (offered.index, Sectors(route.sectors));
            let resize = DoorChange::Resize { attachment, sectors };
            turn.effects.push(Effect::TellDoor(resize));
        }
        self.done(step, turn.cluster, turn);
    }

    fn change_limits(&mut self, step: &Step, name: &Name, turn: &mut Turn<'_>) {
        let wanted = turn.cluster.attachments.get(name);
        if let (Some(wanted), Some(offered)) = (wanted, self.state.attachments.get_mut(name)) {
            offered.pace = pace(&wanted.limits, offered.pace.clone());
            turn.effects.extend(settings_again(offered));
        }
        self.done(step, turn.cluster, turn);
    }
}

/// Tells all reactors of an attachment its present settings.
pub(crate) fn settings_again(offered: &Offered) -> Vec<Effect> {
    let attachment = offered.index;
    let reactors: BTreeSet<_> = offered.running.values().copied().collect();
    let tell = |reactor| Effect::Tell {
        reactor,
        task: None,
        change: ReactorChange::SetAttachment {
            attachment,
            settings: offered.settings(reactor),
        },
    };
    reactors.into_iter().map(tell).collect()
}
