//! The process ends anywhere, the next one goes on from the in-flight region (invariant 1; vhost-user, "Inflight I/O
//! tracking"): every request a guest puts in gets exactly one used entry, and none that was taken is forgotten.

use super::rig::{Bell, DATA, END, SECOND, device_writes, setup};
use crate::blk::kind;
use crate::driver::{BlkHeader, DriverOptions, DriverQueue};
use crate::split::SHOWN_AT_ONCE;
use crate::{BlkQueue, Owed};
use palisade_block::{Answer, Pulled, SegmentList, Source, Status, Token};
use palisade_memory::{GuestMemory, InflightRegion};
use proptest::prelude::*;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const SIZE: u16 = 8;
// Offsets in the region, from the specification.
const LAST_BATCH_HEAD: u64 = 12;
const USED_IDX: u64 = 14;
const fn state_of(head: u16) -> u64 {
    16 + 16 * head as u64
}

/// Where the process ends. The steps between the calls of the interface are carried out on the raw bytes, so that
/// every prefix of the specification's lists of steps is left behind once.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Between two calls.
    Between,
    /// A head's counter has been written, its in-flight flag not yet.
    InBegin,
    /// A used entry has been written, nothing else of its answer.
    AfterUsedEntry,
    /// As well, `next` of the head.
    AfterNext,
    /// As well, `last_batch_head`: as after a `finish` without `publish`, for one more.
    AfterLastBatchHead,
    /// The used index has been stored, nothing behind it.
    AfterUsedIdx,
    /// As well, some in-flight flags of the batch have been cleared, the latest first.
    Clearing(u16),
    /// All flags cleared, `used_idx` of the region not yet written.
    BeforeRegionUsedIdx,
}

#[derive(Clone, Debug)]
enum Step {
    Submit,
    Pull,
    Finish(usize),
    Publish,
    Poll,
    End(End),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        Just(End::Between),
        Just(End::InBegin),
        Just(End::AfterUsedEntry),
        Just(End::AfterNext),
        Just(End::AfterLastBatchHead),
        Just(End::AfterUsedIdx),
        (0..4u16).prop_map(End::Clearing),
        Just(End::BeforeRegionUsedIdx),
    ];
    let step = prop_oneof![
        4 => Just(Step::Submit),
        4 => Just(Step::Pull),
        4 => any::<usize>().prop_map(Step::Finish),
        2 => Just(Step::Publish),
        2 => Just(Step::Poll),
        1 => end.prop_map(Step::End),
    ];
    prop::collection::vec(step, 1..80)
}

struct World {
    memory: Arc<GuestMemory>,
    driver: DriverQueue,
    file: OwnedFd,
    raw: File,
    queue: BlkQueue<Bell>,
    segments: SegmentList,
    /// Taken and not finished, in the order they were taken.
    held: Vec<Token>,
    /// Finished and not published, in order.
    batch: Vec<u16>,
    /// Taken and not seen by the driver as used, in the order they were taken first.
    taken: Vec<u16>,
    /// How many of `taken` the present process has still to hand over again.
    again: usize,
    submitted: usize,
    completed: usize,
}

impl World {
    fn new() -> World {
        let memory = GuestMemory::anonymous(&[(0, SECOND), (SECOND, END - SECOND)]).unwrap();
        let options = DriverOptions {
            size: SIZE,
            event_idx: true,
            indirect: true,
        };
        let driver = DriverQueue::new(Arc::clone(&memory), 0x1000, options).unwrap();
        let (_, file) = InflightRegion::create(1, SIZE).unwrap();
        let raw = File::from(file.try_clone().unwrap());
        let queue = start(&memory, &driver, &file);
        World {
            memory,
            driver,
            file,
            raw,
            queue,
            segments: SegmentList::default(),
            held: Vec::new(),
            batch: Vec::new(),
            taken: Vec::new(),
            again: 0,
            submitted: 0,
            completed: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Submit => {
                let data = [device_writes(DATA, 512)];
                let put = self.driver.submit(
                    BlkHeader {
                        kind: kind::IN,
                        sector: 0,
                    },
                    &data,
                );
                self.submitted += usize::from(put.is_some());
                self.driver.publish();
            }
            Step::Pull => {
                self.pull();
            }
            Step::Finish(which) if !self.held.is_empty() => {
                let token = self.held.remove(which % self.held.len());
                self.finish(token);
            }
            Step::Finish(_) => {}
            Step::Publish => self.publish(),
            Step::Poll => self.poll(),
            Step::End(end) => self.end(*end),
        }
    }

    fn pull(&mut self) -> bool {
        let Pulled::Request(request) = self.queue.pull(&mut self.segments) else {
            return false;
        };
        let head = Owed::of(&request.token).head;
        if self.again > 0 {
            let expected = self.taken[self.taken.len() - self.again];
            assert_eq!(head, expected, "resubmitted in the order they were taken");
            self.again -= 1;
        } else {
            assert!(!self.taken.contains(&head));
            self.taken.push(head);
        }
        self.held.push(request.token);
        true
    }

    /// Answers; a full line of used entries is visible at once.
    fn finish(&mut self, token: Token) {
        self.batch.push(Owed::of(&token).head);
        self.queue.finish(Answer {
            token,
            status: Status::Ok,
            fault: None,
            dirtied: &[],
        });
        if self.batch.len() == usize::from(SHOWN_AT_ONCE) {
            self.visible();
        }
    }

    fn publish(&mut self) {
        self.queue.publish();
        self.visible();
    }

    fn visible(&mut self) {
        self.taken.retain(|head| !self.batch.contains(head));
        self.batch.clear();
    }

    fn poll(&mut self) {
        while let Some(used) = self.driver.poll_used() {
            assert!(used.expected, "answered twice: {}", used.head);
            assert_eq!(used.bytes, 513);
            assert_eq!(self.driver.status(used.head), 0);
            self.completed += 1;
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.raw.write_all_at(bytes, at).unwrap();
    }

    fn read_u16(&self, at: u64) -> u16 {
        let mut bytes = [0; 2];
        self.raw.read_exact_at(&mut bytes, at).unwrap();
        u16::from_ne_bytes(bytes)
    }

    fn end(&mut self, end: End) {
        let used = self.driver.addresses().used;
        let used_idx = self.memory.load_u16(used + 2).unwrap();
        let to_be = used_idx.wrapping_add(self.batch.len() as u16);
        match end {
            End::Between => {}
            End::InBegin => {
                let free = (0..SIZE).find(|head| !self.taken.contains(head));
                if let Some(head) = free {
                    self.write(state_of(head) + 8, &u64::MAX.to_ne_bytes());
                }
            }
            End::AfterUsedEntry | End::AfterNext | End::AfterLastBatchHead => {
                if let Some(token) = self.held.first() {
                    let head = Owed::of(token).head;
                    let entry = u64::from(head) | 513 << 32;
                    let position = u64::from(to_be % SIZE);
                    self.memory.write(used + 4 + 8 * position, &entry.to_le_bytes());
                    if !matches!(end, End::AfterUsedEntry) {
                        let last = self.read_u16(LAST_BATCH_HEAD);
                        self.write(state_of(head) + 6, &last.to_ne_bytes());
                    }
                    if matches!(end, End::AfterLastBatchHead) {
                        self.write(LAST_BATCH_HEAD, &head.to_ne_bytes());
                    }
                }
            }
            End::AfterUsedIdx | End::Clearing(_) | End::BeforeRegionUsedIdx => {
                self.memory.store_u16(used + 2, to_be);
                let cleared = match end {
                    End::Clearing(some) => usize::from(some),
                    End::BeforeRegionUsedIdx => self.batch.len(),
                    _ => 0,
                };
                for &head in self.batch.iter().rev().take(cleared) {
                    self.write(state_of(head), &[0]);
                }
                assert_eq!(self.read_u16(USED_IDX), used_idx);
                self.taken.retain(|head| !self.batch.contains(head));
            }
        }
        // What was finished and not made visible is forgotten with the process, and will be done again.
        self.batch.clear();
        self.held.drain(..).for_each(Token::spend);
        self.queue = start(&self.memory, &self.driver, &self.file);
        self.again = self.taken.len();
        assert_eq!(self.queue.stats().resubmitted.get(), self.again as u64);
        assert_eq!(self.queue.resubmissions_left(), self.again);
        assert_eq!(self.queue.backlog(), self.again);
    }

    fn drain(&mut self) {
        loop {
            while self.pull() {}
            assert_eq!(self.again, 0);
            if self.held.is_empty() && self.batch.is_empty() {
                break;
            }
            for token in std::mem::take(&mut self.held) {
                self.finish(token);
            }
            self.publish();
        }
        self.poll();
        assert_eq!(self.completed, self.submitted);
        assert_eq!(self.driver.in_flight(), 0);
        assert_eq!(self.queue.broken(), None);
    }
}

fn start(memory: &Arc<GuestMemory>, driver: &DriverQueue, file: &OwnedFd) -> BlkQueue<Bell> {
    let bytes = InflightRegion::bytes_for(1, SIZE).unwrap();
    let region = InflightRegion::map(file.try_clone().unwrap(), bytes, 0, 1, SIZE).unwrap();
    let mut setup = setup(memory, driver, region.queue(0));
    // What a front-end says after a crash may be anything; the region knows better.
    setup.base = 0x7777;
    BlkQueue::new(setup, Bell::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered_once_whereever_the_process_ends(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.drain();
    }
}

/// What is not begun of such a queue may be left to the next process.
#[test]
fn a_queue_with_a_region_remembers_what_it_has_taken() {
    let world = World::new();
    assert!(world.queue.remembers());
    let without = setup(&world.memory, &world.driver, None);
    assert!(!BlkQueue::new(without, Bell::default()).unwrap().remembers());
}

#[test]
fn the_guest_is_woken_once_when_a_used_ring_is_taken_over() {
    let mut world = World::new();
    world.step(&Step::Submit);
    world.step(&Step::Pull);
    world.step(&Step::Finish(0));
    world.step(&Step::End(End::AfterUsedIdx));
    // The old process never notified. The new one has nothing to do, and must notify all the same.
    assert_eq!(world.queue.stats().notified.get(), 1);
    world.drain();
}

#[test]
fn many_laps_with_an_end_in_each() {
    let mut world = World::new();
    for lap in 0..20_000usize {
        world.step(&Step::Submit);
        world.step(&Step::Submit);
        world.step(&Step::Pull);
        world.step(&Step::Pull);
        world.step(&Step::Finish(lap));
        if lap % 3 == 0 {
            world.step(&Step::End(End::AfterUsedIdx));
        }
        if lap % 1000 == 0 {
            world.step(&Step::End(End::BeforeRegionUsedIdx));
        }
        world.drain();
    }
    assert_eq!(world.completed, 40_000);
}
