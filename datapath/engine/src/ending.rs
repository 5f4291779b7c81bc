//! How a request ends that had a slot: answered, or left; or what becomes of it instead, where a fault waits for a
//! decision.

use crate::reactor::{Reactor, broken};
use palisade_block::mailbox::Notice;
use palisade_block::{Answer, Devices, Fault, Op, Origin, Pool, Source, Status};
use palisade_words::{DeviceIndex, SlotIndex};

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Ends a request by what became of it, unless that is a fault that waits for a decision.
    pub(crate) fn conclude(&mut self, request: SlotIndex, result: Result<(), Fault>) {
        match result {
            Err(fault) if fault.may_heal() && self.parks_faults(request) => match self.is_left(request) {
                true => self.leave(request),
                false => self.park_by_fault(request, fault),
            },
            result => self.answer(request, result),
        }
    }

    /// Whether faults of a request wait for a decision: not when its queue is to end soon, or has lost its volume.
    fn parks_faults(&self, request: SlotIndex) -> bool {
        let queue = self.queue_of_slot(request);
        !queue.settings.revoked && !queue.is_urgent && self.volume_of_slot(request).parks_faults()
    }

    /// Counts a device's fault with the device and with the attachment.
    pub(crate) fn count_fault(&mut self, index: SlotIndex, result: Result<(), Fault>) {
        let Err(fault) = result else { return };
        let slot = self.books.slots.slot(index);
        // "Not offered" is an ability of the device, answered by other means, and no failure.
        if fault == Fault::Unsupported && matches!(slot.op, Op::Discard | Op::WriteZeroes { .. }) {
            return;
        }
        let (queue, device) = (slot.queue, slot.device);
        if fault == Fault::Fenced {
            self.stop_fenced(device);
        }
        // What a guest does to itself says nothing of a disk that others share.
        if fault.origin() != Origin::Guest
            && let Some(device) = self.watched.get(device)
        {
            device.stats.failed(fault);
        }
        self.queues.at(queue).settings.stats.failed(fault);
    }

    /// A device has refused this node: nothing more is started on it, as what it refuses now it might take once its
    /// reservation has passed on, when this node has nothing to say any more (invariant 5).
    fn stop_fenced(&mut self, index: DeviceIndex) {
        let Some(device) = self.watched.get_mut(index) else {
            return;
        };
        if device.refuses.is_none() {
            device.refuses = Some(Fault::Fenced);
            self.stats.fenced_devices.add(1);
            self.notices.push_back(Notice::DeviceFenced { device: index });
        }
    }

    /// Answers a request that does not fit the volume or may not be done.
    pub(crate) fn refuse(&mut self, index: SlotIndex) {
        let queue = self.books.slots.slot(index).queue;
        self.queues.at(queue).settings.stats.refused.add(1);
        self.answer_with(index, Status::IoErr, None);
    }

    /// Answers a request by what became of it.
    pub(crate) fn answer(&mut self, index: SlotIndex, result: Result<(), Fault>) {
        let status = match result {
            Ok(()) => Status::Ok,
            Err(Fault::Unsupported) => Status::Unsupp,
            Err(_) => Status::IoErr,
        };
        self.answer_with(index, status, result.err());
    }

    /// The one place where a request ends that had a slot (invariant 1); what is answered at once ends in `batch`. Both
    /// need the token, of which there is one.
    fn answer_with(&mut self, index: SlotIndex, status: Status, fault: Option<Fault>) {
        let slot = self.books.slots.slot_mut(index);
        let Some(token) = slot.token.take() else {
            broken("a request was answered twice")
        };
        let (op, queue_index) = (slot.op, slot.queue);
        let bytes = if status == Status::Ok && op != Op::Flush {
            slot.sectors.bytes()
        } else {
            0
        };
        let latency = self.now.since(slot.started);
        let dirtied = if op == Op::Read {
            self.books.slots.list(index).as_slice()
        } else {
            &[]
        };
        let queue = self.queues.at_mut(queue_index);
        queue.source.finish(Answer {
            token,
            status,
            fault,
            dirtied,
        });
        queue.mark(queue_index, &mut self.touched);
        queue.settings.stats.answered(op, status, bytes, latency.0);
        self.exit(index);
    }

    /// Ends a request without an answer: of all that was begun of it nothing is in flight, and it comes again to
    /// whoever serves its queue next.
    #[cold]
    pub(crate) fn leave(&mut self, index: SlotIndex) {
        let Some(token) = self.books.slots.slot_mut(index).token.take() else {
            broken("a request was answered and then left")
        };
        token.spend();
        self.exit(index);
    }

    /// A request goes that has been answered or left; a mapping that waited for this comes into use.
    #[inline]
    fn exit(&mut self, index: SlotIndex) {
        let queue = self.books.slots.slot(index).queue;
        let stats = &self.queues.at(queue).settings.stats;
        let volume = self.books.exit(index, stats);
        self.settle_if_drained(volume);
    }
}
