//! A program the lab started: it is ended with the value that stands for it, whatever happened to the scenario.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome, demand};

/// Clock ticks a second in `/proc/PID/stat`; fixed at 100 on x86-64 Linux for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running program, killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    ///
    /// # Errors
    /// When the program or the log file cannot be opened.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Outcome<Self> {
        let open = || fs::OpenOptions::new().create(true).append(true).open(log);
        let (out, err) = match (open(), open()) {
            (Ok(out), Ok(err)) => (out, err),
            (Err(error), _) | (_, Err(error)) => return Err(Failure::during(log.display(), error)),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| Failure::during(format!("starting {name} ({command:?})"), error))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last lines it wrote, for a failure's text.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n    ")
    }

    /// Fails when it has already ended.
    ///
    /// # Errors
    /// Names its exit status and last words.
    pub fn must_run(&mut self) -> Outcome {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::new(format!(
                "{} ended ({status}):\n    {}",
                self.name,
                self.last_words()
            ))),
            Err(error) => Err(Failure::during(format!("asking for {}", self.name), error)),
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        // Fails only when it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for at most `patience`.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn terminate(&mut self, patience: Duration) -> Outcome<ExitStatus> {
        let sent = Command::new("kill")
            .arg("-TERM")
            .arg(self.id().to_string())
            .status();
        sent.map_err(|error| Failure::during(format!("SIGTERM to {}", self.name), error))?;
        self.wait(patience)
    }

    /// Waits for its end for at most `patience`.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait(&mut self, patience: Duration) -> Outcome<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                Ok(None) => {
                    return Err(Failure::new(format!(
                        "{} was to end within {patience:?} and did not:\n    {}",
                        self.name,
                        self.last_words()
                    )));
                }
                Err(error) => return Err(Failure::during(format!("waiting for {}", self.name), error)),
            }
        }
    }

    /// Processor time it has used, in seconds, all its threads together (`/proc/PID/stat`, utime + stime).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_seconds(&self) -> Outcome<f64> {
        let path = format!("/proc/{}/stat", self.id());
        let text = fs::read_to_string(&path).map_err(|error| Failure::during(&path, error))?;
        ticks_of(&text)
            .map(|ticks| ticks / TICKS_PER_SECOND)
            .ok_or_else(|| Failure::new(format!("{path} is not as proc(5) says: {text}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process, by its name without `SIG`.
///
/// # Errors
/// It is not there.
pub fn signal(name: &str, process: u32) -> Outcome {
    let sent = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status()
        .map_err(|error| Failure::during("kill", error))?;
    demand(
        sent.success(),
        format!("SIG{name} could not be sent to {process}"),
    )
}

/// Says how a program ended, for people.
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

/// The number by which a folder of /proc is named.
pub fn number(folder: &Path) -> Option<u32> {
    folder.file_name()?.to_str()?.parse().ok()
}

/// Waits until `holds` answers true, asking every 20 ms.
///
/// # Errors
/// Names `what` when `patience` is over.
pub fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> Outcome<bool>) -> Outcome {
    let deadline = Instant::now() + patience;
    while !holds()? {
        if Instant::now() >= deadline {
            return Err(Failure::new(format!("waited {patience:?} in vain for {what}")));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Removes a file that may not be there.
///
/// # Errors
/// Any error but "not found".
pub fn remove_if_there(path: &Path) -> Outcome {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::during(path.display(), error)),
        _ => Ok(()),
    }
}

/// utime + stime of a `/proc/PID/stat` line. The name in parentheses may hold spaces, so count from its end.
fn ticks_of(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_counted_from_the_end_of_the_name() {
        let line = "77 (a (b) c) S 1 77 77 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 5 0 12 0 0";
        assert_eq!(ticks_of(line), Some(42.0));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let process = Process::start("sleep", Command::new("sleep").arg("60"), &log).unwrap();
        let id = process.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn one_that_does_not_end_in_time_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start(
            "sleep",
            Command::new("sleep").arg("60"),
            &folder.path().join("log"),
        )
        .unwrap();
        assert!(process.wait(Duration::from_millis(50)).is_err());
        assert!(process.must_run().is_ok());
        let status = process.terminate(Duration::from_secs(5)).unwrap();
        assert_eq!(ending(status), "signal 15");
    }
}
