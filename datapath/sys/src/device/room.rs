//! The size and space of a file: given when it is made, and more of it when it grows.

use super::{Create, geometry};
use crate::filesystem::{self, FileSystem};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Gives a new file its size and space, on stable storage with its name.
pub(super) fn fill(file: &File, path: &Path, create: Create) -> io::Result<()> {
    let filesystem = FileSystem::of(file)?;
    // Told before anything is taken: what fallocate(2) takes before it fails is missing to others meanwhile.
    // And what a file system keeps for root is there for other emergencies than a new disk.
    if !create.sparse && filesystem.unreserved_bytes < create.bytes {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    // Can be done to an empty file only. Without it the disk works, and its health says what may come of it.
    if filesystem.is_btrfs() {
        let _ = filesystem::set_nocow(file);
    }
    match create.sparse {
        true => file.set_len(create.bytes)?,
        false => geometry::fallocate(file, 0, 0, create.bytes)?,
    }
    file.sync_all()?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Whether a folder's file system takes a file of so many bytes, holes and all; `None` when that cannot be tried (open(2),
/// `O_TMPFILE`). Nothing is left of the trial.
pub fn takes_length(folder: &Path, bytes: u64) -> Option<bool> {
    let file = File::options()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(folder)
        .ok()?;
    match file.set_len(bytes) {
        Ok(()) => Some(true),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Some(false),
        // More than off_t holds.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Some(false),
        Err(_) => None,
    }
}

/// Makes a file longer, stable with its new length when this returns, or leaves it as it was.
pub(super) fn grow(file: &File, bytes: u64, sparse: bool) -> io::Result<()> {
    // Growing and giving up a growth must not meet: what one has agreed on the other would cut off.
    static GROWING: Mutex<()> = Mutex::new(());
    let _alone = GROWING.lock().unwrap_or_else(PoisonError::into_inner);
    let present = file.metadata()?.len();
    let Some(more) = bytes.checked_sub(present).filter(|&more| more > 0) else {
        return Ok(());
    };
    if !sparse {
        if FileSystem::of(file)?.unreserved_bytes < more {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        // Behind the end, so that the length comes last and a failure in between shows to nobody.
        match geometry::fallocate(file, libc::FALLOC_FL_KEEP_SIZE, present, more) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => {
                // Setting the length that it has gives back what has been taken behind it.
                let _ = file.set_len(present);
                return Err(error);
            }
            Ok(()) => {}
        }
    }
    file.set_len(bytes)?;
    file.sync_all()
}
