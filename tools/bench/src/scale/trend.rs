//! Whether a figure grows: the slope that half of all pairs of samples exceed (Theil and Sen). Up to 29 % of the samples
//! may be arbitrarily wrong without moving it far, so a burst of work or a late release does not look like a leak.

use serde::Serialize;

/// Samples that are used at most; more are thinned out evenly, since all pairs are looked at.
const SAMPLES_MAX: usize = 1500;

/// A slope with its uncertainty.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Trend {
    /// The median of all slopes, per unit of time.
    pub slope: f64,
    /// The lower end of the 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Trend {
    /// The trend of (time, value) in order of time. `None` for fewer than ten samples.
    pub fn of(samples: &[(f64, f64)]) -> Option<Trend> {
        let step = samples.len().div_ceil(SAMPLES_MAX).max(1);
        let samples: Vec<(f64, f64)> = samples.iter().copied().step_by(step).collect();
        if samples.len() < 10 {
            return None;
        }
        let mut slopes = Vec::with_capacity(samples.len() * samples.len() / 2);
        for (position, &(time, value)) in samples.iter().enumerate() {
            for &(later, then) in samples.iter().skip(position + 1) {
                if later > time {
                    slopes.push((then - value) / (later - time));
                }
            }
        }
        slopes.sort_by(f64::total_cmp);
        // Sen 1968: the interval's ends are slopes, as many ranks from the middle as Kendall's statistic may stray.
        let n = samples.len() as f64;
        let stray = 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        let pairs = slopes.len() as f64;
        let at = |rank: f64| {
            let rank = rank.round().clamp(0.0, pairs - 1.0);
            slopes.get(rank as usize).copied()
        };
        Some(Trend {
            slope: at((pairs - 1.0) / 2.0)?,
            low: at((pairs - stray) / 2.0)?,
            high: at((pairs + stray) / 2.0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn noisy(slope: f64) -> Vec<(f64, f64)> {
        let mut random = Random::new(5);
        let noise = (0..200).map(|_| random.below(1000) as f64 / 10.0 - 50.0);
        noise
            .enumerate()
            .map(|(at, noise)| (at as f64, 1000.0 + slope * at as f64 + noise))
            .collect()
    }

    #[test]
    fn a_slope_is_found_under_noise() {
        let trend = Trend::of(&noisy(3.0)).unwrap();
        assert!((2.7..3.3).contains(&trend.slope) && trend.low < trend.slope && trend.slope < trend.high);
        let flat = Trend::of(&noisy(0.0)).unwrap();
        assert!(flat.low < 0.0 && flat.high > 0.0, "{flat:?}");
    }

    #[test]
    fn outliers_do_not_move_it_far() {
        let mut samples = noisy(0.0);
        samples
            .iter_mut()
            .skip(150)
            .step_by(4)
            .for_each(|sample| sample.1 += 1e6);
        assert!(Trend::of(&samples).unwrap().slope.abs() < 1.0);
    }

    #[test]
    fn steps_are_not_hidden_and_few_samples_say_nothing() {
        let steps: Vec<(f64, f64)> = (0..3000)
            .map(|at| (f64::from(at), f64::from(at / 100) * 64.0))
            .collect();
        assert!((0.5..0.8).contains(&Trend::of(&steps).unwrap().slope));
        assert!(Trend::of(&steps[..9]).is_none());
    }
}
