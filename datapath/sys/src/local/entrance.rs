//! io_uring_enter by a ring that its thread has registered (Linux 5.18): the kernel neither looks the descriptor up nor
//! counts it at each call, which in a process with several threads takes some 3 % of a request's processor time.
//! The crate `io-uring` can register a ring, but not for longer than one borrow of it.

use io_uring::IoUring;
use libc::{c_int, c_long, c_uint};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

// linux/io_uring.h
const REGISTER_RING_FDS: c_uint = 20;
const UNREGISTER_RING_FDS: c_uint = 21;
const ENTER_GETEVENTS: c_uint = 1 << 0;
const ENTER_EXT_ARG: c_uint = 1 << 3;
const ENTER_REGISTERED_RING: c_uint = 1 << 4;

/// How a ring is named to the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entrance {
    ring: c_int,
    /// Its place among the thread's registered rings.
    place: Option<u32>,
}

/// struct io_uring_rsrc_update
#[repr(C)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// struct io_uring_getevents_arg
#[repr(C)]
struct Waiting {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_us: u32,
    time: u64,
}

impl Entrance {
    /// Registers a ring with the calling thread, or does without where the kernel cannot.
    pub(super) fn new(uring: &IoUring) -> Entrance {
        let ring = uring.as_raw_fd();
        let mut update = Update {
            offset: u32::MAX,
            reserved: 0,
            data: ring as u64,
        };
        let place = (register(ring, REGISTER_RING_FDS, &mut update) == 1).then_some(update.offset);
        Entrance { ring, place }
    }

    /// Ends the registration, without which the ring would live as long as the thread.
    pub(super) fn close(&mut self) {
        if let Some(offset) = self.place.take() {
            let mut update = Update {
                offset,
                reserved: 0,
                data: 0,
            };
            register(self.ring, UNREGISTER_RING_FDS, &mut update);
        }
    }

    /// Hands over `count` entries; `fetch` runs task work and flushes completions that had no room, too.
    #[inline]
    pub(super) fn submit(&self, count: usize, fetch: bool) -> io::Result<usize> {
        let flags = if fetch { ENTER_GETEVENTS } else { 0 };
        self.enter(count, 0, flags, std::ptr::null())
    }

    /// The same, and waits for a completion, for so long at most.
    pub(super) fn wait(&self, count: usize, time: Option<Duration>) -> io::Result<usize> {
        let Some(time) = time else {
            return self.enter(count, 1, ENTER_GETEVENTS, std::ptr::null());
        };
        // struct __kernel_timespec
        let time = [time.as_secs() as i64, i64::from(time.subsec_nanos())];
        let waiting = Waiting {
            sigmask: 0,
            sigmask_bytes: 0,
            min_wait_us: 0,
            time: time.as_ptr() as u64,
        };
        self.enter(count, 1, ENTER_GETEVENTS | ENTER_EXT_ARG, &waiting)
    }

    #[inline]
    fn enter(&self, count: usize, wanted: u32, flags: c_uint, waiting: *const Waiting) -> io::Result<usize> {
        let (ring, flags) = match self.place {
            Some(place) => (place as c_int, flags | ENTER_REGISTERED_RING),
            None => (self.ring, flags),
        };
        let bytes = if waiting.is_null() {
            0
        } else {
            size_of::<Waiting>()
        };
        // SAFETY: the ring is open; the argument is null or a struct of the size told that lives until the call
        // returns, and so does the time it points to. What entries point to was vouched for when they were pushed.
        let entered: c_long = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                ring,
                count as c_uint,
                wanted,
                flags,
                waiting,
                bytes,
            )
        };
        match entered {
            0.. => Ok(entered as usize),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn register(ring: c_int, operation: c_uint, update: &mut Update) -> c_long {
    // SAFETY: the ring is open, and the one struct told of lives until the call returns.
    unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            operation,
            update as *mut Update,
            1,
        )
    }
}

const _: () = assert!(size_of::<Update>() == 16 && size_of::<Waiting>() == 24);
