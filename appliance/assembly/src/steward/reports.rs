//! What reactors report: acknowledgements of what they were told, queues that have stopped, devices that hang.

use super::{Steward, refusing};
use crate::event::Done;
use crate::orders::Report;
use crate::plant::{OpenDisk, UnderWay};
use palisade_api::FindingKind;
use palisade_block::mailbox::Notice;
use palisade_reconcile::{Action, Opened as Found, Step};
use palisade_sys::Opened;
use palisade_words::{DeviceIndex, Name, ReactorIndex};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the closing of a disk waits for whoever looks at it just now.
const LOOKER_PATIENCE: Duration = Duration::from_secs(5);

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
                    of_volume && under_way == volume.0 && generation >= step.generation
                });
            }
            Report::Notice(reactor, Notice::Revoked { attachment }) => {
                self.acknowledged(reactor, |step, index| {
                    matches!(step.action, Action::WithdrawSocket { .. }) && index == attachment.0
                });
            }
            Report::Notice(_, Notice::QueueStalled { queue, held, waited }) => {
                let (held, waited) = (held.duration(), waited.duration());
                self.shared.door().stalled(queue.attachment, held, waited);
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
            Report::MemoryReleased {
                attachment,
                registration,
            } => {
                self.shared.pinning.released(attachment, registration);
            }
            Report::Ended(reactor) => log::info!("reactor {} has ended", reactor.0),
        }
    }

    /// A reactor has done its part of a step that all of them do.
    fn acknowledged(&self, reactor: ReactorIndex, is_it: impl Fn(&Step, u16) -> bool) {
        let mut plant = self.shared.plant();
        let awaits = |u: &UnderWay| u.awaited.contains(&reactor) && is_it(&u.step, u.index);
        let Some((action, under_way)) = plant.under_way.iter_mut().find(|(_, u)| awaits(u)) else {
            return;
        };
        under_way.awaited.remove(&reactor);
        if !under_way.awaited.is_empty() {
            return;
        }
        let action = action.clone();
        if let Action::WithdrawSocket { attachment } = &action {
            return self.given_up(&mut plant, attachment);
        }
        let Some(UnderWay {
            step, wanted, index, ..
        }) = plant.under_way.remove(&action)
        else {
            return;
        };
        match &action {
            Action::CloseDisk { disk } => {
                let subject = format!("disk/{disk}");
                let stays = refusing::keep_last_read(&self.shared, &mut plant, disk);
                match stays {
                    // Why it is not used goes on.
                    true => self.shared.findings.clear_raised(&subject),
                    false => self.shared.findings.clear_all(&subject),
                }
                let uuid = plant.observed.disks.get(disk).map(|observed| observed.disk.uuid);
                if let Some(open) = plant.disks.remove(disk) {
                    self.shared.publish(&mut plant);
                    let seen = self.shared.last_seen.clone();
                    let close = move || {
                        close(open);
                        if let Some(uuid) = uuid {
                            seen.forget(uuid);
                            // What is not removed belongs to an id that no other disk will ever have.
                            let _ = (!stays).then(|| seen.forget_cut(uuid));
                        }
                        Ok(Done::Plain)
                    };
                    // The disk is closed when others can open it, which can take long: not under the lock.
                    return self.aside(&mut plant, step, &wanted, Box::new(close));
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

    /// Tells what a disk that has just been opened goes without.
    pub(super) fn tell_what_it_lacks(&self, name: &Name, opened: &Opened) {
        if opened.buffered() {
            let message = format!(
                "disk {name} lies on a file system without O_DIRECT: I/O goes through the page cache"
            );
            self.shared
                .findings
                .raise(FindingKind::DiskBuffered, format!("disk/{name}"), message);
        }
        if let Some(reason) = opened.open_to_qemu() {
            let message = format!(
                "QEMU and its tools are not kept from disk {name}, and one that has it open is not noticed: its file system \
                 has no locks for that ({reason})"
            );
            self.shared
                .findings
                .raise(FindingKind::DiskOpenToQemu, format!("disk/{name}"), message);
        }
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

/// Lets go of a device that no reactor uses any more. The last reference closes it.
fn close(open: OpenDisk) {
    let begun = Instant::now();
    while Arc::strong_count(&open.opened) > 1 && begun.elapsed() < LOOKER_PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
}
