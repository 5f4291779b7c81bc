//! The table of operations in flight: allocated once, handed out by index.

use super::{Slot, Use};
use crate::reactor::broken;
use palisade_block::{LongList, SegmentList};
use palisade_words::SlotIndex;

/// All slots of a reactor: first those for requests, behind them those for parts. The two are apart so that
/// requests waiting for parts can never use up what they wait for.
#[derive(Debug)]
pub(crate) struct Slots {
    table: Box<[Slot]>,
    lists: Box<[SegmentList]>,
    free_requests: Vec<u32>,
    free_parts: Vec<u32>,
    /// Room for requests with more segments than a slot has places for.
    long: Vec<LongList>,
    long_all: u32,
    requests: u32,
}

impl Slots {
    pub(crate) fn new(requests: u32, parts: u32, long: u32) -> Slots {
        let all = requests + parts;
        Slots {
            table: (0..all).map(|_| Slot::free()).collect(),
            lists: (0..all).map(|_| SegmentList::default()).collect(),
            free_requests: (0..requests).rev().collect(),
            free_parts: (requests..all).rev().collect(),
            long: (0..long).map(|_| LongList::default()).collect(),
            long_all: long,
            requests,
        }
    }

    /// Those for requests.
    pub(crate) fn requests(&self) -> impl Iterator<Item = SlotIndex> + use<> {
        (0..self.requests).map(SlotIndex)
    }

    /// Slots in all.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn requests_free(&self) -> u32 {
        self.free_requests.len() as u32
    }

    pub(crate) fn requests_used(&self) -> u32 {
        let used = self.requests.checked_sub(self.requests_free());
        used.unwrap_or_else(|| broken("more slots came back than there are"))
    }

    pub(crate) fn parts_free(&self) -> u32 {
        self.free_parts.len() as u32
    }

    /// The request slot that is to be claimed next.
    #[inline]
    pub(crate) fn next(&self) -> Option<SlotIndex> {
        self.free_requests.last().copied().map(SlotIndex)
    }

    /// The segment list of that.
    #[inline]
    pub(crate) fn next_list(&mut self) -> Option<&mut SegmentList> {
        let index = self.next()?;
        self.lists.get_mut(index.usize())
    }

    /// Long lists that are not lent.
    #[inline]
    pub(crate) fn long_free(&self) -> u32 {
        self.long.len() as u32
    }

    /// All long lists, lent or not.
    pub(super) fn long_all(&self) -> u32 {
        self.long_all
    }

    /// The list that `next_list` shows, with room for a long request.
    pub(crate) fn next_list_lent(&mut self) -> Option<&mut SegmentList> {
        let index = *self.free_requests.last()?;
        let list = self.lists.get_mut(index as usize)?;
        list.lend(self.long.pop()?);
        Some(list)
    }

    /// Takes the room back that was lent to the list that `next_list` shows.
    pub(crate) fn take_back_next(&mut self) {
        let long = self.next_list().and_then(SegmentList::take_back);
        self.long.extend(long);
    }

    /// Takes the room back that was lent to a request.
    #[cold]
    pub(super) fn take_back(&mut self, index: SlotIndex) {
        self.slot_mut(index).long = false;
        let long = self.lists[index.usize()].take_back();
        self.long.extend(long);
    }

    /// Takes the request slot that `next` showed.
    #[inline]
    pub(crate) fn claim(&mut self, index: SlotIndex) {
        if self.free_requests.pop() != Some(index.0) {
            broken("another slot is claimed than was shown")
        }
    }

    /// Takes back a claim of a slot that was not filled.
    #[inline]
    pub(crate) fn unclaim(&mut self, index: SlotIndex) {
        debug_assert!(index.0 < self.requests && self.slot(index).used_for == Use::Free);
        self.free_requests.push(index.0);
    }

    /// Takes a slot for a part.
    #[inline]
    pub(crate) fn claim_part(&mut self) -> Option<SlotIndex> {
        self.free_parts.pop().map(SlotIndex)
    }

    /// The same of a slot for a part.
    pub(crate) fn unclaim_part(&mut self, index: SlotIndex) {
        debug_assert!(index.0 >= self.requests && self.slot(index).used_for == Use::Free);
        self.free_parts.push(index.0);
    }

    /// Gives a slot back. Only the last free one given is warm in the cache, so it is the next to be taken.
    #[inline]
    pub(super) fn release(&mut self, index: SlotIndex) {
        let slot = self.slot_mut(index);
        assert!(slot.used_for != Use::Free, "slot {index:?} was given back twice");
        slot.used_for = Use::Free;
        if index.0 < self.requests {
            self.free_requests.push(index.0);
        } else {
            self.free_parts.push(index.0);
        }
    }

    /// # Panics
    /// When the index was not given out by this table: our own bug.
    #[inline]
    pub(crate) fn slot(&self, index: SlotIndex) -> &Slot {
        &self.table[index.usize()]
    }

    #[inline]
    pub(crate) fn slot_mut(&mut self, index: SlotIndex) -> &mut Slot {
        &mut self.table[index.usize()]
    }

    #[inline]
    pub(crate) fn list(&self, index: SlotIndex) -> &SegmentList {
        &self.lists[index.usize()]
    }

    /// The list of a part, to be filled from its request's list.
    pub(crate) fn part_and_request(
        &mut self,
        part: SlotIndex,
        request: SlotIndex,
    ) -> (&mut SegmentList, &SegmentList) {
        assert!(part.0 >= self.requests && request.0 < self.requests);
        let (requests, parts) = self.lists.split_at_mut(self.requests as usize);
        (
            &mut parts[(part.0 - self.requests) as usize],
            &requests[request.usize()],
        )
    }

    /// Each slot, used or not.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotIndex, &Slot)> {
        (0..).map(SlotIndex).zip(&self.table)
    }

    /// How often each slot is in the lists of those that are free.
    pub(super) fn times_free(&self) -> Vec<u32> {
        let mut times = vec![0; self.len()];
        for &index in self.free_requests.iter().chain(&self.free_parts) {
            times[index as usize] += 1;
        }
        times
    }

    /// Whether the slot is one for requests.
    pub(super) fn is_for_request(&self, index: SlotIndex) -> bool {
        index.0 < self.requests
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (SlotIndex, &mut Slot)> {
        self.table
            .iter_mut()
            .enumerate()
            .map(|(index, slot)| (SlotIndex(index as u32), slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "was given back twice")]
    fn a_slot_is_not_given_back_twice() {
        let mut slots = Slots::new(2, 1, 0);
        let part = slots.claim_part().expect("one part");
        slots.slot_mut(part).used_for = Use::Part;
        slots.release(part);
        assert_eq!((slots.parts_free(), slots.requests_free()), (1, 2));
        slots.release(part);
    }
}
