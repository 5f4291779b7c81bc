//! One queue's own way into a guest's memory: the same translation as [`GuestMemory`]'s, with the region of the last
//! hit at hand, since nearly all addresses of a guest lie in one or two regions.

use crate::guest::{Extent, GuestMemory};
use crate::raw;
use crate::ring::IndirectTable;
use palisade_block::{Segment, SegmentList};
use std::cell::Cell;
use std::sync::Arc;

/// Translates and copies for one thread. Keeps the memory mapped.
#[derive(Debug)]
pub struct MemoryView {
    memory: Arc<GuestMemory>,
    /// A copy of one region of `memory`; empty at first.
    last: Cell<Extent>,
}

impl MemoryView {
    /// A view of `memory`.
    pub fn new(memory: Arc<GuestMemory>) -> MemoryView {
        MemoryView {
            memory,
            last: Cell::default(),
        }
    }

    /// The memory behind it.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// Translates a guest range that lies in one region.
    #[inline]
    pub fn slice(&self, guest_address: u64, bytes: u64) -> Option<Segment> {
        match self.last.get().slice(guest_address, bytes) {
            Some(segment) => Some(segment),
            None => self.slice_elsewhere(guest_address, bytes),
        }
    }

    /// Translates a guest range, adding one segment per region it touches. False when some of it is not mapped or
    /// the list is full; the list then holds a part of it.
    #[inline]
    pub fn segments(&self, guest_address: u64, bytes: u64, list: &mut SegmentList) -> bool {
        match self.slice(guest_address, bytes) {
            Some(segment) if bytes > 0 => list.push(segment),
            _ => self.memory.segments(guest_address, bytes, list),
        }
    }

    /// Asks the processor to fetch the line at a guest address; does nothing for one outside the region of the last
    /// hit.
    #[inline]
    pub fn prefetch(&self, guest_address: u64) {
        if let Some(at) = self.last.get().slice(guest_address, 1) {
            raw::prefetch(at.address());
        }
    }

    /// The same for a line that is going to be written.
    #[inline]
    pub fn prefetch_for_write(&self, guest_address: u64) {
        if let Some(at) = self.last.get().slice(guest_address, 1) {
            raw::prefetch_for_write(at.address());
        }
    }

    /// Copies out of guest memory; false when the range is not mapped in one piece.
    #[inline]
    pub fn read(&self, guest_address: u64, to: &mut [u8]) -> bool {
        match self.slice(guest_address, to.len() as u64) {
            Some(from) => {
                // SAFETY: the range lies in a mapping of `self.memory`, which lives as long as `self`.
                unsafe { raw::read(from.address(), to) };
                true
            }
            None => false,
        }
    }

    /// Reads 16 bytes, the size of a virtio-blk header, as a little-endian number; `None` when they are not mapped
    /// in one piece.
    #[inline]
    pub fn read_16(&self, guest_address: u64) -> Option<u128> {
        let from = self.slice(guest_address, 16)?;
        // SAFETY: the range lies in a mapping of `self.memory`, which lives as long as `self`.
        Some(unsafe { raw::read_16(from.address()) })
    }

    /// Writes one byte at an address of this process, as translated before; false when that is not guest memory.
    #[inline]
    pub fn write_u8(&self, host_address: usize, value: u8) -> bool {
        if !self.holds_host(host_address, 1) {
            return false;
        }
        // SAFETY: the byte lies in a mapping of `self.memory`, which lives as long as `self`.
        unsafe { (host_address as *mut u8).write_volatile(value) };
        true
    }

    /// Copies to an address of this process, as translated before; false when that is not guest memory.
    #[inline]
    pub fn write_host(&self, host_address: usize, from: &[u8]) -> bool {
        if !self.holds_host(host_address, from.len()) {
            return false;
        }
        // SAFETY: the range lies in a mapping of `self.memory`, which lives as long as `self`.
        unsafe { raw::write(host_address, from) };
        true
    }

    /// Copies from an address of this process, as translated before; false when that is not guest memory.
    #[inline]
    pub fn read_host(&self, host_address: usize, to: &mut [u8]) -> bool {
        if !self.holds_host(host_address, to.len()) {
            return false;
        }
        // SAFETY: the range lies in a mapping of `self.memory`, which lives as long as `self`.
        unsafe { raw::read(host_address, to) };
        true
    }

    /// A table of indirect descriptors (virtio 1.3, 2.7.5.3). `None` when it is not mapped in one piece, is empty,
    /// or its length is not a multiple of a descriptor's.
    #[inline]
    pub fn indirect(&self, guest_address: u64, bytes: u32) -> Option<IndirectTable<'_>> {
        let table = self.slice(guest_address, bytes.into())?;
        IndirectTable::of(table)
    }

    #[cold]
    fn slice_elsewhere(&self, guest_address: u64, bytes: u64) -> Option<Segment> {
        let extent = self.memory.find(guest_address)?;
        let segment = extent.slice(guest_address, bytes)?;
        self.last.set(*extent);
        Some(segment)
    }

    #[inline]
    fn holds_host(&self, host_address: usize, bytes: usize) -> bool {
        self.last.get().holds_host(host_address, bytes) || self.holds_host_elsewhere(host_address, bytes)
    }

    #[cold]
    fn holds_host_elsewhere(&self, host_address: usize, bytes: usize) -> bool {
        let extent = self.memory.find_host(host_address);
        extent.is_some_and(|extent| extent.holds_host(host_address, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The view says what the memory says, whatever it saw before.
        #[test]
        fn a_view_and_its_memory_agree(ranges in prop::collection::vec((0u64..0x6000, 0u64..0x3000), 1..20)) {
            let memory = GuestMemory::anonymous(&[(0, 0x1000), (0x1000, 0x1000), (0x3000, 0x2000)]).unwrap();
            let view = MemoryView::new(Arc::clone(&memory));
            for (at, bytes) in ranges.into_iter().flat_map(|(at, bytes)| [(at, bytes), (at, 0)]) {
                prop_assert_eq!(view.slice(at, bytes), memory.slice(at, bytes));
                let (mut ours, mut theirs) = (SegmentList::default(), SegmentList::default());
                prop_assert_eq!(view.segments(at, bytes, &mut ours), memory.segments(at, bytes, &mut theirs));
                prop_assert_eq!(ours.as_slice(), theirs.as_slice());
            }
        }
    }

    #[test]
    fn addresses_that_are_not_guest_memory_are_never_touched() {
        let view = MemoryView::new(GuestMemory::anonymous(&[(0, 0x1000)]).unwrap());
        let inside = view.slice(0, 0x1000).unwrap();
        let mine = [7u8; 4];
        for address in [
            0,
            1,
            usize::MAX,
            mine.as_ptr() as usize,
            inside.address() - 1,
            inside.address() + 0x1000,
        ] {
            assert!(!view.write_u8(address, 1));
            assert!(!view.read_host(address, &mut [0]));
        }
        assert!(!view.write_host(inside.address() + 0xffe, &[1, 2, 3]));
        assert!(
            !view.read_host(inside.address() + 0x1000, &mut []),
            "no byte lies behind the end"
        );
        assert!(!view.write_host(usize::MAX, &[1, 2, 3]));
        assert_eq!(mine, [7; 4]);
        assert!(view.write_host(inside.address() + 0xffd, &[1, 2, 3]));
        let mut back = [0; 3];
        assert!(view.read(0xffd, &mut back));
        assert_eq!(back, [1, 2, 3]);
        assert!(view.indirect(0xff0, 16).is_some());
        assert!(view.indirect(0xff0, 32).is_none());
    }

    #[test]
    fn what_was_translated_before_may_lie_in_any_region() {
        let view = MemoryView::new(GuestMemory::anonymous(&[(0, 0x1000), (0x4000, 0x1000)]).unwrap());
        let [near, far] = [0, 0x4000].map(|at| view.memory().slice(at, 0x1000).unwrap().address());
        for (at, other) in [(near, 0x4000), (far, 0)] {
            // The region of the last hit is the other one.
            view.slice(other, 1).unwrap();
            assert!(view.write_u8(at, 7) && view.write_host(at + 1, &[8, 9]));
            let mut back = [0; 3];
            assert!(view.read_host(at, &mut back));
            assert_eq!(back, [7, 8, 9]);
            assert!(view.write_host(at + 0xfff, &[1]) && !view.write_host(at + 0xfff, &[1, 2]));
        }
        for at in [0, 0x4000] {
            assert_eq!(
                view.read_16(at)
                    .map(u128::to_le_bytes)
                    .map(|bytes| bytes[..4].to_vec()),
                Some(vec![7, 8, 9, 0])
            );
        }
        for at in 0..16 {
            assert!(view.memory().write(0x100 + at, &[at as u8 + 1]));
        }
        for at in 0..=16u64 {
            let expected: Vec<u8> = (0..16)
                .map(|byte| if at + byte < 16 { (at + byte) as u8 + 1 } else { 0 })
                .collect();
            assert_eq!(
                view.read_16(0x100 + at).map(u128::to_le_bytes).map(Vec::from),
                Some(expected),
                "{at}"
            );
        }
        assert_eq!((view.read_16(0xff1), view.read_16(0x3fff)), (None, None));
        assert!(view.read_16(0xff0).is_some());
    }

    /// A hint for whatever a guest says: nothing is touched, nothing faults, and later translations are the same.
    #[test]
    fn any_address_may_be_prefetched() {
        let view = MemoryView::new(GuestMemory::anonymous(&[(0, 0x1000), (0x4000, 0x1000)]).unwrap());
        let before = view.slice(0, 0x1000);
        for address in [0, 0xfff, 0x1000, 0x4fff, 0x5000, u64::MAX - 1, u64::MAX] {
            view.prefetch(address);
            view.prefetch_for_write(address);
        }
        assert_eq!(view.slice(0, 0x1000), before);
    }

    #[test]
    fn copies_are_whole_at_every_alignment() {
        let view = MemoryView::new(GuestMemory::anonymous(&[(0, 0x1000)]).unwrap());
        let bytes: Vec<u8> = (1..=64).collect();
        assert!(view.memory().write(0, &bytes));
        for at in 0..17usize {
            for len in 0..40 {
                let mut to = vec![0; len];
                assert!(view.read(at as u64, &mut to));
                assert_eq!(to, bytes[at..at + len]);
            }
        }
    }
}
