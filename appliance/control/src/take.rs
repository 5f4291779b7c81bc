//! The ends of steps: what has happened becomes state, and a step goes on to its next phase or is over.

use crate::control::{Control, Turn};
use crate::disk::DiskState;
use crate::effect::{Effect, LogEntry, Work};
use crate::event::{NodeEvent, TaskEnd};
use crate::last_read::{LastRead, said};
use crate::task::{Purpose, StepPhase, TaskId, UnderWay};
use palisade_block::Nanos;
use palisade_block::mailbox::ReactorChange;
use palisade_model::{Cluster, Kind};
use palisade_reconcile::{Action, Step, StepOutcome, SuperblockState};
use palisade_words::{DeviceIndex, Name, ReactorIndex, VolumeIndex};
use std::sync::Arc;

impl Control {
    pub(crate) fn take_event(&mut self, event: NodeEvent, turn: &mut Turn<'_>) {
        match event {
            NodeEvent::Changed => {}
            NodeEvent::Finished { task, result } => self.finished(task, result, turn),
            NodeEvent::Acknowledged { task, reactor } => self.acknowledged(task, reactor, turn),
            NodeEvent::Refused { task, reactor } => self.refused(task, reactor, turn),
            NodeEvent::DeviceStalled {
                reactor,
                device,
                oldest,
            } => self.stalled(reactor, device, oldest, turn),
            NodeEvent::DeviceFenced { reactor, device } => self.fenced(reactor, device, turn),
            NodeEvent::DeviceUnusable {
                reactor,
                device,
                error,
            } => self.unusable(reactor, device, error, turn),
            NodeEvent::Parked {
                reactor,
                volume,
                device,
                fault,
            } => {
                let parked = self.state.parked.entry((volume, reactor));
                parked.or_insert((device, fault));
                if self.state.peer_of(device).is_some() {
                    self.parked_by_peer(volume, turn.now);
                }
            }
            NodeEvent::PeerUp { node } => self.peer_up(&node, turn),
            NodeEvent::DeviceBack {
                disk,
                device,
                superblock,
            } => self.device_back(&disk, device, superblock, turn),
            NodeEvent::Looked {
                disk,
                device,
                known,
                found,
            } => self.looked_at(&disk, device, (known, found), turn),
            NodeEvent::GivenUp { offering } => self.socket_given_up(offering, turn),
            NodeEvent::Detached { offering } => self.detached(offering, turn),
        }
    }

    /// Notes an end, or a part of it, of what is not under way.
    pub(crate) fn stray(&mut self) {
        self.state.strays += 1;
    }

    /// Work outside has come to its end.
    fn finished(&mut self, task: TaskId, result: Result<TaskEnd, String>, turn: &mut Turn<'_>) {
        let Some(Purpose::Step(action)) = self.tasks.get(&task).cloned() else {
            return self.stray();
        };
        let steps = &self.state.under_way;
        let is_work = |step: &&UnderWay| step.task == task && step.phase == StepPhase::Work;
        if steps.get(&action).filter(is_work).is_none() {
            return self.stray();
        }
        let Some(UnderWay {
            step, cluster, index, ..
        }) = self.leave_phase(&action)
        else {
            return self.stray();
        };
        let (_, name) = action.target();
        let result = match result {
            Ok(TaskEnd::Done) => {
                if let Action::GrowDisk { .. } = action {
                    let device = DeviceIndex(index);
                    self.tell_all(None, &ReactorChange::GrowDevice { device }, turn);
                }
                Ok(StepOutcome::default())
            }
            Ok(TaskEnd::Looked(look)) => Ok(self.looked(name, look, turn)),
            Ok(TaskEnd::Opened { look, is_agreed }) => {
                match is_agreed && !self.state.observed.deciding.contains(name) {
                    true => {
                        let device = self.take_device(name, look.superblock, turn);
                        Ok(StepOutcome {
                            index: device.0,
                            ..self.looked(name, look, turn)
                        })
                    }
                    // An operator has said where it is, or is about to: what was opened may not be what he means, and what
                    // guests write there would be lost with the next start.
                    false => {
                        Err("where it is, or what it is, was said anew while it was being opened".to_owned())
                    }
                }
            }
            Err(reason) => Err(reason),
        };
        self.end(&step, &cluster, result, turn);
    }

    /// Gives a device that has just been opened its number, and all reactors their use of it.
    fn take_device(&mut self, name: &Name, found: SuperblockState, turn: &mut Turn<'_>) -> DeviceIndex {
        let device = self.state.free_device();
        turn.effects.push(Effect::OpenDevice {
            disk: name.clone(),
            device,
            for_a_look: !matches!(found, SuperblockState::Ours { .. } | SuperblockState::Missing),
        });
        turn.effects.push(Effect::UseDevice { device });
        let open = DiskState {
            index: device,
            ..DiskState::default()
        };
        self.state.disks.insert(name.clone(), open);
        device
    }

    /// A reactor has done its part of what all of them do.
    fn acknowledged(&mut self, task: TaskId, reactor: ReactorIndex, turn: &mut Turn<'_>) {
        let action = match self.tasks.get(&task) {
            Some(Purpose::Step(action)) => action.clone(),
            Some(Purpose::Return(disk)) => {
                let disk = disk.clone();
                return self.let_go_for_another(&disk, task, reactor, turn);
            }
            None => return self.stray(),
        };
        let awaits = |step: &&mut UnderWay| step.task == task && step.awaited.contains(&reactor);
        let Some(under_way) = self.state.under_way.get_mut(&action).filter(awaits) else {
            return self.stray();
        };
        under_way.awaited.remove(&reactor);
        // What was parked there goes on by the new route, or has ended with the old one.
        if matches!(action, Action::SetRoute { .. } | Action::ClearRoute { .. }) {
            let volume = VolumeIndex(under_way.index);
            self.state.parked.remove(&(volume, reactor));
        }
        if under_way.awaited.is_empty() {
            self.acknowledged_by_all(&action, turn);
        }
    }

    /// A reactor knows of something newer than what it was told. The step is not done; it is planned again from what is agreed
    /// by then.
    fn refused(&mut self, task: TaskId, reactor: ReactorIndex, turn: &mut Turn<'_>) {
        let Some(Purpose::Step(action)) = self.tasks.get(&task).cloned() else {
            return self.stray();
        };
        let awaits = |step: &UnderWay| step.task == task && step.awaited.contains(&reactor);
        if !self.state.under_way.get(&action).is_some_and(awaits) {
            return self.stray();
        }
        let Some(UnderWay { step, cluster, .. }) = self.leave_phase(&action) else {
            return;
        };
        let reason = format!(
            "reactor {} knows of a newer configuration or membership than this step's",
            reactor.0
        );
        self.end(&step, &cluster, Err(reason), turn);
    }

    fn acknowledged_by_all(&mut self, action: &Action, turn: &mut Turn<'_>) {
        if let Action::WithdrawSocket { attachment } = action {
            return self.is_given_up(attachment, turn);
        }
        let Some(UnderWay {
            step, cluster, index, ..
        }) = self.leave_phase(action)
        else {
            return;
        };
        match action {
            Action::CloseDisk { disk } if self.state.disks.contains_key(disk) => {
                return self.close_device(step, &cluster, disk, turn);
            }
            Action::ClearRoute { volume } => {
                if let Some(index) = self.state.volumes.remove(volume) {
                    self.state.again.remove(&index);
                }
            }
            _ => {}
        }
        let found = StepOutcome {
            index,
            ..StepOutcome::default()
        };
        self.end(&step, &cluster, Ok(found), turn);
    }

    /// No reactor uses the device of a disk any more. The step is over when it is closed, so that others can open it.
    fn close_device(&mut self, step: Step, cluster: &Arc<Cluster>, disk: &Name, turn: &mut Turn<'_>) {
        let stays = self.keep_last_read(disk, turn);
        turn.effects.push(Effect::ClearFindings {
            kind: Kind::Disk,
            name: disk.clone(),
            // Why it is not used goes on.
            stays,
        });
        let observed = self.state.observed.disks.get(disk);
        let uuid = observed.map(|observed| observed.disk.uuid);
        let Some(open) = self.state.disks.remove(disk) else {
            return self.done(&step, cluster, turn);
        };
        let work = Work::CloseDevice {
            disk: disk.clone(),
            device: open.index,
            uuid,
            stays,
        };
        self.start(step, cluster, work, turn);
    }

    /// Keeps what was read of a disk that is being closed although it stays, for those who are told of it meanwhile. Whether it
    /// stays.
    fn keep_last_read(&mut self, name: &Name, turn: &Turn<'_>) -> bool {
        let (Some(observed), Some(open)) = (self.state.observed.disks.get(name), self.state.disks.get(name))
        else {
            return false;
        };
        let agreed = turn.cluster.disks.get(name);
        let stays = agreed.is_some_and(|disk| disk.uuid == observed.disk.uuid && !disk.leaving);
        if stays {
            let last = LastRead::of(open, turn.now);
            self.state.refused.insert(name.clone(), last);
        }
        stays
    }

    fn stalled(&mut self, reactor: ReactorIndex, device: DeviceIndex, oldest: Nanos, turn: &mut Turn<'_>) {
        let Some(open) = self.disk_of_mut(device) else {
            return;
        };
        match oldest {
            Nanos(0) => open.stalled_on.remove(&reactor),
            _ => open.stalled_on.insert(reactor),
        };
        turn.effects.push(Effect::DeriveFindings);
    }

    fn fenced(&mut self, reactor: ReactorIndex, device: DeviceIndex, turn: &mut Turn<'_>) {
        if let Some(open) = self.disk_of_mut(device) {
            open.fenced_on.insert(reactor);
            turn.effects.push(Effect::DeriveFindings);
        }
    }

    fn unusable(&mut self, reactor: ReactorIndex, device: DeviceIndex, error: String, turn: &mut Turn<'_>) {
        if let Some(open) = self.disk_of_mut(device) {
            open.unusable_on.insert(reactor, error);
            turn.effects.push(Effect::DeriveFindings);
        }
    }

    fn disk_of_mut(&mut self, device: DeviceIndex) -> Option<&mut DiskState> {
        let mut disks = self.state.disks.values_mut();
        disks.find(|disk| disk.index == device)
    }

    /// Notes the end of a step.
    pub(crate) fn end(
        &mut self,
        step: &Step,
        cluster: &Cluster,
        result: Result<StepOutcome, String>,
        turn: &mut Turn<'_>,
    ) {
        self.state.ended += 1;
        let offers = matches!(
            step.action,
            Action::OfferSocket { .. } | Action::ReopenSocket { .. }
        );
        match result {
            Ok(found) => self.succeeded(step, cluster, found, turn),
            Err(reason) => {
                if offers {
                    self.state.attachments.remove(step.action.target().1);
                }
                self.failed(step, reason, turn);
            }
        }
    }

    fn succeeded(&mut self, step: &Step, cluster: &Cluster, found: StepOutcome, turn: &mut Turn<'_>) {
        let again = self.state.observed.failures.contains_key(&step.action);
        let before = self.refused_superblock(step);
        self.state.observed.record(cluster, step, found);
        let (step, superblock) = (step.clone(), found.superblock);
        if self.is_told(&step, before, found) {
            return turn.log(LogEntry::AsBefore { step, superblock });
        }
        let writes = matches!(step.action, Action::WriteSuperblock { .. });
        if writes && !superblock.has_reached(step.generation) {
            return turn.log(LogEntry::LeftUndone { step, superblock });
        }
        let (_, name) = step.action.target();
        let refused = self.state.observed.refused.get(name);
        let message = match (&step.action, refused) {
            (Action::CloseDisk { .. }, Some(refused)) => said(refused, name),
            _ if again => format!("{}, after it had failed before", step.action.done()),
            _ => step.action.done(),
        };
        turn.log(LogEntry::Done { step, message });
    }

    fn failed(&mut self, step: &Step, reason: String, turn: &mut Turn<'_>) {
        // The same failure again and again is told once; its count is in the health report.
        let before = self.state.observed.failures.get(&step.action);
        let is_known = before.is_some_and(|failure| failure.reason == reason);
        self.state.observed.record_failure(step, reason.clone());
        if !is_known {
            let step = step.clone();
            turn.log(LogEntry::Failed { step, reason });
        }
    }

    /// What was known of a disk that may not be used, before a step on it is recorded.
    fn refused_superblock(&self, step: &Step) -> Option<SuperblockState> {
        match step.action.target() {
            (Kind::Disk, name) => self
                .state
                .observed
                .refused
                .get(name)
                .map(|refused| refused.superblock),
            _ => None,
        }
    }

    /// Whether a step that has just been recorded is a part of a look that has found what was known `before`, and told then.
    fn is_told(&mut self, step: &Step, before: Option<SuperblockState>, found: StepOutcome) -> bool {
        let (kind, name) = step.action.target();
        if kind != Kind::Disk {
            return false;
        }
        let refused = self.refused_superblock(step);
        if refused.is_none() {
            self.state.refused.remove(name);
        }
        match (&step.action, before) {
            (_, None) => false,
            (Action::CloseDisk { .. }, before) => before == refused,
            (Action::OpenDisk { .. }, Some(SuperblockState::Occupied)) => {
                found.superblock == SuperblockState::Missing
            }
            (
                Action::OpenDisk { .. } | Action::ExamineSuperblock { .. } | Action::WriteSuperblock { .. },
                Some(before),
            ) => found.superblock == before,
            _ => false,
        }
    }
}
