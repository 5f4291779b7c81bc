//! Asks the tests. First each alone, with no fault in force: how long it takes, and which places it passes by. Then, for
//! each fault, only those that pass by its place, the quick ones first, until one minds.

use crate::hunt::build::Program;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a test may take beyond several times what it took without a fault.
const GRACE: Duration = Duration::from_secs(4);

/// How much of the time without a fault a test may take with one.
const TIMES: u32 = 6;

/// What a test may take without any fault.
const ALONE_LASTS: Duration = Duration::from_secs(300);

/// What one run of the simulator may take.
const RUN_LASTS: Duration = Duration::from_secs(30);

/// All these are times of the processor: others on the same machine cannot use them up. By the clock so many times as much
/// may pass, for a test that waits for what never comes.
const BY_THE_CLOCK: u32 = 5;

/// Address space of a program with a fault in it, in KiB: what grows without end is to end here.
const ADDRESS_SPACE_KIB: u64 = 12 << 20;

const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

/// One test.
#[derive(Debug)]
pub struct Test {
    /// Its program, by number.
    pub program: usize,
    /// Its name.
    pub name: String,
    /// How long it takes.
    pub lasts: Duration,
    /// The faults whose places it passes by.
    pub passes: BTreeSet<u32>,
}

/// What was said of a fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// A test minds: its name.
    Found(String),
    /// The tests do not end.
    Endless,
    /// No test passes by.
    Unseen,
    /// Tests pass by, and are content.
    Survived,
}

/// All tests, tried without a fault.
///
/// # Errors
/// One fails.
pub fn tests(programs: &[Program], scratch: &Path) -> Result<Vec<Test>, String> {
    let mut tests = Vec::new();
    for (number, program) in programs.iter().enumerate() {
        for name in names(program)? {
            let trace = scratch.join("trace");
            let _ = fs::remove_file(&trace);
            let begun = Instant::now();
            let mut command = command(program, &[&name], ALONE_LASTS);
            command.env("PALISADE_HUNT_TRACE", &trace);
            if let Outcome::Failed(by) = run(command, ALONE_LASTS)? {
                // A test that counts what is allocated may mind the trace: it has to pass without.
                let again = self::command(program, &[&name], ALONE_LASTS);
                if run(again, ALONE_LASTS)? != Outcome::Passed {
                    return Err(format!("{} {name} fails without any fault: {by}", program.name));
                }
            }
            let lasts = begun.elapsed();
            let bytes = fs::read(&trace).unwrap_or_default();
            let passes = bytes
                .chunks_exact(4)
                .filter_map(|four| Some(u32::from_le_bytes(four.try_into().ok()?)))
                .collect();
            tests.push(Test {
                program: number,
                name,
                lasts,
                passes,
            });
        }
    }
    tests.sort_by_key(|test| test.lasts);
    Ok(tests)
}

fn names(program: &Program) -> Result<Vec<String>, String> {
    let listed = Command::new(&program.path)
        .args(["--list", "--format", "terse"])
        .current_dir(&program.folder)
        .output()
        .map_err(|error| format!("{}: {error}", program.path.display()))?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

/// What the tests say of one fault.
///
/// # Errors
/// They cannot be started.
pub fn judge(programs: &[Program], tests: &[Test], fault: u32) -> Result<Verdict, String> {
    let passing: Vec<&Test> = tests.iter().filter(|test| test.passes.contains(&fault)).collect();
    if passing.is_empty() {
        return Ok(Verdict::Unseen);
    }
    // Few and quick ones first: most faults are found by any that passes by.
    let (first, rest) = passing.split_at(passing.len().min(4));
    for group in [first, rest] {
        for (number, program) in programs.iter().enumerate() {
            let asked: Vec<&&Test> = group.iter().filter(|test| test.program == number).collect();
            if asked.is_empty() {
                continue;
            }
            let names: Vec<&str> = asked.iter().map(|test| test.name.as_str()).collect();
            let lasts: Duration = asked.iter().map(|test| test.lasts).sum();
            let within = lasts * TIMES + GRACE;
            let mut command = command(program, &names, within);
            command.env("PALISADE_HUNT", fault.to_string());
            match run(command, within)? {
                Outcome::Passed => {}
                Outcome::Failed(by) => return Ok(Verdict::Found(by)),
                Outcome::Endless => return Ok(Verdict::Endless),
            }
        }
    }
    Ok(Verdict::Survived)
}

/// What the simulator says of one fault: seed after seed, until one finds something.
///
/// # Errors
/// It cannot be started.
pub fn simulate(simulator: &Path, scenarios: &[&str], seeds: u64, fault: u32) -> Result<Verdict, String> {
    for seed in 1..=seeds {
        for scenario in scenarios {
            let mut command = confined(simulator, RUN_LASTS);
            command
                .args(["--scenario", scenario, "--seed", &seed.to_string()])
                .env("PALISADE_HUNT", fault.to_string());
            match run(command, RUN_LASTS)? {
                Outcome::Passed => {}
                Outcome::Failed(_) => return Ok(Verdict::Found(format!("the simulator, {scenario} {seed}"))),
                Outcome::Endless => return Ok(Verdict::Endless),
            }
        }
    }
    Ok(Verdict::Survived)
}

#[derive(PartialEq, Eq, Debug)]
enum Outcome {
    Passed,
    Failed(String),
    Endless,
}

/// A program with some of its tests, one after another, with chance that is the same each time.
fn command(program: &Program, tests: &[&str], within: Duration) -> Command {
    let mut command = confined(&program.path, within);
    command
        .args(["--exact", "--test-threads=1"])
        .args(tests)
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .env("PROPTEST_RNG_SEED", "1")
        .env("PROPTEST_FAILURE_PERSISTENCE", "off");
    command
}

/// A program that may not take all memory, nor more of the processor's time than that, nor leave a core behind.
fn confined(path: &Path, within: Duration) -> Command {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -v \"$0\"; ulimit -t \"$1\"; ulimit -c 0; shift; exec \"$@\"",
        ])
        .arg(ADDRESS_SPACE_KIB.to_string())
        .arg((within.as_secs() + 1).to_string())
        .arg(path)
        .env("RUST_BACKTRACE", "0")
        .env_remove("PALISADE_HUNT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Runs until the first test fails, or the time is over, which the program's own limit holds as well.
fn run(mut command: Command, within: Duration) -> Result<Outcome, String> {
    let mut child = command.spawn().map_err(|error| format!("sh: {error}"))?;
    let Some(stdout) = child.stdout.take() else {
        return Err("no output".to_owned());
    };
    let (told, heard) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines
            .by_ref()
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            if told.send(text).is_err() {
                break;
            }
            line.clear();
        }
    });
    let deadline = Instant::now() + within * BY_THE_CLOCK;
    let mut last = String::new();
    let outcome = loop {
        match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.ends_with("FAILED") => {
                let name = line.trim_start_matches("test ").split(' ').next();
                break Outcome::Failed(name.unwrap_or_default().to_owned());
            }
            Ok(line) => last = line,
            Err(mpsc::RecvTimeoutError::Timeout) => break Outcome::Endless,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = child.wait().map_err(|error| error.to_string())?;
                break match status.signal() {
                    // This is how the kernel ends what has used up its time.
                    Some(SIGKILL | SIGXCPU) => Outcome::Endless,
                    _ if status.success() => Outcome::Passed,
                    _ => Outcome::Failed(format!("{status} at: {last}")),
                };
            }
        }
    };
    end(&mut child);
    let _ = reader.join();
    Ok(outcome)
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
