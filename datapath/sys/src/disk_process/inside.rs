//! What runs in a disk process: one loop over jobs, calls and completions.
//!
//! It takes no lock that a thread of the daemon may hold, and allocates only on behalf of a call: a thread that was killed
//! with the allocator's lock in hand would otherwise keep this process, and its disk with it, for ever.

use super::socket::{self, Received};
use super::{CALLERS, Message, PORTS, Results, Shared, estate, release, unpacked};
use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{Ordering::SeqCst, fence};
use std::sync::{Arc, OnceLock};

/// In the place of a port: a control thread waits for the result.
pub(super) const CALLER: u8 = u8::MAX;

/// The name of entries whose result nobody waits for.
pub(super) const NOBODY: u64 = u64::MAX;

/// The name of the poll of our socket.
const SOCKET: u64 = u64::MAX - 1;

/// Entries handed to the kernel at once.
const ENTRIES: u32 = 128;

/// Completions that have room; more wait in the kernel.
const COMPLETIONS: u32 = 4096;

/// Threads the kernel may use for this disk's blocking operations.
const WORKERS: u32 = 128;

/// A disk process, as what runs in it sees it.
#[derive(Debug)]
pub(crate) struct Inside {
    shared: Arc<Shared>,
    socket: RawFd,
}

impl Inside {
    pub(super) fn new(shared: Arc<Shared>, socket: RawFd) -> Inside {
        Inside { shared, socket }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Gives the daemon a second descriptor of an open file; it fetches it with `receive`.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn pass(&self, fd: RawFd) -> io::Result<()> {
        socket::send(self.borrowed(), Message::Passed, Some(fd))
    }

    fn borrowed(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open as long as this process lives.
        unsafe { BorrowedFd::borrow_raw(self.socket) }
    }
}

/// Runs until the daemon lets go of it, or has ended.
pub(super) fn run(inside: &Inside) {
    let ring = match set_up() {
        Ok(ring) => ring,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let _ = socket::send(inside.borrowed(), Message::Failed(errno), None);
            // It has never been in use.
            inside.shared.quit.store(true, SeqCst);
            return;
        }
    };
    let mut process = Process {
        inside,
        ring,
        ports: std::array::from_fn(|_| None),
        signalled: 0,
        polls: false,
    };
    if socket::send(inside.borrowed(), Message::Ready, None).is_err() {
        return;
    }
    process.run();
    // Before anything else: a mapped ring keeps its requests' files.
    drop(process);
    if !inside.shared.quit.load(SeqCst) {
        estate::wind_up();
    }
}

fn set_up() -> io::Result<IoUring> {
    let ring = IoUring::builder()
        .setup_cqsize(COMPLETIONS)
        .setup_clamp()
        .dontfork()
        .build(ENTRIES)?;
    // A refusal leaves the kernel's own bound.
    let _ = ring
        .submitter()
        .register_iowq_max_workers(&mut [WORKERS, WORKERS]);
    Ok(ring)
}

struct Process<'a> {
    inside: &'a Inside,
    ring: IoUring,
    ports: [Option<(Arc<Results>, OwnedFd)>; PORTS],
    /// Ports with new results, one bit each.
    signalled: u64,
    /// A poll of the socket is in the ring.
    polls: bool,
}

impl Process<'_> {
    fn run(&mut self) {
        loop {
            if !self.polls && !self.take_messages() {
                return;
            }
            self.take_calls();
            self.take_jobs();
            self.take_completions();
            self.signal();
            self.rest();
        }
    }

    /// False when there will be no more.
    fn take_messages(&mut self) -> bool {
        loop {
            match socket::receive(self.inside.borrowed()) {
                Ok(Received::Message(Message::Attach { port, reference }, Some(signal))) => {
                    // SAFETY: the message carries one reference, made by `Arc::into_raw`, for us to own.
                    let reference = unsafe { Arc::from_raw(reference as usize as *const Results) };
                    if let Some(place) = self.ports.get_mut(usize::from(port)) {
                        *place = Some((reference, signal));
                    }
                }
                Ok(Received::Message(Message::Detach { port }, _)) => {
                    if let Some(place) = self.ports.get_mut(usize::from(port)) {
                        *place = None;
                    }
                    release(&self.inside.shared.ports, port);
                }
                Ok(Received::Message(..)) => {}
                Ok(Received::Nothing) => break,
                Ok(Received::End) | Err(_) => return false,
            }
        }
        let poll = opcode::PollAdd::new(Fd(self.inside.socket), libc::POLLIN as u32).build();
        self.polls = self.push(poll, SOCKET);
        true
    }

    /// A call may hang on the disk; then it ends with the daemon at the latest, as there is nothing of worth in it yet.
    fn take_calls(&mut self) {
        // SAFETY: this loop is the only one that takes.
        while let Some(call) = unsafe { self.inside.shared.calls.pop() } {
            die_with_keeper(libc::SIGKILL);
            call(self.inside);
            die_with_keeper(0);
        }
    }

    fn take_jobs(&mut self) {
        let inside = self.inside;
        let lines = inside.shared.jobs.iter().filter_map(OnceLock::get);
        for line in lines.chain([&inside.shared.control_jobs]) {
            while !self.ring.submission().is_full() {
                // SAFETY: this loop is the only one that takes.
                let Some(job) = (unsafe { line.pop() }) else { break };
                self.push(job.entry, job.name);
            }
        }
    }

    fn push(&mut self, entry: squeue::Entry, name: u64) -> bool {
        // SAFETY: what the entry points to stays in place until its result has come, as whoever made it promises.
        unsafe { self.ring.submission().push(&entry.user_data(name)) }.is_ok()
    }

    fn take_completions(&mut self) {
        for completion in self.ring.completion() {
            match completion.user_data() {
                NOBODY => {}
                SOCKET => self.polls = false,
                name => {
                    let (port, name) = unpacked(name);
                    if port == CALLER {
                        self.inside.shared.finish(name as u8, completion.result());
                    } else if let Some(Some((results, _))) = self.ports.get(usize::from(port)) {
                        // A reactor has no more jobs than its port has room.
                        let _ = results.push((name, completion.result()));
                        self.signalled |= 1 << port;
                    }
                }
            }
        }
    }

    fn signal(&mut self) {
        while self.signalled != 0 {
            let port = self.signalled.trailing_zeros() as usize;
            self.signalled &= self.signalled - 1;
            if let Some(Some((_, signal))) = self.ports.get(port) {
                let one = 1u64.to_ne_bytes();
                // SAFETY: the descriptor is open and the eight bytes are there. A full counter is a signal already.
                unsafe { libc::write(signal.as_raw_fd(), one.as_ptr().cast(), one.len()) };
            }
        }
    }

    /// Hands over what was pushed, and sleeps until something completes if there is nothing else to do. A refusal (no
    /// memory just now, completions to be taken first) is tried again.
    fn rest(&mut self) {
        let shared = &self.inside.shared;
        shared.asleep.store(true, SeqCst);
        // `asleep` is stored before the last look for work.
        fence(SeqCst);
        let work = !shared.is_empty() || !self.polls;
        let full = self.ring.submission().is_full();
        let _ = match work || full {
            true => self.ring.submit(),
            false => self.ring.submit_and_wait(1),
        };
        shared.asleep.store(false, SeqCst);
    }
}

/// Has this process get a signal when its keeper, a thread of the daemon, ends; 0 for none.
fn die_with_keeper(signal: libc::c_int) {
    // SAFETY: PR_SET_PDEATHSIG takes a number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}

const _: () = assert!(PORTS <= u64::BITS as usize && CALLERS <= 1 << super::SLOT_BITS);
