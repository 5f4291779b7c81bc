//! The other side of a ring: a driver, as a guest has one. For tests, simulated guests and measurements; the daemon
//! never runs it.
//!
//! ```text
//! at + 0     descriptors, available ring, used ring
//!    then    one slot of 64 bytes per descriptor: header 16, range 16, status 1
//!    then    one indirect table per descriptor, when indirect
//! ```

pub mod repeated;

use crate::blk::{BLK_HEADER_BYTES, RANGE_BYTES};
use crate::split::event_passed;
use palisade_block::limits::SEGMENTS_PER_REQUEST;
use palisade_memory::{Descriptor, GuestMemory, RingAddresses};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

const SLOT_BYTES: u64 = 64;
const RANGE_OFFSET: u64 = 16;
const STATUS_OFFSET: u64 = 32;
/// What a status byte holds until the device has written it.
pub const STATUS_NONE: u8 = 0xff;
/// Bytes of one indirect table: header, data, status.
const TABLE_BYTES: u64 = (SEGMENTS_PER_REQUEST as u64 + 2) * Descriptor::BYTES as u64;

/// How a driver uses its ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DriverOptions {
    /// Entries, a power of two.
    pub size: u16,
    /// EVENT_IDX has been negotiated.
    pub event_idx: bool,
    /// Requests go into indirect tables.
    pub indirect: bool,
}

impl DriverOptions {
    /// Bytes of guest memory the ring and everything beside it takes.
    pub fn bytes(self) -> u64 {
        self.tables_offset()
            + if self.indirect {
                u64::from(self.size) * TABLE_BYTES
            } else {
                0
            }
    }

    fn avail_offset(self) -> u64 {
        16 * u64::from(self.size)
    }

    fn used_offset(self) -> u64 {
        (self.avail_offset() + 6 + 2 * u64::from(self.size)).next_multiple_of(64)
    }

    fn slots_offset(self) -> u64 {
        (self.used_offset() + 6 + 8 * u64::from(self.size)).next_multiple_of(64)
    }

    fn tables_offset(self) -> u64 {
        self.slots_offset() + u64::from(self.size) * SLOT_BYTES
    }
}

/// A request's header (`struct virtio_blk_req`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlkHeader {
    /// One of [`kind`](crate::blk::kind).
    pub kind: u32,
    /// First sector.
    pub sector: u64,
}

impl BlkHeader {
    /// As it lies in guest memory.
    pub fn encode(self) -> [u8; BLK_HEADER_BYTES] {
        (u128::from(self.kind) | u128::from(self.sector) << 64).to_le_bytes()
    }
}

/// The range of a discard or write-zeroes request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// First sector.
    pub sector: u64,
    /// Length in sectors of 512 bytes.
    pub sectors: u32,
    /// [`RANGE_UNMAP`](crate::blk::RANGE_UNMAP) or 0.
    pub flags: u32,
}

impl Range {
    /// As it lies in guest memory.
    pub fn encode(self) -> [u8; RANGE_BYTES] {
        let high = u128::from(self.sectors) << 64 | u128::from(self.flags) << 96;
        (u128::from(self.sector) | high).to_le_bytes()
    }
}

/// One data buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Guest address.
    pub address: u64,
    /// Length in bytes.
    pub bytes: u32,
    /// Whether the device writes it.
    pub write: bool,
}

/// One used entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// The head that `submit` gave.
    pub head: u16,
    /// Bytes the device says it wrote.
    pub bytes: u32,
    /// Whether the head was in flight. If not, the device has answered something twice or made it up.
    pub expected: bool,
}

/// A driver's half of a split ring.
#[derive(Debug)]
pub struct DriverQueue {
    memory: Arc<GuestMemory>,
    options: DriverOptions,
    at: u64,
    ring: RingAddresses,
    free: Vec<u16>,
    /// The descriptors of the chain that begins at each head; empty when it is not in flight.
    chains: Vec<Vec<u16>>,
    avail_next: u16,
    avail_published: u16,
    used_seen: u16,
}

impl DriverQueue {
    /// Makes an empty ring in zeroed guest memory at `at`, a multiple of 16. `None` when there is no room or the
    /// size is not a power of two.
    pub fn new(memory: Arc<GuestMemory>, at: u64, options: DriverOptions) -> Option<DriverQueue> {
        let size = options.size;
        memory.slice(at, options.bytes())?;
        if !size.is_power_of_two() || !at.is_multiple_of(16) {
            return None;
        }
        let ring = RingAddresses {
            descriptors: at,
            avail: at + options.avail_offset(),
            used: at + options.used_offset(),
        };
        for word in 0..options.slots_offset() / 2 {
            memory.store_u16(at + 2 * word, 0);
        }
        Some(DriverQueue {
            memory,
            options,
            at,
            ring,
            free: (0..size).rev().collect(),
            chains: vec![Vec::new(); size.into()],
            avail_next: 0,
            avail_published: 0,
            used_seen: 0,
        })
    }

    /// Where the ring is.
    pub fn addresses(&self) -> RingAddresses {
        self.ring
    }

    /// What it was made with.
    pub fn options(&self) -> DriverOptions {
        self.options
    }

    /// Chains in flight, made available or not.
    pub fn in_flight(&self) -> usize {
        self.chains.iter().filter(|chain| !chain.is_empty()).count()
    }

    /// Puts a request with its header and status byte around `data`. `None` when there are too few descriptors or
    /// too many buffers. The device sees it after [`DriverQueue::publish`].
    pub fn submit(&mut self, header: BlkHeader, data: &[Buffer]) -> Option<u16> {
        let head = *self.free.last()?;
        let slot = self.slot(head);
        self.memory.write(slot, &header.encode());
        self.memory.write(slot + STATUS_OFFSET, &[STATUS_NONE]);
        let mut chain = Vec::with_capacity(data.len() + 2);
        chain.push(descriptor(slot, BLK_HEADER_BYTES as u32, 0));
        for buffer in data {
            let flags = if buffer.write { Descriptor::WRITE } else { 0 };
            chain.push(descriptor(buffer.address, buffer.bytes, flags));
        }
        chain.push(descriptor(slot + STATUS_OFFSET, 1, Descriptor::WRITE));
        if self.options.indirect && (chain.len() * Descriptor::BYTES) as u64 <= TABLE_BYTES {
            self.submit_table(&chain)
        } else {
            self.submit_chain(&chain)
        }
    }

    /// Puts a discard or write-zeroes request.
    pub fn submit_range(&mut self, kind: u32, range: Range) -> Option<u16> {
        let slot = self.slot(*self.free.last()?);
        self.memory.write(slot + RANGE_OFFSET, &range.encode());
        let buffer = Buffer {
            address: slot + RANGE_OFFSET,
            bytes: RANGE_BYTES as u32,
            write: false,
        };
        self.submit(BlkHeader { kind, sector: 0 }, &[buffer])
    }

    /// Puts a chain as it is given, except for NEXT and `next`, which are set so that the chain holds together. The
    /// head is the descriptor whose slot [`DriverQueue::slot`] names before the call.
    pub fn submit_chain(&mut self, chain: &[Descriptor]) -> Option<u16> {
        if chain.is_empty() || chain.len() > self.free.len() {
            return None;
        }
        let indices = self.free.split_off(self.free.len() - chain.len());
        let indices: Vec<u16> = indices.into_iter().rev().collect();
        for (position, (&index, &descriptor)) in indices.iter().zip(chain).enumerate() {
            let next = indices.get(position + 1).copied();
            self.write_descriptor(index, linked(descriptor, next));
        }
        let head = *indices.first()?;
        *self.chains.get_mut(usize::from(head))? = indices;
        self.put_available(head);
        Some(head)
    }

    /// Puts a chain into the indirect table of the head.
    pub fn submit_table(&mut self, chain: &[Descriptor]) -> Option<u16> {
        let bytes = chain.len() as u64 * Descriptor::BYTES as u64;
        if !self.options.indirect || bytes > TABLE_BYTES {
            return None;
        }
        let table = self.at + self.options.tables_offset() + u64::from(*self.free.last()?) * TABLE_BYTES;
        for (position, &descriptor) in (0u16..).zip(chain) {
            let next = (usize::from(position) + 1 < chain.len()).then_some(position + 1);
            let at = table + u64::from(position) * Descriptor::BYTES as u64;
            self.memory.write(at, &encode(linked(descriptor, next)));
        }
        self.submit_chain(&[descriptor(table, bytes as u32, Descriptor::INDIRECT)])
    }

    /// Writes one descriptor of the ring's own table as it is, to make chains no driver would.
    pub fn write_descriptor(&mut self, index: u16, descriptor: Descriptor) {
        let at =
            self.ring.descriptors + u64::from(index & (self.options.size - 1)) * Descriptor::BYTES as u64;
        self.memory.write(at, &encode(descriptor));
    }

    /// Puts any head into the available ring, to make rings no driver would.
    pub fn put_available(&mut self, head: u16) {
        let position = u64::from(self.avail_next & (self.options.size - 1));
        self.memory.store_u16(self.ring.avail + 4 + 2 * position, head);
        self.avail_next = self.avail_next.wrapping_add(1);
    }

    /// Shows everything put since the last call to the device. True when the device wants to be kicked.
    pub fn publish(&mut self) -> bool {
        if self.avail_next == self.avail_published {
            return false;
        }
        let before = self.avail_published;
        self.avail_published = self.avail_next;
        self.memory.store_u16(self.ring.avail + 2, self.avail_next);
        fence(Ordering::SeqCst);
        if self.options.event_idx {
            let event = self.ring.used + 4 + 8 * u64::from(self.options.size);
            let event = self.memory.load_u16(event).unwrap_or(0);
            event_passed(event, self.avail_next, before)
        } else {
            self.memory.load_u16(self.ring.used).unwrap_or(0) & 1 == 0
        }
    }

    /// Takes the next used entry, and its descriptors back.
    pub fn poll_used(&mut self) -> Option<Used> {
        if self.memory.load_u16(self.ring.used + 2)? == self.used_seen {
            return None;
        }
        let position = u64::from(self.used_seen & (self.options.size - 1));
        let mut entry = [0; 8];
        self.memory.read(self.ring.used + 4 + 8 * position, &mut entry);
        self.used_seen = self.used_seen.wrapping_add(1);
        let entry = u64::from_le_bytes(entry);
        let head = entry as u32;
        let chain = self
            .chains
            .get_mut(head as usize)
            .map(std::mem::take)
            .unwrap_or_default();
        let expected = !chain.is_empty();
        self.free.extend(chain.into_iter().rev());
        Some(Used {
            head: head as u16,
            bytes: (entry >> 32) as u32,
            expected,
        })
    }

    /// Asks for a notification of the next used entry. True when there is one already.
    pub fn enable_notifications(&mut self) -> bool {
        if self.options.event_idx {
            self.memory.store_u16(self.used_event_at(), self.used_seen);
        } else {
            self.memory.store_u16(self.ring.avail, 0);
        }
        fence(Ordering::SeqCst);
        self.memory.load_u16(self.ring.used + 2) != Some(self.used_seen)
    }

    /// Asks for silence.
    pub fn disable_notifications(&mut self) {
        if self.options.event_idx {
            self.memory
                .store_u16(self.used_event_at(), self.used_seen.wrapping_sub(1));
        } else {
            self.memory.store_u16(self.ring.avail, 1);
        }
    }

    /// The status byte of the request at `head`, [`STATUS_NONE`] before the device has written it.
    pub fn status(&self, head: u16) -> u8 {
        let mut status = [STATUS_NONE];
        self.memory.read(self.slot(head) + STATUS_OFFSET, &mut status);
        status[0]
    }

    /// Guest address of the 64 bytes that belong to a head.
    pub fn slot(&self, head: u16) -> u64 {
        self.at + self.options.slots_offset() + u64::from(head & (self.options.size - 1)) * SLOT_BYTES
    }

    /// The head that the next submission will have.
    pub fn next_head(&self) -> Option<u16> {
        self.free.last().copied()
    }

    fn used_event_at(&self) -> u64 {
        self.ring.avail + 4 + 2 * u64::from(self.options.size)
    }
}

/// A descriptor without a successor.
pub fn descriptor(address: u64, bytes: u32, flags: u16) -> Descriptor {
    Descriptor {
        address,
        bytes,
        flags,
        next: 0,
    }
}

fn linked(mut descriptor: Descriptor, next: Option<u16>) -> Descriptor {
    descriptor.flags &= !Descriptor::NEXT;
    if let Some(next) = next {
        descriptor.flags |= Descriptor::NEXT;
        descriptor.next = next;
    }
    descriptor
}

/// A descriptor as it lies in guest memory.
pub fn encode(descriptor: Descriptor) -> [u8; Descriptor::BYTES] {
    let Descriptor {
        address,
        bytes,
        flags,
        next,
    } = descriptor;
    let rest = u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48;
    (u128::from(address) | u128::from(rest) << 64).to_le_bytes()
}
