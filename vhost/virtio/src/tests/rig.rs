//! A guest with memory, a driver and a queue of ours.

use crate::driver::{BlkHeader, Buffer, DriverOptions, DriverQueue, Range, Used};
use crate::{BlkQueue, Features, Notify, QueueSetup, QueueStats};
use palisade_block::{Answer, LongList, Pulled, Request, SegmentList, Source, Status};
use palisade_memory::{Descriptor, GuestMemory, InflightQueue};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Guest addresses from here are free for data.
pub(super) const DATA: u64 = 0x10_0000;
/// A second region begins here, next to the first in the guest but not in this process.
pub(super) const SECOND: u64 = 0x20_0000;
/// The end of all memory.
pub(super) const END: u64 = 0x28_0000;

/// Counts notifications, and how often the ring was said to be broken.
#[derive(Clone, Debug, Default)]
pub(super) struct Bell(Arc<[AtomicUsize; 2]>);

impl Bell {
    pub(super) fn rings(&self) -> usize {
        self.0[0].load(Ordering::Relaxed)
    }

    pub(super) fn breaks(&self) -> usize {
        self.0[1].load(Ordering::Relaxed)
    }
}

impl Notify for Bell {
    fn notify(&mut self) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
    }

    fn broken(&mut self) {
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn all_features() -> Features {
    Features::VERSION_1
        | Features::INDIRECT_DESC
        | Features::EVENT_IDX
        | Features::FLUSH
        | Features::DISCARD
        | Features::WRITE_ZEROES
}

#[derive(Debug)]
pub(super) struct Rig {
    pub(super) memory: Arc<GuestMemory>,
    pub(super) driver: DriverQueue,
    pub(super) queue: BlkQueue<Bell>,
    pub(super) bell: Bell,
    pub(super) segments: SegmentList,
}

impl Rig {
    pub(super) fn new() -> Rig {
        Rig::with(
            DriverOptions {
                size: 16,
                event_idx: true,
                indirect: false,
            },
            |_| {},
        )
    }

    pub(super) fn indirect() -> Rig {
        Rig::with(
            DriverOptions {
                size: 16,
                event_idx: true,
                indirect: true,
            },
            |_| {},
        )
    }

    pub(super) fn with(options: DriverOptions, change: impl FnOnce(&mut QueueSetup)) -> Rig {
        let memory = GuestMemory::anonymous(&[(0, SECOND), (SECOND, END - SECOND)]).unwrap();
        let driver = DriverQueue::new(Arc::clone(&memory), 0x1000, options).unwrap();
        let bell = Bell::default();
        let mut setup = setup(&memory, &driver, None);
        change(&mut setup);
        let queue = BlkQueue::new(setup, bell.clone()).unwrap();
        Rig {
            memory,
            driver,
            queue,
            bell,
            segments: SegmentList::default(),
        }
    }

    /// Pulls once, with a long list if the first one has no room.
    pub(super) fn pull(&mut self) -> Pulled {
        self.segments.take_back();
        match self.queue.pull(&mut self.segments) {
            Pulled::NoRoom => {
                assert!(self.segments.is_empty());
                self.segments.lend(LongList::default());
                self.queue.pull(&mut self.segments)
            }
            pulled => pulled,
        }
    }

    /// Pulls what must be a request for the engine.
    pub(super) fn request(&mut self) -> Request {
        assert!(self.queue.has_more(), "whoever looks first would not pull");
        match self.pull() {
            Pulled::Request(request) => request,
            other => panic!("no request: {other:?}"),
        }
    }

    pub(super) fn answer(&mut self, request: Request, status: Status) {
        self.queue.finish(Answer {
            token: request.token,
            status,
            fault: None,
            dirtied: &[],
        });
        self.queue.publish();
    }

    /// Puts a request into the ring, not published yet; gives its head.
    pub(super) fn submit(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> u16 {
        self.driver.submit(BlkHeader { kind, sector }, data).unwrap()
    }

    /// The same for a request on a range.
    pub(super) fn submit_range(&mut self, kind: u32, sector: u64, sectors: u32, flags: u32) -> u16 {
        let range = Range {
            sector,
            sectors,
            flags,
        };
        self.driver.submit_range(kind, range).unwrap()
    }

    /// Submits one raw chain and lets the queue answer it by itself: the used entry and the status byte.
    pub(super) fn answered_by_itself(&mut self, chain: &[Descriptor]) -> (Used, u8) {
        let head = self.driver.submit_chain(chain).unwrap();
        self.driver.publish();
        self.taken_by_itself(head)
    }

    pub(super) fn taken_by_itself(&mut self, head: u16) -> (Used, u8) {
        let taken = self.stats().taken.get();
        assert!(matches!(self.pull(), Pulled::Answered));
        assert!(self.segments.is_empty());
        assert_eq!(self.stats().taken.get(), taken + 1);
        assert!(matches!(self.pull(), Pulled::Empty));
        self.queue.publish();
        let used = self.driver.poll_used().unwrap();
        assert!(used.expected);
        assert_eq!(used.head, head);
        assert_eq!(self.driver.poll_used(), None);
        (used, self.driver.status(head))
    }

    /// Submits a request that the queue answers by itself.
    pub(super) fn submit_and_see(&mut self, kind: u32, data: &[Buffer]) -> (Used, u8) {
        let head = self.submit(kind, 8, data);
        self.driver.publish();
        self.taken_by_itself(head)
    }

    pub(super) fn stats(&self) -> &QueueStats {
        self.queue.stats()
    }
}

pub(super) fn setup(
    memory: &Arc<GuestMemory>,
    driver: &DriverQueue,
    inflight: Option<InflightQueue>,
) -> QueueSetup {
    let options = driver.options();
    let without = if options.event_idx {
        Features::NONE
    } else {
        Features::EVENT_IDX
    };
    QueueSetup {
        memory: Arc::clone(memory),
        size: options.size,
        ring: driver.addresses(),
        base: 0,
        features: all_features().without(without),
        inflight,
        serial: *b"palisade-volume-7\0\0\0",
        writable: true,
        block_bytes: 512,
        dirty_log: None,
        log_used_at: None,
        stats: Arc::default(),
    }
}

/// A file whose name is gone already, to be mapped more than once.
pub(super) fn shared_file(bytes: u64) -> File {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("palisade-virtio-{}-{number}", std::process::id()));
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    file.set_len(bytes).unwrap();
    file
}

pub(super) fn device_writes(address: u64, bytes: u32) -> Buffer {
    Buffer {
        address,
        bytes,
        write: true,
    }
}

pub(super) fn device_reads(address: u64, bytes: u32) -> Buffer {
    Buffer {
        address,
        bytes,
        write: false,
    }
}
