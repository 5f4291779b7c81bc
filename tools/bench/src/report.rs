//! The pages: text for a terminal, markdown for people, JSON for programs.

pub mod columns;

use crate::interval::{self, Interval};
use crate::load::{self, LoadRow};
use crate::machine::Machine;
use crate::reference;
use crate::tally::{Figures, RowFigures, Spread};
use crate::target::{Family, WAYS};
use columns::{aligned, markdown};
use serde::Serialize;
use std::fmt::Write;

/// Everything a run has found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// The targets' core.
    pub target_core: usize,
    /// The client's core.
    pub client_core: usize,
    /// Windows for each target in each row of null and memory.
    pub repeats: u32,
    /// Length of these windows in seconds.
    pub seconds: f64,
    /// Windows for each target in each row of files.
    pub file_repeats: u32,
    /// Length of these windows in seconds.
    pub file_seconds: f64,
    /// Size of each disk in bytes.
    pub disk_bytes: u64,
    /// Whether rings were used with event indices.
    pub event_idx: bool,
    /// Whether the guest's memory, the client's, lies on hugepages.
    pub huge_pages: bool,
    /// What a request costs the client with a server that costs next to nothing, ns.
    pub client_ns_per_request: f64,
    /// What the table's constants are.
    pub reference: &'static str,
    /// Rows.
    pub rows: Vec<RowFigures>,
    /// Rows at a tenth of the load.
    pub load: Vec<LoadRow>,
}

const HEAD: [&str; 14] = [
    "target",
    "RATE (min .. max)",
    "p50 us",
    "p99 us",
    "p99.9 us",
    "CPU %",
    "CPU ns/request",
    "kicks/request",
    "x qemu [interval]",
    "best C x qemu",
    "x bare [interval]",
    "p99 x bare [interval]",
    "quiet kIOPS",
    "quiet x qemu",
];

/// One row as lines for a terminal.
pub fn row_text(row: &RowFigures) -> String {
    let mut text = format!("{}{}\n{}", row.name, beside(row), aligned(&cells(row)));
    for goal in &row.goals {
        let _ = writeln!(text, "  {goal}");
    }
    text
}

/// Who the ratios of a row are to.
fn beside(row: &RowFigures) -> String {
    let named = |what: &str, way: Option<&str>| way.map(|way| format!("{what} is {way}"));
    let ways: Vec<String> = [named("qemu", row.qemu_way), named("bare", row.bare_way)]
        .into_iter()
        .flatten()
        .collect();
    if ways.is_empty() {
        return String::new();
    }
    format!(" ({})", ways.join(", "))
}

fn cells(row: &RowFigures) -> Vec<Vec<String>> {
    let unit = if row.row.measures_bytes() { "MB/s" } else { "kIOPS" };
    let head = HEAD.map(|name| name.replace("RATE", unit)).to_vec();
    let line = |one: &Figures| {
        let ours = one.family == Family::Palisade;
        let best_c = row.best_c_to_qemu.filter(|_| ours);
        vec![
            one.target.to_owned(),
            spread(headline(row, one)),
            figure(one.p50_us),
            figure(one.p99_us),
            figure(one.p999_us),
            format!("{:.0}", one.cpu_percent),
            figure(one.cpu_ns_per_request),
            format!("{:.2}", one.kicks_per_request),
            interval(one.to_qemu),
            best_c.map_or_else(String::new, figure),
            interval(one.to_bare),
            interval(one.p99_to_bare),
            one.quiet_kiops.map_or_else(String::new, figure),
            one.quiet_to_qemu.map_or_else(String::new, figure),
        ]
    };
    std::iter::once(head)
        .chain(row.targets.iter().map(line))
        .collect()
}

impl Report {
    /// One line a row, for whoever reads no further: our target that always polls.
    fn summary(&self) -> Vec<Vec<String>> {
        let head = [
            "row",
            "palisade",
            "qemu",
            "x qemu [interval]",
            "best C x qemu",
            "bare",
            "x bare [interval]",
            "p99 x bare [interval]",
        ];
        let line = |row: &RowFigures| {
            let of = |name: Option<&str>| row.targets.iter().find(|one| Some(one.target) == name);
            let unit = if row.row.measures_bytes() { "MB/s" } else { "kIOPS" };
            let rate = |one: Option<&Figures>| {
                one.map_or_else(String::new, |one| {
                    format!("{} {unit}", figure(headline(row, one).median))
                })
            };
            let ours = of(Some("palisade"))?;
            Some(vec![
                row.name.clone(),
                rate(Some(ours)),
                rate(of(row.qemu_way)),
                interval(ours.to_qemu),
                row.best_c_to_qemu.map_or_else(String::new, figure),
                rate(of(row.bare_way)),
                interval(ours.to_bare),
                interval(ours.p99_to_bare),
            ])
        };
        let lines = self.rows.iter().filter_map(line);
        std::iter::once(head.map(str::to_owned).to_vec())
            .chain(lines)
            .collect()
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut parts = vec![self.conditions()];
        let summary = self.summary();
        if summary.len() > 1 {
            parts.push(format!(
                "In one look: palisade, always polling\n{}",
                aligned(&summary)
            ));
        }
        parts.extend(self.rows.iter().map(row_text));
        if !self.load.is_empty() {
            parts.push(load::page::text(&self.load));
        }
        parts.push(self.foot("\n"));
        parts
            .iter()
            .map(|part| format!("{}\n", part.trim_end()))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let mut text = format!("# Performance\n\n{}\n\n", self.conditions());
        if !self.rows.is_empty() {
            text.push_str("![chart](bench.svg)\n\n");
        }
        let summary = self.summary();
        if summary.len() > 1 {
            let _ = writeln!(
                text,
                "## In one look: palisade, always polling\n\n{}",
                markdown(&summary)
            );
        }
        for row in &self.rows {
            let _ = writeln!(
                text,
                "## {}{}\n\n{}",
                row.name,
                beside(row),
                markdown(&cells(row))
            );
            for goal in &row.goals {
                let _ = writeln!(text, "- {goal}");
            }
            text.push('\n');
        }
        if !self.load.is_empty() {
            text.push_str(&load::page::page(&self.load));
        }
        let _ = write!(text, "## How to read it\n\n{}\n", self.foot("\n\n"));
        text
    }

    /// For programs.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    fn conditions(&self) -> String {
        let windows = |repeats, seconds| format!("{repeats} windows of {seconds} s");
        format!(
            "{}\n\nTargets on processor {}, the client on processor {}, one queue, disks of {} MiB, event index {}, the client's memory on {}; for \
             each target and row {} ({} for files), taken in turns; the median window, with the slowest and the \
             fastest. By itself the client needs {:.0} ns a request ({:.1} million a second). Whatever else the \
             machine did meanwhile is in the figures: look at the load averages and the spread.",
            self.machine.describe(),
            self.target_core,
            self.client_core,
            self.disk_bytes >> 20,
            if self.event_idx { "on" } else { "off" },
            if self.huge_pages {
                "hugepages"
            } else {
                "plain pages"
            },
            windows(self.repeats, self.seconds),
            windows(self.file_repeats, self.file_seconds),
            self.client_ns_per_request,
            1e3 / self.client_ns_per_request.max(f64::MIN_POSITIVE),
        )
    }

    fn foot(&self, gap: &str) -> String {
        let rows = self
            .rows
            .iter()
            .flat_map(|row| &row.targets)
            .map(|one| one.target);
        let load = self
            .load
            .iter()
            .flat_map(|row| &row.targets)
            .map(|one| one.target);
        let names: Vec<&str> = rows.chain(load).collect();
        let mut lines: Vec<String> = WAYS
            .iter()
            .filter(|way| names.contains(&way.name))
            .map(|way| format!("{}: {}.", way.name, way.about))
            .collect();
        lines.push(
            "x qemu, x bare: ratio to the better of qemu-storage-daemon's ways, or of the bare programs (the one with \
             the higher median rate), window by window of the same round; p99 x bare: the same of the two 99th \
             percentiles, less is better."
                .into(),
        );
        lines.push(format!(
            "[interval]: where the true median of these ratios lies, from their ranks alone, with no assumption on \
             how they are spread. It is to hold 95 times in 100: {}. A goal is met, or missed, when the whole \
             interval lies on one side of it; otherwise it is undecided.",
            self.confidence()
        ));
        lines.push(
            "quiet: the 90th percentile of all milliseconds. Where other work shares the two cores, a window mostly \
             tells how often client and target ran at the same time, and this tells how fast they were when they did. \
             It is an upper figure, taken alike for all, and means nothing where fewer than one millisecond in ten is \
             left alone; p50 still does then."
                .into(),
        );
        lines.push(reference::SOURCE.into());
        lines.join(gap)
    }

    /// What the intervals of this run really give, for each number of pairs in it.
    fn confidence(&self) -> String {
        let rows = self
            .rows
            .iter()
            .flat_map(|row| &row.targets)
            .flat_map(|one| [one.to_qemu, one.to_bare].into_iter().flatten());
        let load = self
            .load
            .iter()
            .flat_map(|row| &row.targets)
            .filter_map(|one| one.cpu_to_qemu);
        let mut pairs: Vec<usize> = rows.chain(load).map(|ratio| ratio.pairs).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let said = pairs.into_iter().map(|pairs| {
            let rank = interval::rank(pairs);
            let percent = interval::coverage(pairs, rank) * 100.0;
            let short = if percent < interval::CONFIDENCE * 100.0 {
                ", fewer than six cannot give more"
            } else {
                ""
            };
            let last = pairs + 1 - rank;
            format!("from {pairs} pairs, ranks {rank} to {last} hold {percent:.1} times in 100{short}")
        });
        match said.collect::<Vec<_>>() {
            none if none.is_empty() => "there are no ratios in this run".into(),
            some => some.join("; "),
        }
    }
}

/// The figure a row is about.
fn headline(row: &RowFigures, one: &Figures) -> Spread {
    if row.row.measures_bytes() {
        one.mb_s
    } else {
        one.kiops
    }
}

/// `median (min .. max)`.
pub fn spread(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{} ({} .. {})", figure(median), figure(min), figure(max))
}

/// `median [low .. high]`; nothing for what was not measured.
pub fn interval(interval: Option<Interval>) -> String {
    let shown = |one: Interval| match (one.low, one.high) {
        // Compared with itself.
        (1.0, 1.0) => "1".to_owned(),
        (low, high) => format!("{} [{} .. {}]", ratio(one.median), ratio(low), ratio(high)),
    };
    interval.map_or_else(String::new, shown)
}

/// A ratio: near 1 the third digit after the point tells.
pub fn ratio(value: f64) -> String {
    if value < 2.0 {
        format!("{value:.3}")
    } else {
        figure(value)
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::histogram::Histogram;
    use crate::row::{Medium, Row};
    use crate::tally::{Series, figures};
    use crate::window::Window;
    use palisade_block::Nanos;

    pub(crate) fn sample() -> Report {
        let series = |target, family, rates: &[u64]| {
            let mut series = Series::new(target, family);
            for &requests in rates {
                let mut latency = Histogram::default();
                latency.record(1500);
                let window = Window {
                    requests,
                    elapsed: Nanos::from_secs(1),
                    latency,
                    kicks: 0,
                    slices: vec![(requests / 1000) as u32; 10],
                };
                series.add(&window, Nanos::from_millis(500));
            }
            series
        };
        let row = |name: &str| {
            let row: Row = name.parse().unwrap();
            let mut all = vec![
                series("palisade", Family::Palisade, &[900_000, 1_000_000, 1_100_000]),
                series("qemu", Family::Qemu, &[200_000, 250_000, 300_000]),
            ];
            if row.medium == Medium::File {
                all.push(series(
                    "bare-spin",
                    Family::Bare,
                    &[800_000, 1_000_000, 1_100_000],
                ));
            }
            figures(row, &all)
        };
        Report {
            machine: Machine::look(std::path::Path::new("/nonexistent")),
            target_core: 1,
            client_core: 0,
            repeats: 3,
            seconds: 1.0,
            file_repeats: 21,
            file_seconds: 0.5,
            disk_bytes: 1 << 30,
            event_idx: true,
            huge_pages: false,
            client_ns_per_request: 40.0,
            reference: reference::SOURCE,
            rows: ["null-read-4k-qd1", "memory-read-128k-qd16", "file-read-4k-qd1"]
                .map(row)
                .to_vec(),
            load: vec![load::tests::sample()],
        }
    }

    #[test]
    fn ratios_to_the_bare_device_alone_have_their_confidence_told() {
        let mut report = sample();
        report.load.clear();
        for one in report.rows.iter_mut().flat_map(|row| &mut row.targets) {
            one.to_qemu = None;
        }
        assert!(
            report
                .text()
                .contains("from 3 pairs, ranks 1 to 3 hold 75.0 times in 100")
        );
        for one in report.rows.iter_mut().flat_map(|row| &mut row.targets) {
            one.to_bare = None;
        }
        assert!(report.text().contains("there are no ratios in this run"));
    }

    #[test]
    fn all_pages_show_the_same_figures() {
        let report = sample();
        let (text, markdown) = (report.text(), report.markdown());
        for page in [&text, &markdown] {
            assert!(page.contains("null-read-4k-qd1 (qemu is qemu)"), "{page}");
            assert!(page.contains("1000 (900 .. 1100)") && page.contains("4.00 [3.67 .. 4.50]"));
            assert!(page.contains("file-read-4k-qd1 (qemu is qemu, bare is bare-spin)"));
            assert!(page.contains("1.000 [1.000 .. 1.125]"));
            assert!(page.contains("from 3 pairs, ranks 1 to 3 hold 75.0 times in 100, fewer than six"));
            assert!(page.contains("from 6 pairs, ranks 1 to 6 hold 96.9 times in 100."));
            assert!(page.contains("25.0 million a second") && page.contains(reference::SOURCE));
            assert!(page.contains("palisaded, reactors always polling"));
            assert!(page.contains("goal at least 0.97 x bare: palisade met"));
            assert!(page.contains("null-read-4k-load10"));
        }
        let mut bars = 0;
        for line in markdown.lines() {
            let now = line.matches('|').count();
            assert!(now == 0 || bars == 0 || now == bars, "{line}");
            bars = now;
        }
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        let ours = &json["rows"][0]["targets"][0];
        assert_eq!(ours["kiops"]["median"], 1000.0);
        assert_eq!(
            (&ours["to_qemu"]["median"], &ours["to_qemu"]["pairs"]),
            (&4.0.into(), &3.into())
        );
        assert_eq!(json["rows"][1]["targets"][1]["target"], "qemu");
        assert_eq!(json["rows"][2]["targets"][0]["p99_to_bare"]["high"], 1.0);
        assert_eq!(json["load"][0]["targets"][0]["cpu_to_qemu"]["high"], 0.35);
        assert_eq!(json["load"][0]["goals"][0]["verdicts"][0][1], "met");
    }

    #[test]
    fn ratios_near_one_have_a_third_digit() {
        assert_eq!(
            [0.9712, 1.0, 4.256, 12.34].map(ratio),
            ["0.971", "1.000", "4.26", "12.3"]
        );
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(
            ["1235", "12.3", "0.12"].to_vec(),
            [1234.6, 12.34, 0.123].map(figure).to_vec()
        );
    }
}
