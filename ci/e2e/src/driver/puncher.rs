//! A monitor that punches holes into its guest's memory while the guest's requests are under way in it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};

use super::pattern::Guest;
use crate::failure::{Failure, Outcome};

/// What is punched lies behind the ring and what belongs to it.
const BEGIN: u64 = 64 << 20;
const PAGE: u64 = 4096;
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

/// Two GiB in one call, a second or more between two: each stops the reactor for half a second or longer.
pub const GIANT: Attack = Attack {
    bytes: 2 << 30,
    hole: 2 << 30,
    fills: true,
    read: PAGE,
};

/// Holes that take microseconds, without a pause, so that each page has to be waited for many times.
pub const RESTLESS: Attack = Attack {
    bytes: 256 << 20,
    hole: 200 << 20,
    fills: false,
    read: 128 << 10,
};

impl Attack {
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
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&memory, punch, BEGIN + at, self.hole).map_err(during)?;
            }
            Ok(())
        })
    }
}
