//! One descriptor chain, copied out once and sorted into the parts of a virtio-blk request: header, data, status byte.
//!
//! With VERSION_1 any framing is allowed (virtio 1.3, 2.7.4.1): the header may be split over descriptors or share one
//! with data, and the status byte is the last byte of the last writable descriptor, alone or behind data.

use crate::blk::HEADER_BYTES;
use crate::split::LastChain;
use palisade_block::SegmentList;
use palisade_block::limits::RING_ENTRIES_MAX;
use palisade_memory::{Descriptor, IndirectTable, MemoryView, SplitRing};

/// Descriptors of one chain that are looked at: as many as the longest ring has, and one more for the descriptor of an
/// indirect table. A chain in the ring's own table is bounded by that ring's size as well.
///
/// An indirect table may be longer than the ring: the standard forbids it (virtio 1.3, 2.7.5.3.1), and Linux' driver does
/// it on rings that are shorter than the `seg_max` it was given.
pub const CHAIN_DESCRIPTORS_MAX: u32 = RING_ENTRIES_MAX as u32 + 1;

/// What is wrong with a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Malformed {
    /// It is longer than the ring, or turns in a circle.
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
    Header,
}

/// Why there are no parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unusable {
    /// There is no writable byte for the status, or it lies outside guest memory.
    NoStatus {
        /// Descriptors that were followed.
        followed: u32,
    },
    /// It has more segments than the list has room for, and a longer list may be had.
    NoRoom,
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
/// goes, since the byte that must tell the driver comes last.
#[cold]
pub(crate) fn collect_any(
    ring: &SplitRing,
    view: &MemoryView,
    head: u16,
    indirect: bool,
    segments: &mut SegmentList,
) -> Result<Sorted, Unusable> {
    let mut sorter = Sorter::new(view, segments);
    sorter.take_direct(ring, ring.descriptor(head), indirect);
    sorter.finish()
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
    if first.flags != NEXT || first.bytes as usize != HEADER_BYTES {
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
    header: [u8; HEADER_BYTES],
    /// Bytes of the header collected.
    have: usize,
    /// The last writable descriptor, (address, bytes), bytes > 0: the status byte is its last one.
    last_writable: Option<(u64, u32)>,
    readable_segments: usize,
    fault: Option<Malformed>,
    /// There was no room for a segment of a chain that was good up to there, and there may be more room elsewhere.
    no_room: bool,
    /// Descriptors that may still be looked at.
    looks_left: u32,
}

impl<'a> Sorter<'a> {
    fn new(view: &'a MemoryView, segments: &'a mut SegmentList) -> Sorter<'a> {
        segments.clear();
        Sorter {
            view,
            segments,
            header: [0; HEADER_BYTES],
            have: 0,
            last_writable: None,
            readable_segments: 0,
            fault: None,
            no_room: false,
            looks_left: CHAIN_DESCRIPTORS_MAX,
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
        let mut index = 0;
        while self.may_look() {
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
            index = descriptor.next;
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

    /// Whether another descriptor is looked at. A chain that is longer than any ring turns in a circle.
    fn may_look(&mut self) -> bool {
        if self.no_room {
            return false;
        }
        let Some(left) = self.looks_left.checked_sub(1) else {
            self.note(Malformed::TooLong);
            return false;
        };
        self.looks_left = left;
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
        } else if self.have == HEADER_BYTES {
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
        let Some((address, bytes)) = self.last_writable.filter(|_| !self.no_room) else {
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
        if self.have < HEADER_BYTES {
            self.note(Malformed::Header);
        }
        Ok(Sorted {
            parts: Parts {
                header: u128::from_le_bytes(self.header),
                reply: status.address(),
                readable_segments: self.readable_segments,
            },
            fault: self.fault,
            followed: self.followed(),
        })
    }

    fn followed(&self) -> u32 {
        CHAIN_DESCRIPTORS_MAX - self.looks_left
    }

    fn unusable(&self) -> Unusable {
        if self.no_room {
            Unusable::NoRoom
        } else {
            Unusable::NoStatus {
                followed: self.followed(),
            }
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
