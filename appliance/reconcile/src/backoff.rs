//! What is remembered of a step that failed, and when it is tried again.

use palisade_words::Generation;

/// Wait after the first failure, in ms.
pub const RETRY_MS_FIRST: u64 = 100;

/// Longest wait, in ms: an operator who has repaired something need not wait longer than this.
pub const RETRY_MS_MAX: u64 = 30_000;

/// The latest failure of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The step's generation. A step of a later one is tried at once.
    pub generation: Generation,
    /// Failures in a row.
    pub attempts: u32,
    /// What went wrong, in a sentence for an operator.
    pub reason: String,
    /// When it is tried again, on the clock of [`Observed::now_ms`](crate::Observed::now_ms).
    pub retry_at_ms: u64,
}

impl Failure {
    /// One more failure of a step at `now_ms`, after `before`.
    pub fn after(before: Option<&Failure>, generation: Generation, reason: String, now_ms: u64) -> Failure {
        let earlier = before.filter(|before| before.generation == generation);
        let attempts = earlier.map_or(0, |before| before.attempts).saturating_add(1);
        Failure {
            generation,
            attempts,
            reason,
            retry_at_ms: now_ms.saturating_add(retry_after_ms(attempts)),
        }
    }
}

/// How long to wait after so many failures in a row, in ms: twice as long each time, up to [`RETRY_MS_MAX`].
pub fn retry_after_ms(attempts: u32) -> u64 {
    doubled(RETRY_MS_FIRST, attempts, RETRY_MS_MAX)
}

/// The first wait, twice as long each time, up to the longest.
pub(crate) fn doubled(first: u64, times: u32, longest: u64) -> u64 {
    let doublings = times.saturating_sub(1).min(16);
    (first << doublings).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_up_to_a_bound() {
        let waits: Vec<_> = (1..=4).map(retry_after_ms).collect();
        assert_eq!(waits, [100, 200, 400, 800]);
        assert_eq!(retry_after_ms(u32::MAX), RETRY_MS_MAX);
    }

    #[test]
    fn counts_failures_of_one_generation() {
        let first = Failure::after(None, Generation(3), "EIO".into(), 1000);
        assert_eq!((first.attempts, first.retry_at_ms), (1, 1100));
        let second = Failure::after(Some(&first), Generation(3), "EIO".into(), 1100);
        assert_eq!((second.attempts, second.retry_at_ms), (2, 1300));
        let newer = Failure::after(Some(&second), Generation(4), "EIO".into(), 1300);
        assert_eq!(newer.attempts, 1);
    }
}
