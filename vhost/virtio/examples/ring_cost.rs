//! What a request costs between the ring and the engine: pull, finish and publish, without any device.
//!
//! ```sh
//! cargo run --release -p palisade-virtio --example ring_cost            # nanoseconds, best and median of 200 windows
//! cargo build --release -p palisade-virtio --example ring_cost
//! valgrind --tool=callgrind --toggle-collect='*serve*' target/release/examples/ring_cost 1000  # instructions
//! ```
//!
//! The ring is written once and offered again and again by moving the available index, so that the driver's side
//! costs next to nothing: 4 KiB reads, queue depth 32, ring of 256, one thread, warm caches.

use palisade_block::{Answer, Pulled, SegmentList, Source, Status, Token};
use palisade_memory::{GuestMemory, InflightRegion};
use palisade_virtio::blk::kind;
use palisade_virtio::driver::{Buffer, DriverOptions, DriverQueue, Header};
use palisade_virtio::{BlkQueue, Features, Notify, QueueSetup};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

const DEPTH: usize = 32;
const SIZE: u16 = 256;
const WINDOW: usize = 1000;

struct Silent;

impl Notify for Silent {
    fn notify(&mut self) {}
}

struct Bench {
    memory: Arc<GuestMemory>,
    queue: BlkQueue<Silent>,
    avail_idx_at: u64,
    avail_idx: u16,
    segments: SegmentList,
    tokens: Vec<Token>,
}

impl Bench {
    fn new(indirect: bool, event_idx: bool, track: bool) -> Result<Bench, Box<dyn Error>> {
        let memory = GuestMemory::anonymous(&[(0, 64 << 20)])?;
        let options = DriverOptions {
            size: SIZE,
            event_idx,
            indirect,
        };
        let mut driver = DriverQueue::new(Arc::clone(&memory), 0, options).ok_or("no room for the ring")?;
        let ring = driver.addresses();
        // Direct chains take three descriptors each: 64 of them fit, and are offered four times a lap.
        let mut heads = Vec::new();
        for chain in 0..64u64 {
            let buffer = Buffer {
                address: (1 << 20) + chain * 4096,
                bytes: 4096,
                write: true,
            };
            heads.push(
                driver
                    .submit(
                        Header {
                            kind: kind::IN,
                            sector: 8 * chain,
                        },
                        &[buffer],
                    )
                    .ok_or("ring full")?,
            );
        }
        for position in 0..SIZE {
            let head = heads.get(usize::from(position) % heads.len()).ok_or("no chain")?;
            memory.store_u16(ring.avail + 4 + 2 * u64::from(position), *head);
        }
        driver.disable_notifications();
        let inflight = if track {
            InflightRegion::create(1, SIZE)?.0.queue(0)
        } else {
            None
        };
        let rings = if event_idx {
            Features::EVENT_IDX
        } else {
            Features::NONE
        };
        let setup = QueueSetup {
            memory: Arc::clone(&memory),
            size: SIZE,
            ring,
            base: 0,
            features: Features::VERSION_1 | Features::INDIRECT_DESC | Features::FLUSH | rings,
            inflight,
            serial: [0; 20],
            writable: true,
            block_bytes: 512,
            dirty_log: None,
            log_used_at: None,
            stats: Arc::default(),
        };
        Ok(Bench {
            queue: BlkQueue::new(setup, Silent)?,
            avail_idx_at: ring.avail + 2,
            avail_idx: 0,
            segments: SegmentList::default(),
            tokens: Vec::with_capacity(DEPTH),
            memory,
        })
    }

    fn windows(&mut self, windows: usize, depth: usize) -> Vec<f64> {
        let mut costs: Vec<f64> = (0..windows)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..WINDOW {
                    self.avail_idx = self.avail_idx.wrapping_add(depth as u16);
                    self.memory.store_u16(self.avail_idx_at, self.avail_idx);
                    serve(&mut self.queue, &mut self.segments, &mut self.tokens);
                }
                start.elapsed().as_nanos() as f64 / (WINDOW * depth) as f64
            })
            .collect();
        costs.sort_by(f64::total_cmp);
        costs
    }
}

/// What a reactor does with a queue in one turn, without the device.
#[inline(never)]
fn serve(queue: &mut BlkQueue<Silent>, segments: &mut SegmentList, tokens: &mut Vec<Token>) {
    while let Pulled::Request(request) = queue.pull(segments) {
        tokens.push(request.token);
    }
    for token in tokens.drain(..) {
        queue.finish(Answer {
            token,
            status: Status::Ok,
            dirtied: &[],
        });
    }
    queue.publish();
}

fn main() -> Result<(), Box<dyn Error>> {
    // Under callgrind: one kind of ring only, as many rounds as said.
    if let Some(rounds) = std::env::args().nth(1) {
        let mut bench = Bench::new(true, true, std::env::args().nth(2).is_some())?;
        for _ in 0..rounds.parse::<usize>()?.div_ceil(WINDOW) {
            bench.windows(1, DEPTH);
        }
        println!("{} requests", bench.queue.stats().returned.get());
        return Ok(());
    }
    for depth in [1, DEPTH] {
        for (indirect, event_idx, track) in [
            (true, true, false),
            (true, true, true),
            (true, false, false),
            (false, true, false),
            (false, true, true),
        ] {
            let mut bench = Bench::new(indirect, event_idx, track)?;
            let costs = bench.windows(200, depth);
            let (best, median) = (
                costs.first().ok_or("no window")?,
                costs.get(100).ok_or("no window")?,
            );
            println!(
                "qd {depth:2}  indirect {indirect:5}  event_idx {event_idx:5}  in-flight region {track:5}  best {best:5.1} ns  median {median:5.1} ns"
            );
            let broken = bench.queue.broken();
            assert!(broken.is_none(), "{broken:?}");
        }
    }
    Ok(())
}
