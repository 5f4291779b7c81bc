//! How the operation of a slot comes to its device: of a request that found it busy, or of a part.

use crate::reactor::{Reactor, broken};
use palisade_block::limits::SEGMENTS_PER_SLOT;
use palisade_block::{Devices, Fault, Io, Op, Pool, Source, Started};
use palisade_words::{MemoryId, SlotIndex};

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Hands the operation of a slot to its device.
    pub(crate) fn launch(&mut self, index: SlotIndex) -> Started {
        let slot = self.books.slots.slot(index);
        let (device, op) = (slot.device, slot.op);
        let queue = self.queues.at(slot.queue);
        let volume = self.volumes.get(slot.volume);
        if volume.is_held() {
            broken("an operation is started whose volume is held")
        }
        let Some(route) = &volume.route else {
            broken("an operation is started by no route")
        };
        let Some(watched) = self.watched.get_mut(device) else {
            return Started::Done(Err(Fault::Gone));
        };
        if let Some(fault) = watched.refuses {
            return Started::Done(Err(fault));
        }
        let io = Io {
            device,
            slot: index,
            mapping: route.mapping(),
            deadline: self.now.after(watched.deadline),
            op,
            lba: slot.device_lba,
            sectors: slot.sectors,
            durable: queue.settings.write_through && matches!(op, Op::Write),
            alone: false,
            memory: if slot.bounce().is_some() {
                MemoryId::POOL
            } else {
                queue.memory
            },
            segments: if op.moves_data() {
                self.books.slots.list(index).as_slice()
            } else {
                &[]
            },
        };
        // Those of a guest that was slow count for more: the clock is looked at after each of its pieces.
        let weight = SEGMENTS_PER_SLOT / queue.segments_max.max(1);
        self.touches.add(weight * io.segments.len());
        let started = self.devices.start(io);
        match started {
            Started::Pending => {
                let in_flight = self.books.start(index, self.now);
                if let Some(two) = watched.began(queue.id.attachment, in_flight) {
                    self.books.meet(two);
                }
            }
            Started::Done(_) => watched.stats.finished.add(1),
            Started::Busy => {}
        }
        started
    }
}
