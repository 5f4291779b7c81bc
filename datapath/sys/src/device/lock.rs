//! The lock of an open file description (flock(2)): held until the last reference to the open file is gone, those of
//! requests in flight included.

use super::OpenError;
use super::mount::Mount;
use crate::disk_process::NAME_START;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const RETRY: Duration = Duration::from_millis(20);

/// Takes the lock, exclusive for a writer and shared for readers, waiting for it until `wait` has passed.
pub(super) fn lock(file: &File, path: &Path, read_only: bool, wait: Duration) -> Result<(), OpenError> {
    let holder = || holder(file);
    patiently(path, wait, holder, || {
        if read_only {
            file.try_lock_shared()
        } else {
            file.try_lock()
        }
    })
}

/// A stretch of a file or device; no bytes: up to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// Takes a part of a file or device: the lock shared, so that nobody can have the whole, and the stretch by a lock of
/// fcntl(2), which only those heed who have a part as well. Alone, or with others that want it so.
pub(super) fn lock_part(
    file: &File,
    path: &Path,
    stretch: Stretch,
    alone: bool,
    wait: Duration,
) -> Result<(), OpenError> {
    let start = Instant::now();
    lock(file, path, true, wait)?;
    let kind = if alone { libc::F_WRLCK } else { libc::F_RDLCK };
    let place = |number| libc::off_t::try_from(number).unwrap_or(libc::off_t::MAX);
    let lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: place(stretch.offset),
        l_len: place(stretch.bytes),
        l_pid: 0,
    };
    // The kernel does not say who has a stretch, and the lock of the whole we share with him.
    patiently(
        path,
        wait.saturating_sub(start.elapsed()),
        || None,
        || {
            // SAFETY: F_OFD_SETLK reads one `struct flock`.
            match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
                0 => Ok(()),
                _ => match io::Error::last_os_error() {
                    error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                        Err(TryLockError::WouldBlock)
                    }
                    error => Err(TryLockError::Error(error)),
                },
            }
        },
    )
}

/// Tries until it works, or `wait` has passed.
fn patiently(
    path: &Path,
    wait: Duration,
    holder: impl Fn() -> Option<Holder>,
    lock: impl Fn() -> Result<(), TryLockError>,
) -> Result<(), OpenError> {
    let start = Instant::now();
    loop {
        match lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => {
                return Err(OpenError::Open {
                    path: path.into(),
                    source,
                });
            }
            Err(TryLockError::WouldBlock) => {}
        }
        let waited = start.elapsed();
        if waited >= wait {
            return Err(OpenError::Locked {
                path: path.into(),
                waited,
                holder: holder(),
            });
        }
        thread::sleep(RETRY.min(wait - waited));
    }
}

/// Who holds a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// A process that runs; of a daemon of ours its own number, not that of the disk's process.
    Running(u32),
    /// The process of a disk whose daemon has ended: its last requests have not come back from the device.
    Ended(u32),
    /// A process has taken it that has ended, and who has the open file now is not to be seen.
    Unseen(u32),
}

impl Holder {
    /// The process that has it, with its name, as "palisaded, process 4711".
    pub fn who(&self) -> String {
        match self {
            Holder::Running(process) | Holder::Ended(process) => match name_and_parent(*process) {
                Some((name, _)) => format!("{name}, process {process}"),
                None => format!("process {process}"),
            },
            Holder::Unseen(process) => format!("what process {process} has left open"),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Running(process) => write!(f, "process {process} to close it"),
            Holder::Unseen(process) => write!(
                f,
                "whoever has it from process {process}, which has ended, to close it (lsof shows who has it open)"
            ),
            Holder::Ended(process) => write!(
                f,
                "the last requests of a daemon that has ended to come back from the device (process {process} waits for them)"
            ),
        }
    }
}

/// Who took the lock of an open file, from /proc/locks. Lines read `1: FLOCK ADVISORY WRITE pid major:minor:inode ...`.
pub(super) fn holder(file: &File) -> Option<Holder> {
    let inode = file.metadata().ok()?;
    let (major, minor) = Mount::of(file).map_or_else(
        || (libc::major(inode.dev()), libc::minor(inode.dev())),
        |mount| mount.device,
    );
    let place = format!("{major:02x}:{minor:02x}:{}", inode.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let process = locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, _, process, at, ..] if *at == place => process.parse().ok(),
            _ => None,
        }
    })?;
    Some(match has_it(process, &place) {
        true => behind(process),
        // An open file is inherited and passed on, and its lock with it.
        false => match running().find(|other| has_it(*other, &place)) {
            Some(other) => behind(other),
            None => behind(process),
        },
    })
}

/// Who has the lock of what lies at a path, which is not opened for it.
pub fn holder_at(path: &Path) -> Option<Holder> {
    let place = File::options().read(true).custom_flags(libc::O_PATH).open(path);
    place.ok().and_then(|place| holder(&place))
}

/// All processes that are to be seen.
fn running() -> impl Iterator<Item = u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a process has an open file that has the lock (proc_pid_fdinfo(5)). Of another user's nothing is to be seen.
fn has_it(process: u32, place: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{process}/fdinfo"));
    let is_lock = |line: &str| {
        let mut words = line.split_whitespace();
        line.starts_with("lock:") && words.any(|word| word == "FLOCK") && words.any(|word| word == place)
    };
    files.into_iter().flatten().flatten().any(|file| {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        text.lines().any(is_lock)
    })
}

/// The daemon behind a disk's process, or the process itself where it is none.
fn behind(process: u32) -> Holder {
    let Some((name, parent)) = name_and_parent(process) else {
        return Holder::Unseen(process);
    };
    if !name.starts_with(NAME_START) {
        return Holder::Running(process);
    }
    let program = |process| fs::read_link(format!("/proc/{process}/exe")).ok();
    match program(parent) {
        Some(daemon) if program(process).is_some_and(|own| own == daemon) => Holder::Running(parent),
        _ => Holder::Ended(process),
    }
}

/// From `pid (name) state parent ...` (proc_pid_stat(5)); a name may have brackets in it.
fn name_and_parent(process: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (start, rest) = stat.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    let parent = rest.split_whitespace().nth(1)?.parse().ok()?;
    Some((name.into(), parent))
}
