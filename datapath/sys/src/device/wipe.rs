//! Makes a disk forget what it was: no mark of a file system, partition table, volume manager or RAID is left that any
//! probe would take for one. What a disk holds between its marks stays there, without anything that leads to it.

use super::probe::{HEAD_BYTES, TAIL_BYTES, marks};
use super::{Media, Opened};
use std::io;
use std::os::fd::AsRawFd;

/// linux/fs.h: `_IO(0x12, 95)`.
const BLKRRPART: libc::Ioctl = 0x125f;

impl Opened {
    /// Wipes both ends of the disk and the places of copies between them, stable when this returns. Nothing is written
    /// before what [`probe`](super::probe::probe) finds has been shown to whoever asked for it.
    ///
    /// # Errors
    /// What writing says; the disk is half wiped then, and to be wiped again.
    pub fn wipe(&self) -> io::Result<()> {
        let bytes = self.sectors().bytes();
        let block = u64::from(self.limits().block_bytes);
        let tail = bytes.saturating_sub(TAIL_BYTES as u64) / block * block;
        let copies: Vec<_> = marks(self)?
            .into_iter()
            .map(|at| (at, (at + 4096).min(bytes)))
            .collect();
        // The tail first: a mark at the start alone would come to life by the copy at the end.
        let ends = [(tail, bytes), (0, bytes.min(HEAD_BYTES as u64))];
        for (from, to) in ends.into_iter().chain(copies) {
            self.erase_at(from, to - from)?;
        }
        self.sync()?;
        self.forget_partitions();
        Ok(())
    }

    /// Has the kernel read the partition table again, of which nothing is left. It refuses when it cannot, as for a
    /// disk that never has partitions, and then there are none to forget.
    fn forget_partitions(&self) {
        if let Media::Kernel(device) = self.media() {
            // SAFETY: BLKRRPART takes no argument; on what is no block device it is refused.
            let _ = device.ask(|file| Ok(unsafe { libc::ioctl(file.as_raw_fd(), BLKRRPART) }));
        }
    }
}
