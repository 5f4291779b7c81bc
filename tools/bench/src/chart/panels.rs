//! What the chart shows: one panel for each kind of device and unit, with an axis of its own that begins at zero, so
//! that lengths can be compared.

use crate::load::LoadRow;
use crate::report::{Report, figure, interval};
use crate::row::{Medium, Row, Work};
use crate::tally::{Figures, RowFigures, Spread};
use crate::target::Family;

/// Groups of bars over one axis.
pub struct Panel {
    pub title: String,
    pub unit: &'static str,
    /// Heads of the columns beside the bars.
    pub notes: [&'static str; 2],
    pub groups: Vec<Group>,
}

/// Bars that belong together.
pub struct Group {
    pub label: String,
    pub bars: Vec<Bar>,
    /// Where the best C dataplane would be, in the panel's unit.
    pub marker: Option<f64>,
}

/// One target.
pub struct Bar {
    pub target: &'static str,
    pub family: Family,
    pub spread: Spread,
    /// What stands beside it, one in each column.
    pub notes: [String; 2],
}

impl Panel {
    /// The largest figure that must fit.
    pub fn max(&self) -> f64 {
        let bars = self
            .groups
            .iter()
            .flat_map(|group| &group.bars)
            .map(|bar| bar.spread.max);
        let markers = self.groups.iter().filter_map(|group| group.marker);
        bars.chain(markers).fold(0.0, f64::max)
    }
}

/// All panels that have something to show.
pub fn of(report: &Report) -> Vec<Panel> {
    let kinds = [Medium::Null, Medium::Memory, Medium::File]
        .into_iter()
        .flat_map(|medium| [false, true].map(|bytes| (medium, bytes)));
    let rows = kinds.map(|(medium, bytes)| of_rows(report, medium, bytes));
    let all = rows.chain(std::iter::once(of_load(&report.load)));
    all.filter(|panel| !panel.groups.is_empty()).collect()
}

fn of_rows(report: &Report, medium: Medium, bytes: bool) -> Panel {
    let device = match medium {
        Medium::Null => "Null device: answers at once",
        Medium::Memory => "Memory",
        Medium::File => "File, O_DIRECT",
    };
    let wanted = |row: &&RowFigures| row.row.medium == medium && row.row.measures_bytes() == bytes;
    let rows: Vec<&RowFigures> = report.rows.iter().filter(wanted).collect();
    // Where the device was measured by itself, that is what a figure is to be held against.
    let to_bare = rows.iter().any(|row| row.bare_way.is_some());
    Panel {
        title: format!("{device}, {} KiB a request", if bytes { 128 } else { 4 }),
        unit: if bytes { "MB/s" } else { "thousand requests/s" },
        notes: [
            "x qemu [interval]",
            if to_bare { "x bare [interval]" } else { "best C" },
        ],
        groups: rows.into_iter().map(|row| group(row, to_bare)).collect(),
    }
}

/// Ours, the better of qemu-storage-daemon's ways, the better bare program and who else is there; the other ways of
/// the same are in the tables.
fn group(row: &RowFigures, to_bare: bool) -> Group {
    let rate = |one: &Figures| {
        if row.row.measures_bytes() {
            one.mb_s
        } else {
            one.kiops
        }
    };
    let shown = |one: &&Figures| match one.family {
        Family::Palisade | Family::RustVmm => true,
        Family::Qemu => Some(one.target) == row.qemu_way,
        Family::Bare => Some(one.target) == row.bare_way,
    };
    let bar = |one: &Figures| {
        let ours = one.family == Family::Palisade;
        let to_qemu = one.to_qemu.filter(|_| one.family != Family::Qemu);
        let second = match to_bare {
            true => interval(one.to_bare.filter(|_| one.family != Family::Bare)),
            false => row
                .best_c_to_qemu
                .filter(|_| ours)
                .map_or_else(String::new, figure),
        };
        Bar {
            target: one.target,
            family: one.family,
            spread: rate(one),
            notes: [interval(to_qemu), second],
        }
    };
    let qemu = row.targets.iter().find(|one| Some(one.target) == row.qemu_way);
    Group {
        label: label(row.row, true),
        bars: row.targets.iter().filter(shown).map(bar).collect(),
        marker: qemu
            .zip(row.best_c_to_qemu)
            .map(|(qemu, ratio)| rate(qemu).median * ratio),
    }
}

fn of_load(rows: &[LoadRow]) -> Panel {
    let group = |row: &LoadRow| Group {
        label: format!("{}, {}", row.row.medium, label(row.row, false)),
        marker: None,
        bars: row
            .targets
            .iter()
            .map(|one| Bar {
                target: one.target,
                family: one.family,
                spread: one.cpu_ns_per_request,
                notes: if one.family == Family::Palisade {
                    [interval(one.cpu_to_qemu), interval(one.p99_to_qemu)]
                } else {
                    Default::default()
                },
            })
            .collect(),
    };
    Panel {
        title: "Processor time for a request at a tenth of the load (shorter is better)".into(),
        unit: "ns of the target's core",
        notes: ["x qemu [interval]", "p99 x qemu [interval]"],
        groups: rows.iter().map(group).collect(),
    }
}

fn label(row: Row, with_depth: bool) -> String {
    let work = match row.work {
        Work::Read => "random read",
        Work::Write => "random write",
    };
    if with_depth {
        format!("{work}, depth {}", row.depth)
    } else {
        work.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    /// The second column's name and its notes in the panel of 4 KiB requests to memory.
    fn second_column(report: &Report) -> (&'static str, Vec<String>) {
        let panel = of_rows(report, Medium::Memory, false);
        let bars = panel.groups.into_iter().flat_map(|group| group.bars);
        (
            panel.notes[1],
            bars.map(|bar| {
                let [_, second] = bar.notes;
                second
            })
            .collect(),
        )
    }

    #[test]
    fn a_column_is_named_for_what_is_in_it() {
        let mut report = sample();
        let row = &mut report.rows[0];
        row.row.medium = Medium::Memory;
        let (name, notes) = second_column(&report);
        assert_eq!(name, "best C");
        assert!(notes.iter().any(|note| note == "4.23"), "{notes:?}");
        report.rows[0].bare_way = Some("bare-spin");
        let (name, notes) = second_column(&report);
        assert_eq!(name, "x bare [interval]");
        assert!(notes.iter().all(|note| note != "4.23"), "{notes:?}");
    }
}
