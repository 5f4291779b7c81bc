//! Requests that cannot go to one device as they are: they cross the border between two runs, are longer than the
//! device takes, lie in memory that the device cannot reach, flush several devices, or write zeroes to a device
//! that cannot do so by itself. They are cut into parts; each part is an operation with a slot of its own.
//!
//! A request goes on piece by piece here ([`advance`](Reactor::advance)): which one is next is said by `piece`, `cut`
//! makes a part of it and sends that off, and `part` takes its end.

use crate::books::{Place, Work};
use crate::pace;
use crate::reactor::{Reactor, broken};
use palisade_block::{Devices, Fault, Op, Pool, Source};
use palisade_words::SlotIndex;

mod cut;
mod part;
mod piece;

use cut::Cut;
use piece::Piece;

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Cuts off and sends as many parts of a request as there is room for and as may be begun now; answers it after the
    /// last.
    pub(crate) fn advance(&mut self, request: SlotIndex) {
        loop {
            let slot = self.books.slots.slot(request);
            let stop = slot.fault.is_some() || slot.again.is_some();
            match if stop { Ok(None) } else { self.next_piece(request) } {
                Ok(Some(_)) if self.is_left(request) => {
                    if self.books.slots.slot(request).outstanding() == 0 {
                        self.leave(request);
                    }
                    return;
                }
                // What is begun is waited for; the rest of it no more.
                Ok(Some(_)) if self.is_revoked(request) => {
                    self.books.slots.slot_mut(request).fault = Some(Fault::Gone);
                }
                Ok(Some(_)) if self.is_held(request) => {
                    if self.books.slots.slot(request).outstanding() == 0 {
                        self.park(request);
                    }
                    return;
                }
                Ok(Some(piece)) if !self.may_begin(request, &piece) => {
                    return self.books.rest(request, piece.range_bytes == 0);
                }
                Ok(Some(piece)) => match self.cut(request, &piece) {
                    Cut::Sent => {
                        self.step(request, &piece);
                        self.spend(request, &piece);
                        self.has_touched_enough();
                    }
                    Cut::Done(part, result) => {
                        self.step(request, &piece);
                        self.spend(request, &piece);
                        self.settle_part(part, result);
                        self.has_touched_enough();
                    }
                    Cut::Short => {
                        self.books.hold(request, piece.device);
                        return self.books.wait(request);
                    }
                },
                Ok(None) => {
                    if !self.round_ends(request) {
                        return;
                    }
                }
                Err(fault) => self.books.slots.slot_mut(request).fault = Some(fault),
            }
        }
    }

    /// Whether a piece may be begun now: whether there is any of this turn left, its attachment does not rest and has
    /// room for it in flight, and its limit lets it. One for which somebody waits, as its queue is to stop, is not held
    /// back by a limit; it is charged all the same.
    fn may_begin(&mut self, request: SlotIndex, piece: &Piece) -> bool {
        let (turn, now, index) = (
            self.stats.turns.get(),
            self.now,
            self.books.slots.slot(request).queue,
        );
        let (moves_data, bytes) = (piece.op.moves_data(), piece.turn_bytes);
        if piece.range_bytes != 0 {
            let range_bytes = piece.range_bytes.into();
            return self.books.may_fly_range(index, piece.device, range_bytes, now);
        }
        let queue = self.queues.at_mut(index);
        let has_turn = bytes == 0 || queue.ration.of_queue_allows(turn) && self.ration.of_all_allows(turn);
        if !has_turn || (moves_data && !self.books.may_fly(index, bytes)) {
            return false;
        }
        let rests = self.steps.has_rest(queue.id.attachment) && !queue.stopping;
        if bytes != 0 && (self.touches.are_over() || rests) {
            return false;
        }
        if !moves_data || piece.zeroes || queue.stopping || !pace::is_limited(&queue.settings.pace) {
            return true;
        }
        let throttled = !queue.allowance.admits_bytes(&queue.settings.pace, now);
        if throttled && !queue.throttled {
            queue.settings.stats.throttled.add(1);
        }
        queue.throttled = throttled;
        !throttled
    }

    /// Charges a piece that has been begun, which may have become shorter than it was to be.
    fn spend(&mut self, request: SlotIndex, piece: &Piece) {
        if piece.turn_bytes == 0 {
            return;
        }
        let (turn, now) = (self.stats.turns.get(), self.now);
        let slot = self.books.slots.slot(request);
        let (bytes, index) = (slot.cut_sectors.bytes(), slot.queue);
        self.ration.spend(turn, bytes);
        let queue = self.queues.at_mut(index);
        queue.ration.spend(turn, bytes);
        if piece.op.moves_data() && !piece.zeroes && pace::is_limited(&queue.settings.pace) {
            queue.allowance.spend_bytes(bytes);
            queue.allowance.settle(&queue.settings.pace, now);
        }
    }

    /// Books a part as handed out. Its length may have been shortened by `cut`, which wrote it into the slot.
    fn step(&mut self, request: SlotIndex, piece: &Piece) {
        let slot = self.books.slots.slot_mut(request);
        match &mut slot.work {
            Work::Whole => broken("an uncut request was cut"),
            Work::Flush(next) => *next += 1,
            Work::Ranges(handed_out) | Work::Zeroes(handed_out) => {
                handed_out.0 = piece.skip.0 + slot.cut_sectors.0;
            }
        }
    }

    /// All parts of this round are handed out. True when another round begins; otherwise the request waits for its
    /// last parts, or is answered.
    fn round_ends(&mut self, request: SlotIndex) -> bool {
        let slot = self.books.slots.slot_mut(request);
        if slot.outstanding() > 0 {
            return false;
        }
        if let Some(work) = slot.again.take() {
            (slot.work, slot.place) = (work, Place::default());
            return true;
        }
        let result = slot.fault.map_or(Ok(()), Err);
        let (op, work, queue) = (slot.op, slot.work, slot.queue);
        let unflushed = matches!(work, Work::Ranges(_) | Work::Zeroes(_));
        let allocates = matches!(op, Op::Discard | Op::WriteZeroes { .. });
        if result.is_ok() && unflushed && allocates && self.queues.at(queue).settings.write_through {
            self.books.slots.slot_mut(request).work = Work::Flush(0);
            return true;
        }
        self.conclude(request, result);
        false
    }

    /// Goes on with a request after one of its parts: at once, or behind those that wait for what the part gave back.
    pub(crate) fn go_on(&mut self, request: SlotIndex) {
        let slot = self.books.slots.slot(request);
        let slot_rests = slot.rests();
        let wants_more =
            slot.fault.is_none() && slot.again.is_none() && matches!(self.next_piece(request), Ok(Some(_)));
        if wants_more && self.is_held(request) {
            self.advance(request);
        } else if wants_more && slot_rests {
            // It has its turn when those before it have had theirs.
        } else if wants_more && self.books.lines.waiting() > 0 {
            self.books.wait(request);
        } else {
            self.advance(request);
        }
    }
}
