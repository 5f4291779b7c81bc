//! Requests that wait for a decision about their volume, or about a fault, and how they are sent again.
//!
//! Parked is a request that no device has anything of. It keeps its slot, its list of segments and its place in the books of
//! its queue and of the device it was booked on, so that parked requests are bounded as those in flight are, and by the same
//! shares (invariant 11); it gives back what counts for being in flight. It is sent again whole, from its first sector, by
//! the route that is in force then. Parts of it may have been carried out before: that is safe as they have all come back
//! (invariant 4), since to carry out a request of a block device twice is the same as once as long as it is not answered. A
//! guest that has two writes to one sector under way is told nothing about their order anyway.
//!
//! A request is parked while its volume is held, or by a fault that may heal, if its route says so: the guest does not hear
//! of a lost way before somebody has decided. What such a device has answered does not say that a write will not land any
//! more; whoever sends `Resume` has made that impossible, by fencing or by draining.

use crate::books::{Parked, Use};
use crate::carry::{Asked, way_of_other};
use crate::mapping::{Cancelling, Settled, Volume};
use crate::queue::Queue;
use crate::reactor::Reactor;
use palisade_block::mailbox::Notice;
use palisade_block::{Devices, Fault, Pool, Route, Source};
use palisade_words::{AttachmentIndex, Generation, QueueId, SlotIndex, VolumeIndex};

/// Parked requests that one turn sends again at most.
const SENDS_TRIED: usize = 32;

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    pub(crate) fn suspend(&mut self, index: VolumeIndex, generation: Generation) {
        match self.volume_mut(index).suspend(generation) {
            true => self.hold_volume(index),
            false => self.refuse_stale(index),
        }
    }

    pub(crate) fn resume_volume(&mut self, index: VolumeIndex, route: Route) {
        let (generation, epoch) = (route.generation(), route.epoch());
        let is_of_this_epoch = epoch >= self.epoch;
        self.epoch = self.epoch.max(epoch);
        match is_of_this_epoch && self.volume_mut(index).decide(generation, Some(route)) {
            true => self.hold_volume(index),
            false => self.refuse_stale(index),
        }
    }

    pub(crate) fn end_volume(&mut self, index: VolumeIndex, generation: Generation) {
        match self.volume_mut(index).decide(generation, None) {
            true => self.hold_volume(index),
            false => self.refuse_stale(index),
        }
    }

    pub(crate) fn cancel_change(&mut self, index: VolumeIndex, generation: Generation) {
        match self.volume_mut(index).cancel(generation) {
            Cancelling::Stale => self.refuse_stale(index),
            Cancelling::Over => {
                self.notices.push_back(Notice::Cancelled {
                    volume: index,
                    generation,
                });
                self.release_parked(index, false);
            }
            Cancelling::Unknown => self.hold_volume(index),
        }
    }

    /// A command was older than what is known: it changes nothing, and whoever sent it is told what is known.
    fn refuse_stale(&mut self, index: VolumeIndex) {
        self.stats.stale_commands.add(1);
        let (generation, epoch) = (self.volume_mut(index).generation(), self.epoch);
        self.notices.push_back(Notice::Stale {
            volume: index,
            generation,
            epoch,
        });
    }

    /// Parks what no device has of a volume that is held. What devices have is waited for.
    fn hold_volume(&mut self, index: VolumeIndex) {
        self.take_back_blocked(index);
        let slots = &self.books.slots;
        let is_others = |request: &SlotIndex| slots.slot(*request).volume != index;
        self.books.lines.released.retain(is_others);
        for request in self.books.slots.requests() {
            let slot = self.books.slots.slot(request);
            if slot.used_for() != Use::Request || slot.parked().is_some() || slot.volume != index {
                continue;
            }
            let is_on_device = slot.is_on_device() || slot.outstanding() > 0;
            let has_fault = slot.fault.is_some();
            self.books.wait_no_more(request);
            match is_on_device {
                true => {}
                // It ends with an error, whatever is decided; so does what has met a fault while a part of it waited.
                false if self.is_revoked(request) || has_fault => {
                    self.books.lines.released.push_back(request)
                }
                false => drop(self.park_quietly(request, Parked::Held)),
            }
        }
        self.settle_if_drained(index);
    }

    /// Takes back operations that their device had no room for.
    fn take_back_blocked(&mut self, index: VolumeIndex) {
        for _ in 0..self.books.lines.blocked.len() {
            let Some(operation) = self.books.lines.blocked.pop_front() else {
                break;
            };
            let slot = self.books.slots.slot(operation);
            if slot.volume != index {
                self.books.lines.blocked.push_back(operation);
            } else if slot.used_for() == Use::Part {
                self.take_back_part(operation);
            }
        }
    }

    /// Takes back a part that no device has taken: its request is begun anew when its other parts have come back.
    fn take_back_part(&mut self, part: SlotIndex) {
        let parent = self.books.slots.slot(part).parent;
        self.give_back_part(part, Err(Fault::TimedOut));
        let request = self.books.slots.slot_mut(parent);
        request.again = request.again.or(Some(request.work.anew()));
    }

    /// Whether the rest of a request is left to whoever serves its queue next.
    pub(crate) fn is_left(&self, request: SlotIndex) -> bool {
        self.queue_of_slot(request).leaving
    }

    /// Whether the volume of a request was taken away from its attachment.
    pub(crate) fn is_revoked(&self, request: SlotIndex) -> bool {
        self.queue_of_slot(request).settings.revoked
    }

    /// The queue of a slot's request.
    fn queue_of_slot(&self, slot: SlotIndex) -> &Queue<S> {
        self.queues.at(self.books.slots.slot(slot).queue)
    }

    /// The volume of a slot's request.
    fn volume_of_slot(&self, slot: SlotIndex) -> &Volume {
        self.volumes.get(self.books.slots.slot(slot).volume)
    }

    /// Whether nothing of a request may be started just now.
    pub(crate) fn is_held(&self, request: SlotIndex) -> bool {
        self.volume_of_slot(request).is_held()
    }

    /// Parks a request of which no device has anything.
    pub(crate) fn park(&mut self, request: SlotIndex) {
        let volume = self.park_quietly(request, Parked::Held);
        self.settle_if_drained(volume);
    }

    /// Ends a request by what became of it, unless that is a fault that waits for a decision.
    pub(crate) fn conclude(&mut self, request: SlotIndex, result: Result<(), Fault>) {
        match result {
            Err(fault) if fault.may_heal() && self.parks_faults(request) => {
                self.park_by_fault(request, fault)
            }
            result => self.answer(request, result),
        }
    }

    /// Whether faults of a request wait for a decision: not when its queue is to end soon, or has lost its volume.
    fn parks_faults(&self, request: SlotIndex) -> bool {
        let queue = self.queue_of_slot(request);
        !queue.settings.revoked && !queue.is_urgent && self.volume_of_slot(request).parks_faults()
    }

    #[cold]
    fn park_by_fault(&mut self, request: SlotIndex, fault: Fault) {
        self.books.wait_no_more(request);
        if self.is_left(request) {
            return self.leave(request);
        }
        // Of a device that was never given to this reactor the request knows nothing.
        let mut devices = self.volume_of_slot(request).devices().iter().copied();
        let lacking = devices.find(|device| fault == Fault::Gone && self.watched.get(*device).is_none());
        let device = lacking.unwrap_or(self.books.slots.slot(request).device);
        let index = self.park_quietly(request, Parked::Fault(fault));
        if self.volume_mut(index).tells_parked(device) {
            self.notices.push_back(Notice::Parked {
                volume: index,
                device,
                fault,
            });
        }
        self.settle_if_drained(index);
    }

    /// Nobody heals what requests of a volume have met: those that are parked by it are answered in the next turns.
    pub(crate) fn fail_volume(&mut self, index: VolumeIndex, generation: Generation) {
        match self.volume_mut(index).fail(generation) {
            true => self.release_faults(|_, volume| volume == index),
            false => self.refuse_stale(index),
        }
    }

    /// Has the requests of some queues or volumes that are parked by a fault answered with it.
    pub(crate) fn release_faults(&mut self, of: impl Fn(&Queue<S>, VolumeIndex) -> bool) {
        self.each_parked(of, |reactor, request, why| {
            if let Parked::Fault(fault) = why {
                reactor.release(request);
                reactor.books.slots.slot_mut(request).fault = Some(fault);
            }
        });
    }

    /// Does something with each parked request of some queues or volumes.
    fn each_parked(
        &mut self,
        of: impl Fn(&Queue<S>, VolumeIndex) -> bool,
        mut visit: impl FnMut(&mut Self, SlotIndex, Parked),
    ) {
        for request in self.books.slots.requests() {
            let slot = self.books.slots.slot(request);
            if let Some(why) = slot.parked()
                && of(self.queue_of_slot(request), slot.volume)
            {
                visit(self, request, why);
            }
        }
    }

    fn park_quietly(&mut self, request: SlotIndex, why: Parked) -> VolumeIndex {
        let slot = self.books.slots.slot(request);
        let (queue, volume) = (slot.queue, slot.volume);
        let stats = &self.queues.at(queue).settings.stats;
        self.books.park(request, why, stats);
        self.stats.parked.add(1);
        volume
    }

    /// It is parked no more: somebody has decided what becomes of it.
    fn unpark(&mut self, request: SlotIndex) {
        let queue = self.books.slots.slot(request).queue;
        let stats = &self.queues.at(queue).settings.stats;
        self.books.unpark(request, stats);
        self.stats.parked.sub(1);
    }

    /// It is sent again in one of the next turns.
    fn release(&mut self, request: SlotIndex) {
        self.unpark(request);
        self.books.lines.released.push_back(request);
    }

    /// What is parked of a volume goes on once that is not held. What a fault has parked waits for a decision before.
    fn release_parked(&mut self, index: VolumeIndex, is_decided: bool) {
        if self.books.parked_of(index) == 0 {
            return;
        }
        let is_held = self.volumes.get(index).is_held();
        let mut left = 0;
        self.each_parked(
            |_, volume| volume == index,
            |reactor, request, why| match why {
                Parked::Fault(_) if !is_decided => left += 1,
                _ if is_held => {
                    reactor.books.park_for(request, Parked::Held);
                    left += 1;
                }
                _ => reactor.release(request),
            },
        );
        assert!(
            self.books.parked_of(index) == left,
            "a parked request is forgotten"
        );
    }

    /// A mapping that has waited until nothing of a volume is active comes into use.
    #[inline]
    pub(crate) fn settle_if_drained(&mut self, index: VolumeIndex) {
        if self.volumes.get(index).is_held() && self.books.active(index) == 0 {
            self.settle_volume(index);
        }
    }

    /// No device has anything of a volume that is held.
    #[cold]
    fn settle_volume(&mut self, index: VolumeIndex) {
        assert!(
            self.books.active(index) == 0,
            "a mapping changes under requests that are on their way"
        );
        let happened = self.volume_mut(index).settle();
        for settled in happened.into_iter().flatten() {
            let volume = index;
            self.notices.push_back(match settled {
                Settled::InUse(generation) => Notice::RouteInUse { volume, generation },
                Settled::Ended(generation) => Notice::VolumeEnded { volume, generation },
                Settled::Suspended(generation) => Notice::Suspended { volume, generation },
            });
        }
        self.release_parked(index, happened[0].is_some());
    }

    /// Sends what is parked no more, as much as a turn allows: what takes too much of it rests. How many.
    #[cold]
    #[inline(never)]
    pub(crate) fn send_released(&mut self) -> usize {
        let mut sent = 0;
        while sent < SENDS_TRIED
            && let Some(request) = self.books.lines.released.pop_front()
        {
            let queue = self.books.slots.slot(request).queue;
            self.send_again(request);
            self.end_step(queue);
            sent += 1;
        }
        sent
    }

    /// Sends a request from its beginning, by the route in force. It goes in pieces whatever its size, so that many that are
    /// sent again at once share turns as large requests do.
    fn send_again(&mut self, index: SlotIndex) {
        let slot = self.books.slots.slot_mut(index);
        assert!(
            slot.parked().is_none() && !slot.is_on_device() && slot.outstanding() == 0 && !slot.waits(),
            "{index:?} is sent again while it is somewhere else"
        );
        if let Some(fault) = slot.fault.take() {
            slot.again = None;
            return self.conclude(index, Err(fault));
        }
        slot.start_over();
        let slot = self.books.slots.slot(index);
        let settings = &self.queues.at(slot.queue).settings;
        let way = way_of_other(
            settings,
            self.volumes.of(settings, slot.volume).route.as_ref(),
            &self.watched,
            self.books.slots.list(index).as_slice(),
            Asked::again(slot),
        );
        let op = slot.op;
        self.go(index, way.map(|way| way.in_pieces(op)));
    }

    /// Ends what is parked of a queue that is left: it comes again to whoever serves the queue next.
    pub(crate) fn leave_parked(&mut self, id: QueueId) {
        self.each_parked(
            |queue, _| queue.id == id,
            |reactor, request, _| {
                reactor.unpark(request);
                reactor.leave(request);
            },
        );
    }

    /// Has what is parked of an attachment ended in the next turn, since its volume is taken away.
    pub(crate) fn revoke_parked(&mut self, attachment: AttachmentIndex) {
        self.each_parked(
            |queue, _| queue.id.attachment == attachment,
            |reactor, request, _| reactor.release(request),
        );
    }
}
