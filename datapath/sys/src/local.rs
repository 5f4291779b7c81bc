//! All devices of one reactor: null and memory answered at once, files and block devices through one io_uring.
//!
//! ```text
//! start ──> null, memory: Done
//!       └─> kernel: one entry in the submission queue ──submit──> kernel ──> completion queue ──reap──> done(slot)
//!                       ^                                                          │
//!                       └───────────── the rest of a short transfer ───────────────┘
//! ```
//!
//! A slot's number and a generation are the name of an operation in the ring, so that a late cancellation never
//! meets a later operation of the same slot. A short transfer goes on with what is left, segment by segment: it is
//! so rare that speed does not count, and success is reported for the whole or not at all.
//!
//! It is made, used and dropped on its reactor's thread (the ring knows a single issuer), hence not `Send`.

mod fault;
mod flight;
mod instant;
mod memory;
mod ring;

use crate::device::{Media, Opened};
use crate::{EventFd, affinity};
use flight::Flights;
use memory::MemoryTable;
pub use memory::{Coverage, MemoryRegistration};
use palisade_block::limits::DEVICES_MAX;
use palisade_block::{DeviceIndex, DeviceLimits, Devices, Fault, Io, MemoryId, Segment, SlotIndex, Started};
use ring::Ring;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long [`LocalDevices::idle_hint`] sleeps at most.
pub const IDLE_WAIT: Duration = Duration::from_micros(10);

/// How long dropping waits for what is in flight.
const DROP_WAIT: Duration = Duration::from_secs(2);

/// How large a reactor's device table and ring are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalSettings {
    /// Slots of the engine: every [`SlotIndex`] given to `start` is below it.
    pub slots: u32,
    /// Operations that may be in the kernel at once.
    pub in_flight_max: u32,
    /// Entries of the submission queue: what one turn can hand over.
    pub submission_entries: u32,
}

impl Default for LocalSettings {
    fn default() -> Self {
        LocalSettings {
            slots: 4096,
            in_flight_max: 1024,
            submission_entries: 256,
        }
    }
}

/// The devices of one reactor.
#[derive(Debug)]
pub struct LocalDevices {
    ring: Ring,
    devices: Box<[Option<Place>]>,
    memory: MemoryTable,
    flights: Flights,
    wakeup: EventFd,
}

/// A device in the table.
#[derive(Debug)]
struct Place {
    opened: Arc<Opened>,
    limits: DeviceLimits,
    target: Target,
}

/// Where an operation goes.
#[derive(Clone, Copy, Debug)]
enum Target {
    Null,
    Memory,
    Kernel(ring::File),
}

impl LocalDevices {
    /// Makes an empty table and a ring. To be called on the reactor's thread.
    ///
    /// # Errors
    /// The kernel has no io_uring for us (ENOSYS, EPERM) or too little memory may be locked (ENOMEM).
    pub fn new(settings: LocalSettings) -> io::Result<LocalDevices> {
        affinity::sharpen_timers();
        let wakeup = EventFd::new()?;
        let ring = Ring::new(settings, wakeup.as_raw_fd())?;
        Ok(LocalDevices {
            ring,
            devices: (0..DEVICES_MAX).map(|_| None).collect(),
            memory: MemoryTable::default(),
            flights: Flights::new(settings.slots, settings.in_flight_max),
            wakeup,
        })
    }

    /// Takes a device into use under a number; the number's former device is given back and must have nothing in
    /// flight. What is given back is to be dropped elsewhere: closing may take long.
    ///
    /// # Errors
    /// `InvalidInput` when the number is not below [`DEVICES_MAX`].
    pub fn add_device(
        &mut self,
        device: DeviceIndex,
        opened: Arc<Opened>,
    ) -> io::Result<Option<Arc<Opened>>> {
        let place = self
            .devices
            .get_mut(device.usize())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let target = match opened.media() {
            Media::Null => Target::Null,
            Media::Memory(_) => Target::Memory,
            Media::Kernel(file) => Target::Kernel(self.ring.add_file(device, file.as_raw_fd())),
        };
        let limits = opened.limits();
        Ok(place
            .replace(Place {
                opened,
                limits,
                target,
            })
            .map(|former| former.opened))
    }

    /// Ends the use of a device, which must have nothing in flight, and gives it back to be dropped elsewhere.
    pub fn remove_device(&mut self, device: DeviceIndex) -> Option<Arc<Opened>> {
        let place = self.devices.get_mut(device.usize())?.take()?;
        if let Target::Kernel(_) = place.target {
            self.ring.remove_file(device);
        }
        Some(place.opened)
    }

    /// Takes over the size that [`Opened::refresh_size`] has found.
    pub fn resize(&mut self, device: DeviceIndex) {
        if let Some(Some(place)) = self.devices.get_mut(device.usize()) {
            place.limits = place.opened.limits();
        }
    }

    /// Takes pinned memory into use under a number, which must be free. Without it I/O on that memory works as well,
    /// only slower, and so it does when the kernel refuses: the bytes that go without are returned.
    pub fn add_memory(&mut self, memory: MemoryId, registration: Arc<MemoryRegistration>) -> Coverage {
        self.memory.add(&self.ring, memory, registration)
    }

    /// Ends the use of pinned memory and gives it back to be dropped elsewhere: unpinning may take long. Operations
    /// in flight keep their pages.
    pub fn remove_memory(&mut self, memory: MemoryId) -> Option<Arc<MemoryRegistration>> {
        self.memory.remove(&self.ring, memory)
    }

    /// Operations started and not yet reaped.
    pub fn in_flight(&self) -> usize {
        self.flights.count()
    }

    /// The descriptor that is signalled when something can be reaped, while [armed](LocalDevices::arm_wakeup). To be
    /// added to the reactor's [`Sleeper`](crate::Sleeper) once.
    pub fn wakeup_fd(&self) -> RawFd {
        self.wakeup.as_raw_fd()
    }

    /// Asks for the wakeup. True when there is something to do already, so that sleeping would miss it.
    pub fn arm_wakeup(&mut self) -> bool {
        self.ring.arm() || self.flights.has_waiting()
    }

    /// Asks for no more wakeups: somebody polls.
    pub fn disarm_wakeup(&mut self) {
        self.ring.disarm();
    }

    /// Called by the reactor's driver when a turn found nothing to do while device I/O is in flight: sleeps in the
    /// kernel until something completes, for [`IDLE_WAIT`] at most. New requests of guests wait that long at worst.
    ///
    /// A pinned thread that spins instead starves the very workers that complete its writes (file systems finish
    /// some in kernel threads on the processor that took the interrupt), and the scheduler takes its processor away
    /// for longer each time. `examples/idle.rs`, 4 KiB random writes to ext4 with O_DIRECT on two processors that are
    /// busy otherwise, operations a second, median of four windows; the ways took turns:
    ///
    /// | blocks, depth         | spin   | sched_yield | this   |
    /// |-----------------------|--------|-------------|--------|
    /// | overwritten, 1        |  5 206 |      13 233 | 18 706 |
    /// | overwritten, 32       | 15 272 |      32 610 | 47 006 |
    /// | never written, 1      |  3 357 |      11 266 | 16 751 |
    /// | never written, 32     | 15 165 |      36 088 | 32 243 |
    /// | durable, 1            |    100 |         238 |  3 306 |
    /// | durable, 32           | 50 633 |      69 587 | 80 558 |
    ///
    /// With a computing thread on the same processor yielding falls to about 90 (overwritten, 1), where this makes
    /// 6 497. The table is of a wait of 50 us; one of 10 us did better with durable writes at depth 1 (8 380 against
    /// 1 949, each beside a spin of 100 to 140) and about the same elsewhere. Beginning after the first empty turn
    /// was mostly better than after 64.
    ///
    /// What speaks against it: in a quieter moment, with the ways one after the other (so less sure), spinning was
    /// ahead for overwrites, 39 530 against 36 224 at depth 1 and 85 653 against 62 650 at depth 32. It has not been
    /// measured on processors that nothing else uses; `always-poll` reactors there may do better without the hint.
    pub fn idle_hint(&mut self) {
        if self.flights.count() > 0 {
            self.ring.wait(IDLE_WAIT);
        }
    }

    /// What the kernel grants this reactor's ring, for the start-up log.
    pub fn abilities(&self) -> Abilities {
        self.ring.abilities()
    }
}

/// What the kernel grants a ring. Everything works without, only slower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// Completions are worked off on our own thread, when we ask (DEFER_TASKRUN, Linux 6.1).
    pub deferred: bool,
    /// Files are known to the ring by number.
    pub registered_files: bool,
    /// Guest memory can be pinned once and shared by all rings (Linux 6.13).
    pub registered_memory: bool,
    /// Requests of several segments use pinned memory, too (Linux 6.15).
    pub vectored_fixed: bool,
}

impl Devices for LocalDevices {
    #[inline]
    fn start(&mut self, io: Io<'_>) -> Started {
        let Some(Some(place)) = self.devices.get(io.device.usize()) else {
            return Started::Done(Err(Fault::Gone));
        };
        if let Err(fault) = check(&io, &place.limits) {
            return Started::Done(Err(fault));
        }
        match place.target {
            Target::Null => Started::Done(Ok(())),
            Target::Memory => Started::Done(instant::carry_out(&io, place.opened.media())),
            Target::Kernel(file) => {
                debug_assert!(!io.op.moves_data() || bytes(io.segments) == io.sectors.bytes());
                if !self.flights.has_room() || !self.ring.has_room() {
                    return Started::Busy;
                }
                let kind = place.limits.kind;
                let (name, flight) = self.flights.begin(&io, file, kind);
                self.ring
                    .push(flight.entry(&self.memory, self.ring.vectored_fixed()), name);
                Started::Pending
            }
        }
    }

    fn submit(&mut self) {
        self.push_waiting();
        self.ring.submit();
    }

    fn reap(&mut self, mut done: impl FnMut(SlotIndex, Result<(), Fault>)) -> usize {
        let (mut finished, flights) = (0, &mut self.flights);
        self.ring.completions(|name, result| {
            if let Some((slot, result)) = flights.complete(name, result) {
                finished += 1;
                done(slot, result);
            }
        });
        finished
    }

    fn cancel(&mut self, slot: SlotIndex) {
        self.flights.cancel(slot);
    }

    fn limits(&self, device: DeviceIndex) -> Option<DeviceLimits> {
        Some(self.devices.get(device.usize())?.as_ref()?.limits)
    }
}

impl LocalDevices {
    /// Hands over what waits for room: what is left of short transfers, and cancellations.
    fn push_waiting(&mut self) {
        while self.flights.has_waiting() && self.ring.has_room() {
            if let Some((name, flight)) = self.flights.take_continued() {
                self.ring
                    .push(flight.entry(&self.memory, self.ring.vectored_fixed()), name);
            } else if let Some(name) = self.flights.take_cancelled() {
                self.ring.push_cancel(name);
            }
        }
    }
}

impl Drop for LocalDevices {
    /// Takes back what is in flight and waits for it, but not for ever: what a hung device still holds has its
    /// memory pinned by the kernel, and ends there.
    fn drop(&mut self) {
        self.flights.cancel_all();
        let deadline = Instant::now() + DROP_WAIT;
        while self.flights.count() > 0 && Instant::now() < deadline {
            self.submit();
            if self.reap(|_, _| {}) == 0 {
                self.ring.wait(Duration::from_millis(10));
            }
        }
    }
}

/// Whether an operation lies on the device and may be done there. The engine has checked it against the volume; a
/// superblock that promises more than its disk has would get past that.
#[inline]
fn check(io: &Io<'_>, limits: &DeviceLimits) -> Result<(), Fault> {
    if io.op.changes() && limits.read_only {
        return Err(Fault::ReadOnly);
    }
    match io.lba.checked_add(io.sectors) {
        Some(end) if end.0 <= limits.sectors.0 => Ok(()),
        _ => Err(Fault::Media),
    }
}

fn bytes(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| segment.bytes as u64).sum()
}
