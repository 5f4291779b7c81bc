//! Who is measured: each target is one process with one disk of one kind on one socket, or the bare device.

pub mod palisade;
mod qemu;

use crate::Failure;
use crate::bare::{Bare, Wait};
use crate::process::Process;
use crate::row::Medium;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a target may take until its socket is there.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Whose work a target is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Ours.
    Palisade,
    /// qemu-storage-daemon.
    Qemu,
    /// The crates of rust-vmm as they come, for comparison only.
    RustVmm,
    /// Nobody's: the device alone.
    Bare,
}

/// One way to run a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// Its name in tables.
    pub name: &'static str,
    /// What it stands for.
    pub about: &'static str,
    /// Whose it is.
    pub family: Family,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Palisade { mode: &'static str },
    Qemu { aio: &'static str },
    RustVmm,
    Bare { wait: Wait },
}

/// All ways, in the order of the tables.
pub const WAYS: &[Way] = &[
    Way {
        name: "palisade",
        about: "palisaded, reactors always polling",
        family: Family::Palisade,
        kind: Kind::Palisade { mode: "always-poll" },
    },
    Way {
        name: "palisade-adaptive",
        about: "palisaded, reactors that sleep when idle (the default)",
        family: Family::Palisade,
        kind: Kind::Palisade { mode: "adaptive" },
    },
    Way {
        name: "qemu",
        about: "qemu-storage-daemon, null-co",
        family: Family::Qemu,
        kind: Kind::Qemu { aio: "" },
    },
    Way {
        name: "qemu-threads",
        about: "qemu-storage-daemon, a file in /dev/shm with aio=threads",
        family: Family::Qemu,
        kind: Kind::Qemu { aio: "threads" },
    },
    Way {
        name: "qemu-native",
        about: "qemu-storage-daemon, cache.direct=on, aio=native",
        family: Family::Qemu,
        kind: Kind::Qemu { aio: "native" },
    },
    Way {
        name: "qemu-io_uring",
        about: "qemu-storage-daemon, aio=io_uring (a file with cache.direct=on, or one in /dev/shm)",
        family: Family::Qemu,
        kind: Kind::Qemu { aio: "io_uring" },
    },
    Way {
        name: "rust-vmm",
        about: "rust-vmm-peer, a server of the crates vhost-user-backend and virtio-queue as they come, which sleeps in epoll",
        family: Family::RustVmm,
        kind: Kind::RustVmm,
    },
    Way {
        name: "bare-spin",
        about: "no target: one io_uring through palisade_sys::LocalDevices, registered file and memory, spinning; for memory the copies alone",
        family: Family::Bare,
        kind: Kind::Bare { wait: Wait::Spin },
    },
    Way {
        name: "bare-pause",
        about: "the same, leaving the processor to others while nothing completes, as our reactor does",
        family: Family::Bare,
        kind: Kind::Bare { wait: Wait::Pause },
    },
];

impl Way {
    /// Whether it has a disk of this kind.
    pub fn serves(&self, medium: Medium) -> bool {
        match self.kind {
            Kind::Palisade { .. } => true,
            Kind::Qemu { aio } => match medium {
                Medium::Null => aio.is_empty(),
                Medium::Memory => matches!(aio, "threads" | "io_uring"),
                Medium::File => matches!(aio, "native" | "io_uring"),
            },
            Kind::RustVmm => medium != Medium::File,
            Kind::Bare { wait } => medium == Medium::File || (medium == Medium::Memory && wait == Wait::Spin),
        }
    }

    /// Whether it leaves its core when there is nothing to do.
    pub fn sleeps(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Palisade { mode: "always-poll" } | Kind::Bare { wait: Wait::Spin }
        )
    }

    /// The ways that comma-separated words name: whole names, or families (`palisade`, `qemu`, `rust-vmm`, `bare`, `all`).
    pub fn matching(words: &str) -> Result<Vec<Way>, Failure> {
        let mut chosen = Vec::new();
        for word in words.split(',').map(str::trim) {
            let named =
                |way: &Way| way.name == word || way.name.split('-').next() == Some(word) || word == "all";
            let found: Vec<Way> = WAYS.iter().filter(|&way| named(way)).copied().collect();
            if found.is_empty() {
                let names: Vec<&str> = WAYS.iter().map(|way| way.name).collect();
                return Err(Failure::asked(format!(
                    "there is no target {word:?}. The targets are: {}",
                    names.join(" ")
                )));
            }
            for way in found {
                if !chosen.contains(&way) {
                    chosen.push(way);
                }
            }
        }
        Ok(chosen)
    }
}

/// What all targets are started with.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Where our programs are.
    pub programs: PathBuf,
    /// qemu-storage-daemon.
    pub qemu: PathBuf,
    /// A folder for sockets, logs and state.
    pub folder: PathBuf,
    /// A folder on the file system to be measured, for the files of file disks.
    pub disks: PathBuf,
    /// Size of each disk in bytes.
    pub disk_bytes: u64,
    /// The targets' core.
    pub core: usize,
}

/// A target that runs.
#[derive(Debug)]
pub enum Running {
    /// A process that serves a socket.
    Server {
        /// The process.
        process: Process,
        /// Its socket.
        socket: PathBuf,
        /// A folder with a file of its own in memory or on disk, removed at the end.
        file: Option<TempDir>,
    },
    /// A disk to be used directly.
    Bare {
        /// The disk, open.
        bare: Bare,
        /// Removed at the end.
        file: Option<TempDir>,
    },
}

impl Running {
    /// Starts a way with a disk of a kind.
    pub fn start(way: &Way, medium: Medium, ground: &Ground) -> Result<Running, Failure> {
        let name = format!("{}-{medium}", way.name);
        match way.kind {
            Kind::Palisade { mode } => palisade::start(&name, mode, medium, ground),
            Kind::Qemu { aio } => qemu::start(&name, aio, medium, ground),
            Kind::RustVmm => rust_vmm(&name, medium, ground),
            Kind::Bare { wait } => {
                let file = (medium == Medium::File)
                    .then(|| file_in(&ground.disks))
                    .transpose()?;
                let path = file.as_ref().map(|(_, path)| path.as_path());
                Ok(Running::Bare {
                    bare: Bare::open(path, ground.disk_bytes, ground.core, wait)?,
                    file: file.map(|(folder, _)| folder),
                })
            }
        }
    }
}

/// The path of a file that will be made, in a folder that goes when it is dropped.
fn file_in(folder: &Path) -> Result<(TempDir, PathBuf), Failure> {
    let own = tempfile::Builder::new()
        .prefix("palisade-bench-")
        .tempdir_in(folder);
    let own = own.map_err(Failure::system(format!("make a folder in {}", folder.display())))?;
    let path = own.path().join("disk.img");
    Ok((own, path))
}

/// `rust-vmm-peer`, a program of this package: what the stock crates give.
fn rust_vmm(name: &str, medium: Medium, ground: &Ground) -> Result<Running, Failure> {
    let socket = ground.folder.join(format!("{name}.sock"));
    let mut command = Command::new(ground.programs.join("rust-vmm-peer"));
    command
        .arg("--socket")
        .arg(&socket)
        .args(["--medium", &medium.to_string()])
        .args(["--bytes", &ground.disk_bytes.to_string()]);
    serve(name, command, ground, socket, None)
}

/// Starts a server and waits for its socket.
fn serve(
    name: &str,
    command: Command,
    ground: &Ground,
    socket: PathBuf,
    file: Option<TempDir>,
) -> Result<Running, Failure> {
    let _ = std::fs::remove_file(&socket);
    let log = ground.folder.join(format!("{name}.log"));
    let mut process = Process::start(name, command, &[ground.core], &log)?;
    wait_for(name, "its socket", &mut process, &log, || socket.exists())?;
    Ok(Running::Server {
        process,
        socket,
        file,
    })
}

/// Waits until something is so, while a process lives.
fn wait_for(
    name: &str,
    what: &str,
    process: &mut Process,
    log: &Path,
    mut so: impl FnMut() -> bool,
) -> Result<(), Failure> {
    let started = Instant::now();
    while !so() {
        let gone = !process.alive();
        if gone || started.elapsed() > START_PATIENCE {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            let tail: Vec<&str> = said.lines().rev().take(5).collect();
            let problem = format!(
                "{what} did not come{}; last words: {}",
                if gone { ", it has ended" } else { "" },
                tail.into_iter().rev().collect::<Vec<_>>().join(" | ")
            );
            return Err(Failure::target(name, problem));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_ways() {
        let names =
            |words| -> Vec<&str> { Way::matching(words).unwrap().iter().map(|way| way.name).collect() };
        assert_eq!(names("palisade"), ["palisade", "palisade-adaptive"]);
        assert_eq!(
            names("palisade-adaptive,bare"),
            ["palisade-adaptive", "bare-spin", "bare-pause"]
        );
        assert_eq!(names("rust-vmm"), ["rust-vmm"]);
        assert_eq!(names("all,qemu").len(), WAYS.len());
        assert!(Way::matching("nobody").is_err());
    }

    #[test]
    fn every_medium_has_ours_and_theirs() {
        for medium in [Medium::Null, Medium::Memory, Medium::File] {
            for family in [Family::Palisade, Family::Qemu] {
                assert!(WAYS.iter().any(|way| way.family == family && way.serves(medium)));
            }
        }
    }
}
