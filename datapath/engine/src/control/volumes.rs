//! What a reactor is told of a volume's mapping, and what becomes of the requests that are under way then.

use crate::books::{Parked, Use};
use crate::mapping::{Cancelling, Volume};
use crate::reactor::Reactor;
use palisade_block::mailbox::Notice;
use palisade_block::{Devices, Fault, Pool, Route, Source};
use palisade_words::{AttachmentIndex, Generation, QueueId, SlotIndex, VolumeIndex};

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

    /// Nobody heals what requests of a volume have met: those that are parked by it are answered in the next turns.
    pub(crate) fn fail_volume(&mut self, index: VolumeIndex, generation: Generation) {
        match self.volume_mut(index).fail(generation) {
            true => self.release_faults(|_, volume| volume == index),
            false => self.refuse_stale(index),
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
        self.books.lines.keep_released(is_others);
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
                false if self.is_revoked(request) || has_fault => self.books.lines.release(request),
                false => drop(self.park_quietly(request, Parked::Held)),
            }
        }
        self.settle_if_drained(index);
    }

    /// Takes back operations that their device had no room for.
    fn take_back_blocked(&mut self, index: VolumeIndex) {
        for _ in 0..self.books.lines.blocked() {
            let Some(operation) = self.books.lines.next_blocked() else {
                break;
            };
            let slot = self.books.slots.slot(operation);
            if slot.volume != index {
                self.books.lines.block(operation);
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

    /// A volume that this reactor is told of.
    pub(crate) fn volume_mut(&mut self, index: VolumeIndex) -> &mut Volume {
        self.books.open_volume(index);
        self.volumes.known(index)
    }
}
