//! Where the ids of events go on after a restart.
//!
//! They are a sequence over the life of the node, kept in a file of the state directory: reserved many at a time, so that
//! an event costs no write. Where that file is missing or cannot be read they go on at the wall clock's microsecond,
//! which lies far ahead of what was ever given, unless the clock was set back; the file is what holds then.

use crate::own_file;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Ids reserved at a time.
const RESERVED: u64 = 1 << 20;

/// Name of the file.
const FILE: &str = "event-ids";

/// The ids that may be given.
#[derive(Debug)]
pub struct EventIds {
    path: PathBuf,
    /// No id above this may be given before more are reserved.
    reserved: AtomicU64,
}

impl EventIds {
    /// Goes on behind all ids that were given by daemons on this state directory; the first one is behind that returned.
    pub fn resume(state_dir: &Path) -> (EventIds, u64) {
        let path = state_dir.join(FILE);
        let before = match own_file::read(&path) {
            Ok(text) => text.trim().parse().unwrap_or_else(|_| {
                log::warn!(
                    "{}: not a number; ids of events go on at the clock's time",
                    path.display()
                );
                0
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => {
                log::warn!(
                    "{}: {error}; ids of events go on at the clock's time",
                    path.display()
                );
                0
            }
        };
        let last = unix_us().max(before);
        let ids = EventIds {
            path,
            reserved: AtomicU64::new(last),
        };
        ids.reserve(last);
        (ids, last)
    }

    /// Reserves more when `last` has come near to what is reserved. To be called now and then, by one thread.
    pub fn reserve(&self, last: u64) {
        let reserved = self.reserved.load(Relaxed);
        if last.saturating_add(RESERVED / 2) < reserved {
            return;
        }
        let reserved = last.saturating_add(RESERVED);
        match write(&self.path, reserved) {
            Ok(()) => self.reserved.store(reserved, Relaxed),
            Err(error) => log::warn!(
                "{}: {error}; when the clock is set back before a restart, ids of events may be given twice",
                self.path.display()
            ),
        }
    }
}

/// The old number or the new one, whatever happens in between.
fn write(path: &Path, reserved: u64) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, format!("{reserved}\n"))?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, path)
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_on_although_the_clock_was_set_back() {
        let folder = std::env::temp_dir().join(format!("event-ids-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (ids, first) = EventIds::resume(&folder);
        ids.reserve(first + RESERVED);
        // A clock that was ahead by a century when the daemon before ran.
        let ahead = unix_us() + 100 * 365 * 86_400 * 1_000_000;
        write(&folder.join(FILE), ahead).unwrap();
        let (_, second) = EventIds::resume(&folder);
        assert_eq!(second, ahead);
        let (_, third) = EventIds::resume(&folder);
        assert_eq!(third, ahead + RESERVED);
        fs::write(folder.join(FILE), "rubbish").unwrap();
        assert!(EventIds::resume(&folder).1 > first);
        fs::remove_dir_all(&folder).unwrap();
    }
}
