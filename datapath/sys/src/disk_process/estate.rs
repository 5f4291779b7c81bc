//! What a dead daemon leaves behind in the memory that disk processes shared with it.
//!
//! As long as one of them hangs in the kernel that memory stays, with everything mapped into it. A mapped io_uring is an
//! open one: requests in it that have completed are not cleared away and hold their files, healthy disks among them, and
//! memory of guests stays though their VMM has gone. So the first disk process that sees the daemon gone unmaps all that
//! is shared with others (rings, memory of guests, in-flight regions). Nobody uses it: every thread of the daemon has
//! ended, and what is still on its way to a disk has its pages or finds nothing, and then fails.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Somebody has begun.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Longest beginning of a line of /proc/self/maps that matters: addresses and rights.
const HEAD: usize = 64;

/// Unmaps what is shared. To be called when no thread of the daemon is left.
pub(crate) fn wind_up() {
    if BEGUN.swap(true, SeqCst) {
        return;
    }
    // SAFETY: the path ends with a zero byte.
    let maps = unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if maps >= 0 {
        unmap_shared(maps);
        // SAFETY: it was opened above.
        unsafe { libc::close(maps) };
    }
}

/// Reads line by line without an allocation.
fn unmap_shared(maps: RawFd) {
    let mut line = Line::default();
    let mut buffer = [0u8; 4096];
    loop {
        // SAFETY: the buffer is ours and as long as told.
        let got = unsafe { libc::read(maps, buffer.as_mut_ptr().cast(), buffer.len()) };
        let Some(bytes) = usize::try_from(got).ok().and_then(|got| buffer.get(..got)) else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        for &byte in bytes {
            if let Some((start, end)) = line.take(byte) {
                // SAFETY: a mapping that others share, so no code, stack or heap of ours. Those who knew of it are dead.
                unsafe { libc::munmap(start as *mut libc::c_void, end - start) };
            }
        }
    }
}

/// The beginning of a line.
struct Line {
    head: [u8; HEAD],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Line {
            head: [0; HEAD],
            length: 0,
        }
    }
}

impl Line {
    /// Takes the next byte: at the end of a line that names a shared mapping, from where to where it goes.
    fn take(&mut self, byte: u8) -> Option<(usize, usize)> {
        if byte != b'\n' {
            if let Some(place) = self.head.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
            return None;
        }
        let found = shared_mapping(self.head.get(..self.length)?);
        self.length = 0;
        found
    }
}

/// `7f00a000-7f00b000 rw-s 00000000 00:0e 1043 anon_inode:[io_uring]`, see proc_pid_maps(5).
fn shared_mapping(line: &[u8]) -> Option<(usize, usize)> {
    let text = std::str::from_utf8(line).ok()?;
    let (range, rest) = text.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let shared = rest.as_bytes().get(3) == Some(&b's');
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    (shared && start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_mappings_are_found_and_each_once() {
        let text = "55d0c0a00000-55d0c0b00000 r-xp 00000000 fe:00 1234 /usr/bin/palisaded\n\
                    7f00a000-7f00b000 rw-s 00000000 00:0e 1043 anon_inode:[io_uring]\n\
                    7f00b000-7f00c000 rw-p 00000000 00:00 0 \n\
                    7f0000000000-7f0040000000 rw-s 00000000 00:01 77 /memfd:a very long name that goes on and on and on and on and on (deleted)\n\
                    7ffc0000-7ffd0000 rw-p 00000000 00:00 0 [stack]\n";
        let mut line = Line::default();
        let found: Vec<_> = text.bytes().filter_map(|byte| line.take(byte)).collect();
        assert_eq!(
            found,
            [(0x7f00a000, 0x7f00b000), (0x7f0000000000, 0x7f0040000000)]
        );
    }
}
