//! What stands below the engine: the devices one reactor reads and writes directly.

use crate::lease::{Lease, Segment};
use crate::request::Op;
use crate::route::MappingId;
use crate::time::Nanos;
use palisade_words::{DeviceIndex, Lba, MemoryId, PinnedId, Sectors, SlotIndex};
use std::fmt::Debug;
use std::io;

/// What a device is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeviceKind {
    /// Answers at once and keeps nothing; for measuring.
    Null,
    /// Hugepages; content is gone when the process ends. For tests and measuring.
    Memory,
    /// A file opened with O_DIRECT.
    File,
    /// A block device opened with O_DIRECT and O_EXCL.
    Block,
    /// A disk that another node reaches, which is asked over a data port.
    Peer,
}

/// Why a device did not do what it was asked. Typed, so that the room that knows how can react, and by cause: what the
/// guest has done to itself is never taken for a failure of a disk that others share ([`Fault::origin`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// The medium failed (EIO, unreadable or corrupt data, and everything not named below).
    Media,
    /// No space left (ENOSPC, EDQUOT).
    NoSpace,
    /// The device has vanished (ENODEV, ENXIO, a stale handle, a file system whose server has ended).
    Gone,
    /// The device refused the node (EBADE, a reservation conflict): this node has been fenced.
    Fenced,
    /// The operation is not offered by the device (EOPNOTSUPP).
    Unsupported,
    /// The device was told to write but may only be read (EROFS).
    ReadOnly,
    /// The deadline passed and the operation was taken back before it had any effect on memory (ECANCELED).
    TimedOut,
    /// The guest's memory was not there when data was moved (EFAULT): its VMM has taken it away.
    GuestMemory,
    /// The way to the device is broken or too slow: link, network, server (ENOLINK, ETIMEDOUT, EHOSTUNREACH). It may
    /// come back.
    Unreachable,
    /// The range lies behind the end of the device: it has shrunk, or was cut off.
    BeyondEnd,
    /// The file may not become that large (EFBIG): a limit of the process (RLIMIT_FSIZE) or of its file system.
    TooLarge,
    /// The host had no memory or no other means for the operation (ENOMEM, ENOBUFS).
    NoMemory,
    /// The host forbids the operation: rights, seals, an immutable file (EPERM, EACCES, ETXTBSY).
    Denied,
    /// The kernel took the operation for malformed (EINVAL, EBADF): an alignment that we got wrong, or a bug of ours.
    Rejected,
}

/// Whose doing a fault is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// The guest or its VMM has brought it on itself; the device has nothing to do with it.
    Guest,
    /// The device, or what leads to it.
    Device,
    /// This machine and how it is set up.
    Host,
    /// This program.
    Ours,
}

impl Fault {
    /// How many there are, for tables of counters.
    pub const KINDS: usize = 14;

    /// All of them, in the order of [`Fault::kind`].
    pub const ALL: [Fault; Fault::KINDS] = [
        Fault::Media,
        Fault::NoSpace,
        Fault::Gone,
        Fault::Fenced,
        Fault::Unsupported,
        Fault::ReadOnly,
        Fault::TimedOut,
        Fault::GuestMemory,
        Fault::Unreachable,
        Fault::BeyondEnd,
        Fault::TooLarge,
        Fault::NoMemory,
        Fault::Denied,
        Fault::Rejected,
    ];

    /// Names in the order of [`Fault::kind`]; also the label values of metrics.
    pub const NAMES: [&'static str; Fault::KINDS] = [
        "media",
        "no_space",
        "gone",
        "fenced",
        "unsupported",
        "read_only",
        "timed_out",
        "guest_memory",
        "unreachable",
        "beyond_end",
        "too_large",
        "no_memory",
        "denied",
        "rejected",
    ];

    /// The kind as a position in a table of counters.
    pub fn kind(self) -> usize {
        self as usize
    }

    /// Whether somebody may heal it, or send the request another way: the device is gone, out of reach, too slow, or refuses
    /// this node. What it says of the medium, the host or the guest is the same on every way.
    pub fn may_heal(self) -> bool {
        matches!(
            self,
            Fault::Gone | Fault::Fenced | Fault::Unreachable | Fault::TimedOut
        )
    }

    /// Whose doing it is. Only faults that are not the guest's count with the device.
    pub fn origin(self) -> Origin {
        match self {
            Fault::Media
            | Fault::Gone
            | Fault::Fenced
            | Fault::Unsupported
            | Fault::TimedOut
            | Fault::Unreachable
            | Fault::BeyondEnd => Origin::Device,
            Fault::GuestMemory => Origin::Guest,
            Fault::NoSpace | Fault::ReadOnly | Fault::TooLarge | Fault::NoMemory | Fault::Denied => {
                Origin::Host
            }
            Fault::Rejected => Origin::Ours,
        }
    }
}

/// Geometry and abilities of a device, fixed while it is open (except its size, which may grow).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceLimits {
    /// What it is made of.
    pub kind: DeviceKind,
    /// Size.
    pub sectors: Sectors,
    /// Logical block in bytes, 512 or 4096: offsets and lengths are multiples of it.
    pub block_bytes: u32,
    /// Memory addresses must be multiples of it, a power of two; 1 when any will do.
    pub memory_alignment: u32,
    /// The length of each segment must be a multiple of it, a power of two; 1 when any will do. Kernels from 6.0 to 6.17
    /// ask for whole logical blocks, and devices that cannot transfer from any address do on all kernels.
    pub length_alignment: u32,
    /// Most bytes in one operation; longer ones are split by the engine.
    pub io_bytes_max: u32,
    /// Bytes that the device gives back as one when they are discarded: of less it may give back nothing.
    pub discard_granularity: u32,
    /// Whether discard does anything.
    pub discard: bool,
    /// Whether write-zeroes is offered; if not, zeroes are written.
    pub write_zeroes: bool,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// One operation on one device.
#[derive(Debug)]
pub struct Io<'a> {
    /// On which device.
    pub device: DeviceIndex,
    /// The engine's name for it, given back on completion. Until then it names nothing else.
    pub slot: SlotIndex,
    /// Under which mapping it is sent. Whoever carries it elsewhere says so with it.
    pub mapping: &'a MappingId,
    /// When it will be asked back, unless it has ended ([`Devices::cancel`]).
    pub deadline: Nanos,
    /// What to do.
    pub op: Op,
    /// First sector on the device.
    pub lba: Lba,
    /// Length. For a read or write it equals the sum of the segments; zero for a flush.
    pub sectors: Sectors,
    /// The write must be on stable storage when it completes (FUA, `RWF_DSYNC`).
    pub durable: bool,
    /// Nothing else was to be done beside it: the sooner it is done the better, whatever it costs those that follow.
    pub alone: bool,
    /// As what the devices keep the memory in which the segments lie.
    pub memory: MemoryId,
    /// The data. The list need not outlive the call: whoever is not done then keeps what he needs of it.
    pub segments: &'a [Segment],
}

/// What became of an operation handed to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Started {
    /// It is done already.
    Done(Result<(), Fault>),
    /// It will come out of [`Devices::reap`], exactly once.
    Pending,
    /// There is no room just now; nothing was taken. Try again next turn.
    Busy,
}

/// All devices of one reactor. The engine calls `start` any number of times, then `submit` once per turn.
///
/// Operations move data from and to memory that the devices *keep*: they have its lease until it is let go of, and longer
/// where something is still in flight on it. That is theirs to see to, whatever becomes of the engine.
pub trait Devices {
    /// An open device, as it comes from whoever has opened it.
    type Opened: Debug;

    /// Guest memory whose pages are pinned.
    type Pinned: Debug;

    /// What a guest announces requests by.
    type Kick: Debug;

    /// What they are told besides: of other nodes, where disks lie behind those. [`Infallible`](std::convert::Infallible) where
    /// nothing is.
    type Order: Debug;

    /// What they tell of that.
    type Report: Debug;

    /// Takes a device into use under a number, which no other has. Not part of a turn.
    ///
    /// # Errors
    /// It cannot be used on this reactor.
    fn open(&mut self, device: DeviceIndex, opened: Self::Opened) -> io::Result<()>;

    /// Lets go of a device that has nothing in flight. Not part of a turn.
    fn close(&mut self, device: DeviceIndex);

    /// Takes over a device's new size. Not part of a turn.
    fn grow(&mut self, device: DeviceIndex);

    /// Takes pinned memory into use, which is sooner read and written. Not part of a turn.
    fn pin(&mut self, id: PinnedId, pinned: Self::Pinned);

    /// Goes on without it, and gives it back to be dropped elsewhere. Not part of a turn.
    fn unpin(&mut self, id: PinnedId) -> Option<Self::Pinned>;

    /// Keeps memory for one user more, and gives it a number; memory that is kept already goes by the one it has. Not
    /// part of a turn: this may allocate.
    fn keep(&mut self, lease: &Lease) -> MemoryId;

    /// Keeps the memory of the reactor's own pool, as [`MemoryId::POOL`].
    fn keep_pool(&mut self, lease: &Lease);

    /// One user less: the number is free again when there is none left.
    ///
    /// # Panics
    /// When an operation on it is in flight, or it is not kept: a bug of the engine's.
    fn let_go(&mut self, memory: MemoryId);

    /// Whether a device gains by [`expect`](Devices::expect): those whose data lies in memory do. A request for such a
    /// device is started when the one behind it is known.
    fn looks_ahead(&self, device: DeviceIndex) -> bool {
        let _ = device;
        false
    }

    /// An operation on this range will be started behind one that has not been started yet, so that there is time to
    /// fetch its data. A hint.
    fn expect(&self, device: DeviceIndex, lba: Lba, sectors: Sectors) {
        let _ = (device, lba, sectors);
    }

    /// Takes an order. Not part of a turn.
    fn order(&mut self, order: Self::Order);

    /// The oldest report that was not fetched yet. Not part of a turn.
    fn next_report(&mut self) -> Option<Self::Report>;

    /// A turn begins at this moment. Devices that lie in this machine have no use for it.
    #[inline]
    fn begin_turn(&mut self, now: Nanos) {
        let _ = now;
    }

    /// The moment at which a turn is due for them even if nothing wakes the reactor.
    fn due(&self) -> Option<Nanos> {
        None
    }

    /// Takes one operation.
    ///
    /// # Panics
    /// When a segment lies outside the memory it is said to be of: it would be somebody else's that is read or written,
    /// and that is a bug of the engine's or the source's.
    fn start(&mut self, io: Io<'_>) -> Started;

    /// Hands everything taken since the last call to the kernel, in one step. Never blocks.
    fn submit(&mut self);

    /// Gives every operation finished since the last call to `done`; the count is returned. Never blocks.
    fn reap(&mut self, done: impl FnMut(SlotIndex, Result<(), Fault>)) -> usize;

    /// Asks for an operation to be taken back. Whether that worked is told by its completion, which comes in
    /// either case: [`Fault::TimedOut`] if it was taken back.
    fn cancel(&mut self, slot: SlotIndex);

    /// What the device can do; `None` when there is no such device (any more).
    fn limits(&self, device: DeviceIndex) -> Option<DeviceLimits>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_place_and_a_name_of_its_own() {
        for (position, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault.kind(), position);
        }
        let names: std::collections::BTreeSet<_> = Fault::NAMES.into_iter().collect();
        assert_eq!(names.len(), Fault::KINDS);
    }
}
