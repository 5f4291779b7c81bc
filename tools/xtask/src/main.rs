//! # xtask: what the build checks about its own shape
//!
//! Storey 6. `cargo xtask storeys` holds every import against `ci/storeys.toml`; `cargo xtask layout` holds every source
//! file against the rules of the tree; `cargo xtask vocabulary` holds every public name against those of all other crates;
//! `cargo xtask budget` holds what a request costs against `ci/budgets.toml`; `cargo xtask mutants` puts deliberate faults
//! into a copy of the code, each of which has to be found; `cargo xtask hunt` makes the code wrong in one place after
//! another, which tests have to mind; `cargo xtask sim` starts the simulator.
//!
//! It must never know what the crates do. Start reading at [`storeys`].

#![forbid(unsafe_code)]

mod bed;
mod budget;
mod hunt;
mod layout;
mod mutants;
mod storeys;
mod vocabulary;
mod workspace;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::hunt::{Hunt, Part};
use crate::mutants::Slice;
use crate::workspace::Workspace;

const HELP: &str = "cargo xtask COMMAND

  storeys         check that imports run down the storeys of ci/storeys.toml
  layout          check names and lengths of source files
  vocabulary      check that no public name stands for two things, unless ci/vocabulary.toml allows it
  budget          count instructions and cache lines of a request and hold them against ci/budgets.toml
  budget --update write them there
  mutants [--all | NAME...]
                  put the deliberate faults of ci/mutants.toml into a copy of the code: each has to be found
  hunt            make a few places of the day wrong, one at a time: the tests have to mind, or ci/survivors.toml explains
  hunt --all      all places of all crates that are hunted through
  hunt CRATE... [--slice K/N]
                  all of these, or every Nth of them
  hunt CRATE... --named TEXT...
                  those whose names hold one of the texts; a name is FILE, FUNCTION: WHAT
  hunt CRATE... --own [--slice K/N | --named TEXT...]
                  the same on their own tests alone
  hunt CRATE... --update
                  all of these, and bring the list up to date
  sim [ARGS...]   run the simulator, e.g. cargo xtask sim --seeds 100";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    match arguments.next().as_deref() {
        Some("storeys") => report("storeys", check_storeys()),
        Some("layout") => report("layout", layout::check(&root())),
        Some("vocabulary") => report("vocabulary", check_vocabulary()),
        Some("budget") => match (arguments.next().as_deref(), arguments.next()) {
            (None, _) => report("budget", budget::check(&root(), false)),
            (Some("--update"), None) => report("budget", budget::check(&root(), true)),
            _ => {
                eprintln!("{HELP}");
                ExitCode::from(2)
            }
        },
        Some("mutants") => {
            let names: Vec<String> = arguments.collect();
            let slice = match names.first().map(String::as_str) {
                None => Slice::Quick,
                Some("--all") => Slice::All,
                Some(_) => Slice::Named(names),
            };
            report("mutants", mutants::check(&root(), &slice))
        }
        Some("hunt") => match asked_for(&arguments.collect::<Vec<String>>()) {
            Some(hunt) => report("hunt", hunt::hunt(&root(), &hunt)),
            None => {
                eprintln!("{HELP}");
                ExitCode::from(2)
            }
        },
        Some("sim") => simulate(arguments),
        _ => {
            eprintln!("{HELP}");
            ExitCode::from(2)
        }
    }
}

fn asked_for(arguments: &[String]) -> Option<Hunt> {
    let is_option = |argument: &String| argument.starts_with("--");
    let count = arguments.iter().position(is_option).unwrap_or(arguments.len());
    let (crates, options) = arguments.split_at(count);
    let crates = crates.to_vec();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    match (crates.is_empty(), &options[..]) {
        (true, []) => Some(Hunt::Today),
        (true, ["--all"]) => Some(Hunt::All),
        (true, _) => None,
        (false, ["--update"]) => Some(Hunt::Update(crates)),
        (false, ["--own", part @ ..]) => Some(Hunt::Own(crates, part_of(part)?)),
        (false, part) => Some(Hunt::Crates(crates, part_of(part)?)),
    }
}

fn part_of(options: &[&str]) -> Option<Part> {
    match options {
        [] => Some(Part::Whole),
        ["--slice", slice] => {
            let (this, of) = slice.split_once('/')?;
            let (this, of) = (this.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&this).then_some(Part::Slice(this, of))
        }
        ["--named", texts @ ..] if !texts.is_empty() => {
            Some(Part::Named(texts.iter().map(|&text| text.to_owned()).collect()))
        }
        _ => None,
    }
}

fn check_storeys() -> Result<Vec<String>, String> {
    let workspace = Workspace::read(&root())?;
    let plan = storeys::Plan::read(&root().join("ci/storeys.toml"))?;
    Ok(plan.check(&workspace))
}

fn check_vocabulary() -> Result<Vec<String>, String> {
    let workspace = Workspace::read(&root())?;
    let allowed = vocabulary::Allowed::read(&root().join("ci/vocabulary.toml"))?;
    Ok(allowed.check(&vocabulary::defined(&workspace)?))
}

fn report(name: &str, result: Result<Vec<String>, String>) -> ExitCode {
    let faults = match result {
        Ok(faults) => faults,
        Err(reason) => {
            eprintln!("{name}: {reason}");
            return ExitCode::from(2);
        }
    };
    for fault in &faults {
        eprintln!("{name}: {fault}");
    }
    if faults.is_empty() {
        println!("{name}: well");
        return ExitCode::SUCCESS;
    }
    eprintln!("{name}: {} faults", faults.len());
    ExitCode::FAILURE
}

/// Runs the simulator with the arguments given.
fn simulate(arguments: impl Iterator<Item = String>) -> ExitCode {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--bin", "palisade-sim", "--"])
        .args(arguments)
        .current_dir(root())
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: cargo cannot be started: {error}");
            ExitCode::from(2)
        }
    }
}

/// Where cargo puts what it builds of a tree.
fn target(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}

/// The root of the source tree.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> String {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        format!("{:?}", asked_for(&arguments))
    }

    #[test]
    fn a_hunt_is_asked_for_by_crates_and_then_a_part_of_them() {
        for (line, hunt) in [
            ("", "Some(Today)"),
            ("--all", "Some(All)"),
            ("wire", r#"Some(Crates(["wire"], Whole))"#),
            (
                "wire model --slice 2/3",
                r#"Some(Crates(["wire", "model"], Slice(2, 3)))"#,
            ),
            (
                "wire --named frame.rs give",
                r#"Some(Crates(["wire"], Named(["frame.rs", "give"])))"#,
            ),
            ("wire --own", r#"Some(Own(["wire"], Whole))"#),
            (
                "wire --own --named frame.rs",
                r#"Some(Own(["wire"], Named(["frame.rs"])))"#,
            ),
            ("wire --update", r#"Some(Update(["wire"]))"#),
        ] {
            assert_eq!(asked(line), hunt, "{line}");
        }
        for line in [
            "--own",
            "wire --slice 4/3",
            "wire --slice 0/3",
            "wire --named",
            "wire --update x",
            "wire --all",
        ] {
            assert_eq!(asked(line), "None", "{line}");
        }
    }
}
