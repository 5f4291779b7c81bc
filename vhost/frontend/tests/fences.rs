//! Nobody sleeps over the other's store, on two processors at once (virtio 1.3, 2.7.7.2, 2.7.10): the device asks for a
//! kick and looks at the available index, while the driver moves the index and looks whether a kick is asked for. One of
//! them sees the other, or a guest waits for ever. The same with the used index and the driver's event index.
//!
//! Each side is a store and a load of another word, and those two an x86 processor does turn round, out of its store
//! buffer: with one processor or one thread at work a missing fence cannot be seen, with two it is, though not in each
//! round. The test fails for no other reason, so that a pass by chance is the only error it can make. That is why it is
//! not beside the queue: `cargo xtask hunt` asks a crate's own tests, and wants the same answer each time;
//! `ci/mutants.toml` takes the fences out for this one.
//!
//! A model checker (loom) would see each order, and of a model: the words of a ring are in the guest's memory, and not of
//! its types.

use palisade_block::{Answer, Pulled, SegmentList, Source, Status};
use palisade_memory::GuestMemory;
use palisade_virtio::blk::kind;
use palisade_virtio::driver::{BlkHeader, DriverOptions, DriverQueue};
use palisade_virtio::{BlkQueue, Features, Notify, QueueSetup};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Each of both ways. Without its fence the device's notification was first missed in rounds 75 to 2475, a kick in rounds
/// 515 to 11910, in five runs each on two processors with twenty threads waiting for them.
const ROUNDS: u32 = 50_000;

#[derive(Debug, Default)]
struct Shared {
    arrived: AtomicU32,
    /// The device saw something, or rang.
    device: AtomicBool,
    /// The driver saw something, or kicked.
    driver: AtomicBool,
}

impl Shared {
    /// Waits for the other side, which comes as often.
    fn meet(&self, times: &mut u32) {
        *times += 1;
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let mut looks = 0u32;
        while self.arrived.load(Ordering::Acquire) < 2 * *times {
            looks += 1;
            match looks.is_multiple_of(1000) {
                true => std::thread::yield_now(),
                false => std::hint::spin_loop(),
            }
        }
    }

    /// Both have done their part: whether neither saw the other.
    fn is_missed(&self) -> bool {
        !self.device.load(Ordering::Relaxed) && !self.driver.load(Ordering::Relaxed)
    }
}

struct Bell(Arc<AtomicBool>);

impl Notify for Bell {
    fn notify(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// So that now the one comes first, now the other.
fn dawdle(round: u32) {
    for _ in 0..round {
        std::hint::spin_loop();
    }
}

fn device(shared: &Shared, queue: &mut BlkQueue<Bell>, rang: &AtomicBool) -> Option<&'static str> {
    let (mut times, mut segments) = (0, SegmentList::default());
    for round in 0..ROUNDS {
        queue.disarm();
        shared.meet(&mut times);
        dawdle(round % 5);
        let saw = queue.arm();
        shared.device.store(saw, Ordering::Relaxed);
        shared.meet(&mut times);
        if shared.is_missed() {
            return Some("the device sleeps, and the driver has not kicked");
        }
        let Pulled::Request(request) = queue.pull(&mut segments) else {
            return Some("there is no request");
        };
        queue.finish(Answer {
            token: request.token,
            status: Status::Ok,
            fault: None,
            dirtied: &[],
        });
        rang.store(false, Ordering::Relaxed);
        shared.meet(&mut times);
        dawdle(round % 5);
        queue.publish();
        shared
            .device
            .store(rang.load(Ordering::Relaxed), Ordering::Relaxed);
        shared.meet(&mut times);
        if shared.is_missed() {
            return Some("the driver sleeps, and the device has not notified");
        }
    }
    None
}

fn driver(shared: &Shared, driver: &mut DriverQueue) -> bool {
    let mut times = 0;
    for round in 0..ROUNDS {
        let header = BlkHeader {
            kind: kind::FLUSH,
            sector: 0,
        };
        let put = driver.submit(header, &[]);
        shared.meet(&mut times);
        dawdle(round / 5 % 5);
        shared.driver.store(driver.publish(), Ordering::Relaxed);
        shared.meet(&mut times);
        if put.is_none() || shared.is_missed() {
            return false;
        }
        driver.disable_notifications();
        shared.meet(&mut times);
        dawdle(round / 5 % 5);
        shared
            .driver
            .store(driver.enable_notifications(), Ordering::Relaxed);
        shared.meet(&mut times);
        if shared.is_missed() {
            return false;
        }
        while driver.poll_used().is_some() {}
    }
    true
}

#[test]
fn neither_side_sleeps_over_the_others_store() {
    for event_idx in [false, true] {
        let memory = GuestMemory::anonymous(&[(0, 0x1_0000)]).unwrap();
        let options = DriverOptions {
            size: 16,
            event_idx,
            indirect: false,
        };
        let mut guest = DriverQueue::new(Arc::clone(&memory), 0, options).unwrap();
        let mut features = Features::VERSION_1 | Features::FLUSH;
        if event_idx {
            features = features | Features::EVENT_IDX;
        }
        let setup = QueueSetup {
            memory,
            size: options.size,
            ring: guest.addresses(),
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
        let rang = Arc::new(AtomicBool::new(false));
        let mut queue = BlkQueue::new(setup, Bell(Arc::clone(&rang))).unwrap();
        let shared = Shared::default();
        let (missed, all) = std::thread::scope(|scope| {
            let driver = scope.spawn(|| driver(&shared, &mut guest));
            (device(&shared, &mut queue, &rang), driver.join().unwrap())
        });
        assert_eq!((missed, all), (None, true), "event_idx {event_idx}");
    }
}
