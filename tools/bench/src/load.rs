//! What a request costs when there are few of them: the processor time of targets that may sleep, and the time
//! requests take, while they come at a tenth of what qemu-storage-daemon can do at most on this machine.
//!
//! A target that always polls is not in it: it takes a whole core however few requests there are.

pub mod paced;
pub mod page;

use crate::Failure;
use crate::contestant::{Arrivals, Contestant, Rounds, rounds};
use crate::goal::{Goal, LOAD_CPU_SHARE_MAX};
use crate::interval::Interval;
use crate::row::{Medium, Row, SMALL_BYTES, Work};
use crate::session::Manner;
use crate::tally::{Series, Spread, best_of, paired};
use crate::target::{Family, Way};
use serde::Serialize;
use std::time::Duration;

/// The share of qemu-storage-daemon's highest rate at which requests come.
pub const SHARE: f64 = 0.1;

/// The depth at which that highest rate is taken.
pub const SATURATED_DEPTH: u16 = 32;

/// Windows and their length for the highest rate: it only sets a rate, so it need not be exact.
const SATURATED: Rounds = Rounds {
    repeats: 3,
    length: Duration::from_millis(300),
};

/// One kind of device and one operation at a tenth of the load.
#[derive(Clone, Debug, Serialize)]
pub struct LoadRow {
    /// Its name.
    pub name: String,
    /// Device, operation and length; the depth is that of the highest rate.
    pub row: Row,
    /// The way of qemu-storage-daemon with the highest rate.
    pub saturated_way: &'static str,
    /// That rate, thousands of requests a second.
    pub saturated_kiops: f64,
    /// The rate at which requests came, thousands a second.
    pub asked_kiops: f64,
    /// The way of qemu-storage-daemon that needs the least processor time: `cpu_to_qemu` is to this one.
    pub cpu_rival: Option<&'static str>,
    /// The way of qemu-storage-daemon with the shortest 99th percentile: `p99_to_qemu` is to this one.
    pub p99_rival: Option<&'static str>,
    /// All targets.
    pub targets: Vec<LoadFigures>,
    /// What was aimed at, and whether it has been reached.
    pub goals: Vec<Goal>,
}

/// One target at a tenth of the load.
#[derive(Clone, Debug, Serialize)]
pub struct LoadFigures {
    /// Who.
    pub target: &'static str,
    /// Of which family.
    pub family: Family,
    /// Thousands of requests a second that were answered.
    pub kiops: Spread,
    /// Processor nanoseconds of the target for one request.
    pub cpu_ns_per_request: Spread,
    /// Percent of one core.
    pub cpu_percent: f64,
    /// Half of all requests were answered so soon after they were due, us.
    pub p50_us: f64,
    /// 99 % were, us.
    pub p99_us: f64,
    /// 99.9 % were, us.
    pub p999_us: f64,
    /// Kicks for one request.
    pub kicks_per_request: f64,
    /// Processor time for a request as a share of qemu-storage-daemon's, round by round.
    pub cpu_to_qemu: Option<Interval>,
    /// The 99th percentile as a share of qemu-storage-daemon's, round by round.
    pub p99_to_qemu: Option<Interval>,
    /// Processor nanoseconds for one request, window by window.
    pub windows_cpu_ns: Vec<f64>,
    /// The 99th percentile in us, window by window.
    pub windows_p99_us: Vec<f64>,
}

/// The rows at a tenth of the load that belong to chosen rows: random reads of each kind of device, and writes to files.
pub fn rows(chosen: &[Row]) -> Vec<Row> {
    let all = [
        (Medium::Null, Work::Read),
        (Medium::Memory, Work::Read),
        (Medium::File, Work::Read),
        (Medium::File, Work::Write),
    ];
    all.map(|(medium, work)| Row {
        medium,
        work,
        bytes: SMALL_BYTES,
        depth: SATURATED_DEPTH,
    })
    .into_iter()
    .filter(|row| {
        let same = |other: &Row| (other.medium, other.work, other.bytes) == (row.medium, row.work, row.bytes);
        chosen.iter().any(same)
    })
    .collect()
}

/// Whether a way is measured at a tenth of the load: those that may sleep, of ours and of qemu-storage-daemon.
pub fn takes_part(way: &Way) -> bool {
    way.family == Family::Qemu || way.family == Family::Palisade && way.sleeps()
}

/// Finds qemu-storage-daemon's highest rate, then lets it and ours take turns at a tenth of that. `None` when it is
/// not among the contestants.
pub fn measure(
    row: Row,
    contestants: &mut [Contestant],
    manner: Manner,
    how: Rounds,
) -> Result<Option<LoadRow>, Failure> {
    // As a Linux guest speaks: a server that sleeps is woken by kicks, and pays for that.
    let manner = Manner {
        event_idx: true,
        ..manner
    };
    let mut qemu: Vec<&mut Contestant> = contestants
        .iter_mut()
        .filter(|one| one.way.family == Family::Qemu)
        .collect();
    let saturated = rounds(&mut qemu, row, Arrivals::Closed, manner, SATURATED)?;
    let Some(best) = best_of(&saturated, Family::Qemu) else {
        return Ok(None);
    };
    let rate = best.median_rate() * SHARE;
    let mut all: Vec<&mut Contestant> = contestants
        .iter_mut()
        .filter(|one| takes_part(&one.way))
        .collect();
    let series = rounds(&mut all, row, Arrivals::Paced(rate), manner, how)?;
    Ok(Some(figures(row, best, rate, &series)))
}

fn figures(row: Row, saturated: &Series, rate: f64, series: &[Series]) -> LoadRow {
    let least = |figures: fn(&Series) -> &[f64]| {
        let qemu = series.iter().filter(|one| one.family == Family::Qemu);
        qemu.min_by(|one, other| middle(figures(one)).total_cmp(&middle(figures(other))))
    };
    let (cpu_rival, p99_rival) = (least(|one| &one.cpu_ns), least(|one| &one.p99_ns));
    let targets: Vec<LoadFigures> = series
        .iter()
        .filter_map(|one| figures_of(one, cpu_rival, p99_rival))
        .collect();
    LoadRow {
        name: format!("{}-{}k-load10", kind(row), row.bytes / 1024),
        row,
        saturated_way: saturated.target,
        saturated_kiops: saturated.median_rate() / 1e3,
        asked_kiops: rate / 1e3,
        cpu_rival: cpu_rival.map(|one| one.target),
        p99_rival: p99_rival.map(|one| one.target),
        goals: goals(&targets),
        targets,
    }
}

fn figures_of(one: &Series, cpu_rival: Option<&Series>, p99_rival: Option<&Series>) -> Option<LoadFigures> {
    let us = |share| one.latency.quantile(share) as f64 / 1e3;
    Some(LoadFigures {
        target: one.target,
        family: one.family,
        kiops: Spread::of(one.rates.iter().map(|rate| rate / 1e3))?,
        cpu_ns_per_request: Spread::of(one.cpu_ns.iter().copied())?,
        cpu_percent: middle(&one.cpu) * 100.0,
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        kicks_per_request: middle(&one.kicks),
        cpu_to_qemu: cpu_rival.and_then(|rival| paired(&one.cpu_ns, &rival.cpu_ns)),
        p99_to_qemu: p99_rival.and_then(|rival| paired(&one.p99_ns, &rival.p99_ns)),
        windows_cpu_ns: one.cpu_ns.clone(),
        windows_p99_us: one.p99_ns.iter().map(|ns| ns / 1e3).collect(),
    })
}

fn goals(targets: &[LoadFigures]) -> Vec<Goal> {
    let ours = || targets.iter().filter(|one| one.family == Family::Palisade);
    let judged = |ratio: fn(&LoadFigures) -> Option<Interval>, limit: f64| {
        ours()
            .map(move |one| (one.target, ratio(one).map(|interval| interval.at_most(limit))))
            .collect::<Vec<_>>()
    };
    let cpu = Goal::new(
        format!("at most {LOAD_CPU_SHARE_MAX:.2} x qemu's processor time for a request"),
        judged(|one| one.cpu_to_qemu, LOAD_CPU_SHARE_MAX),
    );
    let p99 = Goal::new(
        "p99 at most 1.00 x qemu".into(),
        judged(|one| one.p99_to_qemu, 1.0),
    );
    [cpu, p99].into_iter().flatten().collect()
}

fn kind(row: Row) -> String {
    let name = row.to_string();
    name.split('-').take(2).collect::<Vec<_>>().join("-")
}

fn middle(figures: &[f64]) -> f64 {
    Spread::of(figures.iter().copied()).map_or(f64::INFINITY, |spread| spread.median)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::histogram::Histogram;
    use crate::window::Window;
    use palisade_block::Nanos;

    fn series(target: &'static str, family: Family, cpu_ns: [u64; 6], p99_ns: u64) -> Series {
        let mut series = Series::new(target, family);
        for cpu in cpu_ns {
            let mut latency = Histogram::default();
            latency.record(p99_ns);
            let window = Window {
                requests: 1000,
                elapsed: Nanos::from_millis(100),
                latency,
                kicks: 500,
                slices: Vec::new(),
            };
            series.add(&window, Nanos(1000 * cpu));
        }
        series
    }

    pub(crate) fn sample() -> LoadRow {
        let row = rows(&Row::all()).remove(0);
        let saturated = series("qemu", Family::Qemu, [1; 6], 1);
        let all = [
            series(
                "palisade-adaptive",
                Family::Palisade,
                [300, 310, 320, 330, 340, 350],
                5000,
            ),
            series("qemu", Family::Qemu, [1000; 6], 9000),
            series("qemu-threads", Family::Qemu, [2000; 6], 4000),
        ];
        figures(row, &saturated, 1000.0, &all)
    }

    #[test]
    fn each_ratio_is_to_the_best_of_theirs_in_that() {
        let row = sample();
        assert_eq!(
            (row.cpu_rival, row.p99_rival),
            (Some("qemu"), Some("qemu-threads"))
        );
        let ours = &row.targets[0];
        let cpu = ours.cpu_to_qemu.unwrap();
        assert_eq!((cpu.low, cpu.median, cpu.high, cpu.pairs), (0.3, 0.325, 0.35, 6));
        assert_eq!(ours.p99_to_qemu.unwrap().median, 1.25);
        assert_eq!(
            (ours.cpu_ns_per_request.median, ours.kicks_per_request),
            (325.0, 0.5)
        );
        assert!((ours.cpu_percent - 0.325).abs() < 1e-9 && ours.kiops.median == 10.0);
        let said: Vec<String> = row.goals.iter().map(Goal::to_string).collect();
        assert!(said[0].contains("0.50") && said[0].ends_with("palisade-adaptive met"));
        assert!(said[1].ends_with("palisade-adaptive missed"));
    }

    #[test]
    fn rows_are_those_of_chosen_rows() {
        let names = |words| -> Vec<String> {
            let chosen = Row::matching(words).unwrap();
            rows(&chosen).into_iter().map(kind).collect()
        };
        assert_eq!(
            names("all"),
            ["null-read", "memory-read", "file-read", "file-write"]
        );
        assert_eq!(names("file-write"), ["file-write"]);
        assert!(names("128k,null-write").is_empty());
    }

    #[test]
    fn who_always_polls_does_not_take_part() {
        let part: Vec<&str> = crate::target::WAYS
            .iter()
            .filter(|way| takes_part(way))
            .map(|way| way.name)
            .collect();
        assert!(part.contains(&"palisade-adaptive") && part.contains(&"qemu"));
        assert!(!part.contains(&"palisade") && !part.contains(&"bare-spin"));
    }
}
