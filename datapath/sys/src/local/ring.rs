//! One io_uring, set up as strongly as the kernel allows, and nothing but the calls on it.
//!
//! Files are not registered with it: the kernel frees a ring's table of files only when all its requests have ended, so
//! that one device that hangs would keep the files and locks of all others after the daemon's death. And nothing is
//! handed to it that may wait: its workers would be threads of the daemon, which a device that hangs keeps for ever.

use super::entrance::Entrance;
use super::listeners::{LISTENER, Listeners};
use super::memory::{self, MemoryRegistration};
use super::{Abilities, LocalSettings};
use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use palisade_block::ledger;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// Places for pinned memory: as many as the kernel allows (IORING_MAX_REG_BUFFERS).
pub(super) const BUFFERS_MAX: u32 = 1 << 14;

/// The name of cancellations themselves, which nobody waits for.
const CANCELLATION: u64 = u64::MAX;

pub(super) struct Ring {
    uring: IoUring,
    entrance: Entrance,
    /// Entries pushed whose completion has not been taken, cancellations among them.
    outstanding: u32,
    listeners: Listeners,
    /// A sleep has ended, or there was no need to begin it: what it is has not been looked at yet.
    woken: bool,
    /// What the next `submit` would do is left for the sleep that follows.
    held: bool,
    /// It has been left, and neither a sleep nor another `submit` has made up for it yet.
    left: bool,
    abilities: Abilities,
}

/// How long taking back a poll may take; it waits for nobody.
const UNLISTEN_WAIT: Timespec = Timespec::new().sec(1);

impl Ring {
    pub(super) fn new(settings: LocalSettings) -> io::Result<Ring> {
        if settings.slots > LISTENER {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (uring, deferred) = set_up(settings)?;
        let submitter = uring.submitter();
        let registered_memory =
            MemoryRegistration::is_supported() && submitter.register_buffers_sparse(BUFFERS_MAX).is_ok();
        let mut probe = Probe::new();
        let probed = submitter.register_probe(&mut probe).is_ok();
        let vectored_fixed = probed && registered_memory && probe.is_supported(opcode::ReadvFixed::CODE);
        let abilities = Abilities {
            deferred,
            registered_memory,
            vectored_fixed,
        };
        Ok(Ring {
            entrance: Entrance::new(&uring),
            uring,
            outstanding: 0,
            listeners: Listeners::default(),
            woken: false,
            held: false,
            left: false,
            abilities,
        })
    }

    /// Has an eventfd signalled by each completion, while [`Ring::arm_signal`] asks for it.
    pub(super) fn signal(&mut self, completed: RawFd) -> io::Result<()> {
        self.uring.submitter().register_eventfd(completed)?;
        self.disarm_signal();
        Ok(())
    }

    pub(super) fn abilities(&self) -> Abilities {
        self.abilities
    }

    #[inline]
    pub(super) fn vectored_fixed(&self) -> bool {
        self.abilities.vectored_fixed
    }

    /// Shares the first `count` buffers of another ring, from place `at` on.
    pub(super) fn share_buffers(&self, from: RawFd, at: u32, count: u32) -> io::Result<()> {
        if !self.abilities.registered_memory {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        memory::share(&self.uring, from, at, count)
    }

    /// Empties `count` places from `at` on.
    pub(super) fn clear_buffers(&self, at: u32, count: u32) -> io::Result<()> {
        let none = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let empty = vec![none; count as usize];
        // SAFETY: empty buffers name no memory.
        unsafe { self.uring.submitter().register_buffers_update(at, &empty, None) }
    }

    /// Whether anything has been handed over, or is to be, that has not come back, or a sleep has just ended.
    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        self.outstanding > 0 || self.woken
    }

    #[inline]
    pub(super) fn has_room(&mut self) -> bool {
        !self.uring.submission().is_full()
    }

    /// Puts an entry into the submission queue, which must have room.
    ///
    /// # Safety
    /// What the entry points to stays in place, and may be read and written as it says, until its completion is taken or
    /// the ring is dropped.
    #[inline]
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry, name: u64) {
        // SAFETY: our caller promises the same.
        unsafe { self.put(entry, name) };
        ledger::enter(&mut self.outstanding, "entries of a ring");
    }

    /// # Safety
    /// As for [`Ring::push`].
    #[inline]
    unsafe fn put(&mut self, entry: squeue::Entry, name: u64) {
        let entry = entry.user_data(name);
        // SAFETY: our caller promises that what it points to stays in place.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        assert!(pushed.is_ok(), "the submission queue is full");
    }

    pub(super) fn push_cancel(&mut self, name: u64) {
        // SAFETY: it points to nothing.
        unsafe { self.push(opcode::AsyncCancel::new(name).build(), CANCELLATION) };
    }

    /// Leaves what the next `submit` would hand over or fetch for [`Ring::sleep`], which does both with the same system
    /// call. It is left once: no sleep follows where there is always something to do, and then the completions of
    /// others would wait in the kernel for as long as that lasts.
    #[inline]
    pub(super) fn hold(&mut self) {
        self.held = !self.left && self.uring.submission().is_empty();
    }

    /// One system call at most, and none when there is nothing to hand over or to fetch.
    #[inline]
    pub(super) fn submit(&mut self) {
        self.left = std::mem::take(&mut self.held);
        if self.left {
            return;
        }
        let (count, fetch) = self.waiting();
        if count > 0 || fetch {
            accept(self.entrance.submit(count, fetch));
        }
    }

    /// Fetches what the kernel has completed, if it tells of anything; what is to be handed over goes with it.
    #[inline]
    pub(super) fn fetch(&mut self) {
        let (count, fetch) = self.waiting();
        if fetch {
            accept(self.entrance.submit(count, fetch));
        }
    }

    /// How many entries are to be handed over, and whether there are completions to be fetched.
    #[inline]
    fn waiting(&mut self) -> (usize, bool) {
        let queue = self.uring.submission();
        (queue.len(), queue.taskrun() || queue.cq_overflow())
    }

    /// Gives every completion that is there now to `each`, with its result: bytes, or a negative error number.
    #[inline]
    pub(super) fn completions(&mut self, mut each: impl FnMut(u64, i32)) {
        self.woken = false;
        for completion in self.uring.completion() {
            let name = completion.user_data();
            if name as u32 == LISTENER {
                if !cqueue::more(completion.flags()) {
                    self.listeners.ended(name);
                }
                continue;
            }
            ledger::leave(&mut self.outstanding, "entries of a ring");
            if name != CANCELLATION {
                each(name, completion.result());
            }
        }
    }

    /// Asks for the eventfd to be signalled from now on; true when there is something to do already.
    pub(super) fn arm_signal(&mut self) -> bool {
        self.uring.completion().enable_eventfd();
        // The kernel reads the flag after it has posted completions; we look for completions after we have set it.
        fence(Ordering::SeqCst);
        let queue = self.uring.submission();
        let work = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        work || self.has_completions()
    }

    pub(super) fn disarm_signal(&mut self) {
        self.uring.completion().disable_eventfd();
    }

    /// Whether completions are there already, so that a sleep would not be one.
    #[inline]
    pub(super) fn has_completions(&mut self) -> bool {
        let there = !self.uring.completion().is_empty();
        self.woken |= there;
        there
    }

    /// Lets a descriptor end sleeps in the ring from the next one on; false when it does so already.
    pub(super) fn listen(&mut self, fd: RawFd) -> bool {
        self.listeners.add(fd)
    }

    /// Ends what [`Ring::listen`] began.
    pub(super) fn stop_listening(&mut self, fd: RawFd) -> io::Result<()> {
        match self.listeners.remove(fd) {
            Some(Some(name)) => self
                .uring
                .submitter()
                .register_sync_cancel(Some(UNLISTEN_WAIT), CancelBuilder::user_data(name)),
            Some(None) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Hands over what waits and sleeps in the kernel until something completes, a descriptor is signalled that is
    /// listened to, or the time is over. It needs no arming: what came before is in the completion queue, or comes to
    /// it before the kernel lets us sleep.
    pub(super) fn sleep(&mut self, time: Option<Duration>) {
        (self.held, self.left) = (false, false);
        self.woken = true;
        while self.has_room() {
            let Some((name, fd)) = self.listeners.next_lapsed() else {
                return self.wait(time);
            };
            let poll = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true);
            // No operation in flight: it is not counted.
            // SAFETY: it points to nothing.
            unsafe { self.put(poll.build(), name) };
        }
        // Not all descriptors are listened to yet.
        self.submit();
    }

    /// Sleeps in the kernel until something completes or the time is over.
    pub(super) fn wait(&mut self, time: Option<Duration>) {
        let count = self.uring.submission().len();
        accept(self.entrance.wait(count, time));
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the ring's, which lives as long as this borrow of it.
        unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.entrance.close();
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("abilities", &self.abilities)
            .finish_non_exhaustive()
    }
}

/// The strongest ring the kernel gives us, and whether it defers work to our own calls.
pub(super) fn set_up(settings: LocalSettings) -> io::Result<(IoUring, bool)> {
    let entries = settings.submission_entries.max(1);
    // Each operation may have a cancellation beside it.
    let completions = settings.in_flight_max.max(entries).saturating_mul(2);
    let base = || {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions).setup_clamp().dontfork();
        builder
    };
    let strongest = || {
        base()
            .setup_submit_all()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            .ok()
    };
    let strongest = settings.deferred.then(strongest).flatten();
    if let Some(uring) = strongest {
        return Ok((uring, true));
    }
    let cooperative = base()
        .setup_submit_all()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .build(entries);
    let uring = cooperative.or_else(|_| base().build(entries))?;
    Ok((uring, false))
}

/// Results of io_uring_enter that leave everything as it was to be tried again next turn (EBUSY: completions must be
/// reaped first; EAGAIN: no memory just now; EINTR; ETIME) are no failures. Others mean that the ring is used wrongly.
#[inline]
fn accept(entered: io::Result<usize>) {
    if let Err(error) = entered {
        let passing = matches!(
            error.raw_os_error(),
            Some(libc::EBUSY | libc::EAGAIN | libc::EINTR | libc::ETIME | libc::ENOMEM)
        );
        assert!(passing, "io_uring_enter: {error}");
    }
}
