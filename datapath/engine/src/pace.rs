//! An attachment's limits on requests and bytes a second, with bursts: the generic cell rate algorithm.
//!
//! Each limit is one word, the *theoretical arrival time*: when the next cell would come if the source kept exactly
//! to its rate. More may be drawn while that time lies no further ahead than the burst allows; drawing moves the
//! time on by what it costs. The words are shared by all reactors that serve the attachment, and a write by one makes
//! the next access of every other slow. So a queue draws ahead, for [`AHEAD`] at once, and spends that by itself: it
//! comes to the words twenty thousand times a second at most, however fast it is. What it has drawn is charged, so
//! no rate is ever exceeded; beyond the burst, each queue may have that little more in hand after a rest.
//!
//! A request's size is known only after it was taken, so the test comes before and the spending after: one may overdraw,
//! by the mebibyte of one operation at most, as what is longer is tested and charged piece by piece. That is charged
//! before the turn ends, and the next ones, of all queues, wait until it is paid.

use palisade_block::Nanos;
use palisade_block::mailbox::Pace;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SECOND_NS: u128 = 1_000_000_000;

/// How much a queue draws at once, in the limit's own time; one request or byte at least.
const AHEAD: Nanos = Nanos::from_micros(50);

/// Whether there is any limit at all.
#[inline]
pub fn is_limited(pace: &Pace) -> bool {
    pace.iops != 0 || pace.bytes_per_second != 0
}

/// What one queue has drawn from its attachment's limits and not spent yet; below zero what it has overdrawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    requests: i64,
    bytes: i64,
}

impl Allowance {
    /// Whether a request may start now. Draws what that takes.
    #[inline]
    pub fn admits(&mut self, pace: &Pace, now: Nanos) -> bool {
        let draw = |left: &mut i64, per_second: u64, word: &AtomicU64| {
            *left > 0 || per_second == 0 || draw(left, per_second, word, pace.burst, now)
        };
        draw(&mut self.requests, pace.iops, &pace.next_request_ns)
            && draw(&mut self.bytes, pace.bytes_per_second, &pace.next_byte_ns)
    }

    /// Whether a piece of a request that was admitted may start now, as far as its bytes go.
    pub fn admits_bytes(&mut self, pace: &Pace, now: Nanos) -> bool {
        let (left, word) = (&mut self.bytes, &pace.next_byte_ns);
        *left > 0 || pace.bytes_per_second == 0 || draw(left, pace.bytes_per_second, word, pace.burst, now)
    }

    /// Counts the bytes of a piece that has started.
    pub fn spend_bytes(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub_unsigned(bytes);
    }

    /// Counts a request that has started, of so many bytes.
    #[inline]
    pub fn spend(&mut self, bytes: u64) {
        self.requests -= 1;
        self.bytes = self.bytes.saturating_sub_unsigned(bytes);
    }

    /// Charges what was overdrawn, so that all queues of the attachment know.
    #[inline]
    pub fn settle(&mut self, pace: &Pace, now: Nanos) {
        for (left, per_second, word) in [
            (&mut self.requests, pace.iops, &pace.next_request_ns),
            (&mut self.bytes, pace.bytes_per_second, &pace.next_byte_ns),
        ] {
            if *left < 0 {
                if per_second != 0 {
                    advance(word, now, cost(left.unsigned_abs(), per_second), Nanos(u64::MAX));
                }
                *left = 0;
            }
        }
    }

    /// When the next request may start; zero for at once.
    #[inline]
    pub fn ready_at(&self, pace: &Pace) -> Nanos {
        let ready = |left: i64, per_second: u64, word: &AtomicU64| match per_second == 0 || left > 0 {
            true => 0,
            false => word.load(Relaxed).saturating_sub(pace.burst.0),
        };
        let requests = ready(self.requests, pace.iops, &pace.next_request_ns);
        let bytes = ready(self.bytes, pace.bytes_per_second, &pace.next_byte_ns);
        Nanos(requests.max(bytes))
    }
}

/// Draws for [`AHEAD`]; false when the limit does not allow it yet.
#[inline(never)]
fn draw(left: &mut i64, per_second: u64, word: &AtomicU64, burst: Nanos, now: Nanos) -> bool {
    let amount = (u128::from(per_second) * u128::from(AHEAD.0) / SECOND_NS).max(1);
    let amount = amount.min(i64::MAX as u128) as u64;
    let drawn = advance(word, now, cost(amount, per_second), now.after(burst));
    if drawn {
        *left = left.saturating_add_unsigned(amount);
    }
    drawn
}

/// The time that so much takes at the limit.
fn cost(amount: u64, per_second: u64) -> u64 {
    let ns = u128::from(amount) * SECOND_NS / u128::from(per_second.max(1));
    ns.min(u128::from(u64::MAX)) as u64
}

/// Moves an arrival time on, unless it lies behind `last`.
fn advance(word: &AtomicU64, now: Nanos, cost: u64, last: Nanos) -> bool {
    let step = |arrival: u64| (arrival <= last.0).then(|| arrival.max(now.0).saturating_add(cost));
    word.fetch_update(Relaxed, Relaxed, step).is_ok()
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

    /// Starts as many requests of `bytes` as a queue may between two moments, asking every 10 us, a turn of at most 8
    /// each time.
    fn run(queue: &mut Allowance, pace: &Pace, from_ms: u64, to_ms: u64, bytes: u64) -> u64 {
        let mut started = 0;
        let mut now = Nanos::from_millis(from_ms);
        while now < Nanos::from_millis(to_ms) {
            for _ in 0..8 {
                if !queue.admits(pace, now) {
                    break;
                }
                queue.spend(bytes);
                started += 1;
            }
            queue.settle(pace, now);
            now = now.after(Nanos::from_micros(10));
        }
        started
    }

    #[test]
    fn keeps_the_rate_and_pays_a_burst_back() {
        let (pace, mut queue) = (pace(1000, 0, 100), Allowance::default());
        let first = run(&mut queue, &pace, 1000, 2000, 4096);
        assert!(
            (1100..=1102).contains(&first),
            "a second's worth and the burst: {first}"
        );
        let second = run(&mut queue, &pace, 2000, 3000, 4096);
        assert!((999..=1001).contains(&second), "{second}");
        let rested = run(&mut queue, &pace, 5000, 5001, 4096);
        assert!((100..=103).contains(&rested), "{rested}");
    }

    #[test]
    fn the_narrower_limit_decides() {
        let pace = pace(1_000_000, 1 << 20, 0);
        let started = run(&mut Allowance::default(), &pace, 0, 1000, 65536);
        assert!((15..=17).contains(&started), "{started}");
    }

    #[test]
    fn two_reactors_share_one_limit() {
        for (iops, most_ahead) in [(1000, 2), (400_000, 40)] {
            let pace = pace(iops, 0, 0);
            let (mut one, mut other) = (Allowance::default(), Allowance::default());
            let both = (1000..2000)
                .map(|ms| run(&mut one, &pace, ms, ms + 1, 0) + run(&mut other, &pace.clone(), ms, ms + 1, 0))
                .sum::<u64>();
            assert!(both <= iops + most_ahead, "{both} of {iops}");
            assert!(both * 100 >= iops * 99, "{both} of {iops}");
        }
    }

    #[test]
    fn a_fast_queue_seldom_comes_to_the_words() {
        let pace = pace(1_000_000, 0, 10);
        let (mut queue, mut changes, mut before) = (Allowance::default(), 0, 0);
        for request in 0..1000 {
            let now = Nanos(Nanos::from_secs(1).0 + 1000 * request);
            assert!(queue.admits(&pace, now));
            queue.spend(4096);
            queue.settle(&pace, now);
            let arrival = pace.next_request_ns.load(Relaxed);
            changes += u64::from(arrival != before);
            before = arrival;
        }
        assert_eq!(changes, 20, "one in 50");
    }

    #[test]
    fn what_a_queue_has_overdrawn_holds_back_the_others() {
        let limits = pace(1000, 1 << 20, 10);
        let now = Nanos::from_secs(1);
        let (mut one, other) = (Allowance::default(), Allowance::default());
        assert!(one.admits(&limits, now));
        one.spend(1 << 20);
        one.settle(&limits, now);
        for queue in [one, other] {
            assert!(queue.ready_at(&limits) > Nanos::from_millis(1980));
        }
    }

    /// What is drawn, overdrawn and left of a burst, to the nanosecond.
    #[test]
    fn it_is_ready_when_the_burst_reaches_the_next_arrival() {
        let now = Nanos::from_secs(1);
        let after = |us| now.after(Nanos::from_micros(us));
        for (iops, bytes_per_second, burst_ms, bytes, ready_us) in [
            (1000, 0, 0, 4096, 1000),
            (1, 0, 0, 4096, 1_000_000),
            // 50 bytes are drawn, 4046 overdrawn.
            (0, 1_000_000, 0, 4096, 4096),
            (0, 1_000_000, 3, 4096, 1096),
            // Whichever is later.
            (1000, 1_000_000, 0, 4096, 4096),
            (1000, 1_000_000, 0, 512, 1000),
        ] {
            let limits = pace(iops, bytes_per_second, burst_ms);
            let mut queue = Allowance::default();
            assert!(queue.ready_at(&limits) <= now && queue.admits(&limits, now));
            queue.spend(bytes);
            queue.settle(&limits, now);
            let ready = after(ready_us);
            assert_eq!(
                queue.ready_at(&limits),
                ready,
                "{iops} {bytes_per_second} {burst_ms} {bytes}"
            );
            assert!(!queue.admits(&limits, Nanos(ready.0 - 1)));
            assert!(queue.admits(&limits, ready));
        }
    }

    #[test]
    fn who_has_some_in_hand_is_ready_whatever_others_have_drawn() {
        let limits = pace(1_000_000, 1_000_000_000, 0);
        let now = Nanos::from_secs(1);
        let mut queue = Allowance::default();
        assert!(queue.admits(&limits, now));
        queue.spend(4096);
        assert!(limits.next_request_ns.load(Relaxed) > now.0);
        assert_eq!(queue.ready_at(&limits), Nanos(0));
    }

    /// Who writes to the words makes the next look of all other reactors slow.
    #[test]
    fn who_has_overdrawn_nothing_does_not_touch_the_words() {
        let limits = pace(1000, 1 << 20, 10);
        let words = || [&limits.next_request_ns, &limits.next_byte_ns].map(|word| word.load(Relaxed));
        let mut queue = Allowance::default();
        queue.settle(&limits, Nanos::from_secs(1));
        assert_eq!(words(), [0, 0]);
        assert!(queue.admits(&limits, Nanos::from_secs(1)));
        let drawn = words();
        queue.spend(0);
        queue.settle(&limits, Nanos::from_secs(2));
        assert_eq!(words(), drawn);
    }

    #[test]
    fn requests_of_one_turn_count_before_it_ends() {
        let limits = pace(1000, 0, 10);
        let (now, mut queue, mut taken) = (Nanos::from_secs(1), Allowance::default(), 0);
        while queue.admits(&limits, now) {
            queue.spend(512);
            taken += 1;
        }
        assert_eq!(taken, 11, "the burst and one more");
        assert!(queue.ready_at(&limits) > now);
    }

    #[test]
    fn unlimited_never_waits() {
        let (pace, mut queue) = (pace(0, 0, 0), Allowance::default());
        queue.spend(1 << 40);
        queue.settle(&pace, Nanos::from_secs(9));
        assert!(queue.admits(&pace, Nanos::from_secs(9)));
        assert_eq!(queue.ready_at(&pace), Nanos(0));
        assert!(!is_limited(&pace));
    }
}
