//! Latencies in buckets whose width grows with the value: 128 per power of two, so that a percentile is wrong by at
//! most one part in 128 (0.8 %), and recording one is a shift and an increment.

const SUB_BITS: u32 = 7;
const SUB: u64 = 1 << SUB_BITS;
const BUCKETS: usize = ((64 - SUB_BITS + 1) as usize) << SUB_BITS;

/// Counts of values, here nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Counts one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many values there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest value, exactly.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that `share` (0 to 1) of all values do not exceed, rounded up to the end of its bucket; 0 when there
    /// are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return last_of(index).min(self.max);
            }
        }
        self.max
    }
}

#[inline]
fn bucket(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let power = 63 - value.leading_zeros();
    let shift = power - SUB_BITS;
    (((u64::from(shift) + 1) << SUB_BITS) + ((value >> shift) - SUB)) as usize
}

/// The largest value of a bucket.
fn last_of(index: usize) -> u64 {
    let (octave, sub) = (index as u64 >> SUB_BITS, index as u64 & (SUB - 1));
    if octave == 0 {
        return sub;
    }
    let shift = octave - 1;
    ((SUB + sub) << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_one_says_zero() {
        assert_eq!(Histogram::default().quantile(0.99), 0);
    }

    #[test]
    fn two_are_added() {
        let (mut one, mut two) = (Histogram::default(), Histogram::default());
        one.record(10);
        two.record(1_000_000);
        one.add(&two);
        assert_eq!((one.total(), one.max(), one.quantile(0.5)), (2, 1_000_000, 10));
        assert_eq!(one.quantile(1.0), 1_000_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A bucket's end is never below its value and never more than one part in 128 above.
        #[test]
        fn buckets_are_narrow(value in any::<u64>()) {
            let last = last_of(bucket(value));
            prop_assert!(last >= value);
            prop_assert!(last - value <= value / SUB);
            prop_assert!(bucket(value) < BUCKETS);
        }

        /// Quantiles are those of the sorted values, within a bucket.
        #[test]
        fn quantiles_agree_with_sorting(
            mut values in prop::collection::vec(0u64..10_000_000, 1..200), share in 0.0f64..=1.0,
        ) {
            let mut histogram = Histogram::default();
            for &value in &values {
                histogram.record(value);
            }
            values.sort_unstable();
            let rank = ((values.len() as f64 * share).ceil() as usize).max(1);
            let exact = values[rank - 1];
            let told = histogram.quantile(share);
            prop_assert!(told >= exact && told - exact <= exact / SUB, "{told} for {exact}");
        }
    }
}
