//! Where a request goes, and the life of one that lives in a slot: cut or sent on, answered in exactly one place.

use crate::alignment::is_reached;
use crate::books::{Owner, Place, Slot, Use, Work};
use crate::rations::whole_range_bytes_max;
use crate::reactor::{Reactor, broken};
use crate::watched::Watched;
use palisade_block::limits::SEGMENTS_PER_SLOT;
use palisade_block::mailbox::{AttachmentSettings, Notice};
use palisade_block::{
    Answer, Devices, Fault, Io, Op, Origin, Pool, Request, Route, Segment, Source, Started, Status,
};
use palisade_words::{DeviceIndex, Lba, MemoryId, SECTOR_BYTES, Sectors, SlotIndex};

/// Where a request goes.
pub(crate) enum Way {
    /// To one device as it is.
    Whole(DeviceIndex, Lba),
    /// In pieces, the first of them to this device.
    Cut(Work, DeviceIndex),
    /// Nowhere: there is nothing to do.
    Done,
}

impl Way {
    /// The same in pieces.
    pub(crate) fn in_pieces(self, op: Op) -> Way {
        match self {
            Way::Whole(device, _) if op == Op::Flush => Way::Cut(Work::Flush(0), device),
            Way::Whole(device, _) => Way::Cut(Work::Ranges(Sectors::ZERO), device),
            way => way,
        }
    }
}

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
    fn refuse(&mut self, index: SlotIndex) {
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

    /// Ends a request without an answer: of all that was begun of it nothing is in flight, and it comes again to whoever
    /// serves its queue next.
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

/// What a request asks of its volume.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    op: Op,
    lba: Lba,
    sectors: Sectors,
}

impl Asked {
    #[inline(always)]
    pub(crate) fn by(request: &Request) -> Asked {
        let Request { op, lba, sectors, .. } = *request;
        Asked { op, lba, sectors }
    }

    /// By the request in a slot, once more.
    pub(crate) fn again(slot: &Slot) -> Asked {
        let Slot { op, lba, sectors, .. } = *slot;
        Asked { op, lba, sectors }
    }
}

/// The same as [`way`], for requests that are not the usual ones: that is inlined where they are taken, and nowhere else.
#[inline(never)]
pub(crate) fn way_of_other(
    settings: &AttachmentSettings,
    route: Option<&Route>,
    watched: &Watched,
    segments: &[Segment],
    asked: Asked,
) -> Result<Way, Option<Fault>> {
    way(settings, route, watched, segments, asked)
}

/// Decides how a request is carried out. `Err(None)`: it does not fit the volume or may not be done.
#[inline(always)]
pub(crate) fn way(
    settings: &AttachmentSettings,
    route: Option<&Route>,
    watched: &Watched,
    segments: &[Segment],
    asked: Asked,
) -> Result<Way, Option<Fault>> {
    let Asked { op, lba, sectors } = asked;
    if settings.read_only && op.changes() {
        return Err(None);
    }
    let route = route.ok_or(Some(Fault::Gone))?;
    if matches!(op, Op::Flush) {
        return Ok(match *route.devices() {
            [] => Way::Done,
            [device] => Way::Whole(device, Lba(0)),
            [first, ..] => Way::Cut(Work::Flush(0), first),
        });
    }
    let end = lba.checked_add(sectors).ok_or(None)?;
    if end.0 > route.sectors().0 {
        return Err(None);
    }
    // There is a run but behind the last sector, of which nothing can be asked.
    let Some(run) = route.run_at(lba) else {
        return Ok(Way::Done);
    };
    let device = watched.get(run.device);
    let limits = &device.ok_or(Some(Fault::Gone))?.limits;
    let block_mask = u64::from(limits.block_bytes) / SECTOR_BYTES - 1;
    if (lba.0 | sectors.0) & block_mask != 0 {
        return Err(None);
    }
    let into_run = lba.since(run.volume);
    let one_run = into_run.0 + sectors.0 <= run.sectors.0;
    let whole = match op {
        Op::Read | Op::Write => {
            one_run && sectors.bytes() <= u64::from(limits.io_bytes_max) && is_reached(segments, limits)
        }
        // A write-through guest counts on stable storage after these too: a flush follows the last part.
        _ => one_run && !settings.write_through && sectors.bytes() <= whole_range_bytes_max(limits),
    };
    if whole {
        return Ok(Way::Whole(run.device, Lba(run.lba.0 + into_run.0)));
    }
    if !one_run && !has_whole_blocks(route, watched, lba, end) {
        return Err(None);
    }
    Ok(Way::Cut(Work::Ranges(Sectors::ZERO), run.device))
}

/// Whether a range over several runs has whole blocks of each of their devices, which may differ. One that has not is
/// refused as a whole: it would be written in part, and the refusal of the device counted with a disk that others share.
#[cold]
fn has_whole_blocks(route: &Route, watched: &Watched, mut lba: Lba, end: Lba) -> bool {
    while lba.0 < end.0 {
        let Some(run) = route.run_at(lba) else { return true };
        let into_run = lba.since(run.volume).0;
        let sectors = (run.sectors.0 - into_run).min(end.0 - lba.0);
        let device = watched.get(run.device);
        let block_bytes = device.map_or(0, |device| device.limits.block_bytes);
        let block_sectors = Sectors::from_bytes(block_bytes.into()).0.max(1);
        if !(run.lba.0 + into_run).is_multiple_of(block_sectors) || !sectors.is_multiple_of(block_sectors) {
            return false;
        }
        lba = Lba(lba.0 + sectors);
    }
    true
}
