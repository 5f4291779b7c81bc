//! One block operation in flight, and the token by which it is answered exactly once (invariant 1).

use crate::limits::SEGMENTS_PER_SLOT;
use crate::units::{Lba, Sectors};

/// What is to be done with a range of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// Device to memory.
    Read,
    /// Memory to device.
    Write,
    /// Everything acknowledged before is on stable storage when this is answered (virtio 1.3, 5.2.6.2).
    Flush,
    /// The range's content is no longer wanted.
    Discard,
    /// The range reads as zeroes afterwards.
    WriteZeroes {
        /// The range may be deallocated.
        unmap: bool,
    },
}

impl Op {
    /// How many kinds there are, for tables of counters.
    pub const KINDS: usize = 5;

    /// The kind as a position in a table of counters.
    pub fn kind(self) -> usize {
        match self {
            Op::Read => 0,
            Op::Write => 1,
            Op::Flush => 2,
            Op::Discard => 3,
            Op::WriteZeroes { .. } => 4,
        }
    }

    /// Names of the kinds, in the order of [`Op::kind`]; also the label values of metrics.
    pub const NAMES: [&'static str; Op::KINDS] = ["read", "write", "flush", "discard", "write_zeroes"];

    /// Whether the operation changes the volume.
    pub fn changes(self) -> bool {
        matches!(self, Op::Write | Op::Discard | Op::WriteZeroes { .. })
    }

    /// Whether the operation moves data between memory and device.
    pub fn moves_data(self) -> bool {
        matches!(self, Op::Read | Op::Write)
    }
}

/// One piece of memory in this process's address space. The layout is that of `struct iovec`, so that a list of
/// segments is handed to the kernel as it is.
///
/// It is an address and nothing more: who puts one into a request keeps the memory mapped until the request has
/// been answered.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Address in this process.
    pub address: usize,
    /// Length in bytes.
    pub bytes: usize,
}

/// The segments of one request, in a place that is allocated once and used again.
#[derive(Clone, Debug)]
pub struct SegmentList {
    len: usize,
    bytes: u64,
    items: [Segment; SEGMENTS_PER_SLOT],
}

impl Default for SegmentList {
    fn default() -> Self {
        SegmentList {
            len: 0,
            bytes: 0,
            items: [Segment { address: 0, bytes: 0 }; SEGMENTS_PER_SLOT],
        }
    }
}

impl SegmentList {
    /// Forgets all segments.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
        self.bytes = 0;
    }

    /// Adds a segment; false when there is no room.
    #[inline]
    pub fn push(&mut self, segment: Segment) -> bool {
        match self.items.get_mut(self.len) {
            Some(place) => {
                *place = segment;
                self.len += 1;
                self.bytes = self.bytes.wrapping_add(segment.bytes as u64);
                true
            }
            None => false,
        }
    }

    /// The segments in order.
    #[inline]
    pub fn as_slice(&self) -> &[Segment] {
        self.items.get(..self.len).unwrap_or(&[])
    }

    /// The sum of the segments' lengths in bytes.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many segments there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The right and the duty to answer one request. It is made by the [`Source`](crate::Source) that handed the
/// request over and is given back to it once; in a debug build dropping one stops the program.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "every request is answered exactly once"]
pub struct Token {
    /// The source's own name for the request: the head of the descriptor chain.
    pub head: u16,
    /// Bytes that a successful answer writes into the guest's data buffers.
    pub bytes_in: u32,
    /// Address in this process of the status byte, 0 when the source keeps none.
    pub reply: usize,
}

impl Token {
    /// Ends the token's life on purpose: the answer has been given.
    #[inline]
    pub fn spend(self) {
        std::mem::forget(self);
    }
}

#[cfg(debug_assertions)]
impl Drop for Token {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking(),
            "request {} was dropped without an answer",
            self.head
        );
    }
}

/// A parsed request: direction, lengths and descriptors have been checked by the source, the range by the engine.
#[derive(Debug)]
pub struct Request {
    /// By which it is answered.
    pub token: Token,
    /// What is to be done.
    pub op: Op,
    /// First sector on the volume.
    pub lba: Lba,
    /// Length; for reads and writes it equals the bytes of the segments. Zero for a flush.
    pub sectors: Sectors,
}

/// The answer a guest gets (virtio 1.3, 5.2.6: the status byte).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    /// `VIRTIO_BLK_S_OK`
    Ok = 0,
    /// `VIRTIO_BLK_S_IOERR`
    IoErr = 1,
    /// `VIRTIO_BLK_S_UNSUPP`
    Unsupp = 2,
}
