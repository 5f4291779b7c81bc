//! The device without anything above it: the limit. A plain program on `palisade_sys::LocalDevices`, which is one
//! io_uring with registered file and memory, or the copies to and from a disk in memory; no ring of a guest, no engine,
//! no socket. It runs on the core where the targets run, one at a time.

use crate::Failure;
use crate::pages::Pages;
use crate::row::{Row, Work};
use crate::window::Window;
use fastrand::Rng;
use palisade_block::{Clock, Devices, Io, MappingId, Nanos, Op, Segment, Started};
use palisade_sys::device::Create;
use palisade_sys::{
    DeviceMedium, DeviceSpec, LocalDevices, LocalSettings, MemoryRegistration, MonotonicClock, Opened,
    affinity,
};
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, MemoryId, PinnedId, Sectors, SlotIndex, Uuid};
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How it waits for completions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// It never does.
    Spin,
    /// As the reactor does, by [`palisade_sys::LocalDevices::pause`].
    Pause,
}

/// A file, or a disk in memory, to be measured without a target.
#[derive(Clone, Debug)]
pub struct Bare {
    opened: Arc<Opened>,
    core: usize,
    wait: Wait,
}

const DEVICE: DeviceIndex = DeviceIndex(0);
const MAPPING: MappingId = MappingId::new(Uuid(1), Generation(1), Epoch(1));
const MEMORY: PinnedId = PinnedId(0);

impl Bare {
    /// Makes a disk of so many bytes: this file, or one in memory.
    pub fn open(file: Option<&Path>, bytes: u64, core: usize, wait: Wait) -> Result<Bare, Failure> {
        let medium = match file {
            None => DeviceMedium::Memory { bytes },
            Some(path) => DeviceMedium::File {
                path: path.to_owned(),
                create: Some(Create { bytes, sparse: false }),
            },
        };
        let spec = DeviceSpec {
            medium,
            block_bytes: 512,
            read_only: false,
        };
        let opened = Opened::open(&spec, Duration::from_secs(5)).map_err(failed)?;
        if file.is_some() && opened.buffered() {
            return Err(failed("the file system refuses O_DIRECT"));
        }
        Ok(Bare {
            opened: Arc::new(opened),
            core,
            wait,
        })
    }

    /// Writes every block once.
    pub fn fill(&self) -> Result<(), Failure> {
        let end = self.opened.sectors().0;
        let row = Row {
            medium: crate::row::Medium::File,
            work: Work::Write,
            bytes: crate::row::LARGE_BYTES,
            depth: crate::row::LARGE_DEPTH,
        };
        let (mut next, sectors_each) = (0, u64::from(row.bytes) / 512);
        self.on_core(row, move |_| {
            let sector = next;
            next += sectors_each;
            (next <= end).then_some(sector)
        })?;
        Ok(())
    }

    /// Runs random requests of a row for `length`; also the processor time that took.
    pub fn random_requests(&self, row: Row, length: Duration, seed: u64) -> Result<(Window, Nanos), Failure> {
        let sectors_each = u64::from(row.bytes) / 512;
        let blocks = self.opened.sectors().0 / sectors_each;
        let mut random = Rng::with_seed(seed);
        self.on_core(row, move |elapsed| {
            (elapsed < length.as_nanos() as u64).then(|| random.u64(..blocks) * sectors_each)
        })
    }

    /// The ring must be made and used on one thread; that thread is pinned and ends with the window. Meanwhile this
    /// thread polls for its end, as a client polls for answers: on a virtual machine a processor that is idle is the
    /// host's to use, and what emulates the disk there is faster for it. At depth 1 that made a quarter.
    fn on_core(
        &self,
        row: Row,
        next: impl FnMut(u64) -> Option<u64> + Send,
    ) -> Result<(Window, Nanos), Failure> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                affinity::pin_current_thread(self.core).map_err(Failure::system("pin a thread"))?;
                let work = Loop::new(self, row)?;
                let before = processor_time();
                Ok((work.run(next)?, processor_time().since(before)))
            });
            while !thread.is_finished() {
                std::hint::spin_loop();
            }
            thread
                .join()
                .unwrap_or_else(|_| Err(failed("the loop ended by a panic")))
        })
    }
}

/// Of the calling thread.
fn processor_time() -> Nanos {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

struct Loop {
    devices: LocalDevices,
    memory: Segment,
    kept: MemoryId,
    clock: MonotonicClock,
    row: Row,
    wait: Wait,
}

impl Loop {
    fn new(bare: &Bare, row: Row) -> Result<Loop, Failure> {
        let settings = LocalSettings {
            slots: row.depth.into(),
            in_flight_max: row.depth.into(),
            ..LocalSettings::default()
        };
        let mut devices = LocalDevices::new(settings).map_err(Failure::system("make an io_uring"))?;
        devices
            .add_device(DEVICE, Arc::clone(&bare.opened))
            .map_err(Failure::system("use a file"))?;
        let pages = Pages::new(u64::from(row.depth) * u64::from(row.bytes))?;
        let memory = pages.memory.host_segments().next();
        let memory = memory.ok_or_else(|| failed("memory without a segment"))?;
        let lease = pages.memory.lease();
        devices.add_memory(MEMORY, Arc::new(MemoryRegistration::prepare(lease)));
        let kept = devices.keep(lease);
        Ok(Loop {
            devices,
            memory,
            kept,
            clock: MonotonicClock::new(),
            row,
            wait: bare.wait,
        })
    }

    fn run(mut self, mut next: impl FnMut(u64) -> Option<u64>) -> Result<Window, Failure> {
        let begin = self.clock.now();
        let mut put_at = vec![begin; self.row.depth.into()];
        let mut window = Window::new()?;
        // Buffers are used in turn, as those of a ring are: the one used last would still lie in the cache.
        let mut free: VecDeque<u32> = (0..u32::from(self.row.depth)).collect();
        let mut finished: Vec<(u32, bool)> = Vec::with_capacity(self.row.depth.into());
        let (mut now, mut done) = (begin, false);
        let looks_ahead = self.devices.looks_ahead(DEVICE);
        loop {
            // Where data lies in memory, the next request is told of before one is started, as our engine does.
            let mut held = None;
            while !done && let Some(slot) = free.pop_front() {
                if let Some(put_at) = put_at.get_mut(slot as usize) {
                    *put_at = now;
                }
                let Some(sector) = next(now.since(begin).0) else {
                    done = true;
                    break;
                };
                if looks_ahead && self.row.depth > 1 {
                    self.devices.expect(DEVICE, Lba(sector), self.sectors());
                }
                let ready = match looks_ahead {
                    true => held.replace((slot, sector)),
                    false => Some((slot, sector)),
                };
                if let Some((slot, sector)) = ready
                    && self.start(slot, sector)?
                {
                    finished.push((slot, true));
                }
            }
            if let Some((slot, sector)) = held
                && self.start(slot, sector)?
            {
                finished.push((slot, true));
            }
            self.devices.submit();
            self.devices
                .reap(|slot, result| finished.push((slot.0, result.is_ok())));
            if finished.is_empty() {
                if self.devices.in_flight() == 0 {
                    break;
                }
                if self.wait == Wait::Pause {
                    self.devices.pause();
                }
                continue;
            }
            now = self.clock.now();
            for (slot, good) in finished.drain(..) {
                if !good {
                    return Err(failed("a request failed"));
                }
                if !done {
                    window.requests += 1;
                    window.elapsed = now.since(begin);
                    let put_at = put_at.get(slot as usize).copied().unwrap_or(now);
                    window.latency.record(now.since(put_at).0);
                }
                free.push_back(slot);
            }
        }
        Ok(window)
    }

    fn sectors(&self) -> Sectors {
        Sectors::from_bytes(self.row.bytes.into())
    }

    /// Whether it is done already.
    fn start(&mut self, slot: u32, sector: u64) -> Result<bool, Failure> {
        let bytes = self.row.bytes as usize;
        let segment = self.memory.part(slot as usize * bytes, bytes);
        let segment = segment.ok_or_else(|| failed("memory for fewer requests than there are"))?;
        let io = Io {
            device: DEVICE,
            slot: SlotIndex(slot),
            mapping: &MAPPING,
            deadline: Nanos(u64::MAX),
            op: match self.row.work {
                Work::Read => Op::Read,
                Work::Write => Op::Write,
            },
            lba: Lba(sector),
            sectors: self.sectors(),
            durable: false,
            alone: self.row.depth == 1,
            memory: self.kept,
            segments: &[segment],
        };
        match self.devices.start(io) {
            Started::Pending => Ok(false),
            Started::Done(Ok(())) => Ok(true),
            other => Err(failed(format!("a request was not taken: {other:?}"))),
        }
    }
}

fn failed(problem: impl Display) -> Failure {
    Failure::target("bare", problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_memory_are_filled_and_read() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let core = *affinity::allowed_cpus().unwrap().last().unwrap();
        let path = folder.path().join("disk");
        let mut bares = vec![(
            crate::row::Medium::Memory,
            Bare::open(None, 1 << 20, core, Wait::Spin).unwrap(),
        )];
        match Bare::open(Some(&path), 1 << 20, core, Wait::Pause) {
            Ok(bare) => bares.push((crate::row::Medium::File, bare)),
            Err(_) => eprintln!("no file with O_DIRECT here"),
        }
        for (medium, bare) in bares {
            bare.fill().unwrap();
            for (work, depth) in [
                (Work::Read, 4),
                (Work::Write, 4),
                (Work::Read, 1),
                (Work::Write, 1),
            ] {
                let row = Row {
                    medium,
                    work,
                    bytes: 4096,
                    depth,
                };
                let (window, processor) = bare.random_requests(row, Duration::from_millis(30), 1).unwrap();
                assert!(window.requests > 0 && window.rate() > 0.0);
                assert!(processor > Nanos(0) && processor <= Nanos::from_secs(5));
                assert_eq!(window.latency.total(), window.requests);
            }
        }
    }
}
