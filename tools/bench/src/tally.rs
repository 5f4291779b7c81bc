//! Figures from windows: medians with their spread, percentiles, and ratios of windows that ran beside each other.

use crate::goal::Goal;
use crate::histogram::Histogram;
use crate::interval::Interval;
use crate::row::Row;
use crate::target::Family;
use crate::window::Window;
use palisade_block::Nanos;
use serde::Serialize;

/// The middle and the ends of some figures.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of some figures; `None` when there are none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Spread {
            median: (low + high) / 2.0,
            min,
            max,
        })
    }
}

/// Fewest requests in a millisecond that are counted on: chance then moves the figure by a tenth at most.
const QUIET_REQUESTS_MIN: u32 = 100;

/// All windows of one target in one row.
#[derive(Clone, Debug)]
pub struct Series {
    /// Who.
    pub target: &'static str,
    /// Of which family.
    pub family: Family,
    /// Requests a second, window by window.
    pub rates: Vec<f64>,
    /// Share of one core used by the target, window by window.
    pub cpu: Vec<f64>,
    /// Processor nanoseconds of the target for one request, window by window.
    pub cpu_ns: Vec<f64>,
    /// Kicks asked for, per request, window by window.
    pub kicks: Vec<f64>,
    /// What half of a window's requests did not exceed, ns, window by window.
    pub p50_ns: Vec<f64>,
    /// What 99 % of a window's requests did not exceed, ns, window by window.
    pub p99_ns: Vec<f64>,
    /// All latencies.
    pub latency: Histogram,
    /// Requests answered in slices of a millisecond, of all windows.
    pub slices: Vec<u32>,
}

impl Series {
    /// Without windows yet.
    pub fn new(target: &'static str, family: Family) -> Series {
        Series {
            target,
            family,
            rates: Vec::new(),
            cpu: Vec::new(),
            cpu_ns: Vec::new(),
            kicks: Vec::new(),
            p50_ns: Vec::new(),
            p99_ns: Vec::new(),
            latency: Histogram::default(),
            slices: Vec::new(),
        }
    }

    /// Adds a window in which the target used so much processor time.
    pub fn add(&mut self, window: &Window, cpu: Nanos) {
        let requests = window.requests.max(1) as f64;
        self.rates.push(window.rate());
        self.cpu.push(cpu.0 as f64 / window.elapsed.0.max(1) as f64);
        self.cpu_ns.push(cpu.0 as f64 / requests);
        self.kicks.push(window.kicks as f64 / requests);
        self.p50_ns.push(window.latency.quantile(0.5) as f64);
        self.p99_ns.push(window.latency.quantile(0.99) as f64);
        self.latency.add(&window.latency);
        self.slices.extend_from_slice(&window.slices);
    }

    /// Requests a second in the millisecond that nine of ten do not exceed: what the target does while nobody takes
    /// its core or the client's. `None` where a millisecond holds too few requests to tell chance from speed.
    fn quiet_rate(&self) -> Option<f64> {
        let mut sorted = self.slices.clone();
        sorted.sort_unstable();
        let slice = *sorted.get(sorted.len().saturating_sub(1) * 9 / 10)?;
        (slice >= QUIET_REQUESTS_MIN).then(|| f64::from(slice) * 1e3)
    }

    /// The median window's requests a second; 0 without windows.
    pub fn median_rate(&self) -> f64 {
        Spread::of(self.rates.iter().copied()).map_or(0.0, |spread| spread.median)
    }
}

/// Ratios of figures of two series that ran in the same round.
pub fn paired(of: &[f64], to: &[f64]) -> Option<Interval> {
    let ratios = of.iter().zip(to);
    Interval::of(ratios.map(|(one, other)| one / other.max(f64::MIN_POSITIVE)))
}

/// One target in one row, as figures.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Who.
    pub target: &'static str,
    /// Of which family.
    pub family: Family,
    /// Thousands of requests a second.
    pub kiops: Spread,
    /// Millions of bytes a second.
    pub mb_s: Spread,
    /// Thousands of requests a second in the quiet milliseconds (the 90th percentile of all); none for slow rows.
    pub quiet_kiops: Option<f64>,
    /// The same as a ratio to qemu-storage-daemon's.
    pub quiet_to_qemu: Option<f64>,
    /// Half of all requests took no longer, us.
    pub p50_us: f64,
    /// 99 % took no longer, us.
    pub p99_us: f64,
    /// 99.9 % took no longer, us.
    pub p999_us: f64,
    /// Percent of one core.
    pub cpu_percent: f64,
    /// Processor nanoseconds of the target for one request.
    pub cpu_ns_per_request: f64,
    /// Kicks for one request.
    pub kicks_per_request: f64,
    /// How many times as fast as the better of qemu-storage-daemon's ways, round by round.
    pub to_qemu: Option<Interval>,
    /// How many times as fast as the better of the bare programs, round by round.
    pub to_bare: Option<Interval>,
    /// How many times as long as with the same way of qemu-storage-daemon the 99th percentile is, round by round.
    pub p99_to_qemu: Option<Interval>,
    /// How many times as long as with the same bare program the 99th percentile is, round by round.
    pub p99_to_bare: Option<Interval>,
    /// Requests a second, window by window.
    pub windows: Vec<f64>,
    /// The 99th percentile in us, window by window.
    pub windows_p99_us: Vec<f64>,
}

/// One row with all targets.
#[derive(Clone, Debug, Serialize)]
pub struct RowFigures {
    /// Its name.
    pub name: String,
    /// What was measured.
    pub row: Row,
    /// All targets.
    pub targets: Vec<Figures>,
    /// The way of qemu-storage-daemon that ratios are taken to: that with the highest median rate.
    pub qemu_way: Option<&'static str>,
    /// The bare program that ratios are taken to: that with the highest median rate.
    pub bare_way: Option<&'static str>,
    /// The best C dataplane's ratio to qemu-storage-daemon, a constant.
    pub best_c_to_qemu: Option<f64>,
    /// What was aimed at, and whether it has been reached.
    pub goals: Vec<Goal>,
}

/// Figures of all series of a row.
pub fn figures(row: Row, series: &[Series]) -> RowFigures {
    let qemu = best_of(series, Family::Qemu);
    let bare = best_of(series, Family::Bare);
    let targets: Vec<Figures> = series
        .iter()
        .filter_map(|one| figures_of(row, one, qemu, bare))
        .collect();
    RowFigures {
        name: row.to_string(),
        row,
        qemu_way: qemu.map(|one| one.target),
        bare_way: bare.map(|one| one.target),
        best_c_to_qemu: crate::reference::best_c_ratio(row),
        goals: crate::goal::of_row(row, &targets),
        targets,
    }
}

/// Which of a family's ways is the best: the one with the highest median rate.
pub fn best_of(series: &[Series], family: Family) -> Option<&Series> {
    let members = series
        .iter()
        .filter(|one| one.family == family && !one.rates.is_empty());
    members.max_by(|one, other| one.median_rate().total_cmp(&other.median_rate()))
}

fn figures_of(row: Row, one: &Series, qemu: Option<&Series>, bare: Option<&Series>) -> Option<Figures> {
    let rates = || one.rates.iter().copied();
    let us = |share| one.latency.quantile(share) as f64 / 1000.0;
    let median = |figures: &[f64]| Spread::of(figures.iter().copied()).map(|spread| spread.median);
    let rate_to = |other: &Series| paired(&one.rates, &other.rates);
    let p99_to = |other: &Series| paired(&one.p99_ns, &other.p99_ns);
    Some(Figures {
        target: one.target,
        family: one.family,
        kiops: Spread::of(rates().map(|rate| rate / 1e3))?,
        mb_s: Spread::of(rates().map(|rate| rate * f64::from(row.bytes) / 1e6))?,
        quiet_kiops: one.quiet_rate().map(|rate| rate / 1e3),
        quiet_to_qemu: one
            .quiet_rate()
            .zip(qemu.and_then(Series::quiet_rate))
            .map(|(ours, theirs)| ours / theirs),
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        cpu_percent: median(&one.cpu)? * 100.0,
        cpu_ns_per_request: median(&one.cpu_ns)?,
        kicks_per_request: median(&one.kicks)?,
        to_qemu: qemu.and_then(rate_to),
        to_bare: bare.and_then(rate_to),
        p99_to_qemu: qemu.and_then(p99_to),
        p99_to_bare: bare.and_then(p99_to),
        windows: one.rates.clone(),
        windows_p99_us: one.p99_ns.iter().map(|ns| ns / 1e3).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(target: &'static str, family: Family, rates: &[u64]) -> Series {
        let mut series = Series::new(target, family);
        for &rate in rates {
            let mut latency = Histogram::default();
            latency.record(1_000_000_000 / rate);
            let window = Window {
                requests: 2 * rate,
                elapsed: Nanos::from_secs(2),
                latency,
                kicks: rate,
                slices: vec![1, 1000, rate as u32],
            };
            series.add(&window, Nanos::from_secs(1));
        }
        series
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        let spread = |median, min, max| Some(Spread { median, min, max });
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), spread(2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), spread(2.5, 1.0, 4.0));
    }

    #[test]
    fn quiet_slices_are_the_upper_ones_and_not_by_chance() {
        let mut one = series("one", Family::Palisade, &[100]);
        one.slices = (1..=1000).collect();
        assert_eq!(one.quiet_rate(), Some(900_000.0));
        one.slices = vec![30; 1000];
        assert_eq!(one.quiet_rate(), None);
        one.slices.clear();
        assert_eq!(one.quiet_rate(), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round_against_the_better_way() {
        let row: Row = "file-read-4k-qd1".parse().unwrap();
        let all = [
            series("ours", Family::Palisade, &[300, 600, 900]),
            series("slow", Family::Qemu, &[10, 10, 10]),
            series("fast", Family::Qemu, &[100, 300, 300]),
            series("bare", Family::Bare, &[300, 600, 1000]),
        ];
        let figures = figures(row, &all);
        let ours = &figures.targets[0];
        let to_qemu = ours.to_qemu.unwrap();
        assert_eq!((to_qemu.low, to_qemu.median, to_qemu.high), (2.0, 3.0, 3.0));
        let to_bare = ours.to_bare.unwrap();
        assert_eq!((to_bare.low, to_bare.median, to_bare.high), (0.9, 1.0, 1.0));
        assert_eq!((to_bare.pairs, to_bare.confidence), (3, 0.75));
        // The slower a target of these, the longer each request: the ratios of times are those of rates turned round.
        let p99 = ours.p99_to_bare.unwrap();
        assert!(
            (p99.high - 1.0 / 0.9).abs() < 0.01 && p99.median == 1.0,
            "{p99:?}"
        );
        assert!((ours.p99_to_qemu.unwrap().low - 1.0 / 3.0).abs() < 0.01);
        assert_eq!(figures.qemu_way.zip(figures.bare_way), Some(("fast", "bare")));
        assert_eq!(
            (ours.kiops.median, ours.cpu_percent, ours.kicks_per_request),
            (0.6, 50.0, 0.5)
        );
        assert!((ours.cpu_ns_per_request - 0.5e9 / 600.0).abs() < 1.0);
        assert!((ours.mb_s.median - 600.0 * 4096.0 / 1e6).abs() < 1e-9);
        assert_eq!(figures.targets[2].to_qemu.unwrap().median, 1.0);
        assert!(figures.best_c_to_qemu.is_some());
    }
}
