//! What is aimed at, as numbers, and what the figures say of it. A goal is met or missed only when the whole interval
//! of a ratio lies on one side of it.

use crate::interval::Verdict;
use crate::row::{LARGE_BYTES, Medium, Row};
use crate::tally::Figures;
use crate::target::Family;
use serde::Serialize;
use std::fmt;

/// The least share of the bare program's rate that a file, or memory with long requests, is to give.
pub const BARE_SHARE_MIN: f64 = 0.97;

/// The most processor time for a request at a tenth of the load, as a share of qemu-storage-daemon's.
pub const LOAD_CPU_SHARE_MAX: f64 = 0.5;

/// One aim.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Goal {
    /// The aim, in words.
    pub what: String,
    /// Each of our targets by name, and whether it reaches it.
    pub verdicts: Vec<(&'static str, Verdict)>,
}

impl Goal {
    /// An aim and what has been found; `None` when nothing has.
    pub fn new(
        what: String,
        found: impl IntoIterator<Item = (&'static str, Option<Verdict>)>,
    ) -> Option<Goal> {
        let found = found.into_iter();
        let verdicts: Vec<_> = found
            .filter_map(|(target, verdict)| Some((target, verdict?)))
            .collect();
        (!verdicts.is_empty()).then_some(Goal { what, verdicts })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goal {}:", self.what)?;
        for (index, (target, verdict)) in self.verdicts.iter().enumerate() {
            write!(
                f,
                "{} {target} {}",
                if index == 0 { "" } else { "," },
                verdict.words()
            )?;
        }
        Ok(())
    }
}

/// The goals of a row: files and long requests to memory are held against the bare program, and all but files against
/// the best C dataplane by way of qemu-storage-daemon.
pub fn of_row(row: Row, targets: &[Figures]) -> Vec<Goal> {
    let ours = || targets.iter().filter(|one| one.family == Family::Palisade);
    let judge = |what: String, verdict: &dyn Fn(&Figures) -> Option<Verdict>| {
        Goal::new(what, ours().map(|one| (one.target, verdict(one))))
    };
    let share = || {
        judge(format!("at least {BARE_SHARE_MIN:.2} x bare"), &|one| {
            Some(one.to_bare?.at_least(BARE_SHARE_MIN))
        })
    };
    let goals = if row.medium == Medium::File {
        [
            share(),
            judge("p99 at most 1.00 x bare".into(), &|one| {
                Some(one.p99_to_bare?.at_most(1.0))
            }),
        ]
    } else {
        let ratio = crate::reference::best_c_ratio(row);
        let level = ratio.and_then(|ratio| {
            judge(
                format!("level with the best C dataplane, at least {ratio:.2} x qemu"),
                &|one| Some(one.to_qemu?.at_least(ratio)),
            )
        });
        let long = row.medium == Medium::Memory && row.bytes == LARGE_BYTES;
        [level, long.then(share).flatten()]
    };
    goals.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn rows_are_held_against_what_they_should_reach() {
        let report = sample();
        let said = |name: &str| -> Vec<String> {
            let row = report.rows.iter().find(|row| row.name == name).unwrap();
            row.goals.iter().map(Goal::to_string).collect()
        };
        assert_eq!(
            said("null-read-4k-qd1"),
            ["goal level with the best C dataplane, at least 4.23 x qemu: palisade undecided"]
        );
        let file = said("file-read-4k-qd1");
        assert_eq!(file[0], "goal at least 0.97 x bare: palisade met");
        assert!(file[1].starts_with("goal p99 at most 1.00 x bare: palisade "));
    }
}
