//! Our client on other people's back-end: the stock crates of rust-vmm, as a program of its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use palisade_bench::Failure;
use palisade_bench::paced;
use palisade_bench::ring::Layout;
use palisade_bench::session::Session;
use palisade_bench::window::{check_content, fill, random_requests};
use palisade_block::Nanos;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DISK_BYTES: u64 = 8 << 20;

const LAYOUT: Layout = Layout {
    depth: 16,
    bytes: 4096,
};

/// The program, ended when this is dropped.
struct Peer {
    child: Child,
    socket: PathBuf,
    _folder: TempDir,
}

impl Peer {
    fn start(medium: &str) -> Peer {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("peer.sock");
        let child = Command::new(env!("CARGO_BIN_EXE_rust-vmm-peer"))
            .arg("--socket")
            .arg(&socket)
            .args(["--medium", medium, "--bytes", &DISK_BYTES.to_string()])
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !socket.exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "no socket");
            std::thread::sleep(Duration::from_millis(5));
        }
        Peer {
            child,
            socket,
            _folder: folder,
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One session in which blocks are written, read back, and then read at random.
fn use_disk(socket: &Path, event_idx: bool) -> Result<(), Failure> {
    let mut session = Session::open(socket, event_idx, LAYOUT)?;
    assert_eq!(session.sectors, DISK_BYTES / 512);
    fill(&mut session)?;
    check_content(&mut session)?;
    let window = random_requests(&mut session, Duration::from_millis(50), 7)?;
    assert!(window.requests > 0);
    session.close()
}

#[test]
fn what_is_written_is_read_in_every_manner_one_session_after_the_other() {
    let peer = Peer::start("memory");
    for event_idx in [false, true] {
        use_disk(&peer.socket, event_idx).unwrap();
    }
}

#[test]
fn a_device_that_keeps_nothing_is_found_out() {
    let peer = Peer::start("null");
    let mut session = Session::open(&peer.socket, true, LAYOUT).unwrap();
    let found = check_content(&mut session);
    assert!(matches!(found, Err(Failure::Ring { .. })));
}

#[test]
fn a_disk_shorter_than_a_request_is_refused() {
    let peer = Peer::start("memory");
    let long = Layout {
        depth: 1,
        bytes: 2 * DISK_BYTES as u32,
    };
    let refused = Session::open(&peer.socket, true, long).err().unwrap().to_string();
    assert!(refused.contains("shorter than a request"), "{refused}");
}

#[test]
fn requests_that_come_at_a_rate_are_all_answered_and_timed() {
    let peer = Peer::start("memory");
    let mut session = Session::open(&peer.socket, true, LAYOUT).unwrap();
    let window = paced::requests(&mut session, 2000.0, Duration::from_millis(500), 5).unwrap();
    // 1000 are expected, and five standard deviations of a Poisson process are 160.
    assert!((840..1160).contains(&window.requests), "{}", window.requests);
    assert_eq!(window.latency.total(), window.requests);
    assert!(window.elapsed >= Nanos::from_millis(500));
    // This server sleeps between requests, so that many of them come with a kick; how many, the machine decides.
    assert!(window.kicks > 0 && window.kicks <= window.requests);
    session.close().unwrap();
}

/// Several times what the server can do anywhere: requests are due all the same, and the time they wait for it is
/// theirs.
#[test]
fn who_falls_behind_is_charged_for_the_wait() {
    let peer = Peer::start("memory");
    let mut session = Session::open(&peer.socket, true, LAYOUT).unwrap();
    let length = Duration::from_millis(10);
    let window = paced::requests(&mut session, 4e6, length, 5).unwrap();
    assert!(window.elapsed > Nanos::from_millis(10));
    // The last was due at the end and answered when all before it had been.
    assert!(window.latency.us(1.0) * 1.01 + 1000.0 > window.elapsed.0 as f64 / 1e3 - 10_000.0);
    assert!(window.latency.us(0.5) > 1000.0);
    session.close().unwrap();
}
