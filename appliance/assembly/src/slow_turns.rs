//! Turns of a reactor that last too long: whoever has a virtqueue on it waits meanwhile, and so do all disks on it.
//!
//! They are measured by [`turn_watch`](crate::turn_watch); what is kept of a slow one is written only then.

use crate::local_state::LocalState;
use palisade_api::size::counted;
use palisade_block::Nanos;
use palisade_words::ReactorIndex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A turn that had work may last for so long, in wall time. Turns take microseconds; a guest notices a tenth of a second.
pub const BOUND: Duration = Duration::from_millis(100);

/// A slow turn is told for so long.
pub const QUIET: Duration = Duration::from_secs(60);

/// The slow turns of a reactor: written by its thread alone, read by anybody.
#[derive(Debug)]
pub struct SlowTurns {
    base: Instant,
    count: AtomicU64,
    /// Milliseconds after `base` of the latest one, and one more; 0 before the first.
    latest: AtomicU64,
    /// The longest one within a minute of another, in nanoseconds.
    longest_ns: AtomicU64,
}

impl Default for SlowTurns {
    fn default() -> SlowTurns {
        SlowTurns {
            base: Instant::now(),
            count: AtomicU64::new(0),
            latest: AtomicU64::new(0),
            longest_ns: AtomicU64::new(0),
        }
    }
}

impl SlowTurns {
    /// How many there have been.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// The longest of late; `None` when a minute has been quiet.
    pub fn longest(&self, now: Instant) -> Option<Duration> {
        let at = self.latest.load(Relaxed).checked_sub(1)?;
        let since = now.saturating_duration_since(self.base + Duration::from_millis(at));
        (since < QUIET).then(|| Duration::from_nanos(self.longest_ns.load(Relaxed)))
    }

    /// A turn with work lasted so long: it is counted when that is too long.
    #[cold]
    pub fn look_at(&self, lasted: Nanos) {
        if lasted.0 > BOUND.as_nanos() as u64 {
            self.add(lasted, Instant::now());
        }
    }

    fn add(&self, lasted: Nanos, now: Instant) {
        let before = self.longest(now).map_or(0, |before| before.as_nanos() as u64);
        self.longest_ns.store(before.max(lasted.0), Relaxed);
        let at = now.saturating_duration_since(self.base).as_millis() as u64;
        self.latest.store(at + 1, Relaxed);
        self.count.store(self.count() + 1, Relaxed);
    }
}

/// How slow a reactor has been of late, who waited, and whose memory may have been waited for; `None` when it was not.
pub fn told(
    slow: &SlowTurns,
    reactor: ReactorIndex,
    state: &LocalState,
    stalled: &[&str],
    now: Instant,
) -> Option<String> {
    let longest = slow.longest(now)?.as_millis();
    let served = state.control.attachments.iter().filter(|(_, offered)| {
        let mut reactors = offered.running.values();
        reactors.any(|one| *one == reactor)
    });
    let names: Vec<&str> = served.map(|(name, _)| name.as_str()).collect();
    let whom = match names.as_slice() {
        [] => "it serves no attachment just now".to_owned(),
        [first, second, third, rest @ ..] if !rest.is_empty() => format!(
            "those whom it serves waited: attachments {first}, {second}, {third} and {} more",
            rest.len()
        ),
        some => format!("those whom it serves waited: attachments {}", some.join(", ")),
    };
    let turns = counted(slow.count(), "turn");
    let for_whom = match stalled {
        [] => String::new(),
        names => format!(
            "; reactors have had to wait for the memory of attachments {}",
            names.join(", ")
        ),
    };
    Some(format!(
        "a turn of reactor {} lasted {longest} ms, the longest within the last minute ({turns} of more than {} ms since the \
         start); {whom}{for_whom}",
        reactor.0,
        BOUND.as_millis()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_longest_is_told_until_a_minute_has_been_quiet() {
        let slow = SlowTurns::default();
        let at = |seconds| slow.base + Duration::from_secs(seconds);
        assert_eq!(slow.longest(at(0)), None);
        slow.add(Nanos(300 * MS), at(10));
        slow.add(Nanos(120 * MS), at(40));
        assert_eq!(slow.longest(at(99)), Some(Duration::from_millis(300)));
        assert_eq!(slow.longest(at(100)), None);
        slow.add(Nanos(150 * MS), at(200));
        assert_eq!(slow.longest(at(201)), Some(Duration::from_millis(150)));
        assert_eq!(slow.count(), 3);
        let nothing = || LocalState::knowing(palisade_control::NodeState::default());
        let said = told(&slow, ReactorIndex(1), &nothing(), &[], at(201)).unwrap();
        assert!(said.starts_with("a turn of reactor 1 lasted 150 ms"), "{said}");
        let names = ["web1", "web2"];
        let with_names = told(&slow, ReactorIndex(1), &nothing(), &names, at(201)).unwrap();
        let more = "; reactors have had to wait for the memory of attachments web1, web2";
        assert_eq!(with_names, said.clone() + more);
        assert!(said.contains("3 turns of more than 100 ms"), "{said}");
    }
}
