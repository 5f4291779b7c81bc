//! The pages: text for a terminal, markdown for people, JSON for programs.

use crate::machine::Machine;
use crate::reference;
use crate::tally::{Figures, RowFigures, Spread};
use crate::target::WAYS;
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
    /// Windows for each target in each row.
    pub repeats: u32,
    /// Length of a window in seconds.
    pub seconds: f64,
    /// Size of each disk in bytes.
    pub disk_bytes: u64,
    /// Whether rings were used with event indices.
    pub event_idx: bool,
    /// What a request costs the client with a server that costs next to nothing, ns.
    pub client_ns_per_request: f64,
    /// What the table's constants are.
    pub reference: &'static str,
    /// Rows.
    pub rows: Vec<RowFigures>,
}

/// One row as lines for a terminal.
pub fn row_text(row: &RowFigures) -> String {
    let mut text = format!("{}\n", row.name);
    for one in &row.targets {
        let (rate, unit) = headline(row, one);
        let _ = write!(
            text,
            "  {:<18} {:>8} {unit} ({} .. {})  p50 {:>7} p99 {:>7} p99.9 {:>7} us  cpu {:>3.0} %",
            one.target,
            figure(rate.median),
            figure(rate.min),
            figure(rate.max),
            figure(one.p50_us),
            figure(one.p99_us),
            figure(one.p999_us),
            one.cpu_percent,
        );
        if let Some(quiet) = one.quiet_kiops {
            let _ = write!(text, "  quiet {:>6} kIOPS", figure(quiet));
        }
        if let Some(ratio) = one.quiet_to_qemu {
            let _ = write!(text, " = {:>5} x qemu", figure(ratio));
        }
        if let Some(ratio) = one.to_qemu {
            let _ = write!(
                text,
                "  {:>5} x qemu ({} .. {})",
                figure(ratio.median),
                figure(ratio.min),
                figure(ratio.max)
            );
        }
        if let Some(ratio) = one.to_bare {
            let _ = write!(
                text,
                "  {:>5} x bare ({} .. {})",
                figure(ratio.median),
                figure(ratio.min),
                figure(ratio.max)
            );
        }
        text.push('\n');
    }
    if let Some(ratio) = row.best_c_to_qemu {
        let _ = writeln!(
            text,
            "  {:<18} {:>8} x qemu (a constant, see below)",
            "best C dataplane",
            figure(ratio)
        );
    }
    text
}

impl Report {
    /// For a terminal.
    pub fn text(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(row_text).collect();
        format!(
            "{}\n\n{}\n{}\n",
            self.conditions(),
            rows.join("\n"),
            self.foot("\n")
        )
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# Performance\n\n{}\n\n![chart](bench.svg)\n\n",
            self.conditions()
        );
        text.push_str(
            "| row | target | kIOPS | MB/s | min .. max | p50 us | p99 us | p99.9 us | cpu % | cpu ns/request | kicks/request | x qemu (min .. max) | quiet kIOPS | quiet x qemu | best C x qemu | x bare (min .. max) |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            for one in &row.targets {
                let (rate, unit) = headline(row, one);
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} .. {} {} | {} | {} | {} | {:.0} | {} | {:.2} | {} | {} | {} | {} | {} |",
                    row.name,
                    one.target,
                    figure(one.kiops.median),
                    figure(one.mb_s.median),
                    figure(rate.min),
                    figure(rate.max),
                    unit.trim(),
                    figure(one.p50_us),
                    figure(one.p99_us),
                    figure(one.p999_us),
                    one.cpu_percent,
                    figure(one.cpu_ns_per_request),
                    one.kicks_per_request,
                    ratio(one.to_qemu),
                    one.quiet_kiops.map_or_else(String::new, figure),
                    one.quiet_to_qemu.map_or_else(String::new, figure),
                    row.best_c_to_qemu.map_or_else(String::new, figure),
                    ratio(one.to_bare),
                );
            }
        }
        text.push('\n');
        text.push_str(&self.foot("\n\n"));
        text.push('\n');
        text
    }

    /// For programs.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    fn conditions(&self) -> String {
        format!(
            "{}\n\nTargets on processor {}, the client on processor {}, one queue, disks of {} MiB, event index {}; \
             {} windows of {} s for each target and row, taken in turns; the median window, with the slowest and the \
             fastest. By itself the client needs {:.0} ns a request ({:.1} million a second). Whatever else the \
             machine did meanwhile is in the figures: look at the load averages and the spread.",
            self.machine.describe(),
            self.target_core,
            self.client_core,
            self.disk_bytes >> 20,
            if self.event_idx { "on" } else { "off" },
            self.repeats,
            self.seconds,
            self.client_ns_per_request,
            1e3 / self.client_ns_per_request.max(f64::MIN_POSITIVE),
        )
    }

    fn foot(&self, gap: &str) -> String {
        let shown = |name: &str| {
            self.rows
                .iter()
                .any(|row| row.targets.iter().any(|one| one.target == name))
        };
        let mut lines: Vec<String> = WAYS
            .iter()
            .filter(|way| shown(way.name))
            .map(|way| format!("{}: {}.", way.name, way.about))
            .collect();
        lines.push(
            "x qemu, x bare: ratio to the better of qemu-storage-daemon's ways, or of the bare programs, window by \
             window of the same round."
                .into(),
        );
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
}

/// The figure a row is about.
fn headline(row: &RowFigures, one: &Figures) -> (Spread, &'static str) {
    if row.row.measures_bytes() {
        (one.mb_s, "MB/s ")
    } else {
        (one.kiops, "kIOPS")
    }
}

fn ratio(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |ratio| {
        format!(
            "{} ({} .. {})",
            figure(ratio.median),
            figure(ratio.min),
            figure(ratio.max)
        )
    })
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
    use crate::tally::{Series, figures};
    use crate::target::Family;
    use crate::window::Window;
    use palisade_block::Nanos;

    pub(crate) fn sample() -> Report {
        let series = |target, family, rates: [u64; 3]| {
            let mut series = Series::new(target, family);
            for requests in rates {
                let mut latency = Histogram::default();
                latency.record(1500);
                let window = Window {
                    requests,
                    elapsed: Nanos::from_secs(1),
                    latency,
                    kicks: 0,
                    slices: vec![(requests / 1000) as u32; 10],
                };
                series.add(&window, 0.5);
            }
            series
        };
        let row = |name: &str| {
            let all = [
                series("palisade", Family::Palisade, [900_000, 1_000_000, 1_100_000]),
                series("qemu", Family::Qemu, [200_000, 250_000, 300_000]),
            ];
            figures(name.parse().unwrap(), &all)
        };
        Report {
            machine: Machine::look(std::path::Path::new("/nonexistent")),
            target_core: 1,
            client_core: 0,
            repeats: 3,
            seconds: 1.0,
            disk_bytes: 1 << 30,
            event_idx: true,
            client_ns_per_request: 40.0,
            reference: reference::SOURCE,
            rows: vec![row("null-read-4k-qd1"), row("memory-read-128k-qd16")],
        }
    }

    #[test]
    fn all_pages_show_the_same_figures() {
        let report = sample();
        let (text, markdown) = (report.text(), report.markdown());
        for page in [&text, &markdown] {
            assert!(page.contains("null-read-4k-qd1") && page.contains("1000") && page.contains("4.00"));
            assert!(page.contains("25.0 million a second") && page.contains(reference::SOURCE));
            assert!(page.contains("palisaded, reactors always polling"));
        }
        let lines: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(lines.len(), 2 + 4);
        let bars = |line: &str| line.matches('|').count();
        assert!(lines.iter().all(|line| bars(line) == bars(lines[0])));
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["rows"][0]["targets"][0]["kiops"]["median"], 1000.0);
        assert_eq!(json["rows"][0]["targets"][0]["to_qemu"]["median"], 4.0);
        assert_eq!(json["rows"][1]["targets"][1]["target"], "qemu");
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(
            ["1235", "12.3", "0.12"].to_vec(),
            [1234.6, 12.34, 0.123].map(figure).to_vec()
        );
    }
}
