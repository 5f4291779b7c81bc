//! The lines in which operations and requests stand that cannot go on just now. Who stands in which is said in the
//! slots, too, where that is asked for more often than it changes.

use super::Books;
use palisade_block::ledger;
use palisade_words::SlotIndex;
use std::collections::VecDeque;

/// All lines of a reactor, each from its first to its last.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Operations the devices had no room for.
    pub(super) blocked: VecDeque<SlotIndex>,
    /// Cut requests that wait for a part slot or a buffer.
    pub(super) waiting: VecDeque<SlotIndex>,
    /// Cut requests whose rest is to be begun later.
    pub(super) rests: VecDeque<SlotIndex>,
    /// Requests that were parked and are to be sent again.
    pub(super) released: VecDeque<SlotIndex>,
    /// Nobody stands in any: what each turn asks.
    are_empty: bool,
}

impl Lines {
    /// With room for so many slots in each: no turn allocates.
    pub(super) fn new(slots: usize) -> Lines {
        let line = || VecDeque::with_capacity(slots);
        Lines {
            blocked: line(),
            waiting: line(),
            rests: line(),
            released: line(),
            are_empty: true,
        }
    }

    /// Whether nobody stands in any.
    #[inline]
    pub(crate) fn are_empty(&self) -> bool {
        self.are_empty
    }

    /// Changes the lines.
    fn change<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let changed = change(self);
        self.are_empty = self.blocked.is_empty()
            && self.waiting.is_empty()
            && self.rests.is_empty()
            && self.released.is_empty();
        changed
    }

    /// Whether anybody stands in one whose first may go on in any turn: those that rest mostly wait for more than that.
    pub(crate) fn are_trying(&self) -> bool {
        !(self.blocked.is_empty() && self.waiting.is_empty() && self.released.is_empty())
    }

    /// Operations their devices had no room for.
    pub(crate) fn blocked(&self) -> usize {
        self.blocked.len()
    }

    /// A device has no room for an operation.
    #[cold]
    pub(crate) fn block(&mut self, operation: SlotIndex) {
        self.change(|lines| lines.blocked.push_back(operation));
    }

    /// The first operation that its device had no room for.
    pub(crate) fn next_blocked(&mut self) -> Option<SlotIndex> {
        self.change(|lines| lines.blocked.pop_front())
    }

    /// Requests that are to be sent again.
    pub(crate) fn released(&self) -> usize {
        self.released.len()
    }

    /// A request is to be sent again.
    pub(crate) fn release(&mut self, request: SlotIndex) {
        self.change(|lines| lines.released.push_back(request));
    }

    /// The first request that is to be sent again.
    pub(crate) fn next_released(&mut self) -> Option<SlotIndex> {
        self.change(|lines| lines.released.pop_front())
    }

    /// Only these are to be sent again.
    pub(crate) fn keep_released(&mut self, keep: impl FnMut(&SlotIndex) -> bool) {
        self.change(|lines| lines.released.retain(keep));
    }

    /// Requests that wait for a part slot or a buffer.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that rest.
    pub(crate) fn resting(&self) -> usize {
        self.rests.len()
    }

    /// Puts those first who came last, in the order given: they keep their place among those that wait.
    pub(crate) fn keep_first(&mut self, kept: &[SlotIndex]) {
        self.change(|lines| {
            for request in kept.iter().rev() {
                lines.waiting.push_front(*request);
            }
        });
    }

    /// Takes out who came last among those that wait, to be put [first](Lines::keep_first).
    pub(crate) fn take_last_waiting(&mut self) {
        self.change(|lines| lines.waiting.pop_back());
    }

    /// Takes out who came last among those that rest, to be put [last](Lines::put_last) behind all others.
    pub(crate) fn take_last_resting(&mut self) {
        self.change(|lines| lines.rests.pop_back());
    }

    /// Puts those behind all others who have had a turn.
    pub(crate) fn put_last(&mut self, requests: &[SlotIndex]) {
        self.change(|lines| lines.rests.extend(requests));
    }

    /// The first of those that rest.
    pub(crate) fn first_resting(&self) -> Option<SlotIndex> {
        self.rests.front().copied()
    }

    /// The first of those that rest has to stand behind all others.
    pub(crate) fn pass_over_resting(&mut self) {
        if let Some(first) = self.rests.pop_front() {
            self.rests.push_back(first);
        }
    }
}

/// Who stands in the lines of requests in pieces.
impl Books {
    /// A cut request waits for a part slot or a buffer.
    pub(crate) fn wait(&mut self, request: SlotIndex) {
        let slot = self.slots.slot_mut(request);
        if !slot.waits {
            slot.waits = true;
            self.lines.change(|lines| lines.waiting.push_back(request));
        }
    }

    /// The first that waits for a part slot or a buffer has another try.
    pub(crate) fn next_waiting(&mut self) -> Option<SlotIndex> {
        let request = self.lines.change(|lines| lines.waiting.pop_front())?;
        self.slots.slot_mut(request).waits = false;
        Some(request)
    }

    /// The rest of a cut request is to be begun later. Nothing is taken from its queue meanwhile, if it holds that.
    pub(crate) fn rest(&mut self, request: SlotIndex, holds_queue: bool) {
        let slot = self.slots.slot_mut(request);
        if slot.waits {
            return;
        }
        (slot.waits, slot.rests, slot.holds_queue) = (true, true, holds_queue);
        let queue = slot.queue;
        self.lines.change(|lines| lines.rests.push_back(request));
        if holds_queue {
            let queue = self.queue_mut(queue);
            ledger::enter(&mut queue.resting, "requests of a queue that rest");
            queue.careful = true;
        }
    }

    /// The first that rests has another try.
    pub(crate) fn next_resting(&mut self) -> Option<SlotIndex> {
        let request = self.lines.change(|lines| lines.rests.pop_front())?;
        self.rested(request);
        Some(request)
    }

    /// It rests no more, or is about to go on.
    fn rested(&mut self, request: SlotIndex) {
        let slot = self.slots.slot_mut(request);
        (slot.waits, slot.rests) = (false, false);
        let queue = slot.queue;
        if std::mem::take(&mut slot.holds_queue) {
            let queue = self.queue_mut(queue);
            ledger::leave(&mut queue.resting, "requests of a queue that rest");
        }
    }

    /// A request that waits or rests does so no more.
    #[cold]
    pub(crate) fn wait_no_more(&mut self, request: SlotIndex) {
        let slot = self.slots.slot_mut(request);
        match (slot.waits, slot.rests) {
            (false, _) => {}
            (true, true) => {
                self.rested(request);
                self.lines
                    .change(|lines| lines.rests.retain(|&resting| resting != request));
            }
            (true, false) => {
                slot.waits = false;
                self.lines
                    .change(|lines| lines.waiting.retain(|&waiting| waiting != request));
            }
        }
    }
}
