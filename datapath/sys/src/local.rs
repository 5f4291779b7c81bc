//! All devices of one reactor: null and memory answered at once, files and block devices through one io_uring.
//!
//! ```text
//! start ──> null, memory: Done
//!       ├─> read, write: one entry in the submission queue, not to wait ──submit──> kernel ──> completion queue ──reap──> done(slot)
//!       │                ^                                                          │                            ^
//!       │                ├───────────── the rest of a short transfer ───────────────┤                            │
//!       │                                                                           │ would have to wait         │
//!       └─> flush, discard ...: a job for the disk's own process <──────────────────┘ ── results at our port ────┘
//! ```
//!
//! Nothing is asked of the reactor's own ring that may wait for a disk: see `disk_process`.
//!
//! A slot's number and a generation are the name of an operation in the ring, so that a late cancellation never
//! meets a later operation of the same slot. A short transfer goes on with what is left, segment by segment: it is
//! so rare that speed does not count, and success is reported for the whole or not at all.
//!
//! What operations may touch is kept here, from [`keep`](Devices::keep) to [`let_go`](Devices::let_go): a segment that
//! does not lie in memory that is kept is not followed, and nothing is let go of while an operation is on it. Whoever
//! started an operation may be gone before it ends, and so may we: what a device that hangs may still read or write
//! when we are dropped stays mapped for good.
//!
//! It is made, used and dropped on its reactor's thread (the ring knows a single issuer), hence not `Send`.

mod brought;
mod entrance;
mod fault;
mod flight;
mod frame_links;
mod instant;
mod listeners;
mod memory;
mod pause;
mod rest;
mod ring;
mod sockets;
mod trial;

use crate::device::{KernelDevice, Media, Opened};
use crate::disk_process::{Port, PortNumber, SLOT_BITS};
use crate::sleep::SleepsOn;
use crate::{MonotonicClock, PeerEvent, Pending, Waker, affinity};
use flight::{Files, Flights};
use io_uring::squeue;
use memory::MemoryTable;
pub use memory::{Coverage, MemoryRegistration};
use palisade_block::{DeviceKind, DeviceLimits, Devices, Fault, Io, Lease, Segment, Started};
use palisade_words::limits::DISKS_MAX;
use palisade_words::{DeviceIndex, Lba, MemoryId, PinnedId, Sectors, SlotIndex};
pub use pause::NAP;
use pause::Pauses;
use rest::Rest;
use ring::Ring;
use sockets::Sockets;
pub use sockets::{RECEIVED_BYTES_MAX, SocketConnection, TURN_FRAMES_MAX};
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
pub use trial::{Closed, io_uring_is_open};

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
    /// Completions are worked off by our own calls and sleeps are taken in the ring, where the kernel can do that
    /// (Linux 6.1). Without, it is as with an older kernel.
    pub deferred: bool,
}

impl Default for LocalSettings {
    fn default() -> Self {
        LocalSettings {
            slots: 4096,
            in_flight_max: 1024,
            submission_entries: 256,
            deferred: true,
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
    sockets: Sockets,
    rest: Rest,
    waker: Waker,
    sleeps_on: SleepsOn,
    clock: MonotonicClock,
    pauses: Pauses,
    /// Where the results of disk processes arrive.
    port: Port,
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
    Kernel(Files, PortNumber),
}

impl LocalDevices {
    /// Makes an empty table and a ring. To be called on the reactor's thread.
    ///
    /// # Errors
    /// The kernel has no io_uring for us (ENOSYS, EPERM) or too little memory may be locked (ENOMEM).
    pub fn new(settings: LocalSettings) -> io::Result<LocalDevices> {
        if settings.slots >> SLOT_BITS != 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        affinity::sharpen_timers();
        let mut ring = Ring::new(settings)?;
        let rest = match ring.abilities().deferred {
            true => Rest::Ring,
            false => Rest::epoll()?,
        };
        if let Rest::Epoll { sleeper, completed } = &rest {
            ring.signal(completed.as_raw_fd())?;
            sleeper.add(completed.as_raw_fd())?;
        }
        let sleeps_on = match &rest {
            Rest::Ring => SleepsOn::new(ring.as_fd())?,
            Rest::Epoll { sleeper, .. } => SleepsOn::new(sleeper.as_fd())?,
        };
        let mut devices = LocalDevices {
            ring,
            devices: (0..DISKS_MAX).map(|_| None).collect(),
            memory: MemoryTable::default(),
            flights: Flights::new(settings.slots, settings.in_flight_max),
            sockets: Sockets::default(),
            rest,
            waker: Waker::new()?,
            sleeps_on,
            clock: MonotonicClock::new(),
            pauses: Pauses::new(),
            port: Port::new(settings.slots as usize)?,
        };
        devices.listen(devices.waker.as_raw_fd())?;
        devices.listen(devices.port.signal().as_raw_fd())?;
        Ok(devices)
    }

    /// Takes a device into use under a number; the number's former device is given back and must have nothing in
    /// flight. What is given back is to be dropped elsewhere: closing may take long.
    ///
    /// # Errors
    /// `InvalidInput` when the number is not below [`DISKS_MAX`]; the disk's process has gone or has too many users.
    pub fn add_device(
        &mut self,
        device: DeviceIndex,
        opened: Arc<Opened>,
    ) -> io::Result<Option<Arc<Opened>>> {
        if device.usize() >= self.devices.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let target = match opened.media() {
            Media::Null => Target::Null,
            Media::Memory(_) => Target::Memory,
            Media::Kernel(kernel) => {
                let files = Files {
                    direct: kernel.direct(),
                    inside: kernel.inside(),
                    keeps_space: opened.keeps_space(),
                };
                Target::Kernel(files, kernel.process().attach(&self.port)?)
            }
        };
        let limits = opened.limits();
        let former = self.remove_device(device);
        if let Some(place) = self.devices.get_mut(device.usize()) {
            *place = Some(Place {
                opened,
                limits,
                target,
            });
        }
        Ok(former)
    }

    /// Ends the use of a device, which must have nothing in flight, and gives it back to be dropped elsewhere.
    ///
    /// # Panics
    /// When something is in flight on it: the numbers of its open files, which operations go by, may be another's soon.
    pub fn remove_device(&mut self, device: DeviceIndex) -> Option<Arc<Opened>> {
        assert!(
            !self.flights.are_on(device),
            "device {} is taken away with an operation in flight",
            device.0
        );
        let place = self.devices.get_mut(device.usize())?.take()?;
        if let (Target::Kernel(_, port), Media::Kernel(kernel)) = (place.target, place.opened.media()) {
            kernel.process().detach(port);
        }
        Some(place.opened)
    }

    /// Takes over the size that [`Opened::refresh_size`] has found.
    pub fn resize(&mut self, device: DeviceIndex) {
        if let Some(Some(place)) = self.devices.get_mut(device.usize()) {
            place.limits = place.opened.limits();
        }
    }

    /// Takes pinned memory into use, under a number of which there is none yet. Without it I/O on that memory works as
    /// well, only slower, and so it does when the kernel refuses: the bytes that go without are returned.
    pub fn add_memory(&mut self, id: PinnedId, registration: Arc<MemoryRegistration>) -> Coverage {
        self.memory.add(&self.ring, Some(id), registration)
    }

    /// The same for the reactor's pool.
    pub fn add_pool_memory(&mut self, registration: Arc<MemoryRegistration>) -> Coverage {
        self.memory.add(&self.ring, None, registration)
    }

    /// Ends the use of pinned memory and gives it back to be dropped elsewhere: unpinning may take long. Operations
    /// in flight keep their pages, and later ones go without.
    pub fn remove_memory(&mut self, id: PinnedId) -> Option<Arc<MemoryRegistration>> {
        self.memory.remove(&self.ring, Some(id))
    }

    /// Operations started and not yet reaped.
    pub fn in_flight(&self) -> usize {
        self.flights.count()
    }

    /// Ends sleeps from other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Tells other threads whether something has come that ends a sleep.
    pub fn pending(&self) -> Pending {
        self.sleeps_on.pending()
    }

    /// Lets a descriptor end sleeps: each signal ends one, which may be the next. It must stay open until
    /// [`LocalDevices::stop_listening`], and need not be read.
    ///
    /// # Errors
    /// EEXIST when it is listened to already; in epoll, EPERM when it cannot be waited for (a plain file), ENOMEM.
    pub fn listen(&mut self, fd: RawFd) -> io::Result<()> {
        match &self.rest {
            Rest::Ring if self.ring.listen(fd) => Ok(()),
            Rest::Ring => Err(io::Error::from_raw_os_error(libc::EEXIST)),
            Rest::Epoll { sleeper, .. } => sleeper.add(fd),
        }
    }

    /// Ends what [`LocalDevices::listen`] began.
    ///
    /// # Errors
    /// It was not listened to.
    pub fn stop_listening(&mut self, fd: RawFd) -> io::Result<()> {
        match &self.rest {
            Rest::Ring => self.ring.stop_listening(fd),
            Rest::Epoll { sleeper, .. } => sleeper.remove(fd),
        }
    }

    /// Leaves what the next `submit` would hand over or fetch for the [sleep](LocalDevices::sleep) that is to follow, and
    /// saves a system call; to be followed by one or the other at once. It has no effect where sleeps are not taken in the
    /// ring, nor a second time before a sleep or a `submit` that did its work.
    #[inline]
    pub fn hold(&mut self) {
        if let Rest::Ring = self.rest {
            self.ring.hold();
        }
    }

    /// To be called before a sleep. True when there is something to do already, so that the sleep would end at once.
    #[inline]
    pub fn arm_wakeup(&mut self) -> bool {
        let there = match self.rest {
            Rest::Ring => self.ring.has_completions(),
            Rest::Epoll { .. } => self.ring.arm_signal(),
        };
        there || self.has_waiting() || self.sockets.has_something_to_tell() || !self.port.is_empty()
    }

    /// Sleeps until something can be reaped, a descriptor is signalled that is listened to, the waker is used, or
    /// `timeout` has passed. What came since [`LocalDevices::arm_wakeup`] ends it at once. It may end early.
    ///
    /// # Errors
    /// What epoll_wait(2) says.
    pub fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match &mut self.rest {
            Rest::Ring => self.ring.sleep(timeout),
            Rest::Epoll { sleeper, .. } => drop(sleeper.wait(timeout)?),
        }
        Ok(())
    }

    /// Ends what [`LocalDevices::arm_wakeup`] began.
    #[inline]
    pub fn disarm_wakeup(&mut self) {
        if let Rest::Epoll { .. } = self.rest {
            self.ring.disarm_signal();
        }
    }

    /// Whether the kernel or a disk process has something of ours.
    fn is_in_the_kernel(&self) -> bool {
        self.flights.count() > 0 || self.sockets.outstanding() > 0
    }

    /// Whether something waits to be handed over.
    #[inline]
    fn has_waiting(&self) -> bool {
        self.flights.has_waiting() || self.sockets.has_waiting()
    }

    /// What the kernel grants this reactor's ring, for the start-up log.
    pub fn abilities(&self) -> Abilities {
        self.ring.abilities()
    }
}

/// What the kernel grants a ring. Everything works without, only slower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// Completions are worked off on our own thread, when we ask, and sleeps are taken in the ring (DEFER_TASKRUN,
    /// Linux 6.1).
    pub deferred: bool,
    /// Guest memory can be pinned once and shared by all rings (Linux 6.13).
    pub registered_memory: bool,
    /// Requests of several segments use pinned memory, too (Linux 6.15).
    pub vectored_fixed: bool,
}

impl Devices for LocalDevices {
    type Opened = Arc<Opened>;
    type Pinned = Arc<MemoryRegistration>;
    type Kick = PeerEvent;
    type Order = Infallible;
    type Report = Infallible;

    fn open(&mut self, device: DeviceIndex, opened: Arc<Opened>) -> io::Result<()> {
        // Whoever has opened it holds it, too: what is dropped here closes nothing.
        self.add_device(device, opened).map(drop)
    }

    fn close(&mut self, device: DeviceIndex) {
        drop(self.remove_device(device));
    }

    fn grow(&mut self, device: DeviceIndex) {
        self.resize(device);
    }

    fn pin(&mut self, id: PinnedId, pinned: Arc<MemoryRegistration>) {
        self.add_memory(id, pinned);
    }

    fn unpin(&mut self, id: PinnedId) -> Option<Arc<MemoryRegistration>> {
        self.remove_memory(id)
    }

    fn order(&mut self, order: Infallible) {
        match order {}
    }

    fn next_report(&mut self) -> Option<Infallible> {
        None
    }

    fn keep(&mut self, lease: &Lease) -> MemoryId {
        self.memory.keep(lease)
    }

    fn keep_pool(&mut self, lease: &Lease) {
        self.memory.keep_pool(lease);
    }

    fn let_go(&mut self, memory: MemoryId) {
        assert!(
            !self.memory.is_last_user(memory) || !self.flights.are_in(memory) && !self.sockets.are_in(memory),
            "{memory:?} is let go of with an operation in flight"
        );
        self.memory.let_go(memory);
    }

    #[inline]
    fn looks_ahead(&self, device: DeviceIndex) -> bool {
        let place = self.devices.get(device.usize()).and_then(Option::as_ref);
        place.is_some_and(|place| matches!(place.target, Target::Memory))
    }

    fn expect(&self, device: DeviceIndex, lba: Lba, sectors: Sectors) {
        if let Some(Some(place)) = self.devices.get(device.usize())
            && lba
                .checked_add(sectors)
                .is_some_and(|end| end.0 <= place.limits.sectors.0)
        {
            instant::expect(place.opened.media(), lba.bytes(), sectors.bytes());
        }
    }

    #[inline(always)]
    fn start(&mut self, io: Io<'_>) -> Started {
        let Some(Some(place)) = self.devices.get(io.device.usize()) else {
            return Started::Done(Err(Fault::Gone));
        };
        if let Err(fault) = check(&io, &place.limits) {
            return Started::Done(Err(fault));
        }
        match place.target {
            Target::Null => Started::Done(Ok(())),
            Target::Memory => {
                check_memory(&self.memory, &io);
                if !self.memory.has_pages(&io) {
                    return Started::Done(Err(Fault::GuestMemory));
                }
                // SAFETY: all segments lie in memory that is kept: mapped, and the kernel's and ours to read and write.
                Started::Done(unsafe { instant::carry_out(&io, place.opened.media()) })
            }
            Target::Kernel(..) if reaches_what_was_cut(&io, &place.opened) => {
                Started::Done(Err(Fault::BeyondEnd))
            }
            Target::Kernel(files, _) => {
                let kind = place.limits.kind;
                self.start_in_kernel(&io, files, kind)
            }
        }
    }

    #[inline]
    fn submit(&mut self) {
        if self.flights.has_waiting() {
            self.push_waiting();
        }
        if self.sockets.has_waiting() {
            self.sockets.push(&mut self.ring);
        }
        if self.ring.is_busy() {
            self.ring.submit();
        }
    }

    #[inline]
    fn reap(&mut self, mut done: impl FnMut(SlotIndex, Result<(), Fault>)) -> usize {
        if self.sockets.has_something_to_tell() {
            self.sockets.begin_turn();
        }
        if !self.ring.is_busy() && self.port.is_empty() {
            return 0;
        }
        let (mut finished, flights, devices) = (0, &mut self.flights, &self.devices);
        let sockets = &mut self.sockets;
        let mut complete = |name, result| {
            if let Some((slot, result)) = flights.complete(name, result) {
                finished += 1;
                if result == Err(Fault::BeyondEnd) {
                    note_end(devices, flights.reached(slot));
                }
                done(slot, result);
            }
        };
        if self.ring.is_busy() {
            self.ring
                .completions(|name, result| match sockets::is_of_a_socket(name) {
                    false => complete(name, result),
                    true => sockets.complete(name, result),
                });
        }
        while let Some((name, result)) = self.port.take() {
            complete(name, result);
        }
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
    fn start_in_kernel(&mut self, io: &Io<'_>, files: Files, kind: DeviceKind) -> Started {
        if !self.flights.has_room() || !self.ring.has_room() {
            return Started::Busy;
        }
        check_memory(&self.memory, io);
        // A longer list would go on behind the range, into another volume.
        assert!(
            !io.op.moves_data() || bytes(io.segments) == io.sectors.bytes(),
            "the segments of operation {} have another length than its range",
            io.slot.0
        );
        let (name, flight) = self.flights.begin(io, files, kind);
        let entry = flight.entry(&self.memory, self.ring.vectored_fixed());
        // SAFETY: the entry points to the flight's own list, and to memory that has just been found to be kept. `let_go`
        // keeps it as long as the flight is in the table, which is until its completion is taken, and when this is
        // dropped with flights in the table, lists and memory stay for good. The reactor's thread is the only one here.
        unsafe {
            match flight.is_outside() {
                false => self.ring.push(entry, name),
                true => push_outside(&self.devices, io.device, entry, name),
            }
        }
        Started::Pending
    }

    /// Hands over what waits for room or has to be handed over again: what is left of short transfers, what cannot be
    /// done without waiting, and cancellations.
    fn push_waiting(&mut self) {
        while self.flights.has_waiting() && self.ring.has_room() {
            if let Some((name, flight)) = self.flights.take_continued() {
                let entry = flight.entry(&self.memory, self.ring.vectored_fixed());
                // SAFETY: as in `start_in_kernel`; the flight is still in the table.
                unsafe {
                    match flight.is_outside() {
                        false => self.ring.push(entry, name),
                        true => push_outside(&self.devices, flight.device(), entry, name),
                    }
                }
            } else if let Some((name, outside)) = self.flights.take_cancelled() {
                match outside.and_then(|device| process_of(&self.devices, device)) {
                    None => self.ring.push_cancel(name),
                    // SAFETY: the port is ours alone, and this thread the only one of ours that hands over jobs.
                    Some((kernel, port)) => drop(unsafe { kernel.process().cancel(port, name) }),
                }
            }
        }
    }
}

/// Stops the process when a segment lies outside the memory it is said to be of: somebody else's would be read or written,
/// or what has taken the place of memory that is gone.
#[inline]
fn check_memory(memory: &MemoryTable, io: &Io<'_>) {
    assert!(
        memory.has(io.memory, io.segments),
        "operation {} has a segment outside {:?}",
        io.slot.0,
        io.memory
    );
}

/// The process of a device in use, and our port there.
fn process_of(devices: &[Option<Place>], device: DeviceIndex) -> Option<(&KernelDevice, PortNumber)> {
    let place = devices.get(device.usize())?.as_ref()?;
    match (place.target, place.opened.media()) {
        (Target::Kernel(_, port), Media::Kernel(kernel)) => Some((kernel, port)),
        _ => None,
    }
}

/// Hands an operation to the disk's own process. There is room: each slot has a place there, and one for its cancellation.
///
/// # Safety
/// What the entry points to stays in place until the result has come at our port, and for ever if it never does. The
/// port's reactor calls it.
unsafe fn push_outside(devices: &[Option<Place>], device: DeviceIndex, entry: squeue::Entry, name: u64) {
    let pushed = process_of(devices, device)
        // SAFETY: our caller promises the same.
        .is_some_and(|(kernel, port)| unsafe { kernel.process().push(port, entry, name) });
    assert!(
        pushed,
        "device {} was removed with an operation in flight",
        device.0
    );
}

impl Drop for LocalDevices {
    /// Takes back what is in flight and waits for it, but not for ever. What is in flight then may touch its memory at any
    /// later time (a job that the disk's process has not begun has no page of it yet), and nobody will hear of its end: so
    /// that memory, and the lists that name it, stay until the process ends.
    fn drop(&mut self) {
        self.flights.cancel_all();
        self.sockets.close_all();
        let deadline = Instant::now() + DROP_WAIT;
        while self.is_in_the_kernel() && Instant::now() < deadline {
            self.submit();
            if self.reap(|_, _| {}) == 0 {
                self.ring.wait(Some(Duration::from_millis(10)));
            }
        }
        if self.is_in_the_kernel() {
            std::mem::forget(std::mem::take(&mut self.memory));
            std::mem::forget(std::mem::replace(&mut self.flights, Flights::new(0, 0)));
            std::mem::forget(std::mem::take(&mut self.sockets));
        }
        // Those that have come to their end are closed.
        while self.sockets.next_event(&mut self.memory).is_some() {}
        for device in (0..DISKS_MAX as u16).map(DeviceIndex) {
            drop(self.remove_device(device));
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
        _ => Err(Fault::BeyondEnd),
    }
}

/// Whether an operation reaches behind where its device was seen to end.
#[inline]
fn reaches_what_was_cut(io: &Io<'_>, opened: &Opened) -> bool {
    let end = io.lba.bytes().saturating_add(io.sectors.bytes());
    opened.cut().is_some_and(|cut| end > cut)
}

/// Keeps where a file was met to end before where it should, so that nothing behind that is read as zeros when it is made as
/// long as before. A block device without a medium ends at nothing and comes back whole: that one is told apart by whoever
/// looks at its size.
#[cold]
fn note_end(devices: &[Option<Place>], met: Option<(DeviceIndex, u64)>) {
    if let Some((device, bytes)) = met
        && let Some(Some(place)) = devices.get(device.usize())
        && place.limits.kind == DeviceKind::File
    {
        place.opened.ends_at(bytes);
    }
}

fn bytes(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| segment.bytes() as u64).sum()
}
