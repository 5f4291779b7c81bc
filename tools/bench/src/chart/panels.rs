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
    Panel {
        title: format!("{device}, {} KiB a request", if bytes { 128 } else { 4 }),
        unit: if bytes { "MB/s" } else { "thousand requests/s" },
        notes: [
            "x qemu [interval]",
            if medium == Medium::File {
                "x bare [interval]"
            } else {
                "best C"
            },
        ],
        groups: report.rows.iter().filter(wanted).map(group).collect(),
    }
}

/// Ours, the better of qemu-storage-daemon's ways, the better bare program and who else is there; the other ways of
/// the same are in the tables.
fn group(row: &RowFigures) -> Group {
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
        let best_c = row.best_c_to_qemu.filter(|_| ours && row.bare_way.is_none());
        let to_qemu = one.to_qemu.filter(|_| one.family != Family::Qemu);
        let to_bare = one.to_bare.filter(|_| one.family != Family::Bare);
        let second = best_c.map_or_else(|| interval(to_bare), figure);
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
