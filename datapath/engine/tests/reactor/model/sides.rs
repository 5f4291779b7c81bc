//! The world as the reactor sees it: its sources, its devices and its pool.

use super::plan::limits_of;
use super::world::{World, place};
use crate::bench_of::MEMORY;
use palisade_block::limits::BOUNCE_BYTES;
use palisade_block::*;
use palisade_words::{DeviceIndex, MemoryId, PinnedId, SlotIndex};
use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

/// A part of the world as the reactor sees it.
#[derive(Clone, Debug)]
pub struct Of(pub Rc<RefCell<World>>, pub usize);

impl Source for Of {
    fn lease(&self) -> Lease {
        MEMORY.clone()
    }

    fn has_more(&self) -> bool {
        !self.0.borrow().waiting[self.1].is_empty()
    }

    fn pull(&mut self, segments: &mut SegmentList) -> Pulled {
        match self.0.borrow_mut().take(self.1, segments) {
            Some(Some(request)) => Pulled::Request(request),
            Some(None) => Pulled::Empty,
            None => Pulled::NoRoom,
        }
    }

    fn finish(&mut self, answer: Answer<'_>) {
        let mut world = self.0.borrow_mut();
        world.answer(self.1, answer);
        world.unseen[self.1] = true;
    }

    fn publish(&mut self) {
        let unseen = std::mem::take(&mut self.0.borrow_mut().unseen[self.1]);
        assert!(unseen, "a guest is notified of nothing");
    }

    fn backlog(&self) -> usize {
        self.0.borrow().backlog[self.1]
    }

    fn arm(&mut self) -> bool {
        self.0.borrow_mut().armed[self.1] = true;
        self.has_more()
    }

    fn disarm(&mut self) {
        self.0.borrow_mut().armed[self.1] = false;
    }
}

impl Devices for Of {
    type Opened = ();
    type Pinned = ();
    type Kick = ();
    type Order = Infallible;
    type Report = Infallible;

    fn open(&mut self, _: DeviceIndex, (): ()) -> std::io::Result<()> {
        Ok(())
    }

    fn close(&mut self, _: DeviceIndex) {}

    fn grow(&mut self, _: DeviceIndex) {}

    fn pin(&mut self, _: PinnedId, (): ()) {}

    fn unpin(&mut self, _: PinnedId) -> Option<()> {
        None
    }

    fn order(&mut self, order: Infallible) {
        match order {}
    }

    fn next_report(&mut self) -> Option<Infallible> {
        None
    }

    fn keep(&mut self, _: &Lease) -> MemoryId {
        MemoryId(1)
    }

    fn keep_pool(&mut self, _: &Lease) {}

    fn let_go(&mut self, _: MemoryId) {}

    fn looks_ahead(&self, device: DeviceIndex) -> bool {
        device.0 == 2
    }

    fn start(&mut self, io: Io<'_>) -> Started {
        self.0.borrow_mut().start(&io)
    }

    fn submit(&mut self) {}

    fn reap(&mut self, mut done: impl FnMut(SlotIndex, Result<(), Fault>)) -> usize {
        let ended = std::mem::take(&mut self.0.borrow_mut().ended);
        self.0.borrow_mut().turn.done += ended.len();
        ended.iter().for_each(|(slot, result)| done(*slot, *result));
        ended.len()
    }

    fn cancel(&mut self, slot: SlotIndex) {
        let mut world = self.0.borrow_mut();
        let pending = world.pending.iter_mut().find(|pending| pending.slot == slot);
        let pending = pending.expect("only what a device has is asked back");
        assert!(
            !std::mem::replace(&mut pending.cancelled, true),
            "asked back twice"
        );
    }

    fn limits(&self, device: DeviceIndex) -> Option<DeviceLimits> {
        Some(limits_of(device.usize()))
    }
}

impl Pool for Of {
    fn lease(&self) -> Lease {
        MEMORY.clone()
    }

    fn free(&self) -> usize {
        self.0.borrow().free.len()
    }

    fn take(&mut self) -> Option<Segment> {
        self.0.borrow_mut().free.pop()
    }

    fn give(&mut self, buffer: Segment) {
        let mut world = self.0.borrow_mut();
        assert!(buffer.bytes() == BOUNCE_BYTES && !world.free.contains(&buffer));
        world.memory[place(buffer)].fill(0xbb);
        world.free.push(buffer);
    }

    fn gather(&mut self, _: &Lease, from: &[Segment], skip: u64, buffer: Segment, bytes: usize) -> bool {
        let mut world = self.0.borrow_mut();
        let from = from
            .iter()
            .flat_map(|segment| place(*segment))
            .skip(skip as usize);
        let pairs = place(buffer).take(bytes).zip(from);
        assert_eq!(
            pairs
                .map(|(to, from)| world.memory[to] = world.memory[from])
                .count(),
            bytes
        );
        true
    }

    fn scatter(&mut self, buffer: Segment, _: &Lease, to: &[Segment], skip: u64, bytes: usize) -> bool {
        let mut world = self.0.borrow_mut();
        let to = to.iter().flat_map(|segment| place(*segment)).skip(skip as usize);
        let pairs = place(buffer).take(bytes).zip(to);
        assert_eq!(
            pairs
                .map(|(from, to)| world.memory[to] = world.memory[from])
                .count(),
            bytes
        );
        true
    }

    fn zero(&mut self, buffer: Segment, bytes: usize) {
        let place = place(buffer);
        self.0.borrow_mut().memory[place.start..place.start + bytes].fill(0);
    }
}
