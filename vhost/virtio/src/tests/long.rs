//! Chains as long as the ring (virtio 1.3, 2.7.5.3.1), on rings as long as the standard allows (2.7).

use super::rig::{Bell, setup};
use crate::BlkQueue;
use crate::blk::kind;
use crate::driver::{BlkHeader, DriverOptions, DriverQueue, STATUS_NONE, descriptor};
use palisade_block::limits::{REQUEST_BYTES_MAX, SEGMENTS_PER_SLOT};
use palisade_block::{Answer, LongList, Op, Pulled, Request, SegmentList, Source, Status};
use palisade_memory::{Descriptor, GuestMemory};
use palisade_words::limits::QUEUE_SIZE_MAX;
use std::sync::Arc;

const WRITE: u16 = Descriptor::WRITE;
/// Where the data lies, behind the rings.
const DATA: u64 = 16 << 20;
const TABLE: u64 = 12 << 20;
/// A second region begins here, next to the first in the guest but not in this process.
const SPLIT: u64 = DATA + 512 * 100 + 256;
const END: u64 = DATA + 512 * QUEUE_SIZE_MAX as u64;

struct Guest {
    memory: Arc<GuestMemory>,
    driver: DriverQueue,
    queue: BlkQueue<Bell>,
    segments: SegmentList,
}

impl Guest {
    fn new(size: u16) -> Guest {
        let memory = GuestMemory::anonymous(&[(0, SPLIT), (SPLIT, END - SPLIT)]).unwrap();
        let options = DriverOptions {
            size,
            event_idx: true,
            indirect: false,
        };
        let driver = DriverQueue::new(Arc::clone(&memory), 0x1000, options).unwrap();
        let queue = BlkQueue::new(setup(&memory, &driver, None), Bell::default()).unwrap();
        Guest {
            memory,
            driver,
            queue,
            segments: SegmentList::default(),
        }
    }

    /// Submits a chain of header, `data` and status, in the ring's own table or in one beside it. Its head.
    fn submit(&mut self, request: u32, data: &[Descriptor], indirect: bool) -> u16 {
        let slot = self.driver.slot(self.driver.next_head().unwrap());
        let header = BlkHeader {
            kind: request,
            sector: 8,
        };
        self.memory.write(slot, &header.encode());
        self.memory.write(slot + 32, &[STATUS_NONE]);
        let mut chain = vec![descriptor(slot, 16, 0)];
        chain.extend_from_slice(data);
        chain.push(descriptor(slot + 32, 1, WRITE));
        let head = if indirect {
            let last = chain.len() - 1;
            for (index, one) in (0u64..).zip(&chain) {
                let more = u16::from(index < last as u64);
                let (flags, next) = (one.flags | more, (index as u16 + 1) * more);
                let rest = u64::from(one.bytes) | u64::from(flags) << 32 | u64::from(next) << 48;
                let raw = u128::from(one.address) | u128::from(rest) << 64;
                self.memory.write(TABLE + 16 * index, &raw.to_le_bytes());
            }
            let table = descriptor(TABLE, 16 * chain.len() as u32, Descriptor::INDIRECT);
            self.driver.submit_chain(&[table]).unwrap()
        } else {
            self.driver.submit_chain(&chain).unwrap()
        };
        self.driver.publish();
        head
    }

    /// What is handed over, with a long list where one is asked for.
    fn pull(&mut self) -> Pulled {
        self.segments.take_back();
        match self.queue.pull(&mut self.segments) {
            Pulled::NoRoom => {
                assert_eq!(self.queue.resubmissions_left(), 1, "it waits for its list");
                assert_eq!(self.queue.backlog(), 1);
                assert!(self.segments.is_empty());
                assert!(self.queue.has_more());
                self.segments.lend(LongList::default());
                self.queue.pull(&mut self.segments)
            }
            pulled => pulled,
        }
    }

    fn request(&mut self) -> Request {
        match self.pull() {
            Pulled::Request(request) => request,
            other => panic!("no request: {other:?}"),
        }
    }

    /// Answers; the length and the status that the driver sees.
    fn answer(&mut self, request: Request, head: u16) -> (u32, u8) {
        self.queue.finish(Answer {
            token: request.token,
            status: Status::Ok,
            fault: None,
            dirtied: &[],
        });
        self.seen(head)
    }

    fn seen(&mut self, head: u16) -> (u32, u8) {
        self.queue.publish();
        let used = self.driver.poll_used().unwrap();
        assert!(used.expected && used.head == head);
        (used.bytes, self.driver.status(head))
    }
}

fn buffers(count: usize, bytes: u32, flags: u16) -> Vec<Descriptor> {
    (0..count as u64)
        .map(|number| descriptor(DATA + number * u64::from(bytes), bytes, flags))
        .collect()
}

#[test]
fn chains_as_long_as_the_ring_are_requests() {
    for size in [256, 1024, QUEUE_SIZE_MAX] {
        let mut guest = Guest::new(size);
        let longest = usize::from(size) - 2;
        let counts = [1, 126, 160, 161, 253, 254, 255, 515, 1021, 1022, longest];
        for count in counts.into_iter().filter(|count| *count <= longest) {
            for indirect in [false, true] {
                let head = guest.submit(kind::IN, &buffers(count, 512, WRITE), indirect);
                let request = guest.request();
                assert_eq!((request.op, request.lba.0), (Op::Read, 8));
                assert_eq!(request.sectors.0, count as u64);
                // The border between two regions cuts one of them.
                let cut = usize::from(count > 100);
                assert_eq!(guest.segments.len(), count + cut);
                assert_eq!(guest.segments.is_long(), count + cut > SEGMENTS_PER_SLOT);
                let guest_addresses = guest.segments.as_slice().iter().map(|segment| {
                    (
                        guest.memory.host_to_guest(segment.address()).unwrap(),
                        segment.bytes() as u64,
                    )
                });
                let end = guest_addresses.fold(DATA, |next, (at, bytes)| {
                    assert_eq!(at, next);
                    at + bytes
                });
                assert_eq!(end, DATA + 512 * count as u64);
                let seen = guest.answer(request, head);
                assert_eq!(seen, (512 * count as u32 + 1, 0), "{count} of {size}");
            }
        }
        assert_eq!(guest.queue.stats().malformed.get(), 0);
        assert_eq!(
            guest.queue.stats().taken.get(),
            guest.queue.stats().returned.get()
        );
    }
}

/// The piece before the status byte is the one that has no room.
#[test]
fn data_in_the_descriptor_of_the_status_byte_may_be_what_has_no_room() {
    for count in [SEGMENTS_PER_SLOT - 1, SEGMENTS_PER_SLOT] {
        let mut guest = Guest::new(256);
        let slot = guest.driver.slot(guest.driver.next_head().unwrap());
        let header = BlkHeader {
            kind: kind::IN,
            sector: 8,
        };
        guest.memory.write(slot, &header.encode());
        // They all lie before the border between the regions.
        let mut chain = vec![descriptor(slot, 16, 0)];
        chain.extend(vec![descriptor(DATA, 512, WRITE); count]);
        chain.push(descriptor(DATA, 513, WRITE));
        let head = guest.driver.submit_chain(&chain).unwrap();
        guest.driver.publish();
        let request = guest.request();
        assert_eq!(request.sectors.0, count as u64 + 1);
        assert_eq!(guest.segments.is_long(), count == SEGMENTS_PER_SLOT);
        assert_eq!(guest.answer(request, head).0, 512 * (count as u32 + 1) + 1);
    }
}

#[test]
fn single_bytes_make_a_request_too() {
    let mut guest = Guest::new(QUEUE_SIZE_MAX);
    for (count, blocks) in [(1024, 2), (32_256, 63)] {
        let head = guest.submit(kind::OUT, &buffers(count, 1, 0), false);
        let request = guest.request();
        assert_eq!((request.op, request.sectors.0), (Op::Write, blocks));
        assert_eq!(guest.answer(request, head), (1, 0));
        let head = guest.submit(kind::OUT, &buffers(count + 1, 1, 0), true);
        assert!(matches!(guest.pull(), Pulled::Answered));
        assert_eq!(guest.seen(head), (1, 1), "no whole blocks");
    }
}

/// A driver that has not taken SIZE_MAX puts what it likes into one descriptor (edk2's up to 1 GiB).
#[test]
fn one_descriptor_may_be_as_long_as_memory() {
    let mut guest = Guest::new(8192);
    let bytes = (SPLIT - DATA) / 512 * 512;
    let head = guest.submit(kind::IN, &[descriptor(DATA, bytes as u32, WRITE)], false);
    let request = guest.request();
    assert_eq!(guest.answer(request, head), (bytes as u32 + 1, 0));
    // And many that overlap up to what the used entry can count; what is more is answered with an error.
    let each = 1u32 << 20;
    let most = (REQUEST_BYTES_MAX >> 20) as usize;
    let overlapping = |count| vec![descriptor(SPLIT, each, WRITE); count];
    let head = guest.submit(kind::IN, &overlapping(most), true);
    let request = guest.request();
    assert_eq!(request.sectors.bytes(), REQUEST_BYTES_MAX);
    assert_eq!(guest.answer(request, head), (REQUEST_BYTES_MAX as u32 + 1, 0));
    let head = guest.submit(kind::IN, &overlapping(most + 1), true);
    assert!(matches!(guest.pull(), Pulled::Answered));
    assert_eq!(guest.seen(head), (1, 1));
}

/// More segments than there can be room for: one byte on each side of a border, again and again.
#[test]
fn more_segments_than_any_list_holds_are_answered_with_an_error() {
    let mut guest = Guest::new(QUEUE_SIZE_MAX);
    let data = vec![descriptor(SPLIT - 256, 512, WRITE); usize::from(QUEUE_SIZE_MAX) - 2];
    let head = guest.submit(kind::IN, &data, false);
    assert!(matches!(guest.pull(), Pulled::Answered), "it is answered here");
    // Two segments each: header and 82 of them told that a long list is needed, as the last may be the status byte.
    let first = 1 + SEGMENTS_PER_SLOT as u32 / 2 + 2;
    assert_eq!(
        guest.queue.followed(),
        first + u32::from(QUEUE_SIZE_MAX),
        "to its end, for the status byte"
    );
    assert_eq!(guest.seen(head), (1, 1));
}

#[test]
fn a_table_across_two_regions_is_read() {
    let mut guest = Guest::new(256);
    let slot = guest.driver.slot(guest.driver.next_head().unwrap());
    let header = BlkHeader {
        kind: kind::IN,
        sector: 0,
    };
    guest.memory.write(slot, &header.encode());
    let entries = [
        (slot, 16u64, 1u64, 1u64),
        (DATA, 512, 3, 2),
        (DATA + 512, 512, 3, 3),
        (slot + 32, 1, 2, 0),
    ];
    let mut table = Vec::new();
    for (address, bytes, flags, next) in entries {
        table
            .extend((u128::from(address) | u128::from(bytes | flags << 32 | next << 48) << 64).to_le_bytes());
    }
    // The border lies inside the third descriptor, and between the second and the third.
    for before in [40, 32] {
        let at = SPLIT - before;
        let (low, high) = table.split_at(before as usize);
        guest.memory.write(at, low);
        guest.memory.write(SPLIT, high);
        let table = descriptor(at, 64, Descriptor::INDIRECT);
        let head = guest.driver.submit_chain(&[table]).unwrap();
        guest.driver.publish();
        let request = guest.request();
        assert_eq!(request.sectors.0, 2);
        assert_eq!(guest.answer(request, head), (1025, 0));
    }
}
