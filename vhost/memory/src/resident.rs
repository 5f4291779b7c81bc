//! Which parts of a guest's memory exist. A front-end may offer a file of any length and have written none of it: pages
//! that are not there would be made by whoever touches them first, and be charged to him. So what is done to all of a
//! guest's memory at once is done to the parts that its own side has made.

use crate::mapping::Mapping;
use palisade_block::Segment;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// Parts shorter than this are left out: they are not worth a place in a table.
const PART_BYTES_MIN: u64 = 64 << 10;

/// Parts looked at in one file. Memory in more pieces than this is not in use yet, or in nobody's good use.
const PARTS_SEEN_MAX: usize = 4096;

const PAGE_BYTES: u64 = 4096;

/// Adds the parts of a mapping, all of which is `whole`, that exist. Where that cannot be told there are none.
pub(crate) fn add_parts(mapping: &Mapping, whole: Segment, parts: &mut Vec<Segment>) {
    let bytes = mapping.bytes() as u64;
    let Some((file, offset)) = mapping.file() else {
        // Memory without a file is our own.
        return parts.push(whole);
    };
    if !mapping.prompt() {
        return;
    }
    if mapping.is_huge() {
        // hugetlbfs does not tell where its holes are; it tells whether there are any.
        let is_there = file
            .metadata()
            .is_ok_and(|file| is_whole(file.blocks(), file.len()));
        if is_there {
            parts.push(whole);
        }
        return;
    }
    // The position belongs to the open file description, and that one is the front-end's, too: we look by our own.
    let Ok(own) = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())) else {
        return;
    };
    let mut at = offset;
    for _ in 0..PARTS_SEEN_MAX {
        let Some(from) = seek(&own, at, libc::SEEK_DATA).filter(|&from| from < offset + bytes) else {
            return;
        };
        let to = seek(&own, from, libc::SEEK_HOLE).map_or(offset + bytes, |to| to.min(offset + bytes));
        let (first, last) = (from.next_multiple_of(PAGE_BYTES), to - to % PAGE_BYTES);
        // The mapping need not begin on a page of the file; what is left over of its first one stays out.
        if last.saturating_sub(first) >= PART_BYTES_MIN {
            parts.extend(whole.part((first - offset) as usize, (last - first) as usize));
        }
        at = to;
    }
}

/// Whether a file of so many blocks of 512 bytes has no holes.
fn is_whole(blocks: u64, bytes: u64) -> bool {
    blocks.saturating_mul(512) >= bytes
}

/// lseek(2); `None` behind the last data.
fn seek(file: &File, from: u64, what: libc::c_int) -> Option<u64> {
    let from = libc::off_t::try_from(from).ok()?;
    // SAFETY: a plain call on an open descriptor.
    let at = unsafe { libc::lseek(file.as_raw_fd(), from, what) };
    u64::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use crate::guest::{GuestMemory, RegionSpec};
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::os::unix::fs::{FileExt, MetadataExt};

    const MIB: u64 = 1 << 20;

    fn memfd(bytes: u64) -> std::fs::File {
        // SAFETY: the name is a C string, and nobody else owns the new descriptor.
        let file =
            unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"resident".as_ptr(), libc::MFD_CLOEXEC)) };
        let file = std::fs::File::from(file);
        file.set_len(bytes).unwrap();
        file
    }

    fn map(file: &std::fs::File, bytes: u64, mmap_offset: u64) -> std::sync::Arc<GuestMemory> {
        GuestMemory::map(vec![RegionSpec {
            guest_address: 0,
            bytes,
            user_address: 0,
            mmap_offset,
            file: file.try_clone().unwrap().into(),
        }])
        .unwrap()
    }

    #[test]
    fn only_what_was_written_is_there_and_looking_makes_no_page() {
        let file = memfd(10 << 30);
        let memory = map(&file, 9 << 30, MIB);
        assert!(memory.resident_segments(10).is_empty());
        file.write_all_at(&[1; 2 << 20], 2 * MIB).unwrap();
        file.write_all_at(&[1; 1 << 20], 6 << 30).unwrap();
        file.write_all_at(&[1; 4096], 8 << 30).unwrap();
        let base = memory.slice(0, 1).unwrap().address();
        let parts = |most| {
            let parts = memory.resident_segments(most);
            parts
                .iter()
                .map(|part| ((part.address() - base) as u64, part.bytes() as u64))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            parts(10),
            [(MIB, 2 * MIB), ((6 << 30) - MIB, MIB)],
            "a lone page is left out"
        );
        assert_eq!(parts(1), [(MIB, 2 * MIB)], "the longest are kept");
        assert_eq!(file.metadata().unwrap().blocks() * 512, 3 * MIB + 4096);
    }

    /// The parts of a region, as (first byte in it, bytes).
    fn parts(memory: &GuestMemory, most: usize) -> Vec<(u64, u64)> {
        let base = memory.slice(0, 1).unwrap().address();
        let parts = memory.resident_segments(most);
        let part = |part: &palisade_block::Segment| ((part.address() - base) as u64, part.bytes() as u64);
        parts.iter().map(part).collect()
    }

    #[test]
    fn the_longest_parts_come_by_address_and_the_shortest_of_all_is_of_16_pages() {
        let file = memfd(16 * MIB);
        for (at, bytes) in [
            (0, 16 * 4096),
            (MIB, 15 * 4096),
            (2 * MIB, MIB),
            (4 * MIB, 3 * MIB),
            (9 * MIB, 2 * MIB),
        ] {
            file.write_all_at(&vec![1; bytes as usize], at).unwrap();
        }
        let memory = map(&file, 16 * MIB, 0);
        let all = [
            (0, 16 * 4096),
            (2 * MIB, MIB),
            (4 * MIB, 3 * MIB),
            (9 * MIB, 2 * MIB),
        ];
        assert_eq!(parts(&memory, 9), all);
        assert_eq!(parts(&memory, 3), all[1..]);
        assert_eq!(parts(&memory, 2), all[2..]);
        assert_eq!(parts(&memory, 1), all[2..3]);
    }

    /// A region need neither begin nor end on a page of its file; what is left over of its first and last ones stays out.
    #[test]
    fn parts_are_whole_pages_of_the_file() {
        let file = memfd(4 * MIB);
        file.write_all_at(&vec![1; 2 << 20], MIB).unwrap();
        let memory = map(&file, 2 * MIB, MIB + 100);
        assert_eq!(parts(&memory, 9), [(4096 - 100, MIB + MIB - 4096)]);
        let memory = map(&file, MIB - 100, MIB + 4096);
        assert_eq!(parts(&memory, 9), [(0, MIB - 4096)]);
        // Data goes on where the region ends.
        let memory = map(&file, MIB, 0);
        assert_eq!(parts(&memory, 9), []);
    }

    #[test]
    fn huge_pages_are_there_all_or_not_at_all() {
        use super::is_whole;
        assert!(
            is_whole(8192, 4 << 20) && is_whole(8193, 4 << 20) && !is_whole(8191, 4 << 20) && is_whole(0, 0)
        );
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"huge".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_HUGETLB) };
        if fd < 0 {
            return; // This kernel has none.
        }
        // SAFETY: it has just been made, and nobody else owns it.
        let file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let huge = file.metadata().unwrap().blksize();
        assert!(huge > 4096);
        file.set_len(2 * huge).unwrap();
        // The kernel maps whole pages of the file's own size, from a multiple of it.
        let memory = map(&file, huge - 4096, huge + 4096);
        assert_eq!(memory.slice(0, 1).unwrap().address() as u64 % huge, 4096);
        assert_eq!(parts(&memory, 9), [], "no page has been made");
    }
}
