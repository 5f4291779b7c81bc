//! palisade-bench: one command that shows how fast the appliance is, beside the others, on this machine.

#![forbid(unsafe_code)]

use clap::{Parser, ValueEnum};
use palisade_bench::contestant::Rounds;
use palisade_bench::pages::{HUGEPAGE_BYTES, Pages};
use palisade_bench::report::Report;
use palisade_bench::ring::{Layout, Ring};
use palisade_bench::row::{LARGE_BYTES, Row, SMALL_BYTES};
use palisade_bench::run::{Plan, run};
use palisade_bench::session::Manner;
use palisade_bench::target::{Ground, Way};
use palisade_bench::{Failure, chart, load, machine, reference};
use palisade_memory::GuestMemory;
use palisade_sys::affinity::allowed_cpus;
use std::path::{Path, PathBuf};
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
#[command(name = "bench", version)]
struct Flags {
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
    /// Folder for bench.txt, bench.md, bench.json and bench.svg
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// Folder for the files of file disks: it decides which device is measured [default: the same as --out]
    #[arg(long, value_name = "DIR")]
    disks: Option<PathBuf>,
    /// Size of each disk in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    disk_mib: u64,
    /// Core of the targets [default: the last this process may use]
    #[arg(long, value_name = "CORE")]
    target_core: Option<usize>,
    /// Core of the client [default: the first]
    #[arg(long, value_name = "CORE")]
    client_core: Option<usize>,
    /// Announce requests by event index, as Linux guests do, instead of by flag, with which qemu does a little better
    #[arg(long)]
    event_idx: bool,
    /// Offer memory as a table even to servers with CONFIGURE_MEM_SLOTS
    #[arg(long)]
    memory_table: bool,
    /// Folder of palisaded and palisade [default: that of this program]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// qemu-storage-daemon
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/qemu-storage-daemon")]
    qemu: PathBuf,
}

fn main() -> ExitCode {
    match measure(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(flags: Flags) -> Result<(), Failure> {
    let plan = plan(&flags)?;
    let out = folder(&flags.out)?;
    // A UNIX socket's path may have 107 bytes, and the folder for the pages may lie deep.
    let sockets = std::env::temp_dir().join(format!("palisade-bench-{}", std::process::id()));
    let ground = Ground {
        programs: match &flags.programs {
            Some(folder) => folder.clone(),
            None => own_folder()?,
        },
        qemu: flags.qemu.clone(),
        folder: folder(&sockets)?,
        disks: match &flags.disks {
            Some(disks) => folder(disks)?,
            None => out.clone(),
        },
        disk_bytes: flags.disk_mib << 20,
        core: flags
            .target_core
            .map_or_else(|| last_core(plan.client_core), Ok)?,
    };
    if ground.core == plan.client_core {
        return Err(asked("the client and the targets need a core each"));
    }
    let client_ns_per_request = client_cost()?;
    let mut report = Report {
        machine: machine::Machine::look(&flags.qemu),
        target_core: ground.core,
        client_core: plan.client_core,
        repeats: plan.rounds.repeats,
        seconds: plan.rounds.length.as_secs_f64(),
        file_repeats: plan.file_rounds.repeats,
        file_seconds: plan.file_rounds.length.as_secs_f64(),
        disk_bytes: ground.disk_bytes,
        event_idx: plan.manner.event_idx,
        huge_pages: Pages::new(HUGEPAGE_BYTES)?.huge,
        client_ns_per_request,
        reference: reference::SOURCE,
        rows: Vec::new(),
        load: Vec::new(),
    };
    let begin = Instant::now();
    let mut say = |line: &str| eprintln!("[{:>4} s] {line}", begin.elapsed().as_secs());
    let found = run(&plan, &ground, &mut say)?;
    (report.rows, report.load) = (found.rows, found.load);
    report.machine.load_after = machine::load();
    let json = report
        .json()
        .map_err(|error| asked(&format!("the figures cannot be written: {error}")))?;
    let pages = [
        ("bench.txt", report.text()),
        ("bench.md", report.markdown()),
        ("bench.json", json),
        ("bench.svg", chart::svg(&report)),
    ];
    for (name, page) in pages {
        let path = out.join(name);
        std::fs::write(&path, page).map_err(Failure::system(format!("write {}", path.display())))?;
    }
    let _ = std::fs::remove_dir_all(&sockets);
    print!("{}", report.text());
    eprintln!(
        "\nwritten: bench.txt, bench.md, bench.json and bench.svg in {}",
        out.display()
    );
    Ok(())
}

fn plan(flags: &Flags) -> Result<Plan, Failure> {
    let rows = match (&flags.rows, flags.quick) {
        (Some(words), _) => Row::matching(words)?,
        (None, true) => Row::quick(),
        (None, false) => Row::all(),
    };
    let wanted = |part| flags.parts.contains(&part);
    let first = || cores()?.first().copied().ok_or_else(|| asked("there is no core"));
    Ok(Plan {
        ways: Way::matching(&flags.targets)?,
        load: if wanted(Part::Load) {
            load::rows(&rows)
        } else {
            Vec::new()
        },
        rows: if wanted(Part::Rows) { rows } else { Vec::new() },
        rounds: Rounds {
            repeats: flags.repeats.unwrap_or(if flags.quick { 3 } else { 7 }),
            length: length(
                "--seconds",
                flags.seconds.unwrap_or(if flags.quick { 0.7 } else { 1.0 }),
            )?,
        },
        file_rounds: Rounds {
            repeats: flags.file_repeats,
            length: length("--file-seconds", flags.file_seconds)?,
        },
        manner: Manner {
            event_idx: flags.event_idx,
            memory_slots: !flags.memory_table,
        },
        client_core: flags.client_core.map_or_else(first, Ok)?,
    })
}

fn length(flag: &str, seconds: f64) -> Result<Duration, Failure> {
    if !(0.05..=3600.0).contains(&seconds) {
        return Err(asked(&format!("{flag} is 0.05 to 3600")));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// What a request costs this client when its server is itself and does next to nothing: the limit of what it can
/// measure. The best of some short rounds.
fn client_cost() -> Result<f64, Failure> {
    const ROUNDS: u32 = 20;
    const BATCHES: u32 = 500;
    let layout = Layout {
        depth: 128,
        bytes: SMALL_BYTES,
    };
    let memory = GuestMemory::anonymous(&[(0, layout.bytes())]).map_err(|error| asked(&error.to_string()))?;
    let mut ring = Ring::new(memory, layout, true)?;
    let (mut best, mut answered) = (f64::INFINITY, 0);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for batch in 0..BATCHES {
            for slot in 0..layout.depth {
                ring.submit(slot, u64::from(batch) * u64::from(LARGE_BYTES / SMALL_BYTES));
            }
            ring.publish();
            ring.answer_all_ourselves(&mut answered);
            while ring.answered() > 0 {
                ring.take()?;
                ring.stay_quiet();
            }
        }
        let requests = BATCHES * u32::from(layout.depth);
        best = best.min(begin.elapsed().as_nanos() as f64 / f64::from(requests));
    }
    Ok(best)
}

fn cores() -> Result<Vec<usize>, Failure> {
    allowed_cpus().map_err(Failure::system("ask for my cores"))
}

fn last_core(client: usize) -> Result<usize, Failure> {
    let cores = cores()?;
    let other = cores.into_iter().rev().find(|&core| core != client);
    other.ok_or_else(|| asked("the client and the targets need a core each, and there is only one"))
}

fn own_folder() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().map_err(Failure::system("find myself"))?;
    Ok(program.parent().map(Path::to_path_buf).unwrap_or_default())
}

/// A folder by its absolute path, made when it is not there.
fn folder(path: &Path) -> Result<PathBuf, Failure> {
    let action = format!("make {}", path.display());
    std::fs::create_dir_all(path).map_err(Failure::system(action.clone()))?;
    path.canonicalize().map_err(Failure::system(action))
}

fn asked(problem: &str) -> Failure {
    Failure::Asked {
        problem: problem.to_owned(),
    }
}
