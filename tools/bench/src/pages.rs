//! Memory as a virtual machine has it: a file in memory that a server can map as well, on hugepages where some are free.
//! All targets and the bare programs get the same kind, since pages decide much: a request of 128 KiB is one piece of
//! memory to a device, or thirty-two.

use crate::Failure;
use palisade_memory::{GuestMemory, RegionSpec};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Where this front-end says it has the guest's address 0. It need not be true: the number only names places.
pub const USER_BASE: u64 = 0x7f00_0000_0000;

/// Length of a hugepage in bytes: memory is made of whole ones.
pub const HUGEPAGE_BYTES: u64 = 2 << 20;

/// A guest's memory, from guest address 0 on.
#[derive(Debug)]
pub struct Pages {
    /// The file.
    pub file: OwnedFd,
    /// Our mapping of it.
    pub memory: Arc<GuestMemory>,
    /// Its length in bytes.
    pub bytes: u64,
    /// Whether it is made of hugepages.
    pub huge: bool,
}

impl Pages {
    /// Makes so many bytes, rounded up to whole hugepages: of hugepages if enough are free, else of plain pages.
    ///
    /// # Errors
    /// Not even plain pages could be had.
    pub fn new(bytes: u64) -> Result<Pages, Failure> {
        let bytes = bytes.next_multiple_of(HUGEPAGE_BYTES);
        let huge = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        Pages::with(bytes, huge).or_else(|_| Pages::with(bytes, MemfdFlags::empty()))
    }

    fn with(bytes: u64, kind: MemfdFlags) -> Result<Pages, Failure> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | kind;
        let file = memfd_create("palisade-bench", flags)
            .map_err(|errno| Failure::system("make shared memory")(errno.into()))?;
        ftruncate(&file, bytes).map_err(|errno| Failure::system("size shared memory")(errno.into()))?;
        // A hugepage that is not there would be missed at its first touch only: a mapping does not reserve any.
        fallocate(&file, FallocateFlags::empty(), 0, bytes)
            .map_err(|errno| Failure::system("have pages for shared memory")(errno.into()))?;
        let spec = RegionSpec {
            guest_address: 0,
            bytes,
            user_address: USER_BASE,
            mmap_offset: 0,
            file: file.try_clone().map_err(Failure::system("copy a descriptor"))?,
        };
        let memory = GuestMemory::map(vec![spec]).map_err(|error| Failure::Ring {
            problem: format!("our own memory cannot be mapped: {error}"),
        })?;
        Ok(Pages {
            file,
            memory,
            bytes,
            huge: !kind.is_empty(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_whole_and_can_be_written() {
        let pages = Pages::new(1).unwrap();
        assert_eq!(pages.bytes, HUGEPAGE_BYTES);
        assert!(pages.memory.write(HUGEPAGE_BYTES - 4, &[1, 2, 3, 4]));
        assert!(!pages.memory.write(HUGEPAGE_BYTES - 3, &[1, 2, 3, 4]));
        let mut read = [0; 4];
        assert!(pages.memory.read(HUGEPAGE_BYTES - 4, &mut read));
        assert_eq!(read, [1, 2, 3, 4], "there was a page to write to");
    }
}
