//! Copies between lists of segments and flat memory. Guest memory changes under our hands, so everything here goes
//! through raw pointers; no Rust reference to such memory ever exists.

use palisade_block::Segment;
use std::ptr;

/// Calls `each(address, offset, bytes)` for the pieces of `bytes` bytes of the segments that begin `skip` bytes into
/// them; `offset` counts from 0. Returns the bytes covered: fewer than asked when the segments end.
#[inline]
pub(crate) fn pieces(
    segments: &[Segment],
    skip: u64,
    bytes: usize,
    mut each: impl FnMut(usize, usize, usize),
) -> usize {
    let (mut skip, mut done) = (skip, 0);
    for segment in segments {
        if done == bytes {
            break;
        }
        if skip >= segment.bytes as u64 {
            skip -= segment.bytes as u64;
            continue;
        }
        let from = skip as usize;
        let piece = (segment.bytes - from).min(bytes - done);
        each(segment.address + from, done, piece);
        done += piece;
        skip = 0;
    }
    done
}

/// Copies from segments to flat memory.
///
/// # Safety
/// The segments' memory must be mapped, `to` must be mapped for `bytes` bytes, and the two must not overlap.
pub(crate) unsafe fn gather(from: &[Segment], skip: u64, to: *mut u8, bytes: usize) -> usize {
    pieces(from, skip, bytes, |address, offset, piece| {
        // SAFETY: the caller answers for both sides; the piece lies inside one segment and inside `bytes`.
        unsafe { ptr::copy_nonoverlapping(address as *const u8, to.add(offset), piece) }
    })
}

/// Copies from flat memory to segments.
///
/// # Safety
/// As [`gather`], with the sides exchanged.
pub(crate) unsafe fn scatter(from: *const u8, to: &[Segment], skip: u64, bytes: usize) -> usize {
    pieces(to, skip, bytes, |address, offset, piece| {
        // SAFETY: the caller answers for both sides; the piece lies inside one segment and inside `bytes`.
        unsafe { ptr::copy_nonoverlapping(from.add(offset), address as *mut u8, piece) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_what_was_asked_for_and_stop_at_the_end() {
        let list =
            [(100, 10), (200, 0), (300, 5), (400, 20)].map(|(address, bytes)| Segment { address, bytes });
        let cut = |skip, bytes| {
            let mut found = Vec::new();
            let covered = pieces(&list, skip, bytes, |a, o, b| found.push((a, o, b)));
            (covered, found)
        };
        assert_eq!(cut(0, 10), (10, vec![(100, 0, 10)]));
        assert_eq!(cut(8, 10), (10, vec![(108, 0, 2), (300, 2, 5), (400, 7, 3)]));
        assert_eq!(cut(10, 1), (1, vec![(300, 0, 1)]));
        assert_eq!(cut(30, 100), (5, vec![(415, 0, 5)]));
        assert_eq!(cut(35, 1), (0, vec![]));
    }
}
