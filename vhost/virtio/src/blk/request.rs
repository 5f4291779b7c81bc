//! The parts of a chain, parsed into a request (virtio 1.3, 5.2.6). Each refusal says which status the guest gets.

use crate::blk::features::Features;
use crate::blk::{RANGE_BYTES, RANGE_UNMAP, kind};
use crate::chain::{Malformed, Parts};
use palisade_block::limits::{DISCARD_SECTORS_MAX, REQUEST_BYTES_MAX};
use palisade_block::{Op, SegmentList};
use palisade_memory::MemoryView;
use palisade_words::{Lba, SECTOR_BYTES, Sectors};

/// What a queue accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// What the guest has negotiated.
    pub(crate) features: Features,
    /// Whether requests that change the volume are accepted.
    pub(crate) writable: bool,
    /// Logical block in bytes, a power of two of at least 512.
    pub(crate) block_bytes: u32,
}

/// A parsed request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parsed {
    /// For the engine.
    Block {
        op: Op,
        lba: Lba,
        sectors: Sectors,
        /// Bytes a success writes into the data segments.
        bytes_in: u32,
    },
    /// The device id, to be written to the data segments.
    Id,
}

/// Why there is no request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// `IOERR`: not a request.
    Malformed,
    /// `IOERR`: the range is longer than offered.
    TooLong,
    /// `IOERR`: would change a read-only volume.
    ReadOnly,
    /// `UNSUPP`
    Unsupported,
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Refusal {
        Refusal::Malformed
    }
}

impl Rules {
    /// Parses. For requests that move no data the segments are cleared.
    #[inline(always)]
    pub(crate) fn parse(
        &self,
        parts: Parts,
        view: &MemoryView,
        segments: &mut SegmentList,
    ) -> Result<Parsed, Refusal> {
        // type u32, reserved u32, sector u64
        let header = parts.header;
        let lba = Lba((header >> 64) as u64);
        match header as u32 {
            kind::IN if parts.readable_segments == 0 => {
                let sectors = self.data_sectors(segments)?;
                let bytes_in = segments.bytes() as u32;
                Ok(Parsed::Block {
                    op: Op::Read,
                    lba,
                    sectors,
                    bytes_in,
                })
            }
            kind::OUT if parts.readable_segments == segments.len() => {
                if !self.writable {
                    return Err(Refusal::ReadOnly);
                }
                let sectors = self.data_sectors(segments)?;
                Ok(Parsed::Block {
                    op: Op::Write,
                    lba,
                    sectors,
                    bytes_in: 0,
                })
            }
            kind::IN | kind::OUT => Err(Refusal::Malformed),
            other => self.parse_rare(other, parts.readable_segments, view, segments),
        }
    }

    fn parse_rare(
        &self,
        kind: u32,
        readable_segments: usize,
        view: &MemoryView,
        segments: &mut SegmentList,
    ) -> Result<Parsed, Refusal> {
        match kind {
            kind::FLUSH if self.features.contains(Features::FLUSH) => {
                segments.clear();
                let (lba, sectors) = (Lba(0), Sectors::ZERO);
                Ok(Parsed::Block {
                    op: Op::Flush,
                    lba,
                    sectors,
                    bytes_in: 0,
                })
            }
            kind::GET_ID if readable_segments == 0 && !segments.is_empty() => Ok(Parsed::Id),
            kind::GET_ID => Err(Refusal::Malformed),
            kind::DISCARD if self.features.contains(Features::DISCARD) => {
                let range = self.range(readable_segments, view, segments)?;
                // "If the unmap flag is set for discard commands": UNSUPP (5.2.6.2).
                if range.unmap {
                    return Err(Refusal::Unsupported);
                }
                Ok(range.request(Op::Discard))
            }
            kind::WRITE_ZEROES if self.features.contains(Features::WRITE_ZEROES) => {
                let range = self.range(readable_segments, view, segments)?;
                Ok(range.request(Op::WriteZeroes { unmap: range.unmap }))
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    /// The length of a read or write: whole logical blocks, at least one.
    #[inline]
    fn data_sectors(&self, segments: &SegmentList) -> Result<Sectors, Refusal> {
        let bytes = segments.bytes();
        let whole = bytes & u64::from(self.block_bytes - 1) == 0;
        if !whole || bytes == 0 || bytes > REQUEST_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        Ok(Sectors(bytes / SECTOR_BYTES))
    }

    /// The one range of a discard or write-zeroes request: `max_discard_seg` and `max_write_zeroes_seg` are 1.
    fn range(
        &self,
        readable_segments: usize,
        view: &MemoryView,
        segments: &mut SegmentList,
    ) -> Result<Range, Refusal> {
        if !self.writable {
            return Err(Refusal::ReadOnly);
        }
        let bytes = segments.bytes();
        let readable = readable_segments == segments.len();
        if !readable || bytes == 0 || !bytes.is_multiple_of(RANGE_BYTES as u64) {
            return Err(Refusal::Malformed);
        }
        if bytes > RANGE_BYTES as u64 {
            return Err(Refusal::Unsupported);
        }
        let mut raw = [0; RANGE_BYTES];
        let mut places = raw.iter_mut();
        for segment in segments.as_slice() {
            for (offset, place) in (0..segment.bytes()).zip(&mut places) {
                if !view.read_host(segment.address() + offset, std::slice::from_mut(place)) {
                    return Err(Refusal::Malformed);
                }
            }
        }
        segments.clear();
        Range::decode(raw)
    }
}

/// `struct virtio_blk_discard_write_zeroes`
#[derive(Clone, Copy, Debug)]
struct Range {
    lba: Lba,
    sectors: u32,
    unmap: bool,
}

impl Range {
    fn decode(raw: [u8; RANGE_BYTES]) -> Result<Range, Refusal> {
        let raw = u128::from_le_bytes(raw);
        let (lba, sectors, flags) = (raw as u64, (raw >> 64) as u32, (raw >> 96) as u32);
        if flags & !RANGE_UNMAP != 0 {
            return Err(Refusal::Unsupported);
        }
        if sectors > DISCARD_SECTORS_MAX {
            return Err(Refusal::TooLong);
        }
        if sectors == 0 {
            return Err(Refusal::Malformed);
        }
        Ok(Range {
            lba: Lba(lba),
            sectors,
            unmap: flags & RANGE_UNMAP != 0,
        })
    }

    fn request(self, op: Op) -> Parsed {
        let sectors = Sectors(self.sectors.into());
        Parsed::Block {
            op,
            lba: self.lba,
            sectors,
            bytes_in: 0,
        }
    }
}
