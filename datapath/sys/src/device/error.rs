//! Why a device could not be opened.

use super::Program;
use super::lock::Holder;
use super::usage::Use;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel refused to open it (not there, not allowed).
    #[error("cannot open {path}: {source}")]
    Open {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file was expected.
    #[error("{path} is not a regular file but {is}")]
    NotFile {
        /// Where.
        path: PathBuf,
        /// What is there instead.
        is: &'static str,
    },
    /// A block device was expected.
    #[error("{path} is not a block device but {is}")]
    NotBlock {
        /// Where.
        path: PathBuf,
        /// What is there instead.
        is: &'static str,
    },
    /// What was found is not the medium that was meant. It was neither read nor written.
    #[error("{path} leads to another medium: {reason}")]
    OtherMedium {
        /// Where.
        path: PathBuf,
        /// What speaks against it, as a clause.
        reason: String,
    },
    /// The block device is used by something else on this machine.
    #[error(fmt = in_use)]
    InUse {
        /// Where.
        path: PathBuf,
        /// By what; empty when that could not be found out.
        uses: Vec<Use>,
    },
    /// Somebody holds the device's lock, and has not let go of it in time.
    #[error(fmt = locked)]
    Locked {
        /// Where.
        path: PathBuf,
        /// How long we have waited.
        waited: Duration,
        /// Who took the lock, if that can be found out.
        holder: Option<Holder>,
    },
    /// QEMU or one of its tools has it open, and has not closed it in time.
    #[error(fmt = held_by_qemu)]
    HeldByQemu {
        /// Where.
        path: PathBuf,
        /// How long we have waited.
        waited: Duration,
        /// Whether it is written to there; otherwise nobody else may use it.
        writes: bool,
        /// Who has it, if that can be found out.
        holder: Option<Program>,
    },
    /// What lies under the block device is in other hands, or cannot be kept from them.
    #[error("{path} stands on something that it cannot have for itself: {source}")]
    Beneath {
        /// Where the device is.
        path: PathBuf,
        /// What is wrong with what lies under it.
        source: Box<OpenError>,
    },
    /// The file could not be made or its space not be taken.
    #[error("cannot make {path} with {bytes} bytes: {source}")]
    Create {
        /// Where.
        path: PathBuf,
        /// Size asked for.
        bytes: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The device's own logical block is larger than the one asked for.
    #[error("{path} has logical blocks of {device} bytes, {asked} were asked for")]
    BlockTooSmall {
        /// Where.
        path: PathBuf,
        /// What was asked for, in bytes.
        asked: u32,
        /// What the device has, in bytes.
        device: u32,
    },
    /// Logical blocks are 512 or 4096 bytes.
    #[error("logical blocks have 512 or 4096 bytes, not {asked}")]
    BlockSize {
        /// What was asked for, in bytes.
        asked: u32,
    },
    /// It does not hold a single block.
    #[error(fmt = empty)]
    Empty {
        /// Where, if it has a place.
        path: Option<PathBuf>,
    },
    /// Its size or its abilities could not be found out.
    #[error("cannot inspect {path}: {source}")]
    Inspect {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process in which it would be opened could not be started.
    #[error(
        "cannot start the process that is to wait for {path}: {source}; look at the limits on processes and \
         memory of the service (TasksMax, LimitNPROC, MemoryMax) and at its system call filter"
    )]
    Process {
        /// Where the device is.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is not that much memory.
    #[error("cannot get {bytes} bytes of memory: {source}")]
    Memory {
        /// Size asked for.
        bytes: u64,
        /// What the kernel said.
        source: io::Error,
    },
}

fn in_use(path: &Path, uses: &[Use], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let path = path.display();
    if uses.is_empty() {
        return write!(f, "{path} is held exclusively by something on this machine");
    }
    let uses: Vec<String> = uses.iter().map(ToString::to_string).collect();
    write!(f, "{path} is in use: {}", uses.join(", "))
}

fn locked(
    path: &Path,
    waited: &Duration,
    holder: &Option<Holder>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (path, waited) = (path.display(), waited.as_secs_f32());
    write!(f, "{path} is locked, waited {waited:.1} s for ")?;
    match holder {
        Some(holder) => write!(f, "{holder}"),
        None => f.write_str("whoever holds it to close it"),
    }
}

fn held_by_qemu(
    path: &Path,
    waited: &Duration,
    writes: &bool,
    holder: &Option<Program>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (path, waited) = (path.display(), waited.as_secs_f32());
    let how = match writes {
        true => "open for writing",
        false => "open and kept from everybody else",
    };
    write!(f, "{path} is {how}, as its locks of QEMU's kind say, by ")?;
    match holder {
        Some(holder) => write!(f, "{holder}")?,
        None => write!(
            f,
            "a program that cannot be seen from here (as root, `lsof {path}` names it)"
        )?,
    }
    write!(f, "; waited {waited:.1} s for it to be closed")
}

fn empty(path: &Option<PathBuf>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match path {
        Some(path) => write!(f, "{} does not hold a single block", path.display()),
        None => f.write_str("the device would not hold a single block"),
    }
}
