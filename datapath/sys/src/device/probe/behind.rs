//! What lies between a disk's blank ends: copies of superblocks whose places are known, and samples.

use super::Content;
use crate::device::{Media, Opened};
use palisade_block::DeviceKind;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Bytes of one sample.
const SAMPLE_BYTES: u64 = 4096;

/// Samples spread evenly. A disk that seeks takes some three seconds for them.
const SPREAD: u64 = 256;

/// Pieces of a file with holes that are looked at.
const PIECES: usize = 256;

/// Where btrfs keeps its second and third superblock (btrfs(5), "on-disk format").
const BTRFS_MIRRORS: [u64; 2] = [64 << 20, 256 << 30];

/// Groups of ext file systems whose first block is a copy of the superblock (`sparse_super`: 1 and powers of 3, 5, 7).
const EXT_GROUPS: [u64; 12] = [1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343];

/// Bytes of a group of an ext file system with blocks of 1, 2 and 4 KiB: as many blocks as one block has bits.
const EXT_GROUP_BYTES: [u64; 3] = [8 << 20, 32 << 20, 128 << 20];

/// Looks behind blank ends: each kind once, and data of no known kind only when nothing else is there.
pub(super) fn probe(device: &Opened) -> io::Result<Vec<Content>> {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    look(device, |_, content| match content {
        Content::Blank => {}
        Content::Unknown => unknown = vec![content],
        content if known.contains(&content) => {}
        content => known.push(content),
    })?;
    Ok(if known.is_empty() { unknown } else { known })
}

/// Where a copy of a known superblock lies, in bytes; each within the 4 KiB from there.
pub(in crate::device) fn marks(device: &Opened) -> io::Result<Vec<u64>> {
    let mut marks = Vec::new();
    look(device, |place, content| {
        if !matches!(content, Content::Blank | Content::Unknown) {
            marks.push(place);
        }
    })?;
    Ok(marks)
}

fn look(device: &Opened, mut at: impl FnMut(u64, Content)) -> io::Result<()> {
    let bytes = device.sectors().bytes();
    let places: BTreeSet<u64> = match device.media() {
        Media::Kernel(kernel) if device.kind() == DeviceKind::File => {
            let mut places = kernel.ask(|file| Ok(pieces(file, bytes)))?;
            places.extend(copies());
            places
        }
        Media::Kernel(_) => copies().chain(spread(bytes)).collect(),
        // What is kept in memory was made by us, blank.
        Media::Null | Media::Memory(_) => return Ok(()),
    };
    let mut sample = [0; SAMPLE_BYTES as usize];
    for place in places {
        let length = bytes.saturating_sub(place).min(SAMPLE_BYTES) as usize;
        let (sample, _) = sample.split_at_mut(length);
        if sample.is_empty() {
            continue;
        }
        device.read_at(place, sample)?;
        at(place, name(sample));
    }
    Ok(())
}

fn name(sample: &[u8]) -> Content {
    let has = |at: usize, mark: &[u8]| sample.get(at..).is_some_and(|from| from.starts_with(mark));
    if has(0x40, b"_BHRfS_M") {
        Content::Filesystem { kind: "btrfs" }
    } else if has(0x38, b"\x53\xef") || has(1024 + 0x38, b"\x53\xef") {
        Content::Filesystem { kind: "ext2/3/4" }
    } else if has(0, b"XFSB") {
        Content::Filesystem { kind: "xfs" }
    } else if sample.iter().all(|&byte| byte == 0) {
        Content::Blank
    } else {
        Content::Unknown
    }
}

/// Places at which known file systems keep a copy of their superblock, each within the 4 KiB from there.
fn copies() -> impl Iterator<Item = u64> {
    let ext = EXT_GROUP_BYTES
        .into_iter()
        .flat_map(|bytes| EXT_GROUPS.map(|group| group * bytes));
    BTRFS_MIRRORS.into_iter().chain(ext)
}

/// Places spread evenly. XFS divides a disk into four groups or a multiple of that, each of which begins with a
/// superblock: a quarter is among them.
fn spread(bytes: u64) -> impl Iterator<Item = u64> {
    let of = move |index: u64| u128::from(bytes) * u128::from(index) / u128::from(SPREAD);
    (1..SPREAD).map(move |index| of(index) as u64 / SAMPLE_BYTES * SAMPLE_BYTES)
}

/// Both ends of the pieces of a file that are no holes: the whole file if there are few. Where holes are not told, the
/// file is one piece, and samples have to do.
fn pieces(file: &File, bytes: u64) -> BTreeSet<u64> {
    let mut places = BTreeSet::new();
    let mut from = 0;
    for _ in 0..PIECES {
        // Moves the descriptor's position, which nobody uses.
        let Some(data) = seek(file, from, libc::SEEK_DATA) else {
            return places;
        };
        let end = seek(file, data, libc::SEEK_HOLE).unwrap_or(bytes).min(bytes);
        let step = SAMPLE_BYTES.max((end - data.min(end)) / SPREAD) / SAMPLE_BYTES * SAMPLE_BYTES;
        let first = data / SAMPLE_BYTES * SAMPLE_BYTES;
        places.extend((first..end).step_by(step.max(SAMPLE_BYTES) as usize));
        places.extend(end.checked_sub(1).map(|last| last / SAMPLE_BYTES * SAMPLE_BYTES));
        from = end.max(data + 1);
    }
    places.extend(spread(bytes));
    places
}

fn seek(file: &File, from: u64, whence: libc::c_int) -> Option<u64> {
    let from = i64::try_from(from).ok()?;
    // SAFETY: lseek takes no pointers.
    let found = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
    u64::try_from(found).ok()
}
