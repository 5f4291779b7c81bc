//! What the kernel says of an open file or block device: size, block, alignment, abilities.

use super::alignment;
use palisade_block::limits::RANGE_BYTES_MAX;
use palisade_words::Sectors;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Geometry and abilities as found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) bytes: u64,
    /// Smallest unit of offsets and lengths, in bytes.
    pub(super) block_bytes: u32,
    /// Unit of memory addresses, in bytes.
    pub(super) memory_alignment: u32,
    /// Unit of the length of each segment, in bytes.
    pub(super) length_alignment: u32,
    /// What is given back as one when it is discarded, in bytes.
    pub(super) discard_granularity: u32,
    pub(super) discard: bool,
    pub(super) write_zeroes: bool,
}

/// Of loop devices (Documentation/admin-guide/devices.txt).
const LOOP_MAJOR: libc::c_uint = 7;

/// Asks for everything.
pub(super) fn geometry(file: &File, buffered: bool, read_only: bool) -> io::Result<Geometry> {
    let meta = file.metadata()?;
    let bytes = bytes(file)?;
    if meta.file_type().is_block_device() {
        let block_bytes = logical_block(file)?;
        let queue = |name| queue_limit(meta.rdev(), name).is_some_and(|most| most > 0);
        let told = direct_alignment(file).map_or(block_bytes, |(memory, _)| memory);
        let (memory_alignment, length_alignment) = match buffered {
            true => (1, 1),
            // A loop device tells of itself what only its file knows, and what that refuses the kernel logs as an I/O error.
            false if libc::major(meta.rdev()) == LOOP_MAJOR => alignment::strictest(told, block_bytes),
            false => alignment::tried(file, told, block_bytes, Some(0)),
        };
        return Ok(Geometry {
            bytes,
            block_bytes,
            memory_alignment,
            length_alignment,
            discard_granularity: queue_limit(meta.rdev(), "discard_granularity").map_or(block_bytes, at_once),
            discard: !read_only && queue("discard_max_bytes"),
            write_zeroes: !read_only && queue("write_zeroes_max_bytes"),
        });
    }
    // A kernel before 6.1 does not tell; then the strictest that is common has to do.
    let (memory_alignment, length_alignment, block_bytes) = match buffered {
        true => (1, 1, 1),
        false => {
            let (told, block) = direct_alignment(file).unwrap_or((512, 512));
            let (memory, length) = alignment::tried(file, told, block, alignment::first_data(file));
            (memory, length, block)
        }
    };
    Ok(Geometry {
        bytes,
        block_bytes,
        memory_alignment,
        length_alignment,
        discard_granularity: at_once(meta.blksize()),
        discard: !read_only && punches(file, bytes),
        write_zeroes: !read_only && zeroes(file, bytes),
    })
}

/// The size in bytes. Seeking to the end tells it of files and block devices alike; nobody uses the position.
pub(super) fn bytes(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// Whether a file has no holes: its space is taken, written or not.
pub(super) fn has_all_its_space(file: &File) -> io::Result<bool> {
    let about = file.metadata()?;
    Ok(about.blocks().saturating_mul(512) >= about.len())
}

/// Sectors in the whole logical blocks of `bytes`.
pub(super) fn whole_blocks(bytes: u64, block_bytes: u32) -> Sectors {
    Sectors::from_bytes(bytes - bytes % u64::from(block_bytes))
}

fn logical_block(file: &File) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: BLKSSZGET writes one int, to which the pointer points.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::BLKSSZGET, &mut bytes) } {
        0 => Ok(bytes as u32),
        _ => Err(io::Error::last_os_error()),
    }
}

/// linux/fs.h: `_IO(0x12, 94)`.
const BLKROGET: libc::Ioctl = 0x125e;

/// Whether a block device takes no writes.
pub(super) fn is_read_only(file: &File) -> io::Result<bool> {
    let mut flag: libc::c_int = 0;
    // SAFETY: BLKROGET writes one int, to which the pointer points.
    match unsafe { libc::ioctl(file.as_raw_fd(), BLKROGET, &mut flag) } {
        0 => Ok(flag != 0),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What O_DIRECT demands of memory addresses and of offsets (statx(2), STATX_DIOALIGN, Linux 6.1); `None` when the
/// kernel or the file system does not tell.
fn direct_alignment(file: &File) -> Option<(u32, u32)> {
    // SAFETY: a statx is made of integers, for which zero is a value.
    let mut found: libc::statx = unsafe { mem::zeroed() };
    // SAFETY: the path is an empty string that ends with a zero byte, the result is ours.
    let failed = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &mut found,
        )
    };
    let told = failed == 0 && found.stx_mask & libc::STATX_DIOALIGN != 0 && found.stx_dio_offset_align != 0;
    told.then_some((found.stx_dio_mem_align, found.stx_dio_offset_align))
}

/// A number from the device's queue directory. A partition has none of its own and uses its disk's.
fn queue_limit(device: u64, name: &str) -> Option<u64> {
    let base = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
    ["queue", "../queue"].iter().find_map(|queue| {
        fs::read_to_string(format!("{base}/{queue}/{name}"))
            .ok()?
            .trim()
            .parse()
            .ok()
    })
}

/// A unit of discards, as far as we keep to it.
fn at_once(bytes: u64) -> u32 {
    bytes.clamp(1, RANGE_BYTES_MAX.into()) as u32
}

/// The unit of the probes below: a multiple of every file system's block.
const PROBE_BYTES: u64 = 1 << 20;

/// Whether the file system punches holes. Tried behind the file's end, where there is nothing to lose.
fn punches(file: &File, bytes: u64) -> bool {
    let behind = bytes.next_multiple_of(PROBE_BYTES);
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fallocate(file, mode, behind, PROBE_BYTES).is_ok()
}

/// Whether the file system makes zeroes without writing them. What the probe takes behind the file's end it gives back.
fn zeroes(file: &File, bytes: u64) -> bool {
    let behind = bytes.next_multiple_of(PROBE_BYTES);
    let mode = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    let offered = fallocate(file, mode, behind, 4096).is_ok();
    // Where nothing is punched behind the end one block stays there: it is zero and does no harm. Setting the length
    // anew would free it, but could undo a growth that happens right now.
    if offered {
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let _ = fallocate(file, punch, behind, PROBE_BYTES);
    }
    offered
}

/// fallocate(2).
pub(super) fn fallocate(file: &File, mode: libc::c_int, offset: u64, bytes: u64) -> io::Result<()> {
    let (Ok(offset), Ok(bytes)) = (i64::try_from(offset), i64::try_from(bytes)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: fallocate takes no pointers.
    match unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
