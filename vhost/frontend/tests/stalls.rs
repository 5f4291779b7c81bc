//! A front-end that punches its guest's memory out from under its requests, again and again: it is known for the one that
//! keeps the reactor waiting, and cut off; its neighbour on the same reactor is not, and goes on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_block::mailbox::{AttachmentSettings, Notice, ReactorChange, ReactorCommand};
use palisade_block::stats::{DeviceStats, ReactorStats};
use palisade_block::{Clock, MappingId, Nanos, Route, Run};
use palisade_engine::{Reactor, ReactorConfig};
use palisade_frontend::codec::request;
use palisade_frontend::{CallNotify, Door, DoorHandle, DoorSettings, Host, SessionReport};
use palisade_memory::{GuestMemory, RegionSpec};
use palisade_sys::device::{Create, DeviceMedium, DeviceSpec};
use palisade_sys::{
    EventFd, HugePool, LocalDevices, LocalSettings, MonotonicClock, Opened, PeerEvent, ThreadStopwatch,
};
use palisade_virtio::BlkQueue;
use palisade_virtio::driver::{BlkHeader, Buffer, DriverOptions, DriverQueue};
use palisade_words::{
    AttachmentIndex, DeviceIndex, Epoch, Generation, Lba, QueueId, Sectors, Uuid, VolumeIndex,
};
use rustix::fs::{FallocateFlags, fallocate};
use stand::client::{Client, region_bytes, words};
use stand::guest::{USER_BASE, memfd};
use stand::{DISK_SECTORS, spec, until};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const ATTACKER: u16 = 1;
const NEIGHBOUR: u16 = 2;

/// Where what the attacker punches lies, behind the region of its ring.
const DATA: u64 = 1 << 30;
/// How long one punch is to take at least: well beyond what a reactor may be kept waiting for at a time.
const PUNCH: Duration = Duration::from_millis(350);
/// So much is punched at least, and at most a quarter of the memory that is free: a GiB takes 50 to 250 ms, depending on the
/// machine.
const DATA_BYTES_MIN: u64 = 3 << 29;
const RING_BYTES: u64 = 1 << 20;

type Queue = BlkQueue<CallNotify>;

/// What the reactor's thread is told.
enum Told {
    Add(QueueId, Box<Queue>),
    Stop(QueueId),
    Leave(QueueId),
    End,
}

/// Hands all queues to one reactor.
struct OneReactor {
    orders: Mutex<Sender<Told>>,
}

impl OneReactor {
    fn tell(&self, told: Told) {
        self.orders.lock().unwrap().send(told).unwrap();
    }
}

impl Host for OneReactor {
    fn connected(&self, _: AttachmentIndex) {}
    fn memory(&self, _: AttachmentIndex, _: Option<Arc<GuestMemory>>) {}
    fn write_through(&self, _: AttachmentIndex, _: bool) {}
    fn start_queue(&self, queue: QueueId, source: Box<Queue>, _: Option<PeerEvent>) {
        self.tell(Told::Add(queue, source));
    }
    fn stop_queue(&self, queue: QueueId) {
        self.tell(Told::Stop(queue));
    }
    fn leave_queue(&self, queue: QueueId) {
        self.tell(Told::Leave(queue));
    }
    fn disconnected(&self, _: AttachmentIndex, _: &str) {}
    fn detached(&self, _: AttachmentIndex) {}
}

/// One device and one volume on it.
fn reactor(medium: DeviceMedium) -> Reactor<Queue, LocalDevices, HugePool> {
    let device = DeviceIndex(0);
    let devices = LocalDevices::new(LocalSettings::default()).unwrap();
    let spec = DeviceSpec {
        medium,
        block_bytes: 512,
        read_only: false,
    };
    let opened = Arc::new(Opened::open(&spec, Duration::ZERO).unwrap());
    let pool = HugePool::new(4).unwrap();
    let mut reactor = Reactor::new(
        ReactorConfig::default(),
        devices,
        pool,
        Arc::new(ReactorStats::default()),
    );
    reactor.apply(ReactorCommand::AddDevice {
        device,
        opened,
        stats: Arc::new(DeviceStats::default()),
        deadline: Nanos::from_secs(30),
    });
    let (generation, sectors) = (Generation(1), Sectors(DISK_SECTORS));
    let run = Run {
        volume: Lba(0),
        sectors,
        device,
        lba: Lba(0),
    };
    reactor.apply(ReactorChange::Resume {
        volume: VolumeIndex(0),
        route: Route::new(MappingId::new(Uuid(1), generation, Epoch(1)), vec![run]).unwrap(),
    });
    // In the daemon they are timed from the first turn on that was suspiciously long.
    reactor.time_steps(Some(Box::new(ThreadStopwatch::new())));
    reactor
}

/// The reactor's loop: it polls, and tells the door of those that keep it waiting.
fn run(medium: DeviceMedium, orders: &Receiver<Told>, door: &DoorHandle) {
    let (mut reactor, clock) = (reactor(medium), MonotonicClock::new());
    loop {
        while let Ok(told) = orders.try_recv() {
            match told {
                Told::Add(queue, source) => reactor.apply(ReactorCommand::AddQueue {
                    kick: None,
                    queue,
                    settings: AttachmentSettings {
                        volume: Some(VolumeIndex(0)),
                        revoked: false,
                        read_only: false,
                        write_through: false,
                        pace: Default::default(),
                        stats: Arc::default(),
                    },
                    source: *source,
                }),
                Told::Stop(queue) => reactor.apply(ReactorCommand::StopQueue { queue }),
                Told::Leave(queue) => reactor.apply(ReactorCommand::LeaveQueue { queue }),
                Told::End => return,
            }
        }
        if reactor.turn(clock.now()) == 0 {
            std::thread::yield_now();
        }
        while let Some(notice) = reactor.next_notice() {
            match notice {
                Notice::QueueStopped { queue, source } => door.queue_stopped(queue, source.map(Box::new)),
                Notice::QueueStalled { queue, held, waited } => {
                    door.stalled(queue.attachment, held.duration(), waited.duration());
                }
                _ => {}
            }
        }
    }
}

/// A guest with its ring in one file and its data in another.
struct Guest {
    data: OwnedFd,
    ring_file: OwnedFd,
    ring: DriverQueue,
    data_bytes: u64,
}

impl Guest {
    fn new(data_bytes: u64) -> Guest {
        let (ring_file, data) = (memfd(RING_BYTES), memfd(data_bytes));
        let memory = GuestMemory::map(vec![RegionSpec {
            guest_address: 0,
            bytes: RING_BYTES,
            user_address: USER_BASE,
            mmap_offset: 0,
            file: ring_file.try_clone().unwrap(),
        }])
        .unwrap();
        let options = DriverOptions {
            size: 64,
            event_idx: false,
            indirect: false,
        };
        let ring = DriverQueue::new(memory, 0, options).unwrap();
        Guest {
            data,
            ring_file,
            ring,
            data_bytes,
        }
    }

    fn connect(&self, path: &Path) -> Client {
        let client = Client::connect(path);
        client.negotiate();
        let region = |guest_address, bytes| palisade_frontend::codec::Region {
            guest_address,
            bytes,
            user_address: USER_BASE + guest_address,
            file_offset: 0,
        };
        let mut payload = words(&[2, 0]);
        payload.extend(region_bytes(region(0, RING_BYTES)));
        payload.extend(region_bytes(region(DATA, self.data_bytes)));
        let files = [&self.ring_file, &self.data];
        assert_eq!(client.order(request::SET_MEM_TABLE, &payload, &files), 0);
        let (kick, call) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        client.set_ring(0, 64, 0, self.ring.addresses(), &kick, &call);
        client
    }

    /// Asks for one read after the other, each into another page of its data, and tells how long each one took, until told
    /// to stop or until one is not answered for long.
    fn read_on(&mut self, over: &AtomicBool, mut took: impl FnMut(Duration)) {
        let mut page = 0;
        while !over.load(Relaxed) {
            page = (page + 7919) % (self.data_bytes / 4096);
            let data = Buffer {
                address: DATA + page * 4096,
                bytes: 4096,
                write: true,
            };
            let header = BlkHeader { kind: 0, sector: 0 };
            let begin = Instant::now();
            self.ring.submit(header, &[data]).unwrap();
            self.ring.publish();
            while self.ring.poll_used().is_none() {
                if over.load(Relaxed) || begin.elapsed() > Duration::from_secs(20) {
                    return;
                }
                std::thread::yield_now();
            }
            took(begin.elapsed());
        }
    }
}

/// Fills so many bytes, and takes all of them away in one call: how long that call took.
fn punch(data: impl AsFd, bytes: u64) -> Duration {
    fallocate(&data, FallocateFlags::empty(), 0, bytes).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let begin = Instant::now();
    fallocate(&data, punch, 0, bytes).unwrap();
    begin.elapsed()
}

/// The same again and again.
fn punch_on(data: impl AsFd, bytes: u64, over: &AtomicBool) {
    while !over.load(Relaxed) {
        punch(&data, bytes);
    }
}

/// How much takes this machine [`PUNCH`] to punch, in whole MiB.
fn bytes_to_punch() -> u64 {
    const PROBE_BYTES: u64 = 512 << 20;
    let probe = memfd(PROBE_BYTES);
    let took = (0..3).map(|_| punch(&probe, PROBE_BYTES)).min().unwrap();
    let bytes = PROBE_BYTES as f64 * PUNCH.as_secs_f64() / took.as_secs_f64();
    let free = std::fs::read_to_string("/proc/meminfo").unwrap();
    let free = free.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let free_kib: u64 = free.unwrap().trim_end_matches("kB").trim().parse().unwrap();
    let most = (free_kib << 10) / 4;
    let bytes = (bytes as u64).min(most).max(DATA_BYTES_MIN) >> 20 << 20;
    println!("{} MiB are punched, as 512 MiB took {took:?}", bytes >> 20);
    bytes
}

/// Ends the threads of an attack, also when a check of it fails.
struct Ending<'a> {
    over: &'a AtomicBool,
    reactor: Sender<Told>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = self.reactor.send(Told::End);
    }
}

/// Attacks a reactor with one disk; what the door reports of the two in the end.
fn attack(medium: DeviceMedium) -> [SessionReport; 2] {
    let (told, orders) = channel();
    let settings = DoorSettings {
        // A punch takes longer than that, and to fill again what it has taken several times as long.
        stalled_max: Duration::from_millis(200),
        ..DoorSettings::default()
    };
    let host = OneReactor {
        orders: Mutex::new(told.clone()),
    };
    let door = Door::open(settings, |_| host).unwrap();
    let handle = door.handle();
    let folder = tempfile::tempdir().unwrap();
    let path = |index: u16| folder.path().join(format!("{index}.sock"));
    for index in [ATTACKER, NEIGHBOUR] {
        handle.attach(spec(index, &path(index))).unwrap();
    }
    let report = |index| handle.report(AttachmentIndex(index)).unwrap();
    let (over, longest) = (AtomicBool::new(false), AtomicU64::new(0));
    let bytes = bytes_to_punch();
    let (mut attacker, mut neighbour) = (Guest::new(bytes), Guest::new(1 << 20));
    let punched = attacker.data.try_clone().unwrap();
    let reports = std::thread::scope(|scope| {
        let for_reactor = handle.clone();
        let reactor = scope.spawn(move || run(medium, &orders, &for_reactor));
        let ending = Ending {
            over: &over,
            reactor: told,
        };
        let (hostile, honest) = (
            attacker.connect(&path(ATTACKER)),
            neighbour.connect(&path(NEIGHBOUR)),
        );
        scope.spawn(|| attacker.read_on(&over, drop));
        scope.spawn(|| punch_on(&punched, bytes, &over));
        scope.spawn(|| {
            neighbour.read_on(&over, |took| {
                longest.fetch_max(took.as_millis() as u64, Relaxed);
            });
        });
        let begin = Instant::now();
        while report(ATTACKER).stalls.cut_off == 0 {
            assert!(
                begin.elapsed() < Duration::from_secs(120),
                "{:?}",
                report(ATTACKER).stalls
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        until("the end of its session", || !report(ATTACKER).connected);
        hostile.wait_for_end();
        let before = longest.swap(0, Relaxed);
        // It goes on punching, and wants to come in again, in vain for now.
        let again = Client::connect(&path(ATTACKER));
        let stalls = report(ATTACKER).stalls;
        std::thread::sleep(Duration::from_secs(2));
        let reports = [report(ATTACKER), report(NEIGHBOUR)];
        let after = longest.load(Relaxed);
        println!(
            "cut off after {:?}, the neighbour's longest wait: {before} ms before, {after} ms after",
            begin.elapsed()
        );
        assert_eq!(
            reports[0].stalls.count, stalls.count,
            "nobody waits for it any more"
        );
        assert!(after > 0 || before > 0);
        // Then it may.
        let until = stalls.held_off_until.unwrap();
        assert!(!reports[0].connected);
        again.ask(request::GET_FEATURES, &[]);
        assert!(Instant::now() >= until, "too early");
        over.store(true, Relaxed);
        drop((hostile, honest, again));
        handle.detach(AttachmentIndex(ATTACKER));
        handle.detach(AttachmentIndex(NEIGHBOUR));
        let gone = |index| handle.report(AttachmentIndex(index)).is_none();
        stand::until("the end of both", || gone(ATTACKER) && gone(NEIGHBOUR));
        drop(ending);
        reactor.join().unwrap();
        reports
    });
    door.shutdown(Duration::from_secs(10)).unwrap();
    reports
}

fn judge(reports: &[SessionReport; 2]) {
    let [attacker, neighbour] = reports;
    let reason = attacker.last_disconnect.as_deref().unwrap();
    assert!(reason.contains("kept a reactor waiting"), "{reason}");
    assert_eq!(attacker.stalls.cut_off, 1);
    assert!(neighbour.connected);
    let blamed = &neighbour.stalls;
    assert!(
        blamed.cut_off == 0 && blamed.longest < Duration::from_millis(100),
        "{blamed:?}"
    );
}

#[test]
fn a_reactor_that_copies_data_by_itself_knows_whom_it_waits_for() {
    let bytes = DISK_SECTORS * 512;
    judge(&attack(DeviceMedium::Memory { bytes }));
}

#[test]
fn so_does_one_whose_data_the_kernel_copies() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let create = Some(Create {
        bytes: DISK_SECTORS * 512,
        sparse: false,
    });
    judge(&attack(DeviceMedium::File {
        path: folder.path().join("disk"),
        create,
    }));
}
