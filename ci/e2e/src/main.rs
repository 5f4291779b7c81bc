//! # e2e: real virtual machines against the real daemon
//!
//! Storey 6. Each scenario is one file in `scenarios/` and one line in its list; it says what it does and why, boots
//! QEMU, drives our programs as a person would (daemon, command line, sockets) and demands what must be seen.
//!
//! It must never know what is inside the daemon: whatever cannot be seen from outside is the simulator's to check.
//!
//! Start reading at `scenarios.rs`, then `vm.rs` (the machine) and `appliance.rs` (the daemon).
//!
//! ```text
//! palisade-e2e [--full] [--list] [--programs DIR] [SCENARIO...]
//! palisade-e2e drive ...        (driver.rs: what scenarios start, inside machines too)
//! ```

#![forbid(unsafe_code)]

mod agent;
mod appliance;
mod driver;
mod failure;
mod fio;
mod host;
mod lab;
mod loop_device;
mod network;
mod peer;
mod process;
mod qmp;
mod rest;
mod scenarios;
mod vm;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use crate::failure::{Failure, Outcome};
use crate::lab::{Depth, Lab, root};
use crate::scenarios::{ALL, Scenario};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == "drive"
    {
        return match driver::main(rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                println!("FAILED: {failure}");
                ExitCode::FAILURE
            }
        };
    }
    match Options::parse(arguments.into_iter()) {
        Ok(options) if options.list => {
            for scenario in ALL {
                println!("{:<22} {}", scenario.name, scenario.about);
            }
            ExitCode::SUCCESS
        }
        Ok(options) => run_all(&options),
        Err(failure) => {
            eprintln!("palisade-e2e: {failure}");
            ExitCode::from(2)
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    depth: Depth,
    list: bool,
    programs: PathBuf,
    chosen: Vec<&'static Scenario>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let mut options = Self {
            depth: Depth::Quick,
            list: false,
            programs: target.join("release"),
            chosen: Vec::new(),
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--full" => options.depth = Depth::Full,
                "--list" => options.list = true,
                "--programs" => {
                    let folder = arguments
                        .next()
                        .ok_or_else(|| Failure::new("--programs wants a folder"))?;
                    options.programs = PathBuf::from(folder);
                }
                name => {
                    let found = ALL.iter().find(|scenario| scenario.name == name);
                    options.chosen.push(found.ok_or_else(|| {
                        Failure::new(format!("there is no scenario `{name}`; --list shows all of them"))
                    })?);
                }
            }
        }
        if options.chosen.is_empty() {
            options.chosen = ALL
                .iter()
                .filter(|scenario| scenario.runs_at(options.depth))
                .collect();
        }
        Ok(options)
    }
}

fn run_all(options: &Options) -> ExitCode {
    let mut failed = Vec::new();
    for scenario in &options.chosen {
        println!("{}: {}", scenario.name, scenario.about);
        let start = Instant::now();
        let result = run_one(scenario, options);
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("  passed in {seconds:.1} s"),
            Err(failure) => {
                println!("  FAILED after {seconds:.1} s: {failure}");
                failed.push(scenario.name);
            }
        }
    }
    println!(
        "end to end: {} passed, {} failed",
        options.chosen.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

fn run_one(scenario: &Scenario, options: &Options) -> Outcome {
    let lab = Lab::new(options.depth, &options.programs)?;
    (scenario.run)(&lab).map_err(|failure| {
        let kept = lab.keep();
        Failure::new(format!("{failure}\n    logs are in {}", kept.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Outcome<Options> {
        Options::parse(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn names_choose_and_unknown_names_are_refused() {
        assert_eq!(parse(&["peer_qsd"]).unwrap().chosen.len(), 1);
        assert!(parse(&["no_such"]).is_err());
        assert!(parse(&["--programs"]).is_err());
    }

    #[test]
    fn a_quick_run_leaves_out_what_is_slow() {
        let quick = parse(&[]).unwrap().chosen.len();
        let full = parse(&["--full"]).unwrap().chosen.len();
        assert!(quick <= full && full == ALL.len());
    }

    #[test]
    fn names_of_scenarios_are_their_own() {
        for (index, one) in ALL.iter().enumerate() {
            assert!(
                ALL.iter().skip(index + 1).all(|other| other.name != one.name),
                "{} twice",
                one.name
            );
        }
    }
}
