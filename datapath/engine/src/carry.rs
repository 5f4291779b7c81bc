//! The life of a request that lives in a slot: how it begins, and what follows when an operation of it has ended.

use crate::books::{Owner, Place, Use, Work};
use crate::reactor::{Reactor, broken};
use crate::way::Way;
use palisade_block::mailbox::Notice;
use palisade_block::{Devices, Fault, Op, Pool, Request, Source};
use palisade_words::{Sectors, SlotIndex};

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Admits a request that is more than one operation, or none, into the slot whose segment list it filled.
    pub(crate) fn admit(
        &mut self,
        owner: Owner,
        index: SlotIndex,
        request: Request,
        way: Result<Way, Option<Fault>>,
    ) {
        let stats = &self.queues.at(owner.queue).settings.stats;
        self.books.enter(index, owner, request, self.now, stats);
        self.books.slots.slot_mut(index).place = Place::default();
        self.go(index, way);
    }

    /// Sends a request on its way, which is none to a device as it is.
    pub(crate) fn go(&mut self, index: SlotIndex, way: Result<Way, Option<Fault>>) {
        match way {
            Ok(Way::Whole(..)) => broken("a whole request was admitted as another"),
            Ok(Way::Cut(work, device)) => {
                self.books.hold(index, device);
                self.books.slots.slot_mut(index).work = work;
                self.go_on(index);
            }
            Ok(Way::Done) => self.answer(index, Ok(())),
            Err(Some(fault)) => self.conclude(index, Err(fault)),
            Err(None) => self.refuse(index),
        }
    }

    /// Books the end of an operation on its device.
    pub(crate) fn left_device(&mut self, index: SlotIndex) {
        let in_flight = self.books.land(index);
        let device = self.books.slots.slot(index).device;
        if let Some(watched) = self.watched.get_mut(device)
            && watched.ended(in_flight)
        {
            self.notices.push_back(Notice::DeviceClosed { device });
        }
    }

    /// Takes the end of an operation: of a whole request, or of a part.
    pub(crate) fn completed(&mut self, index: SlotIndex, result: Result<(), Fault>) {
        let slot = self.books.slots.slot(index);
        match slot.used_for() {
            Use::Request if slot.work == Work::Whole => {
                let op = slot.op;
                self.count_fault(index, result);
                match (op, result) {
                    (Op::WriteZeroes { .. }, Err(Fault::Unsupported)) => {
                        self.books.slots.slot_mut(index).work = Work::Zeroes(Sectors::ZERO);
                        self.advance(index);
                    }
                    (Op::Discard, Err(Fault::Unsupported)) => self.answer(index, Ok(())),
                    _ => self.conclude(index, result),
                }
            }
            Use::Part => {
                let parent = slot.parent;
                self.settle_part(index, result);
                self.go_on(parent);
            }
            _ => broken("an operation ended that was not begun"),
        }
    }
}
