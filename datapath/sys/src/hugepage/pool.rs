//! The bounce buffers of one reactor.

use super::{HugeMemory, PageBacking};
use crate::copy::{self, Access};
use palisade_block::limits::BOUNCE_BYTES;
use palisade_block::{Lease, Pool, Segment};
use std::io;
use std::ptr;

/// Buffers of [`BOUNCE_BYTES`] in one mapping. Taking and giving is a stack of indices; nothing allocates.
#[derive(Debug)]
pub struct HugePool {
    memory: HugeMemory,
    free: Vec<u32>,
    taken: Box<[bool]>,
    locked: bool,
}

impl HugePool {
    /// Maps a pool of `buffers` buffers and keeps it in memory; plain pages are locked as far as the kernel lets us.
    ///
    /// # Errors
    /// The memory could not be mapped.
    pub fn new(buffers: u32) -> io::Result<HugePool> {
        let bytes = (buffers as usize)
            .checked_mul(BOUNCE_BYTES)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let memory = HugeMemory::new(bytes)?;
        let locked = memory.backing() != PageBacking::Plain || memory.lock().is_ok();
        Ok(HugePool {
            memory,
            free: (0..buffers).rev().collect(),
            taken: vec![false; buffers as usize].into(),
            locked,
        })
    }

    /// What pages it got.
    pub fn backing(&self) -> PageBacking {
        self.memory.backing()
    }

    /// Whether the pages stay in memory: hugepages always do, plain ones where locking was allowed.
    pub fn locked(&self) -> bool {
        self.locked
    }

    /// The index of a taken buffer; stops the process when it is not one of ours, which is our bug.
    fn index(&self, buffer: Segment) -> u32 {
        let offset = buffer.address().wrapping_sub(self.memory.segment().address());
        let index = offset / BOUNCE_BYTES;
        let ours = offset.is_multiple_of(BOUNCE_BYTES) && self.taken.get(index).is_some_and(|&taken| taken);
        assert!(
            ours,
            "buffer {:#x} is not one that was taken from the pool",
            buffer.address()
        );
        index as u32
    }

    /// The address of the first `bytes` bytes of a taken buffer.
    fn start(&self, buffer: Segment, bytes: usize) -> *mut u8 {
        assert!(bytes <= BOUNCE_BYTES, "{bytes} bytes do not fit a bounce buffer");
        self.memory
            .at(u64::from(self.index(buffer)) * BOUNCE_BYTES as u64, bytes as u64)
    }

    /// Stops the process when segments do not lie in a lease of somebody else's memory, which is our bug.
    fn check(&self, lease: &Lease, segments: &[Segment]) {
        assert!(
            lease.holds_all(segments) && !lease.is(self.memory.lease()),
            "a copy between a bounce buffer and memory that is not its guest's"
        );
    }
}

impl Pool for HugePool {
    fn lease(&self) -> Lease {
        self.memory.lease().clone()
    }

    fn free(&self) -> usize {
        self.free.len()
    }

    fn take(&mut self) -> Option<Segment> {
        let index = self.free.pop()?;
        if let Some(taken) = self.taken.get_mut(index as usize) {
            *taken = true;
        }
        self.memory
            .segment()
            .part(index as usize * BOUNCE_BYTES, BOUNCE_BYTES)
    }

    fn give(&mut self, buffer: Segment) {
        let index = self.index(buffer);
        if let Some(taken) = self.taken.get_mut(index as usize) {
            *taken = false;
        }
        self.free.push(index);
    }

    fn gather(&mut self, lease: &Lease, from: &[Segment], skip: u64, buffer: Segment, bytes: usize) -> bool {
        self.check(lease, from);
        if lease.lacking_page_bytes().is_some() && !copy::bring_pages(from, skip, bytes, Access::Read) {
            return false;
        }
        let start = self.start(buffer, bytes);
        // SAFETY: `start` is `bytes` bytes of a taken buffer. The segments lie in the lease, which is there until this
        // returns, and which is not of this pool, whose memory nobody else has mapped: they do not overlap.
        let done = unsafe { copy::gather(from, skip, start, bytes) };
        assert!(done == bytes, "gathered {done} of {bytes} bytes");
        true
    }

    fn scatter(&mut self, buffer: Segment, lease: &Lease, to: &[Segment], skip: u64, bytes: usize) -> bool {
        self.check(lease, to);
        if lease.lacking_page_bytes().is_some() && !copy::bring_pages(to, skip, bytes, Access::Write) {
            return false;
        }
        let start = self.start(buffer, bytes);
        // SAFETY: as in `gather`.
        let done = unsafe { copy::scatter(start, to, skip, bytes) };
        assert!(done == bytes, "scattered {done} of {bytes} bytes");
        true
    }

    fn zero(&mut self, buffer: Segment, bytes: usize) {
        let start = self.start(buffer, bytes);
        // SAFETY: `start` is `bytes` bytes of a taken buffer.
        unsafe { ptr::write_bytes(start, 0, bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_is_given_out_once_and_comes_back() {
        let mut pool = HugePool::new(3).unwrap();
        let mut taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!((taken.len(), pool.free()), (3, 0));
        taken.sort_unstable_by_key(|segment| segment.address());
        assert!(
            taken
                .windows(2)
                .all(|two| two[0].address() + BOUNCE_BYTES <= two[1].address())
        );
        assert!(taken.iter().all(|segment| segment.address().is_multiple_of(4096)));
        taken.drain(..).for_each(|segment| pool.give(segment));
        assert_eq!(pool.free(), 3);
    }

    #[test]
    #[should_panic(expected = "not one that was taken")]
    fn giving_twice_stops_us() {
        let mut pool = HugePool::new(2).unwrap();
        let buffer = pool.take().unwrap();
        pool.give(buffer);
        pool.give(buffer);
    }

    #[test]
    fn gathers_scatters_and_zeroes() {
        let mut pool = HugePool::new(1).unwrap();
        let buffer = pool.take().unwrap();
        let guest = HugeMemory::new(1).unwrap();
        let at = |offset, bytes| guest.segment().part(offset, bytes).unwrap();
        let byte = |offset: u64| guest.at(offset, 1);
        for offset in 0..200 {
            // SAFETY: `at` has checked the address, and nobody else uses this memory.
            unsafe { byte(offset).write(offset as u8) };
        }
        let look = |from, count| -> Vec<u8> {
            // SAFETY: as above.
            (from..from + count)
                .map(|offset| unsafe { byte(offset).read() })
                .collect()
        };
        let list = [at(100, 100), at(0, 100)];
        pool.gather(guest.lease(), &list, 50, buffer, 100);
        let to = [at(1000, 30), at(1040, 110)];
        pool.scatter(buffer, guest.lease(), &to, 5, 100);
        let expected: Vec<u8> = (150..200).chain(0..50).collect();
        assert_eq!(
            (look(1005, 25), look(1040, 75)),
            (expected[..25].to_vec(), expected[25..].to_vec())
        );
        assert_eq!(
            (look(1004, 1), look(1030, 10), look(1115, 1)),
            (vec![0], vec![0; 10], vec![0])
        );
        pool.zero(buffer, 10);
        pool.scatter(buffer, guest.lease(), &[at(0, 200)], 0, 11);
        assert_eq!((look(0, 10), look(10, 1)), (vec![0; 10], vec![160]));
    }

    #[test]
    #[should_panic(expected = "not its guest's")]
    fn memory_outside_the_lease_is_not_touched() {
        let mut pool = HugePool::new(1).unwrap();
        let buffer = pool.take().unwrap();
        let (ours, other) = (HugeMemory::new(1).unwrap(), HugeMemory::new(1).unwrap());
        pool.gather(ours.lease(), &[ours.segment(), other.segment()], 0, buffer, 4096);
    }

    #[test]
    #[should_panic(expected = "not its guest's")]
    fn a_buffer_is_not_copied_onto_itself() {
        let mut pool = HugePool::new(2).unwrap();
        let (buffer, other) = (pool.take().unwrap(), pool.take().unwrap());
        pool.gather(&pool.lease(), &[other], 0, buffer, 4096);
    }
}
