//! A guest's memory, shared by file as a VMM shares it.

use palisade_frontend::codec::Region;
use palisade_memory::{GuestMemory, RegionSpec};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Where the front-end believes to have the guest's address 0.
pub const USER_BASE: u64 = 0x7f00_0000_0000;

/// One region of guest memory.
pub struct Guest {
    pub file: OwnedFd,
    /// The guest's own view of it.
    pub memory: Arc<GuestMemory>,
    pub region: Region,
}

impl Guest {
    pub fn new(guest_address: u64, bytes: u64) -> Guest {
        let file = memfd(bytes);
        let region = Region {
            guest_address,
            bytes,
            user_address: USER_BASE + guest_address,
            file_offset: 0,
        };
        let spec = RegionSpec {
            guest_address,
            bytes,
            user_address: region.user_address,
            mmap_offset: 0,
            file: file.try_clone().unwrap(),
        };
        Guest {
            file,
            memory: GuestMemory::map(vec![spec]).unwrap(),
            region,
        }
    }

    /// The file, once more.
    pub fn fd(&self) -> OwnedFd {
        self.file.try_clone().unwrap()
    }
}

/// A shared file in memory.
pub fn memfd(bytes: u64) -> OwnedFd {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, bytes).unwrap();
    file
}
