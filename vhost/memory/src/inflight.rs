//! The in-flight region (vhost-user, "Inflight I/O tracking"), split layout: which requests have been taken from a
//! ring and not yet been answered, in memory that outlives this process, so that the next one can take them up.
//!
//! ```text
//! queue region   features u64, version u16, desc_num u16, last_batch_head u16, used_idx u16, desc[desc_num]
//! desc           inflight u8, padding[5], next u16, counter u64                        (all native endian)
//! ```
//!
//! Behind the queue regions lies a mark of our own (u64): whose requests they are. A front-end keeps the region for as long as
//! its machine runs, and brings it along when it connects again, so that a machine is never served another disk than the one it
//! has read before, though the same name and socket lead there now.
//!
//! The steps are those of the specification, in its order; the process may end between any two of them. All stores
//! are release stores, so that neither compiler nor processor changes that order. The packed layout has its own
//! queue region and would be a second file beside this one.

use crate::mapping::{MapError, Mapping, system};
use crate::share::MemoryShare;
use palisade_words::limits::{QUEUE_SIZE_MAX, QUEUES_MAX};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

/// Version of the queue region that the specification defines.
const VERSION: u16 = 1;
/// Queue regions begin at multiples of a cache line.
const ALIGN_BYTES: usize = 64;
const HEADER_BYTES: usize = 16;
const DESC_BYTES: usize = 16;

/// The mark behind the last queue region, on a cache line of its own.
const MARK_BYTES: u64 = ALIGN_BYTES as u64;

// Offsets inside a queue region.
const AT_VERSION: usize = 8;
const AT_DESC_NUM: usize = 10;
const AT_LAST_BATCH_HEAD: usize = 12;
const AT_USED_IDX: usize = 14;
// Offsets inside a descriptor state.
const AT_INFLIGHT: usize = 0;
const AT_NEXT: usize = 6;
const AT_COUNTER: usize = 8;

/// Why an in-flight region cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum InflightError {
    /// No queues or too many, or a queue size that is not from 1 to [`QUEUE_SIZE_MAX`].
    #[error("{queues} queues of {queue_size} entries cannot be tracked")]
    Shape {
        /// Queues asked for.
        queues: u16,
        /// Entries of each.
        queue_size: u16,
    },
    /// The front-end's region is too small for its queues.
    #[error("the in-flight region has {bytes} bytes and needs {needed_bytes}")]
    TooSmall {
        /// Bytes there are.
        bytes: u64,
        /// Bytes there would have to be.
        needed_bytes: u64,
    },
    /// The region was written by something that speaks another version.
    #[error("queue {queue} of the in-flight region has the unknown version {version}")]
    Version {
        /// Which queue.
        queue: u16,
        /// Its version.
        version: u16,
    },
    /// The offset is not a multiple of 8 bytes.
    #[error("the in-flight region's offset {offset} is misaligned")]
    Misaligned {
        /// The offset.
        offset: u64,
    },
    /// It was kept by a machine that was served something else by it.
    #[error(
        "the virtual machine has been served another volume until now, and would take this one for it and write over it: end the \
         machine; it gets this disk when it is started anew"
    )]
    OfAnother,
    /// It could not be made or mapped.
    #[error("the in-flight region cannot be mapped: {0}")]
    Map(#[source] MapError),
}

/// The region of one attachment: one queue region after the other.
#[derive(Clone, Debug)]
pub struct InflightRegion {
    mapping: Arc<Mapping>,
    queues: u16,
    queue_size: u16,
    /// Where the mark is; a region of a version before has none.
    mark: Option<usize>,
}

impl InflightRegion {
    /// Makes a fresh region in a sealed memfd, to be sent to the front-end, which keeps it (GET_INFLIGHT_FD). Map
    /// size is [`InflightRegion::mmap_bytes`], offset 0.
    pub fn create(queues: u16, queue_size: u16) -> Result<(InflightRegion, OwnedFd), InflightError> {
        let bytes = InflightRegion::bytes_for(queues, queue_size)? + MARK_BYTES;
        let file = sealed_memfd(bytes).map_err(InflightError::Map)?;
        let again = file
            .try_clone()
            .map_err(|error| InflightError::Map(system("dup")(error)))?;
        let region = InflightRegion::map(again, bytes, 0, queues, queue_size)?;
        Ok((region, file))
    }

    /// Makes a fresh region to be sent to the front-end, as [`InflightRegion::create`] does, without mapping it: its bytes,
    /// and the memfd. Nothing of it is written, which means "uninitialized" to whoever maps it: a front-end may ask for
    /// as many as it likes and keep them all, and pages are charged to whoever touches them first.
    pub fn offer(queues: u16, queue_size: u16) -> Result<(u64, OwnedFd), InflightError> {
        let bytes = InflightRegion::bytes_for(queues, queue_size)? + MARK_BYTES;
        let file = sealed_memfd(bytes).map_err(InflightError::Map)?;
        Ok((bytes, file))
    }

    /// Maps a region without limits: one of our own making, in tests and tools.
    pub fn map(
        file: OwnedFd,
        mmap_bytes: u64,
        mmap_offset: u64,
        queues: u16,
        queue_size: u16,
    ) -> Result<InflightRegion, InflightError> {
        let share = MemoryShare::unlimited();
        InflightRegion::map_within(file, mmap_bytes, mmap_offset, queues, queue_size, &share)
    }

    /// Maps the region a front-end kept for us (SET_INFLIGHT_FD), within its share.
    pub fn map_within(
        file: OwnedFd,
        mmap_bytes: u64,
        mmap_offset: u64,
        queues: u16,
        queue_size: u16,
        share: &Arc<MemoryShare>,
    ) -> Result<InflightRegion, InflightError> {
        let needed_bytes = InflightRegion::bytes_for(queues, queue_size)?;
        if mmap_bytes < needed_bytes {
            return Err(InflightError::TooSmall {
                bytes: mmap_bytes,
                needed_bytes,
            });
        }
        if !mmap_offset.is_multiple_of(8) {
            return Err(InflightError::Misaligned { offset: mmap_offset });
        }
        let has_mark = mmap_bytes >= needed_bytes + MARK_BYTES;
        let mapped_bytes = needed_bytes + if has_mark { MARK_BYTES } else { 0 };
        let mapping = Mapping::of_file(file, mmap_offset, mapped_bytes, share).map_err(InflightError::Map)?;
        let region = InflightRegion {
            mapping: Arc::new(mapping),
            queues,
            queue_size,
            mark: has_mark.then_some(needed_bytes as usize),
        };
        for queue in 0..queues {
            let area = region.area(queue);
            match area.load_u16(AT_VERSION) {
                0 => {
                    area.store_u16(AT_DESC_NUM, queue_size);
                    area.store_u16(AT_VERSION, VERSION);
                }
                VERSION => {}
                version => return Err(InflightError::Version { queue, version }),
            }
        }
        Ok(region)
    }

    /// Says whose requests it is for, by the permanent id of their volume: noted when nobody has said so yet. A region of a
    /// version before has no place for that, and is taken as it is.
    ///
    /// # Errors
    /// [`InflightError::OfAnother`]: it was in use for another volume.
    pub fn belongs_to(&self, volume: u128) -> Result<(), InflightError> {
        let Some(at) = self.mark else { return Ok(()) };
        // One store, so that a crash leaves all of it or nothing; zero stands for nobody.
        let own = ((volume >> 64) as u64 ^ volume as u64).max(1);
        let area = Area {
            address: self.mapping.address(),
            _mapping: Arc::clone(&self.mapping),
        };
        match area.load_u64(at) {
            0 => area.store_u64(at, own),
            mark if mark == own => {}
            _ => return Err(InflightError::OfAnother),
        }
        Ok(())
    }

    /// Bytes that the queue regions of this many queues take; the mark comes on top.
    pub fn bytes_for(queues: u16, queue_size: u16) -> Result<u64, InflightError> {
        let fits = (1..=QUEUES_MAX).contains(&queues) && (1..=QUEUE_SIZE_MAX).contains(&queue_size);
        if !fits {
            return Err(InflightError::Shape { queues, queue_size });
        }
        Ok(u64::from(queues) * queue_bytes(queue_size) as u64)
    }

    /// Length of the mapping in bytes.
    pub fn mmap_bytes(&self) -> u64 {
        self.mapping.bytes() as u64
    }

    /// The tracker of one queue; `None` when the region has no such queue. One at a time should be in use.
    pub fn queue(&self, queue: u16) -> Option<InflightQueue> {
        (queue < self.queues).then(|| InflightQueue {
            area: self.area(queue),
            entries: self.queue_size,
            counter: 0,
            batch: 0,
        })
    }

    fn area(&self, queue: u16) -> Area {
        Area {
            address: self.mapping.address() + usize::from(queue) * queue_bytes(self.queue_size),
            _mapping: Arc::clone(&self.mapping),
        }
    }
}

/// What is in flight in one queue.
#[derive(Debug)]
pub struct InflightQueue {
    area: Area,
    entries: u16,
    /// Number of the next request taken; orders the resubmission.
    counter: u64,
    /// Requests finished and not yet published.
    batch: u16,
}

impl InflightQueue {
    /// Entries that can be tracked; a ring must not be larger.
    pub fn entries(&self) -> u16 {
        self.entries
    }

    /// Repairs the last batch and gives all heads in flight, oldest first (specification, "reconnecting", steps 1
    /// and 2). `used_idx` is the used ring's. Heads at or above `size` are forgotten.
    pub fn recover(&mut self, used_idx: u16, size: u16) -> Vec<u16> {
        let published = used_idx.wrapping_sub(self.area.load_u16(AT_USED_IDX));
        // A fresh region beside a ring that has been in use says nothing about a batch, and nothing is in flight in
        // it either: clearing is bounded and harmless.
        self.clear_batch(published.min(self.entries));
        self.area.store_u16(AT_USED_IDX, used_idx);
        self.batch = 0;
        let mut heads: Vec<(u64, u16)> = (0..self.entries.min(size))
            .filter(|&head| self.is_in_flight(head))
            .map(|head| (self.area.load_u64(desc_at(head) + AT_COUNTER), head))
            .collect();
        heads.sort_unstable();
        self.counter = heads.last().map_or(0, |(counter, _)| counter.wrapping_add(1));
        heads.into_iter().map(|(_, head)| head).collect()
    }

    /// A request has been taken from the ring.
    #[inline]
    pub fn begin(&mut self, head: u16) {
        if head < self.entries {
            self.area.store_u64(desc_at(head) + AT_COUNTER, self.counter);
            self.counter = self.counter.wrapping_add(1);
            self.area.store_u8(desc_at(head) + AT_INFLIGHT, 1);
        }
    }

    /// A request has been answered in the used ring, whose index does not show it yet.
    #[inline]
    pub fn finish(&mut self, head: u16) {
        if head < self.entries {
            self.area
                .store_u16(desc_at(head) + AT_NEXT, self.area.load_u16(AT_LAST_BATCH_HEAD));
            self.area.store_u16(AT_LAST_BATCH_HEAD, head);
            self.batch = self.batch.saturating_add(1);
        }
    }

    /// The used ring's index now shows everything finished.
    #[inline]
    pub fn publish(&mut self, used_idx: u16) {
        self.clear_batch(self.batch);
        self.area.store_u16(AT_USED_IDX, used_idx);
        self.batch = 0;
    }

    /// Whether a head is in flight.
    pub fn is_in_flight(&self, head: u16) -> bool {
        head < self.entries && self.area.load_u8(desc_at(head) + AT_INFLIGHT) == 1
    }

    /// Clears `count` entries of the list that begins with the last batch's head. The list lies in memory the
    /// front-end can write, so it is followed with care: bounded, and never outside the region.
    #[inline]
    fn clear_batch(&mut self, count: u16) {
        let mut head = self.area.load_u16(AT_LAST_BATCH_HEAD);
        for _ in 0..count {
            if head >= self.entries {
                return;
            }
            self.area.store_u8(desc_at(head) + AT_INFLIGHT, 0);
            head = self.area.load_u16(desc_at(head) + AT_NEXT);
        }
    }
}

/// One queue region. Offsets are checked by the callers against the queue's size.
#[derive(Debug)]
struct Area {
    address: usize,
    _mapping: Arc<Mapping>,
}

impl Area {
    #[inline]
    fn load_u8(&self, at: usize) -> u8 {
        // SAFETY: `at` lies inside the queue region (a header field, or a descriptor state below `entries`), which
        // `_mapping` keeps mapped; regions begin at multiples of 8 and fields are naturally aligned in them. The
        // reference to the atomic ends with the call. The same holds for all functions of this block.
        unsafe { AtomicU8::from_ptr((self.address + at) as *mut u8) }.load(Ordering::Relaxed)
    }

    #[inline]
    fn store_u8(&self, at: usize, value: u8) {
        // SAFETY: as in `load_u8`.
        unsafe { AtomicU8::from_ptr((self.address + at) as *mut u8) }.store(value, Ordering::Release);
    }

    #[inline]
    fn load_u16(&self, at: usize) -> u16 {
        // SAFETY: as in `load_u8`.
        unsafe { AtomicU16::from_ptr((self.address + at) as *mut u16) }.load(Ordering::Relaxed)
    }

    #[inline]
    fn store_u16(&self, at: usize, value: u16) {
        // SAFETY: as in `load_u8`.
        unsafe { AtomicU16::from_ptr((self.address + at) as *mut u16) }.store(value, Ordering::Release);
    }

    #[inline]
    fn load_u64(&self, at: usize) -> u64 {
        // SAFETY: as in `load_u8`.
        unsafe { AtomicU64::from_ptr((self.address + at) as *mut u64) }.load(Ordering::Relaxed)
    }

    #[inline]
    fn store_u64(&self, at: usize, value: u64) {
        // SAFETY: as in `load_u8`.
        unsafe { AtomicU64::from_ptr((self.address + at) as *mut u64) }.store(value, Ordering::Release);
    }
}

fn queue_bytes(queue_size: u16) -> usize {
    (HEADER_BYTES + DESC_BYTES * usize::from(queue_size)).next_multiple_of(ALIGN_BYTES)
}

#[inline]
fn desc_at(head: u16) -> usize {
    HEADER_BYTES + DESC_BYTES * usize::from(head)
}

/// A zeroed memfd of fixed size.
fn sealed_memfd(bytes: u64) -> Result<OwnedFd, MapError> {
    let failed = |call| move || system(call)(io::Error::last_os_error());
    // SAFETY: the name is a C string; the call has no other demands.
    let fd = unsafe {
        libc::memfd_create(
            c"palisade-inflight".as_ptr(),
            libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
        )
    };
    if fd < 0 {
        return Err(failed("memfd_create")());
    }
    // SAFETY: `fd` has just been made and nobody else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a plain call on an open descriptor; the size is bounded by `bytes_for`.
    if unsafe { libc::ftruncate(file.as_raw_fd(), bytes as libc::off_t) } != 0 {
        return Err(failed("ftruncate")());
    }
    let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: a plain call on an open descriptor.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(failed("fcntl(F_ADD_SEALS)")());
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
