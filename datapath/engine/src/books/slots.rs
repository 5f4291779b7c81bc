//! The table of operations in flight: allocated once, handed out by index.

use super::Owner;
use crate::reactor::broken;
use palisade_block::{Fault, LongList, Nanos, Op, Request, Segment, SegmentList, Token};
use palisade_words::{DeviceIndex, Lba, Sectors, SlotIndex, VolumeIndex};

/// What a slot is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Use {
    /// Nothing.
    Free,
    /// A request of a guest.
    Request,
    /// A piece of a request.
    Part,
}

/// What a parked request waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parked {
    /// That its volume is not held any more.
    Held,
    /// A decision about this fault.
    Fault(Fault),
}

/// How far a request has been cut into parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// It is carried out by its own slot, uncut.
    Whole,
    /// Parts follow the runs of the route; this many sectors have been handed out.
    Ranges(Sectors),
    /// One flush to each device of the route; this many have been handed out.
    Flush(usize),
    /// Zeroes are written, because the device cannot write zeroes by itself; sectors handed out.
    Zeroes(Sectors),
}

impl Work {
    /// The same work from its beginning.
    pub(crate) fn anew(self) -> Work {
        match self {
            Work::Whole => Work::Whole,
            Work::Ranges(_) => Work::Ranges(Sectors::ZERO),
            Work::Flush(_) => Work::Flush(0),
            Work::Zeroes(_) => Work::Zeroes(Sectors::ZERO),
        }
    }
}

/// A place in the segments of a request: where a part of it begins, so that nobody has to count from the start again.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Place {
    /// The segment.
    pub(crate) segment: usize,
    /// Bytes before that segment.
    pub(crate) before: u64,
}

impl Place {
    /// The place of a byte that is not before this one.
    pub(crate) fn advanced_to(mut self, segments: &[Segment], byte: u64) -> Place {
        while let Some(segment) = segments.get(self.segment)
            && self.before + segment.bytes() as u64 <= byte
        {
            self.before += segment.bytes() as u64;
            self.segment += 1;
        }
        self
    }
}

/// One operation. What of it is in the books is changed by the books alone.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) used_for: Use,
    pub(crate) op: Op,
    /// Position of the request's queue in the reactor's table.
    pub(crate) queue: u16,
    /// Of which volume it is.
    pub(crate) volume: VolumeIndex,
    /// First sector on the volume.
    pub(crate) lba: Lba,
    pub(crate) sectors: Sectors,
    pub(crate) started: Nanos,
    pub(crate) token: Option<Token>,

    /// The device on whose share of the slots the request is booked.
    pub(super) held_by: Option<DeviceIndex>,

    /// The operation on the device, while there is one.
    pub(crate) device: DeviceIndex,
    pub(crate) device_lba: Lba,
    pub(super) on_device: bool,
    /// When the device took it: the stall watch counts from here, as waiting for anything else is not the device's.
    pub(crate) launched: Nanos,
    /// It was asked back because its deadline passed.
    pub(crate) cancelled: bool,
    /// Bytes for which it is in the books of what is in flight, of data, or of ranges on its device; zero for a free slot.
    pub(super) flight_bytes: u32,

    // A request that is cut:
    pub(crate) work: Work,
    pub(super) outstanding: u32,
    /// Length of the part that was cut off last.
    pub(crate) cut_sectors: Sectors,
    pub(crate) fault: Option<Fault>,
    /// It starts over with this when nothing is outstanding: the device turned out not to write zeroes, or a part that no
    /// device had taken was taken back.
    pub(crate) again: Option<Work>,
    /// It stands in the list of those that wait for a part slot or a buffer, or of those that rest.
    pub(super) waits: bool,
    /// The latter.
    pub(super) rests: bool,
    /// It rests, and nothing is taken from its queue before it goes on.
    pub(super) holds_queue: bool,
    /// No device has anything of it, and it waits for this.
    pub(super) parked: Option<Parked>,
    /// It has been lent a long list.
    pub(super) long: bool,
    /// It waits for a bounce buffer, and that has been counted.
    pub(crate) lacks_buffer: bool,

    // A part:
    pub(crate) parent: SlotIndex,
    /// Bytes of the request before this part.
    pub(crate) skip: u64,
    /// Where the part begins; of a request that is cut, where the part does that was cut off last.
    pub(crate) place: Place,
    pub(super) bounce: Option<Segment>,
}

impl Slot {
    fn free() -> Slot {
        Slot {
            used_for: Use::Free,
            op: Op::Flush,
            queue: 0,
            volume: VolumeIndex(0),
            lba: Lba(0),
            sectors: Sectors::ZERO,
            started: Nanos(0),
            token: None,
            held_by: None,
            device: DeviceIndex(0),
            device_lba: Lba(0),
            on_device: false,
            launched: Nanos(0),
            cancelled: false,
            flight_bytes: 0,
            work: Work::Whole,
            outstanding: 0,
            cut_sectors: Sectors::ZERO,
            fault: None,
            again: None,
            waits: false,
            rests: false,
            holds_queue: false,
            parked: None,
            long: false,
            lacks_buffer: false,
            parent: SlotIndex(0),
            skip: 0,
            place: Place::default(),
            bounce: None,
        }
    }

    /// What it is used for.
    #[inline]
    pub(crate) fn used_for(&self) -> Use {
        self.used_for
    }

    /// A device has it.
    #[inline]
    pub(crate) fn is_on_device(&self) -> bool {
        self.on_device
    }

    /// Parts of the request that are in flight.
    #[inline]
    pub(crate) fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// What the request waits for, if it is parked.
    pub(crate) fn parked(&self) -> Option<Parked> {
        self.parked
    }

    /// Whether it stands in the line of those that wait for a part slot or a buffer, or of those that rest.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Whether it stands in the latter.
    pub(crate) fn rests(&self) -> bool {
        self.rests
    }

    /// The bounce buffer of a part.
    #[inline]
    pub(crate) fn bounce(&self) -> Option<Segment> {
        self.bounce
    }

    /// Fills it with a request, uncut and on no device.
    #[inline]
    pub(super) fn begin(&mut self, owner: Owner, request: Request, now: Nanos) {
        self.used_for = Use::Request;
        self.op = request.op;
        self.queue = owner.queue;
        self.volume = owner.volume;
        self.lba = request.lba;
        self.sectors = request.sectors;
        self.started = now;
        self.token = Some(request.token);
        self.cancelled = false;
        self.work = Work::Whole;
        self.fault = None;
        debug_assert!(
            self.again.is_none() && self.parked.is_none(),
            "a request ends only after its last round, and not where it is parked"
        );
    }

    /// The request in it is to be carried out from its beginning once more.
    pub(crate) fn start_over(&mut self) {
        assert!(self.token.is_some(), "a request was answered and then sent again");
        (self.cancelled, self.work, self.again) = (false, Work::Whole, None);
        (self.fault, self.lacks_buffer) = (None, false);
        (self.place, self.cut_sectors) = (Place::default(), Sectors::ZERO);
    }
}

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

    /// The segment list of the request slot that `claim_request` would give next.
    #[inline]
    pub(crate) fn next_list(&mut self) -> Option<&mut SegmentList> {
        let index = *self.free_requests.last()?;
        self.lists.get_mut(index as usize)
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

    /// Takes the slot whose list `next_list` showed.
    #[inline]
    pub(crate) fn claim_request(&mut self) -> Option<SlotIndex> {
        self.free_requests.pop().map(SlotIndex)
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
    use palisade_block::Lease;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn a_place_is_in_the_segment_that_holds_its_byte() {
        let lease = Lease::of_words((0..1024).map(|_| AtomicU64::new(0)).collect());
        let at = lease.regions()[0].address();
        let segment = |from, bytes| lease.segment(at + from, bytes).expect("in the memory");
        let segments = [segment(0, 512), segment(1000, 1), segment(2000, 4096)];
        let mut place = Place::default();
        for (byte, segment, before) in [
            (0, 0, 0),
            (511, 0, 0),
            (512, 1, 512),
            (513, 2, 513),
            (4608, 2, 513),
            (4609, 3, 4609),
            (9999, 3, 4609),
        ] {
            let expected = Place { segment, before };
            assert_eq!(Place::default().advanced_to(&segments, byte), expected);
            place = place.advanced_to(&segments, byte);
            assert_eq!(place, expected, "from the one before");
        }
    }

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
