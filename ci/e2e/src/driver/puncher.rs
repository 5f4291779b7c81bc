//! A monitor that punches gigabytes out of its guest's memory while the guest's requests are under way in it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};

use super::pattern::Guest;
use crate::failure::{Failure, Outcome};

/// What is punched, behind the ring and what belongs to it.
const HOLE: u64 = 64 << 20;
const HOLE_BYTES: u64 = 512 << 20;
const PAGE: u64 = 4096;
/// How long to wait before it is tried to connect again.
const AGAIN: Duration = Duration::from_millis(200);

/// Fills the memory again and again and punches all of it out in one call, and has requests of its guest read into it
/// meanwhile, until `over`. Whenever its session ends it connects again; `sessions` counts how often it has had one.
///
/// # Errors
/// When there is no memory.
pub fn attack(socket: &Path, over: &AtomicBool, sessions: &AtomicU64) -> Outcome {
    while !over.load(Relaxed) {
        match Guest::with_memory(socket, HOLE + HOLE_BYTES) {
            Ok(guest) => {
                sessions.fetch_add(1, Relaxed);
                serve(guest, over)?;
            }
            // It is not let in.
            Err(_) => std::thread::sleep(AGAIN),
        }
    }
    Ok(())
}

/// Until `over`, whether the session ends or not.
fn serve(mut guest: Guest, over: &AtomicBool) -> Outcome {
    let (memory, ended) = (guest.memory()?, AtomicBool::new(false));
    let during = |error: rustix::io::Errno| Failure::during("punching a guest's memory", error);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut page = 0;
            while !over.load(Relaxed) {
                page = (page + 7919) % (HOLE_BYTES / PAGE);
                if guest.read_to(HOLE + page * PAGE, PAGE).is_err() {
                    break;
                }
            }
            ended.store(true, Relaxed);
        });
        while !over.load(Relaxed) && !ended.load(Relaxed) {
            fallocate(&memory, FallocateFlags::empty(), HOLE, HOLE_BYTES).map_err(during)?;
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&memory, punch, HOLE, HOLE_BYTES).map_err(during)?;
        }
        Ok(())
    })
}
