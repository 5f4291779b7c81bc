//! The steps of opening: open, lock, make, inspect.

use super::geometry::{self, Geometry};
use super::{Create, DeviceSpec, Media, Medium, OpenError, Opened, lock, usage};
use crate::HugeMemory;
use palisade_block::{DeviceKind, DeviceLimits};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
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

pub(super) fn open(spec: &DeviceSpec, wait: Duration) -> Result<Opened, OpenError> {
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
        Medium::File { path, create } => open_file(spec, path, *create, wait),
        Medium::Block { path } => open_block(spec, path, wait),
    }
}

/// A device that is all ours.
fn own(spec: &DeviceSpec, kind: DeviceKind, media: Media, bytes: u64) -> Result<Opened, OpenError> {
    let geometry = Geometry {
        bytes,
        block_bytes: 1,
        memory_alignment: 1,
        discard: true,
        write_zeroes: true,
    };
    opened(spec, kind, media, None, geometry, (false, false))
}

fn open_file(
    spec: &DeviceSpec,
    path: &Path,
    create: Option<Create>,
    wait: Duration,
) -> Result<Opened, OpenError> {
    let make = create.is_some();
    let (file, buffered) = open_direct(path, spec.read_only, make, 0).map_err(|source| OpenError::Open {
        path: path.into(),
        source,
    })?;
    let inspect = |source| OpenError::Inspect {
        path: path.into(),
        source,
    };
    if !file.metadata().map_err(inspect)?.is_file() {
        return Err(OpenError::NotFile { path: path.into() });
    }
    lock::lock(&file, path, spec.read_only, wait)?;
    let created = match create {
        // Also one that was begun and not finished: the size comes last.
        Some(create) if file.metadata().map_err(inspect)?.len() == 0 => {
            fill(&file, path, create).map_err(|source| {
                let _ = fs::remove_file(path);
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
    opened(
        spec,
        DeviceKind::File,
        Media::Kernel(file),
        Some(path),
        geometry,
        (buffered, created),
    )
}

fn open_block(spec: &DeviceSpec, path: &Path, wait: Duration) -> Result<Opened, OpenError> {
    let inspect = |source| OpenError::Inspect {
        path: path.into(),
        source,
    };
    let refused = |source| OpenError::Open {
        path: path.into(),
        source,
    };
    if !fs::metadata(path).map_err(refused)?.file_type().is_block_device() {
        return Err(OpenError::NotBlock { path: path.into() });
    }
    let start = Instant::now();
    // The kernel lets go of an exclusive open as late as of the lock, so a predecessor may still hold it.
    let (file, buffered) = loop {
        match open_direct(path, spec.read_only, false, libc::O_EXCL) {
            Ok(opened) => break opened,
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let uses = usage::uses(path).unwrap_or_default();
                if !uses.is_empty() || start.elapsed() >= wait {
                    return Err(OpenError::InUse {
                        path: path.into(),
                        uses,
                    });
                }
                thread::sleep(Duration::from_millis(20));
            }
            Err(source) => return Err(refused(source)),
        }
    };
    lock::lock(&file, path, spec.read_only, wait.saturating_sub(start.elapsed()))?;
    let geometry = geometry::geometry(&file, buffered, spec.read_only).map_err(inspect)?;
    opened(
        spec,
        DeviceKind::Block,
        Media::Kernel(file),
        Some(path),
        geometry,
        (buffered, false),
    )
}

/// Opens with O_DIRECT, or without where the file system refuses it (EINVAL); true for the latter.
fn open_direct(path: &Path, read_only: bool, create: bool, flags: i32) -> io::Result<(File, bool)> {
    let with = |flags| {
        OpenOptions::new()
            .read(true)
            .write(!read_only)
            .create(create && !read_only)
            .mode(0o600)
            .custom_flags(flags)
            .open(path)
    };
    match with(flags | libc::O_DIRECT) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok((with(flags)?, true)),
        other => Ok((other?, false)),
    }
}

/// Gives a new file its size and space, on stable storage with its name.
fn fill(file: &File, path: &Path, create: Create) -> io::Result<()> {
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

fn opened(
    spec: &DeviceSpec,
    kind: DeviceKind,
    media: Media,
    path: Option<&Path>,
    geometry: Geometry,
    (buffered, created): (bool, bool),
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
        buffered,
        created,
    })
}
