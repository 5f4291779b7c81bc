//! The dirty log of a live migration (vhost-user, "Migration"): one bit per 4 KiB page of guest memory, shared with
//! the front-end, set by whoever writes the page on the guest's behalf.
//!
//! `vhost-user-backend` has a bitmap of the same layout. It cannot be built outside that crate's own session handler
//! (its mapping has no public constructor) and takes a read lock on every mark, so the log is mapped here.

use crate::guest::GuestMemory;
use crate::mapping::{MapError, Mapping};
use crate::share::MemoryShare;
use palisade_block::Segment;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bytes of guest memory one bit stands for (`VHOST_LOG_PAGE`).
pub const LOG_PAGE_BYTES: u64 = 4096;

/// The log, shared by all queues of an attachment.
#[derive(Debug)]
pub struct DirtyLog {
    mapping: Mapping,
}

impl DirtyLog {
    /// Maps a log without limits: one of our own making, in tests and tools.
    pub fn map(file: OwnedFd, bytes: u64, offset: u64) -> Result<Arc<DirtyLog>, MapError> {
        DirtyLog::map_within(file, bytes, offset, &MemoryShare::unlimited())
    }

    /// Maps the log of SET_LOG_BASE, `bytes` of the file from `offset`, within the front-end's share.
    pub fn map_within(
        file: OwnedFd,
        bytes: u64,
        offset: u64,
        share: &Arc<MemoryShare>,
    ) -> Result<Arc<DirtyLog>, MapError> {
        let mapping = Mapping::of_file(file, offset, bytes, share)?;
        Ok(Arc::new(DirtyLog { mapping }))
    }

    /// Bytes of guest memory the log covers from guest address 0.
    pub fn covered_bytes(&self) -> u64 {
        (self.mapping.bytes() as u64).saturating_mul(8 * LOG_PAGE_BYTES)
    }

    /// Whether its file is gone, and with it what was marked.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.mapping.is_lost()
    }

    /// Whether it is lost because its file has shrunk.
    pub fn has_shrunk(&self) -> bool {
        self.mapping.is_lost() && self.mapping.is_cut()
    }

    /// Whether the log has a bit for every page of `memory`. A front-end that offers less has made a mistake; pages
    /// beyond the log are not marked.
    pub fn covers(&self, memory: &GuestMemory) -> bool {
        let mut regions = memory.regions();
        regions.all(|region| region.guest_address + (region.bytes - 1) < self.covered_bytes())
    }

    /// Marks every page that the guest range touches. Pages beyond the log are left out.
    pub fn mark(&self, guest_address: u64, bytes: u64) {
        if bytes == 0 || guest_address >= self.covered_bytes() {
            return;
        }
        let last = guest_address
            .saturating_add(bytes - 1)
            .min(self.covered_bytes() - 1);
        for page in guest_address / LOG_PAGE_BYTES..=last / LOG_PAGE_BYTES {
            let at = self.mapping.address() + (page / 8) as usize;
            let bit = 1u8 << (page % 8);
            // SAFETY: `page / 8` is below the mapping's length and `self.mapping` keeps it mapped; bytes need no
            // alignment, and the reference to the atomic ends with the statement.
            let word = unsafe { AtomicU8::from_ptr(at as *mut u8) };
            // Never skipped for a bit that is set already: the front-end may be about to clear it and copy the page,
            // and our write to the page must not become visible only after that look. The read-modify-write orders it.
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Marks memory that was written through addresses of this process, as translated by `memory`.
    pub fn mark_segments(&self, memory: &GuestMemory, segments: &[Segment]) {
        for segment in segments {
            self.mark_host(memory, segment.address(), segment.bytes());
        }
    }

    /// The same for one range.
    pub fn mark_host(&self, memory: &GuestMemory, address: usize, bytes: usize) {
        if let Some(guest_address) = memory.host_to_guest(address) {
            self.mark(guest_address, bytes as u64);
        }
    }

    /// Whether the page of a guest address is marked.
    pub fn is_marked(&self, guest_address: u64) -> bool {
        let page = guest_address / LOG_PAGE_BYTES;
        if guest_address >= self.covered_bytes() {
            return false;
        }
        let at = self.mapping.address() + (page / 8) as usize;
        // SAFETY: as in `mark`.
        let word = unsafe { AtomicU8::from_ptr(at as *mut u8) };
        word.load(Ordering::Acquire) & (1 << (page % 8)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflight::InflightRegion;

    /// 64 bytes of log, enough for 2 MiB, and the file behind it.
    fn log() -> (Arc<DirtyLog>, std::fs::File) {
        let (_, file) = InflightRegion::create(1, 64).unwrap();
        let log = DirtyLog::map(file.try_clone().unwrap(), 64, 0).unwrap();
        let file = std::fs::File::from(file);
        std::os::unix::fs::FileExt::write_all_at(&file, &[0; 64], 0).unwrap();
        (log, file)
    }

    fn bytes(file: &std::fs::File) -> [u8; 65] {
        let mut bytes = [0; 65];
        std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn every_touched_page_has_its_bit() {
        let (log, file) = log();
        log.mark(4095, 2);
        log.mark(9 * 4096, 4096);
        log.mark(5, 0);
        let seen = bytes(&file);
        assert_eq!(seen[..3], [0b11, 0b10, 0]);
        assert!(log.is_marked(4096) && !log.is_marked(8192) && log.is_marked(9 * 4096 + 4095));
    }

    #[test]
    fn nothing_is_written_behind_the_log() {
        let (log, file) = log();
        assert_eq!(log.covered_bytes(), 64 * 8 * 4096);
        log.mark(log.covered_bytes() - 1, u64::MAX);
        log.mark(log.covered_bytes(), 1);
        log.mark(u64::MAX, 1);
        let seen = bytes(&file);
        assert_eq!((seen[63], seen[64]), (0x80, 0));
        assert!(!log.is_marked(u64::MAX));
    }

    #[test]
    fn memory_is_covered_or_not() {
        let (log, _file) = log();
        let end = log.covered_bytes();
        assert!(log.covers(&GuestMemory::anonymous(&[(0, 4096), (end - 4096, 4096)]).unwrap()));
        assert!(!log.covers(&GuestMemory::anonymous(&[(end - 4096, 8192)]).unwrap()));
        assert!(!log.covers(&GuestMemory::anonymous(&[(0, 4096), (end - 4096, 8192)]).unwrap()));
        assert!(
            !log.covers(&GuestMemory::anonymous(&[(end - 1, 2)]).unwrap()),
            "one byte more"
        );
        assert!(log.covers(&GuestMemory::empty()));
    }

    #[test]
    fn a_log_ends_where_it_ends_though_its_page_goes_on() {
        let (_, file) = log();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], 0).unwrap();
        let short = DirtyLog::map(file.try_clone().unwrap().into(), 8, 0).unwrap();
        let end = short.covered_bytes();
        assert!(short.is_marked(end - 1) && !short.is_marked(end));
    }

    #[test]
    fn a_log_whose_file_shrinks_is_lost() {
        use std::os::fd::FromRawFd;
        // SAFETY: the name is a C string, and the descriptor is owned by nobody else.
        let file = unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"log".as_ptr(), 0)) };
        file.set_len(8192).unwrap();
        let log = DirtyLog::map(file.try_clone().unwrap().into(), 8192, 0).unwrap();
        log.mark(0, 4096);
        assert!(!log.is_lost());
        file.set_len(0).unwrap();
        assert!(!log.has_shrunk(), "nobody has touched what is gone");
        log.mark(0, 4096);
        assert!(log.is_lost() && log.has_shrunk());
        file.set_len(8192).unwrap();
        assert!(log.is_lost() && !log.has_shrunk(), "the file has its length");
    }

    #[test]
    fn segments_are_marked_by_their_guest_address() {
        let (log, _file) = log();
        let memory = GuestMemory::anonymous(&[(0, 0x4000), (0x10_0000, 0x4000)]).unwrap();
        let segment = memory.slice(0x10_1000, 0x1001).unwrap();
        let other = GuestMemory::anonymous(&[(0, 0x4000)]).unwrap();
        let foreign = other.slice(0, 4096).unwrap();
        log.mark_segments(&memory, &[foreign, segment]);
        let marked: Vec<u64> = (0..512)
            .map(|page| page * 4096)
            .filter(|&at| log.is_marked(at))
            .collect();
        assert_eq!(marked, [0x10_1000, 0x10_2000]);
    }
}
