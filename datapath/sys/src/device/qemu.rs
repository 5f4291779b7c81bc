//! The locks by which QEMU and its tools keep each other off an image (`block/file-posix.c`), taken and heeded by us.
//!
//! Each is a lock for reading of one byte, of the open file description, and says something by being there: byte 100 + i
//! that its holder uses permission i, byte 200 + i that it lets nobody else use it. Whoever opens an image takes its own
//! bytes, and then looks whether somebody holds the opposite of one of them.
//!
//! | i | permission | a disk in service | opened for reading |
//! |---|---|---|---|
//! | 0 | consistent read | used, not shared | used |
//! | 1 | write | used, not shared | not shared |
//! | 2 | write of what is there already | used, not shared | not shared |
//! | 3 | resize | used, not shared | not shared |
//!
//! QEMU shares reading. We do not: who copies the file of a disk in service gets one that is torn, and is told nothing, for
//! QEMU's readers of raw images let others write. Who wants that says so (`file.locking=off`; `--force-share` means less).
//! The other way round, one that only reads is no danger to a disk, and keeps no guest from it.
//!
//! Others of ours are told from QEMU's programs: who has the whole keeps them away before by the lock of flock(2). Those that
//! have a part each hold all these bytes together, and a byte that marks them. It is taken last, after the look around:
//! while somebody has it, no program of QEMU's has got in or does.

use super::OpenError;
use super::lock::{self, OtherLock};
use crate::filesystem::FileSystem;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// RAW_LOCK_PERM_BASE of QEMU.
const USED: u64 = 100;
/// RAW_LOCK_SHARED_BASE of QEMU.
const NOT_SHARED: u64 = 200;
/// Held by each of ours that has a part. QEMU has room for 64 permissions, and ends before it.
const MARK: Range<u64> = 180..181;

/// Bytes that belong to all this. No other lock of ours is on any of them.
pub(super) const BYTES: Range<u64> = 100..300;

const _: () = assert!(BYTES.start == USED && NOT_SHARED + 64 <= BYTES.end && USED + 64 <= MARK.start);

/// Permissions, by their numbers.
const ALL: Range<u64> = 0..4;
const CHANGES: Range<u64> = 1..4;
const READS: Range<u64> = 0..1;

const RETRY: Duration = Duration::from_millis(20);

/// Waited for in any case: two that begin at the same time see each other's bytes, and a tool that looks at an image is done
/// with it in some milliseconds.
const MOMENT: Duration = Duration::from_millis(100);

/// What we want it for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    /// All of it, to read and write.
    Whole,
    /// A part of it, to read and write, while others of ours may have other parts.
    Part,
    /// To be read.
    Read,
}

impl Claim {
    fn used(self) -> Range<u64> {
        match self {
            Claim::Whole | Claim::Part => ALL,
            Claim::Read => READS,
        }
    }

    fn not_shared(self) -> Range<u64> {
        match self {
            Claim::Whole | Claim::Part => ALL,
            Claim::Read => CHANGES,
        }
    }
}

/// Takes the bytes, waiting until `wait` has passed for whoever is in the way. What is returned says why they cannot be had on
/// this file system, if that is so: then nothing is locked, and nobody can be seen.
///
/// # Errors
/// [`OpenError::HeldByQemu`].
pub(super) fn keep_off(
    file: &File,
    path: &Path,
    claim: Claim,
    wait: Duration,
) -> Result<Option<String>, OpenError> {
    if FileSystem::of(file).is_ok_and(|found| found.locks_forbid_writes()) {
        return Ok(Some("a lock there would forbid writing to what is locked".into()));
    }
    let (start, wait) = (Instant::now(), wait.max(MOMENT));
    loop {
        let found = match attempt(file, claim) {
            Ok(None) => return Ok(None),
            Ok(Some(found)) => found,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let waited = start.elapsed();
        if waited >= wait {
            return Err(OpenError::HeldByQemu {
                path: path.into(),
                waited,
                writes: found.writes,
                holder: found.lock.and_then(|lock| lock::holder_of(lock, file)),
            });
        }
        thread::sleep(RETRY.min(wait - waited));
    }
}

/// What is in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Found {
    /// The lock, if it is still there.
    lock: Option<OtherLock>,
    /// Whether its holder writes, or else keeps others from it.
    writes: bool,
}

/// Takes all bytes or none of them.
fn attempt(file: &File, claim: Claim) -> io::Result<Option<Found>> {
    // Looked at before as well, so that others of ours do not see bytes that we will not keep.
    if let Some(found) = in_the_way(file, claim)? {
        return Ok(Some(found));
    }
    let own = [at(USED, claim.used()), at(NOT_SHARED, claim.not_shared())];
    let taken = take(file, &own).and_then(|taken| match taken {
        None => in_the_way(file, claim),
        found => Ok(found),
    });
    let taken = match (taken, claim) {
        (Ok(None), Claim::Part) => take(file, &[MARK]),
        (taken, _) => taken,
    };
    if !matches!(taken, Ok(None)) {
        for bytes in own {
            set(file, libc::F_UNLCK, &bytes)?;
        }
    }
    taken
}

/// Takes locks for reading; what is found is one for writing, which QEMU has none of.
fn take(file: &File, all: &[Range<u64>]) -> io::Result<Option<Found>> {
    for bytes in all {
        match set(file, libc::F_RDLCK, bytes) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                let lock = locked(file, libc::F_RDLCK, bytes)?;
                return Ok(Some(Found { lock, writes: true }));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Who holds the opposite of what is claimed, and is none of ours.
fn in_the_way(file: &File, claim: Claim) -> io::Result<Option<Found>> {
    let writers = (at(USED, CHANGES), true);
    let keepers = (at(NOT_SHARED, claim.used()), false);
    for (bytes, writes) in [writers, keepers] {
        let lock = locked(file, libc::F_WRLCK, &bytes)?;
        if lock.is_none() {
            continue;
        }
        if locked(file, libc::F_WRLCK, &MARK)?.is_some() {
            return Ok(None);
        }
        return Ok(Some(Found { lock, writes }));
    }
    Ok(None)
}

fn at(base: u64, permissions: Range<u64>) -> Range<u64> {
    base + permissions.start..base + permissions.end
}

/// Sets or removes the lock of some bytes.
fn set(file: &File, kind: i32, bytes: &Range<u64>) -> io::Result<()> {
    lock::set_range(file, kind, bytes.start, bytes.end - bytes.start)
}

/// The first lock of somebody else that one of this kind on these bytes would be refused for.
fn locked(file: &File, kind: i32, bytes: &Range<u64>) -> io::Result<Option<OtherLock>> {
    lock::other_lock(file, kind, bytes.start, bytes.end - bytes.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> File {
        File::options().read(true).write(true).open(path).unwrap()
    }

    #[test]
    fn one_that_has_the_whole_and_others_exclude_each_other_and_readers_do_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let takes = |file: &File, claim| attempt(file, claim).unwrap().is_none();
        let claims = [
            (Claim::Whole, Claim::Whole, false),
            (Claim::Whole, Claim::Read, false),
            (Claim::Read, Claim::Whole, false),
            (Claim::Read, Claim::Read, true),
            (Claim::Part, Claim::Part, true),
        ];
        for (first, second, both) in claims {
            let (one, other) = (open(file.path()), open(file.path()));
            assert!(takes(&one, first), "{first:?}");
            assert_eq!(takes(&other, second), both, "{second:?} beside {first:?}");
            // One that was refused has left nothing behind.
            drop(one);
            assert!(both || takes(&open(file.path()), Claim::Whole), "{second:?}");
        }
    }

    #[test]
    fn a_part_without_its_mark_is_not_taken_for_one_of_ours() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (theirs, ours) = (open(file.path()), open(file.path()));
        for all in [USED..USED + 4, NOT_SHARED..NOT_SHARED + 4] {
            set(&theirs, libc::F_RDLCK, &all).unwrap();
        }
        assert!(attempt(&ours, Claim::Part).unwrap().unwrap().writes);
        set(&theirs, libc::F_RDLCK, &MARK).unwrap();
        assert!(attempt(&ours, Claim::Part).unwrap().is_none());
        drop(theirs);
        // Ours by itself keeps the next part open, and shuts out whoever wants the whole.
        assert!(attempt(&open(file.path()), Claim::Part).unwrap().is_none());
        assert!(
            locked(&open(file.path()), libc::F_WRLCK, &(NOT_SHARED..NOT_SHARED + 1))
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn where_no_lock_is_to_be_had_it_is_said_and_nothing_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // A lock for reading needs a descriptor that reads.
        let blind = File::options().write(true).open(file.path()).unwrap();
        let said = keep_off(&blind, file.path(), Claim::Whole, Duration::ZERO).unwrap();
        assert!(said.unwrap().contains("Bad file descriptor"));
        let seen = keep_off(&open(file.path()), file.path(), Claim::Whole, Duration::ZERO).unwrap();
        assert_eq!(seen, None);
    }
}
