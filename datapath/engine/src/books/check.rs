//! Whether the books are true: each count is made anew from the slots, and each request is found in one place.

use super::lines::Lines;
use super::{Books, Slot, Use, Work};
use palisade_words::{AttachmentIndex, DeviceIndex, SlotIndex, VolumeIndex};
use std::collections::BTreeMap;

/// What is in flight, counted from the slots alone.
#[derive(Default)]
struct Counted {
    queues: BTreeMap<u16, [u32; 4]>,
    /// Large operations of each queue that move data.
    large: BTreeMap<u16, u32>,
    volumes: BTreeMap<VolumeIndex, [u32; 2]>,
    devices: BTreeMap<DeviceIndex, u32>,
    slots: BTreeMap<DeviceIndex, u32>,
    lists: BTreeMap<DeviceIndex, u32>,
    parts: BTreeMap<DeviceIndex, u32>,
    buffers: BTreeMap<DeviceIndex, u32>,
    flight: BTreeMap<AttachmentIndex, u64>,
    ranges: BTreeMap<(DeviceIndex, AttachmentIndex), (u64, u32)>,
    parts_of: BTreeMap<SlotIndex, u32>,
    buffers_used: usize,
    lists_lent: u32,
}

impl Books {
    /// Holds every count against the slots, and the lines against what is said in them. Between two turns, with so many
    /// bounce buffers out of their pool. Not part of a turn: this allocates.
    ///
    /// # Panics
    /// When anything is not as it has to be: our own bug.
    pub(crate) fn check(&self, buffers_used: usize) {
        let mut counted = Counted::default();
        let times_free = self.slots.times_free();
        let lines = self.stands();
        assert!(
            lines.is_empty() == self.lines.are_empty(),
            "{lines:?} stand in the lines"
        );
        for ((index, slot), times_free) in self.slots.iter().zip(times_free) {
            let is_free = slot.used_for == Use::Free;
            assert!(
                times_free == u32::from(is_free),
                "{index:?} is {times_free} times free: {slot:?}"
            );
            let stands = lines.get(&index).copied().unwrap_or_default();
            match slot.used_for {
                Use::Free => self.check_free(index, stands),
                Use::Request => self.check_request(index, stands),
                Use::Part => self.check_part(index, stands),
            }
            if !is_free {
                counted.count(index, slot, self.queue(slot.queue).attachment);
            }
        }
        for (index, slot) in self.slots.iter() {
            let parts = counted.parts_of.get(&index).copied().unwrap_or(0);
            assert!(slot.outstanding == parts, "{index:?} has {parts} parts: {slot:?}");
        }
        assert!(counted.buffers_used == buffers_used, "bounce buffers are lost");
        self.check_counts(&counted);
    }

    /// How often each slot stands in the lines: blocked, waiting, resting and released.
    fn stands(&self) -> BTreeMap<SlotIndex, [u32; 4]> {
        let mut stands = BTreeMap::<SlotIndex, [u32; 4]>::new();
        let Lines {
            blocked,
            waiting,
            rests,
            released,
            ..
        } = &self.lines;
        for (line, of) in [blocked, waiting, rests, released].into_iter().zip(0..) {
            for &index in line {
                let stands: &mut [u32; 4] = stands.entry(index).or_default();
                stands[of] += 1;
            }
        }
        stands
    }

    /// A free slot holds nothing.
    fn check_free(&self, index: SlotIndex, stands: [u32; 4]) {
        let slot = self.slots.slot(index);
        assert!(
            slot.token.is_none() && slot.held_by.is_none() && slot.bounce.is_none() && slot.parked.is_none(),
            "free {index:?} holds something: {slot:?}"
        );
        assert!(
            !slot.on_device && !slot.waits && !slot.long && !slot.holds_queue && slot.flight_bytes == 0,
            "free {index:?} counts for something: {slot:?}"
        );
        assert!(stands == [0; 4], "free {index:?} stands in a line: {stands:?}");
        assert!(
            !self.slots.list(index).is_lent(),
            "free {index:?} has a long list"
        );
    }

    /// A request is in one place: on its device, in a line, parked, or where its parts are.
    fn check_request(&self, index: SlotIndex, stands: [u32; 4]) {
        let slot = self.slots.slot(index);
        assert!(self.slots.is_for_request(index), "{index:?} is no request's");
        assert!(slot.token.is_some(), "{index:?} has been answered: {slot:?}");
        let [blocked, waiting, resting, released] = stands;
        let lines = (u32::from(slot.waits && !slot.rests), u32::from(slot.rests));
        assert!(
            lines == (waiting, resting) && slot.waits >= slot.rests && slot.rests >= slot.holds_queue,
            "{index:?} stands {stands:?} times in the lines: {slot:?}"
        );
        let has_parts = slot.outstanding > 0;
        let places = blocked
            + released
            + u32::from(slot.on_device)
            + u32::from(slot.parked.is_some())
            + u32::from(slot.waits || has_parts);
        assert!(
            places == 1,
            "{index:?} is in {places} places, {stands:?}: {slot:?}"
        );
        let is_whole = slot.work == Work::Whole;
        assert!(
            is_whole || !(slot.on_device || blocked > 0),
            "{index:?} is on its device and in pieces: {slot:?}"
        );
        let has_long = self.slots.list(index).is_lent();
        assert!(
            slot.long == has_long,
            "{index:?} has a long list, or not: {slot:?}"
        );
        assert!(slot.bounce.is_none(), "{index:?} has a part's buffer: {slot:?}");
    }

    /// A part is on its device, or waits for room there, and its request is in flight.
    fn check_part(&self, index: SlotIndex, stands: [u32; 4]) {
        let slot = self.slots.slot(index);
        assert!(!self.slots.is_for_request(index), "{index:?} is no part's");
        let places = stands[0] + u32::from(slot.on_device);
        assert!(
            places == 1 && stands[1..] == [0; 3],
            "{index:?} is in {places} places, {stands:?}: {slot:?}"
        );
        let request = self.slots.slot(slot.parent);
        assert!(
            request.used_for == Use::Request && (request.queue, request.volume) == (slot.queue, slot.volume),
            "{index:?} is a part of no request: {slot:?}, {request:?}"
        );
        assert!(
            slot.token.is_none() && slot.held_by.is_none() && slot.parked.is_none() && !slot.long,
            "{index:?} holds what a request does: {slot:?}"
        );
    }

    fn check_counts(&self, counted: &Counted) {
        for (index, queue) in (0..).zip(&self.queues) {
            let of = counted.queues.get(&index).copied().unwrap_or_default();
            let booked = [queue.in_flight, queue.parked, queue.long, queue.resting];
            assert!(booked == of, "of queue {index} {of:?} are in flight: {queue:?}");
            let has_large = counted.large.contains_key(&index);
            assert!(
                queue.careful || !(has_large || queue.resting > 0 || queue.wants_long),
                "queue {index} is taken from without care: {queue:?}"
            );
        }
        for (index, volume) in (0..).map(VolumeIndex).zip(&self.volumes) {
            let of = counted.volumes.get(&index).copied().unwrap_or_default();
            let booked = [volume.active, volume.parked];
            assert!(booked == of, "of {index:?} {of:?} are in flight: {volume:?}");
        }
        for (device, &booked) in (0..).map(DeviceIndex).zip(&self.devices) {
            let of = counted.devices.get(&device).copied().unwrap_or_default();
            assert!(booked == of, "{of} operations are on {device:?}, not {booked}");
        }
        for (what, shares, of) in [
            ("slots", &self.slot_shares, &counted.slots),
            ("long lists", &self.long_shares, &counted.lists),
            ("parts", &self.part_shares, &counted.parts),
            ("buffers", &self.buffer_shares, &counted.buffers),
        ] {
            shares.check(what, of);
        }
        assert!(
            self.slots.long_free() + counted.lists_lent == self.slots.long_all(),
            "long lists are lost"
        );
        self.check_flight(counted);
    }

    fn check_flight(&self, counted: &Counted) {
        let all: u64 = counted.flight.values().sum();
        assert!(
            self.flight.bytes() == all,
            "{all} bytes are in flight: {:?}",
            self.flight
        );
        for attachment in (0..self.flight.attachments()).map(|index| AttachmentIndex(index as u16)) {
            let of = counted.flight.get(&attachment).copied().unwrap_or_default();
            let booked = self.flight.bytes_of(attachment);
            assert!(
                booked == of,
                "{of} bytes of {attachment:?} are in flight, not {booked}"
            );
        }
        for (device, ranges) in (0..).map(DeviceIndex).zip(&self.ranges) {
            ranges.check(device, &counted.ranges);
        }
    }
}

impl Counted {
    fn count(&mut self, index: SlotIndex, slot: &Slot, attachment: AttachmentIndex) {
        let is_request = slot.used_for == Use::Request;
        if is_request {
            let is_parked = u32::from(slot.parked.is_some());
            let of_queue = [1, is_parked, u32::from(slot.long), u32::from(slot.holds_queue)];
            let queue = self.queues.entry(slot.queue).or_default();
            for (count, more) in queue.iter_mut().zip(of_queue) {
                *count += more;
            }
            let volume = self.volumes.entry(slot.volume).or_default();
            volume[0] += 1 - is_parked;
            volume[1] += is_parked;
            self.lists_lent += u32::from(slot.long);
        } else {
            *self.parts_of.entry(slot.parent).or_default() += 1;
            *self.parts.entry(slot.device).or_default() += 1;
            if slot.bounce.is_some() {
                self.buffers_used += 1;
                *self.buffers.entry(slot.device).or_default() += 1;
            }
        }
        if let Some(device) = slot.held_by {
            *self.slots.entry(device).or_default() += 1;
            *self.lists.entry(device).or_default() += u32::from(slot.long);
        }
        if slot.on_device {
            *self.devices.entry(slot.device).or_default() += 1;
        }
        let bytes = u64::from(slot.flight_bytes);
        if bytes > 0 && slot.op.moves_data() {
            *self.large.entry(slot.queue).or_default() += 1;
            *self.flight.entry(attachment).or_default() += bytes;
        } else if bytes > 0 {
            assert!(!is_request, "{index:?} is a range in flight that is no part");
            let range = self.ranges.entry((slot.device, attachment)).or_default();
            *range = (range.0 + bytes, range.1 + 1);
        }
    }
}
