//! The chart: for each row one bar a target with a whisker from its slowest to its fastest window, a mark where the
//! best C dataplane would be, and the ratios beside it. One panel for each kind of device and unit, with an axis of its
//! own that begins at zero, so that lengths can be compared.

use crate::Failure;
use crate::figures::{Figures, RowFigures, Spread, figure};
use crate::report::Report;
use crate::row::Medium;
use crate::target::Family;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::Display;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

const WIDTH: i32 = 1180;
/// Where bars begin and where the axis ends.
const BARS: [i32; 2] = [270, 750];
/// Columns of ratios.
const NOTES: [i32; 2] = [830, 1010];
const HEAD: i32 = 86;
const PANEL_HEAD: i32 = 48;
const PANEL_FOOT: i32 = 20;
const BAR: i32 = 14;
/// Space behind the bars of a row, in bars.
const GAP: f64 = 0.7;

const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const SOFT: RGBColor = RGBColor(0x59, 0x63, 0x6e);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xea);
const MARK: RGBColor = RGBColor(0xb3, 0x26, 0x1e);

/// Draws a report as SVG.
pub fn svg(report: &Report) -> Result<String, Failure> {
    let panels = panels(report);
    let height = HEAD + panels.iter().map(Panel::height).sum::<i32>();
    let mut page = String::new();
    let mut draw = || -> Drawn {
        let root = SVGBackend::with_string(&mut page, (WIDTH as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        head(&root, report)?;
        let (_, mut rest) = root.split_vertically(HEAD);
        for panel in &panels {
            let (area, below) = rest.split_vertically(panel.height());
            panel.draw(&root, &area)?;
            rest = below;
        }
        root.present()
    };
    draw().map_err(|error| Failure::asked(format!("the chart cannot be drawn: {error}")))?;
    Ok(page)
}

fn head(root: &Area<'_>, report: &Report) -> Drawn {
    let title = "The appliance beside qemu-storage-daemon and the bare device";
    text(root, title, (16, 20), HPos::Left, 20, INK)?;
    let machine = &report.machine;
    let about = format!(
        "{}, Linux {}; load average before {}; medians of {} ({} for files)",
        machine.cpu, machine.kernel, machine.load_before, report.plan.rounds, report.plan.file_rounds,
    );
    text(root, about, (16, 44), HPos::Left, 13, SOFT)?;
    let key = "Bars are medians, whiskers go from the slowest to the fastest window; qemu-storage-daemon and the bare \
               device in their better way. Red: where the best C dataplane would be.";
    text(root, key, (16, 66), HPos::Left, 13, SOFT)
}

/// Rows over one axis.
struct Panel<'a> {
    title: String,
    unit: &'static str,
    /// Heads of the columns beside the bars.
    notes: [&'static str; 2],
    rows: Vec<&'a RowFigures>,
}

/// All panels that have something to show.
fn panels(report: &Report) -> Vec<Panel<'_>> {
    let mut panels = Vec::new();
    let devices = [
        (Medium::Null, "Null device: answers at once"),
        (Medium::Memory, "Memory"),
        (Medium::File, "File, O_DIRECT"),
    ];
    for (medium, device) in devices {
        for (bytes, unit, kib) in [(false, "thousand requests/s", 4), (true, "MB/s", 128)] {
            let wanted = |row: &&RowFigures| row.row.medium == medium && row.row.measures_bytes() == bytes;
            let rows: Vec<&RowFigures> = report.rows.iter().filter(wanted).collect();
            // Where the device was measured by itself, that is what a figure is to be held against.
            let to_bare = rows.iter().any(|row| row.rivals.bare.is_some());
            panels.push(Panel {
                title: format!("{device}, {kib} KiB a request"),
                unit,
                notes: [
                    "x qemu [interval]",
                    if to_bare { "x bare [interval]" } else { "best C" },
                ],
                rows,
            });
        }
    }
    panels.push(Panel {
        title: "Processor time for a request at a tenth of the load (shorter is better)".into(),
        unit: "ns of the target's core",
        notes: ["x qemu [interval]", "p99 x qemu [interval]"],
        rows: report.load.iter().collect(),
    });
    panels.retain(|panel| !panel.rows.is_empty());
    panels
}

/// Ours, the better of the others' ways and who else is there; the other ways are in the tables.
fn bars(row: &RowFigures) -> Vec<&Figures> {
    let shown = |one: &&Figures| match one.family {
        _ if row.load.is_some() => true,
        Family::Palisade | Family::RustVmm => true,
        Family::Qemu => Some(one.target) == row.rivals.qemu,
        Family::Bare => Some(one.target) == row.rivals.bare,
    };
    row.targets.iter().filter(shown).collect()
}

/// Where the best C dataplane would be.
fn marker(row: &RowFigures) -> Option<f64> {
    let qemu = row.target(row.rivals.qemu)?;
    Some(row.headline(qemu).median * row.best_c_to_qemu?)
}

/// What stands beside a bar.
fn notes(row: &RowFigures, one: &Figures) -> [String; 2] {
    let said = |value: Option<String>| value.unwrap_or_default();
    let ours = one.family == Family::Palisade;
    if row.load.is_some() {
        let both = [one.cpu_to_qemu, one.p99_to_qemu];
        return both.map(|ratio| said(ratio.filter(|_| ours).map(|ratio| ratio.to_string())));
    }
    let to_qemu = one.to_qemu.filter(|_| one.family != Family::Qemu);
    let second = match row.rivals.bare {
        Some(_) => one
            .to_bare
            .filter(|_| one.family != Family::Bare)
            .map(|ratio| ratio.to_string()),
        None => row.best_c_to_qemu.filter(|_| ours).map(figure),
    };
    [said(to_qemu.map(|ratio| ratio.to_string())), said(second)]
}

impl Panel<'_> {
    /// In bars.
    fn length(&self) -> f64 {
        self.rows.iter().map(|row| bars(row).len() as f64 + GAP).sum()
    }

    fn height(&self) -> i32 {
        PANEL_HEAD + (self.length() * f64::from(BAR)) as i32 + PANEL_FOOT
    }

    fn draw(&self, root: &Area<'_>, area: &Area<'_>) -> Drawn {
        let [left, right] = BARS;
        let most = |row: &&RowFigures| {
            bars(row)
                .into_iter()
                .map(|one| row.headline(one).max)
                .fold(0.0, f64::max)
        };
        let marks = self.rows.iter().filter_map(|row| marker(row));
        let end = self.rows.iter().map(most).chain(marks).fold(1e-6, f64::max);
        let mut chart = ChartBuilder::on(area)
            .margin_left(left)
            .margin_right(WIDTH - right)
            .margin_top(PANEL_HEAD - 20)
            .margin_bottom(PANEL_FOOT)
            .set_label_area_size(LabelAreaPosition::Top, 20)
            .build_cartesian_2d(0.0..end, self.length()..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(8)
            .x_label_formatter(&|value| {
                if value.fract() == 0.0 {
                    value.to_string()
                } else {
                    figure(*value)
                }
            })
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GRID)
            .label_style(("sans-serif", 12).into_font().color(&SOFT))
            .draw()?;
        let (_, top) = chart.backend_coord(&(0.0, 0.0));
        text(area, &self.title, (16, 14), HPos::Left, 16, INK)?;
        text(area, self.unit, (right, 14), HPos::Right, 13, SOFT)?;
        for (x, words) in NOTES.into_iter().zip(self.notes) {
            text(root, words, (x, top - 10), HPos::Left, 13, SOFT)?;
        }
        let mut at = 0.0;
        for row in &self.rows {
            let (_, y) = chart.backend_coord(&(0.0, at + 0.5));
            text(root, label(row), (16, y), HPos::Left, 13, INK)?;
            let mark = marker(row);
            let first = at;
            for one in bars(row) {
                let Spread { min, median, max } = row.headline(one);
                let y = at + 0.5;
                let fill = color(one.target, one.family).filled();
                let bar = Rectangle::new([(0.0, at + 0.07), (median, at + 0.93)], fill);
                chart.draw_series([bar])?;
                chart.draw_series([ErrorBar::new_horizontal(y, min, median, max, INK.filled(), 5)])?;
                let (x, y) = chart.backend_coord(&(max, y));
                // The mark would run through the figure.
                let ours = mark.filter(|_| one.family == Family::Palisade);
                let mark = ours.map_or(0, |mark| chart.backend_coord(&(mark, 0.0)).0);
                let x = if (x..x + 40).contains(&mark) { mark } else { x };
                text(root, figure(median), (x + 6, y), HPos::Left, 12, INK)?;
                text(root, one.target, (left - 8, y), HPos::Right, 12, SOFT)?;
                for (x, words) in NOTES.into_iter().zip(notes(row, one)) {
                    text(root, words, (x, y), HPos::Left, 12, INK)?;
                }
                at += 1.0;
            }
            if let Some(mark) = mark {
                let ours = bars(row)
                    .iter()
                    .filter(|one| one.family == Family::Palisade)
                    .count();
                let ends = [first - 0.15, first + ours.max(1) as f64 + 0.15];
                chart.draw_series([PathElement::new(ends.map(|y| (mark, y)), MARK.stroke_width(3))])?;
            }
            at += GAP;
        }
        Ok(())
    }
}

fn label(row: &RowFigures) -> String {
    match row.load {
        Some(_) => format!("{}, random {}", row.row.medium, row.row.work),
        None => format!("random {}, depth {}", row.row.work, row.row.depth),
    }
}

fn text(
    area: &Area<'_>,
    words: impl Display,
    at: (i32, i32),
    side: HPos,
    size: i32,
    color: RGBColor,
) -> Drawn {
    let words = words.to_string();
    if words.is_empty() {
        return Ok(());
    }
    let style = ("sans-serif", size).into_font().color(&color);
    area.draw(&Text::new(words, at, style.pos(Pos::new(side, VPos::Center))))
}

fn color(target: &str, family: Family) -> RGBColor {
    match family {
        Family::Palisade if target == "palisade" => RGBColor(0x0b, 0x6e, 0x4f),
        Family::Palisade => RGBColor(0x74, 0xc6, 0x9d),
        Family::Qemu => RGBColor(0xe0, 0x8e, 0x45),
        Family::RustVmm => RGBColor(0x8e, 0x7c, 0xc3),
        Family::Bare => RGBColor(0x8a, 0x8f, 0x98),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn every_row_shows_ours_theirs_the_bare_device_and_the_mark() {
        let mut report = sample();
        report.machine.cpu = "<&>".into();
        let drawn = svg(&report).unwrap();
        assert!(
            drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"),
            "{drawn}"
        );
        // The page, two bars each in null and memory, three in file, two at a tenth of the load.
        assert_eq!(drawn.matches("<rect ").count(), 1 + 2 + 2 + 3 + 2);
        // Rows that have a figure of the best C dataplane.
        assert_eq!(drawn.matches("#B3261E").count(), 3);
        for words in [
            "Null device",
            "MB/s",
            "O_DIRECT",
            "tenth of the load",
            "4.00 [3.67 .. 4.50]",
            "x bare [interval]",
            "&lt;&amp;&gt;",
        ] {
            assert!(drawn.contains(words), "{words}");
        }
    }
}
