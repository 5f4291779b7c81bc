//! Times that requests took: a histogram of nanoseconds in which a percentile is wrong by at most one part in 128.

use crate::Failure;
use hdrhistogram::Histogram;

/// Two significant digits: 128 places for each power of two.
const DIGITS: u8 = 2;

/// No time is longer; one that is counts as this. A target counts as hung long before.
const LONGEST_NS: u64 = 100_000_000_000;

/// Times of requests.
#[derive(Clone, Debug)]
pub struct LatencyHistogram(Histogram<u64>);

impl LatencyHistogram {
    /// Without times yet.
    ///
    /// # Errors
    /// The bounds above make no histogram.
    pub fn new() -> Result<LatencyHistogram, Failure> {
        match Histogram::new_with_max(LONGEST_NS, DIGITS) {
            Ok(histogram) => Ok(LatencyHistogram(histogram)),
            Err(error) => Err(Failure::asked(format!("no histogram: {error}"))),
        }
    }

    /// Counts one request that took so long.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &LatencyHistogram) {
        // Both have the same bounds, so nothing can be out of them.
        let _ = self.0.add(&other.0);
    }

    /// Requests counted.
    pub fn total(&self) -> u64 {
        self.0.len()
    }

    /// What `share` (0 to 1) of the requests did not exceed, in us; 0 without requests.
    pub fn us(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_within_one_part_in_128_and_two_are_added() {
        let (mut all, mut late) = (LatencyHistogram::new().unwrap(), LatencyHistogram::new().unwrap());
        assert_eq!(all.us(0.99), 0.0);
        (1..=990).for_each(|ns| all.record(1000 * ns));
        (0..10).for_each(|_| late.record(u64::MAX));
        all.add(&late);
        assert_eq!(all.total(), 1000);
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0), (0.999, LONGEST_NS as f64 / 1e3)] {
            let error = all.us(share) / exact - 1.0;
            assert!((0.0..1.0 / 127.0).contains(&error), "{share}: {}", all.us(share));
        }
    }
}
