//! An attachment's limits on requests and bytes a second, with bursts: the generic cell rate algorithm.
//!
//! Each limit is one word, the *theoretical arrival time*: when the next cell would come if the source kept exactly
//! to its rate. A request may start while that time lies no further ahead than the burst allows; starting it moves
//! the time on by what it costs. A request's size is known only after it was taken, so the test comes before and
//! the charge after: one large request may overdraw, and the next ones wait until that is paid.

use palisade_block::Nanos;
use palisade_block::mailbox::Pace;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SECOND_NS: u128 = 1_000_000_000;

/// When the next request may start; `now` or earlier means at once.
#[inline]
pub fn ready_at(pace: &Pace) -> Nanos {
    if pace.iops == 0 && pace.bytes_per_second == 0 {
        return Nanos(0);
    }
    let requests = if pace.iops == 0 {
        0
    } else {
        pace.next_request_ns.load(Relaxed)
    };
    let bytes = if pace.bytes_per_second == 0 {
        0
    } else {
        pace.next_byte_ns.load(Relaxed)
    };
    Nanos(requests.max(bytes).saturating_sub(pace.burst.0))
}

/// The same for a reactor that has started requests since it last charged: they count as if they had been charged now.
#[inline]
pub fn ready_after(pace: &Pace, now: Nanos, requests: u64, bytes: u64) -> Nanos {
    if requests == 0 || !is_limited(pace) {
        return ready_at(pace);
    }
    let after = |word: &AtomicU64, cost: u64| word.load(Relaxed).max(now.0).saturating_add(cost);
    let by_requests = match pace.iops {
        0 => 0,
        _ => after(&pace.next_request_ns, requests_cost(pace, requests)),
    };
    let by_bytes = match pace.bytes_per_second {
        0 => 0,
        _ => after(&pace.next_byte_ns, bytes_cost(pace, bytes)),
    };
    Nanos(by_requests.max(by_bytes).saturating_sub(pace.burst.0))
}

/// Whether there is any limit at all.
#[inline]
pub fn is_limited(pace: &Pace) -> bool {
    pace.iops != 0 || pace.bytes_per_second != 0
}

/// Charges requests that started now, `bytes` bytes in all. To be called once a turn: reactors share the words, and a
/// write of one makes the next access of all others slow.
pub fn charge(pace: &Pace, now: Nanos, requests: u64, bytes: u64) {
    if pace.iops != 0 {
        advance(&pace.next_request_ns, now, requests_cost(pace, requests));
    }
    if pace.bytes_per_second != 0 && bytes != 0 {
        advance(&pace.next_byte_ns, now, bytes_cost(pace, bytes));
    }
}

/// The time that so many requests take at the limit, which there must be.
fn requests_cost(pace: &Pace, requests: u64) -> u64 {
    cost(requests, pace.iops)
}

/// The same for bytes.
fn bytes_cost(pace: &Pace, bytes: u64) -> u64 {
    cost(bytes, pace.bytes_per_second)
}

fn cost(amount: u64, per_second: u64) -> u64 {
    let ns = u128::from(amount) * SECOND_NS / u128::from(per_second.max(1));
    ns.min(u128::from(u64::MAX)) as u64
}

fn advance(word: &AtomicU64, now: Nanos, cost: u64) {
    let step = |arrival: u64| Some(arrival.max(now.0).saturating_add(cost));
    // The closure never declines, so the update always succeeds.
    let _ = word.fetch_update(Relaxed, Relaxed, step);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(iops: u64, bytes_per_second: u64, burst_ms: u64) -> Pace {
        Pace {
            iops,
            bytes_per_second,
            burst: Nanos::from_millis(burst_ms),
            ..Pace::default()
        }
    }

    /// Starts as many requests of `bytes` as it may between two moments, asking every 10 us.
    fn run(pace: &Pace, from_ms: u64, to_ms: u64, bytes: u64) -> u64 {
        let mut started = 0;
        let mut now = Nanos::from_millis(from_ms);
        while now < Nanos::from_millis(to_ms) {
            while ready_at(pace) <= now {
                charge(pace, now, 1, bytes);
                started += 1;
            }
            now = now.after(Nanos::from_micros(10));
        }
        started
    }

    #[test]
    fn keeps_the_rate_and_pays_a_burst_back() {
        let pace = pace(1000, 0, 100);
        let first = run(&pace, 1000, 2000, 4096);
        assert!(
            (1100..=1102).contains(&first),
            "a second's worth and the burst: {first}"
        );
        let second = run(&pace, 2000, 3000, 4096);
        assert!((999..=1001).contains(&second), "{second}");
        let rested = run(&pace, 5000, 5001, 4096);
        assert!((100..=103).contains(&rested), "{rested}");
    }

    #[test]
    fn the_narrower_limit_decides() {
        let pace = pace(1_000_000, 1 << 20, 0);
        let started = run(&pace, 0, 1000, 65536);
        assert!((15..=17).contains(&started), "{started}");
    }

    #[test]
    fn two_reactors_share_one_limit() {
        let pace = pace(1000, 0, 0);
        let other = pace.clone();
        let both = (0..1000)
            .map(|ms| run(&pace, ms, ms + 1, 0) + run(&other, ms, ms + 1, 0))
            .sum::<u64>();
        assert!((999..=1002).contains(&both), "{both}");
    }

    #[test]
    fn requests_not_yet_charged_count() {
        let limits = pace(1000, 1 << 20, 10);
        let now = Nanos::from_secs(1);
        let mut taken = 0;
        while ready_after(&limits, now, taken, 512 * taken) <= now {
            taken += 1;
        }
        assert_eq!(taken, 11, "the burst and one more");
        let before = ready_after(&limits, now, taken, 512 * taken);
        charge(&limits, now, taken, 512 * taken);
        assert_eq!(ready_at(&limits), before);
        assert!(ready_after(&limits, now, 1, 1 << 20) > Nanos::from_millis(1990));
    }

    #[test]
    fn unlimited_never_waits() {
        let pace = pace(0, 0, 0);
        charge(&pace, Nanos::from_secs(9), 1, 1 << 40);
        assert_eq!(ready_at(&pace), Nanos(0));
        assert!(!is_limited(&pace));
    }
}
