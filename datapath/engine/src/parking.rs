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

use crate::books::Parked;
use crate::mapping::{Settled, Volume};
use crate::queue::Queue;
use crate::reactor::Reactor;
use palisade_block::mailbox::Notice;
use palisade_block::{Devices, Fault, Pool, Source};
use palisade_words::{SlotIndex, VolumeIndex};

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Whether the rest of a request is left to whoever serves its queue next.
    pub(crate) fn is_left(&self, request: SlotIndex) -> bool {
        self.queue_of_slot(request).leaving
    }

    /// Whether the volume of a request was taken away from its attachment.
    pub(crate) fn is_revoked(&self, request: SlotIndex) -> bool {
        self.queue_of_slot(request).settings.revoked
    }

    /// The queue of a slot's request.
    pub(crate) fn queue_of_slot(&self, slot: SlotIndex) -> &Queue<S> {
        self.queues.at(self.books.slots.slot(slot).queue)
    }

    /// The volume of a slot's request.
    pub(crate) fn volume_of_slot(&self, slot: SlotIndex) -> &Volume {
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

    /// Parks a request that has met a fault which may heal: somebody is told, and decides.
    #[cold]
    pub(crate) fn park_by_fault(&mut self, request: SlotIndex, fault: Fault) {
        self.books.wait_no_more(request);
        // Of a device that was never given to this reactor the request knows nothing.
        let mut devices = self.volume_of_slot(request).devices().iter().copied();
        let lacking = devices.find(|device| fault == Fault::Gone && self.watched.get(*device).is_none());
        let device = lacking.unwrap_or(self.books.slots.slot(request).device);
        let index = self.park_quietly(request, Parked::Fault(fault));
        if self.volumes.known(index).tells_parked(device) {
            self.notices.push_back(Notice::Parked {
                volume: index,
                device,
                fault,
            });
        }
        self.settle_if_drained(index);
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
    pub(crate) fn each_parked(
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

    pub(crate) fn park_quietly(&mut self, request: SlotIndex, why: Parked) -> VolumeIndex {
        let slot = self.books.slots.slot(request);
        let (queue, volume) = (slot.queue, slot.volume);
        let stats = &self.queues.at(queue).settings.stats;
        self.books.park(request, why, stats);
        self.stats.parked.add(1);
        volume
    }

    /// It is parked no more: somebody has decided what becomes of it.
    pub(crate) fn unpark(&mut self, request: SlotIndex) {
        let queue = self.books.slots.slot(request).queue;
        let stats = &self.queues.at(queue).settings.stats;
        self.books.unpark(request, stats);
        self.stats.parked.sub(1);
    }

    /// It is sent again in one of the next turns.
    pub(crate) fn release(&mut self, request: SlotIndex) {
        self.unpark(request);
        self.books.lines.release(request);
    }

    /// What is parked of a volume goes on once that is not held. What a fault has parked waits for a decision before.
    pub(crate) fn release_parked(&mut self, index: VolumeIndex, is_decided: bool) {
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
        let happened = self.volumes.known(index).settle();
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
}
