//! How a pinned reactor that waits for its device should spend the time: spinning, yielding, or sleeping briefly in
//! the kernel. Writes 4 KiB at random places of a file and prints operations a second for each way.
//!
//! `cargo run --release -p palisade-sys --example idle -- FILE [seconds] [windows]`

use palisade_block::{Clock, Devices, Io, MappingId, Nanos, Op, Segment, Started};
use palisade_sys::device::{Create, DeviceMedium, DeviceSpec};
use palisade_sys::{
    HugeMemory, LocalDevices, LocalSettings, MemoryRegistration, MonotonicClock, Opened, affinity,
};
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, MemoryId, PinnedId, Sectors, SlotIndex, Uuid};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const FILE_BYTES: u64 = 1 << 30;
const DEVICE: DeviceIndex = DeviceIndex(0);
const MAPPING: MappingId = MappingId::new(Uuid(1), Generation(1), Epoch(1));

#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Spin,
    Yield,
    Nap,
    /// What `LocalDevices::pause` makes of the two.
    Pause,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("the file to write to")?;
    let seconds: f64 = arguments.next().map_or(Ok(1.0), |text| text.parse())?;
    let windows: u32 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let create = Some(Create {
        bytes: FILE_BYTES,
        sparse: false,
    });
    let medium = DeviceMedium::File {
        path: path.into(),
        create,
    };
    let spec = DeviceSpec {
        medium,
        block_bytes: 4096,
        read_only: false,
    };
    let opened = Arc::new(Opened::open(&spec, Duration::from_secs(5))?);
    let cpu = affinity::allowed_cpus()?.last().copied().ok_or("no processor")?;
    affinity::pin_current_thread(cpu)?;
    let mut bench = Bench::new(opened)?;
    let ways = [Way::Spin, Way::Yield, Way::Nap, Way::Pause];
    for hogs in [0, 1] {
        let stop = Arc::new(AtomicBool::new(false));
        let hogs: Vec<_> = (0..hogs).map(|_| hog(cpu, Arc::clone(&stop))).collect();
        for case in [Case::Overwrite, Case::Fresh, Case::Durable] {
            for depth in [1, 32] {
                let mut rates = vec![Vec::new(); ways.len()];
                // The ways take turns, so that what else runs on the machine meets all of them.
                for _ in 0..windows {
                    for (way, rates) in ways.iter().zip(&mut rates) {
                        rates.push(bench.run(case, depth, *way, seconds));
                    }
                }
                for (way, rates) in ways.iter().zip(&mut rates) {
                    rates.sort_by(f64::total_cmp);
                    let (best, median) = (
                        rates.last().unwrap_or(&0.0),
                        rates.get(rates.len() / 2).unwrap_or(&0.0),
                    );
                    let (case, way) = (format!("{case:?}"), format!("{way:?}"));
                    println!(
                        "hogs {} {case:9} qd {depth:2} {way:18} best {best:7.0}/s median {median:7.0}/s",
                        hogs.len()
                    );
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        hogs.into_iter().for_each(|hog| drop(hog.join()));
    }
    Ok(())
}

/// What is written: blocks with data already, blocks allocated but never written (their completion changes the file
/// system, in a worker), or blocks with data that must be stable when the write completes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Case {
    Overwrite,
    Fresh,
    Durable,
}

/// A thread that computes on the reactor's processor, as a guest's does on a shared machine.
fn hog(cpu: usize, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let _ = affinity::pin_current_thread(cpu);
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    })
}

struct Bench {
    devices: LocalDevices,
    kept: MemoryId,
    segments: Vec<Segment>,
    clock: MonotonicClock,
    random: u64,
    case: Option<Case>,
}

impl Bench {
    fn new(opened: Arc<Opened>) -> Result<Bench, Box<dyn Error>> {
        let memory = HugeMemory::new(64 << 20)?;
        let mut devices = LocalDevices::new(LocalSettings::default())?;
        devices.add_device(DEVICE, opened)?;
        devices.add_memory(PinnedId(0), Arc::new(MemoryRegistration::prepare(memory.lease())));
        let kept = devices.keep(memory.lease());
        let place = |slot: usize| memory.segment().part(slot << 20, 1 << 20);
        let segments = (0..32).filter_map(place).collect();
        Ok(Bench {
            devices,
            kept,
            segments,
            clock: MonotonicClock::new(),
            random: 1,
            case: None,
        })
    }

    /// Makes all blocks of the file as the case wants them.
    fn prepare(&mut self, case: Case) {
        if case == Case::Fresh {
            self.start(0, Op::WriteZeroes { unmap: false }, 0, FILE_BYTES, false);
            self.settle();
        } else if self.case == Some(Case::Fresh) || self.case.is_none() {
            for at in (0..FILE_BYTES).step_by(1 << 20) {
                self.start(0, Op::Write, at, 1 << 20, false);
                self.settle();
            }
        }
        self.case = Some(case);
    }

    /// Waits until nothing is in flight.
    fn settle(&mut self) {
        while self.devices.in_flight() > 0 {
            self.devices.submit();
            self.devices.reap(|_, result| assert_eq!(result, Ok(())));
            self.devices.nap();
        }
    }

    fn start(&mut self, slot: u32, op: Op, at: u64, bytes: u64, durable: bool) {
        let segment = self.segments.get(slot as usize);
        let segment = segment.map(|segment| segment.first(bytes as usize));
        let segments = match op.moves_data() {
            true => segment.as_slice(),
            false => &[],
        };
        let started = self.devices.start(Io {
            device: DEVICE,
            slot: SlotIndex(slot),
            mapping: &MAPPING,
            deadline: Nanos(u64::MAX),
            op,
            lba: Lba(at / 512),
            sectors: Sectors::from_bytes(bytes),
            durable,
            alone: false,
            memory: self.kept,
            segments,
        });
        assert_eq!(started, Started::Pending);
    }

    /// Operations a second.
    fn run(&mut self, case: Case, depth: u32, way: Way, seconds: f64) -> f64 {
        self.prepare(case);
        let mut free: Vec<u32> = (0..depth).collect();
        let mut finished = 0u64;
        let start = self.clock.now();
        let mut now = start;
        while now.since(start).0 < (seconds * 1e9) as u64 {
            while let Some(slot) = free.pop() {
                self.random = self
                    .random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let at = (self.random >> 33) % (FILE_BYTES / 4096) * 4096;
                self.start(slot, Op::Write, at, 4096, case == Case::Durable);
            }
            self.devices.submit();
            let got = self.devices.reap(|slot, result| {
                assert_eq!(result, Ok(()));
                free.push(slot.0);
            });
            finished += got as u64;
            match way {
                Way::Yield if got == 0 => affinity::yield_processor(),
                Way::Nap if got == 0 => self.devices.nap(),
                Way::Pause if got == 0 => self.devices.pause(),
                _ => std::hint::spin_loop(),
            }
            now = self.clock.now();
        }
        let elapsed = now.since(start).0 as f64 / 1e9;
        self.settle();
        finished as f64 / elapsed
    }
}
