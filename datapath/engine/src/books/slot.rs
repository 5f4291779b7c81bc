//! One operation in flight: a request of a guest, or a part of one.

use super::Owner;
use palisade_block::{Fault, Nanos, Op, Request, Segment, Token};
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
    /// Bytes for which it is in the books of what is in flight, of data, or of ranges on its device; zero for a free
    /// slot.
    pub(super) flight_bytes: u32,

    // A request that is cut:
    pub(crate) work: Work,
    pub(super) outstanding: u32,
    /// Length of the part that was cut off last.
    pub(crate) cut_sectors: Sectors,
    pub(crate) fault: Option<Fault>,
    /// It starts over with this when nothing is outstanding: the device turned out not to write zeroes, or a part that
    /// no device had taken was taken back.
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
    pub(super) fn free() -> Slot {
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
}
