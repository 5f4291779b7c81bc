//! A split virtqueue's three areas in guest memory (virtio 1.3, 2.7), checked once, then read and written at raw
//! speed. Every position is masked to the ring's size, so nothing a guest writes leads outside.
//!
//! ```text
//! descriptors  16 bytes each: address u64, len u32, flags u16, next u16
//! available    flags u16, idx u16, ring[size] u16, used_event u16
//! used         flags u16, idx u16, ring[size] { id u32, len u32 }, avail_event u16
//! ```

use crate::guest::GuestMemory;
use crate::raw;
use palisade_block::Segment;
use palisade_words::limits::QUEUE_SIZE_MAX;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the cores pass between them at once.
const CACHE_LINE_BYTES: usize = 64;

/// Guest physical addresses of a split ring's areas.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingAddresses {
    /// The descriptor table.
    pub descriptors: u64,
    /// The available ring, written by the driver.
    pub avail: u64,
    /// The used ring, written by us.
    pub used: u64,
}

impl RingAddresses {
    /// From addresses of the front-end's process, as SET_VRING_ADDR gives them; `None` when one is not mapped.
    pub fn from_user(memory: &GuestMemory, descriptors: u64, avail: u64, used: u64) -> Option<RingAddresses> {
        Some(RingAddresses {
            descriptors: memory.user_to_guest(descriptors)?,
            avail: memory.user_to_guest(avail)?,
            used: memory.user_to_guest(used)?,
        })
    }
}

/// Why a ring cannot be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RingError {
    /// The size is not a power of two from 1 to [`QUEUE_SIZE_MAX`].
    #[error("a ring of {size} entries: must be a power of two up to {QUEUE_SIZE_MAX}")]
    Size {
        /// Entries asked for.
        size: u16,
    },
    /// An area is not mapped in one piece.
    #[error("the {area} area at guest address {guest_address:#x} is not in guest memory")]
    NotMapped {
        /// Which area.
        area: &'static str,
        /// Its guest address.
        guest_address: u64,
    },
    /// An area is not aligned (virtio 1.3, 2.7: 16, 2 and 4 bytes).
    #[error("the {area} area at guest address {guest_address:#x} is misaligned")]
    Misaligned {
        /// Which area.
        area: &'static str,
        /// Its guest address.
        guest_address: u64,
    },
}

/// One descriptor, copied out of the guest's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Descriptor {
    /// Guest physical address.
    pub address: u64,
    /// Length in bytes.
    pub bytes: u32,
    /// VIRTQ_DESC_F_*.
    pub flags: u16,
    /// The next one, when [`Descriptor::has_next`].
    pub next: u16,
}

impl Descriptor {
    /// Bytes of one descriptor.
    pub const BYTES: usize = 16;
    /// `VIRTQ_DESC_F_NEXT`
    pub const NEXT: u16 = 1;
    /// `VIRTQ_DESC_F_WRITE`
    pub const WRITE: u16 = 2;
    /// `VIRTQ_DESC_F_INDIRECT`
    pub const INDIRECT: u16 = 4;

    /// Whether another descriptor follows.
    #[inline]
    pub fn has_next(self) -> bool {
        self.flags & Descriptor::NEXT != 0
    }

    /// Whether the device writes the buffer (and must not read it).
    #[inline]
    pub fn is_write(self) -> bool {
        self.flags & Descriptor::WRITE != 0
    }

    /// Whether the buffer holds a table of descriptors.
    #[inline]
    pub fn is_indirect(self) -> bool {
        self.flags & Descriptor::INDIRECT != 0
    }

    /// From its 16 bytes as a little-endian number.
    #[inline]
    pub fn of(raw: u128) -> Descriptor {
        let rest = (raw >> 64) as u64;
        Descriptor {
            address: raw as u64,
            bytes: rest as u32,
            flags: (rest >> 32) as u16,
            next: (rest >> 48) as u16,
        }
    }
}

/// A split ring.
#[derive(Debug)]
pub struct SplitRing {
    descriptors: usize,
    avail: usize,
    used: usize,
    mask: u16,
    memory: Arc<GuestMemory>,
}

impl SplitRing {
    /// Resolves and checks the areas of a ring of `size` entries.
    pub fn new(memory: Arc<GuestMemory>, size: u16, at: RingAddresses) -> Result<SplitRing, RingError> {
        if !size.is_power_of_two() || size > QUEUE_SIZE_MAX {
            return Err(RingError::Size { size });
        }
        let entries = u64::from(size);
        let descriptors = area(&memory, "descriptor", at.descriptors, 16 * entries, 16)?;
        let avail = area(&memory, "available", at.avail, 6 + 2 * entries, 2)?;
        let used = area(&memory, "used", at.used, 6 + 8 * entries, 4)?;
        Ok(SplitRing {
            descriptors,
            avail,
            used,
            mask: size - 1,
            memory,
        })
    }

    /// Entries, a power of two.
    #[inline]
    pub fn size(&self) -> u16 {
        self.mask + 1
    }

    /// The memory the ring lies in.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// `avail.flags`
    #[inline]
    pub fn avail_flags(&self) -> u16 {
        // SAFETY: `new` has checked the area and its alignment, and `self.memory` keeps it mapped. The same holds
        // below; positions are masked to the ring's size.
        unsafe { raw::load_u16(self.avail, Ordering::Relaxed) }
    }

    /// `avail.idx`, acquire: entries before it may be read afterwards.
    #[inline]
    pub fn avail_idx(&self) -> u16 {
        // SAFETY: as in `avail_flags`.
        unsafe { raw::load_u16(self.avail + 2, Ordering::Acquire) }
    }

    /// `avail.ring[position % size]`: the head of a chain, as the guest wrote it (not checked).
    #[inline]
    pub fn avail_entry(&self, position: u16) -> u16 {
        let at = self.avail + 4 + 2 * usize::from(position & self.mask);
        // SAFETY: as in `avail_flags`.
        unsafe { raw::load_u16(at, Ordering::Relaxed) }
    }

    /// `used_event`: after which used entry the driver wants to be notified.
    #[inline]
    pub fn used_event(&self) -> u16 {
        let at = self.avail + 4 + 2 * (usize::from(self.mask) + 1);
        // SAFETY: as in `avail_flags`.
        unsafe { raw::load_u16(at, Ordering::Relaxed) }
    }

    /// Descriptor `index % size`, copied out once.
    #[inline]
    pub fn descriptor(&self, index: u16) -> Descriptor {
        let at = self.descriptors + Descriptor::BYTES * usize::from(index & self.mask);
        // SAFETY: as in `avail_flags`; the area is aligned to 16 bytes.
        Descriptor::of(unsafe { raw::read_16_aligned(at) })
    }

    /// Asks the processor to fetch descriptor `index % size`.
    #[inline]
    pub fn prefetch_descriptor(&self, index: u16) {
        raw::prefetch(self.descriptors + Descriptor::BYTES * usize::from(index & self.mask));
    }

    /// Asks the processor for the line of used entry `position % size`, to write it. Not if the used index lies on the
    /// same line: a driver that polls looks there all the time.
    #[inline]
    pub fn prefetch_used(&self, position: u16) {
        let at = self.used + 4 + 8 * usize::from(position & self.mask);
        if at / CACHE_LINE_BYTES != self.used / CACHE_LINE_BYTES {
            raw::prefetch_for_write(at);
        }
    }

    /// `used.idx`
    #[inline]
    pub fn used_idx(&self) -> u16 {
        // SAFETY: as in `avail_flags`.
        unsafe { raw::load_u16(self.used + 2, Ordering::Relaxed) }
    }

    /// Sets `used.idx`, release: entries before it are visible with it.
    #[inline]
    pub fn set_used_idx(&self, value: u16) {
        // SAFETY: as in `avail_flags`.
        unsafe { raw::store_u16(self.used + 2, value, Ordering::Release) }
    }

    /// Sets `used.ring[position % size]`.
    #[inline]
    pub fn put_used(&self, position: u16, head: u16, bytes: u32) {
        let at = self.used + 4 + 8 * usize::from(position & self.mask);
        // SAFETY: as in `avail_flags`; the area is aligned to 4 bytes.
        unsafe {
            (at as *mut u32).write_volatile(u32::from(head).to_le());
            ((at + 4) as *mut u32).write_volatile(bytes.to_le());
        }
    }

    /// Sets `used.flags`.
    #[inline]
    pub fn set_used_flags(&self, value: u16) {
        // SAFETY: as in `avail_flags`.
        unsafe { raw::store_u16(self.used, value, Ordering::Relaxed) }
    }

    /// Sets `avail_event`: after which available entry we want to be notified.
    #[inline]
    pub fn set_avail_event(&self, value: u16) {
        let at = self.used + 4 + 8 * (usize::from(self.mask) + 1);
        // SAFETY: as in `avail_flags`.
        unsafe { raw::store_u16(at, value, Ordering::Relaxed) }
    }
}

/// A table of indirect descriptors. It borrows the view it was found by, which keeps it mapped.
#[derive(Clone, Copy, Debug)]
pub struct IndirectTable<'a> {
    address: usize,
    entries: u32,
    view: PhantomData<&'a GuestMemory>,
}

impl<'a> IndirectTable<'a> {
    /// Takes a mapped piece of memory that is valid for `'a`.
    #[inline]
    pub(crate) fn of(table: Segment) -> Option<IndirectTable<'a>> {
        (table.bytes() > 0 && table.bytes().is_multiple_of(Descriptor::BYTES)).then_some(IndirectTable {
            address: table.address(),
            entries: (table.bytes() / Descriptor::BYTES) as u32,
            view: PhantomData,
        })
    }

    /// How many descriptors there are, at least one.
    #[inline]
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Descriptor `index`, copied out once; `None` behind the end.
    #[inline]
    pub fn descriptor(&self, index: u16) -> Option<Descriptor> {
        if u32::from(index) >= self.entries {
            return None;
        }
        let at = self.address + Descriptor::BYTES * usize::from(index);
        // SAFETY: the entry lies inside the table, which is mapped for `'a`.
        Some(Descriptor::of(unsafe { raw::read_16(at) }))
    }
}

/// Resolves one area. Both addresses are looked at: the guest's for the standard's sake, ours because atomics demand it.
fn area(
    memory: &GuestMemory,
    area: &'static str,
    guest_address: u64,
    bytes: u64,
    align: u64,
) -> Result<usize, RingError> {
    let place = memory
        .slice(guest_address, bytes)
        .ok_or(RingError::NotMapped { area, guest_address })?;
    if !guest_address.is_multiple_of(align) || !(place.address() as u64).is_multiple_of(align) {
        return Err(RingError::Misaligned { area, guest_address });
    }
    Ok(place.address())
}

#[cfg(test)]
mod tests;
