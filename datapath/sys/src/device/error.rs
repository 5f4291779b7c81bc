//! Why a device could not be opened.

use super::lock::Holder;
use super::usage::Use;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a device could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The kernel refused to open it (not there, not allowed).
    Open {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file was expected.
    NotFile {
        /// Where.
        path: PathBuf,
        /// What is there instead.
        is: &'static str,
    },
    /// A block device was expected.
    NotBlock {
        /// Where.
        path: PathBuf,
        /// What is there instead.
        is: &'static str,
    },
    /// What was found is not the medium that was meant. It was neither read nor written.
    OtherMedium {
        /// Where.
        path: PathBuf,
        /// What speaks against it, as a clause.
        reason: String,
    },
    /// The block device is used by something else on this machine.
    InUse {
        /// Where.
        path: PathBuf,
        /// By what; empty when that could not be found out.
        uses: Vec<Use>,
    },
    /// Somebody holds the device's lock, and has not let go of it in time.
    Locked {
        /// Where.
        path: PathBuf,
        /// How long we have waited.
        waited: Duration,
        /// Who took the lock, if that can be found out.
        holder: Option<Holder>,
    },
    /// The file could not be made or its space not be taken.
    Create {
        /// Where.
        path: PathBuf,
        /// Size asked for.
        bytes: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The device's own logical block is larger than the one asked for.
    BlockTooSmall {
        /// Where.
        path: PathBuf,
        /// What was asked for, in bytes.
        asked: u32,
        /// What the device has, in bytes.
        device: u32,
    },
    /// Logical blocks are 512 or 4096 bytes.
    BlockSize {
        /// What was asked for, in bytes.
        asked: u32,
    },
    /// It does not hold a single block.
    Empty {
        /// Where, if it has a place.
        path: Option<PathBuf>,
    },
    /// Its size or its abilities could not be found out.
    Inspect {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process in which it would be opened could not be started.
    Process {
        /// Where the device is.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is not that much memory.
    Memory {
        /// Size asked for.
        bytes: u64,
        /// What the kernel said.
        source: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Open { path, source } => write!(f, "cannot open {}: {source}", path.display()),
            OpenError::NotFile { path, is } => write!(f, "{} is not a regular file but {is}", path.display()),
            OpenError::NotBlock { path, is } => {
                write!(f, "{} is not a block device but {is}", path.display())
            }
            OpenError::OtherMedium { path, reason } => {
                write!(f, "{} leads to another medium: {reason}", path.display())
            }
            OpenError::InUse { path, uses } if uses.is_empty() => {
                write!(
                    f,
                    "{} is held exclusively by something on this machine",
                    path.display()
                )
            }
            OpenError::InUse { path, uses } => {
                write!(f, "{} is in use:", path.display())?;
                uses.iter().try_for_each(|one| write!(f, " {one}"))
            }
            OpenError::Locked { path, waited, holder } => {
                let waited = waited.as_secs_f32();
                write!(f, "{} is locked, waited {waited:.1} s for ", path.display())?;
                match holder {
                    Some(holder) => holder.fmt(f),
                    None => write!(f, "whoever holds it to close it"),
                }
            }
            OpenError::Create { path, bytes, source } => {
                write!(f, "cannot make {} with {bytes} bytes: {source}", path.display())
            }
            OpenError::BlockTooSmall { path, asked, device } => write!(
                f,
                "{} has logical blocks of {device} bytes, {asked} were asked for",
                path.display()
            ),
            OpenError::BlockSize { asked } => write!(f, "logical blocks have 512 or 4096 bytes, not {asked}"),
            OpenError::Empty { path: Some(path) } => {
                write!(f, "{} does not hold a single block", path.display())
            }
            OpenError::Empty { path: None } => write!(f, "the device would not hold a single block"),
            OpenError::Inspect { path, source } => write!(f, "cannot inspect {}: {source}", path.display()),
            OpenError::Process { path, source } => write!(
                f,
                "cannot start the process that is to wait for {}: {source}; look at the limits on processes and memory \
                 of the service (TasksMax, LimitNPROC, MemoryMax) and at its system call filter",
                path.display()
            ),
            OpenError::Memory { bytes, source } => write!(f, "cannot get {bytes} bytes of memory: {source}"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            OpenError::Open { source, .. }
            | OpenError::Create { source, .. }
            | OpenError::Inspect { source, .. }
            | OpenError::Process { source, .. }
            | OpenError::Memory { source, .. } => Some(source),
            OpenError::NotFile { .. }
            | OpenError::NotBlock { .. }
            | OpenError::OtherMedium { .. }
            | OpenError::InUse { .. }
            | OpenError::Locked { .. }
            | OpenError::BlockTooSmall { .. }
            | OpenError::BlockSize { .. }
            | OpenError::Empty { .. } => None,
        }
    }
}
