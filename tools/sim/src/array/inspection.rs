//! Whether what the engine hands over keeps the contract of [`Io`], and what the device said of itself.

use super::Array;
use palisade_block::{DeviceLimits, Io, Op, Segment};
use palisade_words::Sectors;

impl Array {
    /// Finds what is wrong with an operation.
    pub(super) fn inspect(&self, reactor: u16, io: &Io<'_>, limits: &DeviceLimits) {
        let bytes: u64 = io.segments.iter().map(|segment| segment.bytes() as u64).sum();
        let aligned = |segment: &Segment| {
            segment.address().is_multiple_of(limits.memory_alignment as usize)
                && segment.bytes().is_multiple_of(limits.length_alignment as usize)
        };
        let taken = self
            .disks
            .get(io.device.usize())
            .is_some_and(|disk| disk.medium.takes(io.lba, io.sectors));
        let twice = self
            .operations
            .values()
            .any(|op| op.reactor == reactor && op.slot == io.slot);
        let wrong = match io.op {
            _ if twice => "a slot that is still in flight",
            Op::Flush if io.sectors != Sectors::ZERO => "a flush with a length",
            Op::Flush => return,
            _ if !taken => "a range off the device or off its blocks",
            _ if io.sectors == Sectors::ZERO => "an operation without length",
            _ if io.op.changes() && limits.read_only => "a change of a read-only device",
            Op::Discard | Op::WriteZeroes { .. } => return,
            _ if bytes != io.sectors.bytes() => "segments that do not add up to the length",
            _ if bytes > u64::from(limits.io_bytes_max) => "more bytes than the device takes at once",
            _ if !io.segments.iter().all(aligned) => "segments that are not aligned",
            _ => return,
        };
        self.offence(format!("the engine handed {:?} {wrong}: {io:?}", io.device));
    }
}
