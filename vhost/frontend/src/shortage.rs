//! Times when this process had no file descriptor left for what a front-end wanted. That is nobody's fault out there.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static MET: AtomicU64 = AtomicU64::new(0);

/// It has happened.
pub(crate) fn met() {
    MET.fetch_add(1, Relaxed);
}

/// Whether an error says that; if so, it is counted.
pub(crate) fn is_met_by(error: &io::Error) -> bool {
    let full = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    let met = error
        .raw_os_error()
        .is_some_and(|number| full.iter().any(|errno| errno.raw_os_error() == number));
    if met {
        self::met();
    }
    met
}

/// How often it has happened since the process began.
pub fn times() -> u64 {
    MET.load(Relaxed)
}
