//! Segments for tests of what is only computed with addresses, or of memory that the test itself keeps.

use palisade_block::{Lease, Mapped, Segment};
use std::sync::Arc;

#[derive(Debug)]
struct MadeUp(Vec<(usize, usize)>, Option<usize>);

// SAFETY: nothing of it is followed, or the test that asked for it keeps the memory as long as it is.
unsafe impl Mapped for MadeUp {
    fn ranges(&self) -> Vec<(usize, usize)> {
        self.0.clone()
    }

    fn lacking_page_bytes(&self) -> Option<usize> {
        self.1
    }
}

/// A lease of ranges that do not touch each other.
pub(crate) fn lease(ranges: &[(usize, usize)]) -> Lease {
    Lease::of(Arc::new(MadeUp(ranges.to_vec(), None)))
}

/// The same where pages of so many bytes may be lacking.
pub(crate) fn lacking(ranges: &[(usize, usize)], page_bytes: usize) -> Lease {
    Lease::of(Arc::new(MadeUp(ranges.to_vec(), Some(page_bytes))))
}

/// One segment for each range.
pub(crate) fn segments(ranges: &[(usize, usize)]) -> Vec<Segment> {
    ranges
        .iter()
        .map(|&(address, bytes)| lease(&[(address, bytes)]).regions()[0])
        .collect()
}
