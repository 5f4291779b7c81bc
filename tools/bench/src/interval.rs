//! How sure a median is: an interval from order statistics, which supposes nothing about how the figures are spread.
//!
//! The true median lies below a figure as often as above it. So the number of figures below it is binomial with one
//! half, and the k-th smallest and the k-th largest of n figures have it between them with the probability
//! 1 - 2 P(B(n, 1/2) < k). That is exact and takes no tables and no resampling. With fewer than six figures even the
//! smallest and the largest give less than 95 %; then they are the interval, and `confidence` says what they give.

use crate::figures::figure;
use serde::Serialize;
use std::fmt;

/// How often the interval is to have the true median in it.
pub const CONFIDENCE: f64 = 0.95;

/// The median of some figures and where the true one is.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Interval {
    /// Median.
    pub median: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How many figures it comes from.
    pub pairs: usize,
    /// How often an interval made like this has the true median in it: at least [`CONFIDENCE`] from six figures on.
    pub confidence: f64,
}

impl Interval {
    /// Of some figures; `None` when there are none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Interval> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let pairs = sorted.len();
        let rank = rank(pairs);
        let (low, high) = (sorted.get(rank.checked_sub(1)?)?, sorted.get(pairs - rank)?);
        Some(Interval {
            median: (sorted.get((pairs - 1) / 2)? + sorted.get(pairs / 2)?) / 2.0,
            low: *low,
            high: *high,
            pairs,
            confidence: coverage(pairs, rank),
        })
    }
}

/// `median [low .. high]`; near 1 the third digit after the point tells. `1` for what is compared with itself.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = |value: f64| match value < 2.0 {
            true => format!("{value:.3}"),
            false => figure(value),
        };
        if (self.low, self.high) == (1.0, 1.0) {
            return f.write_str("1");
        }
        let [median, low, high] = [self.median, self.low, self.high].map(ratio);
        write!(f, "{median} [{low} .. {high}]")
    }
}

/// Which smallest and which largest of `pairs` figures are the ends: the innermost that still give [`CONFIDENCE`], or
/// the first when none do. 0 without figures.
pub fn rank(pairs: usize) -> usize {
    let inner = (1..=pairs.div_ceil(2)).rev();
    let enough = |&rank: &usize| coverage(pairs, rank) >= CONFIDENCE;
    inner.clone().find(enough).unwrap_or(pairs.min(1))
}

/// How often the true median lies between the `rank`-th smallest and the `rank`-th largest of `pairs` figures.
pub fn coverage(pairs: usize, rank: usize) -> f64 {
    // Chances of exactly `below` figures below the median, one from the other. In logarithms: 2^-n ends at n = 1074.
    let mut chance_ln = -(pairs as f64) * std::f64::consts::LN_2;
    let mut outside = 0.0;
    for below in 0..rank {
        outside += chance_ln.exp();
        chance_ln += ((pairs - below) as f64).ln() - ((below + 1) as f64).ln();
    }
    (1.0 - 2.0 * outside).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn known_ranks() {
        // Figures, rank, coverage in tenths of a percent; the first five cannot give 95 %.
        let known = [
            (1, 1, 0),
            (2, 1, 500),
            (3, 1, 750),
            (5, 1, 938),
            (6, 1, 969),
            (7, 1, 984),
            (8, 1, 992),
            (9, 2, 961),
            (10, 2, 979),
            (15, 4, 965),
            (21, 6, 973),
            (25, 8, 957),
            (100, 40, 965),
        ];
        for (pairs, ends, tenths) in known {
            assert_eq!(rank(pairs), ends, "{pairs}");
            assert_eq!(
                (coverage(pairs, ends) * 1000.0).round() as i32,
                tenths,
                "{pairs} figures"
            );
            assert!(pairs < 6 || coverage(pairs, ends + 1) < CONFIDENCE, "{pairs}");
        }
        assert!(coverage(5000, rank(5000)) >= CONFIDENCE);
    }

    #[test]
    fn ends_are_figures_at_their_ranks() {
        assert_eq!(Interval::of([]), None);
        let six = Interval::of([5.0, 1.0, 2.0, 3.0, 4.0, 6.0]).unwrap();
        assert_eq!((six.median, six.low, six.high, six.pairs), (3.5, 1.0, 6.0, 6));
        let many = Interval::of((1..=21).rev().map(f64::from)).unwrap();
        assert_eq!((many.median, many.low, many.high), (11.0, 6.0, 16.0));
        assert!(near(many.confidence, coverage(21, 6)));
        assert_eq!(six.to_string(), "3.50 [1.000 .. 6.00]");
        assert_eq!(Interval::of([1.0, 1.0]).unwrap().to_string(), "1");
        let one = Interval::of([2.0]).unwrap();
        assert_eq!(
            (one.low, one.median, one.high, one.confidence),
            (2.0, 2.0, 2.0, 0.0)
        );
    }
}
