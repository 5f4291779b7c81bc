//! One descriptor chain, copied out once and sorted into the parts of a virtio-blk request: header, data, status byte.
//!
//! With VERSION_1 any framing is allowed (virtio 1.3, 2.7.4.1): the header may be split over descriptors or share one
//! with data, and the status byte is the last byte of the last writable descriptor, alone or behind data.

use crate::blk::BLK_HEADER_BYTES;
use crate::split::LastChain;
use palisade_block::SegmentList;
use palisade_block::limits::SEGMENTS_PER_REQUEST;
use palisade_memory::{Descriptor, IndirectTable, MemoryView, SplitRing};

/// Descriptors that a chain on a ring of `size` entries may have, and one more for the descriptor of an indirect table. "A
/// driver MUST NOT create a descriptor chain longer than the Queue Size of the device" (virtio 1.3, 2.7.5.3.1). Linux'
/// driver does it in indirect tables, on rings that are shorter than the `seg_max` it was given, so as many as that asks
/// for are followed on any ring. What is longer is refused: it is the guest's size of the ring that bounds our work.
pub const fn chain_descriptors_max(size: u16) -> u32 {
    let announced = SEGMENTS_PER_REQUEST as u32 + 2;
    let size = size as u32;
    1 + if size > announced { size } else { announced }
}

/// What is wrong with a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Malformed {
    /// It is longer than [may be](chain_descriptors_max), or turns in a circle.
    TooLong,
    /// A `next` outside its table.
    NextOutside,
    /// An indirect table that is not offered, nested, empty, misshaped, outside memory, or goes on behind its end.
    Indirect,
    /// A buffer outside guest memory.
    Outside,
    /// More segments than a request may have.
    TooManySegments,
    /// A device-readable buffer behind a device-writable one.
    Order,
    /// Fewer than 16 readable bytes.
    BlkHeader,
}

/// Why there are no parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unusable {
    /// There is no writable byte for the status, or it lies outside guest memory.
    NoStatus {
        /// What else is wrong.
        fault: Option<Malformed>,
    },
    /// It has more segments than the list has room for, and a longer list may be had.
    NoRoom,
    /// It has more descriptors than may be followed now.
    Later,
}

/// The parts of a chain. Data segments are in the list that was passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Parts {
    /// The header as a little-endian number.
    pub(crate) header: u128,
    /// Address of the status byte in this process.
    pub(crate) reply: usize,
    /// How many of the data segments are device-readable; they come first.
    pub(crate) readable_segments: usize,
}

/// A chain of any shape that has a status byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sorted {
    /// Its parts; the header is complete when `fault` is `None`.
    pub(crate) parts: Parts,
    /// What is wrong, though there is a status byte to say so.
    pub(crate) fault: Option<Malformed>,
}

/// What came of a chain of any shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Collected {
    pub(crate) sorted: Result<Sorted, Unusable>,
    /// Descriptors that were followed.
    pub(crate) followed: u32,
}

/// Collects the chain that begins at `head` if it has the usual shape, and notes where it lies. `None` for any other
/// chain: [`collect_any`] then begins anew with what it reads itself, and nothing seen here is used.
#[inline(always)]
pub(crate) fn collect_usual(
    ring: &SplitRing,
    view: &MemoryView,
    head: u16,
    indirect: bool,
    segments: &mut SegmentList,
    last: &mut LastChain,
) -> Option<Parts> {
    segments.clear();
    let first = ring.descriptor(head);
    last.head = head;
    if first.is_indirect() {
        let table = table_of(view, first, indirect).ok()?;
        let in_table = table.descriptor(0)?;
        last.table = Some(first.address);
        last.header = in_table.address;
        usual(view, in_table, |at| table.descriptor(at), segments)
    } else {
        last.table = None;
        last.header = first.address;
        let next = |at| (at < ring.size()).then(|| ring.descriptor(at));
        usual(view, first, next, segments)
    }
}

/// Collects the chain that begins at `head`, whatever its shape. Whatever is wrong with it, it is followed as far as it
/// may go, since the byte that must tell the driver comes last; but no further than `may_follow` descriptors now.
#[cold]
pub(crate) fn collect_any(
    ring: &SplitRing,
    view: &MemoryView,
    head: u16,
    indirect: bool,
    segments: &mut SegmentList,
    may_follow: u32,
) -> Collected {
    let mut sorter = Sorter::new(view, segments, chain_descriptors_max(ring.size()), may_follow);
    sorter.take_direct(ring, ring.descriptor(head), indirect);
    let followed = sorter.followed;
    Collected {
        sorted: sorter.finish(),
        followed,
    }
}

/// The shape that nearly all requests have: the header in a descriptor of its own, buffers in one direction, the
/// status byte in a descriptor of its own. `None` for anything else, well-formed or not.
#[inline(always)]
fn usual(
    view: &MemoryView,
    first: Descriptor,
    next: impl Fn(u16) -> Option<Descriptor>,
    segments: &mut SegmentList,
) -> Option<Parts> {
    const NEXT: u16 = Descriptor::NEXT;
    const WRITE: u16 = Descriptor::WRITE;
    if first.flags != NEXT || first.bytes as usize != BLK_HEADER_BYTES {
        return None;
    }
    let header = view.read_16(first.address)?;
    let mut descriptor = next(first.next)?;
    let flags = descriptor.flags;
    // Bounded by the list, which takes no more than its places: an empty buffer ends the loop.
    while descriptor.flags == flags && flags != WRITE {
        if flags | WRITE != NEXT | WRITE || descriptor.bytes == 0 {
            return None;
        }
        if !segments.push_own(view.slice(descriptor.address, descriptor.bytes.into())?) {
            return None;
        }
        descriptor = next(descriptor.next)?;
    }
    if descriptor.flags != WRITE || descriptor.bytes != 1 {
        return None;
    }
    let reply = view.slice(descriptor.address, 1)?.address();
    let readable_segments = if flags == NEXT { segments.len() } else { 0 };
    Some(Parts {
        header,
        reply,
        readable_segments,
    })
}

/// The table behind an indirect descriptor (virtio 1.3, 2.7.5.3): the last of its chain.
#[inline]
fn table_of(
    view: &MemoryView,
    descriptor: Descriptor,
    indirect: bool,
) -> Result<IndirectTable<'_>, Malformed> {
    if !indirect || descriptor.has_next() {
        return Err(Malformed::Indirect);
    }
    view.indirect(descriptor.address, descriptor.bytes)
        .ok_or(Malformed::Indirect)
}

struct Sorter<'a> {
    view: &'a MemoryView,
    segments: &'a mut SegmentList,
    header: [u8; BLK_HEADER_BYTES],
    /// Bytes of the header collected.
    have: usize,
    /// The last writable descriptor, (address, bytes), bytes > 0: the status byte is its last one.
    last_writable: Option<(u64, u32)>,
    readable_segments: usize,
    fault: Option<Malformed>,
    /// There was no room for a segment of a chain that was good up to there, and there may be more room elsewhere.
    no_room: bool,
    /// Descriptors that were looked at.
    followed: u32,
    /// How many a chain may have.
    longest: u32,
    /// How many may be looked at now.
    may_follow: u32,
    /// They were not enough.
    later: bool,
}

impl<'a> Sorter<'a> {
    fn new(view: &'a MemoryView, segments: &'a mut SegmentList, longest: u32, may_follow: u32) -> Sorter<'a> {
        segments.clear();
        Sorter {
            view,
            segments,
            header: [0; BLK_HEADER_BYTES],
            have: 0,
            last_writable: None,
            readable_segments: 0,
            fault: None,
            no_room: false,
            followed: 0,
            longest,
            may_follow,
            later: false,
        }
    }

    /// Follows a chain in the ring's own table, which may end in an indirect table.
    fn take_direct(&mut self, ring: &SplitRing, first: Descriptor, indirect: bool) {
        let mut descriptor = first;
        for _ in 0..ring.size() {
            if !self.may_look() {
                return;
            }
            if descriptor.is_indirect() {
                if !indirect || descriptor.has_next() {
                    self.note(Malformed::Indirect);
                }
                self.take_table(descriptor);
            } else {
                self.take(descriptor);
            }
            if !descriptor.has_next() {
                return;
            }
            if descriptor.next >= ring.size() {
                return self.note(Malformed::NextOutside);
            }
            descriptor = ring.descriptor(descriptor.next);
        }
        self.note(Malformed::TooLong);
    }

    /// Follows a chain in an indirect table, which may lie across the border of two memory regions.
    fn take_table(&mut self, table: Descriptor) {
        let entries = table.bytes / Descriptor::BYTES as u32;
        if entries == 0 || !table.bytes.is_multiple_of(Descriptor::BYTES as u32) {
            self.note(Malformed::Indirect);
        }
        let (mut index, mut in_order) = (0u16, true);
        loop {
            if self.followed == self.longest && in_order {
                self.find_end(table.address, entries);
            }
            if !self.may_look() {
                return;
            }
            if u32::from(index) >= entries {
                return self.note(Malformed::NextOutside);
            }
            let Some(descriptor) = self.descriptor_at(table.address, index) else {
                return self.note(Malformed::Indirect);
            };
            if descriptor.is_indirect() {
                self.note(Malformed::Indirect);
            } else {
                self.take(descriptor);
            }
            if !descriptor.has_next() {
                return;
            }
            in_order &= index.checked_add(1) == Some(descriptor.next);
            index = descriptor.next;
        }
    }

    /// Finds the status byte of a chain that is too long to be followed to its end. Drivers fill a table from its first
    /// entry to its last, one after the other; where this one has done so up to here, and its last two entries agree, the
    /// last is the end.
    fn find_end(&mut self, table: u64, entries: u32) {
        let entry = |index: Option<u32>| self.descriptor_at(table, u16::try_from(index?).ok()?);
        let (last, before) = (entries.checked_sub(1), entries.checked_sub(2));
        if let (Some(end), Some(before)) = (entry(last), entry(before))
            && before.has_next()
            && Some(u32::from(before.next)) == last
            && !end.has_next()
            && !end.is_indirect()
            && end.is_write()
            && end.bytes > 0
        {
            self.last_writable = Some((end.address, end.bytes));
        }
    }

    /// One descriptor of a table, wherever it lies.
    fn descriptor_at(&self, table: u64, index: u16) -> Option<Descriptor> {
        let at = table.checked_add(Descriptor::BYTES as u64 * u64::from(index))?;
        if let Some(raw) = self.view.read_16(at) {
            return Some(Descriptor::of(raw));
        }
        let mut bytes = [0; Descriptor::BYTES];
        for (place, offset) in bytes.iter_mut().zip(0..) {
            let at = at.checked_add(offset)?;
            if !self.view.read(at, std::slice::from_mut(place)) {
                return None;
            }
        }
        Some(Descriptor::of(u128::from_le_bytes(bytes)))
    }

    /// Whether another descriptor is looked at.
    fn may_look(&mut self) -> bool {
        if self.no_room || self.later {
            return false;
        }
        if self.followed == self.longest {
            self.note(Malformed::TooLong);
            return false;
        }
        if self.followed == self.may_follow {
            self.later = true;
            return false;
        }
        self.followed += 1;
        true
    }

    /// Sorts one descriptor. Faults are noted and the rest is still looked at, since the status byte comes last.
    fn take(&mut self, descriptor: Descriptor) {
        let Descriptor { address, bytes, .. } = descriptor;
        if descriptor.is_write() {
            if bytes > 0 {
                self.take_writable(address, bytes);
            }
        } else if self.last_writable.is_some() {
            self.note(Malformed::Order);
        } else if self.have == BLK_HEADER_BYTES {
            self.take_data(address, bytes);
        } else {
            self.take_header(address, bytes);
        }
    }

    fn take_writable(&mut self, address: u64, bytes: u32) {
        match self.last_writable.replace((address, bytes)) {
            None => self.readable_segments = self.segments.len(),
            Some((address, bytes)) => self.take_data(address, bytes),
        }
    }

    /// What a chain carries that is refused already is of no interest.
    fn take_data(&mut self, address: u64, bytes: u32) {
        if self.fault.is_none() && !self.view.segments(address, bytes.into(), self.segments) {
            self.note_untaken();
        }
    }

    /// The header may be split over descriptors or regions, or have data behind it.
    fn take_header(&mut self, mut address: u64, mut bytes: u32) {
        for place in self.header.iter_mut().skip(self.have) {
            if bytes == 0 {
                return;
            }
            if !self.view.read(address, std::slice::from_mut(place)) {
                return self.note(Malformed::Outside);
            }
            let Some(next) = address.checked_add(1) else {
                return self.note(Malformed::Outside);
            };
            (address, bytes) = (next, bytes - 1);
            self.have += 1;
        }
        self.take_data(address, bytes);
    }

    /// Finds the status byte, which ends the last writable descriptor; what is before it there is data.
    fn finish(mut self) -> Result<Sorted, Unusable> {
        let Some((address, bytes)) = self.last_writable.filter(|_| !self.no_room && !self.later) else {
            return Err(self.unusable());
        };
        let status = address
            .checked_add(u64::from(bytes) - 1)
            .and_then(|at| self.view.slice(at, 1));
        let Some(status) = status else {
            return Err(self.unusable());
        };
        self.take_data(address, bytes - 1);
        if self.no_room {
            return Err(self.unusable());
        }
        if self.have < BLK_HEADER_BYTES {
            self.note(Malformed::BlkHeader);
        }
        Ok(Sorted {
            parts: Parts {
                header: u128::from_le_bytes(self.header),
                reply: status.address(),
                readable_segments: self.readable_segments,
            },
            fault: self.fault,
        })
    }

    fn unusable(&self) -> Unusable {
        if self.later {
            Unusable::Later
        } else if self.no_room {
            Unusable::NoRoom
        } else {
            Unusable::NoStatus { fault: self.fault }
        }
    }

    /// Why `segments` refused a buffer.
    fn note_untaken(&mut self) {
        if self.segments.has_room() {
            self.note(Malformed::Outside);
        } else if self.segments.is_lent() {
            self.note(Malformed::TooManySegments);
        } else {
            self.no_room = true;
        }
    }

    fn note(&mut self, fault: Malformed) {
        self.fault.get_or_insert(fault);
    }
}
