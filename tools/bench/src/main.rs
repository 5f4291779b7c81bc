//! palisade-bench: how fast the appliance is, beside the others, on this machine, and what more of it takes.

#![forbid(unsafe_code)]

use clap::{Args, Parser, Subcommand, ValueEnum};
use palisade_bench::contestant::Rounds;
use palisade_bench::places::{Locations, json, made, short_folder};
use palisade_bench::row::Row;
use palisade_bench::run::{Plan, load_rows, run};
use palisade_bench::target::{Ground, Way};
use palisade_bench::{Failure, chart, sizing};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What can be measured.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// As many requests as each target can answer
    Rows,
    /// Processor time and latency at a tenth of the load
    Load,
}

/// Measures vhost-user-blk targets with a native poll-mode client.
#[derive(Parser, Debug)]
#[command(name = "bench", version, args_conflicts_with_subcommands = true)]
struct Flags {
    #[command(subcommand)]
    command: Option<Command>,
    /// A quick look: null and memory at depth 1 and 32, three windows of 0.7 s
    #[arg(long)]
    quick: bool,
    /// What to measure, separated by commas
    #[arg(long, value_name = "PARTS", value_enum, value_delimiter = ',', default_values_t = Part::value_variants().to_vec())]
    parts: Vec<Part>,
    /// Targets: names or families (palisade, qemu, rust-vmm, bare), separated by commas
    #[arg(long, value_name = "NAMES", default_value = "all")]
    targets: String,
    /// Rows: names or parts of them (null, memory, file-write, 128k), separated by commas
    #[arg(long, value_name = "NAMES")]
    rows: Option<String>,
    /// Windows for each target in each row of null and memory [default: 7, quick: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: Option<u32>,
    /// Length of these windows in seconds [default: 1, quick: 0.7]
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Windows for each target in each row of files: more and shorter, for their ratios to the bare device are near 1
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=1000))]
    file_repeats: u32,
    /// Length of these windows in seconds
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    file_seconds: f64,
    /// Folder for the files of file disks: it decides which device is measured [default: the same as --out]
    #[arg(long, value_name = "DIR")]
    disks: Option<PathBuf>,
    /// Size of each disk in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    disk_mib: u64,
    /// Announce requests by event index, as Linux guests do, instead of by flag, with which qemu does a little better
    #[arg(long)]
    event_idx: bool,
    /// qemu-storage-daemon
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/qemu-storage-daemon")]
    qemu: PathBuf,
    #[command(flatten)]
    places: Locations,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// What more attachments and reactors take: memory, descriptors, processor time
    Scale(Scale),
}

#[derive(Args, Debug)]
struct Scale {
    /// Daemons of each kind, of which each figure is the median
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Attachments that come, are used and go; 100000 take some hours and show whether anything grows
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    churn: u32,
    #[command(flatten)]
    places: Locations,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let done = match &flags.command {
        Some(Command::Scale(flags)) => scale(flags),
        None => measure(&flags),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(flags: &Flags) -> Result<(), Failure> {
    let plan = plan(flags)?;
    let folder = short_folder()?;
    let ground = Ground {
        programs: flags.places.programs()?,
        qemu: flags.qemu.clone(),
        folder: folder.path().to_owned(),
        disks: made(flags.disks.as_ref().unwrap_or(&flags.places.out))?,
        disk_bytes: plan.disk_bytes,
        core: plan.target_core,
    };
    let report = run(&plan, &ground, &mut speaker())?;
    let pages = [
        ("md", report.page()),
        ("json", json(&report)?),
        ("svg", chart::svg(&report)?),
    ];
    flags.places.write("bench", &pages)
}

fn scale(flags: &Scale) -> Result<(), Failure> {
    let (core, client_core) = flags.places.cores()?;
    let plan = sizing::Plan {
        repeats: flags.repeats,
        churn: flags.churn,
        client_core,
    };
    let folder = short_folder()?;
    let ground = Ground {
        programs: flags.places.programs()?,
        qemu: PathBuf::new(),
        disks: folder.path().to_owned(),
        folder: folder.path().to_owned(),
        disk_bytes: 0,
        core,
    };
    let report = sizing::run(&plan, &ground, &mut speaker())?;
    let pages = [("md", report.page()), ("json", json(&report)?)];
    flags.places.write("scale", &pages)
}

/// Tells what happens, and when.
fn speaker() -> impl FnMut(&str) {
    let begin = Instant::now();
    move |line| eprintln!("[{:>4} s] {line}", begin.elapsed().as_secs())
}

fn plan(flags: &Flags) -> Result<Plan, Failure> {
    let rows = match (&flags.rows, flags.quick) {
        (Some(words), _) => Row::matching(words)?,
        (None, true) => Row::quick(),
        (None, false) => Row::all(),
    };
    let wanted = |part, rows| {
        if flags.parts.contains(&part) {
            rows
        } else {
            Vec::new()
        }
    };
    let (repeats, seconds) = if flags.quick { (3, 0.7) } else { (7, 1.0) };
    let (target_core, client_core) = flags.places.cores()?;
    Ok(Plan {
        ways: Way::matching(&flags.targets)?,
        load: wanted(Part::Load, load_rows(&rows)),
        rows: wanted(Part::Rows, rows),
        rounds: Rounds {
            repeats: flags.repeats.unwrap_or(repeats),
            length: length("--seconds", flags.seconds.unwrap_or(seconds))?,
        },
        file_rounds: Rounds {
            repeats: flags.file_repeats,
            length: length("--file-seconds", flags.file_seconds)?,
        },
        disk_bytes: flags.disk_mib << 20,
        event_idx: flags.event_idx,
        target_core,
        client_core,
    })
}

fn length(flag: &str, seconds: f64) -> Result<Duration, Failure> {
    if !(0.05..=3600.0).contains(&seconds) {
        return Err(Failure::asked(format!("{flag} is 0.05 to 3600")));
    }
    Ok(Duration::from_secs_f64(seconds))
}
