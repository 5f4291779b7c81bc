//! How a request that goes to one device as it is comes there: answered at once, in local variables from its ring and
//! back to it, or kept by its device, in a slot.

use super::intake::Intake;
use super::{Batch, Stop, Whole};
use crate::reactor::broken;
use palisade_block::limits::{LARGE_BYTES_MIN, PIECE_BYTES_MAX};
use palisade_block::{Answer, Devices, Io, Op, Request, Source, Started, Status};
use palisade_words::{DeviceIndex, Lba, Sectors, SlotIndex};

/// Longer operations are in the books of what is in flight.
const LARGE: Sectors = Sectors::from_bytes(LARGE_BYTES_MIN);

impl<S: Source, D: Devices> Intake<'_, S, D> {
    /// Hands a request to its device. For one that is not done then its slot has been filled, which was claimed before
    /// or, as most are answered at once and need none, is claimed then.
    #[inline(always)]
    pub(super) fn hand_over<const CLAIMED: bool>(
        &mut self,
        whole: Whole,
        alone: bool,
        batch: &mut Batch,
    ) -> Option<Stop> {
        let Whole {
            slot,
            request,
            device,
            device_lba,
        } = whole;
        let settings = &self.queue.settings;
        let watched = self.watched.get_mut(device);
        let Some(watched) = watched.filter(|device| device.refuses.is_none()) else {
            self.keep::<CLAIMED>(slot, request, device, device_lba);
            return Some(Stop::Failed(slot, self.watched.refusal(device)));
        };
        let Some(route) = self.route else {
            broken("an operation is started by no route")
        };
        let (op, sectors) = (request.op, request.sectors);
        let list = self.books.slots.list(slot).own_slice();
        let started = self.devices.start(Io {
            device,
            slot,
            mapping: route.mapping(),
            deadline: self.now.after(watched.deadline),
            op,
            lba: device_lba,
            sectors,
            durable: settings.write_through && matches!(op, Op::Write),
            alone,
            memory: self.queue.memory,
            segments: if op.moves_data() { list } else { &[] },
        });
        match started {
            Started::Done(Ok(())) => {
                watched.stats.finished.add(1);
                self.queue.source.finish(Answer {
                    token: request.token,
                    status: Status::Ok,
                    fault: None,
                    dirtied: if matches!(op, Op::Read) { list } else { &[] },
                });
                if CLAIMED {
                    self.books.slots.unclaim(slot);
                }
                batch.answered = true;
                match op {
                    Op::Read => batch.reads.add(sectors),
                    Op::Write => batch.writes.add(sectors),
                    _ => self.queue.settings.stats.answered_at_once(op, 1, sectors.bytes()),
                }
            }
            Started::Done(Err(fault)) => {
                watched.stats.finished.add(1);
                self.keep::<CLAIMED>(slot, request, device, device_lba);
                return Some(Stop::Failed(slot, fault));
            }
            Started::Pending => {
                batch.room = batch.room.saturating_sub(1);
                self.keep_begun::<CLAIMED>(slot, request, device, device_lba);
                if sectors > LARGE {
                    self.keep_large(slot, batch);
                }
            }
            Started::Busy => {
                self.keep::<CLAIMED>(slot, request, device, device_lba);
                if sectors > LARGE {
                    self.keep_large(slot, batch);
                }
                return Some(Stop::Blocked(slot));
            }
        }
        None
    }

    /// Hands over the request that was held back, and holds back the next one.
    #[inline(never)]
    pub(super) fn hand_over_late(&mut self, next: Option<Whole>, batch: &mut Batch) -> Option<Stop> {
        if let (Some(held), Some(next)) = (&batch.held, &next) {
            if !batch.expecting {
                self.devices
                    .expect(held.device, held.device_lba, held.request.sectors);
            }
            self.devices
                .expect(next.device, next.device_lba, next.request.sectors);
            batch.expecting = true;
        }
        let before = std::mem::replace(&mut batch.held, next)?;
        let alone = !batch.expecting;
        batch.expecting &= batch.held.is_some();
        self.hand_over::<true>(before, alone, batch)
    }

    /// Counts a large operation as in flight. The batch ends when its attachment has its share there.
    #[cold]
    fn keep_large(&mut self, index: SlotIndex, batch: &mut Batch) {
        let slot = self.books.slots.slot(index);
        if !slot.op.moves_data() {
            return;
        }
        let bytes = slot.sectors.bytes() as u32;
        self.books.count_flight(index, bytes, self.now);
        if !self.books.may_fly(self.owner.queue, PIECE_BYTES_MAX.into()) {
            batch.room = 0;
        }
    }

    /// Books a request that its device has begun.
    #[inline(never)]
    fn keep_begun<const CLAIMED: bool>(
        &mut self,
        index: SlotIndex,
        request: Request,
        device: DeviceIndex,
        device_lba: Lba,
    ) {
        self.keep::<CLAIMED>(index, request, device, device_lba);
        let in_flight = self.books.start(index, self.now);
        if let Some(watched) = self.watched.get_mut(device)
            && let Some(two) = watched.began(self.queue.id.attachment, in_flight)
        {
            self.books.meet(two);
        }
    }

    /// Fills the slot of a request that is not done yet, and books it on its device.
    #[inline]
    fn keep<const CLAIMED: bool>(
        &mut self,
        index: SlotIndex,
        request: Request,
        device: DeviceIndex,
        device_lba: Lba,
    ) {
        if !CLAIMED {
            self.books.slots.claim(index);
        }
        let stats = &self.queue.settings.stats;
        self.books.enter(index, self.owner, request, self.now, stats);
        self.books.hold(index, device);
        let slot = self.books.slots.slot_mut(index);
        (slot.device, slot.device_lba) = (device, device_lba);
    }
}
