//! What several targets need: reading an input piece by piece, and files with a fence around what is shared.

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// The bytes of an input, from the front. At the end everything reads as zero; [`Bytes::is_empty`] tells.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// Whether everything has been read.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Up to `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// One of the items, chosen by one byte.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::from(self.u8()) % items.len()]
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}

/// What stands where nobody may write.
const FENCE: u8 = 0xa5;

/// A shared file with areas that may be written and a fence around each.
#[derive(Debug)]
pub struct Fenced {
    file: File,
    areas: Vec<(u64, u64)>,
    bytes: u64,
}

impl Fenced {
    /// A file with areas of (offset, bytes), in order and apart.
    pub fn new(areas: &[(u64, u64)]) -> Fenced {
        let end = areas.last().map_or(0, |(offset, bytes)| offset + bytes);
        let bytes = end.next_multiple_of(4096) + 4096;
        let file = File::from(memfd(bytes));
        file.write_all_at(&vec![FENCE; bytes as usize], 0)
            .expect("a file in memory");
        Fenced {
            file,
            areas: areas.to_vec(),
            bytes,
        }
    }

    /// The file, once more.
    pub fn fd(&self) -> OwnedFd {
        self.file.try_clone().expect("a descriptor is free").into()
    }

    /// Gives all areas new content, one after the other; zeroes where `content` ends.
    pub fn fill(&self, mut content: &[u8]) {
        for &(offset, bytes) in &self.areas {
            let (here, rest) = content.split_at(content.len().min(bytes as usize));
            content = rest;
            let mut whole = here.to_vec();
            whole.resize(bytes as usize, 0);
            self.file.write_all_at(&whole, offset).expect("a file in memory");
        }
    }

    /// Panics when the fence has been written.
    pub fn check(&self) {
        let starts = std::iter::once(0).chain(self.areas.iter().map(|(offset, bytes)| offset + bytes));
        let ends = self.areas.iter().map(|(offset, _)| *offset).chain([self.bytes]);
        for (start, end) in starts.zip(ends) {
            let mut fence = vec![0; (end - start) as usize];
            self.file
                .read_exact_at(&mut fence, start)
                .expect("a file in memory");
            let broken = fence.iter().position(|byte| *byte != FENCE);
            assert_eq!(broken.map(|at| start + at as u64), None, "written outside");
        }
    }
}

/// A file in memory.
pub fn memfd(bytes: u64) -> OwnedFd {
    let file =
        memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a file in memory");
    ftruncate(&file, bytes).expect("a file in memory");
    file
}
