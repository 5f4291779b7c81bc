//! One thread of the daemon waits for the disk process. Nothing is locked: a lock that a thread was killed with would
//! stop the process that has to see it die.

use std::sync::atomic::{
    AtomicI32, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::time::{Duration, Instant};

const PENDING: u32 = 0;
const DONE: u32 = 1;
/// Nobody waits any more.
const ABANDONED: u32 = 2;

/// A place to wait at.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    state: AtomicU32,
    result: AtomicI32,
}

impl Waiter {
    pub(super) fn begin(&self) {
        self.state.store(PENDING, Release);
    }

    /// Ends the wait; true when it has been given up, so that the place is free again. Called in the disk process.
    pub(super) fn finish(&self, result: i32) -> bool {
        self.result.store(result, Relaxed);
        let before = self.state.swap(DONE, AcqRel);
        futex(&self.state, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1, None);
        before == ABANDONED
    }

    /// Waits for the result, for so long at most; `None` when that was not enough, and the place stays in use until
    /// `finish`.
    pub(super) fn wait(&self, time: Option<Duration>) -> Option<i32> {
        let end = time.map(|time| Instant::now() + time);
        while self.state.load(Acquire) == PENDING {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                let given_up = self.state.compare_exchange(PENDING, ABANDONED, AcqRel, Acquire);
                if given_up.is_ok() {
                    return None;
                }
                break;
            }
            futex(
                &self.state,
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                PENDING,
                left,
            );
        }
        Some(self.result.load(Relaxed))
    }
}

fn futex(word: &AtomicU32, operation: libc::c_int, value: u32, time: Option<Duration>) {
    let time = time.map(|time| libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: i64::from(time.subsec_nanos()),
    });
    let time: *const libc::timespec = time.as_ref().map_or(std::ptr::null(), |time| time);
    // SAFETY: word and time outlive the call; there is no second word. Whatever is returned, the caller
    // looks at the word again.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, time) };
}
