//! What a device is made of and how it is opened. Opening may wait, allocate and read sysfs: it is done by control
//! threads; a reactor gets an [`Opened`] and uses it.
//!
//! Files and block devices are opened, and asked what may take long, in a process of their own (`disk_process`); no
//! thread of the daemon waits for them in the kernel.
//!
//! The lock on the open file description is the barrier against late writes: after `kill -9` the requests that the
//! dead process had in flight keep its open file alive in the kernel, and with it the lock. When we get the lock,
//! the last of them has landed or will never. What lies under a block device is locked with it ([`beneath`]). QEMU and its
//! tools do not see that lock; they are kept off by those that they do see ([`qemu`]), on the same description.

mod alignment;
mod beneath;
mod clear;
mod direct;
mod error;
pub mod fingerprint;
mod geometry;
mod halted;
pub mod identity;
mod kernel;
mod lock;
mod look;
mod loops;
mod mount;
mod open;
mod place;
pub mod probe;
mod program;
mod qemu;
pub mod room;
pub mod underlay;
pub mod usage;
mod wipe;

pub use error::OpenError;
pub use halted::{Halted, halted};
pub use identity::Identity;
pub(crate) use kernel::KernelDevice;
pub use lock::{Holder, holder_at};
pub use look::{FileLook, Look};
pub use program::Program;
use usage::Use;

use crate::{HugeMemory, PageBacking};
use palisade_block::{DeviceKind, DeviceLimits};
use palisade_words::Sectors;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What to open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceSpec {
    /// What it is made of.
    pub medium: DeviceMedium,
    /// Logical block in bytes, 512 or 4096.
    pub block_bytes: u32,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// What a device is made of, and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceMedium {
    /// Answers at once and keeps nothing.
    Null {
        /// Size.
        bytes: u64,
    },
    /// Memory of this process; the content ends with it.
    Memory {
        /// Size.
        bytes: u64,
    },
    /// A file.
    File {
        /// Where.
        path: PathBuf,
        /// How to make it when it is not there.
        create: Option<Create>,
    },
    /// A block device.
    Block {
        /// Where.
        path: PathBuf,
    },
}

/// How a file is made. A file that has data already is used as it is, whatever is asked here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Create {
    /// Size.
    pub bytes: u64,
    /// Whether its space is taken only when it is written to. If not, all of it is taken now, and a full file system
    /// shows here and not under a guest's write.
    pub sparse: bool,
}

/// An open device, shared by all reactors.
#[derive(Debug)]
pub struct Opened {
    media: Media,
    path: Option<PathBuf>,
    limits: DeviceLimits,
    sectors: AtomicU64,
    /// Bytes behind which nothing is done any more: [`NEVER_CUT`], or where it was seen to end although it is longer.
    cut: AtomicU64,
    identity: Option<Identity>,
    buffered: bool,
    created: bool,
    keeps_space: bool,
    open_to_qemu: Option<String>,
}

/// Where nobody has seen a device end too early.
const NEVER_CUT: u64 = u64::MAX;

/// What carries the data of an open device.
#[derive(Debug)]
pub(crate) enum Media {
    Null,
    Memory(HugeMemory),
    Kernel(KernelDevice),
}

impl Opened {
    /// Opens a device, waiting up to `wait` for whoever holds it to let go of it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(spec: &DeviceSpec, wait: Duration) -> Result<Opened, OpenError> {
        open::open(spec, wait, &|_| Ok(()))
    }

    /// The same, if `accept` takes the identity of the open descriptor; its refusal is a clause that says what is wrong
    /// with it. Nothing has been read, written, locked or probed when it is asked. A device that has no place is not
    /// asked about.
    ///
    /// # Errors
    /// See [`OpenError`]; [`OpenError::OtherMedium`] for a refusal.
    pub fn open_checked(
        spec: &DeviceSpec,
        wait: Duration,
        accept: &(dyn Fn(&Identity) -> Result<(), String> + Sync),
    ) -> Result<Opened, OpenError> {
        open::open(spec, wait, accept)
    }

    /// Opens a file or block device for a look beside whoever uses it, us included: only to read, without a lock and without
    /// the kernel's exclusive opening. With logical blocks of its own size, whatever was agreed on.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn beside(medium: &DeviceMedium) -> Result<Opened, OpenError> {
        open::beside(medium)
    }

    /// Who it is, as its descriptor said when it was opened; `None` for a device that has no place.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Geometry and abilities, with the size as last seen.
    pub fn limits(&self) -> DeviceLimits {
        DeviceLimits {
            sectors: self.sectors(),
            ..self.limits
        }
    }

    /// What it is made of.
    pub fn kind(&self) -> DeviceKind {
        self.limits.kind
    }

    /// Where it was found; `None` for a device that has no place.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Where the open file or device is found in /proc, whatever has become of its name; `None` for a device that has no place.
    pub fn in_proc(&self) -> Option<PathBuf> {
        match &self.media {
            Media::Kernel(device) => Some(device.in_proc()),
            Media::Null | Media::Memory(_) => None,
        }
    }

    /// The size as last seen.
    pub fn sectors(&self) -> Sectors {
        Sectors(self.sectors.load(Relaxed))
    }

    /// True when the file system refused O_DIRECT, so that data passes through the page cache: slower, twice in
    /// memory, and worth a warning. A flush still makes it stable.
    pub fn buffered(&self) -> bool {
        self.buffered
    }

    /// Why QEMU and its tools are not kept from it, nor seen when they have it: its file system has no locks of theirs. `None`
    /// where they are, and of what was opened without a lock.
    pub fn open_to_qemu(&self) -> Option<&str> {
        self.open_to_qemu.as_deref()
    }

    /// Whether opening made the file.
    pub fn created(&self) -> bool {
        self.created
    }

    /// Whether all space of the file is taken and stays so: it is one that was opened with all of it. A guest that discards
    /// is promised nothing, and the space would be another's.
    pub fn keeps_space(&self) -> bool {
        self.keeps_space
    }

    /// Lets it go of space that is discarded or cleared, although all of it is taken now: a file that was made to take it only
    /// when it is written to, and has been written to everywhere.
    pub fn let_space_go(&mut self) {
        self.keeps_space = false;
    }

    /// The pages of a memory device.
    pub fn backing(&self) -> Option<PageBacking> {
        match &self.media {
            Media::Memory(memory) => Some(memory.backing()),
            Media::Null | Media::Kernel(_) => None,
        }
    }

    /// Asks for the size again: a file or block device may have grown. Reactors see it after
    /// [`LocalDevices::resize`](crate::LocalDevices::resize).
    ///
    /// # Errors
    /// The device could not be asked.
    pub fn refresh_size(&self) -> io::Result<Sectors> {
        if let Media::Kernel(device) = &self.media {
            let bytes = device.ask(geometry::bytes)?;
            self.sectors
                .store(geometry::whole_blocks(bytes, self.limits.block_bytes).0, Relaxed);
        }
        Ok(self.sectors())
    }

    /// Notes that it was seen to end at so many bytes, before where it should. Whatever reaches behind that is refused from
    /// now on ([`Fault::BeyondEnd`](palisade_block::Fault::BeyondEnd)), on all reactors and however long it is by then: who
    /// makes a file as long as before brings back zeros in the place of what was cut off.
    pub fn ends_at(&self, bytes: u64) {
        self.cut.fetch_min(bytes, Relaxed);
    }

    /// The least size in bytes that it was seen to have, if that was less than it should.
    pub fn cut(&self) -> Option<u64> {
        Some(self.cut.load(Relaxed)).filter(|&bytes| bytes != NEVER_CUT)
    }

    /// Goes on with what is there: an operator knows what was cut off.
    pub fn go_on_without_what_was_cut(&self) {
        self.cut.store(NEVER_CUT, Relaxed);
    }

    /// What uses it beside us although it could be opened and locked: a mounted image, swap space in a file, a virtual
    /// machine of somebody else's.
    ///
    /// # Errors
    /// It could not be asked about.
    pub fn uses(&self) -> io::Result<Vec<Use>> {
        match &self.media {
            Media::Kernel(device) => device.ask(usage::uses_of_open),
            Media::Null | Media::Memory(_) => Ok(Vec::new()),
        }
    }

    /// Whether it is a block device that takes no writes, although the kernel opens it for them.
    ///
    /// # Errors
    /// The device could not be asked.
    pub fn is_read_only(&self) -> io::Result<bool> {
        match &self.media {
            Media::Kernel(device) if self.limits.kind == DeviceKind::Block => {
                device.ask(geometry::is_read_only)
            }
            _ => Ok(false),
        }
    }

    /// Makes a file longer, to `bytes` bytes, if it is not as long already; with holes if it is `sparse`, else with its
    /// space reserved. [`Opened::refresh_size`] takes the new size over.
    ///
    /// # Errors
    /// ENOSPC before anything has changed; what ftruncate(2) says. `Unsupported` for what is no file.
    pub fn grow(&self, bytes: u64, sparse: bool) -> io::Result<()> {
        match &self.media {
            Media::Kernel(device) if self.limits.kind == DeviceKind::File => {
                device.ask(|file| room::grow(file, bytes, sparse))
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(crate) fn media(&self) -> &Media {
        &self.media
    }
}
