//! Requests as a driver puts them, well-formed and not, against what the standard says of each: the same status, the
//! same length in the used ring, each once.
//!
//! A chain that leads to a table of its own is the exception: any bytes can stand there, and what they name as buffers and
//! status byte may be the ring itself. Nothing is known then of what the driver sees; that each chain is answered once is
//! held against the queue's own counts, and the input ends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_block::limits::{DISCARD_SECTORS_MAX, REQUEST_BYTES_MAX};
use palisade_block::{Answer, LongList, Op, Pulled, Request, SegmentList, Source, Status};
use palisade_fuzz::Bytes;
use palisade_memory::{Descriptor, GuestMemory};
use palisade_virtio::blk::kind;
use palisade_virtio::driver::{
    BlkHeader, Buffer, DriverOptions, DriverQueue, Range, STATUS_NONE, descriptor,
};
use palisade_virtio::{BlkQueue, Features, Notify, Owed, QueueSetup, QueueStats};
use palisade_words::{Lba, SECTOR_BYTES, Sectors};
use std::collections::VecDeque;
use std::sync::Arc;

/// Two regions side by side; ring and slots lie below the buffers.
const REGIONS: [(u64, u64); 2] = [(0, 0x50000), (0x50000, 0x30000)];
const BUFFERS_AT: u64 = 0x40000;
const MEMORY_END: u64 = 0x80000;
const DISK_SECTORS: u64 = 300;
const SERIAL: [u8; 20] = *b"fuzzed-disk\0\0\0\0\0\0\0\0\0";
/// Beyond this many buffers what happens depends on how many cross from one region to the next.
const BUFFERS_KNOWN_MAX: usize = 100;

// Made anew for each, so that what an input does does not depend on the ones before it.
fuzz_target!(|data: &[u8]| run(&GuestMemory::anonymous(&REGIONS).expect("memory"), data));

struct Silent;

impl Notify for Silent {
    fn notify(&mut self) {}
}

/// What must come of a chain.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Expect {
    /// It is answered here.
    Status { status: Status, bytes: u32 },
    /// It is handed over.
    Request {
        op: Op,
        lba: Lba,
        sectors: Sectors,
        bytes_in: u32,
    },
    /// One of both, and one used entry.
    Any,
}

const IOERR: Expect = Expect::Status {
    status: Status::IoErr,
    bytes: 1,
};
const UNSUPP: Expect = Expect::Status {
    status: Status::Unsupp,
    bytes: 1,
};

struct Rig {
    driver: DriverQueue,
    queue: BlkQueue<Silent>,
    features: Features,
    writable: bool,
    block_bytes: u64,
    waiting: VecDeque<(u16, Expect)>,
    /// A chain among them leads to a table whose content is not the driver's.
    has_foreign_table: bool,
}

fn run(memory: &Arc<GuestMemory>, data: &[u8]) {
    let mut input = Bytes(data);
    let flags = input.u8();
    let has = |bit: u8| flags >> bit & 1 == 1;
    let options = DriverOptions {
        size: 4 << (input.u8() % 5),
        event_idx: has(0),
        indirect: has(1),
    };
    let driver = DriverQueue::new(Arc::clone(memory), 0, options).expect("there is room");
    assert!(options.bytes() <= BUFFERS_AT);
    let when = |bit, features| if has(bit) { features } else { Features::NONE };
    let features = when(0, Features::EVENT_IDX)
        | when(1, Features::INDIRECT_DESC)
        | when(2, Features::FLUSH)
        | when(3, Features::DISCARD)
        | when(4, Features::WRITE_ZEROES);
    let (writable, block_bytes) = (!has(5), if has(6) { 4096 } else { 512 });
    let setup = QueueSetup {
        memory: Arc::clone(memory),
        size: options.size,
        ring: driver.addresses(),
        base: 0,
        features,
        inflight: None,
        serial: SERIAL,
        writable,
        block_bytes,
        dirty_log: None,
        log_used_at: None,
        stats: Arc::new(QueueStats::default()),
    };
    let queue = BlkQueue::new(setup, Silent).expect("a sound ring");
    let block_bytes = block_bytes.into();
    let mut rig = Rig {
        driver,
        queue,
        features,
        writable,
        block_bytes,
        waiting: VecDeque::new(),
        has_foreign_table: false,
    };
    let content = usize::from(input.u8());
    let content = input.take(content);
    memory.write(BUFFERS_AT, content);
    while !input.is_empty() {
        let step = input.u8();
        let order = if rig.driver.next_head().is_none() {
            Some(step)
        } else {
            rig.submit(step, &mut input);
            (step & 0x80 != 0).then(|| input.u8())
        };
        if let Some(order) = order {
            if rig.has_foreign_table {
                return rig.serve_unseen();
            }
            rig.serve(order);
        }
    }
    if rig.has_foreign_table {
        return rig.serve_unseen();
    }
    rig.serve(0);
    assert_eq!(rig.driver.in_flight(), 0, "every chain came back");
}

impl Rig {
    fn submit(&mut self, step: u8, input: &mut Bytes<'_>) {
        let (submitted, expect) = match step & 7 {
            what @ (0..=3 | 6) => {
                let kind = match what {
                    0 => kind::IN,
                    1 => kind::OUT,
                    2 => kind::FLUSH,
                    3 => kind::GET_ID,
                    _ => input.u32(),
                };
                let header = BlkHeader {
                    kind,
                    sector: sector(input),
                };
                let buffers = buffers(input);
                let expect = self.expect(header, &buffers);
                (self.driver.submit(header, &buffers), expect)
            }
            what @ (4 | 5) => {
                let kind = if what == 4 {
                    kind::DISCARD
                } else {
                    kind::WRITE_ZEROES
                };
                let range = Range {
                    sector: sector(input),
                    sectors: input.pick(&[
                        0,
                        1,
                        8,
                        300,
                        DISCARD_SECTORS_MAX,
                        DISCARD_SECTORS_MAX + 1,
                        u32::MAX,
                    ]),
                    flags: input.pick(&[0, 1, 2, 3, 1 << 31, u32::MAX]),
                };
                (
                    self.driver.submit_range(kind, range),
                    self.expect_range(kind, range),
                )
            }
            _ => {
                let chain = chain(input);
                let submitted = self.driver.submit_chain(&chain);
                self.has_foreign_table |= submitted.is_some() && chain.iter().any(leads_to_table);
                (submitted, Expect::Any)
            }
        };
        if let Some(head) = submitted {
            self.waiting.push_back((head, expect));
        }
    }

    /// What virtio 1.3, 5.2.6 says of a request with these buffers between header and status.
    fn expect(&self, header: BlkHeader, buffers: &[Buffer]) -> Expect {
        if buffers.len() > BUFFERS_KNOWN_MAX || buffers.iter().any(|buffer| buffer.bytes == 0) {
            return Expect::Any;
        }
        let inside = |buffer: &Buffer| buffer.address + u64::from(buffer.bytes) <= MEMORY_END;
        let written = buffers.iter().filter(|buffer| buffer.write).count();
        let ordered = buffers.is_sorted_by_key(|buffer| buffer.write);
        if !ordered || !buffers.iter().all(inside) {
            return IOERR;
        }
        let bytes: u64 = buffers.iter().map(|buffer| u64::from(buffer.bytes)).sum();
        let whole = bytes > 0 && bytes.is_multiple_of(self.block_bytes) && bytes <= REQUEST_BYTES_MAX;
        let (lba, sectors) = (Lba(header.sector), Sectors(bytes / SECTOR_BYTES));
        let request = |op, bytes_in| Expect::Request {
            op,
            lba,
            sectors,
            bytes_in,
        };
        match header.kind {
            kind::IN if written == buffers.len() && whole => request(Op::Read, bytes as u32),
            kind::OUT if written == 0 && self.writable && whole => request(Op::Write, 0),
            kind::IN | kind::OUT => IOERR,
            kind::FLUSH if self.features.contains(Features::FLUSH) => Expect::Request {
                op: Op::Flush,
                lba: Lba(0),
                sectors: Sectors::ZERO,
                bytes_in: 0,
            },
            kind::GET_ID if written == buffers.len() && written > 0 => Expect::Status {
                status: Status::Ok,
                bytes: bytes.min(20) as u32 + 1,
            },
            kind::GET_ID => IOERR,
            // The buffers are then ranges of unknown content.
            kind::DISCARD | kind::WRITE_ZEROES => Expect::Any,
            _ => UNSUPP,
        }
    }

    fn expect_range(&self, kind: u32, range: Range) -> Expect {
        let (feature, op) = match kind {
            kind::DISCARD => (Features::DISCARD, Op::Discard),
            _ => (
                Features::WRITE_ZEROES,
                Op::WriteZeroes {
                    unmap: range.flags == 1,
                },
            ),
        };
        if !self.features.contains(feature) {
            return UNSUPP;
        }
        if !self.writable {
            return IOERR;
        }
        if range.flags > 1 {
            return UNSUPP;
        }
        if range.sectors == 0 || range.sectors > DISCARD_SECTORS_MAX {
            return IOERR;
        }
        if op == Op::Discard && range.flags == 1 {
            return UNSUPP;
        }
        let (lba, sectors) = (Lba(range.sector), Sectors(range.sectors.into()));
        Expect::Request {
            op,
            lba,
            sectors,
            bytes_in: 0,
        }
    }

    /// Serves everything submitted; `order` says which of the requests in hand is answered next.
    fn serve(&mut self, order: u8) {
        self.driver.publish();
        let mut segments = SegmentList::default();
        let mut expected = vec![None; self.driver.options().size.into()];
        let mut held = Vec::new();
        loop {
            let pulled = self.queue.pull(&mut segments);
            if matches!(pulled, Pulled::Empty) {
                break;
            }
            if matches!(pulled, Pulled::NoRoom) {
                segments.lend(LongList::default());
                continue;
            }
            let (head, expect) = self.waiting.pop_front().expect("nothing is taken twice");
            let answer = match (pulled, expect) {
                (Pulled::Answered, Expect::Status { status, bytes }) => Some((status, bytes)),
                (Pulled::Answered, Expect::Any) => None,
                (Pulled::Request(request), expect) => {
                    assert_eq!(Owed::of(&request.token).head, head);
                    self.check_request(&request, expect);
                    let status = status_of(&request);
                    let bytes = if status == Status::Ok {
                        Owed::of(&request.token).bytes_in + 1
                    } else {
                        1
                    };
                    held.push((request, status));
                    (expect != Expect::Any).then_some((status, bytes))
                }
                (pulled, expect) => panic!("{pulled:?} instead of {expect:?}"),
            };
            expected[usize::from(head)] = Some(answer);
        }
        while !held.is_empty() {
            let (request, status) = held.swap_remove(usize::from(order) % held.len());
            self.queue.finish(Answer {
                token: request.token,
                status,
                fault: None,
                dirtied: &[],
            });
        }
        self.queue.publish();
        while let Some(used) = self.driver.poll_used() {
            assert!(used.expected, "{} was not in flight", used.head);
            let answer = expected[usize::from(used.head)].take().expect("answered once");
            if let Some((status, bytes)) = answer {
                assert_eq!((self.driver.status(used.head), used.bytes), (status as u8, bytes));
                assert_ne!(status as u8, STATUS_NONE);
            }
        }
        assert_eq!(
            self.queue.broken(),
            None,
            "a driver that keeps to the ring's rules"
        );
        assert!(self.waiting.is_empty(), "not taken: {:?}", self.waiting);
        let left: Vec<_> = (0..expected.len())
            .filter(|head| expected[*head].is_some())
            .collect();
        assert!(left.is_empty(), "not answered: {left:?}");
    }

    /// Serves everything submitted where what is written may be the ring.
    fn serve_unseen(&mut self) {
        self.driver.publish();
        let mut segments = SegmentList::default();
        let mut held = Vec::new();
        // A status byte in the available index can make chains of old entries.
        for _ in 0..4 * self.driver.options().size {
            match self.queue.pull(&mut segments) {
                Pulled::Empty => break,
                Pulled::NoRoom => segments.lend(LongList::default()),
                Pulled::Later => panic!("nothing bounds how far a chain is followed"),
                Pulled::Answered => {}
                Pulled::Request(request) => {
                    self.check_request(&request, Expect::Any);
                    held.push(request);
                }
            }
        }
        for request in held {
            let status = status_of(&request);
            self.queue.finish(Answer {
                token: request.token,
                status,
                fault: None,
                dirtied: &[],
            });
        }
        self.queue.publish();
        let stats = self.queue.stats();
        assert_eq!(stats.taken.get(), stats.returned.get(), "each is answered once");
    }

    fn check_request(&self, request: &Request, expect: Expect) {
        let Request { op, lba, sectors, .. } = *request;
        let bytes_in = Owed::of(&request.token).bytes_in;
        match expect {
            Expect::Any => assert!(self.writable || !op.changes()),
            expect => assert_eq!(
                Expect::Request {
                    op,
                    lba,
                    sectors,
                    bytes_in
                },
                expect
            ),
        }
    }
}

/// Whether the queue looks for a table behind a descriptor, negotiated or not.
fn leads_to_table(descriptor: &Descriptor) -> bool {
    descriptor.flags & Descriptor::INDIRECT != 0
}

/// What the disk says.
fn status_of(request: &Request) -> Status {
    match request.lba.checked_add(request.sectors) {
        Some(end) if end.0 <= DISK_SECTORS => Status::Ok,
        _ => Status::IoErr,
    }
}

fn sector(input: &mut Bytes<'_>) -> u64 {
    match input.u8() {
        255 => input.u64(),
        254 => u64::MAX,
        253 => DISK_SECTORS,
        low => low.into(),
    }
}

fn buffers(input: &mut Bytes<'_>) -> Vec<Buffer> {
    let count = input.u8();
    let count = if count < 0xf0 { count & 7 } else { count - 0x80 };
    (0..count)
        .map_while(|_| (!input.is_empty()).then(|| buffer(input)))
        .collect()
}

fn buffer(input: &mut Bytes<'_>) -> Buffer {
    let place = input.u16();
    Buffer {
        // Every third beyond the end or close to it.
        address: BUFFERS_AT + u64::from(place >> 1) * 16,
        bytes: bytes(input),
        write: place & 1 == 1,
    }
}

fn bytes(input: &mut Bytes<'_>) -> u32 {
    match input.u8() {
        255 => input.u32(),
        choice => [0, 1, 15, 16, 17, 511, 512, 513, 1024, 4096, 65536, 1 << 20][usize::from(choice) % 12],
    }
}

/// A chain that need not have header, data and status where a driver puts them.
fn chain(input: &mut Bytes<'_>) -> Vec<Descriptor> {
    let count = input.u8() & 15;
    let mut chain = Vec::new();
    for _ in 0..count {
        let address = match input.u8() {
            255 => input.u64().max(BUFFERS_AT),
            place => BUFFERS_AT + u64::from(place) * 4,
        };
        let flags = input.pick(&[
            0,
            Descriptor::WRITE,
            Descriptor::INDIRECT,
            0xffff,
            0,
            Descriptor::WRITE,
        ]);
        chain.push(descriptor(address, bytes(input), flags));
    }
    chain
}
