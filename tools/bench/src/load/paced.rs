//! Requests that come when they are due, not when the target is ready: a Poisson process of a fixed rate.
//!
//! A request's time runs from the moment it was due, also when this client was late in putting it, because it was
//! kicking, had no free slot or was not on its core. So a target that stalls is charged for every request that came
//! meanwhile (otherwise a stall would be one slow request, and the better for it).

use crate::Failure;
use crate::random::Random;
use crate::session::Session;
use crate::window::{HUNG, Window, show};
use palisade_block::{Clock, Nanos};
use palisade_sys::MonotonicClock;
use std::time::Duration;

/// Moments, in nanoseconds from a beginning, whose distances are exponential: as many a second as asked for in the
/// long run, each regardless of the others.
#[derive(Clone, Debug)]
struct Poisson {
    random: Random,
    gap_ns: f64,
    due_ns: f64,
}

impl Poisson {
    fn new(rate: f64, seed: u64) -> Poisson {
        let mut arrivals = Poisson {
            random: Random::new(seed),
            gap_ns: 1e9 / rate,
            due_ns: 0.0,
        };
        arrivals.advance();
        arrivals
    }

    /// When the next request is due.
    fn due(&self) -> u64 {
        self.due_ns as u64
    }

    fn advance(&mut self) {
        // In (0, 1], so that the logarithm exists.
        let chance = ((self.random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        self.due_ns -= self.gap_ns * chance.ln();
    }
}

/// Random requests at `rate` a second for `length`; then what is in flight ends, and is counted too. The requests'
/// kind has been prepared. The client polls for answers and kicks when it is asked to.
pub fn requests(session: &mut Session, rate: f64, length: Duration, seed: u64) -> Result<Window, Failure> {
    let clock = MonotonicClock::new();
    let sectors_each = u64::from(session.ring.bytes()) / 512;
    let blocks = session.sectors / sectors_each;
    let mut random = Random::new(seed << 16);
    let mut arrivals = Poisson::new(rate, seed);
    let end = length.as_nanos() as u64;
    let depth = session.ring.depth();
    let mut free: Vec<u16> = (0..depth).rev().collect();
    let mut due_at = vec![0u64; depth.into()];
    let mut window = Window::default();
    let begin = clock.now();
    let mut last = 0;
    loop {
        let elapsed = clock.now().since(begin).0;
        while arrivals.due() <= elapsed.min(end)
            && let Some(slot) = free.pop()
        {
            session.ring.submit(slot, random.below(blocks) * sectors_each);
            if let Some(due_at) = due_at.get_mut(usize::from(slot)) {
                *due_at = arrivals.due();
            }
            arrivals.advance();
        }
        show(session, &mut window.kicks)?;
        let answers = session.ring.answered();
        if answers == 0 {
            if free.len() == usize::from(depth) {
                if arrivals.due() > end && elapsed >= end {
                    break;
                }
                last = elapsed;
            } else if elapsed.saturating_sub(last) > HUNG.as_nanos() as u64 {
                return Err(crate::window::hung());
            }
            continue;
        }
        last = clock.now().since(begin).0;
        for _ in 0..answers {
            let slot = session.ring.take()?;
            session.ring.stay_quiet();
            let due = due_at.get(usize::from(slot)).copied().unwrap_or(last);
            window.latency.record(last.saturating_sub(due));
            window.requests += 1;
            free.push(slot);
        }
    }
    window.elapsed = Nanos(last.max(end));
    Ok(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a Poisson process the mean gap is the rate's inverse, the gaps' standard deviation is their mean, and the
    /// share of gaps longer than the mean is 1/e.
    #[test]
    fn arrivals_are_a_poisson_process() {
        let mut arrivals = Poisson::new(10_000.0, 3);
        let (count, mut last, mut squares, mut long) = (200_000, 0.0, 0.0, 0);
        for _ in 0..count {
            let gap: f64 = arrivals.due_ns - last;
            last = arrivals.due_ns;
            squares += gap * gap;
            long += u32::from(gap > 100_000.0);
            arrivals.advance();
        }
        let (count, mean) = (f64::from(count), last / f64::from(count));
        assert!((mean / 100_000.0 - 1.0).abs() < 0.01, "{mean}");
        let deviation = (squares / count - mean * mean).sqrt();
        assert!((deviation / mean - 1.0).abs() < 0.02, "{deviation}");
        let share = f64::from(long) / count;
        assert!((share - (-1f64).exp()).abs() < 0.01, "{share}");
    }
}
