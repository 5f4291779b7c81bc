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
    let Some(at) = at else {
        return (told, block);
    };
    let Ok(mut pages) = MmapMut::map_anon(PAGES * PAGE) else {
        return strictest(told, block);
    };
    let base = pages.as_mut_ptr() as usize;
    units(told, block, base, |pieces| reads(file, pieces, at))
}

/// What every device takes.
pub(super) fn strictest(told: u32, block: u32) -> (u32, u32) {
    (told.max(block), block)
}

/// The units by what `takes` says of pieces, each an address and a length, of the pages at `base`; together they are one
/// block.
fn units(told: u32, block: u32, base: usize, mut takes: impl FnMut(&[(usize, usize)]) -> bool) -> (u32, u32) {
    let (address, whole) = (told.max(1) as usize, block as usize);
    if address >= whole || !address.is_power_of_two() || !takes(&[(base + address, whole)]) {
        return strictest(told, block);
    }
    // The first piece ends in the middle of a page, and the second begins elsewhere.
    let pieces = [(base, address), (base + (PAGES / 2) * PAGE, whole - address)];
    let length = if takes(&pieces) { address } else { whole };
    (address as u32, length as u32)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    /// What a kernel and a device ask of the pieces of a block.
    type Rule = fn(&[(usize, usize)]) -> bool;

    const BASE: usize = 0x7f00_0000_0000;

    fn addresses(pieces: &[(usize, usize)], unit: usize) -> bool {
        pieces.iter().all(|&(address, _)| address % unit == 0)
    }

    fn lengths(pieces: &[(usize, usize)], unit: usize) -> bool {
        pieces.iter().all(|&(_, bytes)| bytes % unit == 0)
    }

    /// Kernels from 6.0 to 6.17: each length is a whole number of blocks.
    const STRICT_512: Rule = |pieces| addresses(pieces, 4) && lengths(pieces, 512);
    const STRICT_4096: Rule = |pieces| addresses(pieces, 4) && lengths(pieces, 4096);
    /// Later ones: lengths as addresses.
    const LENIENT: Rule = |pieces| addresses(pieces, 4) && lengths(pieces, 4);
    /// Later ones on NVMe without scatter-gather lists: only the first piece begins and only the last ends within a page.
    const PAGES_ONLY: Rule = |pieces| {
        let inner = pieces.windows(2).all(|two| match *two {
            [(address, bytes), (next, _)] => (address + bytes) % PAGE == 0 && next % PAGE == 0,
            _ => true,
        });
        LENIENT(pieces) && inner
    };
    /// A device that takes less than the kernel tells of it.
    const LIAR: Rule = |pieces| addresses(pieces, 512) && lengths(pieces, 512);
    const BROKEN: Rule = |_| false;
    const ANYTHING: Rule = |_| true;

    #[test]
    fn each_kernel_and_device_is_given_what_it_takes() {
        let table = [
            ("6.1 on NVMe", 4, 512, STRICT_512, (4, 512)),
            ("6.1 on NVMe of 4096", 4, 4096, STRICT_4096, (4, 4096)),
            ("6.18 on NVMe with lists", 4, 512, LENIENT, (4, 4)),
            ("6.18 on NVMe with lists, of 4096", 4, 4096, LENIENT, (4, 4)),
            ("6.18 on NVMe without", 4, 512, PAGES_ONLY, (4, 512)),
            ("told too little", 4, 512, LIAR, (512, 512)),
            ("nothing can be read", 4, 4096, BROKEN, (4096, 4096)),
            ("anything goes", 1, 512, ANYTHING, (1, 1)),
            ("told nothing", 0, 512, ANYTHING, (1, 1)),
        ];
        for (name, told, block, rule, wanted) in table {
            assert_eq!(units(told, block, BASE, rule), wanted, "{name}");
        }
    }

    #[test]
    fn what_was_told_and_makes_no_sense_is_not_tried() {
        for (told, block, wanted) in [
            (512, 512, (512, 512)),
            (4096, 512, (4096, 512)),
            (3, 512, (512, 512)),
        ] {
            let found = units(told, block, BASE, |_| unreachable!("{told} was tried"));
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn what_is_tried_is_one_block_within_the_pages() {
        for (told, block) in [(1, 512), (4, 512), (4, 4096), (2048, 4096)] {
            units(told, block, BASE, |pieces| {
                let bytes: usize = pieces.iter().map(|&(_, bytes)| bytes).sum();
                assert_eq!(bytes, block as usize);
                let end = BASE + PAGES * PAGE;
                assert!(pieces.iter().all(|&(at, bytes)| at >= BASE && at + bytes <= end));
                true
            });
        }
    }

    #[test]
    fn a_file_is_tried_where_it_has_data_and_nowhere_else() {
        // Beside this program is no tmpfs, which older kernels do not open so.
        let own = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
        let path = directory.path().join("disk");
        std::fs::write(&path, vec![7; 2 * PAGE]).unwrap();
        let mut options = File::options();
        let file = options
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .unwrap();
        file.sync_all().unwrap();
        let mut pages = MmapMut::map_anon(2 * PAGE).unwrap();
        let base = pages.as_mut_ptr() as usize;
        assert!(reads(&file, &[(base, PAGE)], 0));
        assert!(pages.iter().take(PAGE).all(|&byte| byte == 7));
        assert!(
            !reads(&file, &[(base, 2 * PAGE)], PAGE as u64),
            "a short read is none"
        );
        assert!(!reads(&file, &[(1, PAGE)], 0), "no memory of ours");
        assert_eq!(first_data(&file), Some(0));
        let (address, length) = tried(&file, 4, 512, Some(0));
        assert!((4..=512).contains(&address) && (address..=512).contains(&length));
        // Beyond its end nothing can be read, in a hole everything.
        assert_eq!(tried(&file, 4, 512, Some(1 << 30)), (512, 512));
        assert_eq!(tried(&file, 4, 512, None), (4, 512));
    }
}
