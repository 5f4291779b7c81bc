//! What reactors report: acknowledgements of what they were told, queues that have stopped, devices that hang.

use super::Steward;
use crate::orders::Report;
use crate::plant::UnderWay;
use palisade_block::mailbox::Notice;
use palisade_block::{AttachmentIndex, DeviceIndex, ReactorIndex};
use palisade_reconcile::{Action, Opened as Found, Step};

impl Steward {
    pub(super) fn take_report(&self, report: Report) {
        match report {
            Report::Notice(_, Notice::QueueStopped { queue, source }) => {
                self.shared.door().queue_stopped(queue, source.map(Box::new));
            }
            Report::Notice(reactor, Notice::RouteInUse { volume, generation }) => {
                self.acknowledged(reactor, |step, under_way| {
                    let of_volume =
                        matches!(step.action, Action::SetRoute { .. } | Action::ClearRoute { .. });
                    of_volume && under_way == volume.0 && generation.0 >= step.generation.0
                });
            }
            Report::Notice(reactor, Notice::DeviceStalled { device, oldest }) => {
                self.stalled(reactor, device, oldest.0 / 1_000_000);
            }
            Report::Notice(reactor, Notice::DeviceIdle { device })
            | Report::DeviceClosed(reactor, device) => {
                if self.let_go_for_another(reactor, device) {
                    return;
                }
                self.acknowledged(reactor, |step, index| {
                    matches!(step.action, Action::CloseDisk { .. }) && index == device.0
                });
            }
            Report::MemoryReleased { memory, registration } => {
                drop(registration);
                self.shared.pinning.released(AttachmentIndex(memory.0));
            }
            Report::Ended(reactor) => log::info!("reactor {} has ended", reactor.0),
        }
    }

    /// A reactor has done its part of a step that all of them do.
    fn acknowledged(&self, reactor: ReactorIndex, is_it: impl Fn(&Step, u16) -> bool) {
        let mut plant = self.shared.plant();
        let Some((action, under_way)) = plant.under_way.iter_mut().find(|(_, u)| is_it(&u.step, u.index))
        else {
            return;
        };
        under_way.awaited.remove(&reactor);
        if !under_way.awaited.is_empty() {
            return;
        }
        let action = action.clone();
        let Some(UnderWay {
            step, wanted, index, ..
        }) = plant.under_way.remove(&action)
        else {
            return;
        };
        match &action {
            Action::CloseDisk { disk } => {
                self.shared.findings.clear_all(&format!("disk/{disk}"));
                // The last reference closes the device, which can take long; not under the lock.
                let uuid = plant.observed.disks.get(disk).map(|observed| observed.disk.uuid);
                if let Some(open) = plant.disks.remove(disk) {
                    let seen = self.shared.last_seen.clone();
                    let forgotten = seen.clone();
                    let close = move || {
                        drop(open);
                        uuid.into_iter().for_each(|uuid| seen.forget(uuid));
                    };
                    // Where no thread is to be had, the failed try has dropped what it was to close.
                    if std::thread::Builder::new()
                        .name("close".into())
                        .spawn(close)
                        .is_err()
                    {
                        uuid.into_iter().for_each(|uuid| forgotten.forget(uuid));
                    }
                }
            }
            Action::ClearRoute { volume } => drop(plant.volumes.remove(volume)),
            _ => {}
        }
        let found = Found {
            index,
            ..Found::default()
        };
        self.end(&mut plant, &step, &wanted, Ok(found));
    }

    fn stalled(&self, reactor: ReactorIndex, device: DeviceIndex, oldest_ms: u64) {
        let mut plant = self.shared.plant();
        let Some(open) = plant.disks.values_mut().find(|disk| disk.index == device) else {
            return;
        };
        if oldest_ms > 0 {
            open.stalled_on.insert(reactor);
        } else {
            open.stalled_on.remove(&reactor);
        }
        // At once, so that none is too short to be told.
        self.shared.observe(&self.shared.cluster(), &plant);
    }
}
