//! Reading and writing outside the data path: superblocks and the like, one call at a time, on a control thread.

use super::clear::seek;
use super::{KernelDevice, Media, Opened};
use palisade_block::DeviceKind;
use std::io;
use std::ptr;

/// Buffers, offsets and lengths of direct I/O are multiples of it everywhere.
const ALIGNMENT: usize = 4096;

impl Opened {
    /// Reads from `offset` bytes on, all of `to`. Any offset and length will do for a read.
    ///
    /// # Errors
    /// `UnexpectedEof` beyond the end; what pread(2) says.
    pub fn read_at(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        match &self.media {
            Media::Null => self.check(offset, to.len()).map(|()| to.fill(0)),
            Media::Memory(memory) => {
                self.check(offset, to.len())?;
                // SAFETY: `at` has checked the range, and `to` is a buffer of the caller's.
                unsafe {
                    ptr::copy_nonoverlapping(memory.at(offset, to.len() as u64), to.as_mut_ptr(), to.len())
                };
                Ok(())
            }
            Media::Kernel(device) => {
                let skip = (offset % ALIGNMENT as u64) as usize;
                let mut buffer = Aligned::new(skip + to.len());
                let from = offset - skip as u64;
                let got = read_most(device, buffer.slice(), from)?;
                let data = buffer.slice().get(skip..got.min(skip + to.len()));
                match data.filter(|data| data.len() == to.len()) {
                    Some(data) => {
                        to.copy_from_slice(data);
                        Ok(())
                    }
                    None => Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        }
    }

    /// Whether nothing has been written to a range of a file, which reads as zeros then; false for what is no file, and where
    /// the file system does not tell. What lies behind the end of a file is a hole.
    ///
    /// # Errors
    /// What lseek(2) says.
    pub fn is_hole(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        match &self.media {
            Media::Kernel(device) if self.limits.kind == DeviceKind::File => {
                match device.ask(|file| seek(file, offset, libc::SEEK_DATA)) {
                    Ok(data) => Ok(data >= offset.saturating_add(bytes)),
                    // Nothing but a hole up to the end of the file.
                    Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(true),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(false),
        }
    }

    /// Writes all of `from` at `offset` bytes. Both offset and length must be multiples of the logical block. It is
    /// stable after [`Opened::sync`].
    ///
    /// # Errors
    /// `InvalidInput` when misaligned or beyond the end; what pwrite(2) says.
    pub fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let block = u64::from(self.limits.block_bytes);
        if !offset.is_multiple_of(block) || !(from.len() as u64).is_multiple_of(block) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.check(offset, from.len())?;
        if self.limits.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        match &self.media {
            Media::Null => Ok(()),
            Media::Memory(memory) => {
                // SAFETY: `at` has checked the range, and `from` is a buffer of the caller's.
                unsafe {
                    ptr::copy_nonoverlapping(from.as_ptr(), memory.at(offset, from.len() as u64), from.len())
                };
                Ok(())
            }
            Media::Kernel(device) => {
                let mut buffer = Aligned::new(from.len());
                let (data, _) = buffer.slice().split_at_mut(from.len());
                data.copy_from_slice(from);
                device.write_all(data, offset)
            }
        }
    }

    /// Makes everything written stable, the device's own cache included.
    ///
    /// # Errors
    /// What fdatasync(2) says.
    pub fn sync(&self) -> io::Result<()> {
        match &self.media {
            Media::Null | Media::Memory(_) => Ok(()),
            Media::Kernel(device) => device.sync(),
        }
    }

    fn check(&self, offset: u64, bytes: usize) -> io::Result<()> {
        match offset.checked_add(bytes as u64) {
            Some(end) if end <= self.sectors().bytes() => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Reads until the buffer is full or the file ends. A piece that ends off a block's border is the last one.
fn read_most(device: &KernelDevice, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match device.read(rest, offset + got as u64) {
            Ok(0) => break,
            Ok(more) => {
                got += more;
                if !got.is_multiple_of(512) {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// A buffer whose start and length are multiples of [`ALIGNMENT`].
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(bytes: usize) -> Aligned {
        let len = bytes.next_multiple_of(ALIGNMENT);
        let bytes = vec![0; len + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Aligned { bytes, start, len }
    }

    fn slice(&mut self) -> &mut [u8] {
        let end = self.start + self.len;
        self.bytes.get_mut(self.start..end).unwrap_or_default()
    }
}
