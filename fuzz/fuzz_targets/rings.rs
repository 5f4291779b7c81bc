//! Any guest memory with the rings in it, and any in-flight region: nothing panics, every chain taken is answered
//! once, and nothing is touched outside what the guest has shared.
//!
//! ```text
//! flags u8, shape u8, base u16, script length u8, in-flight length u8, [ring addresses 3 x u16]
//! script, in-flight region, guest memory from address 0
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_block::limits::{REQUEST_BYTES_MAX, SEGMENTS_LONG_MAX};
use palisade_block::{Answer, LongList, Op, Pulled, Request, SegmentList, Source, Status};
use palisade_fuzz::{Bytes, Fenced};
use palisade_memory::{DirtyLog, GuestMemory, InflightRegion, MemoryView, RegionSpec, RingAddresses};
use palisade_virtio::{BlkQueue, Features, Notify, Owed, QueueSetup, QueueStats};
use palisade_words::SECTOR_BYTES;
use std::sync::Arc;

/// Guest memory: the areas in the file do not begin on a page, and the second follows the first in the guest only.
const MEMORY: [(u64, u64); 2] = [(5120, 0x7c00), (0xb400, 0x4001)];
const INFLIGHT_AT: u64 = 4096 + 1000;
const LOG: (u64, u64) = (100, 1);

const EVENT_IDX: u8 = 1 << 0;
const INDIRECT: u8 = 1 << 1;
const INFLIGHT: u8 = 1 << 2;
const LOGGED: u8 = 1 << 3;
const READ_ONLY: u8 = 1 << 4;
const LARGE_BLOCKS: u8 = 1 << 5;
const ADDRESSES: u8 = 1 << 6;
/// The second region begins at an odd guest address, so that what is aligned there is not aligned here.
const SKEWED: u8 = 1 << 7;

thread_local! {
    static STAGE: Stage = Stage::new();
}

fuzz_target!(|data: &[u8]| STAGE.with(|stage| stage.run(data)));

/// What is made once and filled anew for each input.
struct Stage {
    guest: Fenced,
    straight: Arc<GuestMemory>,
    skewed: Arc<GuestMemory>,
    log_file: Fenced,
    log: Arc<DirtyLog>,
}

struct Silent;

impl Notify for Silent {
    fn notify(&mut self) {}
}

impl Stage {
    fn new() -> Stage {
        let guest = Fenced::new(&MEMORY);
        let map = |skew: u64| {
            let [first, second] = MEMORY;
            let region = |at, (mmap_offset, bytes): (u64, u64)| RegionSpec {
                guest_address: at,
                bytes,
                user_address: at,
                mmap_offset,
                file: guest.fd(),
            };
            let second = region(first.1 + skew, second);
            GuestMemory::map(vec![region(0, first), second]).expect("regions apart")
        };
        let log_file = Fenced::new(&[LOG]);
        let (straight, skewed) = (map(0), map(1));
        Stage {
            guest,
            straight,
            skewed,
            log: DirtyLog::map(log_file.fd(), LOG.1, LOG.0).expect("a log"),
            log_file,
        }
    }

    fn run(&self, data: &[u8]) {
        let mut input = Bytes(data);
        let flags = input.u8();
        let shape = input.u8();
        let base = input.u16();
        let (script, tracked) = (input.u8(), input.u8());
        let size = match shape {
            0..=0xbf => 1 << (shape & 15).min(10),
            _ => u16::from(shape & 0x3f),
        };
        let ring = if flags & ADDRESSES != 0 {
            let mut address = || u64::from(input.u16());
            RingAddresses {
                descriptors: address(),
                avail: address(),
                used: address(),
            }
        } else {
            let avail = 16 * u64::from(size);
            let used = (avail + 6 + 2 * u64::from(size)).next_multiple_of(4);
            RingAddresses {
                descriptors: 0,
                avail,
                used,
            }
        };
        let mut script = Bytes(input.take(script.into()));
        let inflight_bytes = InflightRegion::bytes_for(1, size).unwrap_or(64);
        let tracked = input.take(usize::from(tracked) * 4);
        let inflight = (flags & INFLIGHT != 0).then(|| {
            let file = Fenced::new(&[(INFLIGHT_AT, inflight_bytes)]);
            file.fill(tracked);
            file
        });
        self.guest.fill(input.0);
        self.log_file.fill(&[]);
        let memory = if flags & SKEWED == 0 {
            &self.straight
        } else {
            &self.skewed
        };
        let region = inflight
            .as_ref()
            .and_then(|file| InflightRegion::map(file.fd(), inflight_bytes, INFLIGHT_AT, 1, size).ok());
        let when = |flag: u8, features| {
            if flags & flag != 0 {
                features
            } else {
                Features::NONE
            }
        };
        let setup = |base| QueueSetup {
            memory: Arc::clone(memory),
            size,
            ring,
            base,
            features: when(EVENT_IDX, Features::EVENT_IDX)
                | when(INDIRECT, Features::INDIRECT_DESC)
                | Features::FLUSH
                | Features::DISCARD
                | Features::WRITE_ZEROES,
            inflight: region.as_ref().and_then(|region| region.queue(0)),
            serial: [b's'; 20],
            writable: flags & READ_ONLY == 0,
            block_bytes: if flags & LARGE_BLOCKS == 0 { 512 } else { 4096 },
            dirty_log: (flags & LOGGED != 0).then(|| Arc::clone(&self.log)),
            log_used_at: (flags & LOGGED != 0).then_some(ring.used),
            stats: Arc::new(QueueStats::default()),
        };
        let mut base = base;
        while let Some(mut run) = Run::new(setup(base)) {
            let ended = run.follow(&mut script);
            base = run.queue.next_avail();
            run.end(ended);
            if ended {
                break;
            }
        }
        self.guest.check();
        self.log_file.check();
        inflight.iter().for_each(Fenced::check);
    }
}

/// One life of a queue.
struct Run {
    queue: BlkQueue<Silent>,
    memory: Arc<GuestMemory>,
    view: MemoryView,
    ring: RingAddresses,
    size: u16,
    writable: bool,
    block_bytes: u64,
    used_at_start: u16,
    held: Vec<(Request, SegmentList)>,
    taken: u64,
    returned: u64,
    published: u64,
}

impl Run {
    fn new(setup: QueueSetup) -> Option<Run> {
        let memory = Arc::clone(&setup.memory);
        let (ring, size) = (setup.ring, setup.size);
        let (writable, block_bytes) = (setup.writable, u64::from(setup.block_bytes));
        let queue = BlkQueue::new(setup, Silent).ok()?;
        assert!(queue.resubmissions_left() <= usize::from(size));
        Some(Run {
            queue,
            view: MemoryView::new(Arc::clone(&memory)),
            used_at_start: memory.load_u16(ring.used + 2).expect("a ring inside memory"),
            memory,
            ring,
            size,
            writable,
            block_bytes,
            held: Vec::new(),
            taken: 0,
            returned: 0,
            published: 0,
        })
    }

    /// Follows the script. False when the process is to end in the middle.
    fn follow(&mut self, script: &mut Bytes<'_>) -> bool {
        while !script.is_empty() {
            let step = script.u8();
            let number = step >> 3;
            match step & 7 {
                0 => self.pull(usize::from(number) + 1),
                1 => self.answer(number.into(), Status::Ok),
                2 => self.answer(number.into(), Status::IoErr),
                3 => self.publish(),
                4 => {
                    let at = u64::from(script.u16()) * 2;
                    self.memory.store_u16(at, script.u16());
                }
                5 => {
                    let idx = self
                        .memory
                        .load_u16(self.ring.avail + 2)
                        .expect("a ring inside memory");
                    let to = idx.wrapping_add(number.into()).wrapping_add(1);
                    self.memory.store_u16(self.ring.avail + 2, to);
                }
                6 if number & 1 == 0 => self.queue.disarm(),
                6 => {
                    self.queue.arm();
                }
                _ => return false,
            }
        }
        true
    }

    /// Answers everything, or ends as a killed process does.
    fn end(mut self, ended: bool) {
        if ended {
            self.pull(2 * usize::from(self.size) + 1);
            while !self.held.is_empty() {
                self.answer(self.held.len() - 1, Status::Ok);
            }
            self.publish();
            assert_eq!(self.taken, self.returned, "every chain is answered");
        }
        for (request, _) in self.held {
            request.token.spend();
        }
    }

    fn pull(&mut self, most: usize) {
        let mut segments = SegmentList::default();
        let mut left = most;
        self.queue.may_follow(most as u32);
        loop {
            match self.queue.pull(&mut segments) {
                Pulled::Empty => {
                    assert!(self.queue.broken().is_none() || self.queue.resubmissions_left() == 0);
                    break;
                }
                Pulled::Later => {
                    self.queue.may_follow(u32::MAX);
                    continue;
                }
                Pulled::NoRoom => {
                    assert!(!segments.is_lent(), "a long list holds every chain");
                    segments.lend(LongList::default());
                    continue;
                }
                Pulled::Answered => {
                    self.taken += 1;
                    self.returned += 1;
                }
                Pulled::Request(request) => {
                    self.taken += 1;
                    self.check_request(&request, &segments);
                    self.held.push((request, segments.clone()));
                    assert!(
                        self.held.len() <= 2 * usize::from(self.size),
                        "more than a ring can hold"
                    );
                }
            }
            left -= 1;
            if left == 0 {
                break;
            }
        }
        self.check_counts();
    }

    fn check_request(&self, request: &Request, segments: &SegmentList) {
        let (lease, owed) = (self.memory.lease(), Owed::of(&request.token));
        assert!(lease.segment(owed.reply, 1).is_some());
        assert!(lease.holds_all(segments.as_slice()));
        assert!(segments.len() <= SEGMENTS_LONG_MAX && segments.bytes() <= REQUEST_BYTES_MAX);
        assert!(owed.head < self.size);
        assert!(self.writable || !request.op.changes());
        if request.op.moves_data() {
            let bytes = segments.bytes();
            assert!(bytes > 0 && bytes.is_multiple_of(self.block_bytes));
            assert_eq!(request.sectors.0 * SECTOR_BYTES, bytes);
        } else {
            assert!(segments.is_empty());
            assert_eq!(request.sectors.0 == 0, request.op == Op::Flush);
        }
        let bytes_in = if request.op == Op::Read {
            segments.bytes()
        } else {
            0
        };
        assert_eq!(u64::from(owed.bytes_in), bytes_in);
    }

    fn answer(&mut self, number: usize, status: Status) {
        if self.held.is_empty() {
            return;
        }
        let (request, segments) = self.held.swap_remove(number % self.held.len());
        let dirtied = if request.op == Op::Read {
            segments.as_slice()
        } else {
            &[]
        };
        for segment in dirtied {
            let bytes = segment.bytes().min(16);
            assert!(self.view.write_host(segment.address(), &[0x5a; 16][..bytes]));
            assert!(
                self.view
                    .write_host(segment.address() + segment.bytes() - bytes, &[0x5a; 16][..bytes])
            );
        }
        self.queue.finish(Answer {
            token: request.token,
            status,
            fault: None,
            dirtied,
        });
        self.returned += 1;
        self.check_counts();
    }

    fn publish(&mut self) {
        self.queue.publish();
        if self.published != self.returned {
            self.published = self.returned;
            let used = self.memory.load_u16(self.ring.used + 2);
            assert_eq!(used, Some(self.used_at_start.wrapping_add(self.returned as u16)));
        }
    }

    fn check_counts(&self) {
        let stats = self.queue.stats();
        assert_eq!(
            (stats.taken.get(), stats.returned.get()),
            (self.taken, self.returned)
        );
        assert_eq!(self.taken, self.returned + self.held.len() as u64);
    }
}
