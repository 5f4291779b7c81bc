//! The memory that the daemon's control group may use, as it was read last.

use palisade_sys::MemoryLimit;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Findings are derived twice a second and for each client that asks; a limit is set by a person.
const READ_EVERY: Duration = Duration::from_secs(5);

/// Remembers it for a while.
#[derive(Debug, Default)]
pub struct LastLimit(Mutex<Option<(Instant, Option<MemoryLimit>)>>);

impl LastLimit {
    /// The limit; read anew when it was read long ago. `None` without one.
    pub fn at(&self, now: Instant) -> Option<MemoryLimit> {
        self.at_by(now, MemoryLimit::of_this_process)
    }

    fn at_by(&self, now: Instant, read: impl FnOnce() -> Option<MemoryLimit>) -> Option<MemoryLimit> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, limit)) if now.saturating_duration_since(*at) < READ_EVERY => limit.clone(),
            _ => {
                let limit = read();
                *last = Some((now, limit.clone()));
                limit
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_at_first_and_again_after_a_while_also_when_there_is_none() {
        let (last, begin) = (LastLimit::default(), Instant::now());
        let limit = |bytes| {
            Some(MemoryLimit {
                bytes,
                file: "/sys/fs/cgroup/memory.max".into(),
            })
        };
        let early = begin + READ_EVERY - Duration::from_millis(1);
        assert_eq!(last.at_by(begin, || None), None);
        assert_eq!(last.at_by(early, || unreachable!("it was just read")), None);
        assert_eq!(last.at_by(begin + READ_EVERY, || limit(4096)), limit(4096));
        assert_eq!(last.at_by(begin + READ_EVERY, || limit(1)), limit(4096));
        // Another thread's moment may lie before.
        assert_eq!(last.at_by(begin, || limit(1)), limit(4096));
        assert_eq!(last.at_by(begin + 2 * READ_EVERY, || limit(8192)), limit(8192));
    }
}
