//! # xtask: what the build checks about its own shape
//!
//! Storey 6. `cargo xtask storeys` holds every import against `ci/storeys.toml`; `cargo xtask layout` holds every source
//! file against the rules of the tree; `cargo xtask budget` holds what a request costs against `ci/budgets.toml`;
//! `cargo xtask mutants` puts deliberate faults into a copy of the code, each of which has to be found; `cargo xtask sim`
//! starts the simulator.
//!
//! It must never know what the crates do. Start reading at [`storeys`].

#![forbid(unsafe_code)]

mod budget;
mod layout;
mod mutants;
mod storeys;
mod workspace;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::mutants::Slice;
use crate::workspace::Workspace;

const HELP: &str = "cargo xtask COMMAND

  storeys         check that imports run down the storeys of ci/storeys.toml
  layout          check names and lengths of source files
  budget          count instructions and cache lines of a request and hold them against ci/budgets.toml
  budget --update write them there
  mutants [--all | NAME...]
                  put the deliberate faults of ci/mutants.toml into a copy of the code: each has to be found
  sim [ARGS...]   run the simulator, e.g. cargo xtask sim --seeds 100";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    match arguments.next().as_deref() {
        Some("storeys") => report("storeys", check_storeys()),
        Some("layout") => report("layout", layout::check(&root())),
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
        Some("sim") => simulate(arguments),
        _ => {
            eprintln!("{HELP}");
            ExitCode::from(2)
        }
    }
}

fn check_storeys() -> Result<Vec<String>, String> {
    let workspace = Workspace::read(&root())?;
    let plan = storeys::Plan::read(&root().join("ci/storeys.toml"))?;
    Ok(plan.check(&workspace))
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
        .args(["run", "--quiet", "--package", "palisade-sim", "--"])
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

/// The root of the source tree.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
