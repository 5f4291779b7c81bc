//! `palisade-sim`: runs scenarios from seeds and prints what they found, with the command that replays it.

#![forbid(unsafe_code)]

use clap::Parser;
use palisade_sim::mutation;
use palisade_sim::scenario::{self, Scenario};
use palisade_sim::suite::{self, Report};
use std::process::ExitCode;
use std::time::Instant;

/// Runs the appliance's data path in a simulated world and checks what must always hold.
#[derive(Debug, Parser)]
#[command(name = "palisade-sim", version)]
struct Options {
    /// How many seeds to run of each scenario.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this one seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Run this scenario only.
    #[arg(long)]
    scenario: Option<String>,
    /// Put a deliberate fault in, to see it found.
    #[arg(long = "break", value_name = "FAULT")]
    broken: Option<String>,
    /// List scenarios and deliberate faults.
    #[arg(long)]
    list: bool,
    /// Say what every run came to.
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        list();
        return ExitCode::SUCCESS;
    }
    palisade_sim::daemon::report_panics_as_findings();
    let chosen: Vec<&Scenario> = match &options.scenario {
        None => scenario::SCENARIOS.iter().collect(),
        Some(name) => match scenario::named(name) {
            Some(scenario) => vec![scenario],
            None => return refuse("scenario", name),
        },
    };
    let broken = match &options.broken {
        None => None,
        Some(name) => match mutation::named(name) {
            Some(mutation) => Some(mutation.fault),
            None => return refuse("deliberate fault", name),
        },
    };
    let seeds = match options.seed {
        Some(seed) => seed..seed + 1,
        None => options.from..options.from + options.seeds,
    };
    let started = Instant::now();
    let (mut runs, mut requests, mut failed) = (0, 0, 0);
    for seed in seeds {
        for scenario in &chosen {
            let report = suite::run(scenario, seed, broken);
            runs += 1;
            requests += report.requests;
            failed += u64::from(!report.findings.is_empty());
            show(scenario, seed, &report, &options);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{runs} runs, {requests} requests, {failed} with findings, {seconds:.1} s");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn show(scenario: &Scenario, seed: u64, report: &Report, options: &Options) {
    if options.verbose {
        let Report {
            hash,
            steps,
            requests,
            ..
        } = report;
        println!(
            "{} {seed}: hash {:016x}, {steps} steps, {requests} requests",
            scenario.name, hash.0
        );
    }
    if report.findings.is_empty() {
        return;
    }
    println!("{} {seed} found:", scenario.name);
    for finding in &report.findings {
        println!("  {finding}");
    }
    let broken = options
        .broken
        .as_ref()
        .map_or_else(String::new, |name| format!(" --break {name}"));
    println!(
        "  replay: cargo xtask sim --seed {seed} --scenario {}{broken}",
        scenario.name
    );
}

fn list() {
    println!("scenarios:");
    for scenario in scenario::SCENARIOS {
        println!("  {:<12} {}", scenario.name, scenario.about);
    }
    println!("deliberate faults:");
    for mutation in mutation::MUTATIONS {
        println!("  {:<16} found by {}", mutation.name, mutation.scenario);
    }
}

fn refuse(what: &str, name: &str) -> ExitCode {
    eprintln!("there is no {what} `{name}`; --list shows what there is");
    ExitCode::from(2)
}
