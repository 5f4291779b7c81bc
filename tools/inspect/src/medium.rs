//! Opening and reading a file or block device, sector by sector.

use palisade_wire::SECTOR_4K_BYTES;
use palisade_words::Lba;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// What kind of thing a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A block device.
    Block,
}

/// An open disk.
pub struct Medium {
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub bytes: u64,
    file: File,
    /// The same through the page cache, for pieces of any length.
    unaligned: File,
    buffer: Vec<u8>,
    aligned: usize,
}

impl Medium {
    /// Opens read-only. Past the page cache where that works, so that what another machine wrote is seen.
    pub fn open(path: &Path) -> io::Result<Medium> {
        // Looked at before it is opened: opening a pipe waits for a writer.
        let kind = std::fs::metadata(path)?.file_type();
        let kind = match (kind.is_file(), kind.is_block_device()) {
            (true, _) => Kind::File,
            (_, true) => Kind::Block,
            _ => {
                let message = "neither a file nor a block device";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        };
        let mut direct = OpenOptions::new();
        direct.read(true).custom_flags(libc::O_DIRECT);
        // tmpfs and some others refuse O_DIRECT; there the page cache is all there is.
        let mut file = direct.open(path).or_else(|_| File::open(path))?;
        let bytes = file.seek(SeekFrom::End(0))?;
        let unaligned = File::open(path)?;
        let buffer = vec![0; 2 * SECTOR_4K_BYTES];
        let aligned = buffer.as_ptr().align_offset(SECTOR_4K_BYTES);
        Ok(Medium {
            kind,
            bytes,
            file,
            unaligned,
            buffer,
            aligned,
        })
    }

    /// The sector at a position.
    pub fn sector(&mut self, lba: Lba) -> io::Result<[u8; SECTOR_4K_BYTES]> {
        let offset = lba.checked_bytes().ok_or(io::ErrorKind::InvalidInput)?;
        let end = self.aligned + SECTOR_4K_BYTES;
        let aligned = self
            .buffer
            .get_mut(self.aligned..end)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        self.file.read_exact_at(aligned, offset)?;
        let mut sector = [0; SECTOR_4K_BYTES];
        sector.copy_from_slice(aligned);
        Ok(sector)
    }

    /// Up to `bytes` from the start, as far as they can be read.
    pub fn head(&mut self, bytes: usize) -> Vec<u8> {
        let mut head = Vec::with_capacity(bytes);
        for index in 0..(bytes / SECTOR_4K_BYTES) as u64 {
            match self.sector(Lba(index * 8)) {
                Ok(sector) => head.extend_from_slice(&sector),
                Err(_) => break,
            }
        }
        // A last piece shorter than a sector, read by the byte.
        let begin = head.len() as u64;
        let rest = self.bytes.saturating_sub(begin);
        if rest > 0 && rest < SECTOR_4K_BYTES as u64 && head.len() < bytes {
            let mut piece = vec![0; rest as usize];
            if File::read_exact_at(&self.unaligned, &mut piece, begin).is_ok() {
                head.extend_from_slice(&piece);
            }
        }
        head
    }

    /// Looks for the first byte that is not zero, in the first [`LOOK_BYTES_MAX`] and the last MiB: 100 TiB are not read
    /// for one line of text. What cannot be read counts as not looked at.
    pub fn look_for_data(&mut self) -> Look {
        let sectors = self.bytes / SECTOR_4K_BYTES as u64;
        let front = sectors.min(LOOK_BYTES_MAX / SECTOR_4K_BYTES as u64);
        let back = sectors.saturating_sub(1 << 8).max(front);
        let mut whole = front == back;
        for index in (0..front).chain(back..sectors) {
            let Ok(sector) = self.sector(Lba(index * 8)) else {
                whole = false;
                continue;
            };
            if let Some(at) = sector.iter().position(|byte| *byte != 0) {
                return Look::Data {
                    offset: index * SECTOR_4K_BYTES as u64 + at as u64,
                };
            }
        }
        // A last piece shorter than a sector, read by the byte.
        let rest = self.bytes % SECTOR_4K_BYTES as u64;
        let mut piece = vec![0; rest as usize];
        let begin = self.bytes - rest;
        match File::read_exact_at(&self.unaligned, &mut piece, begin) {
            Ok(()) => {}
            Err(_) => whole = false,
        }
        match piece.iter().position(|byte| *byte != 0) {
            Some(at) => Look::Data {
                offset: begin + at as u64,
            },
            None if whole => Look::Zeroes,
            None => Look::ZeroesAtBothEnds,
        }
    }
}

/// How much of a medium's beginning is looked at for data.
pub const LOOK_BYTES_MAX: u64 = 256 << 20;

/// What a look for data has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Every byte is zero.
    Zeroes,
    /// Every byte looked at is zero, and not all were.
    ZeroesAtBothEnds,
    /// Something is there.
    Data {
        /// Where it begins.
        offset: u64,
    },
}
