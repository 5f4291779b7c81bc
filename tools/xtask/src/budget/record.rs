//! `ci/budgets.toml`: what each workload may cost, what that was counted with, and the judgement.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// By how many percent instructions may differ from their budget.
const TOLERANCE_PERCENT: f64 = 5.0;

/// Lines are counted exactly; this is what writing them down with five digits may change.
const LINES_ROUNDING: f64 = 0.00001;

const PREFACE: &str = "\
# What one request may cost the target beyond device work, for each workload of tools/cost. `cargo xtask budget` counts
# and fails when instructions exceed their budget by more than 5 %, or when a turn touches one cache line of guest
# memory more. `cargo xtask budget --update` writes this file anew: do so in the change that makes it faster, and in
# one that must make it slower, with the reason in its message.
#
# instructions   per request, the reactor's part alone; with `63-idle` the idle queues' part is in it
# lines_…        distinct lines of 64 bytes of guest memory per request that one turn loads from or stores to, by part

";

/// What is counted with one compiler for one kind of processor.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// `rustc --version`
    pub rustc: String,
    /// The target triple; code is made for its plainest processor.
    pub target: String,
    /// By name.
    #[serde(rename = "workload")]
    pub workloads: BTreeMap<String, Cost>,
}

/// What one request costs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Instructions.
    pub instructions: f64,
    /// Cache lines loaded from, by part of the guest's memory.
    pub lines_loaded: BTreeMap<String, f64>,
    /// Cache lines stored to.
    pub lines_stored: BTreeMap<String, f64>,
}

/// What came of a comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What must not be.
    pub faults: Vec<String>,
    /// What somebody should know.
    pub notes: Vec<String>,
}

impl Budgets {
    /// Reads the file.
    ///
    /// # Errors
    /// Says what cannot be read, and how to make the file anew.
    pub fn read(path: &Path) -> Result<Budgets, String> {
        let shown = path.display();
        let text = fs::read_to_string(path)
            .map_err(|error| format!("{shown}: {error}; `cargo xtask budget --update` makes it"))?;
        toml::from_str(&text).map_err(|error| format!("{shown}: {error}"))
    }

    /// The text of the file.
    pub fn to_toml(&self) -> String {
        let mut text = PREFACE.to_owned();
        let _ = writeln!(text, "rustc = {:?}\ntarget = {:?}", self.rustc, self.target);
        for (name, cost) in &self.workloads {
            let lines = |lines: &BTreeMap<String, f64>| {
                let each = |(part, count): (&String, &f64)| format!("{part} = {}", digits(*count));
                let each: Vec<String> = lines.iter().map(each).collect();
                format!("{{ {} }}", each.join(", "))
            };
            let _ = writeln!(
                text,
                "\n[workload.{name}]\ninstructions = {}\nlines_loaded = {}\nlines_stored = {}",
                digits(cost.instructions),
                lines(&cost.lines_loaded),
                lines(&cost.lines_stored)
            );
        }
        text
    }

    /// A table for people, with what these budgets allow beside it.
    pub fn table(&self, budgets: Option<&Budgets>) -> String {
        let mut text = format!(
            "{:20} {:>12} {:>9} {:>8}  cache lines of guest memory: loaded, stored\n",
            "a request of", "instructions", "budget", "differs"
        );
        for (name, cost) in &self.workloads {
            let budget = budgets.and_then(|budgets| budgets.workloads.get(name));
            let (budget, differs) = budget.map_or(("-".to_owned(), "-".to_owned()), |budget| {
                let differs = percent(cost.instructions, budget.instructions);
                (format!("{:.1}", budget.instructions), format!("{differs:+.1} %"))
            });
            let sum = |lines: &BTreeMap<String, f64>| lines.values().fold(0.0, |sum, count| sum + count);
            let _ = writeln!(
                text,
                "{name:20} {:12.1} {budget:>9} {differs:>8}  {:.2}, {:.2}",
                cost.instructions,
                sum(&cost.lines_loaded),
                sum(&cost.lines_stored)
            );
        }
        text
    }

    /// Holds what was counted against these budgets.
    ///
    /// # Errors
    /// The budgets are for another kind of processor.
    pub fn judge(&self, counted: &Budgets) -> Result<Verdict, String> {
        if self.target != counted.target {
            return Err(format!(
                "the budgets of ci/budgets.toml are for {}, this is {}: nothing can be compared",
                self.target, counted.target
            ));
        }
        let mut verdict = Verdict::default();
        if self.rustc != counted.rustc {
            verdict.notes.push(format!(
                "the budgets were counted with {}, this is {}: a difference may be the compiler's",
                self.rustc, counted.rustc
            ));
        }
        let names: BTreeSet<&String> = self.workloads.keys().chain(counted.workloads.keys()).collect();
        for name in names {
            match (self.workloads.get(name), counted.workloads.get(name)) {
                (Some(budget), Some(counted)) => judge_one(name, budget, counted, &mut verdict),
                (None, _) => verdict.faults.push(format!(
                    "{name} has no budget: `cargo xtask budget --update` makes one"
                )),
                (_, None) => verdict.faults.push(format!(
                    "ci/budgets.toml has a budget for {name}, which is no workload"
                )),
            }
        }
        Ok(verdict)
    }
}

fn judge_one(name: &str, budget: &Cost, counted: &Cost, verdict: &mut Verdict) {
    let differs = percent(counted.instructions, budget.instructions);
    let words = format!(
        "{name}: {:.1} instructions a request, budget {:.1}, {differs:+.1} %",
        counted.instructions, budget.instructions
    );
    if differs > TOLERANCE_PERCENT {
        verdict
            .faults
            .push(format!("{words} (allowed: +{TOLERANCE_PERCENT} %)"));
    } else if differs < -TOLERANCE_PERCENT {
        verdict.notes.push(format!(
            "{words}: faster than its budget; lower it by `cargo xtask budget --update`"
        ));
    }
    for (did, budget, counted) in [
        ("loads from", &budget.lines_loaded, &counted.lines_loaded),
        ("stores to", &budget.lines_stored, &counted.lines_stored),
    ] {
        let parts: BTreeSet<&String> = budget.keys().chain(counted.keys()).collect();
        for part in parts {
            let of = |lines: &BTreeMap<String, f64>| lines.get(part).copied().unwrap_or(0.0);
            let (budget, counted) = (of(budget), of(counted));
            let words = || {
                let (counted, budget) = (digits(counted), digits(budget));
                format!(
                    "{name}: a request {did} {counted} cache lines of the guest's {part}, budget {budget}"
                )
            };
            if counted > budget + LINES_ROUNDING {
                verdict.faults.push(words());
            } else if counted < budget - LINES_ROUNDING {
                verdict.notes.push(words() + ": fewer than budgeted");
            }
        }
    }
}

/// By how many percent `counted` lies above `budget`.
fn percent(counted: f64, budget: f64) -> f64 {
    (counted / budget - 1.0) * 100.0
}

/// Five digits behind the point at most, and one at least.
fn digits(count: f64) -> String {
    let text = format!("{count:.5}");
    let text = text.trim_end_matches('0');
    if text.ends_with('.') {
        format!("{text}0")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets(instructions: f64, used: f64) -> Budgets {
        let cost = Cost {
            instructions,
            lines_loaded: BTreeMap::new(),
            lines_stored: [("used".to_owned(), used)].into(),
        };
        Budgets {
            rustc: "rustc 1".to_owned(),
            target: "x86_64".to_owned(),
            workloads: [("turn".to_owned(), cost)].into(),
        }
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let budgets = budgets(284.75, 0.18359);
        assert_eq!(toml::from_str::<Budgets>(&budgets.to_toml()), Ok(budgets));
    }

    #[test]
    fn five_percent_more_is_allowed_and_not_a_line() {
        let budget = budgets(100.0, 1.0);
        for same in [95.1, 100.0, 104.9] {
            assert_eq!(
                budget.judge(&budgets(same, 1.0)),
                Ok(Verdict::default()),
                "{same}"
            );
        }
        let slower = budget.judge(&budgets(105.1, 1.0)).unwrap();
        assert_eq!(
            slower.faults,
            ["turn: 105.1 instructions a request, budget 100.0, +5.1 % (allowed: +5 %)"]
        );
        let more_lines = budget.judge(&budgets(100.0, 1.0039)).unwrap();
        assert!(
            more_lines.faults[0].contains("stores to 1.0039 cache lines of the guest's used, budget 1.0"),
            "{more_lines:?}"
        );
        assert_eq!((slower.notes.len(), more_lines.notes.len()), (0, 0));
    }

    #[test]
    fn being_cheaper_is_a_note_and_no_fault() {
        let verdict = budgets(100.0, 1.0).judge(&budgets(94.0, 0.5)).unwrap();
        assert_eq!((verdict.faults.len(), verdict.notes.len()), (0, 2), "{verdict:?}");
        assert!(verdict.notes[0].contains("-6.0 %"), "{verdict:?}");
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let budget = budgets(100.0, 1.0);
        let mut other = budgets(100.0, 1.0);
        other.rustc = "rustc 2".to_owned();
        let cost = other.workloads.remove("turn").unwrap_or_default();
        other.workloads.insert("new".to_owned(), cost);
        let verdict = budget.judge(&other).unwrap();
        assert_eq!((verdict.faults.len(), verdict.notes.len()), (2, 1), "{verdict:?}");
        other.target = "aarch64".to_owned();
        assert!(budget.judge(&other).is_err());
    }

    #[test]
    fn a_table_shows_the_difference() {
        let table = budgets(110.0, 0.5).table(Some(&budgets(100.0, 1.0)));
        let row = table.lines().last().unwrap_or_default();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(words, ["turn", "110.0", "100.0", "+10.0", "%", "0.00,", "0.50"]);
    }
}
