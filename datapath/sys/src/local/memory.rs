//! Pinned memory: the kernel looks its pages up once and not for every operation.
//!
//! Pinning a guest takes long, so a control thread does it, in a ring of its own that does nothing else
//! ([`MemoryRegistration`]); each reactor's ring then shares the result, which is a matter of counting references.
//!
//! The table of a reactor also has the lease of all memory on which its operations may be, pinned or not: what does not
//! lie in it is not touched, and what does stays mapped. Pinned pages are used only for the lease of which they were
//! pinned: another guest's memory that happens to come to the same addresses is not taken for it.

use super::brought::Brought;
use super::ring::{BUFFERS_MAX, Ring};
use crate::copy::Access;
use io_uring::IoUring;
use io_uring::types::CloneBuffersFlags;
use palisade_block::{Io, Lease, Op, Segment, ledger};
use palisade_words::{MemoryId, PinnedId};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, OnceLock};

/// The kernel takes no longer buffers.
const PIECE_BYTES: usize = 1 << 30;

/// Memory pinned for I/O, to be shared by any number of reactors. It stays mapped as long as this is there.
pub struct MemoryRegistration {
    /// Keeps the pages; `None` when nothing could be pinned.
    ring: Option<IoUring>,
    /// What is pinned, in the order of the ring's table and of addresses.
    pieces: Arc<[Segment]>,
    coverage: Coverage,
    lease: Lease,
}

/// How much of some memory is pinned. What is not works as well, only slower.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    /// Bytes pinned.
    pub pinned_bytes: u64,
    /// Bytes that go without.
    pub unpinned_bytes: u64,
    /// The error number with which the kernel refused first.
    pub errno: Option<i32>,
}

impl MemoryRegistration {
    /// Pins all memory of a lease, in pieces of up to 1 GiB. What the kernel refuses (memory of a plain file, a limit on
    /// locked memory, a kernel too old) goes without; [`MemoryRegistration::coverage`] tells.
    pub fn prepare(lease: &Lease) -> MemoryRegistration {
        MemoryRegistration::prepare_while(lease, lease.regions(), |_| true)
    }

    /// The same for some parts of the lease, asking before each piece of so many bytes whether it is still wanted. What
    /// is not goes without.
    ///
    /// # Panics
    /// When a part does not lie in the lease.
    pub fn prepare_while(
        lease: &Lease,
        parts: &[Segment],
        mut wants: impl FnMut(u64) -> bool,
    ) -> MemoryRegistration {
        assert!(
            lease.holds_all(parts),
            "memory is to be pinned that is not its guest's"
        );
        let mut wanted = cut(parts);
        let all: u64 = wanted.iter().map(|piece| piece.bytes() as u64).sum();
        wanted.truncate(BUFFERS_MAX as usize);
        let mut coverage = Coverage {
            pinned_bytes: 0,
            unpinned_bytes: all,
            errno: None,
        };
        let mut pieces = Vec::new();
        // Pages that no reactor's ring could share would be pinned for nothing.
        let table = match MemoryRegistration::is_supported() {
            true => empty_table(wanted.len() as u32),
            false => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        };
        let ring = match table {
            Ok(ring) => ring,
            Err(error) => {
                coverage.errno = error.raw_os_error();
                return MemoryRegistration {
                    ring: None,
                    pieces: pieces.into(),
                    coverage,
                    lease: lease.clone(),
                };
            }
        };
        for piece in wanted {
            if !wants(piece.bytes() as u64) {
                break;
            }
            let buffer = libc::iovec {
                iov_base: piece.address() as *mut _,
                iov_len: piece.bytes(),
            };
            // SAFETY: the piece lies in the lease, which keeps it mapped and allows the kernel to read and write it; the
            // ring goes before the lease does.
            let pinned = unsafe {
                ring.submitter()
                    .register_buffers_update(pieces.len() as u32, &[buffer], None)
            };
            match pinned {
                Ok(()) => {
                    coverage.pinned_bytes += piece.bytes() as u64;
                    coverage.unpinned_bytes -= piece.bytes() as u64;
                    pieces.push(piece);
                }
                Err(error) => coverage.errno = coverage.errno.or(error.raw_os_error()),
            }
        }
        MemoryRegistration {
            ring: Some(ring),
            pieces: pieces.into(),
            coverage,
            lease: lease.clone(),
        }
    }

    /// Whether this kernel lets rings share pinned memory from a place on (Linux 6.13): tried once, with empty places.
    /// Where it does not nothing is pinned.
    pub fn is_supported() -> bool {
        static TRIED: OnceLock<bool> = OnceLock::new();
        *TRIED.get_or_init(|| {
            let shared = empty_table(1).and_then(|from| share(&empty_table(1)?, from.as_raw_fd(), 0, 1));
            shared.is_ok()
        })
    }

    /// How much is pinned.
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }
}

impl std::fmt::Debug for MemoryRegistration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryRegistration")
            .field("coverage", &self.coverage)
            .finish_non_exhaustive()
    }
}

/// A ring that only keeps pages.
fn empty_table(places: u32) -> io::Result<IoUring> {
    let ring = IoUring::builder().dontfork().build(1)?;
    ring.submitter().register_buffers_sparse(places.max(1))?;
    Ok(ring)
}

/// Shares the first `count` buffers of the ring `from` with another, from place `at` on.
pub(super) fn share(ring: &IoUring, from: RawFd, at: u32, count: u32) -> io::Result<()> {
    let replace = CloneBuffersFlags::DST_REPLACE;
    ring.submitter()
        .register_buffers_clone_offset(from, 0, at, count, replace)
}

/// Regions in order of address, none longer than a buffer may be.
fn cut(regions: &[Segment]) -> Vec<Segment> {
    let mut pieces: Vec<_> = regions
        .iter()
        .flat_map(|region| {
            let part = |from| region.part(from, (region.bytes() - from).min(PIECE_BYTES));
            (0..region.bytes()).step_by(PIECE_BYTES).filter_map(part)
        })
        .collect();
    pieces.sort_unstable_by_key(|piece| piece.address());
    pieces
}

/// The memory on which a reactor's operations may be.
#[derive(Debug, Default)]
pub(super) struct MemoryTable {
    guests: Vec<Option<Kept>>,
    pool: Option<Kept>,
    /// What the reactor's ring shares, whether it has operations on it or not.
    shared: Vec<Shared>,
}

/// Memory that is kept.
#[derive(Debug)]
struct Kept {
    lease: Lease,
    /// Where pages may be lacking: those that are there.
    brought: Option<Brought>,
    users: u32,
    /// The first place of its pinned pieces in the ring's table.
    base: u32,
    pieces: Arc<[Segment]>,
}

/// Pinned memory in the ring's table.
#[derive(Debug)]
struct Shared {
    /// By which number it was given; `None` for the pool's.
    of: Option<PinnedId>,
    base: u32,
    pieces: Arc<[Segment]>,
    registration: Arc<MemoryRegistration>,
}

impl MemoryTable {
    pub(super) fn keep(&mut self, lease: &Lease) -> MemoryId {
        let place = |kept: &Option<Kept>| kept.as_ref().is_some_and(|kept| kept.lease.is(lease));
        if let Some(at) = self.guests.iter().position(place)
            && let Some(Some(kept)) = self.guests.get_mut(at)
        {
            ledger::enter(&mut kept.users, "users of a memory");
            return MemoryId(at as u16);
        }
        let kept = Some(self.kept(lease));
        let at = match self.guests.iter().position(Option::is_none) {
            Some(at) => {
                self.guests[at] = kept;
                at
            }
            None => {
                self.guests.push(kept);
                self.guests.len() - 1
            }
        };
        assert!(at < MemoryId::POOL.usize(), "more memories than numbers for them");
        MemoryId(at as u16)
    }

    pub(super) fn keep_pool(&mut self, lease: &Lease) {
        let former = self.pool.replace(self.kept(lease));
        assert!(former.is_none(), "a reactor has one pool");
    }

    /// Whether nobody uses it when one user has gone.
    pub(super) fn is_last_user(&self, memory: MemoryId) -> bool {
        self.of(memory).is_some_and(|kept| kept.users == 1)
    }

    /// One user less.
    pub(super) fn let_go(&mut self, memory: MemoryId) {
        let place = match memory {
            MemoryId::POOL => None,
            MemoryId(number) => self.guests.get_mut(usize::from(number)),
        };
        let Some(place) = place else {
            unreachable!("{memory:?} is let go of and was not kept")
        };
        let users = place.as_ref().and_then(|kept| kept.users.checked_sub(1));
        match (users, place.as_mut()) {
            (Some(0), _) => *place = None,
            (Some(users), Some(kept)) => kept.users = users,
            _ => unreachable!("{memory:?} is let go of and was not kept"),
        }
    }

    fn kept(&self, lease: &Lease) -> Kept {
        let shared = self
            .shared
            .iter()
            .find(|shared| shared.registration.lease.is(lease));
        Kept {
            lease: lease.clone(),
            brought: Brought::of(lease),
            users: 1,
            base: shared.map_or(0, |shared| shared.base),
            pieces: shared.map_or_else(Arc::default, |shared| Arc::clone(&shared.pieces)),
        }
    }

    /// Whether all segments lie in memory that is kept under a number.
    #[inline]
    pub(super) fn has(&self, memory: MemoryId, segments: &[Segment]) -> bool {
        match (self.of(memory), segments) {
            (_, []) => true,
            (Some(kept), [only]) => kept.lease.holds(*only),
            (Some(kept), all) => kept.lease.holds_all(all),
            (None, _) => false,
        }
    }

    pub(super) fn add(
        &mut self,
        ring: &Ring,
        of: Option<PinnedId>,
        registration: Arc<MemoryRegistration>,
    ) -> Coverage {
        assert!(
            self.shared.iter().all(|shared| shared.of != of),
            "{of:?} has pinned memory already"
        );
        let (count, mut coverage) = (registration.pieces.len() as u32, registration.coverage);
        let base = self.free_places(count);
        let shared = match (&registration.ring, base) {
            (Some(source), Some(base)) if count > 0 => ring
                .share_buffers(source.as_raw_fd(), base, count)
                .map(|()| (base, Arc::clone(&registration.pieces))),
            (Some(_), None) => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            _ => Ok((0, Arc::default())),
        };
        let (base, pieces) = shared.unwrap_or_else(|error| {
            let all = coverage.pinned_bytes + coverage.unpinned_bytes;
            coverage = Coverage {
                pinned_bytes: 0,
                unpinned_bytes: all,
                errno: error.raw_os_error(),
            };
            (0, Arc::default())
        });
        for kept in self.users_of(&registration) {
            (kept.base, kept.pieces) = (base, Arc::clone(&pieces));
        }
        self.shared.push(Shared {
            of,
            base,
            pieces,
            registration,
        });
        coverage
    }

    pub(super) fn remove(&mut self, ring: &Ring, of: Option<PinnedId>) -> Option<Arc<MemoryRegistration>> {
        let place = self.shared.iter().position(|shared| shared.of == of)?;
        let shared = self.shared.swap_remove(place);
        for kept in self.users_of(&shared.registration) {
            kept.pieces = Arc::default();
        }
        if !shared.pieces.is_empty() {
            // Places that could not be emptied hold their pages a little longer: until they are shared anew.
            let _ = ring.clear_buffers(shared.base, shared.pieces.len() as u32);
        }
        Some(shared.registration)
    }

    /// The kept memory that has been pinned by a registration.
    fn users_of(&mut self, registration: &Arc<MemoryRegistration>) -> impl Iterator<Item = &mut Kept> {
        let kept = self.guests.iter_mut().flatten().chain(&mut self.pool);
        kept.filter(|kept| kept.lease.is(&registration.lease))
    }

    /// Whether all the data of an operation is there, or can be brought. It is kept memory.
    #[inline]
    pub(super) fn has_pages(&mut self, io: &Io<'_>) -> bool {
        let access = match io.op {
            Op::Write => Access::Read,
            _ => Access::Write,
        };
        self.has_pages_of(io.memory, io.segments, access)
    }

    /// The same for segments of kept memory that are about to be touched.
    #[inline]
    pub(super) fn has_pages_of(&mut self, memory: MemoryId, segments: &[Segment], access: Access) -> bool {
        let kept = match memory {
            MemoryId::POOL => self.pool.as_mut(),
            MemoryId(number) => self.guests.get_mut(usize::from(number)).and_then(Option::as_mut),
        };
        let Some(brought) = kept.and_then(|kept| kept.brought.as_mut()) else {
            return true;
        };
        segments.iter().all(|segment| brought.has(*segment, access))
    }

    /// The place in the ring's table in whose memory the segment lies whole.
    #[inline]
    pub(super) fn find(&self, memory: MemoryId, segment: Segment) -> Option<u16> {
        let kept = self.of(memory)?;
        let after = kept
            .pieces
            .partition_point(|piece| piece.address() <= segment.address());
        let at = after.checked_sub(1)?;
        let inside = kept.pieces.get(at)?.contains(segment);
        inside.then_some((kept.base as usize + at) as u16)
    }

    /// The same for a list of segments that lie in the memory of one place.
    #[inline]
    pub(super) fn find_all(&self, memory: MemoryId, list: &[Segment]) -> Option<u16> {
        let (first, others) = list.split_first()?;
        let index = self.find(memory, *first)?;
        let kept = self.of(memory)?;
        let piece = kept.pieces.get(index as usize - kept.base as usize)?;
        others
            .iter()
            .all(|segment| piece.contains(*segment))
            .then_some(index)
    }

    #[inline]
    fn of(&self, memory: MemoryId) -> Option<&Kept> {
        match memory {
            MemoryId::POOL => self.pool.as_ref(),
            MemoryId(number) => self.guests.get(number as usize)?.as_ref(),
        }
    }

    /// The first gap of `count` places.
    fn free_places(&self, count: u32) -> Option<u32> {
        let mut taken: Vec<_> = self
            .shared
            .iter()
            .map(|shared| (shared.base, shared.pieces.len() as u32))
            .collect();
        taken.retain(|&(_, count)| count > 0);
        taken.sort_unstable();
        let mut free = 0;
        for (base, length) in taken {
            if base - free >= count {
                break;
            }
            free = base + length;
        }
        (free + count <= BUFFERS_MAX).then_some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up;

    #[test]
    fn long_regions_are_cut_and_sorted() {
        let regions = made_up::segments(&[(5 << 30, (1 << 30) + 4096), (4096, 8192)]);
        let cuts = cut(&regions)
            .iter()
            .map(|piece| (piece.address(), piece.bytes()))
            .collect::<Vec<_>>();
        assert_eq!(cuts, [(4096, 8192), (5 << 30, 1 << 30), (6 << 30, 4096)]);
    }

    /// A registration of all of a lease that nothing is pinned of, as if it had places from 10 on.
    fn share(table: &mut MemoryTable, of: u32, lease: &Lease) {
        let pieces: Arc<[Segment]> = lease.regions().into();
        let registration = Arc::new(MemoryRegistration {
            ring: None,
            pieces: Arc::clone(&pieces),
            coverage: Coverage::default(),
            lease: lease.clone(),
        });
        for kept in table.users_of(&registration) {
            (kept.base, kept.pieces) = (10, Arc::clone(&pieces));
        }
        table.shared.push(Shared {
            of: Some(PinnedId(of)),
            base: 10,
            pieces,
            registration,
        });
    }

    #[test]
    fn a_segment_is_found_only_where_it_lies_whole() {
        let lease = made_up::lease(&[(4096, 4096), (8192, 4096), (20480, 8192)]);
        let segment = |address, bytes| made_up::segments(&[(address, bytes)])[0];
        let mut table = MemoryTable::default();
        let before = table.keep(&made_up::lease(&[(1, 1)]));
        let memory = table.keep(&lease);
        share(&mut table, 3, &lease);
        let find = |address, bytes| table.find(memory, segment(address, bytes));
        assert_eq!(find(4096, 4096), Some(10));
        assert_eq!(find(4096, 4097), None);
        assert_eq!(find(9000, 100), Some(11));
        assert_eq!(find(28671, 1), Some(12));
        assert_eq!((find(28672, 1), find(0, 10), find(16384, 1)), (None, None, None));
        assert_eq!(table.find(before, lease.regions()[0]), None);
        let list = [segment(20480, 512), segment(28160, 512)];
        assert_eq!(table.find_all(memory, &list), Some(12));
        assert_eq!(table.find_all(memory, &lease.regions()[..2]), None);
        assert_eq!(table.free_places(10), Some(0));
        assert_eq!(table.free_places(11), Some(13));
    }

    #[test]
    fn only_what_lies_in_kept_memory_is_there_to_be_touched() {
        let (one, other) = (made_up::lease(&[(4096, 4096)]), made_up::lease(&[(8192, 4096)]));
        let (mine, foreign) = (one.regions(), other.regions());
        let mut table = MemoryTable::default();
        assert!(table.has(MemoryId(0), &[]) && !table.has(MemoryId(0), mine));
        let first = table.keep(&one);
        let second = table.keep(&other);
        table.keep_pool(&made_up::lease(&[(65536, 4096)]));
        assert!(table.has(first, mine) && table.has(second, foreign) && first != second);
        assert!(!table.has(first, foreign) && !table.has(MemoryId::POOL, mine));
        assert!(!table.has(first, &[mine[0], foreign[0]]) && !table.has(MemoryId(9), mine));
        assert_eq!(table.keep(&one), first, "it goes by the number it has");
        table.let_go(first);
        assert!(table.has(first, mine), "somebody uses it still");
        table.let_go(first);
        assert!(!table.has(first, mine));
        assert_eq!(table.keep(&other), second);
    }

    #[test]
    fn pages_pinned_for_one_memory_are_not_used_for_another_at_the_same_addresses() {
        let ranges = [(4096, 4096)];
        let (former, present) = (made_up::lease(&ranges), made_up::lease(&ranges));
        let mut table = MemoryTable::default();
        share(&mut table, 0, &former);
        let (old, new) = (table.keep(&former), table.keep(&present));
        let segment = present.regions()[0];
        assert_eq!(
            (table.find(old, segment), table.find(new, segment)),
            (Some(10), None)
        );
    }

    #[test]
    #[should_panic(expected = "was not kept")]
    fn letting_go_twice_stops_us() {
        let mut table = MemoryTable::default();
        let memory = table.keep(&made_up::lease(&[(4096, 4096)]));
        table.let_go(memory);
        table.let_go(memory);
    }
}
