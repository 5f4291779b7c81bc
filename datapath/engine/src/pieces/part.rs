//! How a part ends: its data comes to the guest, what it had goes back, and a fault is its request's.

use super::cut::rest;
use crate::books::{Use, Work};
use crate::reactor::{Reactor, broken};
use crate::touches;
use palisade_block::limits::RANGE_TOLD;
use palisade_block::{Devices, Fault, Op, Pool, Source};
use palisade_words::{Sectors, SlotIndex};

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Takes the end of a part: data to the guest, buffer back, slot back, fault to the request.
    pub(crate) fn settle_part(&mut self, part: SlotIndex, result: Result<(), Fault>) {
        self.count_fault(part, result);
        let result = match result {
            Ok(()) => self.bring(part),
            Err(fault) => Err(fault),
        };
        let slot = self.books.slots.slot(part);
        let (parent, op, device) = (slot.parent, slot.op, slot.device);
        self.give_back_part(part, result);
        let request = self.books.slots.slot_mut(parent);
        match (op, result) {
            (_, Ok(())) | (Op::Discard, Err(Fault::Unsupported)) => {}
            (Op::WriteZeroes { .. }, Err(Fault::Unsupported)) => {
                request.again = Some(Work::Zeroes(Sectors::ZERO))
            }
            (_, Err(fault)) if request.fault.is_none() => {
                (request.fault, request.device) = (Some(fault), device);
            }
            _ => {}
        }
    }

    /// Brings what a part has read to the guest, if that went through a buffer.
    fn bring(&mut self, part: SlotIndex) -> Result<(), Fault> {
        let slot = self.books.slots.slot(part);
        let Some(buffer) = slot.bounce().filter(|_| slot.op == Op::Read) else {
            return Ok(());
        };
        let (queue, sectors) = (slot.queue, slot.sectors);
        let to = self.books.slots.list(slot.parent).as_slice();
        let (to, skip) = rest(to, slot.place, slot.skip);
        self.touches.add(touches::count(to, skip, sectors.bytes()));
        let lease = &self.queues.at(queue).lease;
        if self
            .pool
            .scatter(buffer, lease, to, skip, sectors.bytes() as usize)
        {
            return Ok(());
        }
        let result = Err(Fault::GuestMemory);
        self.count_fault(part, result);
        result
    }

    /// Gives back what a part had, which has ended so, or was never begun.
    pub(crate) fn give_back_part(&mut self, part: SlotIndex, result: Result<(), Fault>) {
        if self.books.is_range_in_flight(part) {
            self.took(part, result);
        }
        if let Some(buffer) = self.books.exit_part(part) {
            self.pool.give(buffer);
            self.count_buffers();
        }
    }

    /// A range has come back, or was taken back, that was in the books: how long it took.
    pub(crate) fn took(&mut self, part: SlotIndex, result: Result<(), Fault>) {
        let slot = self.books.slots.slot(part);
        let (bytes, device) = (slot.sectors.bytes(), slot.device);
        let took = self.now.since(slot.launched);
        let queue = self.queues.at(slot.queue);
        queue.settings.stats.ranges_ns.add(took.0);
        if took >= RANGE_TOLD
            && let Some(watched) = self.watched.get(device)
        {
            watched.stats.slow_ranges.note(queue.id.attachment, took);
        }
        // Of one that failed nobody knows how far it came.
        if result.is_ok() {
            self.books.judge_range(device, bytes, took, self.now);
        }
    }

    /// Tells how many bounce buffers are in use.
    pub(crate) fn count_buffers(&self) {
        let used = self.buffers.checked_sub(self.pool.free());
        let used = used.unwrap_or_else(|| broken("more bounce buffers came back than there are"));
        self.stats.buffers_used.set(used as u64);
    }

    /// Books the request of a part that is late on the part's device. An uncut request is booked there already.
    pub(crate) fn rebook_request_of(&mut self, index: SlotIndex) {
        let slot = self.books.slots.slot(index);
        if slot.used_for() == Use::Part {
            let (request, device) = (slot.parent, slot.device);
            self.books.hold(request, device);
        }
    }
}
