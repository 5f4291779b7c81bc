//! The clock on the wall, as numbers since the beginning of 1970 (UTC). A clock from before that shows 0.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// In seconds.
pub fn now_s() -> u64 {
    since_1970(SystemTime::now()).as_secs()
}

/// In milliseconds.
pub fn now_ms() -> u64 {
    ms_of(SystemTime::now())
}

/// In microseconds.
pub fn now_us() -> u64 {
    since_1970(SystemTime::now()).as_micros() as u64
}

/// Some moment, in milliseconds.
pub fn ms_of(at: SystemTime) -> u64 {
    since_1970(at).as_millis() as u64
}

fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}
