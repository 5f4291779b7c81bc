//! The driver's half of a split ring for one workload: chains are written once, a request changes a sector number,
//! a status byte and an entry of the available ring. `palisade_virtio::driver` can do everything and allocates;
//! this can do one thing and must not be what is measured.
//!
//! ```text
//! address 0   descriptors, available ring, used ring      (16, 2 and 8 bytes an entry)
//! then        one line of 64 bytes a slot: header at 0, status at 32, as Linux guests have them: side by side
//! then        data, `bytes` a slot, on pages of their own
//!
//! slot s:     descriptors 3s (header) -> 3s + 1 (data) -> 3s + 2 (status)
//! ```

use crate::Failure;
use crate::random::Random;
use crate::row::{Row, Work};
use palisade_memory::{Descriptor, GuestMemory, RingAddresses};
use palisade_virtio::blk::kind;
use palisade_virtio::driver::{Header, STATUS_NONE};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

const PAGE: u64 = 4096;
const LINE: u64 = 64;
const SECTOR_OFFSET: u64 = 8;
const STATUS_OFFSET: u64 = 32;
const DESCRIPTORS_PER_SLOT: u16 = 3;
const RING_ENTRIES_MIN: u16 = 128;
const AVAIL_NO_INTERRUPT: u16 = 1;
const USED_NO_NOTIFY: u16 = 1;

/// Where everything lies in the memory that is shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Requests in flight.
    pub depth: u16,
    /// Data of one request.
    pub bytes: u32,
}

impl Layout {
    /// The layout for a row.
    pub fn of(row: Row) -> Layout {
        Layout {
            depth: row.depth,
            bytes: row.bytes,
        }
    }

    /// Entries of the ring: the fewest that hold all chains, and not fewer than any server takes.
    pub fn ring_size(self) -> u16 {
        (self.depth * DESCRIPTORS_PER_SLOT)
            .next_power_of_two()
            .max(RING_ENTRIES_MIN)
    }

    /// The ring's three parts.
    pub fn ring(self) -> RingAddresses {
        let size = u64::from(self.ring_size());
        let avail = 16 * size;
        RingAddresses {
            descriptors: 0,
            avail,
            used: (avail + 6 + 2 * size).next_multiple_of(LINE),
        }
    }

    /// All of it.
    pub fn bytes(self) -> u64 {
        self.data(self.depth).next_multiple_of(2 << 20)
    }

    fn line(self, slot: u16) -> u64 {
        let after_ring = self.ring().used + 6 + 8 * u64::from(self.ring_size());
        after_ring.next_multiple_of(LINE) + u64::from(slot) * LINE
    }

    fn data(self, slot: u16) -> u64 {
        self.line(self.depth).next_multiple_of(PAGE)
            + u64::from(slot) * u64::from(self.bytes).next_multiple_of(PAGE)
    }
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    memory: Arc<GuestMemory>,
    layout: Layout,
    addresses: RingAddresses,
    lines: u64,
    mask: u16,
    event_idx: bool,
    avail_next: u16,
    avail_published: u16,
    used_seen: u16,
    in_flight: Vec<bool>,
}

impl Ring {
    /// Writes an empty ring and all chains, for reads until [`Ring::prepare`] says otherwise, and touches every page.
    pub fn new(memory: Arc<GuestMemory>, layout: Layout, event_idx: bool) -> Result<Ring, Failure> {
        let ring = Ring {
            addresses: layout.ring(),
            lines: layout.line(0),
            mask: layout.ring_size() - 1,
            in_flight: vec![false; layout.depth.into()],
            memory,
            layout,
            event_idx,
            avail_next: 0,
            avail_published: 0,
            used_seen: 0,
        };
        let mut random = Random::new(1);
        for at in (0..ring.layout.data(layout.depth)).step_by(8) {
            // Data that neither a file system nor a host takes for zeroes.
            let word = if at >= ring.layout.data(0) {
                random.next_u64()
            } else {
                0
            };
            if !ring.memory.write(at, &word.to_le_bytes()) {
                return Err(broken(format!("our own memory ends before {at:#x}")));
            }
        }
        ring.prepare(Work::Read);
        Ok(ring)
    }

    /// Writes all chains for one kind of work. Nothing may be in flight.
    pub fn prepare(&self, work: Work) {
        let (number, data_flags) = match work {
            Work::Read => (kind::IN, Descriptor::WRITE),
            Work::Write => (kind::OUT, 0),
        };
        for slot in 0..self.layout.depth {
            let line = self.layout.line(slot);
            let header = Header {
                kind: number,
                sector: 0,
            };
            self.memory.write(line, &header.encode());
            let first = slot * DESCRIPTORS_PER_SLOT;
            self.write_descriptor(first, line, 16, Descriptor::NEXT);
            let data = self.layout.data(slot);
            self.write_descriptor(first + 1, data, self.layout.bytes, data_flags | Descriptor::NEXT);
            self.write_descriptor(first + 2, line + STATUS_OFFSET, 1, Descriptor::WRITE);
        }
    }

    /// Asks the server for no notifications at all.
    pub fn quiet(&mut self) {
        self.memory.store_u16(self.addresses.avail, AVAIL_NO_INTERRUPT);
        self.silence_used_event();
    }

    /// Requests that can be in flight.
    pub fn depth(&self) -> u16 {
        self.layout.depth
    }

    /// Bytes of a request.
    pub fn bytes(&self) -> u32 {
        self.layout.bytes
    }

    /// Puts the request of a slot that is free. The server sees it after [`Ring::publish`].
    #[inline]
    pub fn submit(&mut self, slot: u16, sector: u64) {
        let line = self.lines + u64::from(slot) * LINE;
        self.memory.write(line + SECTOR_OFFSET, &sector.to_le_bytes());
        self.memory.write(line + STATUS_OFFSET, &[STATUS_NONE]);
        let position = u64::from(self.avail_next & self.mask);
        self.memory.store_u16(
            self.addresses.avail + 4 + 2 * position,
            slot * DESCRIPTORS_PER_SLOT,
        );
        self.avail_next = self.avail_next.wrapping_add(1);
        if let Some(busy) = self.in_flight.get_mut(usize::from(slot)) {
            *busy = true;
        }
    }

    /// Shows everything put since the last call. True when the server wants a kick for it.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.avail_next == self.avail_published {
            return false;
        }
        let before = std::mem::replace(&mut self.avail_published, self.avail_next);
        self.memory.store_u16(self.addresses.avail + 2, self.avail_next);
        // Virtio 1.3, 2.7.13.4.1: the index must be visible before the server's wish is read.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let at = self.addresses.used + 4 + 8 * (u64::from(self.mask) + 1);
            let event = self.memory.load_u16(at).unwrap_or(0);
            // Virtio 1.3, 2.7.10: the event lies among the entries just shown.
            self.avail_next.wrapping_sub(event).wrapping_sub(1) < self.avail_next.wrapping_sub(before)
        } else {
            self.memory.load_u16(self.addresses.used).unwrap_or(0) & USED_NO_NOTIFY == 0
        }
    }

    /// How many answers there are to be taken.
    #[inline]
    pub fn answered(&self) -> u16 {
        let used = self
            .memory
            .load_u16(self.addresses.used + 2)
            .unwrap_or(self.used_seen);
        used.wrapping_sub(self.used_seen)
    }

    /// Takes the next answer, which must be there, and gives its slot.
    #[inline]
    pub fn take(&mut self) -> Result<u16, Failure> {
        let position = u64::from(self.used_seen & self.mask);
        let mut entry = [0; 8];
        self.memory
            .read(self.addresses.used + 4 + 8 * position, &mut entry);
        self.used_seen = self.used_seen.wrapping_add(1);
        let head = u64::from_le_bytes(entry) as u32;
        let slot = (head / u32::from(DESCRIPTORS_PER_SLOT)) as u16;
        let expected = self.in_flight.get_mut(usize::from(slot)).map(std::mem::take);
        if expected != Some(true) || head != u32::from(slot * DESCRIPTORS_PER_SLOT) {
            return Err(broken(format!(
                "descriptor {head} was answered and is not in flight"
            )));
        }
        let mut status = [STATUS_NONE];
        self.memory
            .read(self.lines + u64::from(slot) * LINE + STATUS_OFFSET, &mut status);
        match status {
            [0] => Ok(slot),
            [status] => Err(broken(format!("a request ended with status {status}"))),
        }
    }

    /// After each 16384 answers the event that stands for "never" has to move on, or it would come round.
    #[inline]
    pub fn stay_quiet(&mut self) {
        if self.event_idx && self.used_seen & 0x3fff == 0 {
            self.silence_used_event();
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

    /// What a server would do that answers everything at once: for measuring what this client costs by itself.
    pub fn answer_all_ourselves(&mut self, answered: &mut u16) {
        let size = u64::from(self.mask) + 1;
        while *answered != self.avail_published {
            let position = u64::from(*answered & self.mask);
            let head = self
                .memory
                .load_u16(self.addresses.avail + 4 + 2 * position)
                .unwrap_or(0);
            let line = self.lines + u64::from(head / DESCRIPTORS_PER_SLOT) * LINE;
            self.memory.write(line + STATUS_OFFSET, &[0]);
            self.memory.write(
                self.addresses.used + 4 + 8 * position,
                &u64::from(head).to_le_bytes(),
            );
            *answered = answered.wrapping_add(1);
        }
        self.memory.store_u16(self.addresses.used + 2, *answered);
        self.memory
            .store_u16(self.addresses.used + 4 + 8 * size, answered.wrapping_sub(1));
    }

    fn silence_used_event(&mut self) {
        let at = self.addresses.avail + 4 + 2 * (u64::from(self.mask) + 1);
        self.memory.store_u16(at, self.used_seen.wrapping_sub(1));
    }

    fn write_descriptor(&self, index: u16, address: u64, bytes: u32, flags: u16) {
        let next = if flags & Descriptor::NEXT != 0 {
            index + 1
        } else {
            0
        };
        let rest = u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48;
        let encoded = u128::from(address) | u128::from(rest) << 64;
        let at = self.addresses.descriptors + u64::from(index) * Descriptor::BYTES as u64;
        self.memory.write(at, &encoded.to_le_bytes());
    }
}

fn broken(problem: String) -> Failure {
    Failure::Ring { problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_block::{Answer, Op, Pulled, SegmentList, Source, Status};
    use palisade_virtio::{BlkQueue, Features, Notify, QueueSetup};

    fn layout() -> Layout {
        Layout {
            depth: 32,
            bytes: 4096,
        }
    }

    #[test]
    fn parts_do_not_overlap() {
        for depth in [1, 16, 32, 128] {
            for bytes in [4096, 131_072] {
                let layout = Layout { depth, bytes };
                let (ring, size) = (layout.ring(), u64::from(layout.ring_size()));
                assert!(size >= 3 * u64::from(depth));
                assert!(ring.avail >= 16 * size && ring.used >= ring.avail + 6 + 2 * size);
                assert!(layout.line(0) >= ring.used + 6 + 8 * size);
                assert!(layout.data(0) >= layout.line(depth - 1) + LINE);
                assert!(layout.bytes() >= layout.data(depth - 1) + u64::from(bytes));
                assert_eq!(layout.data(1) % PAGE, 0);
            }
        }
    }

    #[test]
    fn an_answer_nobody_asked_for_is_refused() {
        let memory = GuestMemory::anonymous(&[(0, layout().bytes())]).unwrap();
        let mut ring = Ring::new(Arc::clone(&memory), layout(), false).unwrap();
        ring.submit(4, 8);
        assert!(ring.publish());
        assert_eq!(ring.answered(), 0);
        // A descriptor in the middle of a chain, then a chain that is not in flight, then one without a status.
        let used = layout().ring().used;
        for (position, head) in [(0u64, 13u64), (1, 15), (2, 12)] {
            memory.write(used + 4 + 8 * position, &head.to_le_bytes());
            memory.store_u16(used + 2, position as u16 + 1);
            assert_eq!(ring.answered(), 1);
            assert!(ring.take().is_err());
            ring.submit(4, 8);
        }
    }

    #[test]
    fn we_answer_ourselves_as_a_server_would() {
        let memory = GuestMemory::anonymous(&[(0, layout().bytes())]).unwrap();
        for event_idx in [false, true] {
            let mut ring = Ring::new(Arc::clone(&memory), layout(), event_idx).unwrap();
            let mut answered = 0;
            for _ in 0..5000 {
                for slot in 0..32 {
                    ring.submit(slot, 0);
                }
                ring.publish();
                ring.answer_all_ourselves(&mut answered);
                assert_eq!(ring.answered(), 32);
                for slot in 0..32 {
                    assert_eq!(ring.take().unwrap(), slot);
                    ring.stay_quiet();
                }
            }
        }
    }

    struct Never;
    impl Notify for Never {
        fn notify(&mut self) {
            panic!("a notification although none was asked for");
        }
    }

    /// Our own queue reads what this ring says, and never wants to notify, however long it goes on.
    #[test]
    fn our_own_server_understands() {
        for event_idx in [false, true] {
            let memory = GuestMemory::anonymous(&[(0, layout().bytes())]).unwrap();
            let mut ring = Ring::new(Arc::clone(&memory), layout(), event_idx).unwrap();
            ring.quiet();
            ring.prepare(Work::Write);
            let mut features = Features::VERSION_1;
            if event_idx {
                features = features | Features::EVENT_IDX;
            }
            let mut server = server(&memory, features);
            let mut segments = SegmentList::default();
            for round in 0..4000u64 {
                for slot in 0..32 {
                    ring.submit(slot, 8 * (round + u64::from(slot)));
                }
                ring.publish();
                for slot in 0..32u64 {
                    segments.clear();
                    let Pulled::Request(request) = server.pull(&mut segments) else {
                        panic!("a request is there");
                    };
                    assert_eq!(
                        (request.op, request.lba.0, request.sectors.0),
                        (Op::Write, 8 * (round + slot), 8)
                    );
                    server.finish(Answer {
                        token: request.token,
                        status: Status::Ok,
                        dirtied: &[],
                    });
                }
                server.publish();
                for slot in 0..ring.answered() {
                    assert_eq!(ring.take().unwrap(), slot);
                    ring.stay_quiet();
                }
            }
        }
    }

    fn server(memory: &Arc<GuestMemory>, features: Features) -> BlkQueue<Never> {
        let setup = QueueSetup {
            memory: Arc::clone(memory),
            size: layout().ring_size(),
            ring: layout().ring(),
            base: 0,
            features,
            inflight: None,
            serial: [0; 20],
            writable: true,
            block_bytes: 512,
            dirty_log: None,
            log_used_at: None,
            stats: Arc::default(),
        };
        BlkQueue::new(setup, Never).unwrap()
    }
}
