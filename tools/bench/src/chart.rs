//! The chart: for each row one bar a target with a whisker from its slowest to its fastest window, a mark where the
//! best C dataplane would be, and the ratios beside it. Plain SVG, no script, no font of its own.

mod panels;

use crate::report::{Report, figure};
use crate::target::Family;
use panels::{Bar, Group, Panel};
use std::fmt::Write;

const WIDTH: f64 = 1180.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 760.0;
/// Columns of ratios.
const NOTES: [f64; 2] = [830.0, 1010.0];
const BAR: f64 = 14.0;
const GAP: f64 = 10.0;
const HEAD: f64 = 96.0;
const PANEL_HEAD: f64 = 48.0;
const PANEL_FOOT: f64 = 24.0;

const INK: &str = "#1f2328";
const SOFT: &str = "#59636e";
const MARK: &str = "#b3261e";

/// Draws a report.
pub fn svg(report: &Report) -> String {
    let panels = panels::of(report);
    let height = HEAD + panels.iter().map(height_of).sum::<f64>();
    let mut page = Page(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    ));
    head(&mut page, report);
    let mut top = HEAD;
    for panel in &panels {
        draw(&mut page, panel, top);
        top += height_of(panel);
    }
    page.0.push_str("</svg>\n");
    page.0
}

fn head(page: &mut Page, report: &Report) {
    let title = "The appliance beside qemu-storage-daemon and the bare device";
    page.text(16.0, 26.0, "start", "bold 16", INK, title);
    let where_from = format!(
        "{}, Linux {}; load average before {}; medians of {} windows of {} s ({} of {} s for files)",
        report.machine.cpu,
        report.machine.kernel,
        report.machine.load_before,
        report.repeats,
        report.seconds,
        report.file_repeats,
        report.file_seconds,
    );
    page.text(16.0, 45.0, "start", "11", SOFT, &where_from);
    let mut x = 16.0;
    let keys = [
        ("palisade", Family::Palisade, "palisade, always polling"),
        (
            "palisade-adaptive",
            Family::Palisade,
            "palisade, sleeps when idle",
        ),
        ("qemu", Family::Qemu, "qemu-storage-daemon, its better way"),
        ("rust-vmm", Family::RustVmm, "rust-vmm crates"),
        ("bare", Family::Bare, "bare device"),
    ];
    for (target, family, words) in keys {
        page.bar(x, 61.0, 12.0, color(target, family));
        page.text(x + 17.0, 70.5, "start", "11", INK, words);
        x += 34.0 + words.len() as f64 * 6.1;
    }
    page.whisker(x, x + 18.0, 67.0);
    page.text(x + 23.0, 70.5, "start", "11", INK, "slowest to fastest window");
    x += 190.0;
    page.marker(x, 60.0, 74.0);
    page.text(x + 8.0, 70.5, "start", "11", INK, "best C dataplane");
}

fn height_of(panel: &Panel) -> f64 {
    PANEL_HEAD + panel.groups.iter().map(height_of_group).sum::<f64>() + PANEL_FOOT
}

fn height_of_group(group: &Group) -> f64 {
    group.bars.len() as f64 * BAR + GAP
}

fn draw(page: &mut Page, panel: &Panel, top: f64) {
    let axis = Axis::to(panel.max());
    let (first, bottom) = (top + PANEL_HEAD, top + height_of(panel) - PANEL_FOOT);
    page.text(16.0, top + 20.0, "start", "bold 13", INK, &panel.title);
    for (x, words) in NOTES.into_iter().zip(panel.notes) {
        page.text(x, top + 40.0, "start", "bold 11", SOFT, words);
    }
    let mut value = 0.0;
    while value <= axis.end * 1.001 {
        let x = axis.x(value);
        page.line(x, x, first - 4.0, bottom - 2.0, "#e4e7ea", 1.0);
        let label = if value == value.round() {
            format!("{value:.0}")
        } else {
            figure(value)
        };
        page.text(x, top + 40.0, "middle", "10", SOFT, &label);
        value += axis.step;
    }
    page.text(axis.x(axis.end) + 8.0, top + 20.0, "end", "11", SOFT, panel.unit);
    let mut y = first;
    for group in &panel.groups {
        page.text(16.0, y + BAR - 4.0, "start", "11", INK, &group.label);
        for (index, bar) in group.bars.iter().enumerate() {
            let marker = group.marker.filter(|_| bar.family == Family::Palisade);
            draw_bar(page, &axis, bar, marker, y + index as f64 * BAR);
        }
        if let Some(marker) = group.marker {
            let ours = group
                .bars
                .iter()
                .filter(|bar| bar.family == Family::Palisade)
                .count();
            page.marker(axis.x(marker), y - 2.0, y + ours.max(1) as f64 * BAR);
        }
        y += height_of_group(group);
    }
}

fn draw_bar(page: &mut Page, axis: &Axis, bar: &Bar, marker: Option<f64>, y: f64) {
    let (middle, low, high) = (
        axis.x(bar.spread.median),
        axis.x(bar.spread.min),
        axis.x(bar.spread.max),
    );
    page.text(LEFT - 8.0, y + BAR - 4.0, "end", "10", SOFT, bar.target);
    page.bar(LEFT, y, (middle - LEFT).max(1.0), color(bar.target, bar.family));
    page.whisker(low, high, y + (BAR - 2.0) / 2.0);
    let mut after = high.max(middle) + 6.0;
    // The mark would run through the figure.
    if let Some(mark) = marker.map(|marker| axis.x(marker))
        && (after - 3.0..after + 40.0).contains(&mark)
    {
        after = mark + 5.0;
    }
    page.text(
        after,
        y + BAR - 4.0,
        "start",
        "10",
        INK,
        &figure(bar.spread.median),
    );
    for (x, words) in NOTES.into_iter().zip(&bar.notes) {
        page.text(x, y + BAR - 4.0, "start", "10", INK, words);
    }
}

/// A horizontal axis from zero.
struct Axis {
    end: f64,
    step: f64,
}

impl Axis {
    /// Four to eight steps of 1, 2 or 5 times a power of ten.
    fn to(max: f64) -> Axis {
        let rough = max.max(1e-6) / 8.0;
        let power = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = steps
            .into_iter()
            .find(|&step| step >= rough)
            .unwrap_or(10.0 * power);
        Axis {
            end: (max / step).ceil().max(1.0) * step,
            step,
        }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value / self.end).clamp(0.0, 1.0) * (RIGHT - LEFT)
    }
}

fn color(target: &str, family: Family) -> &'static str {
    match family {
        Family::Palisade if target == "palisade" => "#0b6e4f",
        Family::Palisade => "#74c69d",
        Family::Qemu => "#e08e45",
        Family::RustVmm => "#8e7cc3",
        Family::Bare => "#8a8f98",
    }
}

/// What has been drawn.
struct Page(String);

impl Page {
    fn text(&mut self, x: f64, y: f64, anchor: &str, font: &str, color: &str, words: &str) {
        if words.is_empty() {
            return;
        }
        let words = words
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let (weight, size) = font.rsplit_once(' ').unwrap_or(("normal", font));
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\" font-size=\"{size}\" \
             fill=\"{color}\">{words}</text>"
        );
    }

    fn bar(&mut self, x: f64, y: f64, width: f64, color: &str) {
        let thick = BAR - 2.0;
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{thick}\" rx=\"1\" fill=\"{color}\"/>"
        );
    }

    fn line(&mut self, x1: f64, x2: f64, y1: f64, y2: f64, color: &str, width: f64) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{x1:.1}\" x2=\"{x2:.1}\" y1=\"{y1:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\" stroke-width=\"{width}\"/>"
        );
    }

    fn whisker(&mut self, low: f64, high: f64, y: f64) {
        self.line(low, high, y, y, INK, 1.2);
        for x in [low, high] {
            self.line(x, x, y - 3.0, y + 3.0, INK, 1.2);
        }
    }

    fn marker(&mut self, x: f64, top: f64, bottom: f64) {
        self.line(x, x, top, bottom, MARK, 2.5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn every_row_shows_ours_theirs_the_bare_device_and_the_mark() {
        let drawn = svg(&sample());
        assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"));
        // The page, five keys, two bars each in null and memory, three in file, three at a tenth of the load.
        assert_eq!(drawn.matches("<rect ").count(), 1 + 5 + 2 + 2 + 3 + 3);
        // One key; rows that have a figure of the best C dataplane.
        assert_eq!(drawn.matches(MARK).count(), 1 + 3);
        for words in [
            "Null device",
            "MB/s",
            "O_DIRECT",
            "tenth of the load",
            "4.00 [3.67 .. 4.50]",
        ] {
            assert!(drawn.contains(words), "{words}");
        }
        assert_eq!(drawn.matches("<text ").count(), drawn.matches("</text>").count());
    }

    #[test]
    fn axes_begin_at_zero_and_hold_everything() {
        for max in [0.0, 0.7, 87.0, 1350.0, 4.5e6] {
            let axis = Axis::to(max);
            assert!(
                axis.end >= max && axis.end <= (max * 2.0).max(1e-5),
                "{max}: {}",
                axis.end
            );
            let steps = axis.end / axis.step;
            assert!((0.9..=8.1).contains(&steps), "{max}: {steps}");
            assert_eq!(axis.x(0.0), LEFT);
            assert!(axis.x(axis.end / 2.0) > axis.x(axis.end / 4.0) && axis.x(1e12) == RIGHT);
        }
    }

    #[test]
    fn names_cannot_break_the_page() {
        let mut report = sample();
        report.machine.cpu = "<&>".into();
        assert!(svg(&report).contains("&lt;&amp;&gt;"));
    }
}
