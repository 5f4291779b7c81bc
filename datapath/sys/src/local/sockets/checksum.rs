//! The checksum of a payload, taken piece by piece.

use palisade_block::Segment;
use std::ptr;

/// Memory that others may change is not made a reference, but copied to here first: in pieces that stay in the first cache.
const PIECE_BYTES: usize = 4096;

/// CRC-32C of what it was shown so far, as a frame's header has it.
#[derive(Debug)]
pub(super) struct RunningChecksum(crc_fast::Digest);

impl RunningChecksum {
    /// Of nothing.
    pub(super) fn new() -> RunningChecksum {
        RunningChecksum(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }

    #[inline]
    pub(super) fn restart(&mut self) {
        self.0.reset();
    }

    #[inline]
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// # Safety
    /// The segment is mapped.
    pub(super) unsafe fn add_segment(&mut self, segment: Segment) {
        let mut piece = [0u8; PIECE_BYTES];
        for from in (0..segment.bytes()).step_by(PIECE_BYTES) {
            let bytes = (segment.bytes() - from).min(PIECE_BYTES);
            let source = ptr::with_exposed_provenance::<u8>(segment.address() + from);
            // SAFETY: the caller answers for the segment, and so many bytes of it begin there; the piece is as long at least.
            unsafe { ptr::copy_nonoverlapping(source, piece.as_mut_ptr(), bytes) };
            self.0.update(piece.get(..bytes).unwrap_or_default());
        }
    }

    #[inline]
    pub(super) fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}
