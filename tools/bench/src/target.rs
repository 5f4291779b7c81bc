//! Who is measured: each target is one process with one disk of one kind on one socket, or the bare device.

mod palisade;
mod qemu;
mod rust_vmm;

use crate::Failure;
use crate::bare::{Bare, Wait};
use crate::process::Process;
use crate::row::Medium;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
        match self.kind {
            Kind::Palisade { mode } => mode == "adaptive",
            Kind::Qemu { .. } | Kind::RustVmm => true,
            Kind::Bare { wait } => wait == Wait::Pause,
        }
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
                return Err(Failure::Asked {
                    problem: format!(
                        "there is no target {word:?}. The targets are: {}",
                        names.join(" ")
                    ),
                });
            }
            chosen.extend(
                found
                    .into_iter()
                    .filter(|way| !chosen.contains(way))
                    .collect::<Vec<_>>(),
            );
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
        /// A file of its own in memory or on disk, removed at the end.
        file: Option<Scratch>,
    },
    /// A disk to be used directly.
    Bare {
        /// The disk, open.
        bare: Bare,
        /// Removed at the end.
        file: Option<Scratch>,
    },
}

/// A file that is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Names a file that will be made; what is there of an earlier run is removed.
    pub fn new(path: PathBuf) -> Scratch {
        let _ = std::fs::remove_file(&path);
        Scratch(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Running {
    /// Starts a way with a disk of a kind.
    pub fn start(way: &Way, medium: Medium, ground: &Ground) -> Result<Running, Failure> {
        let name = format!("{}-{medium}", way.name);
        match way.kind {
            Kind::Palisade { mode } => palisade::start(&name, mode, medium, ground),
            Kind::Qemu { aio } => qemu::start(&name, aio, medium, ground),
            Kind::RustVmm => rust_vmm::start(&name, medium, ground),
            Kind::Bare { .. } if medium == Medium::Memory => Ok(Running::Bare {
                bare: Bare::memory(ground.disk_bytes, ground.core)?,
                file: None,
            }),
            Kind::Bare { wait } => {
                let file = Scratch::new(ground.disks.join(format!("{name}.img")));
                let bare = Bare::file(file.path(), ground.disk_bytes, ground.core, wait)?;
                Ok(Running::Bare {
                    bare,
                    file: Some(file),
                })
            }
        }
    }
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
            return Err(Failure::Target {
                target: name.to_owned(),
                problem: format!(
                    "{what} did not come{}; last words: {}",
                    if gone { ", it has ended" } else { "" },
                    tail.into_iter().rev().collect::<Vec<_>>().join(" | ")
                ),
            });
        }
        std::thread::sleep(Duration::from_millis(20));
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

    #[test]
    fn scratch_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "old").unwrap();
        let scratch = Scratch::new(path.clone());
        assert!(!path.exists());
        std::fs::write(scratch.path(), "new").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
