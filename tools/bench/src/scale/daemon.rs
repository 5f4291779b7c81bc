//! A daemon of our own with a disk, and guests on it.

use super::rest::Rest;
use crate::Failure;
use crate::process::Process;
use crate::ring::Layout;
use crate::session::{Manner, Session};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the daemon may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Size of a volume. Small, so that many fit and a memory disk stays small.
pub const VOLUME_BYTES: u64 = 16 << 20;

/// What a disk needs beside its volumes.
const SUPERBLOCK_ROOM_BYTES: u64 = 64 << 20;

/// How guests speak: by event index, as Linux guests do.
pub const MANNER: Manner = Manner {
    event_idx: true,
    memory_slots: true,
};

/// How a daemon is run.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Folder of palisaded.
    pub programs: PathBuf,
    /// Folder for its state, sockets and log; emptied first.
    pub folder: PathBuf,
    /// One reactor on each of these cores; the whole process stays on them.
    pub cores: Vec<usize>,
    /// `adaptive` or `always-poll`.
    pub mode: &'static str,
    /// Whether its disk is memory; otherwise it is a null device.
    pub memory: bool,
    /// Volumes that must fit.
    pub volumes: u64,
}

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub process: Process,
    /// Its interface.
    pub rest: Rest,
}

impl Daemon {
    /// Starts it and gives it a disk.
    pub fn start(setting: &Setting) -> Result<Daemon, Failure> {
        let folder = &setting.folder;
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).map_err(Failure::system(format!("make {}", folder.display())))?;
        let port = free_port()?;
        let cores: Vec<String> = setting.cores.iter().map(usize::to_string).collect();
        let mut command = Command::new(setting.programs.join("palisaded"));
        command
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--run-dir")
            .arg(folder.join("run"))
            .args(["--reactors-cores", &cores.join(",")])
            .args(["--reactors-mode", setting.mode])
            .args(["--admin-listen", &format!("127.0.0.1:{port}")]);
        let log = folder.join("log");
        let mut process = Process::start_on("palisaded", command, &setting.cores, &log)?;
        let rest = Rest::at(port, folder.join("state/admin.token"));
        let begin = Instant::now();
        while rest.get(palisade_api::routes::NODE).is_err() {
            if !process.alive() || begin.elapsed() > START_PATIENCE {
                return Err(Failure::Target {
                    target: "palisaded".into(),
                    problem: format!("does not answer; its words: {}", last_words(&log)),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let bytes = setting.volumes * VOLUME_BYTES + SUPERBLOCK_ROOM_BYTES;
        rest.add_disk(setting.memory, bytes)?;
        Ok(Daemon { process, rest })
    }

    /// Makes volumes and attachments of these numbers.
    pub fn attach(&self, numbers: std::ops::Range<usize>) -> Result<(), Failure> {
        for number in numbers {
            self.rest.create_volume(&format!("v{number}"), VOLUME_BYTES)?;
            self.rest
                .create_attachment(&format!("a{number}"), &format!("v{number}"), None)?;
        }
        Ok(())
    }

    /// Connects a guest to the attachment of a number.
    pub fn connect(&self, number: usize, layout: Layout) -> Result<Session, Failure> {
        let socket = self.rest.socket_of(&format!("a{number}"))?;
        Session::open(&socket, MANNER, layout)
    }
}

fn last_words(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let tail: Vec<&str> = said.lines().rev().take(5).collect();
    tail.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

fn free_port() -> Result<u16, Failure> {
    let free = || TcpListener::bind(("127.0.0.1", 0))?.local_addr();
    let address = free().map_err(Failure::system("find a free port"))?;
    Ok(address.port())
}
