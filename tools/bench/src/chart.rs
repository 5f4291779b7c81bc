//! The chart: for each row one bar a target on a logarithmic scale, with a line from the slowest to the fastest window,
//! and beside it how many times as fast as qemu-storage-daemon it is. Plain SVG, no script, no font of its own.

use crate::report::{Report, figure};
use crate::tally::{Figures, RowFigures, Spread};
use std::fmt::Write;

const WIDTH: f64 = 980.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 790.0;
const BAR: f64 = 13.0;
const GAP: f64 = 12.0;
const TOP: f64 = 64.0;

/// Draws a report.
pub fn svg(report: &Report) -> String {
    let scale = Scale::of(report);
    let bars: usize = report.rows.iter().map(|row| row.targets.len()).sum();
    let height = TOP + bars as f64 * BAR + report.rows.len() as f64 * GAP + 40.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut out,
        12.0,
        22.0,
        "start",
        "14",
        "Requests a second, thousands (logarithmic); median window, line from slowest to fastest",
    );
    let where_from = format!(
        "{}, Linux {}; load before {}",
        report.machine.cpu, report.machine.kernel, report.machine.load_before
    );
    text(&mut out, 12.0, 40.0, "start", "11", &where_from);
    scale.grid(&mut out, height);
    text(
        &mut out,
        RIGHT + 12.0,
        TOP - 8.0,
        "start",
        "11",
        "times qemu (best C)",
    );
    let mut y = TOP;
    for row in &report.rows {
        text(&mut out, 12.0, y + BAR - 3.0, "start", "11", &row.name);
        for one in &row.targets {
            bar(&mut out, &scale, row, one, y);
            y += BAR;
        }
        y += GAP;
    }
    out.push_str("</svg>\n");
    out
}

fn bar(out: &mut String, scale: &Scale, row: &RowFigures, one: &Figures, y: f64) {
    let Spread { median, min, max } = one.kiops;
    let (middle, low, high) = (scale.x(median), scale.x(min), scale.x(max));
    let width = (middle - LEFT).max(1.0);
    let thick = BAR - 2.0;
    let center = y + thick / 2.0;
    let _ = writeln!(
        out,
        "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{thick}\" fill=\"{}\"/>\
         <line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{center}\" y2=\"{center}\" stroke=\"#000000\" stroke-width=\"1.5\"/>",
        color(one.target),
    );
    text(
        out,
        LEFT - 6.0,
        y + BAR - 4.0,
        "end",
        "10",
        &format!("{}  {}", one.target, figure(median)),
    );
    if let Some(ratio) = one.to_qemu
        && !one.target.starts_with("qemu")
    {
        let reference = row
            .best_c_to_qemu
            .map_or_else(String::new, |ratio| format!(" ({})", figure(ratio)));
        let reference = if one.target.starts_with("palisade") {
            reference
        } else {
            String::new()
        };
        text(
            out,
            RIGHT + 12.0,
            y + BAR - 4.0,
            "start",
            "10",
            &format!("{}{reference}", figure(ratio.median)),
        );
    }
}

/// The horizontal axis.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// Whole powers of ten around all figures.
    fn of(report: &Report) -> Scale {
        let rates = || {
            report
                .rows
                .iter()
                .flat_map(|row| &row.targets)
                .map(|one| one.kiops)
        };
        let low = rates().map(|rate| rate.min).fold(f64::INFINITY, f64::min);
        let high = rates().map(|rate| rate.max).fold(0.0, f64::max);
        let low = if low.is_finite() {
            low.max(0.001).log10().floor()
        } else {
            0.0
        };
        Scale {
            low,
            high: high.max(0.001).log10().ceil().max(low + 1.0),
        }
    }

    fn x(&self, kiops: f64) -> f64 {
        let share = (kiops.max(1e-9).log10() - self.low) / (self.high - self.low);
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn grid(&self, out: &mut String, height: f64) {
        let (mut power, end) = (self.low as i32, self.high as i32);
        while power <= end {
            let x = self.x(10f64.powi(power));
            let bottom = height - 24.0;
            let _ = writeln!(
                out,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{bottom}\" stroke=\"#dddddd\"/>",
                TOP - 4.0
            );
            let label = format!("{}", 10f64.powi(power));
            text(out, x, TOP - 8.0, "middle", "10", &label);
            power += 1;
        }
    }
}

fn color(target: &str) -> &'static str {
    match target {
        "palisade" => "#0b6e4f",
        "palisade-adaptive" => "#6bbf95",
        name if name.starts_with("bare") => "#8a8a8a",
        _ => "#e08e45",
    }
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, size: &str, words: &str) {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn every_target_has_a_bar_inside_the_page() {
        let report = sample();
        let drawn = svg(&report);
        assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"));
        assert_eq!(drawn.matches("<rect ").count(), 1 + 4);
        assert_eq!(drawn.matches("<text ").count(), drawn.matches("</text>").count());
        let scale = Scale::of(&report);
        assert!(scale.x(1000.0) > scale.x(250.0));
        assert!((LEFT..=RIGHT).contains(&scale.x(0.0)) && (LEFT..=RIGHT).contains(&scale.x(1e9)));
    }

    #[test]
    fn names_cannot_break_the_page() {
        let mut report = sample();
        report.machine.cpu = "<&>".into();
        assert!(svg(&report).contains("&lt;&amp;&gt;"));
    }
}
