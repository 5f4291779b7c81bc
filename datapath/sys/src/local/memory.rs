//! Pinned memory: the kernel looks its pages up once and not for every operation.
//!
//! Pinning a guest takes long, so a control thread does it, in a ring of its own that does nothing else
//! ([`MemoryRegistration`]); each reactor's ring then shares the result, which is a matter of counting references.

use super::ring::{BUFFERS_MAX, Ring};
use io_uring::IoUring;
use palisade_block::{MemoryId, Segment};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// The kernel takes no longer buffers.
const PIECE_BYTES: usize = 1 << 30;

/// Memory pinned for I/O, to be shared by any number of reactors. The memory must stay mapped while it is used.
pub struct MemoryRegistration {
    /// Keeps the pages; `None` when nothing could be pinned.
    ring: Option<IoUring>,
    /// What is pinned, in the order of the ring's table and of addresses.
    pieces: Box<[Segment]>,
    coverage: Coverage,
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
    /// Pins memory, in pieces of up to 1 GiB. What the kernel refuses (memory of a plain file, a limit on locked
    /// memory, a kernel too old) goes without; [`MemoryRegistration::coverage`] tells.
    ///
    /// The memory must stay mapped until the registration is no longer used.
    pub fn prepare(regions: &[Segment]) -> MemoryRegistration {
        MemoryRegistration::prepare_while(regions, |_| true)
    }

    /// The same, asking before each piece of so many bytes whether it is still wanted. What is not goes without.
    pub fn prepare_while(regions: &[Segment], mut wants: impl FnMut(u64) -> bool) -> MemoryRegistration {
        let mut wanted = cut(regions);
        let all: u64 = wanted.iter().map(|piece| piece.bytes as u64).sum();
        wanted.truncate(BUFFERS_MAX as usize);
        let mut coverage = Coverage {
            pinned_bytes: 0,
            unpinned_bytes: all,
            errno: None,
        };
        let mut pieces = Vec::new();
        let ring = match empty_table(wanted.len() as u32) {
            Ok(ring) => ring,
            Err(error) => {
                coverage.errno = error.raw_os_error();
                return MemoryRegistration {
                    ring: None,
                    pieces: pieces.into(),
                    coverage,
                };
            }
        };
        for piece in wanted {
            if !wants(piece.bytes as u64) {
                break;
            }
            let buffer = libc::iovec {
                iov_base: piece.address as *mut _,
                iov_len: piece.bytes,
            };
            // SAFETY: the memory is mapped, as our caller promises; an address that is not gives EFAULT here.
            let pinned = unsafe {
                ring.submitter()
                    .register_buffers_update(pieces.len() as u32, &[buffer], None)
            };
            match pinned {
                Ok(()) => {
                    coverage.pinned_bytes += piece.bytes as u64;
                    coverage.unpinned_bytes -= piece.bytes as u64;
                    pieces.push(piece);
                }
                Err(error) => coverage.errno = coverage.errno.or(error.raw_os_error()),
            }
        }
        MemoryRegistration {
            ring: Some(ring),
            pieces: pieces.into(),
            coverage,
        }
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

/// Regions in order of address, none longer than a buffer may be.
fn cut(regions: &[Segment]) -> Vec<Segment> {
    let mut pieces: Vec<_> = regions
        .iter()
        .flat_map(|region| {
            (0..region.bytes).step_by(PIECE_BYTES).map(|from| Segment {
                address: region.address + from,
                bytes: (region.bytes - from).min(PIECE_BYTES),
            })
        })
        .collect();
    pieces.sort_unstable_by_key(|piece| piece.address);
    pieces
}

/// What a reactor's ring shares.
#[derive(Debug, Default)]
pub(super) struct MemoryTable {
    guests: Vec<Option<Shared>>,
    pool: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The first place in the ring's table.
    base: u32,
    pieces: Box<[Segment]>,
    registration: Arc<MemoryRegistration>,
}

impl MemoryTable {
    pub(super) fn add(
        &mut self,
        ring: &Ring,
        memory: MemoryId,
        registration: Arc<MemoryRegistration>,
    ) -> Coverage {
        let (count, mut coverage) = (registration.pieces.len() as u32, registration.coverage);
        let base = self.free_places(count);
        let shared = match (&registration.ring, base) {
            (Some(source), Some(base)) if count > 0 => ring
                .share_buffers(source.as_raw_fd(), base, count)
                .map(|()| (base, registration.pieces.clone())),
            (Some(_), None) => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            _ => Ok((0, Box::default())),
        };
        let (base, pieces) = shared.unwrap_or_else(|error| {
            let all = coverage.pinned_bytes + coverage.unpinned_bytes;
            coverage = Coverage {
                pinned_bytes: 0,
                unpinned_bytes: all,
                errno: error.raw_os_error(),
            };
            (0, Box::default())
        });
        let former = self.place(memory).replace(Shared {
            base,
            pieces,
            registration,
        });
        assert!(former.is_none(), "{memory:?} is in use");
        coverage
    }

    pub(super) fn remove(&mut self, ring: &Ring, memory: MemoryId) -> Option<Arc<MemoryRegistration>> {
        let shared = self.place(memory).take()?;
        if !shared.pieces.is_empty() {
            // Places that could not be emptied hold their pages a little longer: until they are shared anew.
            let _ = ring.clear_buffers(shared.base, shared.pieces.len() as u32);
        }
        Some(shared.registration)
    }

    /// The place in the ring's table in whose memory the segment lies whole.
    #[inline]
    pub(super) fn find(&self, memory: MemoryId, segment: Segment) -> Option<u16> {
        let shared = self.shared(memory)?;
        let after = shared
            .pieces
            .partition_point(|piece| piece.address <= segment.address);
        let at = after.checked_sub(1)?;
        let piece = shared.pieces.get(at)?;
        let inside = segment.address - piece.address + segment.bytes <= piece.bytes;
        inside.then_some((shared.base as usize + at) as u16)
    }

    /// The same for a list of segments that lie in the memory of one place.
    #[inline]
    pub(super) fn find_all(&self, memory: MemoryId, list: &[Segment]) -> Option<u16> {
        let (first, others) = list.split_first()?;
        let index = self.find(memory, *first)?;
        let shared = self.shared(memory)?;
        let piece = shared.pieces.get(index as usize - shared.base as usize)?;
        let inside = |segment: &Segment| {
            let skip = segment.address.wrapping_sub(piece.address);
            skip < piece.bytes && segment.bytes <= piece.bytes - skip
        };
        others.iter().all(inside).then_some(index)
    }

    #[inline]
    fn shared(&self, memory: MemoryId) -> Option<&Shared> {
        match memory {
            MemoryId::POOL => self.pool.as_ref(),
            MemoryId(number) => self.guests.get(number as usize)?.as_ref(),
        }
    }

    fn place(&mut self, memory: MemoryId) -> &mut Option<Shared> {
        if memory == MemoryId::POOL {
            return &mut self.pool;
        }
        let at = memory.usize();
        if self.guests.len() <= at {
            self.guests.resize_with(at + 1, || None);
        }
        &mut self.guests[at]
    }

    /// The first gap of `count` places.
    fn free_places(&self, count: u32) -> Option<u32> {
        let shared = self.guests.iter().flatten().chain(&self.pool);
        let mut taken: Vec<_> = shared
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

    #[test]
    fn long_regions_are_cut_and_sorted() {
        let regions =
            [(5 << 30, (1 << 30) + 4096), (4096, 8192)].map(|(address, bytes)| Segment { address, bytes });
        let cuts = cut(&regions)
            .iter()
            .map(|piece| (piece.address, piece.bytes))
            .collect::<Vec<_>>();
        assert_eq!(cuts, [(4096, 8192), (5 << 30, 1 << 30), (6 << 30, 4096)]);
    }

    #[test]
    fn a_segment_is_found_only_where_it_lies_whole() {
        let pieces =
            [(4096, 4096), (8192, 4096), (20480, 8192)].map(|(address, bytes)| Segment { address, bytes });
        let mut table = MemoryTable::default();
        let registration = Arc::new(MemoryRegistration {
            ring: None,
            pieces: pieces.into(),
            coverage: Coverage::default(),
        });
        *table.place(MemoryId(3)) = Some(Shared {
            base: 10,
            pieces: pieces.into(),
            registration,
        });
        let find = |address, bytes| table.find(MemoryId(3), Segment { address, bytes });
        assert_eq!(find(4096, 4096), Some(10));
        assert_eq!(find(4096, 4097), None);
        assert_eq!(find(9000, 100), Some(11));
        assert_eq!(find(28671, 1), Some(12));
        assert_eq!((find(28672, 1), find(0, 10), find(16384, 1)), (None, None, None));
        assert_eq!(table.find(MemoryId(2), pieces[0]), None);
        let list = [(20480, 512), (28160, 512)].map(|(address, bytes)| Segment { address, bytes });
        assert_eq!(table.find_all(MemoryId(3), &list), Some(12));
        assert_eq!(table.find_all(MemoryId(3), &[pieces[0], pieces[1]]), None);
        assert_eq!(table.free_places(10), Some(0));
        assert_eq!(table.free_places(11), Some(13));
    }
}
