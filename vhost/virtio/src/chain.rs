//! One descriptor chain, copied out once and sorted into the parts of a virtio-blk request: header, data, status byte.
//!
//! With VERSION_1 any framing is allowed (virtio 1.3, 2.7.4.1): the header may be split over descriptors or share one
//! with data, and the status byte is the last byte of the last writable descriptor, alone or behind data.

use crate::blk::HEADER_BYTES;
use crate::split::LastChain;
use palisade_block::SegmentList;
use palisade_memory::{Descriptor, IndirectTable, MemoryView, SplitRing};

/// Descriptors of one chain that are looked at when it uses an indirect table; a chain in the ring's own table is
/// bounded by the ring's size. Room for `SEGMENTS_PER_REQUEST`, header and status, twice over.
pub const CHAIN_DESCRIPTORS_MAX: u16 = 256;

const _: () = assert!(CHAIN_DESCRIPTORS_MAX as usize >= 2 * palisade_block::limits::SEGMENTS_PER_REQUEST);

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
    /// No writable byte for the status.
    NoStatus,
}

/// The parts of a chain. Data segments are in the list that was passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// The header as a little-endian number, complete when `fault` is `None`.
    pub(crate) header: u128,
    /// Address of the status byte in this process.
    pub(crate) reply: usize,
    /// How many of the data segments are device-readable; they come first.
    pub(crate) readable_segments: usize,
    /// What is wrong, though there is a status byte to say so.
    pub(crate) fault: Option<Malformed>,
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

/// Collects the chain that begins at `head`, whatever its shape. An error when there is no status byte to be found.
#[cold]
pub(crate) fn collect_any(
    ring: &SplitRing,
    view: &MemoryView,
    head: u16,
    indirect: bool,
    segments: &mut SegmentList,
) -> Result<Parts, Malformed> {
    let mut sorter = Sorter::new(view, segments);
    sorter.take_direct(ring, ring.descriptor(head), indirect)?;
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
        if !segments.push(view.slice(descriptor.address, descriptor.bytes.into())?) {
            return None;
        }
        descriptor = next(descriptor.next)?;
    }
    if descriptor.flags != WRITE || descriptor.bytes != 1 {
        return None;
    }
    let reply = view.slice(descriptor.address, 1)?.address;
    let readable_segments = if flags == NEXT { segments.len() } else { 0 };
    Some(Parts {
        header,
        reply,
        readable_segments,
        fault: None,
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
        }
    }

    /// Follows a chain in the ring's own table, which may end in an indirect table.
    fn take_direct(&mut self, ring: &SplitRing, first: Descriptor, indirect: bool) -> Result<(), Malformed> {
        let mut descriptor = first;
        for _ in 0..ring.size() {
            if descriptor.is_indirect() {
                return self.take_table(&table_of(self.view, descriptor, indirect)?);
            }
            self.take(descriptor);
            if !descriptor.has_next() {
                return Ok(());
            }
            if descriptor.next >= ring.size() {
                return Err(Malformed::NextOutside);
            }
            descriptor = ring.descriptor(descriptor.next);
        }
        Err(Malformed::TooLong)
    }

    /// Follows a chain in an indirect table.
    fn take_table(&mut self, table: &IndirectTable<'_>) -> Result<(), Malformed> {
        let mut index = 0;
        for _ in 0..table.entries().min(CHAIN_DESCRIPTORS_MAX.into()) {
            let descriptor = table.descriptor(index).ok_or(Malformed::NextOutside)?;
            if descriptor.is_indirect() {
                return Err(Malformed::Indirect);
            }
            self.take(descriptor);
            if !descriptor.has_next() {
                return Ok(());
            }
            index = descriptor.next;
        }
        Err(Malformed::TooLong)
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

    fn take_data(&mut self, address: u64, bytes: u32) {
        if !self.view.segments(address, bytes.into(), self.segments) {
            self.note_untaken(address, bytes);
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
        if bytes > 0 {
            self.take_data(address, bytes);
        }
    }

    /// Finds the status byte, which ends the last writable descriptor; what is before it there is data.
    fn finish(mut self) -> Result<Parts, Malformed> {
        let Some((address, bytes)) = self.last_writable else {
            return Err(self.fault.unwrap_or(Malformed::NoStatus));
        };
        let status = address
            .checked_add(u64::from(bytes) - 1)
            .and_then(|at| self.view.slice(at, 1));
        let Some(status) = status else {
            return Err(Malformed::Outside);
        };
        if bytes > 1 {
            self.take_data(address, bytes - 1);
        }
        if self.have < HEADER_BYTES {
            self.note(Malformed::Header);
        }
        Ok(Parts {
            header: u128::from_le_bytes(self.header),
            reply: status.address,
            readable_segments: self.readable_segments,
            fault: self.fault,
        })
    }

    /// Why `segments` refused a buffer.
    fn note_untaken(&mut self, address: u64, bytes: u32) {
        let full = self.segments.len() == palisade_block::limits::SEGMENTS_PER_SLOT;
        let outside = !full || self.view.slice(address, bytes.into()).is_none();
        self.note(if outside {
            Malformed::Outside
        } else {
            Malformed::TooManySegments
        });
    }

    fn note(&mut self, fault: Malformed) {
        self.fault.get_or_insert(fault);
    }
}
