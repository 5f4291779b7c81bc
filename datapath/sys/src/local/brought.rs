//! Which pages of a guest's memory are known to be there.
//!
//! A copy of our own from or to memory whose file system has no room left gets SIGBUS. So the kernel is asked to bring each
//! page before it is copied from or to for the first time: that is a call of 0.2 us, which a copy of 4 KiB would feel each time,
//! so it is remembered. A page that somebody takes away again is met without asking, as one of a file that shrinks.

use crate::copy::{self, Access};
use palisade_block::{Lease, Segment};

/// Of one lease, for the reactor that copies.
#[derive(Debug)]
pub(super) struct Brought {
    page_bytes: usize,
    /// Each region, and its first page's place among all.
    regions: Box<[(Segment, usize)]>,
    /// A bit for each page.
    pages: Box<[u64]>,
}

impl Brought {
    /// Nothing is known yet; `None` for memory that cannot be without a page.
    pub(super) fn of(lease: &Lease) -> Option<Brought> {
        let page_bytes = lease.lacking_page_bytes()?.max(1);
        let mut count = 0;
        let place = |&region: &Segment| {
            let first = count;
            // One more where it does not begin with a page.
            count += region.bytes().div_ceil(page_bytes) + 1;
            (region, first)
        };
        let regions = lease.regions().iter().map(place).collect();
        Some(Brought {
            page_bytes,
            regions,
            pages: vec![0; count.div_ceil(64)].into(),
        })
    }

    /// Whether all pages of a segment are there, if need be brought now. The segment lies in one region.
    #[inline]
    pub(super) fn has(&mut self, segment: Segment, access: Access) -> bool {
        let after = self
            .regions
            .partition_point(|(region, _)| region.address() <= segment.address());
        let Some(&(region, first)) = after.checked_sub(1).and_then(|at| self.regions.get(at)) else {
            return false;
        };
        let page = |address: usize| first + address / self.page_bytes - region.address() / self.page_bytes;
        let last = segment.address() + segment.bytes().saturating_sub(1);
        (page(segment.address())..=page(last)).all(|page| self.is_known(page)) || {
            let are_there = copy::bring_pages(&[segment], 0, segment.bytes(), access);
            if are_there {
                (page(segment.address())..=page(last)).for_each(|page| self.note(page));
            }
            are_there
        }
    }

    #[inline]
    fn is_known(&self, page: usize) -> bool {
        let word = self.pages.get(page / 64);
        word.is_some_and(|word| word & 1 << (page % 64) != 0)
    }

    fn note(&mut self, page: usize) {
        if let Some(word) = self.pages.get_mut(page / 64) {
            *word |= 1 << (page % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up;

    #[test]
    fn what_has_been_brought_is_known_and_nothing_else_is() {
        // Memory that is there, behind which there is none.
        let memory = crate::HugePool::new(1).unwrap();
        let there = palisade_block::Pool::lease(&memory).regions()[0];
        let (start, end) = (there.address(), there.address() + there.bytes());
        let lease = made_up::lacking(&[(start + 512, 8 * 4096 - 512), (1 << 46, 8192)], 4096);
        let mut brought = Brought::of(&lease).unwrap();
        let segment = |at, bytes| lease.segment(at, bytes).unwrap();
        let known = |brought: &Brought| {
            (0..brought.pages.len() * 64)
                .filter(|&page| brought.is_known(page))
                .count()
        };
        assert!(end >= start + 8 * 4096);
        assert!(brought.has(segment(start + 512, 512), Access::Write));
        assert_eq!(known(&brought), 1);
        assert!(brought.has(segment(start + 4095, 4098), Access::Read));
        assert_eq!(known(&brought), 3);
        assert!(brought.has(segment(start + 8000, 10), Access::Read));
        assert_eq!(known(&brought), 3);
        assert!(!brought.has(segment(1 << 46, 512), Access::Write));
        assert!(
            !brought.has(segment(1 << 46, 512), Access::Read),
            "it may be there later"
        );
        assert_eq!(known(&brought), 3);
        assert!(Brought::of(&made_up::lease(&[(start, 4096)])).is_none());
    }
}
