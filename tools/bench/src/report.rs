//! The page for people.

use crate::Failure;
use crate::figures::{Figures, RowFigures, Spread, figure};
use crate::interval;
use crate::machine::Machine;
use crate::pages::{HUGEPAGE_BYTES, Pages};
use crate::reference;
use crate::run::Plan;
use crate::table::Table;
use crate::target::WAYS;
use serde::Serialize;
use std::fmt::Display;
use std::path::Path;

/// Everything a run has found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How.
    pub plan: Plan,
    /// Whether the guest's memory, the client's, lies on hugepages.
    pub huge_pages: bool,
    /// Rows, as many requests as each target can answer.
    pub rows: Vec<RowFigures>,
    /// Rows at a tenth of the load.
    pub load: Vec<RowFigures>,
}

const ABOUT_LOAD: &str = "A tenth of the load: requests come by chance (Poisson) at 10 % of the highest rate that \
     qemu-storage-daemon reached in this run at depth 32, and are timed from the moment they are due. Kicks by event \
     index, as Linux guests ask for them. Each ratio is to the way of qemu that is best in it. Targets that always poll \
     are left out: they take a whole core at any load.";

/// What a column shows of a target; nothing for what was not measured.
type Column = (&'static str, fn(&RowFigures, &Figures) -> String);

const COLUMNS: [Column; 14] = [
    ("target", |_, one| one.target.to_owned()),
    ("kIOPS (min .. max)", |row, one| {
        some((!row.row.measures_bytes()).then_some(one.kiops))
    }),
    ("MB/s (min .. max)", |row, one| {
        some(row.row.measures_bytes().then_some(one.mb_s))
    }),
    ("p50 us", |_, one| figure(one.p50_us)),
    ("p99 us", |_, one| figure(one.p99_us)),
    ("p99.9 us", |_, one| figure(one.p999_us)),
    ("CPU %", |_, one| format!("{:.0}", one.cpu_percent)),
    ("CPU ns/request", |_, one| one.cpu_ns.to_string()),
    ("kicks/request", |_, one| format!("{:.2}", one.kicks_per_request)),
    ("x qemu [interval]", |_, one| some(one.to_qemu)),
    ("x bare [interval]", |_, one| some(one.to_bare)),
    ("p99 x bare [interval]", |_, one| some(one.p99_to_bare)),
    ("CPU x qemu [interval]", |_, one| some(one.cpu_to_qemu)),
    ("p99 x qemu [interval]", |_, one| some(one.p99_to_qemu)),
];

fn some(value: Option<impl Display>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// All targets of one row.
pub fn row_table(row: &RowFigures) -> Table {
    let rivals = &row.rivals;
    let named = [
        ("qemu", rivals.qemu),
        ("bare", rivals.bare),
        ("qemu by processor time", rivals.qemu_cpu),
        ("by p99", rivals.qemu_p99),
    ];
    let named = named
        .into_iter()
        .filter_map(|(what, way)| Some(format!("{what} is {}", way?)));
    let mut notes: Vec<String> = named.collect();
    if let Some(load) = row.load {
        let [kiops, of] = [load.kiops, load.of_kiops].map(figure);
        notes.insert(0, format!("{kiops} kIOPS, a tenth of {of} of {}", load.of_way));
    }
    Table {
        title: match notes.is_empty() {
            true => row.name.clone(),
            false => format!("{} ({})", row.name, notes.join(", ")),
        },
        about: String::new(),
        columns: COLUMNS.map(|(name, _)| name.to_owned()).to_vec(),
        rows: row
            .targets
            .iter()
            .map(|one| COLUMNS.map(|(_, cell)| cell(row, one)).to_vec())
            .collect(),
        notes: Vec::new(),
    }
}

impl RowFigures {
    /// The target of this name.
    pub fn target(&self, name: Option<&str>) -> Option<&Figures> {
        self.targets.iter().find(|one| Some(one.target) == name)
    }

    /// The figure this row is about, of one of its targets.
    pub fn headline(&self, one: &Figures) -> Spread {
        match (self.load, self.row.measures_bytes()) {
            (Some(_), _) => one.cpu_ns,
            (None, true) => one.mb_s,
            (None, false) => one.kiops,
        }
    }
}

impl Report {
    /// Without figures yet.
    pub fn new(plan: Plan, qemu: &Path) -> Result<Report, Failure> {
        Ok(Report {
            machine: Machine::look(qemu),
            plan,
            huge_pages: Pages::new(HUGEPAGE_BYTES)?.huge,
            rows: Vec::new(),
            load: Vec::new(),
        })
    }

    /// One line a row, for whoever reads no further: our target that always polls.
    fn summary(&self) -> Table {
        let columns = [
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
            let unit = if row.row.measures_bytes() { "MB/s" } else { "kIOPS" };
            let rate = |one: Option<&Figures>| {
                some(one.map(|one| format!("{} {unit}", figure(row.headline(one).median))))
            };
            let ours = row.target(Some("palisade"))?;
            Some(vec![
                row.name.clone(),
                rate(Some(ours)),
                rate(row.target(row.rivals.qemu)),
                some(ours.to_qemu),
                some(row.best_c_to_qemu.map(figure)),
                rate(row.target(row.rivals.bare)),
                some(ours.to_bare),
                some(ours.p99_to_bare),
            ])
        };
        Table {
            title: "In one look: palisade, always polling".into(),
            about: String::new(),
            columns: columns.map(str::to_owned).to_vec(),
            rows: self.rows.iter().filter_map(line).collect(),
            notes: Vec::new(),
        }
    }

    fn tables(&self) -> Vec<Table> {
        let mut load: Vec<Table> = self.load.iter().map(row_table).collect();
        if let Some(first) = load.first_mut() {
            first.about = ABOUT_LOAD.into();
        }
        let summary = Some(self.summary()).filter(|table| !table.rows.is_empty());
        let rows = self.rows.iter().map(row_table);
        summary.into_iter().chain(rows).chain(load).collect()
    }

    /// For people.
    pub fn page(&self) -> String {
        let tables: Vec<String> = self.tables().iter().map(Table::page).collect();
        format!(
            "# Performance\n\n{}\n\n![chart](bench.svg)\n\n{}\n## How to read it\n\n{}\n",
            self.conditions(),
            tables.join("\n"),
            self.foot().join("\n\n")
        )
    }

    fn conditions(&self) -> String {
        let plan = &self.plan;
        format!(
            "{}\n\nTargets on processor {}, the client on processor {}, one queue, disks of {} MiB, event index {}, the \
             client's memory on {}; for each target and row {} ({} for files), taken in turns; the median window, with \
             the slowest and the fastest. Whatever else the machine did meanwhile is in the figures: look at the load \
             averages and the spread.",
            self.machine,
            plan.target_core,
            plan.client_core,
            plan.disk_bytes >> 20,
            if plan.event_idx { "on" } else { "off" },
            if self.huge_pages {
                "hugepages"
            } else {
                "plain pages"
            },
            plan.rounds,
            plan.file_rounds,
        )
    }

    fn foot(&self) -> Vec<String> {
        let targets = self.rows.iter().chain(&self.load).flat_map(|row| &row.targets);
        let shown = WAYS
            .iter()
            .filter(|way| targets.clone().any(|one| one.target == way.name));
        let mut lines: Vec<String> = shown.map(|way| format!("{}: {}.", way.name, way.about)).collect();
        lines.push(
            "x qemu, x bare: ratio to the better of qemu-storage-daemon's ways, or of the bare programs (the one with \
             the higher median rate), window by window of the same round; p99 x bare: the same of the two 99th \
             percentiles, less is better."
                .into(),
        );
        lines.push(format!(
            "[interval]: where the true median of these ratios lies, from their ranks alone, with no assumption on \
             how they are spread. It is to hold 95 times in 100: {}.",
            self.confidence()
        ));
        lines.push(reference::SOURCE.into());
        lines
    }

    /// What the intervals of this run really give.
    fn confidence(&self) -> String {
        let said = [
            (self.plan.rounds.repeats, "null and memory"),
            (self.plan.file_rounds.repeats, "files"),
        ]
        .map(|(pairs, of)| {
            let rank = interval::rank(pairs as usize);
            let percent = interval::coverage(pairs as usize, rank) * 100.0;
            let last = pairs as usize + 1 - rank;
            format!("for {of} ranks {rank} to {last} of {pairs} hold {percent:.1} times in 100")
        });
        format!("{} (fewer than six cannot give 95)", said.join(", "))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::contestant::Rounds;
    use crate::figures::Load;
    use crate::figures::tests::series;
    use crate::places::json;
    use crate::row::{Medium, Row};
    use crate::target::Family;
    use std::time::Duration;

    pub(crate) fn sample() -> Report {
        let ours = || {
            series(
                "palisade",
                Family::Palisade,
                &[(900, 500, 1), (1000, 500, 1), (1100, 500, 1)],
            )
        };
        let qemu = || {
            series(
                "qemu",
                Family::Qemu,
                &[(200, 900, 4), (250, 900, 4), (300, 900, 4)],
            )
        };
        let bare = || {
            series(
                "bare-spin",
                Family::Bare,
                &[(800, 400, 1), (1000, 400, 1), (1100, 400, 1)],
            )
        };
        let row = |name: &str| {
            let row = Row::matching(name).unwrap()[0];
            let mut all = vec![ours(), qemu()];
            if row.medium == Medium::File {
                all.push(bare());
            }
            RowFigures::of(row, None, &all)
        };
        let load = Load::share(0.1, &[qemu()]);
        let paced = [
            ("palisade-adaptive", Family::Palisade, 350),
            ("qemu", Family::Qemu, 1000),
        ];
        let paced = paced.map(|(name, family, cpu)| series(name, family, &[(25, cpu, 5); 6]));
        let rounds = |repeats, length| Rounds {
            repeats,
            length: Duration::from_millis(length),
        };
        let plan = Plan {
            ways: Vec::new(),
            rows: Vec::new(),
            load: Vec::new(),
            rounds: rounds(3, 1000),
            file_rounds: rounds(21, 500),
            disk_bytes: 1 << 30,
            event_idx: true,
            target_core: 1,
            client_core: 0,
        };
        Report {
            rows: ["null-read-4k-qd1", "memory-read-128k-qd16", "file-read-4k-qd1"]
                .map(row)
                .to_vec(),
            load: vec![RowFigures::of(
                Row::matching("null-read-4k-qd32").unwrap()[0],
                load,
                &paced,
            )],
            ..Report::new(plan, Path::new("/nonexistent")).unwrap()
        }
    }

    #[test]
    fn the_page_and_the_figures_for_programs_say_the_same() {
        let report = sample();
        let page = report.page();
        for words in [
            "null-read-4k-qd1 (qemu is qemu)",
            "1000 (900 .. 1100)",
            "4.00 [3.67 .. 4.50]",
            "file-read-4k-qd1 (qemu is qemu, bare is bare-spin)",
            "1.000 [1.000 .. 1.125]",
            "ranks 1 to 3 of 3 hold 75.0 times in 100, for files ranks 6 to 16 of 21 hold 97.3",
            reference::SOURCE,
            "palisaded, reactors always polling",
            "null-read-4k-load10 (25.0 kIOPS, a tenth of 250 of qemu, qemu by processor time is qemu",
            "0.350 [0.350 .. 0.350]",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        let json: serde_json::Value = serde_json::from_str(&json(&report).unwrap()).unwrap();
        let ours = &json["rows"][0]["targets"][0];
        assert_eq!(ours["kiops"]["median"], 1000.0);
        assert_eq!(ours["windows"][2]["rate"], 1_100_000.0);
        assert_eq!(ours["to_qemu"]["pairs"], 3);
    }
}
