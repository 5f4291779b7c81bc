//! Processes of others: started on given cores, stopped and continued, and what processor time they have used.

use crate::Failure;
use palisade_block::Nanos;
use palisade_sys::affinity;
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::io;
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

    /// Processor time used by its threads so far, to the nanosecond; that of a thread which runs at this moment may be
    /// short of its last few milliseconds, because the kernel counts when a thread leaves its core and every tick.
    pub fn usage(&self) -> Result<Usage, Failure> {
        let folder = format!("/proc/{}/task", self.child.id());
        Usage::read(Path::new(&folder)).map_err(Failure::system(format!("read {folder}")))
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

/// What the threads of a process have used so far. The kernel's own total of the time of a process comes in steps of
/// 10 ms, a hundred thousand requests of a fast target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage {
    threads: BTreeMap<u32, Used>,
}

/// What threads have used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Used {
    /// Time on a core, user and system.
    pub processor: Nanos,
    /// How often they came onto a core: a thread that sleeps is woken once for each.
    pub runs: u64,
}

impl Usage {
    /// From the `schedstat` of each thread in /proc/PID/task: nanoseconds on a core, nanoseconds waiting for one, runs.
    fn read(folder: &Path) -> io::Result<Usage> {
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let thread = entry.file_name().to_str().and_then(|name| name.parse().ok());
            // A thread may end between being listed and being read.
            let text = std::fs::read_to_string(entry.path().join("schedstat"));
            if let (Some(thread), Ok(text)) = (thread, text) {
                threads.insert(thread, Used::parse(&text).ok_or(io::ErrorKind::InvalidData)?);
            }
        }
        if threads.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Usage { threads })
    }

    /// What has been used since an earlier reading. A thread that has ended between the two is not in it; servers
    /// keep theirs through a window.
    pub fn since(&self, earlier: &Usage) -> Used {
        let mut used = Used::default();
        for (thread, now) in &self.threads {
            let before = earlier.threads.get(thread).copied().unwrap_or_default();
            used.processor.0 += now.processor.since(before.processor).0;
            used.runs += now.runs.saturating_sub(before.runs);
        }
        used
    }
}

impl Used {
    fn parse(schedstat: &str) -> Option<Used> {
        let mut words = schedstat.split_whitespace().map(|word| word.parse().ok());
        Some(Used {
            processor: Nanos(words.next()??),
            runs: words.nth(1)??,
        })
    }
}

/// Processor time of this process's other threads so far, also of those that have ended.
pub fn others_cpu_time() -> Nanos {
    let nanos = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    };
    // The thread's own first: what it uses between the two readings is then counted as little as can be.
    let own = nanos(ClockId::ThreadCPUTime);
    Nanos(nanos(ClockId::ProcessCPUTime).saturating_sub(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_all_threads_and_of_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let write = |thread: &str, text: &str| {
            let path = folder.path().join(thread);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("schedstat"), text).unwrap();
        };
        assert!(Usage::read(folder.path()).is_err());
        write("41", "1000 7 3\n");
        write("42", "5000 0 1\n");
        let before = Usage::read(folder.path()).unwrap();
        write("41", "1001 7 5\n");
        write("43", "300 0 1\n");
        std::fs::remove_dir_all(folder.path().join("42")).unwrap();
        let after = Usage::read(folder.path()).unwrap();
        let used = Used {
            processor: Nanos(301),
            runs: 3,
        };
        assert_eq!(after.since(&before), used);
        write("44", "nonsense");
        assert!(Usage::read(folder.path()).is_err());
    }

    /// What this thread does while another works is not counted, and a thread that has ended is.
    #[test]
    fn the_time_of_other_threads_is_told_from_our_own() {
        let spin = |length: Nanos| {
            let begin = clock_gettime(ClockId::ThreadCPUTime);
            let passed = |time: rustix::time::Timespec| {
                (time.tv_sec - begin.tv_sec) as u64 * 1_000_000_000 + time.tv_nsec as u64
                    - begin.tv_nsec as u64
            };
            while passed(clock_gettime(ClockId::ThreadCPUTime)) < length.0 {}
        };
        let before = others_cpu_time();
        std::thread::scope(|scope| {
            scope.spawn(|| spin(Nanos::from_millis(20)));
        });
        assert!(others_cpu_time().since(before) >= Nanos::from_millis(20));
        let (process, others) = (clock_gettime(ClockId::ProcessCPUTime), others_cpu_time());
        spin(Nanos::from_millis(20));
        let all = clock_gettime(ClockId::ProcessCPUTime);
        let all = (all.tv_sec - process.tv_sec) as i64 * 1_000_000_000 + all.tv_nsec - process.tv_nsec;
        // Tests of other threads may run meanwhile; whatever they use, ours is left out.
        let counted = others_cpu_time().since(others).0 as i64;
        assert!(all - counted >= 19_000_000, "{all} {counted}");
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
        let begin = process.usage().unwrap();
        let used = |process: &Process| process.usage().unwrap().since(&begin).processor;
        while used(&process) < Nanos::from_millis(50) && started.elapsed() < Duration::from_secs(10) {
            sleep(Duration::from_millis(10));
        }
        process.halt().unwrap();
        sleep(Duration::from_millis(50));
        let halted = used(&process);
        assert!(halted >= Nanos::from_millis(50));
        sleep(Duration::from_millis(100));
        assert_eq!(used(&process), halted);
        assert!(process.alive() && process.resident_kib().unwrap() > 0);
        drop(process);
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.trim_end().ends_with(&format!("\t{core}")), "{said}");
    }
}
