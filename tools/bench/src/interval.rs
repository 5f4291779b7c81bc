//! How sure a median is: an interval from order statistics, which supposes nothing about how the figures are spread.
//!
//! The true median lies below a figure as often as above it. So the number of figures below it is binomial with one
//! half, and the k-th smallest and the k-th largest of n figures have it between them with the probability
//! 1 - 2 P(B(n, 1/2) < k). That is exact and takes no tables and no resampling. With fewer than six figures even the
//! smallest and the largest give less than 95 %; then they are the interval, and `confidence` says what they give.

use serde::Serialize;

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

/// What an interval says of a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All of it is on the good side.
    Met,
    /// All of it is on the bad side.
    Missed,
    /// The limit lies inside: these runs cannot tell.
    Open,
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

    /// Whether the true median is `limit` or more.
    pub fn at_least(&self, limit: f64) -> Verdict {
        match (self.low >= limit, self.high < limit) {
            (true, _) => Verdict::Met,
            (_, true) => Verdict::Missed,
            _ => Verdict::Open,
        }
    }

    /// Whether the true median is `limit` or less.
    pub fn at_most(&self, limit: f64) -> Verdict {
        match (self.high <= limit, self.low > limit) {
            (true, _) => Verdict::Met,
            (_, true) => Verdict::Missed,
            _ => Verdict::Open,
        }
    }
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Missed => "missed",
            Verdict::Open => "undecided",
        }
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
    use crate::random::Random;

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    /// Against sums of whole binomial coefficients.
    #[test]
    fn coverage_is_that_of_the_binomial_distribution() {
        for pairs in 1..=60u32 {
            let (mut coefficient, mut below) = (1u128, 0u128);
            for rank in 1..=pairs.div_ceil(2) {
                below += coefficient;
                coefficient = coefficient * u128::from(pairs - rank + 1) / u128::from(rank);
                let exact = 1.0 - 2.0 * below as f64 / 2f64.powi(pairs as i32);
                let told = coverage(pairs as usize, rank as usize);
                assert!(near(told, exact.max(0.0)), "{pairs} {rank}: {told} for {exact}");
            }
        }
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
        let one = Interval::of([2.0]).unwrap();
        assert_eq!(
            (one.low, one.median, one.high, one.confidence),
            (2.0, 2.0, 2.0, 0.0)
        );
    }

    /// Skewed figures, often: the interval has the true median in it as often as it says.
    #[test]
    fn it_keeps_its_word() {
        let mut random = Random::new(11);
        let (median, rounds) = (0.25, 4000);
        for pairs in [7, 21] {
            let inside = (0..rounds).filter(|_| {
                let squares = (0..pairs).map(|_| (random.next_u64() as f64 / 2f64.powi(64)).powi(2));
                let interval = Interval::of(squares).unwrap();
                (interval.low..=interval.high).contains(&median)
            });
            let share = inside.count() as f64 / f64::from(rounds);
            let told = coverage(pairs, rank(pairs));
            assert!((share - told).abs() < 0.015, "{pairs}: {share} for {told}");
        }
    }

    #[test]
    fn limits_are_judged_by_the_whole_interval() {
        let interval = Interval::of([0.96, 0.97, 0.98, 0.99, 1.0, 1.01]).unwrap();
        let at_least = [0.9, 1.0, 1.1].map(|limit| interval.at_least(limit));
        assert_eq!(at_least, [Verdict::Met, Verdict::Open, Verdict::Missed]);
        let at_most = [0.9, 1.0, 1.1].map(|limit| interval.at_most(limit));
        assert_eq!(at_most, [Verdict::Missed, Verdict::Open, Verdict::Met]);
    }
}
