//! A daemon as a process, in a directory of its own.

#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_palisaded");

pub struct Daemon {
    pub child: Child,
    directory: TempDir,
}

impl Daemon {
    /// Starts one by way of another program.
    pub fn start(by: &[&str], stderr: Stdio) -> Daemon {
        Daemon::start_in(tempfile::tempdir().unwrap(), by, stderr)
    }

    /// The same in a directory that is there.
    pub fn start_in(directory: TempDir, by: &[&str], stderr: Stdio) -> Daemon {
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

    /// Its directory: `palisade.toml`, `state` and `run` are in it.
    pub fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What it answers, status line and all; `None` when nobody is there.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Option<String> {
        request(&self.socket(), method, path, body)
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("run/api.socket")
    }

    /// Asserts that it answers.
    pub fn answers(&self, after: &str) {
        let begin = Instant::now();
        while ask(&self.socket()).is_none() {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "no answer after {after}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn send(&self, signal: &str) {
        let sent = Command::new("kill")
            .args(["-s", signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success(), "{signal} cannot be sent");
    }

    pub fn end(mut self) -> ExitStatus {
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
    let answer = request(socket, "GET", "/v1/nodes/self/health", "")?;
    answer.starts_with("HTTP/1.1 200").then_some(())
}

fn request(socket: &Path, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
