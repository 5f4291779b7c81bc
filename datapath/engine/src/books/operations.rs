//! Operations on devices, and the parts of requests that go in pieces.

use super::{Books, Place, Use};
use crate::reactor::broken;
use palisade_block::ledger;
use palisade_block::{Nanos, Op, Segment};
use palisade_words::{DeviceIndex, Lba, Sectors, SlotIndex};

/// A part of a request, for one device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) parent: SlotIndex,
    pub(crate) op: Op,
    pub(crate) device: DeviceIndex,
    pub(crate) device_lba: Lba,
    pub(crate) sectors: Sectors,
    /// Bytes of the request before it.
    pub(crate) skip: u64,
    /// Where in the request's segments it begins.
    pub(crate) place: Place,
    /// The buffer that its data goes through.
    pub(crate) bounce: Option<Segment>,
}

impl Books {
    /// The device of a slot's operation has taken it. How many it has now.
    #[inline]
    pub(crate) fn start(&mut self, index: SlotIndex, now: Nanos) -> u32 {
        let slot = self.slots.slot_mut(index);
        assert!(!slot.on_device, "{index:?} is started twice");
        (slot.on_device, slot.launched) = (true, now);
        let Some(count) = self.devices.get_mut(slot.device.usize()) else {
            broken("an operation is on a device that never was")
        };
        ledger::enter(count, "operations on a device");
        *count
    }

    /// Its device has finished it. How many it has left.
    #[inline]
    pub(crate) fn land(&mut self, index: SlotIndex) -> u32 {
        let slot = self.slots.slot_mut(index);
        assert!(
            slot.used_for != Use::Free && slot.on_device,
            "a device finished {index:?}, which it did not have"
        );
        slot.on_device = false;
        let Some(count) = self.devices.get_mut(slot.device.usize()) else {
            broken("an operation was on a device that never was")
        };
        ledger::leave(count, "operations on a device");
        *count
    }

    /// A large operation counts from now on, its device having taken it or not: of a read or write these bytes, of
    /// another those that it counts for among the ranges.
    pub(crate) fn count_flight(&mut self, index: SlotIndex, bytes: u32, now: Nanos) {
        let slot = self.slots.slot_mut(index);
        assert!(slot.flight_bytes == 0, "{index:?} counts twice in flight");
        slot.flight_bytes = bytes;
        let (queue, device, moves_data) = (slot.queue, slot.device, slot.op.moves_data());
        let queue = self.queue_mut(queue);
        queue.careful |= moves_data;
        let attachment = queue.attachment;
        if moves_data {
            self.flight.take(attachment, bytes);
        } else if let Some(ranges) = self.ranges.get_mut(device.usize()) {
            ranges.take(attachment, bytes, now);
        }
    }

    /// A part comes into the slot that was claimed for it.
    pub(crate) fn enter_part(&mut self, index: SlotIndex, part: Part) {
        let request = self.slots.slot_mut(part.parent);
        ledger::enter(&mut request.outstanding, "parts of a request");
        let (queue, volume) = (request.queue, request.volume);
        let slot = self.slots.slot_mut(index);
        assert!(slot.used_for == Use::Free, "{index:?} is used for two parts");
        slot.used_for = Use::Part;
        slot.op = part.op;
        (slot.queue, slot.volume) = (queue, volume);
        slot.sectors = part.sectors;
        (slot.device, slot.device_lba) = (part.device, part.device_lba);
        slot.cancelled = false;
        slot.parent = part.parent;
        (slot.skip, slot.place) = (part.skip, part.place);
        slot.bounce = part.bounce;
        self.part_shares.take(part.device);
        if part.bounce.is_some() {
            self.buffer_shares.take(part.device);
        }
    }

    /// Whether a part counts among the ranges in flight on its device.
    pub(crate) fn is_range_in_flight(&self, part: SlotIndex) -> bool {
        let slot = self.slots.slot(part);
        slot.flight_bytes != 0 && !slot.op.moves_data()
    }

    /// A part goes that no device has any more, or ever had. Its buffer, if it had one, goes back to its pool.
    #[must_use = "a buffer goes back to its pool"]
    pub(crate) fn exit_part(&mut self, index: SlotIndex) -> Option<Segment> {
        let is_range = self.is_range_in_flight(index);
        let slot = self.slots.slot_mut(index);
        assert!(
            slot.used_for == Use::Part && !slot.on_device,
            "{index:?} is taken back, which is no part or which a device has"
        );
        let (parent, queue, device) = (slot.parent, slot.queue, slot.device);
        let flight_bytes = std::mem::take(&mut slot.flight_bytes);
        let buffer = slot.bounce.take();
        let attachment = self.queue(queue).attachment;
        if is_range {
            if let Some(ranges) = self.ranges.get_mut(device.usize()) {
                ranges.give(attachment, flight_bytes);
            }
        } else if flight_bytes != 0 {
            self.flight.give(attachment, flight_bytes);
        }
        self.part_shares.give(device);
        if buffer.is_some() {
            self.buffer_shares.give(device);
        }
        self.slots.release(index);
        let request = self.slots.slot_mut(parent);
        ledger::leave(&mut request.outstanding, "parts of a request");
        buffer
    }
}
