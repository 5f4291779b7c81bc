//! Making a stretch of a device read as zeros, in the cheapest way for which that is guaranteed.
//!
//! A plain discard is none: what is read afterwards is whatever the device likes (ATA's DSM TRIM without RZAT, NVMe's
//! Dataset Management, SCSI's UNMAP without LBPRZ). These guarantee zeros:
//!
//! | device | way | what it does |
//! |---|---|---|
//! | file | a hole is there already (`SEEK_DATA`, lseek(2)) | nothing; also space that is reserved and never written |
//! | file that keeps its space | `FALLOC_FL_ZERO_RANGE` | zeros, and the space stays reserved; how far: `local/flight.rs` |
//! | the same on a full file system that takes new space for that (btrfs) | zeros are written | |
//! | other file | `FALLOC_FL_PUNCH_HOLE` | a hole, for which a full file system has room as well |
//! | block device | `FALLOC_FL_PUNCH_HOLE` | the device's own command for zeros, which may unmap; never plain discard |
//! | block device | `BLKZEROOUT` | the same without unmapping, or zeros written by the kernel |
//! | any other | zeros are written | |

use super::{KernelDevice, Media, Opened};
use crate::HugeMemory;
use palisade_block::DeviceKind;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

/// `BLKZEROOUT` of linux/fs.h: `_IO(0x12, 127)`.
const BLKZEROOUT: libc::c_ulong = 0x127f;

const PUNCH: libc::c_int = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
const ZERO: libc::c_int = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

/// Bytes that are written at a time where nothing else works.
const WRITE_BYTES: u64 = 1 << 20;

impl Opened {
    /// Makes `bytes` bytes from `offset` on read as zeros. Nobody else may use them meanwhile. It is stable after
    /// [`Opened::sync`]. Takes as long as the device needs for it: callers cut long stretches to go on with other work.
    ///
    /// # Errors
    /// `InvalidInput` when misaligned or beyond the end; `ReadOnlyFilesystem`; what the kernel says. After an error some
    /// of it may read as zeros and the rest as before.
    pub fn clear(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let block = u64::from(self.limits.block_bytes);
        if !offset.is_multiple_of(block) || !bytes.is_multiple_of(block) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let end = offset
            .checked_add(bytes)
            .filter(|&end| end <= self.sectors().bytes())
            .ok_or(io::ErrorKind::InvalidInput)?;
        if self.limits.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        match &self.media {
            Media::Null => Ok(()),
            Media::Memory(memory) => {
                for at in (offset..end).step_by(WRITE_BYTES as usize) {
                    let length = WRITE_BYTES.min(end - at);
                    clear_memory(memory, at, length);
                }
                Ok(())
            }
            Media::Kernel(device) if self.limits.kind == DeviceKind::Block => {
                self.clear_block(device, offset, bytes)
            }
            Media::Kernel(device) => self.clear_file(device, offset, end),
        }
    }

    /// Writes zeros, stable after [`Opened::sync`]. In a file what reads as zeros already is left alone, so that a file with
    /// holes on a full file system can be made to forget something.
    ///
    /// # Errors
    /// As [`Opened::clear`].
    pub fn erase_at(&self, offset: u64, bytes: u64) -> io::Result<()> {
        match &self.media {
            Media::Kernel(_) if self.limits.kind == DeviceKind::File => self.clear(offset, bytes),
            _ => self.write_zeros(offset, bytes),
        }
    }

    fn clear_block(&self, device: &KernelDevice, offset: u64, bytes: u64) -> io::Result<()> {
        by_the_first_way_offered(&mut [
            &mut || device.fallocate(PUNCH, offset, bytes),
            &mut || device.ask(|file| zero_out(file, offset, bytes)),
            &mut || self.write_zeros(offset, bytes),
        ])
    }

    /// Whatever is data between `offset` and `end` becomes zeros; holes are left as they are.
    fn clear_file(&self, device: &KernelDevice, offset: u64, end: u64) -> io::Result<()> {
        let ways = match self.keeps_space {
            true => [ZERO, ZERO],
            false => [PUNCH, ZERO],
        };
        let mut at = offset;
        while let Some((start, stop)) = device.ask(|file| next_data(file, at, end))? {
            let length = stop - start;
            let [first, second] = ways;
            // For want of space as well: btrfs takes new space before it gives back what it zeroes, and what is there
            // already can be written to.
            let unless_full = |done: io::Result<()>| match done {
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
                }
                done => done,
            };
            by_the_first_way_offered(&mut [
                &mut || unless_full(device.fallocate(first, start, length)),
                &mut || unless_full(device.fallocate(second, start, length)),
                &mut || self.write_zeros(start, length),
            ])?;
            at = stop;
        }
        Ok(())
    }

    fn write_zeros(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let zeros = vec![0; WRITE_BYTES.min(bytes) as usize];
        let end = offset + bytes;
        for at in (offset..end).step_by(WRITE_BYTES as usize) {
            let length = WRITE_BYTES.min(end - at) as usize;
            self.write_at(at, zeros.get(..length).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// The next stretch of a file from `at` on that is not known to be a hole, up to `end`. A file system that does not tell
/// holes has none. Its borders are widened to whole sectors, which the ways of clearing ask for.
fn next_data(file: &File, at: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= end {
        return Ok(None);
    }
    let start = match seek(file, at, libc::SEEK_DATA) {
        Ok(start) => start / 4096 * 4096,
        // Nothing but a hole up to the end of the file.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
        Err(_) => return Ok(Some((at, end))),
    };
    if start >= end {
        return Ok(None);
    }
    let start = start.max(at);
    let stop = seek(file, start, libc::SEEK_HOLE).unwrap_or(end);
    let stop = stop.checked_next_multiple_of(4096).unwrap_or(end).min(end);
    // One that claims to find a hole before where it was to look is not believed.
    Ok(Some((start, if stop > start { stop } else { end })))
}

/// lseek(2). Nobody uses the position.
pub(super) fn seek(file: &File, offset: u64, whence: libc::c_int) -> io::Result<u64> {
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: lseek takes no pointers.
    match unsafe { libc::lseek(file.as_raw_fd(), offset, whence) } {
        -1 => Err(io::Error::last_os_error()),
        found => Ok(found as u64),
    }
}

fn zero_out(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let range = [offset, bytes];
    // SAFETY: BLKZEROOUT reads two 64-bit numbers, to which the pointer points.
    match unsafe { libc::ioctl(file.as_raw_fd(), BLKZEROOUT, range.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Memory that was never written to is only looked at: writing would take its pages. Should somebody use it meanwhile all
/// the same, he gets bytes or zeros, as of a disk: no reference to it is made here either.
fn clear_memory(memory: &HugeMemory, offset: u64, bytes: u64) {
    let start = memory.at(offset, bytes);
    // SAFETY: `at` has checked the range; the mapping is there as long as `memory`, and bytes need no alignment.
    let is_set = |at: usize| unsafe { start.add(at).read_volatile() } != 0;
    if (0..bytes as usize).any(is_set) {
        // SAFETY: as above.
        unsafe { ptr::write_bytes(start, 0, bytes as usize) };
    }
}

/// A way of making a stretch read as zeros, tried.
type Way<'a> = &'a mut dyn FnMut() -> io::Result<()>;

/// Takes the first way that is offered there. One that is, and fails, has failed: another would hide why.
fn by_the_first_way_offered(ways: &mut [Way<'_>]) -> io::Result<()> {
    let mut done = Err(io::ErrorKind::Unsupported.into());
    for way in ways {
        done = way();
        match &done {
            Err(error) if is_not_offered(error) => {}
            _ => return done,
        }
    }
    done
}

/// EINVAL is what kernels and file systems say of a mode or an ioctl that they do not know.
fn is_not_offered(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOSYS | libc::EINVAL | libc::EPERM | libc::ENODEV)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of ways that answer so, in this order, and how many were tried. 0: it was done.
    fn answers(errnos: &[i32]) -> (Option<i32>, usize) {
        let tried = std::cell::Cell::new(0);
        let way = |&errno: &i32| {
            let tried = &tried;
            move || {
                tried.set(tried.get() + 1);
                match errno {
                    0 => Ok(()),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                }
            }
        };
        let mut ways: Vec<_> = errnos.iter().map(way).collect();
        let mut ways: Vec<Way<'_>> = ways.iter_mut().map(|way| way as Way<'_>).collect();
        let done = by_the_first_way_offered(&mut ways);
        (done.err().and_then(|error| error.raw_os_error()), tried.get())
    }

    #[test]
    fn what_is_not_offered_is_done_in_the_next_way() {
        for not_offered in [
            libc::EOPNOTSUPP,
            libc::ENOTTY,
            libc::ENOSYS,
            libc::EINVAL,
            libc::EPERM,
            libc::ENODEV,
        ] {
            assert_eq!(answers(&[0, 0, 0]), (None, 1));
            assert_eq!(answers(&[not_offered, 0, 0]), (None, 2));
            assert_eq!(answers(&[not_offered, not_offered, 0]), (None, 3));
            // Nothing is left: it is not taken for done.
            assert_eq!(
                answers(&[not_offered, not_offered, not_offered]),
                (Some(not_offered), 3)
            );
        }
    }

    #[test]
    fn what_fails_has_failed() {
        for errno in [libc::EIO, libc::ENOSPC, libc::EROFS, libc::EBADE, libc::ENXIO] {
            assert_eq!(answers(&[errno, 0, 0]), (Some(errno), 1));
            assert_eq!(answers(&[libc::EOPNOTSUPP, errno, 0]), (Some(errno), 2));
        }
    }
}
