//! What a shell, a terminal, a service manager or another program may do to the daemon: signals, closed and full streams,
//! limits. None of it ends the process, and it goes on to answer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_palisaded");

#[test]
fn no_signal_ends_it_but_those_that_ask_for_it() {
    let daemon = Daemon::start(&["env"], Stdio::null());
    for signal in [
        "HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "STKFLT", "TSTP", "TTIN", "TTOU",
        "PIPE", "XFSZ", "XCPU", "CHLD", "WINCH", "URG", "CONT", "34", "39", "64",
    ] {
        daemon.send(signal);
        daemon.answers(signal);
    }
    for signal in ["QUIT", "INT"] {
        let again = Daemon::start(&["env"], Stdio::null());
        again.send(signal);
        assert!(again.end().success(), "{signal} stops it in good order");
    }
    daemon.send("TERM");
    assert!(daemon.end().success());
}

#[test]
fn signals_one_after_the_other_do_not_keep_it_from_its_work() {
    let daemon = Daemon::start(&["env"], Stdio::null());
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        daemon.send("USR1");
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.answers("a flood of signals");
    daemon.send("TERM");
    assert!(daemon.end().success());
}

#[test]
fn closed_full_and_unread_streams_do_not_end_it() {
    for streams in ["<&- >&- 2>&-", ">/dev/full 2>/dev/full", "2>&-", "0<&- 1>&-"] {
        let script = format!("exec \"$0\" \"$@\" {streams}");
        let daemon = Daemon::start(&["sh", "-c", &script], Stdio::null());
        daemon.answers(streams);
        daemon.send("TERM");
        assert!(daemon.end().success(), "{streams}");
    }
    // A reader that has gone.
    let script = "exec \"$0\" \"$@\" 2>&1 >/dev/null | true";
    let daemon = Daemon::start(&["sh", "-c", script], Stdio::null());
    daemon.answers("a reader that has gone");
    drop(daemon);
    // A reader that does not read: more is logged than the pipe holds.
    let daemon = Daemon::start(&["env", "RUST_LOG=trace"], Stdio::piped());
    for _ in 0..200 {
        daemon.answers("a reader that does not read");
    }
    daemon.send("TERM");
    assert!(daemon.end().success());
}

#[test]
fn a_configuration_without_an_end_is_refused() {
    let script = "ulimit -v 4194304; exec \"$0\" --check-config --config /dev/zero";
    let ended = Command::new("sh").args(["-c", script, PROGRAM]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("/dev/zero: it is longer than 1 MiB"), "{said}");
    assert_eq!(ended.status.code(), Some(1), "{said}");
}

#[test]
fn what_cannot_be_printed_is_a_failure_and_no_crash() {
    for argument in ["--check-config", "--print-config"] {
        let script = format!("exec \"$0\" {argument} >/dev/full 2>&-");
        let status = Command::new("sh")
            .args(["-c", &script, PROGRAM])
            .status()
            .unwrap();
        assert_eq!((status.code(), status.signal()), (Some(1), None), "{argument}");
    }
}

#[test]
fn limits_of_a_shell_do_not_end_it() {
    for limit in [
        "--fsize=104857600:104857600",
        "--fsize=104857600:unlimited",
        "--stack=unlimited",
        "--stack=262144",
        "--core=0",
        "--cpu=100000:100000",
        "--nofile=256:256",
        "--sigpending=0",
        "--msgqueue=0",
        "--locks=0",
    ] {
        let daemon = Daemon::start(&["prlimit", limit, "--"], Stdio::null());
        daemon.answers(limit);
        daemon.send("TERM");
        assert!(daemon.end().success(), "{limit}");
    }
}

struct Daemon {
    child: Child,
    directory: TempDir,
}

impl Daemon {
    /// Starts one by way of another program.
    fn start(by: &[&str], stderr: Stdio) -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("palisade.toml");
        let at = |name: &str| directory.path().join(name).display().to_string();
        let text = format!(
            "state_dir = \"{}\"\nrun_dir = \"{}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n",
            at("state"),
            at("run")
        );
        std::fs::write(&config, text).unwrap();
        let (first, others) = by.split_first().unwrap();
        let child = Command::new(first)
            .args(others)
            .arg(PROGRAM)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let daemon = Daemon { child, directory };
        let begin = Instant::now();
        while ask(&daemon.socket()).is_none() {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "{by:?}: it does not come up"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("run/api.socket")
    }

    /// Asserts that it answers.
    fn answers(&self, after: &str) {
        let begin = Instant::now();
        while ask(&self.socket()).is_none() {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "no answer after {after}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("kill")
            .args(["-s", signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success(), "{signal} cannot be sent");
    }

    fn end(mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Whatever was started in its place holds its files open below this very directory.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let directory = self.directory.path().display().to_string();
        let _ = Command::new("pkill").args(["-9", "-f", &directory]).status();
    }
}

/// One request over the daemon's own socket; `None` without a good answer.
fn ask(socket: &Path) -> Option<()> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let request = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(())
}
