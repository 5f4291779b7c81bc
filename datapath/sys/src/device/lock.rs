//! The lock of an open file description (flock(2)): held until the last reference to the open file is gone, those of
//! requests in flight included. QEMU's ([`qemu`]) and those of a part (fcntl(2)) are of the same description, and go with it.

use super::mount::Mount;
use super::program::Stat;
use super::qemu::{self, Claim};
use super::{OpenError, Program};
use crate::disk_process::NAME_START;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const RETRY: Duration = Duration::from_millis(20);

/// Takes all of it, alone for a writer and with others that read, waiting for it until `wait` has passed. What is returned
/// says why QEMU is not kept from it, if that cannot be had.
pub(super) fn lock(
    file: &File,
    path: &Path,
    read_only: bool,
    wait: Duration,
) -> Result<Option<String>, OpenError> {
    let until = Instant::now() + wait;
    lock_description(file, path, read_only, until)?;
    let claim = match read_only {
        true => Claim::Read,
        false => Claim::Whole,
    };
    qemu::keep_off(file, path, claim, left(until))
}

fn lock_description(file: &File, path: &Path, shared: bool, until: Instant) -> Result<(), OpenError> {
    let holder = || holder(file);
    patiently(path, left(until), holder, || {
        if shared {
            file.try_lock_shared()
        } else {
            file.try_lock()
        }
    })
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// A stretch of a file or device; no bytes: up to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Stretch {
    /// What is locked of it, beginnings and lengths: all but the bytes by which QEMU is kept off, which those that have other
    /// parts take as well. No disk is so short that it lies within these.
    fn pieces(self) -> impl Iterator<Item = (u64, u64)> {
        let end = match self.bytes {
            0 => u64::MAX,
            bytes => self.offset.saturating_add(bytes),
        };
        let before = (self.offset, end.min(qemu::BYTES.start));
        let behind = (self.offset.max(qemu::BYTES.end), end);
        let pieces = [before, behind].into_iter().filter(|(from, to)| from < to);
        pieces.map(|(from, to)| match to {
            u64::MAX => (from, 0),
            _ => (from, to - from),
        })
    }
}

/// Takes a part of a file or device: the lock shared, so that nobody can have the whole, and the stretch by a lock of
/// fcntl(2), which only those heed who have a part as well. Alone, or with others that want it so. Returns the same as
/// [`lock`].
pub(super) fn lock_part(
    file: &File,
    path: &Path,
    stretch: Stretch,
    alone: bool,
    read_only: bool,
    wait: Duration,
) -> Result<Option<String>, OpenError> {
    let until = Instant::now() + wait;
    lock_description(file, path, true, until)?;
    let kind = if alone { libc::F_WRLCK } else { libc::F_RDLCK };
    for (offset, bytes) in stretch.pieces() {
        // The kernel does not say who has a stretch, and the lock of the whole we share with him.
        patiently(
            path,
            left(until),
            || None,
            || {
                set_range(file, kind, offset, bytes).map_err(|error| match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::EACCES) => TryLockError::WouldBlock,
                    _ => TryLockError::Error(error),
                })
            },
        )?;
    }
    let claim = match read_only {
        true => Claim::Read,
        false => Claim::Part,
    };
    qemu::keep_off(file, path, claim, left(until))
}

/// Sets or removes the lock of a stretch, of the open file description; no bytes: up to the end.
pub(super) fn set_range(file: &File, kind: i32, offset: u64, bytes: u64) -> io::Result<()> {
    let lock = range(kind, offset, bytes);
    // SAFETY: F_OFD_SETLK reads one `struct flock`.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A lock of fcntl(2) that somebody else has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OtherLock {
    stretch: Stretch,
    /// Whose it is, unless it is one of an open file description.
    process: Option<u32>,
}

/// The first lock for which one of this kind would be refused. No bytes: up to the end.
pub(super) fn other_lock(file: &File, kind: i32, offset: u64, bytes: u64) -> io::Result<Option<OtherLock>> {
    let mut lock = range(kind, offset, bytes);
    // SAFETY: F_OFD_GETLK reads and writes one `struct flock`, and takes no lock.
    let failed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    match failed {
        0 if lock.l_type == libc::F_UNLCK as libc::c_short => Ok(None),
        0 => Ok(Some(OtherLock {
            stretch: Stretch {
                offset: u64::try_from(lock.l_start).unwrap_or(0),
                bytes: u64::try_from(lock.l_len).unwrap_or(0),
            },
            process: u32::try_from(lock.l_pid).ok().filter(|&process| process > 0),
        })),
        _ => Err(io::Error::last_os_error()),
    }
}

fn range(kind: i32, offset: u64, bytes: u64) -> libc::flock {
    let place = |number| libc::off_t::try_from(number).unwrap_or(libc::off_t::MAX);
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: place(offset),
        l_len: place(bytes),
        l_pid: 0,
    }
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
    /// A process that somebody has stopped: it closes nothing, and waits for no device, until it goes on.
    Halted(u32),
    /// A process has taken it that has ended, and who has the open file now is not to be seen.
    Unseen(u32),
}

impl Holder {
    /// The process that has it, with its name, as "palisaded, process 4711".
    pub fn who(&self) -> String {
        match self {
            Holder::Running(process) | Holder::Ended(process) | Holder::Halted(process) => {
                match Stat::of(*process) {
                    Some(stat) => format!("{}, process {process}", stat.name),
                    None => format!("process {process}"),
                }
            }
            Holder::Unseen(process) => format!("what process {process} has left open"),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Running(process) => write!(f, "process {process} to close it"),
            Holder::Halted(process) => write!(
                f,
                "process {process}, which a signal or a debugger has stopped, to go on: kill -CONT {process}"
            ),
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
    let place = place_in_proc(file)?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let process = locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, _, process, at, ..] if *at == place => process.parse().ok(),
            _ => None,
        }
    })?;
    let has_it = |process| {
        has_lock(process, |words| {
            words.contains(&"FLOCK") && words.contains(&&*place)
        })
    };
    Some(match has_it(process) {
        true => behind(process),
        // An open file is inherited and passed on, and its lock with it.
        false => match running().find(|other| has_it(*other)) {
            Some(other) => behind(other),
            None => behind(process),
        },
    })
}

/// Who has a lock of fcntl(2): the one that the kernel has named, or whoever has the open file that it belongs to, which the
/// kernel tells of processes that we may look into.
pub(super) fn holder_of(lock: OtherLock, file: &File) -> Option<Program> {
    let Stretch { offset, bytes } = lock.stretch;
    let last = match bytes {
        0 => "EOF".to_owned(),
        _ => (offset + (bytes - 1)).to_string(),
    };
    // The last words of a line.
    let words = [place_in_proc(file)?, offset.to_string(), last];
    let is_it =
        |line: &[&str]| line.contains(&"OFDLCK") && line.ends_with(&words.each_ref().map(String::as_str));
    let process = lock
        .process
        .or_else(|| running().find(|process| has_lock(*process, is_it)))?;
    Some(Program {
        process,
        name: Stat::of(process)?.name,
    })
}

/// How /proc calls what is open: `major:minor:inode`.
fn place_in_proc(file: &File) -> Option<String> {
    let inode = file.metadata().ok()?;
    let (major, minor) = Mount::of(file).map_or_else(
        || (libc::major(inode.dev()), libc::minor(inode.dev())),
        |mount| mount.device,
    );
    Some(format!("{major:02x}:{minor:02x}:{}", inode.ino()))
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

/// Whether a process has an open file with such a lock (proc_pid_fdinfo(5)). Of another user's nothing is to be seen.
fn has_lock(process: u32, is_it: impl Fn(&[&str]) -> bool) -> bool {
    let files = fs::read_dir(format!("/proc/{process}/fdinfo"));
    files.into_iter().flatten().flatten().any(|file| {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        text.lines()
            .any(|line| line.starts_with("lock:") && is_it(&line.split_whitespace().collect::<Vec<_>>()))
    })
}

/// The daemon behind a disk's process, or the process itself where it is none.
fn behind(process: u32) -> Holder {
    let Some(stat) = Stat::of(process) else {
        return Holder::Unseen(process);
    };
    if stat.is_stopped() {
        return Holder::Halted(process);
    }
    let Stat { name, parent, .. } = stat;
    if !name.starts_with(NAME_START) {
        return Holder::Running(process);
    }
    let program = |process| fs::read_link(format!("/proc/{process}/exe")).ok();
    match program(parent) {
        Some(daemon) if program(process).is_some_and(|own| own == daemon) => Holder::Running(parent),
        _ => Holder::Ended(process),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_that_is_stopped_is_told_with_what_lets_it_go_on() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = child.id();
        let signal = |number| {
            // SAFETY: it takes no pointers, and the process is ours.
            assert_eq!(unsafe { libc::kill(id as libc::pid_t, number) }, 0);
        };
        let until = |wanted: Holder| {
            let begin = Instant::now();
            while behind(id) != wanted {
                assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", behind(id));
                thread::sleep(Duration::from_millis(5));
            }
        };
        until(Holder::Running(id));
        signal(libc::SIGSTOP);
        until(Holder::Halted(id));
        let told = Holder::Halted(id).to_string();
        assert!(told.contains(&format!("kill -CONT {id}")), "{told}");
        signal(libc::SIGCONT);
        until(Holder::Running(id));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_stretch_leaves_out_the_bytes_that_all_parts_take() {
        let pieces = |offset, bytes| Stretch { offset, bytes }.pieces().collect::<Vec<_>>();
        assert_eq!(pieces(0, 0), [(0, 100), (300, 0)]);
        assert_eq!(pieces(0, 4096), [(0, 100), (300, 3796)]);
        assert_eq!(pieces(512, 4096), [(512, 4096)]);
        assert_eq!(pieces(512, 0), [(512, 0)]);
        assert_eq!(pieces(150, 1000), [(300, 850)]);
    }
}
