//! What may be begun, as far as what is in flight goes.

use super::{Books, Owner};
use crate::ranges::Ranges;
use palisade_block::Nanos;
use palisade_block::limits::{PIECE_BYTES_MAX, RANGE_BYTES_FIRST};
use palisade_words::{AttachmentIndex, DeviceIndex, VolumeIndex};

impl Books {
    /// Requests of a volume that the devices of its route may keep for a queue now. None while the queue's own large
    /// requests, or those of its attachment, keep things from being taken.
    ///
    /// It is inlined wherever a queue is served: as a call of its own it costs a turn some fifteen instructions.
    #[inline(always)]
    pub(crate) fn room_for(&mut self, owner: Owner, carries_many: bool, devices: &[DeviceIndex]) -> u32 {
        let Some(queue) = self.queues.get(usize::from(owner.queue)) else {
            return 0;
        };
        let held = match carries_many {
            false => queue.in_flight,
            true => self.held_of(owner.volume),
        };
        match queue.careful && !self.may_take_carefully(owner.queue, devices) {
            false => self.room(held, devices),
            true => 0,
        }
    }

    /// The same of a volume of a source that carries many, before it is said whether the queue may have anything.
    pub(crate) fn room_of(&self, volume: VolumeIndex, devices: &[DeviceIndex]) -> u32 {
        self.room(self.held_of(volume), devices)
    }

    /// Each volume of a source that carries many is as a queue of its own: one that hangs leaves as much to the others
    /// as to other queues.
    fn held_of(&self, volume: VolumeIndex) -> u32 {
        let volume = self.volumes.get(volume.usize()).copied().unwrap_or_default();
        volume.active + volume.parked
    }

    /// Requests that devices may keep for a queue that holds so many, if each keeps all of them.
    /// A queue, like a device, may hold as many as are left free: a hungry one ends with half of them, two with a third
    /// each, and a newcomer always finds some.
    #[inline(always)]
    fn room(&self, held: u32, devices: &[DeviceIndex]) -> u32 {
        let free = self.slots.requests_free();
        devices
            .iter()
            .map(|&device| self.slot_shares.room(device, free))
            .fold(free.saturating_sub(held).div_ceil(2), u32::min)
    }

    /// Whether anything may be taken from a queue as far as its own large requests and those of its attachment go.
    #[cold]
    fn may_take_carefully(&mut self, index: u16, devices: &[DeviceIndex]) -> bool {
        let queue = *self.queue(index);
        self.queue_mut(index).careful =
            queue.wants_long || queue.resting > 0 || !self.flight.is_idle(queue.attachment);
        queue.resting == 0
            && self.flight.may_take(queue.attachment, PIECE_BYTES_MAX.into())
            && (!queue.wants_long || self.has_long(index, devices))
    }

    /// Whether a queue whose next request is long may have a list for it. Of these, too, a queue may hold as many as
    /// are left free, and a device no more than its share.
    pub(crate) fn has_long(&self, queue: u16, devices: &[DeviceIndex]) -> bool {
        let free = self.slots.long_free();
        let may_take = |&device| self.long_shares.may_take(device, free);
        free > self.queue(queue).long && devices.iter().all(may_take)
    }

    /// The next request of a queue is long, or has turned out not to be.
    pub(crate) fn wants_long(&mut self, queue: u16, wants: bool) {
        let queue = self.queue_mut(queue);
        queue.wants_long = wants;
        queue.careful |= wants;
    }

    /// Whether a request of the queue rests that keeps all others in its ring.
    pub(crate) fn is_kept_from(&self, queue: u16) -> bool {
        self.queue(queue).resting > 0
    }

    /// Whether a device may have another part.
    pub(crate) fn may_cut(&self, device: DeviceIndex) -> bool {
        self.part_shares.may_take(device, self.slots.parts_free())
    }

    /// Whether it may have another bounce buffer while so many are free.
    pub(crate) fn may_bounce(&self, device: DeviceIndex, free: u32) -> bool {
        self.buffer_shares.may_take(device, free)
    }

    /// Whether an operation of so many bytes may be in flight for a queue.
    pub(crate) fn may_fly(&self, queue: u16, bytes: u64) -> bool {
        self.flight.may_take(self.queue(queue).attachment, bytes)
    }

    /// The same of a range on a device.
    pub(crate) fn may_fly_range(&mut self, queue: u16, device: DeviceIndex, bytes: u64, now: Nanos) -> bool {
        let attachment = self.queue(queue).attachment;
        let ranges = self.ranges.get_mut(device.usize());
        ranges.is_none_or(|ranges| ranges.may_take(attachment, bytes, now))
    }

    /// Bytes of the next range on a device at most, which ends at a multiple of them.
    pub(crate) fn range_step(&self, device: DeviceIndex) -> u64 {
        let ranges = self.ranges.get(device.usize());
        ranges.map_or(RANGE_BYTES_FIRST.into(), Ranges::step)
    }

    /// A range of so many bytes has come back well from a device after so long.
    pub(crate) fn judge_range(&mut self, device: DeviceIndex, bytes: u64, took: Nanos, now: Nanos) {
        if let Some(ranges) = self.ranges.get_mut(device.usize()) {
            ranges.judge(bytes, took, now);
        }
    }

    /// When ranges that rest are to ask again.
    pub(crate) fn ranges_due(&self, now: Nanos) -> impl Iterator<Item = Nanos> {
        let rests = match self.lines.resting() {
            0 => &[][..],
            _ => &self.ranges,
        };
        rests.iter().filter_map(move |ranges| ranges.due(now))
    }

    /// Two attachments have asked the same disk for something, one behind the other.
    pub(crate) fn meet(&mut self, attachments: [AttachmentIndex; 2]) {
        self.flight.meet(attachments);
    }

    /// Requests of a queue in flight.
    pub(crate) fn in_flight(&self, queue: u16) -> u32 {
        self.queue(queue).in_flight
    }

    /// Those of them that are parked.
    pub(crate) fn parked(&self, queue: u16) -> u32 {
        self.queue(queue).parked
    }

    /// Requests of a volume that are on their way: not parked.
    #[inline]
    pub(crate) fn active(&self, volume: VolumeIndex) -> u32 {
        self.volumes.get(volume.usize()).map_or(0, |volume| volume.active)
    }

    /// Those that are parked.
    pub(crate) fn parked_of(&self, volume: VolumeIndex) -> u32 {
        self.volumes.get(volume.usize()).map_or(0, |volume| volume.parked)
    }

    /// Operations on a device.
    pub(crate) fn on_device(&self, device: DeviceIndex) -> u32 {
        self.devices.get(device.usize()).copied().unwrap_or(0)
    }
}
