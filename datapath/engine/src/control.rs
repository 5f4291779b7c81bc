//! Changes from the control plane, taken between two turns and acknowledged by notices.

use crate::pace::Allowance;
use crate::queue::Queue;
use crate::rations::bounded;
use crate::reactor::Reactor;
use crate::watched::Device;
use palisade_block::ledger;
use palisade_block::mailbox::{AttachmentSettings, Notice, ReactorChange, ReactorCommand};
use palisade_block::stats::DeviceStats;
use palisade_block::{Devices, Fault, Nanos, Pool, Source};
use palisade_words::{AttachmentIndex, DeviceIndex, QueueId};
use std::sync::Arc;

mod volumes;

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Takes one change. Not part of a turn: this may allocate.
    pub fn apply(&mut self, command: impl Into<ReactorCommand<S, D>>) {
        match command.into() {
            ReactorCommand::Change(change) => self.change(change),
            ReactorCommand::AddQueue {
                queue,
                settings,
                source,
                // It is for whoever puts this reactor to sleep.
                kick: _,
            } => self.add_queue(queue, settings, source),
            ReactorCommand::StopQueue { queue } => self.stop_queue(queue),
            ReactorCommand::LeaveQueue { queue } => self.leave_queue(queue),
            ReactorCommand::AddDevice {
                device,
                opened,
                stats,
                deadline,
            } => match self.devices.open(device, opened) {
                Ok(()) => self.add_device(device, stats, deadline),
                Err(error) => self.notices.push_back(Notice::DeviceUnusable { device, error }),
            },
            ReactorCommand::AddMemory { id, pinned, of: _ } => self.devices.pin(id, pinned),
            ReactorCommand::RemoveMemory { id, of: _ } => {
                let pinned = self.devices.unpin(id);
                self.notices.push_back(Notice::MemoryReleased { id, pinned });
            }
            ReactorCommand::Peers(order) => self.devices.order(order),
            ReactorCommand::Stop => self.is_ending = true,
        }
        self.make_room();
        debug_assert!(
            self.touched.capacity() >= self.queues.len()
                && self.notices.capacity() - self.notices.len() >= self.tellings(),
            "a turn would allocate"
        );
    }

    fn change(&mut self, change: ReactorChange) {
        match change {
            ReactorChange::SetAttachment { attachment, settings } => {
                self.set_attachment(attachment, &settings)
            }
            ReactorChange::Revoke { attachment } => self.revoke(attachment),
            ReactorChange::Suspend { volume, generation } => self.suspend(volume, generation),
            ReactorChange::Resume { volume, route } => self.resume_volume(volume, route),
            ReactorChange::Cancel { volume, generation } => self.cancel_change(volume, generation),
            ReactorChange::Fail { volume, generation } => self.fail_volume(volume, generation),
            ReactorChange::EndVolume { volume, generation } => self.end_volume(volume, generation),
            ReactorChange::CloseDevice { device } => self.close_device(device),
            ReactorChange::GrowDevice { device } => self.devices.grow(device),
        }
    }

    /// Allocates what the next turn may fill: every queue can have answers to publish, come to rest, and be told to have kept
    /// the thread waiting; every volume get another route, be suspended and have
    /// requests parked by each of its devices; every device come to rest, refuse this node
    /// and be told as stalled, or no longer; every volume that is taken away come to rest.
    fn make_room(&mut self) {
        self.touched.reserve(self.queues.len());
        self.order.reserve(self.active.len());
        self.notices.reserve(self.tellings());
    }

    /// Notices that one turn may have.
    fn tellings(&self) -> usize {
        let of_volumes = self.volumes.iter().map(|volume| 2 + volume.tellings());
        2 * self.queues.len() + 3 * self.watched.len() + of_volumes.sum::<usize>() + self.revoking.len()
    }

    fn add_queue(&mut self, id: QueueId, settings: AttachmentSettings, mut source: S) {
        source.disarm();
        if let Some(volume) = settings.volume {
            self.volume_mut(volume);
        }
        let lease = source.lease();
        let memory = self.devices.keep(&lease);
        let attachment = id.attachment;
        let index = self.queues.add(Queue::new(id, settings, source, (lease, memory)));
        self.books.open_queue(index, attachment);
        self.active.push(index);
    }

    fn stop_queue(&mut self, id: QueueId) {
        match self.queues.named(id) {
            Some(queue) if !queue.stopping => {
                queue.stopping = true;
                ledger::enter(&mut self.stopping, "what comes to rest");
                self.settle();
            }
            Some(_) => {}
            None => self.notices.push_back(Notice::QueueStopped {
                queue: id,
                source: None,
            }),
        }
    }

    fn leave_queue(&mut self, id: QueueId) {
        let queue = self.queues.named(id);
        if let Some(queue) = queue.filter(|queue| queue.stopping) {
            queue.leaving = queue.source.remembers();
            queue.is_urgent = !queue.leaving;
            match queue.leaving {
                true => self.leave_parked(id),
                false => self.release_faults(|queue, _| queue.id == id),
            }
            self.settle();
        }
    }

    /// Says what has come to rest: queues that stop, attachments whose volume is taken away.
    pub(crate) fn settle(&mut self) {
        self.give_back_stopped();
        self.tell_revoked();
    }

    /// Gives back every stopping queue whose last request has been answered.
    fn give_back_stopped(&mut self) {
        for position in (0..self.active.len()).rev() {
            let index = self.active[position];
            // Its answers have been published: this comes after that in a turn, and no answers are given between two.
            let in_flight = self.books.in_flight(index);
            let at_rest = |queue: &mut Queue<S>| {
                queue.stopping && in_flight == 0 && (queue.leaving || queue.source.backlog() == 0)
            };
            let Some(queue) = self.queues.take_if(index, at_rest) else {
                continue;
            };
            assert!(
                !queue.unpublished,
                "a queue goes with answers that nobody was shown"
            );
            self.devices.let_go(queue.memory);
            self.active.swap_remove(position);
            ledger::leave(&mut self.stopping, "what comes to rest");
            self.notices.push_back(Notice::QueueStopped {
                queue: queue.id,
                source: Some(queue.source),
            });
        }
        debug_assert_eq!(
            self.stopping as usize,
            self.queues.iter().filter(|(_, queue)| queue.stopping).count() + self.revoking.len(),
            "what comes to rest"
        );
    }

    fn revoke(&mut self, attachment: AttachmentIndex) {
        let of_it = |(_, queue): &(u16, &mut Queue<S>)| queue.id.attachment == attachment;
        for (_, queue) in self.queues.iter_mut().filter(of_it) {
            queue.revoke();
        }
        self.revoke_parked(attachment);
        self.revoking.push(attachment);
        ledger::enter(&mut self.stopping, "what comes to rest");
        self.settle();
    }

    /// Says of which attachments no queue has a request left on the volume that was taken away. What is refused is answered
    /// when it is taken, so whatever is in flight was taken before.
    fn tell_revoked(&mut self) {
        for position in (0..self.revoking.len()).rev() {
            let attachment = self.revoking[position];
            let books = &self.books;
            let has_more = |(index, queue): (u16, &Queue<S>)| {
                queue.id.attachment == attachment && books.in_flight(index) > 0
            };
            if !self.queues.iter().any(has_more) {
                self.revoking.swap_remove(position);
                ledger::leave(&mut self.stopping, "what comes to rest");
                self.notices.push_back(Notice::Revoked { attachment });
            }
        }
    }

    fn set_attachment(&mut self, attachment: AttachmentIndex, settings: &AttachmentSettings) {
        let of_it = |(_, queue): &(u16, &mut Queue<S>)| queue.id.attachment == attachment;
        for (index, queue) in self.queues.iter_mut().filter(of_it) {
            // They are counted where their end will be.
            let in_flight = self.books.in_flight(index).into();
            let parked = self.books.parked(index).into();
            queue.settings.stats.in_flight.sub(in_flight);
            queue.settings.stats.parked.sub(parked);
            settings.stats.in_flight.add(in_flight);
            settings.stats.parked.add(parked);
            // The volume of an attachment never changes; it keeps the one its requests in flight are booked on. One that
            // was taken away does not come back.
            queue.settings = AttachmentSettings {
                volume: queue.settings.volume,
                revoked: queue.settings.revoked || settings.revoked,
                ..settings.clone()
            };
            // Drawn under the limits before.
            queue.allowance = Allowance::default();
            if queue.settings.revoked {
                queue.revoke();
            }
        }
    }

    fn add_device(&mut self, index: DeviceIndex, stats: Arc<DeviceStats>, deadline: Nanos) {
        let Some(limits) = self.devices.limits(index).map(bounded) else {
            return;
        };
        self.books.open_device(index, &limits);
        self.watched.add(index, Device::new(limits, stats, deadline));
    }

    fn close_device(&mut self, index: DeviceIndex) {
        if let Some(device) = self.watched.get_mut(index) {
            (device.dropped, device.refuses) = (true, Some(Fault::Gone));
            if self.books.on_device(index) > 0 {
                return;
            }
        }
        self.notices.push_back(Notice::DeviceClosed { device: index });
    }
}
