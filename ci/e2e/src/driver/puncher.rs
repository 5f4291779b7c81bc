//! A monitor that punches holes into its guest's memory while the guest's requests are under way in it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};

use super::pattern::Guest;
use crate::failure::{Failure, Outcome};

/// What is punched lies behind the ring and what belongs to it.
const BEGIN: u64 = 64 << 20;
const PAGE: u64 = 4096;
const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
/// How long to wait before it is tried to connect again.
const AGAIN: Duration = Duration::from_millis(200);

/// How it does that.
#[derive(Debug)]
pub struct Attack {
    /// The memory that it punches.
    pub bytes: u64,
    /// What it punches in one call, at another place each time.
    pub hole: u64,
    /// It gives the memory of each hole back before it punches it again. Else it punches without a pause.
    pub fills: bool,
    /// What its guest's requests read into that memory.
    pub read: u64,
}

/// How long one giant hole is to take: well beyond a tenth of a second, from which on a reactor's wait counts as a stall.
const GIANT: Duration = Duration::from_millis(500);
/// Its size at least; it takes 0.1 to 0.5 s, depending on the machine.
const GIANT_BYTES_MIN: u64 = 2 << 30;

/// Holes that take microseconds, without a pause, so that each page has to be waited for many times.
pub const RESTLESS: Attack = Attack {
    bytes: 256 << 20,
    hole: 200 << 20,
    fills: false,
    read: 128 << 10,
};

impl Attack {
    /// Gigabytes in one call, of as many as take this machine [`GIANT`] to punch, and no more than half of the memory that is
    /// free.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn giant() -> Result<Attack, Failure> {
        let during = |error: rustix::io::Errno| Failure::during("punching memory", error);
        let (bytes, mut took) = (GIANT_BYTES_MIN / 4, Duration::MAX);
        let memory = memfd_create("punched", MemfdFlags::CLOEXEC).map_err(during)?;
        ftruncate(&memory, bytes).map_err(during)?;
        for _ in 0..3 {
            fallocate(&memory, FallocateFlags::empty(), 0, bytes).map_err(during)?;
            let begin = Instant::now();
            fallocate(&memory, PUNCH, 0, bytes).map_err(during)?;
            took = took.min(begin.elapsed());
        }
        let wanted = (bytes as f64 * GIANT.as_secs_f64() / took.as_secs_f64()) as u64;
        let hole = wanted.min(free_bytes()? / 2).max(GIANT_BYTES_MIN) / PAGE * PAGE;
        Ok(Attack {
            bytes: hole,
            hole,
            fills: true,
            read: PAGE,
        })
    }

    /// Punches its memory again and again, and has requests of its guest read into it meanwhile, until `over`. Whenever its
    /// session ends it connects again; `sessions` counts how often it has had one.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn run(&self, socket: &Path, over: &AtomicBool, sessions: &AtomicU64) -> Outcome {
        while !over.load(Relaxed) {
            match Guest::with_memory(socket, BEGIN + self.bytes) {
                Ok(guest) => {
                    sessions.fetch_add(1, Relaxed);
                    self.serve(guest, over)?;
                }
                // It is not let in.
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
        Ok(())
    }

    /// Until `over`, or until the session ends.
    fn serve(&self, mut guest: Guest, over: &AtomicBool) -> Outcome {
        let (memory, ended) = (guest.memory()?, AtomicBool::new(false));
        let during = |error: rustix::io::Errno| Failure::during("punching a guest's memory", error);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut at = 0;
                while !over.load(Relaxed) {
                    at = (at + 7919 * PAGE) % (self.bytes - self.read);
                    if guest.read_to(BEGIN + at, self.read).is_err() {
                        break;
                    }
                }
                ended.store(true, Relaxed);
            });
            let mut at = 0;
            while !over.load(Relaxed) && !ended.load(Relaxed) {
                at = (at + 6389 * PAGE) % (self.bytes - self.hole + PAGE);
                if self.fills {
                    fallocate(&memory, FallocateFlags::empty(), BEGIN + at, self.hole).map_err(during)?;
                }
                fallocate(&memory, PUNCH, BEGIN + at, self.hole).map_err(during)?;
            }
            Ok(())
        })
    }
}

/// The machine's memory that is free, in bytes.
fn free_bytes() -> Result<u64, Failure> {
    let told = std::fs::read_to_string("/proc/meminfo");
    let told = told.map_err(|error| Failure::during("reading /proc/meminfo", error))?;
    let mut kib = told
        .lines()
        .filter_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next());
    let free = kib.next().and_then(|kib| kib.parse::<u64>().ok());
    free.map(|kib| kib << 10)
        .ok_or_else(|| Failure::new("/proc/meminfo does not say what is free"))
}
