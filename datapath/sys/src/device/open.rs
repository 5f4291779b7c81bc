//! The steps of opening: find, open, ask who it is, lock, make, inspect; all of them in the disk's own process.

use super::geometry::{self, Geometry};
use super::identity::Identity;
use super::{Create, DeviceSpec, KernelDevice, Media, Medium, OpenError, Opened, beneath, lock, usage};
use crate::HugeMemory;
use crate::disk_process::{DiskProcess, Inside};
use crate::filesystem::{self, FileSystem};
use palisade_block::{DeviceKind, DeviceLimits};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Most bytes of one operation. The kernel takes just under 2 GiB; this holds the longest request of a guest that keeps
/// to what it was announced, so that none of those has to be split on its account.
const IO_BYTES_MAX: u32 = 1 << 27;

const _: () = {
    use palisade_block::limits::{SEGMENT_BYTES_MAX, SEGMENTS_PER_REQUEST};
    assert!(SEGMENTS_PER_REQUEST as u64 * SEGMENT_BYTES_MAX as u64 <= IO_BYTES_MAX as u64);
};

/// Asked before a device is locked, probed, read or written whether it is the one that was meant.
pub(super) type Accept<'a> = &'a (dyn Fn(&Identity) -> Result<(), String> + Sync);

pub(super) fn open(spec: &DeviceSpec, wait: Duration, accept: Accept<'_>) -> Result<Opened, OpenError> {
    if !matches!(spec.block_bytes, 512 | 4096) {
        return Err(OpenError::BlockSize {
            asked: spec.block_bytes,
        });
    }
    match &spec.medium {
        Medium::Null { bytes } => own(spec, DeviceKind::Null, Media::Null, *bytes),
        Medium::Memory { bytes } => {
            let failed = |source| OpenError::Memory {
                bytes: *bytes,
                source,
            };
            let size = usize::try_from(*bytes).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
            own(
                spec,
                DeviceKind::Memory,
                Media::Memory(HugeMemory::new(size).map_err(failed)?),
                *bytes,
            )
        }
        Medium::File { path, create } => open_outside(path, |inside| {
            open_file(inside, spec, path, *create, wait, accept)
        }),
        Medium::Block { path } => open_outside(path, |inside| open_block(inside, spec, path, wait, accept)),
    }
}

/// Opens a file or block device to read it beside others.
pub(super) fn beside(medium: &Medium) -> Result<Opened, OpenError> {
    let with = |block_bytes| {
        let spec = DeviceSpec {
            medium: medium.clone(),
            block_bytes,
            read_only: true,
        };
        match medium {
            Medium::File { path, .. } | Medium::Block { path } => {
                open_outside(path, |inside| open_beside(inside, &spec, path))
            }
            Medium::Null { .. } | Medium::Memory { .. } => open(&spec, Duration::ZERO, &|_| Ok(())),
        }
    };
    match with(512) {
        Err(OpenError::BlockTooSmall { device, .. }) => with(device),
        opened => opened,
    }
}

fn open_beside(inside: &Inside, spec: &DeviceSpec, path: &Path) -> Result<Outside, OpenError> {
    let refused = |source| OpenError::Open {
        path: path.into(),
        source,
    };
    let inspect = |source| OpenError::Inspect {
        path: path.into(),
        source,
    };
    let place = Place::find(path, false).map_err(refused)?;
    let kind = place.kind().map_err(inspect)?;
    let is = what_it_is(&kind);
    let device = match &spec.medium {
        Medium::Block { .. } if kind.is_block_device() => DeviceKind::Block,
        Medium::Block { .. } => {
            return Err(OpenError::NotBlock {
                path: path.into(),
                is,
            });
        }
        _ if kind.is_file() => DeviceKind::File,
        _ => {
            return Err(OpenError::NotFile {
                path: path.into(),
                is,
            });
        }
    };
    let (file, buffered) = place.open(true, libc::O_DIRECT).map_err(refused)?;
    let found = Found {
        identity: Some(accepted(&file, path, &|_| Ok(()))?),
        buffered,
        created: false,
        keeps_space: false,
    };
    let geometry = geometry::geometry(&file, buffered, true).map_err(inspect)?;
    let opened = opened(spec, device, Media::Null, Some(path), geometry, found)?;
    Outside::new(inside, file, false, path, opened)
}

/// Opens a file or block device in a process of its own, where it may hang without harm to others.
fn open_outside(
    path: &Path,
    open: impl FnOnce(&Inside) -> Result<Outside, OpenError> + Send,
) -> Result<Opened, OpenError> {
    let failed = |source| OpenError::Process {
        path: path.into(),
        source,
    };
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let process = DiskProcess::start(&name).map_err(failed)?;
    let Outside {
        number,
        process: id,
        direct,
        opened,
    } = process.call(open).map_err(failed)??;
    let direct = match direct {
        true => Some(process.receive().map_err(failed)?.into()),
        false => None,
    };
    let media = Media::Kernel(KernelDevice::new(process, id, number, direct));
    Ok(Opened { media, ..opened })
}

/// A device that has been opened in its process.
struct Outside {
    /// Its descriptor there; the end of the process closes it.
    number: RawFd,
    /// The process.
    process: u32,
    /// A second one has been sent, for reads and writes that can be tried without waiting.
    direct: bool,
    /// What is known of it, without its medium.
    opened: Opened,
}

impl Outside {
    fn new(
        inside: &Inside,
        file: File,
        direct: bool,
        path: &Path,
        opened: Opened,
    ) -> Result<Outside, OpenError> {
        if direct {
            inside
                .pass(file.as_raw_fd())
                .map_err(|source| OpenError::Process {
                    path: path.into(),
                    source,
                })?;
        }
        Ok(Outside {
            number: file.into_raw_fd(),
            process: std::process::id(),
            direct,
            opened,
        })
    }
}

/// A device that is all ours.
fn own(spec: &DeviceSpec, kind: DeviceKind, media: Media, bytes: u64) -> Result<Opened, OpenError> {
    let geometry = Geometry {
        bytes,
        block_bytes: 1,
        memory_alignment: 1,
        length_alignment: 1,
        discard: true,
        write_zeroes: true,
    };
    let found = Found {
        identity: None,
        buffered: false,
        created: false,
        keeps_space: false,
    };
    opened(spec, kind, media, None, geometry, found)
}

fn open_file(
    inside: &Inside,
    spec: &DeviceSpec,
    path: &Path,
    create: Option<Create>,
    wait: Duration,
    accept: Accept<'_>,
) -> Result<Outside, OpenError> {
    let refused = |source| OpenError::Open {
        path: path.into(),
        source,
    };
    let inspect = |source| OpenError::Inspect {
        path: path.into(),
        source,
    };
    let place = Place::find(path, create.is_some() && !spec.read_only).map_err(refused)?;
    let kind = place.kind().map_err(inspect)?;
    if !kind.is_file() {
        let is = what_it_is(&kind);
        return Err(OpenError::NotFile {
            path: path.into(),
            is,
        });
    }
    let (file, buffered) = place.open(spec.read_only, libc::O_DIRECT).map_err(refused)?;
    let identity = accepted(&file, path, accept)?;
    lock::lock(&file, path, spec.read_only, wait)?;
    let created = match create {
        // Also one that was begun and not finished: the size comes last.
        Some(create) if file.metadata().map_err(inspect)?.len() == 0 => {
            fill(&file, path, create).map_err(|source| {
                place.undo(&file, path);
                OpenError::Create {
                    path: path.into(),
                    bytes: create.bytes,
                    source,
                }
            })?;
            true
        }
        _ => false,
    };
    let geometry = geometry::geometry(&file, buffered, spec.read_only).map_err(inspect)?;
    let found = Found {
        identity: Some(identity),
        buffered,
        created,
        keeps_space: geometry::has_all_its_space(&file).map_err(inspect)?,
    };
    let direct = !buffered && FileSystem::of(&file).map_err(inspect)?.submits_without_waiting();
    match opened(spec, DeviceKind::File, Media::Null, Some(path), geometry, found) {
        Ok(opened) => Outside::new(inside, file, direct, path, opened),
        Err(error) => {
            if created {
                place.undo(&file, path);
            }
            Err(error)
        }
    }
}

fn open_block(
    inside: &Inside,
    spec: &DeviceSpec,
    path: &Path,
    wait: Duration,
    accept: Accept<'_>,
) -> Result<Outside, OpenError> {
    let inspect = |source| OpenError::Inspect {
        path: path.into(),
        source,
    };
    let refused = |source| OpenError::Open {
        path: path.into(),
        source,
    };
    let place = Place::find(path, false).map_err(refused)?;
    let kind = place.kind().map_err(inspect)?;
    if !kind.is_block_device() {
        let is = what_it_is(&kind);
        return Err(OpenError::NotBlock {
            path: path.into(),
            is,
        });
    }
    let until = Instant::now() + wait;
    let (file, buffered) = claim(&place, path, spec.read_only, libc::O_DIRECT, until)?;
    let identity = accepted(&file, path, accept)?;
    let left = || until.saturating_duration_since(Instant::now());
    lock::lock(&file, path, spec.read_only, left())?;
    let under = beneath::hold(&file, spec.read_only, until).map_err(|source| OpenError::Beneath {
        path: path.into(),
        source: Box::new(source),
    })?;
    let geometry = geometry::geometry(&file, buffered, spec.read_only).map_err(inspect)?;
    let found = Found {
        identity: Some(identity),
        buffered,
        created: false,
        keeps_space: false,
    };
    let opened = opened(spec, DeviceKind::Block, Media::Null, Some(path), geometry, found)?;
    let outside = Outside::new(inside, file, !buffered, path, opened)?;
    // Until its process ends, as the device itself.
    for file in under {
        let _ = file.into_raw_fd();
    }
    Ok(outside)
}

/// Opens a block device for us alone.
pub(super) fn claim(
    place: &Place,
    path: &Path,
    read_only: bool,
    flags: i32,
    until: Instant,
) -> Result<(File, bool), OpenError> {
    let start = Instant::now();
    // The kernel lets go of an exclusive open as late as of the lock, so a predecessor may still hold it.
    loop {
        match place.open(read_only, libc::O_EXCL | flags) {
            Ok(opened) => return Ok(opened),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let uses = usage::uses(path).unwrap_or_default();
                let waited = start.elapsed();
                let is_over = Instant::now() >= until;
                let holder = match is_over {
                    true => lock::holder_at(path),
                    false => None,
                };
                if uses.is_empty() && is_over && holder.is_some() {
                    return Err(OpenError::Locked {
                        path: path.into(),
                        waited,
                        holder,
                    });
                }
                if !uses.is_empty() || is_over {
                    return Err(OpenError::InUse {
                        path: path.into(),
                        uses,
                    });
                }
                thread::sleep(Duration::from_millis(20));
            }
            Err(source) => {
                return Err(OpenError::Open {
                    path: path.into(),
                    source: told_read_only(path, source),
                });
            }
        }
    }
}

/// A refusal in words, where it is that the device takes no writes: some kernels say so already when it is opened for them.
fn told_read_only(path: &Path, source: io::Error) -> io::Error {
    let says = matches!(
        source.raw_os_error(),
        Some(libc::EACCES | libc::EPERM | libc::EROFS)
    );
    let is_read_only = || {
        let number = fs::metadata(path).ok()?.rdev();
        let (major, minor) = (libc::major(number), libc::minor(number));
        fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro")).ok()
    };
    if !says || is_read_only().is_none_or(|text| text.trim() != "1") {
        return source;
    }
    let words = format!(
        "the device may only be read; let it be written to (blockdev --setrw {})",
        path.display()
    );
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, words)
}

/// Who the open file is, if that is accepted.
fn accepted(file: &File, path: &Path, accept: Accept<'_>) -> Result<Identity, OpenError> {
    let identity = Identity::of(file).map_err(|source| OpenError::Inspect {
        path: path.into(),
        source,
    })?;
    match accept(&identity) {
        Ok(()) => Ok(identity),
        Err(reason) => Err(OpenError::OtherMedium {
            path: path.into(),
            reason,
        }),
    }
}

/// What a path leads to, held fast without being opened: to open a tape rewinds it, to open a terminal may hang up a
/// line, and to open a FIFO waits for its other end. So the kind is asked for first, and then the very thing that was
/// asked is opened, whatever the path leads to by then.
pub(super) struct Place {
    held: File,
    made: bool,
}

impl Place {
    /// Finds it; a file is made, empty, if `create` is set and nothing is there.
    pub(super) fn find(path: &Path, create: bool) -> io::Result<Place> {
        let look = || {
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_PATH)
                .open(path)
        };
        match look() {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                let made = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path);
                match made {
                    Ok(held) => Ok(Place { held, made: true }),
                    // Somebody was faster; or it is a link that leads nowhere, through which nothing is made.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Place {
                        held: look()?,
                        made: false,
                    }),
                    Err(error) => Err(error),
                }
            }
            found => Ok(Place {
                held: found?,
                made: false,
            }),
        }
    }

    fn kind(&self) -> io::Result<fs::FileType> {
        Ok(self.about()?.file_type())
    }

    pub(super) fn about(&self) -> io::Result<fs::Metadata> {
        self.held.metadata()
    }

    /// Opens it. Where the file system refuses O_DIRECT (EINVAL) without it; true for that.
    pub(super) fn open(&self, read_only: bool, flags: i32) -> io::Result<(File, bool)> {
        // proc(5): opening the link opens the file that the descriptor holds, not the path anew.
        let link = format!("/proc/self/fd/{}", self.held.as_raw_fd());
        let with = |flags| {
            OpenOptions::new()
                .read(true)
                .write(!read_only)
                .custom_flags(flags | libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(&link)
        };
        match with(flags) {
            Err(error) if flags & libc::O_DIRECT != 0 && error.raw_os_error() == Some(libc::EINVAL) => {
                Ok((with(flags & !libc::O_DIRECT)?, true))
            }
            other => Ok((other?, false)),
        }
    }

    /// Takes back what the filling of a file has left that did not come to its end. One that was there before is as
    /// empty as it was.
    fn undo(&self, file: &File, path: &Path) {
        if !self.made {
            let _ = file.set_len(0);
            return;
        }
        let is_ours = |meta: fs::Metadata| {
            file.metadata()
                .is_ok_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino()))
        };
        if fs::symlink_metadata(path).is_ok_and(is_ours) {
            let _ = fs::remove_file(path);
        }
    }
}

/// The kind of what was found, to follow "it is".
fn what_it_is(kind: &fs::FileType) -> &'static str {
    if kind.is_file() {
        "a regular file"
    } else if kind.is_block_device() {
        "a block device"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_dir() {
        "a directory"
    } else {
        "of an unknown kind"
    }
}

/// Gives a new file its size and space, on stable storage with its name.
fn fill(file: &File, path: &Path, create: Create) -> io::Result<()> {
    let filesystem = FileSystem::of(file)?;
    // Told before anything is taken: what fallocate(2) takes before it fails is missing to others meanwhile.
    if !create.sparse && filesystem.free_bytes < create.bytes {
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
        if FileSystem::of(file)?.free_bytes < more {
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

/// What opening has found beside the geometry.
struct Found {
    identity: Option<Identity>,
    buffered: bool,
    created: bool,
    keeps_space: bool,
}

fn opened(
    spec: &DeviceSpec,
    kind: DeviceKind,
    media: Media,
    path: Option<&Path>,
    geometry: Geometry,
    found: Found,
) -> Result<Opened, OpenError> {
    let path = path.map(Path::to_path_buf);
    if let (Some(path), true) = (&path, geometry.block_bytes > spec.block_bytes) {
        let (path, asked, device) = (path.clone(), spec.block_bytes, geometry.block_bytes);
        return Err(OpenError::BlockTooSmall { path, asked, device });
    }
    let sectors = geometry::whole_blocks(geometry.bytes, spec.block_bytes);
    if sectors.0 == 0 {
        return Err(OpenError::Empty { path });
    }
    let limits = DeviceLimits {
        kind,
        sectors,
        block_bytes: spec.block_bytes,
        memory_alignment: geometry.memory_alignment,
        length_alignment: geometry.length_alignment,
        io_bytes_max: IO_BYTES_MAX,
        discard: geometry.discard && !spec.read_only,
        write_zeroes: geometry.write_zeroes && !spec.read_only,
        read_only: spec.read_only,
    };
    let sectors = AtomicU64::new(sectors.0);
    Ok(Opened {
        media,
        path,
        limits,
        sectors,
        identity: found.identity,
        buffered: found.buffered,
        created: found.created,
        keeps_space: found.keeps_space,
    })
}
