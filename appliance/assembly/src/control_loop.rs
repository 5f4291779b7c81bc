//! The loop around the control machine: a message in, the machine's effects carried out.
//!
//! It decides nothing, and waits for nothing but its next message or the moment at which the machine is due; with neither it
//! sleeps, however much there is on the node. Whatever a plan depends on is followed by a plan: the cluster
//! (`ControlMessage::Changed`), what is observed and under way (changed here alone), the time.

use crate::effects::{self, Brought, drop_aside, placed_anew};
use crate::local_state::lock::StateGuard;
use crate::message::{ControlMessage, Done};
use crate::reactor_thread::ReactorNotice;
use crate::shared::Shared;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use palisade_block::mailbox::Notice;
use palisade_block::{Doing, Progress, Whom};
use palisade_control::{NodeEvent, TaskEnd, TaskId};
use palisade_model::Cluster;
use palisade_reconcile::Action;
use palisade_words::ReactorIndex;
use std::sync::Arc;
use std::time::Instant;

/// One for each node.
#[derive(Debug)]
pub struct ControlLoop {
    shared: Arc<Shared>,
    messages: Receiver<ControlMessage>,
    progress: Arc<Progress>,
}

impl ControlLoop {
    /// For a node, fed by a channel.
    pub fn new(
        shared: Arc<Shared>,
        messages: Receiver<ControlMessage>,
        progress: Arc<Progress>,
    ) -> ControlLoop {
        ControlLoop {
            shared,
            messages,
            progress,
        }
    }

    /// Runs until it is told to stop.
    pub fn run(self) {
        loop {
            match self.next_message() {
                Ok(ControlMessage::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // What else has come meanwhile is taken before the next plan.
            while let Ok(message) = self.messages.try_recv() {
                if matches!(message, ControlMessage::Stop) {
                    return;
                }
                self.progress.mark(Doing::Event, Whom::Nobody);
                self.take(message);
            }
            self.plan();
        }
    }

    /// Sleeps until something happens or the machine is due.
    fn next_message(&self) -> Result<ControlMessage, RecvTimeoutError> {
        let due = self.shared.state().control.due();
        let due = due.map(|due| self.shared.began + due.duration());
        let now = Instant::now();
        self.progress
            .asleep_for(due.map(|due| due.saturating_duration_since(now)));
        let message = match due {
            Some(due) => self.messages.recv_deadline(due),
            None => self.messages.recv().map_err(RecvTimeoutError::from),
        };
        self.progress.mark(Doing::Event, Whom::Nobody);
        message
    }

    /// Has the machine plan, and carries out what it says.
    fn plan(&self) {
        self.progress.mark(Doing::Plan, Whom::Nobody);
        let cluster = self.shared.cluster();
        let mut state = self.shared.state();
        state.control.may_ask(self.shared.incarnation.get().is_some());
        let effects = state.control.plan(&cluster, self.shared.now());
        effects::carry_out(
            &self.shared,
            &mut state,
            effects,
            &mut Brought::Nothing,
            &self.progress,
        );
        self.shared.peers.look(
            &self.shared,
            cluster.epoch,
            has_all_disks(&self.shared, &cluster, &state),
        );
        // What no step has taken over is wanted by none.
        if !state.decided.is_empty() {
            let left: Vec<_> = std::mem::take(&mut state.decided).into_values().collect();
            self.shared.publish(&mut state);
            drop_aside(left);
        }
    }

    /// Tells the machine, and carries out what it says. What was brought along and nobody takes is let go.
    fn tell(&self, event: NodeEvent, mut brought: Brought) {
        let cluster = self.shared.cluster();
        let mut state = self.shared.state();
        let effects = state.control.take(event, &cluster, self.shared.now());
        effects::carry_out(&self.shared, &mut state, effects, &mut brought, &self.progress);
        drop(state);
        if let Brought::Device(opened) = brought {
            drop_aside(vec![opened]);
        }
    }

    fn take(&self, message: ControlMessage) {
        match message {
            ControlMessage::Changed | ControlMessage::Stop => {}
            ControlMessage::Notice(reactor, notice) => self.take_notice(reactor, *notice),
            ControlMessage::Finished { task, result } => self.finished(task, result),
            ControlMessage::CameBack {
                disk,
                device,
                opened,
                superblock,
            } => {
                let event = NodeEvent::DeviceBack {
                    disk,
                    device,
                    superblock,
                };
                self.tell(event, Brought::Device(opened));
            }
            ControlMessage::Looked {
                disk,
                device,
                known,
                found,
            } => {
                let event = NodeEvent::Looked {
                    disk,
                    device,
                    known,
                    found,
                };
                self.tell(event, Brought::Nothing);
            }
            ControlMessage::PeerUp(node) => self.tell(NodeEvent::PeerUp { node }, Brought::Nothing),
            // A number is another's only after this: until then it leads to whom the door means.
            ControlMessage::GivenUp(index) => {
                let offering = self.shared.state().control.offering_of(index);
                if let Some(offering) = offering {
                    self.tell(NodeEvent::GivenUp { offering }, Brought::Nothing);
                }
            }
            ControlMessage::Detached(index) => {
                let offering = self.shared.state().control.offering_of(index);
                if let Some(offering) = offering {
                    self.tell(NodeEvent::Detached { offering }, Brought::Nothing);
                }
            }
        }
    }

    fn finished(&self, task: TaskId, result: Result<Done, String>) {
        let mut brought = Brought::Nothing;
        let result = result.map(|done| match done {
            Done::Plain => TaskEnd::Done,
            Done::Looked(look) => TaskEnd::Looked(look),
            Done::Opened { opened, look } => {
                let is_agreed = placed_anew::is_agreed(&self.shared, task, &opened);
                brought = Brought::Device(opened);
                TaskEnd::Opened { look, is_agreed }
            }
        });
        self.tell(NodeEvent::Finished { task, result }, brought);
        let mut state = self.shared.state();
        if !state.clearings.is_empty() {
            let state = &mut *state;
            let steps = &state.control.under_way;
            state.clearings.retain(|volume, _| {
                let volume = volume.clone();
                steps.contains_key(&Action::ClearVolume { volume })
            });
        }
    }

    /// Acknowledgements, and what devices do by themselves, go to the machine. What the door waits for it is told by the
    /// reactors.
    fn take_notice(&self, reactor: ReactorIndex, notice: ReactorNotice) {
        match notice {
            Notice::MemoryReleased { id, pinned } => self.shared.pinning.released(id, pinned),
            Notice::Peers(report) => self.shared.peers.report(&self.shared, reactor, report),
            notice => {
                let acknowledged = || self.shared.state().acknowledgements.take(reactor, &notice);
                if let Some(event) = event_of(reactor, &notice).or_else(acknowledged) {
                    self.tell(event, Brought::Nothing);
                }
            }
        }
    }
}

/// Whether each disk that lasts and is this node's is open, so that nothing which an earlier run has submitted can land on it.
fn has_all_disks(shared: &Shared, cluster: &Cluster, state: &StateGuard<'_>) -> bool {
    let own = cluster
        .disks
        .iter()
        .filter(|(_, disk)| disk.node == shared.name && disk.medium.is_lasting());
    cluster.is_initialised() && own.into_iter().all(|(name, _)| state.disks.contains_key(name))
}

/// What the control machine is to hear of a notice that is no answer to what the reactor was told.
fn event_of(reactor: ReactorIndex, notice: &ReactorNotice) -> Option<NodeEvent> {
    Some(match *notice {
        Notice::DeviceStalled { device, oldest } => NodeEvent::DeviceStalled {
            reactor,
            device,
            oldest,
        },
        Notice::DeviceFenced { device } => NodeEvent::DeviceFenced { reactor, device },
        Notice::DeviceUnusable { device, ref error } => NodeEvent::DeviceUnusable {
            reactor,
            device,
            error: error.to_string(),
        },
        Notice::Parked {
            volume,
            device,
            fault,
        } => NodeEvent::Parked {
            reactor,
            volume,
            device,
            fault,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_block::{Fault, Nanos};
    use palisade_words::{DeviceIndex, VolumeIndex};

    #[test]
    fn what_a_device_does_by_itself_is_told_to_the_control_machine() {
        let (reactor, device, volume) = (ReactorIndex(3), DeviceIndex(2), VolumeIndex(7));
        let (oldest, fault) = (Nanos::from_secs(9), Fault::Unreachable);
        let event = |notice| event_of(reactor, &notice);
        let stalled = NodeEvent::DeviceStalled {
            reactor,
            device,
            oldest,
        };
        let parked = NodeEvent::Parked {
            reactor,
            volume,
            device,
            fault,
        };
        assert_eq!(event(Notice::DeviceStalled { device, oldest }), Some(stalled));
        assert_eq!(
            event(Notice::DeviceFenced { device }),
            Some(NodeEvent::DeviceFenced { reactor, device })
        );
        let error = std::io::Error::other("no room");
        let unusable = NodeEvent::DeviceUnusable {
            reactor,
            device,
            error: "no room".to_owned(),
        };
        assert_eq!(event(Notice::DeviceUnusable { device, error }), Some(unusable));
        let notice = Notice::Parked {
            volume,
            device,
            fault,
        };
        assert_eq!(event(notice), Some(parked));
        assert_eq!(event(Notice::DeviceClosed { device }), None, "an answer");
    }
}
