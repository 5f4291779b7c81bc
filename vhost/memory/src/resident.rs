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
            .is_ok_and(|file| file.blocks() * 512 >= file.len());
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
        if to <= at || to >= offset + bytes {
            return;
        }
        at = to;
    }
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
}
