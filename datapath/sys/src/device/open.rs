//! The steps of opening: find, open, ask who it is, lock, make, inspect; all of them in the disk's own process. What a path
//! leads to is in [`place`](super::place), the space of files in [`room`].

use super::geometry::{self, Geometry};
use super::identity::Identity;
use super::place::{Place, what_it_is};
use super::{
    Create, DeviceMedium, DeviceSpec, KernelDevice, Media, OpenError, Opened, beneath, lock, room, usage,
};
use crate::HugeMemory;
use crate::disk_process::{DiskProcess, Inside};
use crate::filesystem::FileSystem;
use palisade_block::{DeviceKind, DeviceLimits};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::AtomicU64;
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
        DeviceMedium::Null { bytes } => own(spec, DeviceKind::Null, Media::Null, *bytes),
        DeviceMedium::Memory { bytes } => {
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
        DeviceMedium::File { path, create } => open_outside(path, |inside| {
            open_file(inside, spec, path, *create, wait, accept)
        }),
        DeviceMedium::Block { path } => {
            open_outside(path, |inside| open_block(inside, spec, path, wait, accept))
        }
    }
}

/// Opens a file or block device to read it beside others.
pub(super) fn beside(medium: &DeviceMedium) -> Result<Opened, OpenError> {
    let with = |block_bytes| {
        let spec = DeviceSpec {
            medium: medium.clone(),
            block_bytes,
            read_only: true,
        };
        match medium {
            DeviceMedium::File { path, .. } | DeviceMedium::Block { path } => {
                open_outside(path, |inside| open_beside(inside, &spec, path))
            }
            DeviceMedium::Null { .. } | DeviceMedium::Memory { .. } => {
                open(&spec, Duration::ZERO, &|_| Ok(()))
            }
        }
    };
    match with(512) {
        Err(OpenError::BlockTooSmall { device, .. }) => with(device),
        opened => opened,
    }
}

fn open_beside(inside: &Inside, spec: &DeviceSpec, path: &Path) -> Result<Outside, OpenError> {
    let device = match &spec.medium {
        DeviceMedium::Block { .. } => DeviceKind::Block,
        _ => DeviceKind::File,
    };
    let place = find(path, device, false)?;
    let (file, buffered) = place
        .open(true, libc::O_DIRECT)
        .map_err(|source| not_opened(path, source))?;
    let found = Found {
        identity: Some(accepted(&file, path, &|_| Ok(()))?),
        buffered,
        created: false,
        keeps_space: false,
        open_to_qemu: None,
    };
    let geometry = geometry::geometry(&file, buffered, true).map_err(|source| not_inspected(path, source))?;
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
        discard_granularity: 1,
        discard: true,
        write_zeroes: true,
    };
    let found = Found {
        identity: None,
        buffered: false,
        created: false,
        keeps_space: false,
        open_to_qemu: None,
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
    let inspect = |source| not_inspected(path, source);
    let place = find(path, DeviceKind::File, create.is_some() && !spec.read_only)?;
    let (file, buffered) = place
        .open(spec.read_only, libc::O_DIRECT)
        .map_err(|source| not_opened(path, source))?;
    let identity = accepted(&file, path, accept)?;
    let open_to_qemu = lock::lock(&file, path, spec.read_only, wait)?;
    let created = match create {
        // Also one that was begun and not finished: the size comes last.
        Some(create) if file.metadata().map_err(inspect)?.len() == 0 => {
            room::fill(&file, path, create).map_err(|source| {
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
        open_to_qemu,
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
    let place = find(path, DeviceKind::Block, false)?;
    let until = Instant::now() + wait;
    look(&place, path, accept)?;
    let (file, buffered) = claim(&place, path, spec.read_only, libc::O_DIRECT, until)?;
    let identity = accepted(&file, path, accept)?;
    let left = || until.saturating_duration_since(Instant::now());
    let open_to_qemu = lock::lock(&file, path, spec.read_only, left())?;
    let under = beneath::hold(&file, spec.read_only, until).map_err(|source| OpenError::Beneath {
        path: path.into(),
        source: Box::new(source),
    })?;
    let geometry =
        geometry::geometry(&file, buffered, spec.read_only).map_err(|source| not_inspected(path, source))?;
    let found = Found {
        identity: Some(identity),
        buffered,
        created: false,
        keeps_space: false,
        open_to_qemu: open_to_qemu.or(under.open_to_qemu),
    };
    let opened = opened(spec, DeviceKind::Block, Media::Null, Some(path), geometry, found)?;
    let outside = Outside::new(inside, file, !buffered, path, opened)?;
    // Until its process ends, as the device itself.
    for file in under.files {
        let _ = file.into_raw_fd();
    }
    Ok(outside)
}

/// What a path leads to, if it is of the kind that is wanted.
fn find(path: &Path, wanted: DeviceKind, create: bool) -> Result<Place, OpenError> {
    let place = Place::find(path, create).map_err(|source| not_opened(path, source))?;
    let kind = place.kind().map_err(|source| not_inspected(path, source))?;
    let is = || what_it_is(&kind);
    match wanted {
        DeviceKind::Block if !kind.is_block_device() => Err(OpenError::NotBlock {
            path: path.into(),
            is: is(),
        }),
        DeviceKind::File if !kind.is_file() => Err(OpenError::NotFile {
            path: path.into(),
            is: is(),
        }),
        _ => Ok(place),
    }
}

fn not_opened(path: &Path, source: io::Error) -> OpenError {
    OpenError::Open {
        path: path.into(),
        source,
    }
}

fn not_inspected(path: &Path, source: io::Error) -> OpenError {
    OpenError::Inspect {
        path: path.into(),
        source,
    }
}

/// Looks at a block device without a claim to it: where another one or no medium is, somebody may be about to set it up (a
/// loop device, a partition table), and would find it busy.
fn look(place: &Place, path: &Path, accept: Accept<'_>) -> Result<(), OpenError> {
    let (file, _) = place.open(true, 0).map_err(|source| not_opened(path, source))?;
    accepted(&file, path, accept)?;
    match geometry::bytes(&file).map_err(|source| not_inspected(path, source))? {
        0 => Err(OpenError::Empty {
            path: Some(path.into()),
        }),
        _ => Ok(()),
    }
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
            Err(source) => return Err(not_opened(path, told_read_only(path, source))),
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
    let identity = Identity::of(file).map_err(|source| not_inspected(path, source))?;
    match accept(&identity) {
        Ok(()) => Ok(identity),
        Err(reason) => Err(OpenError::OtherMedium {
            path: path.into(),
            reason,
        }),
    }
}

/// What opening has found beside the geometry.
struct Found {
    identity: Option<Identity>,
    buffered: bool,
    created: bool,
    keeps_space: bool,
    open_to_qemu: Option<String>,
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
        discard_granularity: geometry.discard_granularity,
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
        cut: AtomicU64::new(super::NEVER_CUT),
        identity: found.identity,
        buffered: found.buffered,
        created: found.created,
        keeps_space: found.keeps_space,
        open_to_qemu: found.open_to_qemu,
    })
}
