//! What a request costs the target's processor, counted and held against `ci/budgets.toml`: instructions by callgrind,
//! cache lines of guest memory by a trace of every access. Both are the same on every run, which times are not.
//!
//! The workloads and what they leave out are those of `tools/cost`.

mod callgrind;
mod record;
mod trace;

use callgrind::Profile;
use record::{Budgets, Cost, Verdict};
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use trace::Layout;

/// Each workload is counted over so many turns and over twice as many: the difference has no start and no end in it.
/// Whole laps of the ring for every depth.
const TURNS: u32 = 512;

/// The functions whose instructions count, with all they call.
const MEASURED: &str = "*measured_turn*";

/// Counts everything and compares, or writes the counts down as the new budgets. Faults in words.
///
/// # Errors
/// Names the program that is missing, or what it said.
pub fn check(root: &Path, update: bool) -> Result<Vec<String>, String> {
    let file = root.join("ci/budgets.toml");
    let counted = count_all(root)?;
    let budgets = match update {
        true => None,
        false => Some(Budgets::read(&file)?),
    };
    print!("{}", counted.table(budgets.as_ref()));
    let Some(budgets) = budgets else {
        fs::write(&file, counted.to_toml()).map_err(|error| format!("{}: {error}", file.display()))?;
        println!("budget: written to ci/budgets.toml");
        return Ok(Vec::new());
    };
    let Verdict { faults, notes } = budgets.judge(&counted)?;
    for note in notes {
        println!("budget: note: {note}");
    }
    Ok(faults)
}

fn count_all(root: &Path) -> Result<Budgets, String> {
    let (rustc, target) = compiler()?;
    let program = build(root)?;
    let folder = scratch(&program)?;
    let workloads = count_each(&program, &folder);
    // What could not be removed lies in the build directory and is found there.
    let _ = fs::remove_dir_all(&folder);
    let workloads = workloads?;
    Ok(Budgets {
        rustc,
        target,
        workloads,
    })
}

fn count_each(program: &Path, folder: &Path) -> Result<BTreeMap<String, Cost>, String> {
    let names = said(Command::new(program).arg("list"))?;
    let each = |name: &str| Ok((name.to_owned(), count(program, folder, name)?));
    names.lines().map(each).collect()
}

/// What one request of a workload costs.
fn count(program: &Path, folder: &Path, name: &str) -> Result<Cost, String> {
    let (requests, profile) = instructions(program, folder, name, TURNS)?;
    let (requests_twice, twice) = instructions(program, folder, name, 2 * TURNS)?;
    if let Some(object) = twice.elsewhere() {
        return Err(format!(
            "{name}: a turn calls into {object}, where other processors take other ways: nothing there may be counted, \
             and a turn has no need of it. `callgrind_annotate --tree=caller` shows who calls (ci/README.md)"
        ));
    }
    let more = requests_twice
        .checked_sub(requests)
        .filter(|&more| more > 0)
        .ok_or_else(|| format!("{name}: {requests} requests, then {requests_twice}"))?;
    let instructions = twice.total().saturating_sub(profile.total());
    if instructions == 0 {
        return Err(format!(
            "{name}: no instruction was counted: has {MEASURED} another name?"
        ));
    }
    let lines = lines(program, folder, name)?;
    Ok(Cost {
        instructions: instructions as f64 / more as f64,
        lines_loaded: lines.loaded,
        lines_stored: lines.stored,
    })
}

/// Requests and profile of so many turns.
fn instructions(program: &Path, folder: &Path, name: &str, turns: u32) -> Result<(u64, Profile), String> {
    let out = folder.join("callgrind.out");
    let text = said(
        Command::new("valgrind")
            .args([
                "--quiet",
                "--tool=callgrind",
                &format!("--toggle-collect={MEASURED}"),
            ])
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(program)
            .args(["run", name, &turns.to_string()]),
    )?;
    let requests =
        trace::requests(&text).ok_or_else(|| format!("{name} did not tell its requests: {text}"))?;
    let text = fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    Ok((requests, callgrind::parse(&text)?))
}

fn lines(program: &Path, folder: &Path, name: &str) -> Result<trace::Lines, String> {
    let log = folder.join("trace");
    let text = said(
        Command::new("valgrind")
            .args(["--tool=lackey", "--trace-mem=yes"])
            .arg(format!("--log-file={}", log.display()))
            .arg(program)
            .args(["trace", name]),
    )?;
    let layout = Layout::parse(&text)?;
    let file = File::open(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    trace::count(BufReader::new(file), &layout)
}

/// Builds the workloads for any processor of the target, whatever flags the caller is used to.
fn build(root: &Path) -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    said(
        Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--release",
                "--locked",
                "--bin",
                "palisade-cost",
            ])
            .current_dir(root)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    )?;
    let target = crate::target(root);
    let program = target.join("release/palisade-cost");
    program.is_file().then_some(program).ok_or_else(|| {
        format!(
            "cargo has put palisade-cost elsewhere than into {}",
            target.display()
        )
    })
}

/// A fresh folder beside the program.
fn scratch(program: &Path) -> Result<PathBuf, String> {
    let folder = program.with_file_name(format!("palisade-cost-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// The compiler's version and the target it builds for.
fn compiler() -> Result<(String, String), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = said(Command::new(rustc).arg("-vV"))?;
    let version = text.lines().next().unwrap_or_default();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not tell its host")?;
    Ok((version.to_owned(), host.to_owned()))
}

/// What a program wrote.
fn said(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{name} is missing; `ci/setup --tests` installs what the tests need")
        }
        _ => format!("{name} cannot be started: {error}"),
    })?;
    if !status.success() {
        return Err(format!("{name}: {status}\n{}", String::from_utf8_lossy(&stderr)));
    }
    String::from_utf8(stdout).map_err(|_| format!("{name} wrote what is no text"))
}
