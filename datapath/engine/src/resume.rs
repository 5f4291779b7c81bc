//! What had to wait has another try at the beginning of a turn: requests that are to be sent again, operations that
//! found their device busy, and cut requests that were short of a part slot or a buffer, or whose turn was over.

use crate::books::Use;
use crate::reactor::Reactor;
use crate::way::{Asked, way_of_other};
use palisade_block::{Devices, Pool, Source, Started};
use palisade_words::SlotIndex;

/// Parked requests that one turn sends again at most.
const SENDS_TRIED: usize = 32;

/// Vain tries of one kind in one turn, so that a long list of those that wait does not slow down the rest.
const RESUME_TRIES: usize = 32;

/// Requests that rest of which one turn looks whether they may go on.
pub(crate) const RESTS_TRIED: usize = 64;

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Goes on with what had to wait: operations that found their device busy, then requests that were short of a
    /// part slot or a buffer. Each gets its try; one that cannot go on makes way for those behind it, which may want
    /// another device. The count of those that moved.
    pub(crate) fn resume(&mut self) -> usize {
        let mut tries = 0;
        let mut moved = self.send_released();
        for _ in 0..self.books.lines.blocked() {
            let Some(index) = self.books.lines.next_blocked() else {
                break;
            };
            let queue = self.books.slots.slot(index).queue;
            match self.launch(index) {
                Started::Busy => {
                    self.books.lines.block(index);
                    self.rebook_request_of(index);
                    tries += 1;
                    if tries == RESUME_TRIES {
                        break;
                    }
                    continue;
                }
                Started::Pending => {}
                Started::Done(result) => self.completed(index, result),
            }
            self.end_step(queue);
            moved += 1;
            if self.has_touched_enough() {
                break;
            }
        }
        moved + self.resume_waiting() + self.resume_resting()
    }

    /// Sends what is parked no more, as much as a turn allows: what takes too much of it rests. How many.
    #[cold]
    #[inline(never)]
    pub(crate) fn send_released(&mut self) -> usize {
        let mut sent = 0;
        while sent < SENDS_TRIED
            && let Some(request) = self.books.lines.next_released()
        {
            let queue = self.books.slots.slot(request).queue;
            self.send_again(request);
            self.end_step(queue);
            sent += 1;
        }
        sent
    }

    /// Sends a request from its beginning, by the route in force. It goes in pieces whatever its size, so that many
    /// that are sent again at once share turns as large requests do.
    fn send_again(&mut self, index: SlotIndex) {
        let slot = self.books.slots.slot_mut(index);
        assert!(
            slot.parked().is_none() && !slot.is_on_device() && slot.outstanding() == 0 && !slot.waits(),
            "{index:?} is sent again while it is somewhere else"
        );
        if let Some(fault) = slot.fault.take() {
            slot.again = None;
            return self.conclude(index, Err(fault));
        }
        slot.start_over();
        let slot = self.books.slots.slot(index);
        let settings = &self.queues.at(slot.queue).settings;
        let way = way_of_other(
            settings,
            self.volumes.of(settings, slot.volume).route.as_ref(),
            &self.watched,
            self.books.slots.list(index).as_slice(),
            Asked::again(slot),
        );
        let op = slot.op;
        self.go(index, way.map(|way| way.in_pieces(op)));
    }

    /// Lets requests that rest go on, each as far as this turn lets it; who has had a turn stands behind the others
    /// then, also behind those that were tried after it and found that it had taken what there was.
    fn resume_resting(&mut self) -> usize {
        let mut moved = 0;
        let mut had_a_turn = [SlotIndex(0); RESTS_TRIED];
        let mut had_a_turn_count = 0;
        let turn = self.stats.turns.get();
        for _ in 0..self.books.lines.resting().min(RESTS_TRIED) {
            // Who gets nothing because this turn is full is the first of the next.
            if !self.ration.of_all_allows(turn) || self.touches.are_over() {
                break;
            }
            let Some(request) = self.books.lines.first_resting() else {
                break;
            };
            let slot = self.books.slots.slot(request);
            let (before, queue) = (slot.work, slot.queue);
            if self.clocks.stopwatch.is_some() && self.rests_now(queue) {
                self.books.lines.pass_over_resting();
                continue;
            }
            self.books.next_resting();
            self.advance(request);
            self.end_step(queue);
            let slot = self.books.slots.slot(request);
            let (ended, rests) = (slot.used_for() != Use::Request, slot.rests());
            if !ended && slot.work == before {
                continue;
            }
            moved += 1;
            if !ended
                && rests
                && let Some(place) = had_a_turn.get_mut(had_a_turn_count)
            {
                self.books.lines.take_last_resting();
                *place = request;
                had_a_turn_count += 1;
            }
        }
        self.books
            .lines
            .put_last(had_a_turn.get(..had_a_turn_count).unwrap_or(&[]));
        moved
    }

    /// Lets requests that were short of a part slot or a buffer try again: the first in line in their order, so that
    /// nobody waits for ever, then some of the others in turns, as the first may all want a device that hangs.
    fn resume_waiting(&mut self) -> usize {
        let mut moved = 0;
        let mut kept = [SlotIndex(0); RESUME_TRIES];
        let mut kept_count = 0;
        let waiting = self.books.lines.waiting();
        for position in 0..waiting.min(2 * RESUME_TRIES) {
            if self.touches.are_over() {
                break;
            }
            let Some(request) = self.books.next_waiting() else {
                break;
            };
            let slot = self.books.slots.slot(request);
            let (before, queue) = (slot.work, slot.queue);
            self.advance(request);
            self.end_step(queue);
            let slot = self.books.slots.slot(request);
            let ended = slot.used_for() != Use::Request;
            let waits = slot.waits() && !slot.rests();
            if ended || slot.work != before {
                // Done, or a part further: then it stands at the end of the line now.
                moved += 1;
            } else if !waits {
                // It stands in another line now, or waits for its parts alone.
            } else if position < RESUME_TRIES {
                self.books.lines.take_last_waiting();
                if let Some(place) = kept.get_mut(kept_count) {
                    *place = request;
                    kept_count += 1;
                }
            }
        }
        self.books.lines.keep_first(kept.get(..kept_count).unwrap_or(&[]));
        moved
    }
}
