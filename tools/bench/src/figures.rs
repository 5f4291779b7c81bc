//! Figures from windows: medians with their spread, percentiles, and ratios of windows that ran beside each other.

use crate::Failure;
use crate::interval::Interval;
use crate::latency::LatencyHistogram;
use crate::reference;
use crate::row::Row;
use crate::target::Family;
use crate::window::Window;
use palisade_block::Nanos;
use serde::Serialize;
use std::fmt;

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
        let (low, high) = (
            sorted.get(sorted.len().checked_sub(1)? / 2)?,
            sorted.get(sorted.len() / 2)?,
        );
        Some(Spread {
            median: (low + high) / 2.0,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

/// `median (min .. max)`.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, min, max] = [self.median, self.min, self.max].map(figure);
        write!(f, "{median} ({min} .. {max})")
    }
}

/// Three digits that mean something.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What one window of a target gave.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Measured {
    /// Requests a second.
    pub rate: f64,
    /// Share of one core used by the target.
    pub cpu: f64,
    /// Processor nanoseconds of the target for one request.
    pub cpu_ns: f64,
    /// Kicks asked for, per request.
    pub kicks: f64,
    /// What 99 % of the window's requests did not exceed, us.
    pub p99_us: f64,
}

/// All windows of one target in one row.
#[derive(Clone, Debug)]
pub struct Series {
    target: &'static str,
    family: Family,
    windows: Vec<Measured>,
    latency: LatencyHistogram,
}

impl Series {
    /// Without windows yet.
    pub fn new(target: &'static str, family: Family) -> Result<Series, Failure> {
        Ok(Series {
            target,
            family,
            windows: Vec::new(),
            latency: LatencyHistogram::new()?,
        })
    }

    /// Adds a window in which the target used so much processor time.
    pub fn add(&mut self, window: &Window, cpu: Nanos) {
        let requests = window.requests.max(1) as f64;
        self.windows.push(Measured {
            rate: window.rate(),
            cpu: cpu.0 as f64 / window.elapsed.0.max(1) as f64,
            cpu_ns: cpu.0 as f64 / requests,
            kicks: window.kicks as f64 / requests,
            p99_us: window.latency.us(0.99),
        });
        self.latency.add(&window.latency);
    }

    fn spread(&self, of: fn(&Measured) -> f64) -> Option<Spread> {
        Spread::of(self.windows.iter().map(of))
    }

    fn median(&self, of: fn(&Measured) -> f64) -> f64 {
        self.spread(of).map_or(f64::NAN, |spread| spread.median)
    }

    /// Ratios to another's windows of the same rounds.
    fn to(&self, other: Option<&Series>, of: fn(&Measured) -> f64) -> Option<Interval> {
        let pairs = self.windows.iter().zip(&other?.windows);
        Interval::of(pairs.map(|(one, other)| of(one) / of(other).max(f64::MIN_POSITIVE)))
    }
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
    /// Half of all requests took no longer, us.
    pub p50_us: f64,
    /// 99 % took no longer, us.
    pub p99_us: f64,
    /// 99.9 % took no longer, us.
    pub p999_us: f64,
    /// Percent of one core.
    pub cpu_percent: f64,
    /// Processor nanoseconds of the target for one request.
    pub cpu_ns: Spread,
    /// Kicks for one request.
    pub kicks_per_request: f64,
    /// How many times as fast as qemu-storage-daemon, round by round.
    pub to_qemu: Option<Interval>,
    /// How many times as fast as the bare program, round by round.
    pub to_bare: Option<Interval>,
    /// How many times as long as with the bare program the 99th percentile is, round by round.
    pub p99_to_bare: Option<Interval>,
    /// Processor time for a request as a share of qemu-storage-daemon's, round by round.
    pub cpu_to_qemu: Option<Interval>,
    /// How many times as long as with qemu-storage-daemon the 99th percentile is, round by round.
    pub p99_to_qemu: Option<Interval>,
    /// Window by window.
    pub windows: Vec<Measured>,
}

/// A tenth of what qemu-storage-daemon reached: the rate at which requests came.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Load {
    /// Requests a second, thousands.
    pub kiops: f64,
    /// Of so many.
    pub of_kiops: f64,
    /// By this way of qemu-storage-daemon.
    pub of_way: &'static str,
}

/// Whom ratios are taken to: the best way of a family in what is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Rivals {
    /// Of qemu-storage-daemon's ways, by rate.
    pub qemu: Option<&'static str>,
    /// Of the bare programs, by rate.
    pub bare: Option<&'static str>,
    /// Of qemu-storage-daemon's ways, by processor time; for requests that come at a rate.
    pub qemu_cpu: Option<&'static str>,
    /// Of qemu-storage-daemon's ways, by the 99th percentile; for requests that come at a rate.
    pub qemu_p99: Option<&'static str>,
}

/// One row with all targets.
#[derive(Clone, Debug, Serialize)]
pub struct RowFigures {
    /// Its name.
    pub name: String,
    /// What was measured.
    pub row: Row,
    /// The rate at which requests came; `None` where each target had as many as it could answer.
    pub load: Option<Load>,
    /// All targets.
    pub targets: Vec<Figures>,
    /// Whom ratios are taken to.
    pub rivals: Rivals,
    /// The best C dataplane's ratio to qemu-storage-daemon, a constant.
    pub best_c_to_qemu: Option<f64>,
}

impl RowFigures {
    /// Of all series of a row.
    pub fn of(row: Row, load: Option<Load>, series: &[Series]) -> RowFigures {
        let qemu = load.map_or_else(|| fastest(series, Family::Qemu), |_| None);
        let bare = fastest(series, Family::Bare);
        let paced = |of| load.and_then(|_| least(series, Family::Qemu, of));
        let (cpu, p99) = (paced(|one| one.cpu_ns), paced(|one| one.p99_us));
        let figures = |one: &Series| {
            let mb = f64::from(row.bytes) / 1e6;
            Some(Figures {
                target: one.target,
                family: one.family,
                kiops: one.spread(|window| window.rate / 1e3)?,
                mb_s: Spread::of(one.windows.iter().map(|window| window.rate * mb))?,
                p50_us: one.latency.us(0.5),
                p99_us: one.latency.us(0.99),
                p999_us: one.latency.us(0.999),
                cpu_percent: one.median(|window| window.cpu * 100.0),
                cpu_ns: one.spread(|window| window.cpu_ns)?,
                kicks_per_request: one.median(|window| window.kicks),
                to_qemu: one.to(qemu, |window| window.rate),
                to_bare: one.to(bare, |window| window.rate),
                p99_to_bare: one.to(bare, |window| window.p99_us),
                cpu_to_qemu: one.to(cpu, |window| window.cpu_ns),
                p99_to_qemu: one.to(p99, |window| window.p99_us),
                windows: one.windows.clone(),
            })
        };
        let targets: Vec<Figures> = series.iter().filter_map(figures).collect();
        let name = |rival: Option<&Series>| rival.map(|one| one.target);
        RowFigures {
            name: match load {
                Some(_) => format!("{}-{}-{}k-load10", row.medium, row.work, row.bytes / 1024),
                None => row.to_string(),
            },
            row,
            load,
            rivals: Rivals {
                qemu: name(qemu),
                bare: name(bare),
                qemu_cpu: name(cpu),
                qemu_p99: name(p99),
            },
            best_c_to_qemu: reference::best_c_ratio(row).filter(|_| load.is_none()),
            targets,
        }
    }
}

impl Load {
    /// So great a share of what the fastest way of qemu-storage-daemon reached; `None` when it is not among them.
    pub fn share(share: f64, saturated: &[Series]) -> Option<Load> {
        let best = fastest(saturated, Family::Qemu)?;
        let of_kiops = best.median(|window| window.rate / 1e3);
        Some(Load {
            kiops: of_kiops * share,
            of_kiops,
            of_way: best.target,
        })
    }
}

fn fastest(series: &[Series], family: Family) -> Option<&Series> {
    least(series, family, |window| -window.rate)
}

/// The member of a family whose median is the least.
fn least(series: &[Series], family: Family, of: fn(&Measured) -> f64) -> Option<&Series> {
    let members = series
        .iter()
        .filter(|one| one.family == family && !one.windows.is_empty());
    members.min_by(|one, other| one.median(of).total_cmp(&other.median(of)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A series of windows of a second each: thousands of requests, nanoseconds of processor time for each, and how long
    /// each took in us.
    pub(crate) fn series(target: &'static str, family: Family, windows: &[(u64, u64, u64)]) -> Series {
        let mut series = Series::new(target, family).unwrap();
        for &(thousands, cpu_ns, us) in windows {
            let mut window = Window::new().unwrap();
            window.requests = 1000 * thousands;
            window.kicks = 500 * thousands;
            window.elapsed = Nanos::from_secs(1);
            window.latency.record(1000 * us);
            series.add(&window, Nanos(1000 * thousands * cpu_ns));
        }
        series
    }

    #[test]
    fn a_median_lies_in_the_middle_and_has_three_digits() {
        assert_eq!(Spread::of([]), None);
        let said = |figures: &[f64]| Spread::of(figures.iter().copied()).unwrap().to_string();
        assert_eq!(said(&[3.0, 1.0, 1234.6]), "3.00 (1.00 .. 1235)");
        assert_eq!(said(&[4.0, 1.0, 2.0, 12.34]), "3.00 (1.00 .. 12.3)");
    }

    #[test]
    fn ratios_are_taken_round_by_round_against_the_better_way() {
        let row = Row::matching("file-read-4k-qd1").unwrap()[0];
        let all = [
            series(
                "ours",
                Family::Palisade,
                &[(300, 50, 10), (600, 50, 20), (900, 50, 30)],
            ),
            series("slow", Family::Qemu, &[(10, 1, 1); 3]),
            series("fast", Family::Qemu, &[(100, 1, 1), (300, 1, 1), (300, 1, 1)]),
            series("bare", Family::Bare, &[(300, 1, 10), (600, 1, 20), (1000, 1, 20)]),
        ];
        let figures = RowFigures::of(row, None, &all);
        let ends = |of: Option<Interval>| of.map(|of| (of.low, of.median, of.high));
        let ours = &figures.targets[0];
        assert_eq!(ends(ours.to_qemu), Some((2.0, 3.0, 3.0)));
        assert_eq!(ends(ours.to_bare), Some((0.9, 1.0, 1.0)));
        let p99 = ours.p99_to_bare.unwrap();
        assert!(p99.median == 1.0 && (p99.high - 1.5).abs() < 0.02, "{p99:?}");
        assert!(ours.cpu_to_qemu.is_none() && ours.p99_to_qemu.is_none());
        assert_eq!(
            (figures.rivals.qemu, figures.rivals.bare),
            (Some("fast"), Some("bare"))
        );
        assert_eq!((ours.kiops.median, ours.cpu_ns.median), (600.0, 50.0));
        assert_eq!(ours.kicks_per_request, 0.5);
        assert!((ours.mb_s.median - 600_000.0 * 4096.0 / 1e6).abs() < 1e-6);
        assert!((ours.cpu_percent - 3.0).abs() < 1e-9);
        assert_eq!(figures.targets[2].to_qemu.unwrap().median, 1.0);
    }

    #[test]
    fn at_a_rate_each_ratio_is_to_the_best_of_theirs_in_that() {
        let row = Row::matching("null-read-4k-qd32").unwrap()[0];
        let load = Load::share(0.1, &[series("qemu", Family::Qemu, &[(100, 1, 1)])]).unwrap();
        assert_eq!((load.kiops, load.of_way), (10.0, "qemu"));
        assert!(Load::share(0.1, &[]).is_none());
        let all = [
            series("palisade-adaptive", Family::Palisade, &[(10, 300, 5); 6]),
            series("qemu", Family::Qemu, &[(10, 1000, 9); 6]),
            series("qemu-threads", Family::Qemu, &[(10, 2000, 4); 6]),
        ];
        let figures = RowFigures::of(row, Some(load), &all);
        let rivals = figures.rivals;
        assert_eq!(
            (rivals.qemu_cpu, rivals.qemu_p99),
            (Some("qemu"), Some("qemu-threads"))
        );
        let ours = &figures.targets[0];
        assert_eq!(ours.cpu_to_qemu.unwrap().median, 0.3);
        assert!((ours.p99_to_qemu.unwrap().median - 1.25).abs() < 0.02);
        assert_eq!(figures.name, "null-read-4k-load10");
    }
}
