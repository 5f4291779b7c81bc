//! Processes of others: started on given cores, stopped and continued, and what processor time they have used.

use crate::Failure;
use palisade_block::Nanos;
use palisade_sys::affinity;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a process may take to end when it is asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A process that ends when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program whose threads may run on these cores only, with its output in a file.
    pub fn start(name: &str, mut command: Command, cores: &[usize], log: &Path) -> Result<Process, Failure> {
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

    /// Processor time used by its threads so far, to the nanosecond; that of a thread which runs at this moment may be
    /// short of its last few milliseconds, because the kernel counts when a thread leaves its core and every tick.
    pub fn usage(&self) -> Result<Usage, Failure> {
        let look = || {
            let tasks = procfs::process::Process::new(self.id() as i32)?.tasks()?;
            // A thread may end between being listed and being read.
            let used = tasks.filter_map(|task| {
                let task = task.ok()?;
                Some((task.tid, Nanos(task.schedstat().ok()?.sum_exec_runtime)))
            });
            Ok(Usage(used.collect()))
        };
        look().map_err(|error: procfs::ProcError| Failure::target(&self.name, error))
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

/// What each thread of a process has used so far. The kernel's own total of the time of a process comes in steps of
/// 10 ms, a hundred thousand requests of a fast target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage(BTreeMap<i32, Nanos>);

impl Usage {
    /// What has been used since an earlier reading. A thread that has ended between the two is not in it; servers
    /// keep theirs through a window.
    pub fn since(&self, earlier: &Usage) -> Nanos {
        let before = |thread| earlier.0.get(thread).copied().unwrap_or_default();
        Nanos(
            self.0
                .iter()
                .map(|(thread, now)| now.since(before(thread)).0)
                .sum(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_all_threads_and_of_new_ones() {
        let usage = |threads: &[(i32, u64)]| Usage(threads.iter().map(|&(id, ns)| (id, Nanos(ns))).collect());
        let (before, after) = (usage(&[(41, 1000), (42, 5000)]), usage(&[(41, 1001), (43, 300)]));
        assert_eq!(after.since(&before), Nanos(301));
    }

    #[test]
    fn a_process_runs_on_its_core_stands_still_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let core = *affinity::allowed_cpus().unwrap().last().unwrap();
        let mut command = Command::new("sh");
        let script = "grep Cpus_allowed_list /proc/self/status; while :; do :; done";
        command.args(["-c", script]);
        let log = folder.path().join("log");
        let mut process = Process::start("loop", command, &[core], &log).unwrap();
        let started = Instant::now();
        let begin = process.usage().unwrap();
        let used = |process: &Process| process.usage().unwrap().since(&begin);
        while used(&process) < Nanos::from_millis(50) && started.elapsed() < Duration::from_secs(10) {
            sleep(Duration::from_millis(10));
        }
        process.halt().unwrap();
        // It stands still once it has been on its core to see the signal.
        let look = procfs::process::Process::new(process.id() as i32).unwrap();
        while look.stat().unwrap().state != 'T' {
            sleep(Duration::from_millis(10));
        }
        let halted = used(&process);
        assert!(halted >= Nanos::from_millis(50));
        sleep(Duration::from_millis(100));
        assert_eq!(used(&process), halted);
        assert!(process.alive());
        drop(process);
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.trim_end().ends_with(&format!("\t{core}")), "{said}");
    }
}
