//! palisade-bench-scale: how the appliance grows, in one command, on this machine.

#![forbid(unsafe_code)]

use clap::{Parser, ValueEnum};
use palisade_bench::Failure;
use palisade_bench::scale::{Plan, Subject, run};
use palisade_sys::affinity::allowed_cpus;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Measures how the appliance grows: more reactors, more volumes, more attachments, more hours.
#[derive(Parser, Debug)]
#[command(name = "scale", version)]
struct Flags {
    /// What to measure, separated by commas
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',', default_values_t = Subject::value_variants().to_vec())]
    what: Vec<Subject>,
    /// Run a daemon for so many minutes under a low load of comings and goings and tell whether it stays flat. Measures
    /// nothing else
    #[arg(long, value_name = "MINUTES", conflicts_with = "what")]
    soak: Option<f64>,
    /// Repetitions of each figure
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Length of a window in seconds
    #[arg(long, value_name = "S", default_value_t = 0.2)]
    seconds: f64,
    /// Folder for scale.txt, scale.md and scale.json
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// Core of the reactor [default: the last this process may use]
    #[arg(long, value_name = "CORE")]
    target_core: Option<usize>,
    /// Core of the guests, and of a second reactor [default: the first]
    #[arg(long, value_name = "CORE")]
    client_core: Option<usize>,
    /// Folder of palisaded [default: that of this program]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

fn main() -> ExitCode {
    match measure(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("scale: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(flags: &Flags) -> Result<(), Failure> {
    let plan = plan(flags)?;
    std::fs::create_dir_all(&flags.out).map_err(Failure::system(format!("make {}", flags.out.display())))?;
    let begin = Instant::now();
    let report = run(&plan, &mut |line| {
        eprintln!("[{:>4} s] {line}", begin.elapsed().as_secs())
    });
    let _ = std::fs::remove_dir_all(&plan.folder);
    let report = report?;
    let json = report
        .json()
        .map_err(|error| asked(&format!("the figures cannot be written: {error}")))?;
    let name = if plan.soak.is_some() { "soak" } else { "scale" };
    for (kind, page) in [("txt", report.text()), ("md", report.markdown()), ("json", json)] {
        let path = flags.out.join(format!("{name}.{kind}"));
        std::fs::write(&path, page).map_err(Failure::system(format!("write {}", path.display())))?;
    }
    print!("{}", report.text());
    eprintln!(
        "\nwritten: {name}.txt, {name}.md and {name}.json in {}",
        flags.out.display()
    );
    Ok(())
}

fn plan(flags: &Flags) -> Result<Plan, Failure> {
    let cores = allowed_cpus().map_err(Failure::system("ask for my cores"))?;
    let of = |wish: Option<usize>, default: Option<&usize>| wish.or(default.copied());
    let (Some(target_core), Some(client_core)) = (
        of(flags.target_core, cores.last()),
        of(flags.client_core, cores.first()),
    ) else {
        return Err(asked("there is no core"));
    };
    if target_core == client_core {
        return Err(asked("the guests and the reactor need a core each"));
    }
    if !(0.02..=60.0).contains(&flags.seconds)
        || flags
            .soak
            .is_some_and(|minutes| !(0.1..=10_000.0).contains(&minutes))
    {
        return Err(asked("--seconds is 0.02 to 60, --soak is 0.1 to 10000"));
    }
    let program = std::env::current_exe().map_err(Failure::system("find myself"))?;
    let beside = || program.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok(Plan {
        subjects: if flags.soak.is_some() {
            Vec::new()
        } else {
            flags.what.clone()
        },
        soak: flags.soak.map(|minutes| Duration::from_secs_f64(minutes * 60.0)),
        repeats: flags.repeats,
        length: Duration::from_secs_f64(flags.seconds),
        programs: flags.programs.clone().unwrap_or_else(beside),
        // A UNIX socket's path may have 107 bytes, and the folder for the pages may lie deep.
        folder: std::env::temp_dir().join(format!("palisade-scale-{}", std::process::id())),
        target_core,
        client_core,
    })
}

fn asked(problem: &str) -> Failure {
    Failure::Asked {
        problem: problem.to_owned(),
    }
}
