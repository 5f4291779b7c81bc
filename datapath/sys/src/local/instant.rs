//! Operations of memory devices: done when `start` returns.

use crate::copy;
use crate::device::Media;
use palisade_block::{Fault, Io, Op};
use std::ptr;

/// Carries an operation out; its range has been checked against the device.
#[inline]
pub(super) fn carry_out(io: &Io<'_>, media: &Media) -> Result<(), Fault> {
    let Media::Memory(memory) = media else {
        return Err(Fault::Gone);
    };
    let bytes = io.sectors.bytes() as usize;
    let at = memory.at(io.lba.bytes(), io.sectors.bytes());
    // SAFETY: `at` lies inside the mapping for `bytes` bytes. The segments are mapped until the request is answered
    // (contract of `Segment`) and are not of this mapping, which nobody outside is told of.
    let done = unsafe {
        match io.op {
            Op::Read => copy::scatter(at, io.segments, 0, bytes),
            Op::Write => copy::gather(io.segments, 0, at, bytes),
            Op::Discard | Op::WriteZeroes { .. } => {
                ptr::write_bytes(at, 0, bytes);
                bytes
            }
            Op::Flush => bytes,
        }
    };
    match done == bytes {
        true => Ok(()),
        false => Err(Fault::Media),
    }
}
