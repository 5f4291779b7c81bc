//! The lock of an open file description (flock(2)): held until the last reference to the open file is gone, those of
//! requests in flight included.

use super::OpenError;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const RETRY: Duration = Duration::from_millis(20);

/// Takes the lock, exclusive for a writer and shared for readers, waiting for it until `wait` has passed.
pub(super) fn lock(file: &File, path: &Path, read_only: bool, wait: Duration) -> Result<(), OpenError> {
    let start = Instant::now();
    loop {
        let tried = if read_only {
            file.try_lock_shared()
        } else {
            file.try_lock()
        };
        match tried {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => {
                return Err(OpenError::Open {
                    path: path.into(),
                    source,
                });
            }
            Err(TryLockError::WouldBlock) => {}
        }
        let waited = start.elapsed();
        if waited >= wait {
            return Err(OpenError::Locked {
                path: path.into(),
                waited,
                holder: holder(file),
            });
        }
        thread::sleep(RETRY.min(wait - waited));
    }
}

/// The process that took the lock, from /proc/locks. Lines read `1: FLOCK ADVISORY WRITE pid major:minor:inode ...`.
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?;
    let place = format!(
        "{:02x}:{:02x}:{}",
        libc::major(inode.dev()),
        libc::minor(inode.dev()),
        inode.ino()
    );
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, _, pid, at, ..] if *at == place => pid.parse().ok(),
            _ => None,
        }
    })
}
