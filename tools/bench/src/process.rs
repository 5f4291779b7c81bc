//! Processes of others: started on given cores, stopped and continued, and what processor time they have used.

use crate::Failure;
use palisade_sys::affinity;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a process may take to end when it is asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Kernel ticks a second in /proc (`USER_HZ`), fixed on all Linux machines.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process that ends when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program whose threads may run on `core` only, with its output in a file.
    pub fn start(name: &str, command: Command, core: usize, log: &Path) -> Result<Process, Failure> {
        Process::start_on(name, command, &[core], log)
    }

    /// The same on several cores.
    pub fn start_on(
        name: &str,
        mut command: Command,
        cores: &[usize],
        log: &Path,
    ) -> Result<Process, Failure> {
        let file = std::fs::File::create(log).map_err(Failure::system(format!("write {}", log.display())))?;
        let copy = file.try_clone().map_err(Failure::system("copy a descriptor"))?;
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        // A child inherits the cores of the thread that starts it.
        let mine = affinity::allowed_cpus().map_err(Failure::system("ask for my cores"))?;
        affinity::set_cpus(cores).map_err(Failure::system(format!("use cores {cores:?}")))?;
        let child = command.spawn();
        affinity::set_cpus(&mine).map_err(Failure::system("have my cores back"))?;
        let child = child.map_err(Failure::system(format!("start {name}")))?;
        Ok(Process {
            name: name.to_owned(),
            child,
        })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Takes its core away until [`Process::go_on`].
    pub fn halt(&self) -> Result<(), Failure> {
        self.signal(Signal::STOP)
    }

    /// Lets it run.
    pub fn go_on(&self) -> Result<(), Failure> {
        self.signal(Signal::CONT)
    }

    /// Processor seconds used by all its threads so far, in steps of 10 ms.
    pub fn cpu_seconds(&self) -> Result<f64, Failure> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(&path).map_err(Failure::system(format!("read {path}")))?;
        cpu_seconds_of(&text).ok_or_else(|| Failure::Target {
            target: self.name.clone(),
            problem: format!("{path} cannot be understood"),
        })
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let Some(pid) = Pid::from_raw(self.child.id() as i32) else {
            return Ok(());
        };
        kill_process(pid, signal)
            .map_err(|errno| Failure::system(format!("signal {}", self.name))(errno.into()))
    }
}

impl Drop for Process {
    /// Asks it to end, and makes it end when it does not.
    fn drop(&mut self) {
        let _ = self.go_on();
        let _ = self.signal(Signal::TERM);
        let asked = Instant::now();
        while self.alive() && asked.elapsed() < STOP_PATIENCE {
            sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a line of /proc/PID/stat. The name in it may contain anything, also brackets.
pub fn cpu_seconds_of(stat: &str) -> Option<f64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let ticks: Option<u64> = fields
        .next()?
        .parse::<u64>()
        .ok()?
        .checked_add(fields.next()?.parse().ok()?);
    Some(ticks? as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a b) c) 1) S 1 2 3 4 5 6 7 8 9 10 150 250 0 0 20 0 1 0 99";
        assert_eq!(cpu_seconds_of(stat), Some(4.0));
        assert_eq!(cpu_seconds_of("nonsense"), None);
    }

    #[test]
    fn a_process_runs_on_its_core_stands_still_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let core = *affinity::allowed_cpus().unwrap().last().unwrap();
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "grep Cpus_allowed_list /proc/self/status; while :; do :; done",
        ]);
        let log = folder.path().join("log");
        let mut process = Process::start("loop", command, core, &log).unwrap();
        let started = Instant::now();
        while process.cpu_seconds().unwrap() < 0.05 && started.elapsed() < Duration::from_secs(10) {
            sleep(Duration::from_millis(10));
        }
        process.halt().unwrap();
        sleep(Duration::from_millis(50));
        let used = process.cpu_seconds().unwrap();
        assert!(used >= 0.05);
        sleep(Duration::from_millis(100));
        assert_eq!(process.cpu_seconds().unwrap(), used);
        assert!(process.alive() && process.resident_kib().unwrap() > 0);
        drop(process);
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.trim_end().ends_with(&format!("\t{core}")), "{said}");
    }
}
