//! The whole measurement: for each kind of device start all targets, fill their disks, and for each row let them take
//! turns; then the same at a tenth of the load.

use crate::Failure;
use crate::contestant::{Arrivals, Contestant, Rounds, rounds};
use crate::figures::{Load, RowFigures};
use crate::machine;
use crate::report::{Report, row_table};
use crate::row::{Medium, Row, SMALL_BYTES, Work};
use crate::target::{Family, Ground, Way};
use palisade_sys::affinity;
use serde::Serialize;
use std::time::Duration;

/// The share of qemu-storage-daemon's highest rate at which requests come in the rows of load.
const LOAD_SHARE: f64 = 0.1;

/// The depth at which that highest rate is taken.
const SATURATED_DEPTH: u16 = 32;

/// Windows and their length for the highest rate: it only sets a rate, so it need not be exact.
const SATURATED: Rounds = Rounds {
    repeats: 3,
    length: Duration::from_millis(300),
};

/// What to measure.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Who.
    #[serde(skip)]
    pub ways: Vec<Way>,
    /// What.
    #[serde(skip)]
    pub rows: Vec<Row>,
    /// What of it at a tenth of the load.
    #[serde(skip)]
    pub load: Vec<Row>,
    /// How often and how long for null and memory.
    pub rounds: Rounds,
    /// The same for files, which have to be told apart from the bare device by less.
    pub file_rounds: Rounds,
    /// Size of each disk in bytes.
    pub disk_bytes: u64,
    /// Ask for kicks by index, as Linux guests do.
    pub event_idx: bool,
    /// The targets' core.
    pub target_core: usize,
    /// The client's core.
    pub client_core: usize,
}

/// The rows at a tenth of the load that belong to chosen rows: random reads of each kind of device, and writes to files.
pub fn load_rows(chosen: &[Row]) -> Vec<Row> {
    let belongs = |row: &Row| {
        (row.bytes, row.depth) == (SMALL_BYTES, SATURATED_DEPTH)
            && (row.work == Work::Read || row.medium == Medium::File)
            && chosen
                .iter()
                .any(|one| (one.medium, one.work, one.bytes) == (row.medium, row.work, row.bytes))
    };
    Row::all().into_iter().filter(belongs).collect()
}

/// Ours and qemu-storage-daemon. A target that always polls takes a whole core however few requests there are.
fn takes_part_in_load(way: &Way) -> bool {
    way.family == Family::Qemu || way.family == Family::Palisade && way.sleeps()
}

/// Measures everything; `say` is told what happens.
pub fn run(plan: &Plan, ground: &Ground, say: &mut dyn FnMut(&str)) -> Result<Report, Failure> {
    let mut report = Report::new(plan.clone(), &ground.qemu)?;
    affinity::pin_current_thread(plan.client_core).map_err(Failure::system("pin the client"))?;
    for medium in [Medium::Null, Medium::Memory, Medium::File] {
        let of_medium =
            |rows: &[Row]| -> Vec<Row> { rows.iter().filter(|row| row.medium == medium).copied().collect() };
        let (rows, load) = (of_medium(&plan.rows), of_medium(&plan.load));
        let needed = |way: &&Way| {
            way.serves(medium) && (!rows.is_empty() || !load.is_empty() && takes_part_in_load(way))
        };
        let mut contestants = Vec::new();
        for way in plan.ways.iter().filter(needed) {
            say(&format!("starting {} with a {medium} disk", way.name));
            contestants.push(Contestant::enter(way, medium, plan.event_idx, ground)?);
        }
        let how = if medium == Medium::File {
            plan.file_rounds
        } else {
            plan.rounds
        };
        for row in rows {
            let mut all: Vec<&mut Contestant> = contestants.iter_mut().collect();
            let series = rounds(&mut all, row, Arrivals::Closed, plan.event_idx, how)?;
            let figures = RowFigures::of(row, None, &series);
            say(&row_table(&figures).page());
            report.rows.push(figures);
        }
        for row in load {
            match at_a_tenth(row, &mut contestants, how)? {
                Some(figures) => {
                    say(&row_table(&figures).page());
                    report.load.push(figures);
                }
                None => say("no load without qemu-storage-daemon: it sets the rate"),
            }
        }
    }
    report.machine.load_after = machine::load();
    Ok(report)
}

/// Finds qemu-storage-daemon's highest rate and measures all that may sleep at a tenth of it; `None` without it.
fn at_a_tenth(row: Row, contestants: &mut [Contestant], how: Rounds) -> Result<Option<RowFigures>, Failure> {
    let of = |contestants: &mut [Contestant], wanted: fn(&Way) -> bool, arrivals, how| {
        let mut chosen: Vec<_> = contestants.iter_mut().filter(|one| wanted(&one.way)).collect();
        // As a Linux guest speaks: a server that sleeps is woken by kicks, and pays for that.
        rounds(&mut chosen, row, arrivals, true, how)
    };
    let saturated = of(
        contestants,
        |way| way.family == Family::Qemu,
        Arrivals::Closed,
        SATURATED,
    )?;
    let Some(load) = Load::share(LOAD_SHARE, &saturated) else {
        return Ok(None);
    };
    let series = of(
        contestants,
        takes_part_in_load,
        Arrivals::Paced(load.kiops * 1e3),
        how,
    )?;
    Ok(Some(RowFigures::of(row, Some(load), &series)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::WAYS;

    #[test]
    fn rows_of_load_are_those_of_chosen_rows() {
        let names = |words| -> Vec<String> {
            let rows = load_rows(&Row::matching(words).unwrap());
            rows.iter().map(Row::to_string).collect()
        };
        let all =
            ["null-read", "memory-read", "file-read", "file-write"].map(|name| format!("{name}-4k-qd32"));
        assert_eq!(names("all"), all);
        assert_eq!(names("file-write"), ["file-write-4k-qd32"]);
        assert!(names("128k,null-write").is_empty());
    }

    #[test]
    fn who_always_polls_does_not_take_part() {
        let part: Vec<&str> = WAYS
            .iter()
            .filter(|way| takes_part_in_load(way))
            .map(|way| way.name)
            .collect();
        assert!(part.contains(&"palisade-adaptive") && part.contains(&"qemu"));
        assert!(!part.contains(&"palisade") && !part.contains(&"bare-pause"));
    }
}
