//! The guest's side: memory, and rings that are written once and then only offered again.

use palisade_block::Segment;
use palisade_memory::{GuestMemory, InflightRegion, RegionSpec, RingAddresses};
use palisade_virtio::BlkQueue;
use palisade_virtio::blk::kind;
use palisade_virtio::driver::repeated::{RepeatedRing, Silent};
use palisade_virtio::driver::{BlkHeader, Buffer, DriverOptions};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::error::Error;
use std::sync::Arc;

/// Entries of each ring.
pub const RING_ENTRIES: u16 = 256;

/// Guest memory in bytes.
const MEMORY_BYTES: u64 = 256 << 20;
/// Chains written into a ring. A direct one takes three descriptors: 64 of them fit, and are offered four times a lap.
const CHAINS: u64 = 64;
/// Guest addresses: one MiB for each ring and what stands beside it, then the marks, then the data.
const RING_BYTES: u64 = 1 << 20;
const MARKS_AT: u64 = 128 << 20;
const DATA_AT: u64 = 129 << 20;
/// What each request reads.
const DATA_BYTES: u32 = 4096;

/// How a guest uses its ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingUse {
    /// Requests lie in indirect tables, and not in the ring's own.
    pub indirect: bool,
    /// Requests in flight are noted for a successor.
    pub tracked: bool,
}

/// A guest with one busy ring and perhaps idle ones.
#[derive(Debug)]
pub struct Guest {
    memory: Arc<GuestMemory>,
    busy: RepeatedRing,
    idle_rings: u16,
}

impl Guest {
    /// Makes the memory and writes the busy ring: reads of 4 KiB with EVENT_IDX.
    pub fn new(ring: RingUse) -> Result<Guest, Box<dyn Error>> {
        // A file, as a guest's memory always is one: the target watches whether it shrinks.
        let file = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, MEMORY_BYTES)?;
        let memory = GuestMemory::map(vec![RegionSpec {
            guest_address: 0,
            bytes: MEMORY_BYTES,
            user_address: 0,
            mmap_offset: 0,
            file,
        }])?;
        let options = DriverOptions {
            size: RING_ENTRIES,
            event_idx: true,
            indirect: ring.indirect,
        };
        let requests = (0..CHAINS).map(|chain| {
            let header = BlkHeader {
                kind: kind::IN,
                sector: 8 * chain,
            };
            let buffer = Buffer {
                address: DATA_AT + chain * u64::from(DATA_BYTES),
                bytes: DATA_BYTES,
                write: true,
            };
            (header, buffer)
        });
        let busy = RepeatedRing::new(Arc::clone(&memory), 0, options, requests);
        Ok(Guest {
            memory,
            busy: busy.ok_or("no room for the ring")?,
            idle_rings: 0,
        })
    }

    /// The target's end of the busy ring.
    pub fn queue(&self, ring: RingUse) -> Result<BlkQueue<Silent>, Box<dyn Error>> {
        let inflight = match ring.tracked {
            true => InflightRegion::create(1, RING_ENTRIES)?.0.queue(0),
            false => None,
        };
        Ok(self.busy.serve(inflight)?)
    }

    /// The target's end of one more ring, on which nothing is ever offered.
    pub fn idle_queue(&mut self) -> Result<BlkQueue<Silent>, Box<dyn Error>> {
        self.idle_rings += 1;
        let at = u64::from(self.idle_rings) * RING_BYTES;
        if at + RING_BYTES > MARKS_AT {
            return Err("no room for so many rings".into());
        }
        let options = self.busy.driver().options();
        let ring = RepeatedRing::new(Arc::clone(&self.memory), at, options, []).ok_or("no room")?;
        Ok(ring.serve(None)?)
    }

    /// Offers the next `depth` entries.
    #[inline]
    pub fn offer(&mut self, depth: u16) {
        self.busy.offer(depth);
    }

    /// Whether every request has a good status.
    pub fn all_answered_well(&self) -> bool {
        self.busy.all_well()
    }

    /// Where the parts of the guest's memory lie in this process, each with its name.
    pub fn parts(&self) -> Vec<(&'static str, Segment)> {
        let RingAddresses {
            descriptors,
            avail,
            used,
        } = self.busy.driver().addresses();
        let heads = self.busy.driver().slot(0);
        let tables = heads + 64 * u64::from(RING_ENTRIES);
        let parts = [
            ("descriptors", descriptors, avail),
            ("available", avail, used),
            ("used", used, heads),
            ("header-status", heads, tables),
            ("indirect", tables, RING_BYTES),
            ("idle-rings", RING_BYTES, MARKS_AT),
            ("data", DATA_AT, MEMORY_BYTES),
        ];
        let here = |(name, from, to): (_, u64, u64)| Some((name, self.memory.slice(from, to - from)?));
        parts.into_iter().filter_map(here).collect()
    }

    /// Where [`Guest::mark`] writes, in this process.
    pub fn marks(&self) -> Result<(usize, usize), Box<dyn Error>> {
        let at = |offset| self.memory.slice(MARKS_AT + offset, 2).ok_or("no room");
        Ok((at(0)?.address(), at(2)?.address()))
    }

    /// Writes where nothing else does, so that a trace of memory shows what lies between the two.
    pub fn mark(&self, begin: bool) {
        self.memory.store_u16(MARKS_AT + if begin { 0 } else { 2 }, 1);
    }
}
