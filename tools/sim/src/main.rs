//! `palisade-sim`: runs scenarios from seeds and prints what they found, with the command that replays it.

#![forbid(unsafe_code)]

use clap::Parser;
use palisade_sim::mutation;
use palisade_sim::plan::Break;
use palisade_sim::scenario::{self, Scenario};
use palisade_sim::suite::{self, Report};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
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
    /// How many runs at a time; as many as there are processors unless told otherwise.
    #[arg(long)]
    jobs: Option<usize>,
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
    let runs: Vec<(&Scenario, u64)> = seeds
        .flat_map(|seed| chosen.iter().map(move |scenario| (*scenario, seed)))
        .collect();
    let jobs = options
        .jobs
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let (mut requests, mut failed) = (0, 0);
    run_all(&runs, broken, jobs, |scenario, seed, report| {
        requests += report.requests;
        failed += u64::from(!report.findings.is_empty());
        show(scenario, seed, report, &options);
    });
    let runs = runs.len();
    let seconds = started.elapsed().as_secs_f64();
    println!("{runs} runs, {requests} requests, {failed} with findings, {seconds:.1} s");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Makes all runs, so many at a time, and reports them in the order they are listed in, whichever ends first.
fn run_all(
    runs: &[(&Scenario, u64)],
    broken: Option<Break>,
    jobs: usize,
    mut report: impl FnMut(&Scenario, u64, &Report),
) {
    let next = AtomicUsize::new(0);
    let (ended, ends) = mpsc::channel();
    thread::scope(|threads| {
        for _ in 0..jobs.clamp(1, runs.len().max(1)) {
            let (next, ended) = (&next, ended.clone());
            threads.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((scenario, seed)) = runs.get(at) else {
                        break;
                    };
                    // Whoever reads the reports is gone only when it has panicked.
                    let _ = ended.send((at, suite::run(scenario, *seed, broken)));
                }
            });
        }
        drop(ended);
        let mut early = BTreeMap::new();
        let mut reported = 0;
        for (at, run) in ends {
            early.insert(at, run);
            while let Some(run) = early.remove(&reported)
                && let Some((scenario, seed)) = runs.get(reported)
            {
                report(scenario, *seed, &run);
                reported += 1;
            }
        }
    });
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
