//! Chains that are longer than may be, and chains that may not be followed to their end just now.

use super::rig::{Bell, setup};
use crate::BlkQueue;
use crate::blk::kind;
use crate::chain::chain_descriptors_max;
use crate::driver::{BlkHeader, DriverOptions, DriverQueue, STATUS_NONE, descriptor};
use palisade_block::{Answer, LongList, Pulled, SegmentList, Source, Status};
use palisade_memory::{Descriptor, GuestMemory};
use palisade_words::limits::QUEUE_SIZE_MAX;
use std::sync::Arc;

const WRITE: u16 = Descriptor::WRITE;
const NEXT: u16 = Descriptor::NEXT;
const TABLE: u64 = 12 << 20;
const DATA: u64 = 16 << 20;
const END: u64 = 24 << 20;
/// What lies in the data before.
const UNTOUCHED: u8 = 0x5a;

struct Guest {
    memory: Arc<GuestMemory>,
    driver: DriverQueue,
    queue: BlkQueue<Bell>,
    segments: SegmentList,
}

/// What the driver sees of a chain: the length in the used entry, and the status byte.
type Seen = (u32, u8);

impl Guest {
    fn new(size: u16) -> Guest {
        let memory = GuestMemory::anonymous(&[(0, END)]).unwrap();
        let options = DriverOptions {
            size,
            event_idx: true,
            indirect: false,
        };
        let driver = DriverQueue::new(Arc::clone(&memory), 0x1000, options).unwrap();
        let queue = BlkQueue::new(setup(&memory, &driver, None), Bell::default()).unwrap();
        let data = vec![UNTOUCHED; (END - DATA) as usize];
        memory.write(DATA, &data);
        Guest {
            memory,
            driver,
            queue,
            segments: SegmentList::default(),
        }
    }

    /// A chain of so many descriptors for the next head: header, empty buffers but for the first one, status.
    fn chain(&self, descriptors: usize, request: u32) -> Vec<Descriptor> {
        let slot = self.driver.slot(self.driver.next_head().unwrap());
        let header = BlkHeader {
            kind: request,
            sector: 8,
        };
        self.memory.write(slot, &header.encode());
        self.memory.write(slot + 32, &[STATUS_NONE]);
        let flags = if request == kind::IN { WRITE } else { 0 };
        let mut chain = vec![descriptor(slot, 16, 0), descriptor(DATA, 512, flags)];
        chain.resize(descriptors - 1, descriptor(DATA + 512, 0, flags));
        chain.push(descriptor(slot + 32, 1, WRITE));
        let last = chain.len() - 1;
        for (next, one) in (1..).zip(chain.iter_mut().take(last)) {
            (one.flags, one.next) = (one.flags | NEXT, next);
        }
        chain
    }

    /// Puts a table into the ring. Its head.
    fn submit(&mut self, table: &[Descriptor]) -> u16 {
        for (index, one) in (0u64..).zip(table) {
            let rest = u64::from(one.bytes) | u64::from(one.flags) << 32 | u64::from(one.next) << 48;
            let raw = u128::from(one.address) | u128::from(rest) << 64;
            self.memory.write(TABLE + 16 * index, &raw.to_le_bytes());
        }
        let table = descriptor(TABLE, 16 * table.len() as u32, Descriptor::INDIRECT);
        let head = self.driver.submit_chain(&[table]).unwrap();
        self.driver.publish();
        head
    }

    fn seen(&mut self, head: u16) -> Seen {
        self.queue.publish();
        let used = self.driver.poll_used().unwrap();
        assert!(used.expected && used.head == head);
        (used.bytes, self.driver.status(head))
    }

    /// Takes a request and answers it well.
    fn serve(&mut self, head: u16) -> Seen {
        match self.queue.pull(&mut self.segments) {
            Pulled::Request(request) => {
                self.queue.finish(Answer {
                    token: request.token,
                    status: Status::Ok,
                    fault: None,
                    dirtied: &[],
                });
                self.seen(head)
            }
            other => panic!("no request: {other:?}"),
        }
    }

    /// Takes what must be refused for its length, with so many looks.
    fn refused(&mut self, head: u16, looks: u32) -> Seen {
        let before = self.queue.stats().too_long.get();
        assert!(matches!(self.queue.pull(&mut self.segments), Pulled::Answered));
        assert_eq!(self.queue.followed(), looks);
        assert_eq!(self.queue.stats().too_long.get(), before + 1);
        let mut data = vec![0; 4096];
        assert!(self.memory.read(DATA, &mut data));
        assert!(data.iter().all(|&byte| byte == UNTOUCHED), "data was written");
        self.seen(head)
    }
}

#[test]
fn a_chain_may_be_as_long_as_the_ring_or_as_what_is_announced() {
    for (size, longest) in [
        (4, 128),
        (64, 128),
        (128, 128),
        (256, 256),
        (1024, 1024),
        (QUEUE_SIZE_MAX, 32768),
    ] {
        let mut guest = Guest::new(size);
        let looks = longest as u32 + 1;
        assert_eq!(chain_descriptors_max(size), looks);
        for kind in [kind::IN, kind::OUT] {
            let head = guest.submit(&guest.chain(longest, kind));
            let data = if kind == kind::IN { 512 } else { 0 };
            assert_eq!(guest.serve(head), (data + 1, 0), "{longest} on {size}");
            assert_eq!(guest.queue.followed(), looks);
            for more in [1, 2, 700] {
                let head = guest.submit(&guest.chain(longest + more, kind));
                assert_eq!(guest.refused(head, looks), (1, 1), "{more} more on {size}");
            }
        }
        let stats = guest.queue.stats();
        assert_eq!((stats.malformed.get(), stats.too_long.get()), (6, 6));
        assert_eq!(stats.followed.get(), 8 * u64::from(looks));
        assert_eq!(stats.taken.get(), stats.returned.get());
    }
}

/// The end of a chain that is too long is found only where its table was filled in order and its end is one.
#[test]
fn the_status_byte_of_too_long_a_chain_is_where_its_table_says() {
    type Change = fn(&mut Vec<Descriptor>);
    let cases: [(&str, Change, bool); 8] = [
        ("in order", |_| {}, true),
        (
            "the last but one ends",
            |table| {
                let at = table.len() - 2;
                table[at].flags &= !NEXT;
            },
            false,
        ),
        (
            "the last but one goes elsewhere",
            |table| {
                let at = table.len() - 2;
                table[at].next -= 1;
            },
            false,
        ),
        (
            "the last goes on",
            |table| table.last_mut().unwrap().flags |= NEXT,
            false,
        ),
        (
            "the last is readable",
            |table| table.last_mut().unwrap().flags = 0,
            false,
        ),
        (
            "the last is empty",
            |table| table.last_mut().unwrap().bytes = 0,
            false,
        ),
        (
            "the last is a table",
            |table| table.last_mut().unwrap().flags |= Descriptor::INDIRECT,
            false,
        ),
        (
            "it was not filled in order",
            |table| {
                table.swap(5, 6);
                table[4].next = 6;
                table[6].next = 5;
                table[5].next = 7;
            },
            false,
        ),
    ];
    for (what, change, is_found) in cases {
        let mut guest = Guest::new(16);
        let mut table = guest.chain(300, kind::OUT);
        change(&mut table);
        let head = guest.submit(&table);
        let seen = guest.refused(head, 129);
        let expected = if is_found { (1, 1) } else { (0, STATUS_NONE) };
        assert_eq!(seen, expected, "{what}");
        assert_eq!(guest.queue.stats().unanswerable.get(), u64::from(!is_found));
    }
}

#[test]
fn a_chain_that_may_not_be_followed_now_comes_first_when_it_may() {
    let mut guest = Guest::new(256);
    let first = guest.submit(&guest.chain(200, kind::IN));
    for may_follow in [0, 1, 17, 200] {
        guest.queue.may_follow(may_follow);
        assert!(matches!(guest.queue.pull(&mut guest.segments), Pulled::Later));
        assert!(guest.segments.is_empty());
        assert_eq!(guest.queue.followed(), may_follow);
        assert_eq!(guest.queue.followed(), 0, "it is told once");
        assert_eq!((guest.queue.backlog(), guest.queue.resubmissions_left()), (1, 1));
        assert!(guest.queue.has_more() && guest.queue.arm());
    }
    assert_eq!(guest.queue.stats().taken.get(), 0);
    guest.queue.may_follow(201);
    assert_eq!(guest.serve(first), (513, 0));
    assert_eq!(guest.queue.followed(), 201);
    assert_eq!(guest.queue.backlog(), 0);
    assert_eq!(guest.queue.stats().followed.get(), 218 + 201);
}

/// What is too long is told as soon as it is known, and no sooner.
#[test]
fn a_chain_that_is_too_long_is_refused_only_when_it_may_be_followed_so_far() {
    let mut guest = Guest::new(16);
    let head = guest.submit(&guest.chain(130, kind::OUT));
    guest.queue.may_follow(128);
    assert!(matches!(guest.queue.pull(&mut guest.segments), Pulled::Later));
    assert_eq!(guest.queue.followed(), 128);
    guest.queue.may_follow(129);
    assert_eq!(guest.refused(head, 129), (1, 1));
}

/// The usual requests cost no more than their slots have places for.
#[test]
fn the_usual_shape_needs_no_leave() {
    let mut guest = Guest::new(256);
    guest.queue.may_follow(0);
    let mut table = guest.chain(128, kind::IN);
    let buffers = table.len() - 1;
    for one in &mut table[1..buffers] {
        one.bytes = 512;
    }
    let head = guest.submit(&table);
    assert_eq!(guest.serve(head), (126 * 512 + 1, 0));
    assert_eq!(guest.queue.followed(), 0);
}

/// A list is asked for before more is followed than that takes.
#[test]
fn a_list_is_lent_and_the_rest_waits_for_its_leave() {
    let mut guest = Guest::new(256);
    let mut table = guest.chain(256, kind::IN);
    for one in &mut table[1..255] {
        one.bytes = 512;
    }
    let head = guest.submit(&table);
    guest.queue.may_follow(164);
    // The descriptor of the table, the header, and 162 buffers, of which the last may be the status byte.
    assert!(matches!(guest.queue.pull(&mut guest.segments), Pulled::NoRoom));
    assert_eq!(guest.queue.followed(), 164);
    guest.segments.lend(LongList::default());
    assert!(matches!(guest.queue.pull(&mut guest.segments), Pulled::Later));
    assert_eq!(guest.queue.followed(), 164);
    guest.queue.may_follow(257);
    assert_eq!(guest.serve(head), (254 * 512 + 1, 0));
    assert_eq!(guest.queue.followed(), 257);
}
