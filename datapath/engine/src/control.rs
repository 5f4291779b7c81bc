//! Changes from the control plane, taken between two turns and acknowledged by notices.

use crate::pace::Allowance;
use crate::ranges::Ranges;
use crate::rations::{Ration, bounded};
use crate::reactor::{Device, Queue, Reactor, Volume, broken};
use palisade_block::ledger;
use palisade_block::limits::SEGMENTS_PER_SLOT;
use palisade_block::mailbox::{AttachmentSettings, Command, Notice};
use palisade_block::stats::DeviceStats;
use palisade_block::{Devices, Nanos, Pool, Route, Source};
use palisade_words::{AttachmentIndex, DeviceIndex, Generation, QueueId, VolumeIndex};
use std::sync::Arc;

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Takes one change. Not part of a turn: this may allocate.
    pub fn apply(&mut self, command: Command<S>) {
        match command {
            Command::AddQueue {
                queue,
                settings,
                source,
            } => self.add_queue(queue, settings, source),
            Command::StopQueue { queue } => self.stop_queue(queue),
            Command::LeaveQueue { queue } => self.leave_queue(queue),
            Command::SetAttachment { attachment, settings } => self.set_attachment(attachment, &settings),
            Command::Revoke { attachment } => self.revoke(attachment),
            Command::SetRoute {
                volume,
                route,
                generation,
            } => self.set_route(volume, route, generation),
            Command::AddDevice {
                device,
                stats,
                deadline,
            } => self.add_device(device, stats, deadline),
            Command::DropDevice { device } => self.drop_device(device),
        }
        self.make_room();
        debug_assert!(
            self.touched.capacity() >= self.queues.len()
                && self.notices.capacity() - self.notices.len()
                    >= 2 * self.queues.len()
                        + 2 * self.watched.len()
                        + self.volumes.len()
                        + self.revoking.len(),
            "a turn would allocate"
        );
    }

    /// Allocates what the next turn may fill: every queue can have answers to publish, come to rest, and be told to have kept the thread waiting; every route come into
    /// use; every device come to rest and be told as stalled, or no longer; every volume that is taken away come to rest.
    fn make_room(&mut self) {
        let queues = self.queues.len();
        self.touched.reserve(queues);
        self.notices
            .reserve(2 * queues + 2 * self.watched.len() + self.volumes.len() + self.revoking.len());
    }

    fn add_queue(&mut self, id: QueueId, settings: AttachmentSettings, mut source: S) {
        source.disarm();
        self.volume_mut(settings.volume);
        let lease = source.lease();
        let memory = self.devices.keep(&lease);
        let queue = Queue {
            id,
            source,
            settings,
            lease,
            memory,
            in_flight: 0,
            unpublished: false,
            stopping: false,
            leaving: false,
            throttled: false,
            allowance: Allowance::default(),
            segments_max: SEGMENTS_PER_SLOT,
            long_held: 0,
            wants_long: false,
            resting: 0,
            ration: Ration::default(),
            careful: false,
        };
        self.flight.open(id.attachment);
        for ranges in &mut self.ranges {
            ranges.open(id.attachment);
        }
        let index = match self.queues.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                self.queues.push(None);
                self.queues.len() - 1
            }
        };
        self.queues[index] = Some(queue);
        self.active.push(index as u16);
    }

    fn stop_queue(&mut self, id: QueueId) {
        match self.queues.iter_mut().flatten().find(|queue| queue.id == id) {
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
        let stopping = |queue: &&mut Queue<S>| queue.id == id && queue.stopping;
        if let Some(queue) = self.queues.iter_mut().flatten().find(stopping) {
            queue.leaving = queue.source.remembers();
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
            let at_rest = |queue: &mut Queue<S>| {
                queue.stopping && queue.in_flight == 0 && (queue.leaving || queue.source.backlog() == 0)
            };
            let Some(queue) = self.queues[index as usize].take_if(at_rest) else {
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
            self.queues
                .iter()
                .flatten()
                .filter(|queue| queue.stopping)
                .count()
                + self.revoking.len(),
            "what comes to rest"
        );
    }

    fn revoke(&mut self, attachment: AttachmentIndex) {
        for queue in self.queues.iter_mut().flatten() {
            queue.settings.revoked |= queue.id.attachment == attachment;
        }
        self.revoking.push(attachment);
        ledger::enter(&mut self.stopping, "what comes to rest");
        self.settle();
    }

    /// Says of which attachments no queue has a request left on the volume that was taken away. What is refused is answered
    /// when it is taken, so whatever is in flight was taken before.
    fn tell_revoked(&mut self) {
        for position in (0..self.revoking.len()).rev() {
            let attachment = self.revoking[position];
            let has_more = |queue: &Queue<S>| queue.id.attachment == attachment && queue.in_flight > 0;
            if !self.queues.iter().flatten().any(has_more) {
                self.revoking.swap_remove(position);
                ledger::leave(&mut self.stopping, "what comes to rest");
                self.notices.push_back(Notice::Revoked { attachment });
            }
        }
    }

    fn set_attachment(&mut self, attachment: AttachmentIndex, settings: &AttachmentSettings) {
        for queue in self
            .queues
            .iter_mut()
            .flatten()
            .filter(|queue| queue.id.attachment == attachment)
        {
            // They are counted where their end will be.
            queue.settings.stats.in_flight.sub(queue.in_flight.into());
            settings.stats.in_flight.add(queue.in_flight.into());
            // The volume of an attachment never changes; it keeps the one its requests in flight are booked on. One that
            // was taken away does not come back.
            queue.settings = AttachmentSettings {
                volume: queue.settings.volume,
                revoked: queue.settings.revoked || settings.revoked,
                ..settings.clone()
            };
            // Drawn under the limits before.
            queue.allowance = Allowance::default();
        }
    }

    fn set_route(&mut self, index: VolumeIndex, route: Option<Route>, generation: Generation) {
        let volume = self.volume_mut(index);
        let newest = volume
            .pending
            .as_ref()
            .map_or(volume.generation, |(generation, _)| *generation);
        if generation < newest {
            let present = volume.generation;
            self.notices.push_back(Notice::RouteInUse {
                volume: index,
                generation: present,
            });
            return;
        }
        volume.pending = Some((generation, route));
        if volume.in_flight == 0 {
            self.take_pending_route(index);
        }
    }

    /// Books the end of a request on its volume; a route that waited for this comes into use.
    #[inline]
    pub(crate) fn left_volume(&mut self, index: VolumeIndex) {
        let Some(volume) = self.volumes.get_mut(index.usize()) else {
            return;
        };
        ledger::leave(&mut volume.in_flight, "requests on a volume");
        if volume.in_flight == 0 && volume.pending.is_some() {
            self.take_pending_route(index);
        }
    }

    fn take_pending_route(&mut self, index: VolumeIndex) {
        let volume = self.volume_mut(index);
        if let Some((generation, route)) = volume.pending.take() {
            // A number whose route has ended is free for another volume, whose generations are its own.
            volume.generation = if route.is_some() {
                generation
            } else {
                Generation::default()
            };
            volume.route = route;
            self.notices.push_back(Notice::RouteInUse {
                volume: index,
                generation,
            });
        }
    }

    fn add_device(&mut self, index: DeviceIndex, stats: Arc<DeviceStats>, deadline: Nanos) {
        let Some(limits) = self.devices.limits(index).map(bounded) else {
            return;
        };
        if self.device(index).is_some_and(|device| device.in_flight > 0) {
            broken("a device comes in the place of one that has operations in flight")
        }
        if self.watched.len() <= index.usize() {
            self.watched.resize_with(index.usize() + 1, || None);
        }
        let device = Device {
            limits,
            stats,
            deadline,
            in_flight: 0,
            dropped: false,
            stalled: false,
            asked_by: None,
        };
        while self.ranges.len() <= index.usize() {
            self.ranges.push(Ranges::new(&self.flight));
        }
        self.ranges[index.usize()].serve(&limits);
        for shares in [
            &mut self.slot_shares,
            &mut self.part_shares,
            &mut self.buffer_shares,
            &mut self.long_shares,
        ] {
            shares.open(index);
        }
        self.watched[index.usize()] = Some(device);
    }

    fn drop_device(&mut self, index: DeviceIndex) {
        if let Some(device) = self.device_mut(index) {
            device.dropped = true;
            if device.in_flight > 0 {
                return;
            }
        }
        self.notices.push_back(Notice::DeviceIdle { device: index });
    }

    fn volume_mut(&mut self, index: VolumeIndex) -> &mut Volume {
        if self.volumes.len() <= index.usize() {
            self.volumes.resize_with(index.usize() + 1, Volume::default);
        }
        &mut self.volumes[index.usize()]
    }
}
