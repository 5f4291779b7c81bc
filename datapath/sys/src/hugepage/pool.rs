//! The bounce buffers of one reactor.

use super::{HugeMemory, PageBacking};
use crate::copy;
use palisade_block::limits::BOUNCE_BYTES;
use palisade_block::{Pool, Segment};
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

    /// All of it, to be registered as [`MemoryId::POOL`](palisade_block::MemoryId::POOL).
    pub fn segment(&self) -> Segment {
        self.memory.segment()
    }

    /// The index of a taken buffer; stops the process when it is not one of ours, which is our bug.
    fn index(&self, buffer: Segment) -> u32 {
        let offset = buffer.address.wrapping_sub(self.memory.segment().address);
        let index = offset / BOUNCE_BYTES;
        let ours = offset.is_multiple_of(BOUNCE_BYTES) && self.taken.get(index).is_some_and(|&taken| taken);
        assert!(
            ours,
            "buffer {:#x} is not one that was taken from the pool",
            buffer.address
        );
        index as u32
    }

    /// The address of the first `bytes` bytes of a taken buffer.
    fn start(&self, buffer: Segment, bytes: usize) -> *mut u8 {
        assert!(bytes <= BOUNCE_BYTES, "{bytes} bytes do not fit a bounce buffer");
        self.memory
            .at(u64::from(self.index(buffer)) * BOUNCE_BYTES as u64, bytes as u64)
    }
}

impl Pool for HugePool {
    fn free(&self) -> usize {
        self.free.len()
    }

    fn take(&mut self) -> Option<Segment> {
        let index = self.free.pop()?;
        if let Some(taken) = self.taken.get_mut(index as usize) {
            *taken = true;
        }
        let address = self.memory.segment().address + index as usize * BOUNCE_BYTES;
        Some(Segment {
            address,
            bytes: BOUNCE_BYTES,
        })
    }

    fn give(&mut self, buffer: Segment) {
        let index = self.index(buffer);
        if let Some(taken) = self.taken.get_mut(index as usize) {
            *taken = false;
        }
        self.free.push(index);
    }

    fn gather(&mut self, from: &[Segment], skip: u64, buffer: Segment, bytes: usize) {
        let start = self.start(buffer, bytes);
        // SAFETY: `start` is `bytes` bytes of a taken buffer; the segments are mapped until their request is answered
        // (contract of `Segment`) and are not of this pool.
        let done = unsafe { copy::gather(from, skip, start, bytes) };
        assert!(done == bytes, "gathered {done} of {bytes} bytes");
    }

    fn scatter(&mut self, buffer: Segment, to: &[Segment], skip: u64, bytes: usize) {
        let start = self.start(buffer, bytes);
        // SAFETY: as in `gather`.
        let done = unsafe { copy::scatter(start, to, skip, bytes) };
        assert!(done == bytes, "scattered {done} of {bytes} bytes");
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

    fn segment(bytes: &mut [u8]) -> Segment {
        Segment {
            address: bytes.as_mut_ptr() as usize,
            bytes: bytes.len(),
        }
    }

    #[test]
    fn every_buffer_is_given_out_once_and_comes_back() {
        let mut pool = HugePool::new(3).unwrap();
        let mut taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!((taken.len(), pool.free()), (3, 0));
        taken.sort_unstable_by_key(|segment| segment.address);
        assert!(
            taken
                .windows(2)
                .all(|two| two[0].address + BOUNCE_BYTES <= two[1].address)
        );
        assert!(taken.iter().all(|segment| segment.address.is_multiple_of(4096)));
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
        let mut data: Vec<u8> = (0..200).collect();
        let (mut low, mut high) = (data.split_off(100), data);
        let list = [segment(&mut high), segment(&mut low)];
        pool.gather(&list, 50, buffer, 100);
        let mut out = [0; 150];
        let to = [segment(&mut out[..30]), segment(&mut out[40..150])];
        pool.scatter(buffer, &to, 5, 100);
        let expected: Vec<u8> = (50..150).collect();
        assert_eq!((&out[5..30], &out[40..115]), (&expected[..25], &expected[25..]));
        assert_eq!((out[4], out[30], out[115]), (0, 0, 0));
        pool.zero(buffer, 10);
        let everything = [segment(&mut out)];
        pool.scatter(buffer, &everything, 0, 11);
        assert_eq!((&out[..10], out[10]), (&[0; 10][..], 60));
    }
}
