//! What direct I/O really asks of memory, found out by trying.
//!
//! What the kernel tells (STATX_DIOALIGN) is the unit of addresses. Of the length of each segment it tells nothing, and
//! what it asks has changed: kernels from 6.0 to 6.17 refuse a segment that is not a whole number of logical blocks
//! (EINVAL at submission, or EIO from the device), later ones take any if the device can start in the middle of a page,
//! which NVMe without scatter-gather lists cannot. So a block is read in pieces, and what is refused is not used: whole
//! blocks are taken everywhere.

use memmap2::MmapMut;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Units of addresses and of lengths that the file takes, from what it has told of addresses and its logical block.
/// `at` is where data lies: from a hole anything can be read.
pub(super) fn tried(file: &File, told: u32, block: u32, at: Option<u64>) -> (u32, u32) {
    let strict = (told.max(block), block);
    let Some(at) = at else {
        return (told, block);
    };
    let Ok(mut pages) = MmapMut::map_anon(PAGES * PAGE) else {
        return strict;
    };
    let (told, block) = (told.max(1) as usize, block as usize);
    if told >= block || !told.is_power_of_two() {
        return strict;
    }
    let base = pages.as_mut_ptr() as usize;
    let whole = [(base + told, block)];
    if !reads(file, &whole, at) {
        return strict;
    }
    // The first piece ends in the middle of a page, and the second begins elsewhere.
    let pieces = [(base, told), (base + (PAGES / 2) * PAGE, block - told)];
    let any_length = reads(file, &pieces, at);
    (told as u32, if any_length { told as u32 } else { block as u32 })
}

/// Where a file has data first that is on its medium, in whole pages; `None` when it has none.
pub(super) fn first_data(file: &File) -> Option<u64> {
    // SAFETY: lseek takes no pointers. Nobody uses the position.
    let found = unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_DATA) };
    u64::try_from(found).ok().map(|at| at / PAGE as u64 * PAGE as u64)
}

const PAGE: usize = 4096;
const PAGES: usize = 8;

/// Whether all of the pieces of our memory can be filled from there.
fn reads(file: &File, pieces: &[(usize, usize)], at: u64) -> bool {
    let all: usize = pieces.iter().map(|&(_, bytes)| bytes).sum();
    let list: Vec<_> = pieces
        .iter()
        .map(|&(address, bytes)| libc::iovec {
            iov_base: address as *mut _,
            iov_len: bytes,
        })
        .collect();
    loop {
        // SAFETY: each piece lies in the mapping of our caller, which outlives the call.
        let got = unsafe {
            libc::preadv(
                file.as_raw_fd(),
                list.as_ptr(),
                list.len() as libc::c_int,
                at as libc::off_t,
            )
        };
        if got < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        return usize::try_from(got) == Ok(all);
    }
}
