//! The driver's half of a split ring for one workload, on [`DriverQueue`]: chains are written once, and a request changes
//! a sector number, a status byte and an entry of the available ring. It must not be what is measured.
//!
//! ```text
//! slot s:     descriptors 3s (header) -> 3s + 1 (data) -> 3s + 2 (status)
//!             header and status in one line of 64 bytes, as Linux guests have them; data on pages of its own
//! ```

use crate::Failure;
use crate::row::Work;
use fastrand::Rng;
use palisade_memory::{Descriptor, GuestMemory, RingAddresses};
use palisade_virtio::blk::kind;
use palisade_virtio::driver::{BlkHeader, DriverOptions, DriverQueue, STATUS_NONE, descriptor};
use std::sync::Arc;

const PAGE: u64 = 4096;
const BLK_HEADER_BYTES: u32 = 16;
/// In the line that [`DriverQueue::slot`] gives, beside the header.
const SECTOR_OFFSET: u64 = 8;
const STATUS_OFFSET: u64 = 32;
const DESCRIPTORS_PER_SLOT: u16 = 3;
const RING_ENTRIES_MIN: u16 = 128;

/// Where everything lies in the memory that is shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Requests in flight.
    pub depth: u16,
    /// Data of one request.
    pub bytes: u32,
}

impl Layout {
    /// The ring: the fewest entries that hold all chains, and not fewer than any server takes.
    fn options(self, event_idx: bool) -> DriverOptions {
        let entries = (self.depth * DESCRIPTORS_PER_SLOT).next_power_of_two();
        DriverOptions {
            size: entries.max(RING_ENTRIES_MIN),
            event_idx,
            indirect: false,
        }
    }

    /// All of it.
    pub fn bytes(self) -> u64 {
        self.data(self.depth)
    }

    fn data(self, slot: u16) -> u64 {
        let after_ring = self.options(true).bytes().next_multiple_of(PAGE);
        after_ring + u64::from(slot) * u64::from(self.bytes).next_multiple_of(PAGE)
    }
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    memory: Arc<GuestMemory>,
    layout: Layout,
    driver: DriverQueue,
    used_index_at: u64,
    used_seen: u16,
    in_flight: Vec<bool>,
}

impl Ring {
    /// Writes an empty ring and all chains, for reads until [`Ring::prepare`] says otherwise, and touches every page. The
    /// server is asked for no notifications at all.
    pub fn new(memory: Arc<GuestMemory>, layout: Layout, event_idx: bool) -> Result<Ring, Failure> {
        let mut random = Rng::with_seed(1);
        for at in (layout.data(0)..layout.bytes()).step_by(8) {
            // Data that neither a file system nor a host takes for zeroes.
            memory.write(at, &random.u64(..).to_le_bytes());
        }
        let driver = DriverQueue::new(Arc::clone(&memory), 0, layout.options(event_idx));
        let mut driver = driver.ok_or_else(|| broken("our own memory is too small for it".into()))?;
        driver.disable_notifications();
        let mut ring = Ring {
            used_index_at: driver.addresses().used + 2,
            in_flight: vec![false; layout.depth.into()],
            used_seen: 0,
            memory,
            layout,
            driver,
        };
        ring.prepare(Work::Read);
        Ok(ring)
    }

    /// Writes all chains for one kind of work. Nothing may be in flight.
    pub fn prepare(&mut self, work: Work) {
        let (kind, flags) = match work {
            Work::Read => (kind::IN, Descriptor::WRITE),
            Work::Write => (kind::OUT, 0),
        };
        for slot in 0..self.layout.depth {
            let head = slot * DESCRIPTORS_PER_SLOT;
            let line = self.driver.slot(head);
            self.memory.write(line, &BlkHeader { kind, sector: 0 }.encode());
            let chain = [
                descriptor(line, BLK_HEADER_BYTES, Descriptor::NEXT),
                descriptor(
                    self.layout.data(slot),
                    self.layout.bytes,
                    flags | Descriptor::NEXT,
                ),
                descriptor(line + STATUS_OFFSET, 1, Descriptor::WRITE),
            ];
            for (index, part) in (head..).zip(chain) {
                let next = if part.flags & Descriptor::NEXT != 0 {
                    index + 1
                } else {
                    0
                };
                self.driver.write_descriptor(index, Descriptor { next, ..part });
            }
        }
    }

    /// Requests that can be in flight.
    pub fn depth(&self) -> u16 {
        self.layout.depth
    }

    /// Bytes of a request.
    pub fn bytes(&self) -> u32 {
        self.layout.bytes
    }

    /// Entries of the ring.
    pub fn size(&self) -> u16 {
        self.driver.options().size
    }

    /// Where its parts are.
    pub fn addresses(&self) -> RingAddresses {
        self.driver.addresses()
    }

    /// Puts the request of a slot that is free. The server sees it after [`Ring::publish`].
    #[inline]
    pub fn submit(&mut self, slot: u16, sector: u64) {
        let head = slot * DESCRIPTORS_PER_SLOT;
        let line = self.driver.slot(head);
        self.memory.write(line + SECTOR_OFFSET, &sector.to_le_bytes());
        self.memory.write(line + STATUS_OFFSET, &[STATUS_NONE]);
        self.driver.put_available(head);
        if let Some(busy) = self.in_flight.get_mut(usize::from(slot)) {
            *busy = true;
        }
    }

    /// Shows everything put since the last call. True when the server wants a kick for it.
    #[inline]
    pub fn publish(&mut self) -> bool {
        self.driver.publish()
    }

    /// How many answers there are to be taken.
    #[inline]
    pub fn answered(&self) -> u16 {
        let used = self.memory.load_u16(self.used_index_at);
        used.unwrap_or(self.used_seen).wrapping_sub(self.used_seen)
    }

    /// Takes the next answer, which must be there, and gives its slot.
    #[inline]
    pub fn take(&mut self) -> Result<u16, Failure> {
        let head = self.driver.poll_used().map(|used| used.head);
        let head = head.ok_or_else(|| broken("an answer was taken back".into()))?;
        self.used_seen = self.used_seen.wrapping_add(1);
        // After each 16384 answers the event that stands for "never" has to move on, or it would come round.
        if self.used_seen & 0x3fff == 0 {
            self.driver.disable_notifications();
        }
        let slot = head / DESCRIPTORS_PER_SLOT;
        let expected = self.in_flight.get_mut(usize::from(slot)).map(std::mem::take);
        if expected != Some(true) || head != slot * DESCRIPTORS_PER_SLOT {
            return Err(broken(format!(
                "descriptor {head} was answered and is not in flight"
            )));
        }
        match self.driver.status(head) {
            0 => Ok(slot),
            status => Err(broken(format!("a request ended with status {status}"))),
        }
    }

    /// The first eight bytes of a slot's data.
    pub fn mark(&self, slot: u16) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read(self.layout.data(slot), &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Sets the first eight bytes of a slot's data.
    pub fn set_mark(&self, slot: u16, mark: u64) {
        self.memory.write(self.layout.data(slot), &mark.to_le_bytes());
    }
}

fn broken(problem: String) -> Failure {
    Failure::Ring { problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        depth: 32,
        bytes: 4096,
    };

    fn ring(event_idx: bool) -> (Arc<GuestMemory>, Ring) {
        let memory = GuestMemory::anonymous(&[(0, LAYOUT.bytes())]).unwrap();
        let ring = Ring::new(Arc::clone(&memory), LAYOUT, event_idx).unwrap();
        (memory, ring)
    }

    #[test]
    fn an_answer_nobody_asked_for_is_refused() {
        let (memory, mut ring) = ring(false);
        ring.submit(4, 8);
        assert!(ring.publish());
        assert_eq!(ring.answered(), 0);
        // A descriptor in the middle of a chain, then a chain that is not in flight, then one without a status.
        let used = ring.addresses().used;
        for (position, head) in [(0u64, 13u64), (1, 15), (2, 12)] {
            memory.write(used + 4 + 8 * position, &head.to_le_bytes());
            memory.store_u16(used + 2, position as u16 + 1);
            assert_eq!(ring.answered(), 1);
            assert!(ring.take().is_err());
            ring.submit(4, 8);
        }
    }

    /// A server that answers everything at once is never asked for a notification, however often the indices come round.
    #[test]
    fn notifications_are_never_wanted() {
        let (memory, mut ring) = ring(true);
        let (parts, size) = (ring.addresses(), u64::from(ring.size()));
        for index in (0..150_000u32).map(|index| index as u16) {
            let slot = index % 32;
            ring.submit(slot, 8);
            // The server asks for a kick with the next entry, as one does that is about to sleep.
            memory.store_u16(parts.used + 4 + 8 * size, index);
            assert!(ring.publish());
            memory.write(ring.driver.slot(3 * slot) + STATUS_OFFSET, &[0]);
            let entry = parts.used + 4 + 8 * (u64::from(index) % size);
            memory.write(entry, &u64::from(3 * slot).to_le_bytes());
            memory.store_u16(parts.used + 2, index.wrapping_add(1));
            let event = memory.load_u16(parts.avail + 4 + 2 * size);
            assert_ne!(event, Some(index), "a notification is wanted");
            assert_eq!((ring.answered(), ring.take().unwrap()), (1, slot));
        }
    }
}
