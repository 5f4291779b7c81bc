//! The stall watch: every operation on a device has a deadline (invariant 12).
//!
//! An operation past its deadline is asked back once. If the device can still take it back it is answered with an
//! error; if not, it is waited for, because its memory may still be written: answering early would hand the guest
//! a buffer that changes under its hands. Meanwhile the device is reported as stalled, by name, and all others go
//! on.

use crate::reactor::Reactor;
use palisade_block::limits::RANGE_TOLD;
use palisade_block::mailbox::Notice;
use palisade_block::{Devices, Nanos, Pool, Source};
use palisade_words::SlotIndex;

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Looks at every operation in flight. Called a few times a second, not every turn.
    pub(crate) fn watch(&mut self) {
        self.watch_next = self.now.after(self.watch_every);
        for (_, device) in self.watched.iter() {
            device.stats.oldest_ns.set(0);
        }
        for index in (0..self.books.slots.len() as u32).map(SlotIndex) {
            let slot = self.books.slots.slot_mut(index);
            if !slot.is_on_device() {
                continue;
            }
            let Some(device) = self.watched.get(slot.device) else {
                continue;
            };
            let age = self.now.since(slot.launched);
            let oldest = &device.stats.oldest_ns;
            oldest.set(oldest.get().max(age.0));
            // Those who wait for it are to see whose it is before it ends.
            if slot.op.is_range()
                && age >= RANGE_TOLD
                && let Some(queue) = self.queues.get(slot.queue)
            {
                device.stats.slow_ranges.note(queue.id.attachment, age);
            }
            if age >= device.deadline && !slot.cancelled {
                slot.cancelled = true;
                self.devices.cancel(index);
                // A request over several devices counts with the one that keeps it waiting.
                self.rebook_request_of(index);
            }
        }
        for (index, device) in self.watched.iter_mut() {
            let oldest = Nanos(device.stats.oldest_ns.get());
            let stalled = oldest >= device.deadline;
            if stalled != device.stalled {
                device.stalled = stalled;
                device.stats.stalls.add(u64::from(stalled));
                self.notices.push_back(Notice::DeviceStalled {
                    device: index,
                    oldest: if stalled { oldest } else { Nanos(0) },
                });
            }
        }
    }
}
