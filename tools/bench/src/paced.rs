//! Requests that come when they are due, not when the target is ready: a Poisson process of a fixed rate.
//!
//! A request's time runs from the moment it was due, also when this client was late in putting it, because it was
//! kicking, had no free slot or was not on its core. So a target that stalls is charged for every request that came
//! meanwhile (otherwise a stall would be one slow request, and the better for it).

use crate::Failure;
use crate::session::Session;
use crate::window::{self, Next, Pace, Window, random_sectors};
use fastrand::Rng;
use palisade_block::Nanos;
use std::time::Duration;

/// Moments, in nanoseconds from a beginning, whose distances are exponential: as many a second as asked for in the
/// long run, each regardless of the others.
#[derive(Debug)]
struct Poisson {
    random: Rng,
    gap_ns: f64,
    due_ns: f64,
}

impl Poisson {
    fn new(rate: f64, seed: u64) -> Poisson {
        let mut arrivals = Poisson {
            random: Rng::with_seed(seed),
            gap_ns: 1e9 / rate,
            due_ns: 0.0,
        };
        arrivals.advance();
        arrivals
    }

    fn advance(&mut self) {
        // In (0, 1], so that the logarithm exists.
        self.due_ns -= self.gap_ns * (1.0 - self.random.f64()).ln();
    }
}

/// Random requests at `rate` a second for `length`; then what is in flight ends, and is counted too. The requests'
/// kind has been prepared. The client polls for answers and kicks when it is asked to.
pub fn requests(session: &mut Session, rate: f64, length: Duration, seed: u64) -> Result<Window, Failure> {
    let mut sector = random_sectors(session, seed << 16);
    let mut arrivals = Poisson::new(rate, seed);
    let end = length.as_nanos() as u64;
    let pace = Pace {
        looks: 1,
        rest_counts: true,
    };
    let mut window = window::requests(session, pace, |elapsed| {
        let due = arrivals.due_ns as u64;
        if due > end {
            return if elapsed < end { Next::Wait } else { Next::End };
        }
        if due > elapsed {
            return Next::Wait;
        }
        arrivals.advance();
        Next::Put(sector(), due)
    })?;
    window.elapsed = window.elapsed.max(Nanos(end));
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
