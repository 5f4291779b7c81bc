//! One reactor of the product on the calling thread, with real rings in guest memory and a null device, and a guest
//! that costs next to nothing: its ring is written once and offered again and again by moving the available index. What
//! is measured is the reactor's own cost, with warm caches and no other core in it.
//!
//! One turn here is what the daemon's loop does, without looking into its mailbox: read the clock, take the turn, look
//! for notices, ask whether to sleep.

use crate::Failure;
use palisade_block::limits::PULL_BATCH;
use palisade_block::mailbox::{AttachmentSettings, Command, Pace};
use palisade_block::stats::ReactorStats;
use palisade_block::{Clock, Nanos, Route, Run};
use palisade_engine::{Idle, IdlePolicy, Reactor, ReactorConfig};
use palisade_memory::{GuestMemory, InflightRegion};
use palisade_sys::{DeviceSpec, HugePool, LocalDevices, LocalSettings, Medium, MonotonicClock, Opened};
use palisade_virtio::BlkQueue;
use palisade_virtio::blk::kind;
use palisade_virtio::driver::repeated::{RepeatedRing, Silent};
use palisade_virtio::driver::{Buffer, DriverOptions, Header};
use palisade_words::{AttachmentIndex, DeviceIndex, Epoch, Generation, Lba, QueueId, Sectors, VolumeIndex};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Entries of a ring, and requests that can be offered at once.
pub const RING: u16 = 256;

const DEVICE: DeviceIndex = DeviceIndex(0);
const GENERATION: Generation = Generation(1);
const DEVICE_BYTES: u64 = 1 << 40;
const VOLUME_SECTORS: Sectors = Sectors(1 << 21);
/// Guest memory of one queue: the ring with its indirect tables below, data above.
const QUEUE_BYTES: u64 = 2 << 20;
const DATA_AT: u64 = 1 << 20;
const DATA_PAGES: u64 = 64;

/// A guest with some queues.
#[derive(Debug)]
pub struct Guest {
    memory: Arc<GuestMemory>,
    inflight: InflightRegion,
    number: u16,
    /// How fast its attachment may go; shared by all reactors that serve it.
    pub pace: Pace,
}

impl Guest {
    /// A guest whose attachment and volume have this number.
    pub fn new(number: u16, queues: u16) -> Result<Guest, Failure> {
        let memory = GuestMemory::anonymous(&[(0, u64::from(queues) * QUEUE_BYTES)])
            .map_err(|error| failed(&error.to_string()))?;
        let (inflight, _) =
            InflightRegion::create(queues, RING).map_err(|error| failed(&error.to_string()))?;
        Ok(Guest {
            memory,
            inflight,
            number,
            pace: Pace::default(),
        })
    }

    /// The same with a limit on requests a second.
    pub fn limited(mut self, iops: u64) -> Guest {
        self.pace.iops = iops;
        self.pace.burst = Nanos::from_millis(100);
        self
    }

    /// A queue with all that belongs to it. To be made on the thread that makes those of other reactors, too, as in the
    /// daemon: counters that lie side by side in memory are what reactors may share unawares.
    pub fn queue(&self, queue: u16) -> Result<Prepared, Failure> {
        let run = Run {
            volume: Lba(0),
            sectors: VOLUME_SECTORS,
            device: DEVICE,
            lba: Lba(u64::from(self.number) * VOLUME_SECTORS.0),
        };
        let route = Route::new(GENERATION, Epoch::default(), vec![run])
            .map_err(|error| failed(&error.to_string()))?;
        let volume = VolumeIndex(self.number);
        let ring = self.ring(queue)?;
        let source = ring.serve(self.inflight.queue(queue));
        let source = source.map_err(|error| failed(&error.to_string()))?;
        Ok(Prepared {
            id: QueueId {
                attachment: AttachmentIndex(self.number),
                queue,
            },
            settings: AttachmentSettings {
                volume,
                revoked: false,
                read_only: false,
                write_through: false,
                pace: self.pace.clone(),
                stats: Arc::default(),
            },
            route,
            source,
            ring,
        })
    }

    /// Writes a ring with 4 KiB reads in all its places, none of them offered yet.
    fn ring(&self, queue: u16) -> Result<RepeatedRing, Failure> {
        let base = u64::from(queue) * QUEUE_BYTES;
        let options = DriverOptions {
            size: RING,
            event_idx: true,
            indirect: true,
        };
        let requests = (0..u64::from(RING)).map(|chain| {
            let header = Header {
                kind: kind::IN,
                sector: 8 * chain,
            };
            let buffer = Buffer {
                address: base + DATA_AT + chain % DATA_PAGES * 4096,
                bytes: 4096,
                write: true,
            };
            (header, buffer)
        });
        RepeatedRing::new(Arc::clone(&self.memory), base, options, requests)
            .ok_or_else(|| failed("a ring does not fit"))
    }
}

/// A queue that can be given to a reactor.
#[derive(Debug)]
pub struct Prepared {
    id: QueueId,
    settings: AttachmentSettings,
    route: Route,
    source: BlkQueue<Silent>,
    ring: RepeatedRing,
}

/// The null device that all reactors share.
pub fn null_device() -> Result<Arc<Opened>, Failure> {
    let spec = DeviceSpec {
        medium: Medium::Null { bytes: DEVICE_BYTES },
        block_bytes: 512,
        read_only: false,
    };
    let opened = Opened::open(&spec, Duration::ZERO).map_err(|error| failed(&error.to_string()))?;
    Ok(Arc::new(opened))
}

/// What some rounds cost.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// Nanoseconds for each request.
    pub request_ns: f64,
    /// Nanoseconds for each turn.
    pub turn_ns: f64,
}

/// A reactor with guests.
pub struct Workbench {
    reactor: Reactor<BlkQueue<Silent>, LocalDevices, HugePool>,
    clock: MonotonicClock,
    idle: Idle,
    rings: Vec<RepeatedRing>,
    /// How many of the guests, from the first, are busy in each round, and how many requests each then offers.
    pub busy: (usize, u16),
}

impl Workbench {
    /// A reactor that serves these queues. To be made on the thread that uses it.
    pub fn new(
        queues: Vec<Prepared>,
        stats: Arc<ReactorStats>,
        device: &Arc<Opened>,
    ) -> Result<Workbench, Failure> {
        let config = ReactorConfig::default();
        let slots = config.slots + config.parts;
        let settings = LocalSettings {
            slots,
            in_flight_max: slots,
            ..LocalSettings::default()
        };
        let mut devices = LocalDevices::new(settings).map_err(Failure::system("make an io_uring"))?;
        devices
            .add_device(DEVICE, Arc::clone(device))
            .map_err(Failure::system("use a device"))?;
        let pool = HugePool::new(2).map_err(Failure::system("make a buffer pool"))?;
        let clock = MonotonicClock::new();
        let mut bench = Workbench {
            reactor: Reactor::new(config, devices, pool, stats),
            idle: Idle::new(
                IdlePolicy::Adaptive {
                    after: Nanos::from_micros(50),
                },
                clock.now(),
            ),
            clock,
            rings: Vec::new(),
            busy: (1, 1),
        };
        bench.reactor.apply(Command::AddDevice {
            device: DEVICE,
            stats: Arc::default(),
            deadline: Nanos::from_secs(30),
        });
        for queue in queues {
            bench.add(queue);
        }
        Ok(bench)
    }

    fn add(&mut self, queue: Prepared) {
        let Prepared {
            id,
            settings,
            route,
            source,
            ring,
        } = queue;
        self.reactor.apply(Command::SetRoute {
            volume: settings.volume,
            route: Some(route),
            generation: GENERATION,
        });
        self.reactor.apply(Command::AddQueue {
            queue: id,
            settings,
            source,
        });
        self.rings.push(ring);
    }

    /// The busy guests offer their requests and the reactor takes turns until all are answered; so many rounds.
    #[inline(never)]
    pub fn rounds(&mut self, rounds: u32) -> Result<Cost, Failure> {
        let (guests, depth) = self.busy;
        let wanted = guests * usize::from(depth);
        let turns_max = wanted.div_ceil(PULL_BATCH) + 64;
        let (mut turns, begin) = (0u64, Instant::now());
        for _ in 0..rounds {
            for ring in self.rings.iter_mut().take(guests) {
                ring.offer(depth);
            }
            let (mut done, mut here) = (0, 0);
            while done < wanted && here < turns_max {
                done += self.turn();
                here += 1;
            }
            turns += here as u64;
        }
        let ns = begin.elapsed().as_nanos() as f64;
        if !self.rings.iter().take(guests).all(RepeatedRing::all_answered) {
            return Err(failed("requests were not answered"));
        }
        Ok(Cost {
            request_ns: ns / (f64::from(rounds) * wanted as f64),
            turn_ns: ns / turns as f64,
        })
    }

    /// What going to sleep and waking up costs beside the kernel's part: all queues armed and asked when something is
    /// due; and disarmed, if they are polled in between. Nanoseconds.
    #[inline(never)]
    pub fn sleep_and_wake(&mut self, rounds: u32, polled: bool) -> Result<f64, Failure> {
        let begin = Instant::now();
        for _ in 0..rounds {
            let work = self.reactor.arm();
            let due = self.reactor.due();
            if polled {
                self.reactor.disarm();
            }
            if work || due.is_some() {
                return Err(failed("there is work where there should be none"));
            }
        }
        Ok(begin.elapsed().as_nanos() as f64 / f64::from(rounds))
    }

    #[inline]
    fn turn(&mut self) -> usize {
        let now = self.clock.now();
        let work = self.reactor.turn(now);
        while self.reactor.next_notice().is_some() {}
        self.idle.after_turn(work, self.reactor.in_flight() > 0, now);
        work
    }
}

fn failed(problem: &str) -> Failure {
    Failure::Target {
        target: "workbench".into(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_offered_is_answered_by_as_many_turns_as_it_takes() {
        let queues = (0..3)
            .map(|number| Guest::new(number, 1).unwrap().queue(0).unwrap())
            .collect();
        let mut bench = Workbench::new(queues, Arc::default(), &null_device().unwrap()).unwrap();
        for (busy, requests_a_turn) in [((1, 1), 1.0), ((1, 128), 32.0), ((3, 32), 96.0), ((2, 64), 64.0)] {
            bench.busy = busy;
            // Often enough for indices to come round.
            let cost = bench.rounds(1500).unwrap();
            let found = cost.turn_ns / cost.request_ns;
            assert!((found - requests_a_turn).abs() < 0.01, "{busy:?}: {found}");
        }
        for polled in [false, true] {
            assert!(bench.sleep_and_wake(10, polled).unwrap() > 0.0);
        }
    }

    #[test]
    fn a_limit_holds_requests_back() {
        let queue = Guest::new(0, 1).unwrap().limited(10).queue(0).unwrap();
        let mut bench = Workbench::new(vec![queue], Arc::default(), &null_device().unwrap()).unwrap();
        bench.busy = (1, 32);
        assert!(
            bench.rounds(10).is_err(),
            "ten a second and a tenth of a second's burst"
        );
    }
}
