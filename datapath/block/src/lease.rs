//! Memory that operations may be pointed at: who owns it, who holds it, and the pieces of it that requests name.
//!
//! ```text
//! owner (unsafe impl Mapped) ──> Lease ──segment, part──> Segment, Segment, ...
//!                                  └── a clone of it with whoever follows segments: the hands of each reactor
//! ```
//!
//! Three things keep safe code from having foreign memory read or written:
//!
//! - A [`Segment`] comes from a [`Lease`] or is a part of another segment; nothing else makes one.
//! - A lease keeps its owner, and with it the memory, mapped. It is counted for each queue, pool or registration, never
//!   for a request.
//! - A segment alone keeps nothing and may be older than its memory. So whoever follows one holds the lease under which
//!   it was handed over, and looks whether the segment lies in it ([`Lease::holds`]), before the first byte is touched
//!   and until the last one was.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// An owner of mapped memory.
///
/// # Safety
/// All memory that [`ranges`](Mapped::ranges) names is mapped in this process, readable and writable, from that call on
/// and until the value is dropped, and no part of it is named twice. No Rust reference to it exists that would suffer from
/// reads and writes through raw pointers by any thread, the kernel or another process at any moment.
#[expect(
    unsafe_code,
    reason = "the one promise on which the hands rest that touch each other's memory; they are of one storey and do not \
              import each other, so it stands in the contracts. It is a declaration: nothing is done here that needs the word"
)]
pub unsafe trait Mapped: Debug + Send + Sync {
    /// Addresses in this process and lengths in bytes. It is asked once.
    fn ranges(&self) -> Vec<(usize, usize)>;

    /// The smallest page of memory where an access may find that there is none for it, although nobody has taken one away: the
    /// file system that its file lies on may be full, or the host out of hugepages. `None` where that cannot be. It is asked
    /// once.
    fn lacking_page_bytes(&self) -> Option<usize> {
        None
    }
}

/// Memory that stays mapped as long as this, or a clone of it, is there.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Leased>);

#[derive(Debug)]
struct Leased {
    /// By address.
    regions: Box<[Segment]>,
    lacking_page_bytes: Option<usize>,
    /// Kept, and never looked at.
    _owner: Owner,
}

#[derive(Debug)]
enum Owner {
    Mapped { _memory: Arc<dyn Mapped> },
    Words { _memory: Arc<[AtomicU64]> },
}

impl Lease {
    /// Of memory that somebody has mapped.
    pub fn of(owner: Arc<dyn Mapped>) -> Lease {
        let (ranges, lacking) = (owner.ranges(), owner.lacking_page_bytes());
        Lease::new(ranges, lacking, Owner::Mapped { _memory: owner })
    }

    /// Of memory of the program's own, which anybody may change at any moment as it is made of atomics.
    pub fn of_words(words: Arc<[AtomicU64]>) -> Lease {
        let range = (words.as_ptr().expose_provenance(), size_of_val(&*words));
        Lease::new(vec![range], None, Owner::Words { _memory: words })
    }

    fn new(ranges: Vec<(usize, usize)>, lacking_page_bytes: Option<usize>, owner: Owner) -> Lease {
        let mut regions: Vec<_> = ranges
            .into_iter()
            .map(|(address, bytes)| Segment { address, bytes })
            .collect();
        regions.sort_unstable_by_key(|region| region.address);
        Lease(Arc::new(Leased {
            regions: regions.into(),
            lacking_page_bytes,
            _owner: owner,
        }))
    }

    /// All of it, by address.
    pub fn regions(&self) -> &[Segment] {
        &self.0.regions
    }

    /// The smallest page where an access may find none ([`Mapped::lacking_page_bytes`]).
    #[inline]
    pub fn lacking_page_bytes(&self) -> Option<usize> {
        self.0.lacking_page_bytes
    }

    /// The range of this process at an address, if it lies whole in one region.
    pub fn segment(&self, address: usize, bytes: usize) -> Option<Segment> {
        let region = self.region_of(address)?;
        region.part(address - region.address, bytes)
    }

    /// Whether a segment lies whole in one region.
    #[inline]
    pub fn holds(&self, segment: Segment) -> bool {
        let region = self.region_of(segment.address);
        region.is_some_and(|region| region.contains(segment))
    }

    /// Whether all segments do.
    #[inline]
    pub fn holds_all(&self, segments: &[Segment]) -> bool {
        let mut last = Segment::EMPTY;
        segments.iter().all(|segment| {
            // A guest's buffers nearly always lie in one region.
            last.contains(*segment)
                || self
                    .region_of(segment.address)
                    .filter(|region| region.contains(*segment))
                    .map(|region| last = region)
                    .is_some()
        })
    }

    /// Whether both keep the same owner, by the same count.
    #[inline]
    pub fn is(&self, other: &Lease) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    #[inline]
    fn region_of(&self, address: usize) -> Option<Segment> {
        let regions = &self.0.regions;
        let after = regions.partition_point(|region| region.address <= address);
        regions.get(after.checked_sub(1)?).copied()
    }
}

/// One piece of memory in this process's address space, of a [`Lease`]'s making. The layout is that of `struct iovec`, so
/// that a list of segments is handed to the kernel as it is.
///
/// Safe code cannot make one up, of an address of its own or by changing another:
///
/// ```compile_fail,E0451
/// use palisade_block::Segment;
/// let forged = Segment { address: 4096, bytes: 4096 };
/// ```
///
/// ```compile_fail,E0616
/// # use palisade_block::Segment;
/// let mut segment = Segment::EMPTY;
/// segment.bytes = usize::MAX;
/// ```
///
/// and who says that memory is mapped says it with `unsafe`:
///
/// ```compile_fail,E0200
/// # use palisade_block::lease::Mapped;
/// #[derive(Debug)]
/// struct Liar;
/// impl Mapped for Liar {
///     fn ranges(&self) -> Vec<(usize, usize)> {
///         vec![(4096, 4096)]
///     }
/// }
/// ```
///
/// A part is never more than the whole:
///
/// ```
/// # use palisade_block::Lease;
/// # use std::sync::{Arc, atomic::AtomicU64};
/// let lease = Lease::of_words(Arc::new([const { AtomicU64::new(0) }; 8]));
/// let [whole] = lease.regions() else { unreachable!() };
/// assert_eq!(whole.part(8, 16).map(|part| part.address() - whole.address()), Some(8));
/// assert_eq!((whole.part(8, 57), whole.part(64, 0), whole.part(usize::MAX, 2)), (None, None, None));
/// assert!(lease.segment(whole.address() - 1, 2).is_none());
/// ```
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    address: usize,
    bytes: usize,
}

/// Where the fields of a [`Segment`] lie, for whoever hands lists of them to the kernel and asserts that it is right.
pub const SEGMENT_LAYOUT: (usize, usize) = (
    std::mem::offset_of!(Segment, address),
    std::mem::offset_of!(Segment, bytes),
);

impl Segment {
    /// No memory at all.
    pub const EMPTY: Segment = Segment { address: 0, bytes: 0 };

    /// Address in this process.
    #[inline]
    pub fn address(self) -> usize {
        self.address
    }

    /// Length in bytes.
    #[inline]
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// A part of it, which begins so many bytes behind its start; `None` when it does not lie in it, or begins at its end.
    #[inline]
    pub fn part(self, skip: usize, bytes: usize) -> Option<Segment> {
        (skip < self.bytes && bytes <= self.bytes - skip).then(|| Segment {
            address: self.address + skip,
            bytes,
        })
    }

    /// Its first bytes: so many, or all there are.
    #[inline]
    pub fn first(self, bytes: usize) -> Segment {
        Segment {
            address: self.address,
            bytes: self.bytes.min(bytes),
        }
    }

    /// Whether another lies in it.
    #[inline]
    pub fn contains(self, other: Segment) -> bool {
        let skip = other.address.wrapping_sub(self.address);
        skip < self.bytes && other.bytes <= self.bytes - skip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two regions with a gap; nobody follows the addresses.
    fn two() -> Lease {
        let words: Arc<[AtomicU64]> = Arc::new([]);
        Lease::new(
            vec![(8192, 4096), (4096, 100)],
            None,
            Owner::Words { _memory: words },
        )
    }

    #[test]
    fn what_lies_whole_in_one_region_is_held_and_nothing_else() {
        let lease = two();
        let held = |address, bytes| {
            let segment = Segment { address, bytes };
            let found = lease.holds(segment);
            assert_eq!(lease.holds_all(&[segment]), found);
            assert_eq!(lease.segment(address, bytes), found.then_some(segment));
            found
        };
        assert!(held(4096, 100) && held(4195, 1) && held(8192, 4096) && held(12287, 1));
        assert!(!held(4096, 101) && !held(4196, 0) && !held(4095, 2) && !held(12288, 1));
        assert!(!held(0, 0) && !held(usize::MAX, 1) && !held(8192, usize::MAX) && !held(4096, 8192));
    }

    #[test]
    fn a_list_is_held_when_each_of_it_is_whatever_came_before() {
        let lease = two();
        let inside = [(4096, 10), (8192, 1), (8200, 4000), (4100, 96)];
        let inside = inside.map(|(address, bytes)| Segment { address, bytes });
        assert!(lease.holds_all(&inside) && lease.holds_all(&[]));
        for at in 0..inside.len() {
            let mut list = inside;
            list[at].bytes += 4096;
            assert!(!lease.holds_all(&list), "{at}");
        }
    }

    #[test]
    fn the_owner_goes_with_the_last_lease() {
        let words: Arc<[AtomicU64]> = Arc::new([const { AtomicU64::new(0) }; 4]);
        let lease = Lease::of_words(Arc::clone(&words));
        let other = lease.clone();
        assert!(lease.is(&other) && !lease.is(&Lease::of_words(Arc::clone(&words))));
        drop(lease);
        assert_eq!(Arc::strong_count(&words), 2);
        drop(other);
        assert_eq!(Arc::strong_count(&words), 1);
    }
}
