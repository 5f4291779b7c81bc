//! A whole node for tests: the daemon's own database, model, control machine, reactor, door, views and REST, in a folder of its
//! own. Its disks are memory or small files there. Work that takes a while is carried out as by the daemon, unless a test holds
//! it back or lets it fail; and what comes of changes may be decided by others that have to agree.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod executor;
pub mod others;

use executor::Steered;
use others::Others;
use palisade_assembly::RunningNode;
use palisade_assembly::config::{Config, Cores};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// What it is called.
pub const NAME: &str = "host-a";

/// A running node, which stops when this goes.
pub struct TestNode {
    /// Its work that takes a while.
    pub work: Arc<Steered>,
    /// Those that have to agree with it.
    pub others: Arc<Others>,
    running: RunningNode,
    folder: Arc<TempDir>,
}

impl TestNode {
    /// With nothing on it, and a port that asks for nothing.
    pub fn new() -> TestNode {
        TestNode::with("")
    }

    /// With more in its configuration.
    pub fn with(more: &str) -> TestNode {
        TestNode::within(Arc::new(folder()), more)
    }

    /// In a folder that may have been another's: its database is in `state`, its sockets are in `run`.
    pub fn within(folder: Arc<TempDir>, more: &str) -> TestNode {
        let work = Arc::new(Steered::default());
        let base = format!(
            "state_dir = '{0}/state'\nrun_dir = '{0}/run'\nnode = '{NAME}'\n[reactors]\npool_mib = 1\nslots = 64\n\
             [admin]\nlisten = '127.0.0.1:0'\nloopback_without_token = true\n[allow]\nanything = true\n\
             files = ['{0}/disks', '{0}/more']\n",
            folder.path().display()
        );
        let config = Config::parse(more).unwrap().or(Config::parse(&base).unwrap());
        let cores = palisade_sys::affinity::settable_cpus().unwrap();
        let settings = config.resolve(&Cores::plain(&cores)).unwrap();
        std::fs::create_dir_all(folder.path().join("disks")).unwrap();
        let mut others = None;
        let agreement = |store| {
            let made = Arc::new(Others::of(store));
            others = Some(Arc::clone(&made));
            made as Arc<_>
        };
        let running = RunningNode::start_with(settings, agreement, Arc::clone(&work) as Arc<_>).unwrap();
        TestNode {
            work,
            others: others.unwrap(),
            running,
            folder,
        }
    }

    /// The address of its port.
    pub fn address(&self) -> SocketAddr {
        self.running.rest_address().unwrap()
    }

    /// The Unix socket by which it is reached.
    pub fn socket(&self) -> PathBuf {
        self.path("run/api.socket")
    }

    /// A path in its folder.
    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// The same in words.
    pub fn text(&self, below: &str) -> String {
        self.path(below).display().to_string()
    }

    /// Stops it and leaves its folder to another.
    pub fn stop(self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.running.stop();
        self.work.let_go();
    }
}

/// A folder in memory, where there is one: what a node keeps is written to stable storage again and again.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = tempfile::Builder::new().prefix("node").tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).unwrap()
}
