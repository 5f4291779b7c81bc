//! Memory of our own on hugepages: fewer translations for the processor, fewer pages to pin for the kernel.
//!
//! [`HugeMemory`] is one mapping, [`HugePool`] cuts one into the bounce buffers of a reactor.

mod pool;

pub use pool::HugePool;

use memmap2::{Advice, MmapMut, MmapOptions};
use palisade_block::{Lease, Mapped, Segment};
use std::io;
use std::sync::Arc;

/// What pages a mapping got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageBacking {
    /// Hugepages of 1 GiB.
    Huge1G,
    /// Hugepages of 2 MiB.
    Huge2M,
    /// Plain pages: there were not enough hugepages. Slower, and worth a warning.
    Plain,
}

const MIB_2: usize = 2 << 20;
const GIB_1: usize = 1 << 30;

/// Memory of this process alone, zero at first, on the largest pages to be had. It is reached by address only and
/// may be shared by threads as a disk is: who writes where is for them to agree. It is unmapped with the last of its
/// leases.
#[derive(Debug)]
pub struct HugeMemory {
    pages: Arc<Pages>,
    lease: Lease,
    whole: Segment,
    backing: PageBacking,
}

/// The mapping. Nobody makes a reference to what is in it.
#[derive(Debug)]
struct Pages {
    map: MmapMut,
    /// Taken while the mapping was not shared yet.
    address: usize,
}

// SAFETY: the mapping is readable and writable, and unmapped when it is dropped. It is used by address alone from here on
// (`lock` and the lengths ask the kernel, not the memory).
unsafe impl Mapped for Pages {
    fn ranges(&self) -> Vec<(usize, usize)> {
        vec![(self.address, self.map.len())]
    }
}

impl HugeMemory {
    /// Maps at least `bytes` bytes, rounded up to whole hugepages of 2 MiB; 1 GiB pages only where they fit without
    /// waste. Hugepages are there for good afterwards; plain pages come when they are first touched.
    ///
    /// # Errors
    /// Not even plain pages could be mapped.
    pub fn new(bytes: usize) -> io::Result<HugeMemory> {
        // A mapping of hugepages whose length is no multiple of them cannot be unmapped and leaks, hence the rounding.
        let rounded = bytes
            .max(1)
            .checked_next_multiple_of(MIB_2)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let huge_1g = rounded
            .is_multiple_of(GIB_1)
            .then(|| huge(rounded, 30, PageBacking::Huge1G))
            .flatten();
        if let Some(memory) = huge_1g.or_else(|| huge(rounded, 21, PageBacking::Huge2M)) {
            return Ok(memory);
        }
        let map = MmapOptions::new().len(rounded).no_reserve_swap().map_anon()?;
        // Transparent hugepages are asked for, not demanded; a kernel without them serves plain pages.
        let _ = map.advise(Advice::HugePage);
        Ok(HugeMemory::from_map(map, PageBacking::Plain))
    }

    /// What pages it got.
    pub fn backing(&self) -> PageBacking {
        self.backing
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.whole.bytes()
    }

    /// The whole of it as one segment.
    pub fn segment(&self) -> Segment {
        self.whole
    }

    /// Keeps it mapped.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Keeps the pages in memory: touched now and locked, as far as the kernel lets us.
    ///
    /// # Errors
    /// What mlock(2) says: mostly that RLIMIT_MEMLOCK is too low.
    pub fn lock(&self) -> io::Result<()> {
        self.pages.map.advise(Advice::PopulateWrite)?;
        self.pages.map.lock()
    }

    fn from_map(mut map: MmapMut, backing: PageBacking) -> HugeMemory {
        let address = map.as_mut_ptr().expose_provenance();
        let pages = Arc::new(Pages { map, address });
        let lease = Lease::of(Arc::clone(&pages) as Arc<dyn Mapped>);
        HugeMemory {
            whole: lease.regions().first().copied().unwrap_or_default(),
            pages,
            lease,
            backing,
        }
    }

    /// The address of a range; stops the process when the range does not lie inside, which is our bug.
    #[inline]
    pub(crate) fn at(&self, offset: u64, bytes: u64) -> *mut u8 {
        let end = offset.checked_add(bytes);
        assert!(
            end.is_some_and(|end| end <= self.whole.bytes() as u64),
            "range outside the mapping"
        );
        (self.whole.address() + offset as usize) as *mut u8
    }
}

/// A mapping of hugepages, every page present; `None` when there are too few. Populating by madvise tells of a lack
/// that would otherwise be a SIGBUS at the first touch.
fn huge(bytes: usize, page_bits: u8, backing: PageBacking) -> Option<HugeMemory> {
    let map = MmapOptions::new()
        .len(bytes)
        .huge(Some(page_bits))
        .map_anon()
        .ok()?;
    match map.advise(Advice::PopulateWrite) {
        Ok(()) => {}
        // Linux before 5.14 has no such advice; its reservation at mmap has to do.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        Err(_) => return None,
    }
    Some(HugeMemory::from_map(map, backing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_rounded_zero_and_unmapped_again() {
        for _ in 0..20 {
            let memory = HugeMemory::new(3 << 20).unwrap();
            assert_eq!(memory.bytes(), 4 << 20);
            let last = memory.at((4 << 20) - 1, 1);
            // SAFETY: the address lies inside the mapping.
            unsafe {
                assert_eq!(last.read(), 0);
                last.write(7);
            }
        }
    }

    #[test]
    #[should_panic(expected = "outside the mapping")]
    fn a_range_outside_stops_us() {
        HugeMemory::new(1).unwrap().at(u64::MAX, 2);
    }
}
