//! Operations in the kernel: one place for each slot of the engine, allocated once.
//!
//! What the kernel and the disk processes are pointed at is kept here and in the table of memory, and nowhere with the
//! engine: an operation goes on, or waits to be handed over, whatever becomes of the one who started it.

use super::fault::fault;
use super::memory::MemoryTable;
use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use palisade_block::lease::SEGMENT_LAYOUT;
use palisade_block::ledger;
use palisade_block::limits::SEGMENTS_PER_SLOT;
use palisade_block::{DeviceKind, Fault, Io, Op, Segment};
use palisade_words::{DeviceIndex, MemoryId, SlotIndex};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

/// `BLOCK_URING_CMD_DISCARD` of linux/blkdev.h: a block device's own discard, Linux 6.12.
const BLOCK_URING_CMD_DISCARD: u32 = 0x1200;

const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;

/// Zeroes where the space stays reserved (fallocate(2)). How far that holds depends on the file system:
///
/// - ext4 turns the extents into unwritten ones where they are (`ext4_zero_range`): nothing is given away.
/// - xfs gives the range back and takes it anew, in transactions of their own (`xfs_falloc_zero_range`: `xfs_free_file_space`,
///   then `xfs_alloc_file_space`). Between the two somebody else may take the blocks of a full file system; then this fails
///   with ENOSPC, reads as zeroes, and has lost its space. In 24,000 calls on a full one beside three threads that took
///   whatever was free (Linux 6.18) that did not happen once; nothing says that it cannot.
/// - btrfs takes new space before it gives the old back (`btrfs_zero_range`), so that it fails with ENOSPC on a full file
///   system although a file without copy-on-write can be overwritten there; nothing is given away.
///
/// So ENOSPC is no failure of a file that keeps its space: a discard is nothing then, which it may be, and zeroes are
/// written.
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

/// All operations of one reactor.
#[derive(Debug)]
pub(super) struct Flights {
    slots: Box<[Flight]>,
    /// Room for the segments of each slot's operation. Only what has been used takes memory.
    lists: Box<[[MaybeUninit<Segment>; SEGMENTS_PER_SLOT]]>,
    count: u32,
    most: u32,
    /// Slots whose operation must be handed over again; room for all.
    continued: Vec<u32>,
    /// Names of operations to be taken back; room for all.
    cancelled: Vec<u64>,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    /// Counts the slot's operations, so that what is said of a former one is not taken for the present one.
    generation: u32,
    active: bool,
    cancelled: bool,
    step: Step,
    op: Op,
    durable: bool,
    kind: DeviceKind,
    device: DeviceIndex,
    files: Files,
    /// It is, or is to be, in the disk's own process, and no more in the reactor's ring.
    outside: bool,
    offset: u64,
    bytes: u64,
    /// Bytes moved so far.
    done: u64,
    memory: MemoryId,
    /// The only segment, or the first.
    first: Segment,
    segment_count: u32,
    /// The slot's place in `lists`, which holds the segments where there are several.
    list: *const Segment,
}

/// Where a file or block device is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files {
    /// For reads and writes that do not wait; `None` when there are none such.
    pub(super) direct: Option<RawFd>,
    /// In the disk's own process.
    pub(super) inside: RawFd,
    /// It is a file that keeps its space whatever is discarded.
    pub(super) keeps_space: bool,
}

/// How far an operation has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The operation itself, in its best way.
    First,
    /// A discard that the block device's command could not do: the way of files.
    Fallback,
    /// What was deallocated or zeroed is being made stable.
    Sync,
}

impl Flights {
    pub(super) fn new(slots: u32, most: u32) -> Flights {
        Flights {
            slots: vec![Flight::EMPTY; slots as usize].into(),
            lists: lists(slots as usize),
            count: 0,
            most,
            continued: Vec::with_capacity(slots as usize),
            cancelled: Vec::with_capacity(slots as usize),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.count < self.most
    }

    /// Whether something waits for room in the submission queue.
    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        !self.continued.is_empty() || !self.cancelled.is_empty()
    }

    /// Notes an operation and gives it a name. The slot must be free and inside the table; both are the engine's
    /// duty, and a mistake would mix up two guests' data, so it stops the process.
    #[inline]
    pub(super) fn begin(&mut self, io: &Io<'_>, files: Files, kind: DeviceKind) -> (u64, &Flight) {
        let place = self.slots.get_mut(io.slot.usize());
        let (Some(flight), Some(list)) = (
            place.filter(|flight| !flight.active),
            self.lists.get_mut(io.slot.usize()),
        ) else {
            unreachable!("slot {} is outside the table or in flight", io.slot.0);
        };
        let first = io.segments.first().copied().unwrap_or_default();
        if let [_, _, ..] = io.segments {
            keep(io.segments, list);
        }
        *flight = Flight {
            generation: flight.generation.wrapping_add(1),
            active: true,
            cancelled: false,
            step: Step::First,
            op: io.op,
            durable: io.durable,
            kind,
            device: io.device,
            files,
            outside: files.direct.is_none() || !io.op.moves_data(),
            offset: io.lba.bytes(),
            bytes: io.sectors.bytes(),
            done: 0,
            memory: io.memory,
            first,
            segment_count: io.segments.len() as u32,
            list: list.as_ptr().cast(),
        };
        ledger::enter(&mut self.count, "operations in flight");
        (name(io.slot.0, flight.generation), flight)
    }

    /// Takes a completion: an answer for the engine, or `None` when the operation goes on or is known no more.
    #[inline]
    pub(super) fn complete(&mut self, name: u64, result: i32) -> Option<(SlotIndex, Result<(), Fault>)> {
        let (slot, generation) = (name as u32, (name >> 32) as u32);
        let flight = self.slots.get_mut(slot as usize)?;
        if !flight.active || flight.generation != generation {
            return None;
        }
        match flight.advance(result) {
            Some(result) => {
                flight.active = false;
                ledger::leave(&mut self.count, "operations in flight");
                Some((SlotIndex(slot), result))
            }
            None => {
                self.continued.push(slot);
                None
            }
        }
    }

    /// The device of a slot's last operation, and the position in bytes up to which it has come there.
    pub(super) fn reached(&self, slot: SlotIndex) -> Option<(DeviceIndex, u64)> {
        let flight = self.slots.get(slot.usize())?;
        Some((flight.device, flight.offset + flight.done))
    }

    /// An operation to be handed over again.
    pub(super) fn take_continued(&mut self) -> Option<(u64, &Flight)> {
        let slot = self.continued.pop()?;
        let flight = self.slots.get(slot as usize)?;
        Some((name(slot, flight.generation), flight))
    }

    /// The name of an operation to be taken back, and the device in whose process it is, if it is in one.
    pub(super) fn take_cancelled(&mut self) -> Option<(u64, Option<DeviceIndex>)> {
        let name = self.cancelled.pop()?;
        let flight = self.slots.get(name as u32 as usize)?;
        Some((name, flight.outside.then_some(flight.device)))
    }

    pub(super) fn cancel(&mut self, slot: SlotIndex) {
        let place = self.slots.get_mut(slot.usize());
        let Some(flight) = place.filter(|flight| flight.active && !flight.cancelled) else {
            return;
        };
        // Full only after more cancellations than slots without a submission between them; the stall watch asks again.
        if self.cancelled.len() < self.cancelled.capacity() {
            flight.cancelled = true;
            self.cancelled.push(name(slot.0, flight.generation));
        }
    }

    /// Whether something is in flight on a device.
    pub(super) fn are_on(&self, device: DeviceIndex) -> bool {
        self.count > 0
            && self
                .slots
                .iter()
                .any(|flight| flight.active && flight.device == device)
    }

    /// Whether something is in flight from or to some memory.
    pub(super) fn are_in(&self, memory: MemoryId) -> bool {
        let in_memory = |flight: &Flight| flight.active && flight.op.moves_data() && flight.memory == memory;
        self.count > 0 && self.slots.iter().any(in_memory)
    }

    pub(super) fn cancel_all(&mut self) {
        (0..self.slots.len() as u32).for_each(|slot| self.cancel(SlotIndex(slot)));
    }
}

impl Flight {
    const EMPTY: Flight = Flight {
        generation: 0,
        active: false,
        cancelled: false,
        step: Step::First,
        op: Op::Flush,
        durable: false,
        kind: DeviceKind::Null,
        device: DeviceIndex(0),
        files: Files {
            direct: None,
            inside: -1,
            keeps_space: false,
        },
        outside: true,
        offset: 0,
        bytes: 0,
        done: 0,
        memory: MemoryId::POOL,
        first: Segment::EMPTY,
        segment_count: 0,
        list: std::ptr::null(),
    };

    /// Takes the kernel's result (bytes, or a negative error number): the final result, or `None` to go on.
    #[inline]
    fn advance(&mut self, result: i32) -> Option<Result<(), Fault>> {
        if result < 0 {
            return self.advance_after_error(-result);
        }
        if self.op.moves_data() {
            self.done += result as u64;
            return match self.done >= self.bytes {
                true => Some(Ok(())),
                // The file or device ends here.
                false if result == 0 => Some(Err(Fault::BeyondEnd)),
                false if self.cancelled => Some(Err(Fault::TimedOut)),
                false => None,
            };
        }
        if self.durable && self.op.changes() && self.step != Step::Sync {
            self.step = Step::Sync;
            return None;
        }
        Some(Ok(()))
    }

    #[cold]
    fn advance_after_error(&mut self, errno: i32) -> Option<Result<(), Fault>> {
        match errno {
            libc::EINTR | libc::EAGAIN if self.cancelled => Some(Err(Fault::TimedOut)),
            // It cannot be done without waiting, or (EOPNOTSUPP, EINVAL) cannot be asked to be.
            libc::EAGAIN | libc::EOPNOTSUPP | libc::EINVAL if !self.outside => {
                self.outside = true;
                None
            }
            libc::EINTR | libc::EAGAIN => None,
            libc::EOPNOTSUPP | libc::EINVAL | libc::ENOTTY if self.is_command() => {
                self.step = Step::Fallback;
                None
            }
            // There is no room to take anew what the file has: see `ZERO`.
            libc::ENOSPC if self.files.keeps_space && self.is_zeroing() => Some(Err(Fault::Unsupported)),
            // Our own buffers are there as long as the reactor is.
            libc::EFAULT if self.memory == MemoryId::POOL => Some(Err(Fault::Rejected)),
            errno => Some(Err(fault(errno))),
        }
    }

    fn is_zeroing(&self) -> bool {
        matches!(self.op, Op::Discard | Op::WriteZeroes { .. })
    }

    /// Whether the entry in the kernel is a block device's own discard.
    fn is_command(&self) -> bool {
        self.op == Op::Discard && self.kind == DeviceKind::Block && self.step == Step::First
    }

    /// The entry for what is to be done next.
    #[inline]
    pub(super) fn entry(&self, memory: &MemoryTable, vectored_fixed: bool) -> squeue::Entry {
        let entry = match self.op {
            _ if self.step == Step::Sync => self.sync(),
            Op::Read | Op::Write => match self.list() {
                [only] => self.single(*only, 0, memory),
                list if self.done == 0 => self.vectored(list, memory, vectored_fixed),
                list => self.rest(list, memory),
            },
            Op::Flush => self.sync(),
            Op::Discard if self.is_command() => self.discard_command(),
            // Where that cannot be done a discard is nothing, which it may be, and zeroes are written.
            Op::Discard | Op::WriteZeroes { unmap: true } if self.files.keeps_space => self.allocate(ZERO),
            Op::Discard | Op::WriteZeroes { unmap: true } => self.allocate(PUNCH),
            Op::WriteZeroes { unmap: false } => self.allocate(ZERO),
        };
        match self.files.direct {
            // By a worker of the kernel's at once: such a file may block whoever submits.
            None if self.op.moves_data() => entry.flags(squeue::Flags::ASYNC),
            _ => entry,
        }
    }

    /// Whether the disk's own process is to carry it out.
    #[inline]
    pub(super) fn is_outside(&self) -> bool {
        self.outside
    }

    #[inline]
    pub(super) fn device(&self) -> DeviceIndex {
        self.device
    }

    /// The descriptor where it is carried out.
    #[inline]
    fn fd(&self) -> Fd {
        match self.files.direct {
            Some(direct) if !self.outside => Fd(direct),
            _ => Fd(self.files.inside),
        }
    }

    fn list(&self) -> &[Segment] {
        match self.segment_count {
            0 => &[],
            1 => std::slice::from_ref(&self.first),
            // SAFETY: `begin` has filled so many places of the slot's list, which nobody writes while the slot is active,
            // and which lives as long as the table that this is borrowed from.
            several => unsafe { std::slice::from_raw_parts(self.list, several as usize) },
        }
    }

    /// What is left of one segment that begins `before` bytes into the operation.
    #[inline]
    fn single(&self, segment: Segment, before: u64, memory: &MemoryTable) -> squeue::Entry {
        let skip = self.done - before;
        let (address, bytes) = (
            segment.address() + skip as usize,
            (segment.bytes() - skip as usize) as u32,
        );
        let (fd, offset, pointer) = (self.fd(), self.offset + self.done, address as *mut u8);
        // Memory is pinned for the reactor's ring only.
        let pinned = (!self.outside)
            .then(|| memory.find(self.memory, segment))
            .flatten();
        match (self.op, pinned) {
            (Op::Read, Some(index)) => opcode::ReadFixed::new(fd, pointer, bytes, index)
                .offset(offset)
                .rw_flags(self.rw_flags())
                .build(),
            (Op::Read, None) => opcode::Read::new(fd, pointer, bytes)
                .offset(offset)
                .rw_flags(self.rw_flags())
                .build(),
            (_, Some(index)) => opcode::WriteFixed::new(fd, pointer, bytes, index)
                .offset(offset)
                .rw_flags(self.rw_flags())
                .build(),
            (_, None) => opcode::Write::new(fd, pointer, bytes)
                .offset(offset)
                .rw_flags(self.rw_flags())
                .build(),
        }
    }

    #[inline]
    fn vectored(&self, list: &[Segment], memory: &MemoryTable, fixed: bool) -> squeue::Entry {
        // A `Segment` has the layout of an iovec (asserted below).
        let (fd, vector, count) = (self.fd(), list.as_ptr().cast(), list.len() as u32);
        let index = (fixed && !self.outside)
            .then(|| memory.find_all(self.memory, list))
            .flatten();
        match (self.op, index) {
            (Op::Read, Some(index)) => opcode::ReadvFixed::new(fd, vector, count, index)
                .offset(self.offset)
                .rw_flags(self.rw_flags())
                .build(),
            (Op::Read, None) => opcode::Readv::new(fd, vector, count)
                .offset(self.offset)
                .rw_flags(self.rw_flags())
                .build(),
            (_, Some(index)) => opcode::WritevFixed::new(fd, vector, count, index)
                .offset(self.offset)
                .rw_flags(self.rw_flags())
                .build(),
            (_, None) => opcode::Writev::new(fd, vector, count)
                .offset(self.offset)
                .rw_flags(self.rw_flags())
                .build(),
        }
    }

    /// After a short transfer: the rest of the segment in which it ended.
    #[cold]
    fn rest(&self, list: &[Segment], memory: &MemoryTable) -> squeue::Entry {
        let mut before = 0;
        for segment in list {
            if self.done < before + segment.bytes() as u64 {
                return self.single(*segment, before, memory);
            }
            before += segment.bytes() as u64;
        }
        unreachable!(
            "{} of {} bytes are done and the segments end",
            self.done, self.bytes
        );
    }

    #[inline]
    fn rw_flags(&self) -> i32 {
        let durable = match self.durable && self.op == Op::Write {
            true => libc::RWF_DSYNC,
            false => 0,
        };
        match self.outside {
            true => durable,
            false => durable | libc::RWF_NOWAIT,
        }
    }

    fn sync(&self) -> squeue::Entry {
        let flags = io_uring::types::FsyncFlags::DATASYNC;
        opcode::Fsync::new(self.fd()).flags(flags).build()
    }

    fn allocate(&self, mode: i32) -> squeue::Entry {
        opcode::Fallocate::new(self.fd(), self.bytes)
            .offset(self.offset)
            .mode(mode)
            .build()
    }

    /// The command takes the start in `addr` and the length in `addr3`, the first half of the command's bytes.
    fn discard_command(&self) -> squeue::Entry {
        let mut command = [0; 16];
        let (length, _) = command.split_at_mut(8);
        length.copy_from_slice(&self.bytes.to_ne_bytes());
        opcode::UringCmd16::new(self.fd(), BLOCK_URING_CMD_DISCARD)
            .cmd(command)
            .addr(Some(self.offset))
            .build()
    }
}

fn name(slot: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}

/// Copies segments to where they stay until their operation is done.
fn keep(segments: &[Segment], list: &mut [MaybeUninit<Segment>; SEGMENTS_PER_SLOT]) {
    assert!(
        segments.len() <= SEGMENTS_PER_SLOT,
        "an operation of {} segments: a slot has no place for so many",
        segments.len()
    );
    for (place, segment) in list.iter_mut().zip(segments) {
        place.write(*segment);
    }
}

/// As many lists as there are slots, without touching their memory.
fn lists(slots: usize) -> Box<[[MaybeUninit<Segment>; SEGMENTS_PER_SLOT]]> {
    let lists = Box::<[[MaybeUninit<Segment>; SEGMENTS_PER_SLOT]]>::new_uninit_slice(slots);
    // SAFETY: an array of `MaybeUninit` needs no initial value.
    unsafe { lists.assume_init() }
}

const _: () = assert!(size_of::<Segment>() == size_of::<libc::iovec>());
const _: () = assert!(SEGMENT_LAYOUT.0 == std::mem::offset_of!(libc::iovec, iov_base));
const _: () = assert!(SEGMENT_LAYOUT.1 == std::mem::offset_of!(libc::iovec, iov_len));
