//! What is in flight, whose it is, and what it holds of what is scarce. It is booked here and nowhere else.
//!
//! ```text
//!                      enter                                         exit
//!   slot claimed ---------------> in flight ---------------------------------> slot free
//!                                  |  ^   |  ^
//!                             park |  |   |  |  start, land: its operation is on a device
//!                                  v  |   v  |  enter_part, exit_part: its parts are, when it goes in pieces
//!                           unpark +--+   +--+  wait, rest: it stands in a line
//! ```
//!
//! A request comes in by [`Books::enter`] and goes out by [`Books::exit`], which gives back all that it holds, whatever
//! became of it. Everything that counts for somebody is derived from a field of a slot that only the books write:
//!
//! | of | is counted | from |
//! |---|---|---|
//! | a queue | requests in flight, parked, with a long list, and those that keep it from being served | the slots in use |
//! | a volume | requests on their way, and parked | the same |
//! | a device | operations on it | `on_device` |
//! | a device | its shares of slots, long lists, parts and bounce buffers | `held_by`, `long`, the part's `device`, `bounce` |
//! | an attachment | bytes in flight, of data and of ranges on each device | `flight_bytes` |
//!
//! So each count can be held against the slots, at any moment between two turns ([`Books::check`]).

use crate::ranges::Ranges;
use crate::reactor::{ReactorConfig, broken};
use palisade_block::ledger;
use palisade_block::stats::AttachmentStats;
use palisade_block::{DeviceLimits, Nanos, Request};
use palisade_words::{AttachmentIndex, DeviceIndex, SlotIndex, VolumeIndex};

mod check;
mod flight;
mod lines;
mod operations;
mod room;
mod shares;
mod slot;
mod slots;

pub(crate) use flight::Flight;
use lines::Lines;
pub(crate) use operations::Part;
use shares::Shares;
pub(crate) use slot::{Parked, Place, Slot, Use, Work};
pub(crate) use slots::Slots;

/// Whose a request is: the place of its queue in the reactor's table, and its volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) queue: u16,
    pub(crate) volume: VolumeIndex,
}

/// What a queue has in flight.
#[derive(Clone, Copy, Debug)]
struct OfQueue {
    attachment: AttachmentIndex,
    /// Requests in slots.
    in_flight: u32,
    /// Of these, those that are parked.
    parked: u32,
    /// Those that have been lent a long list.
    long: u32,
    /// Those whose rest is to be begun later, and nothing is taken before it is.
    resting: u32,
    /// The next request is long, and there was no list for it.
    wants_long: bool,
    /// One of these may keep things from being taken, or large operations in flight may.
    careful: bool,
}

/// What of a volume is in flight.
#[derive(Clone, Copy, Default, Debug)]
struct OfVolume {
    /// Requests in slots that are not parked.
    active: u32,
    /// Requests that are.
    parked: u32,
}

/// What is in flight on one reactor.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) slots: Slots,
    pub(crate) lines: Lines,
    /// By their places in the reactor's table.
    queues: Vec<OfQueue>,
    volumes: Vec<OfVolume>,
    /// Operations on each device.
    devices: Vec<u32>,
    slot_shares: Shares,
    part_shares: Shares,
    buffer_shares: Shares,
    long_shares: Shares,
    /// Large operations that move data.
    flight: Flight,
    /// Discards and write-zeroes on each device, and how they go there. A device that comes in another's place goes on
    /// with its books.
    ranges: Vec<Ranges>,
}

impl Books {
    /// Allocates everything that turns will need, but for queues, volumes and devices, which come later.
    pub(crate) fn new(config: ReactorConfig, buffers: u32) -> Books {
        let slots = Slots::new(config.slots, config.parts, config.long);
        Books {
            lines: Lines::new(slots.len()),
            slots,
            queues: Vec::new(),
            volumes: Vec::new(),
            devices: Vec::new(),
            slot_shares: Shares::new(config.slots),
            part_shares: Shares::new(config.parts),
            buffer_shares: Shares::new(buffers),
            long_shares: Shares::new(config.long),
            flight: Flight::of_data(),
            ranges: Vec::new(),
        }
    }

    /// A queue comes into use in a place of the table that was free.
    pub(crate) fn open_queue(&mut self, index: u16, attachment: AttachmentIndex) {
        let queue = OfQueue {
            attachment,
            in_flight: 0,
            parked: 0,
            long: 0,
            resting: 0,
            wants_long: false,
            careful: false,
        };
        let places = self.queues.len();
        match self.queues.get_mut(usize::from(index)) {
            Some(before) if before.in_flight == 0 => *before = queue,
            Some(_) => broken("a queue comes in the place of one that has requests in flight"),
            None if places == usize::from(index) => self.queues.push(queue),
            None => broken("a queue comes in a place far behind the others"),
        }
        self.flight.open(attachment);
        for ranges in &mut self.ranges {
            ranges.open(attachment);
        }
    }

    /// A volume may have requests from now on.
    pub(crate) fn open_volume(&mut self, volume: VolumeIndex) {
        if self.volumes.len() <= volume.usize() {
            self.volumes.resize_with(volume.usize() + 1, OfVolume::default);
        }
    }

    /// A device comes into use.
    pub(crate) fn open_device(&mut self, device: DeviceIndex, limits: &DeviceLimits) {
        if self.devices.len() <= device.usize() {
            self.devices.resize(device.usize() + 1, 0);
        }
        if self.on_device(device) > 0 {
            broken("a device comes in the place of one that has operations in flight")
        }
        while self.ranges.len() <= device.usize() {
            self.ranges.push(Ranges::new(&self.flight));
        }
        if let Some(ranges) = self.ranges.get_mut(device.usize()) {
            ranges.serve(limits);
        }
        // A part goes to no device that is not there for longer than a call.
        self.part_shares.open(device, 0);
        self.buffer_shares.open(device, 0);
        let held = |slot: &Slot| slot.held_by == Some(device);
        let of = |is_of: &dyn Fn(&Slot) -> bool| {
            let slots = self.slots.iter().filter(|(_, slot)| is_of(slot));
            slots.count() as u32
        };
        let (slots, long) = (of(&held), of(&|slot| held(slot) && slot.long));
        self.slot_shares.open(device, slots);
        self.long_shares.open(device, long);
    }

    /// A turn begins.
    #[inline]
    pub(crate) fn begin_turn(&mut self, now: Nanos) {
        self.flight.begin_turn(now);
    }

    fn queue(&self, index: u16) -> &OfQueue {
        match self.queues.get(usize::from(index)) {
            Some(queue) => queue,
            None => broken("a request is of a queue that never was"),
        }
    }

    #[inline]
    fn queue_mut(&mut self, index: u16) -> &mut OfQueue {
        match self.queues.get_mut(usize::from(index)) {
            Some(queue) => queue,
            None => broken("a request is of a queue that never was"),
        }
    }
}

/// The way in and the way out of a request, and what may become of it between the two.
impl Books {
    /// A request that is not answered at once comes into the slot whose list it filled.
    #[inline]
    pub(crate) fn enter(
        &mut self,
        index: SlotIndex,
        owner: Owner,
        request: Request,
        now: Nanos,
        stats: &AttachmentStats,
    ) {
        let long = self.slots.list(index).is_lent();
        let slot = self.slots.slot_mut(index);
        assert!(slot.used_for == Use::Free, "{index:?} is used for two requests");
        slot.begin(owner, request, now);
        slot.long = long;
        let queue = self.queue_mut(owner.queue);
        ledger::enter(&mut queue.in_flight, "requests of a queue");
        if long {
            ledger::enter(&mut queue.long, "long requests of a queue");
        }
        // A source may name a volume that this reactor was never told of.
        if let Some(volume) = self.volumes.get_mut(owner.volume.usize()) {
            ledger::enter(&mut volume.active, "requests on a volume");
        }
        stats.in_flight.add(1);
    }

    /// A request goes that has been answered, or is left to whoever serves its queue next: all that it held is given
    /// back. Of which volume it was.
    #[inline]
    pub(crate) fn exit(&mut self, index: SlotIndex, stats: &AttachmentStats) -> VolumeIndex {
        if self.slots.slot(index).waits {
            self.wait_no_more(index);
        }
        let slot = self.slots.slot_mut(index);
        assert!(
            slot.used_for == Use::Request && slot.token.is_none() && slot.parked.is_none(),
            "{index:?} goes that is no request, is not answered or is parked"
        );
        assert!(
            !slot.on_device && slot.outstanding == 0,
            "{index:?} goes while a device has something of it"
        );
        let (queue, volume, long) = (slot.queue, slot.volume, slot.long);
        let held_by = slot.held_by.take();
        let flight_bytes = std::mem::take(&mut slot.flight_bytes);
        if let Some(device) = held_by {
            self.slot_shares.give(device);
            if long {
                self.long_shares.give(device);
            }
        }
        if long {
            self.slots.take_back(index);
        }
        let queue = self.queue_mut(queue);
        ledger::leave(&mut queue.in_flight, "requests of a queue");
        if long {
            ledger::leave(&mut queue.long, "long requests of a queue");
        }
        let attachment = queue.attachment;
        if flight_bytes != 0 {
            self.flight.give(attachment, flight_bytes);
        }
        if let Some(volume) = self.volumes.get_mut(volume.usize()) {
            ledger::leave(&mut volume.active, "requests on a volume");
        }
        self.slots.release(index);
        stats.in_flight.sub(1);
        volume
    }

    /// A request counts in the shares of this device: the one that it goes to, or has to wait for. It counted in those
    /// of the one before; if it stayed there while another hangs, the guests of the first would be held back for
    /// nothing (invariant 11).
    #[inline]
    pub(crate) fn hold(&mut self, request: SlotIndex, device: DeviceIndex) {
        let slot = self.slots.slot_mut(request);
        let long = slot.long;
        let before = slot.held_by.replace(device);
        if before == Some(device) {
            return;
        }
        self.slot_shares.take(device);
        if long {
            self.long_shares.take(device);
        }
        if let Some(before) = before {
            self.slot_shares.give(before);
            if long {
                self.long_shares.give(before);
            }
        }
    }

    /// A request that no device has anything of waits for a decision. It keeps its slot, its list and its place in the
    /// shares, and is in flight no more.
    pub(crate) fn park(&mut self, request: SlotIndex, why: Parked, stats: &AttachmentStats) {
        let slot = self.slots.slot_mut(request);
        assert!(
            slot.used_for == Use::Request && slot.parked.is_none() && !slot.waits,
            "{request:?} is parked that is no request, is parked already or waits for something else"
        );
        assert!(
            !slot.on_device && slot.outstanding == 0,
            "{request:?} is parked while a device has something of it"
        );
        // It is sent again whole in any case.
        (slot.parked, slot.again) = (Some(why), None);
        let flight_bytes = std::mem::take(&mut slot.flight_bytes);
        let (queue, volume) = (slot.queue, slot.volume);
        let queue = self.queue_mut(queue);
        ledger::enter(&mut queue.parked, "parked requests of a queue");
        let attachment = queue.attachment;
        if flight_bytes != 0 {
            self.flight.give(attachment, flight_bytes);
        }
        let volume = self.volume_mut(volume);
        ledger::leave(&mut volume.active, "requests on a volume");
        ledger::enter(&mut volume.parked, "parked requests of a volume");
        stats.parked.add(1);
    }

    /// What it waits for is another thing now.
    pub(crate) fn park_for(&mut self, request: SlotIndex, why: Parked) {
        let parked = &mut self.slots.slot_mut(request).parked;
        assert!(
            parked.replace(why).is_some(),
            "{request:?} waits where it is not parked"
        );
    }

    /// It is parked no more: somebody has decided what becomes of it.
    pub(crate) fn unpark(&mut self, request: SlotIndex, stats: &AttachmentStats) {
        let slot = self.slots.slot_mut(request);
        assert!(
            slot.parked.take().is_some(),
            "{request:?} is taken from where it is not parked"
        );
        slot.fault = None;
        let (queue, volume) = (slot.queue, slot.volume);
        ledger::leave(&mut self.queue_mut(queue).parked, "parked requests of a queue");
        let volume = self.volume_mut(volume);
        ledger::leave(&mut volume.parked, "parked requests of a volume");
        ledger::enter(&mut volume.active, "requests on a volume");
        stats.parked.sub(1);
    }

    fn volume_mut(&mut self, index: VolumeIndex) -> &mut OfVolume {
        match self.volumes.get_mut(index.usize()) {
            Some(volume) => volume,
            None => broken("a request is parked of a volume that nobody told of"),
        }
    }
}
