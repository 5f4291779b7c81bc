//! A process of its own for each file and block device: whatever may block on a disk blocks there.
//!
//! A thread that waits for a device that hangs cannot be ended, not even by SIGKILL, and until it ends it holds all that
//! its process has: every open file and lock, every socket. One flush without an answer would keep all other disks locked
//! after the daemon has been killed, and the daemon itself from ending. So no thread of the daemon ever makes a call that
//! may wait for a disk. Reactors try their reads and writes without waiting (RWF_NOWAIT); what would have to wait, all
//! that always does (flushes, discards), and everything on file systems that block at submission is a *job* for the
//! disk's process.
//!
//! ```text
//! reactor --jobs, wake--> disk process: io_uring of its own --> kernel's workers, threads of *this* process
//!    ^                        |
//!    +---port: results, eventfd
//! ```
//!
//! The process shares the daemon's memory (CLONE_VM), so that a job names a guest's memory as it is, but has a table of
//! open files of its own with this one disk in it. Its life hangs on a socket: when the daemon has ended, however, it
//! ends too, and what the kernel still has in flight keeps this disk's open file and lock, and nobody else's.
//!
//! Memory outlives the daemon as long as one such process hangs, and mapped rings keep requests alive that have long
//! been done. So the first process that sees the daemon gone unmaps what the daemon shared with others ([`estate`]).

mod estate;
mod inside;
mod line;
mod socket;
mod waiter;

pub(crate) use estate::wind_up;
pub(crate) use inside::Inside;

use crate::EventFd;
use crate::own_process::{self, Inhabitant};
use crossbeam::channel::{Receiver, bounded};
use crossbeam::queue::ArrayQueue;
use io_uring::squeue;
use line::Line;
use socket::Message;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use waiter::Waiter;

/// Ports of one process: one for each reactor that uses the disk.
const PORTS: usize = 64;

/// Control threads that wait for a job at once.
const CALLERS: usize = 64;

/// Bits of a slot's number in the name of a job.
pub(crate) const SLOT_BITS: u32 = 24;

/// How the name of each process begins, as ps(1) shows it.
pub(crate) const NAME_START: &str = "io:";

/// How long a process may take to come into being.
const BIRTH_WAIT: Duration = Duration::from_secs(30);

/// How long a control thread waits for a place to wait at. All are taken only when the device hangs under that many others.
const PLACE_WAIT: Duration = Duration::from_secs(10);

/// How long dropping waits for the end of a process. One whose device hangs goes on by itself.
const END_WAIT: Duration = Duration::from_millis(500);

/// The process of one disk. Dropping it lets it end, and waits for that a moment.
#[derive(Debug)]
pub(crate) struct DiskProcess {
    shared: Arc<Shared>,
    /// Our end; there until it is dropped.
    socket: Option<OwnedFd>,
    /// How long a control thread waits for a place to wait at.
    patience: Duration,
}

/// One entry for the ring of a disk process. What it points to stays in place until its result has come.
pub(crate) struct Job {
    entry: squeue::Entry,
    /// The name under which the ring knows it.
    name: u64,
}

/// Where the results of one reactor's jobs arrive.
#[derive(Debug)]
pub(crate) struct Port {
    /// Shared with the processes, which may be the last to let go of it.
    results: Arc<Results>,
    /// Of the daemon alone: an open file must be closed where it was opened.
    signal: EventFd,
}

/// Names of jobs with their results.
type Results = ArrayQueue<(u64, i32)>;

/// The number of a port at one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PortNumber(u8);

/// A function to be run in the process.
type Call<'a> = Box<dyn FnOnce(&Inside) + Send + 'a>;

/// What daemon and process have in common.
struct Shared {
    /// Jobs by port, put in by the port's reactor.
    jobs: [OnceLock<Line<Job>>; PORTS],
    /// Jobs of control threads, put in by whoever holds `control`.
    control_jobs: Line<Job>,
    /// Put in by whoever holds `control`.
    calls: Line<Call<'static>>,
    /// Never taken by the process.
    control: Mutex<()>,
    /// The process is asleep, or about to be, and wants to be woken.
    asleep: AtomicBool,
    /// The daemon wants it to end.
    quit: AtomicBool,
    /// It has ended.
    ended: AtomicBool,
    /// Numbers of ports in use, one bit each.
    ports: AtomicU64,
    /// Waiters in use, one bit each.
    waiting: AtomicU64,
    waiters: [Waiter; CALLERS],
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Whether there is nothing to do for the process.
    fn is_empty(&self) -> bool {
        let mut jobs = self.jobs.iter().filter_map(OnceLock::get);
        jobs.all(Line::is_empty) && self.control_jobs.is_empty() && self.calls.is_empty()
    }
}

/// What lives in the process.
struct Resident {
    name: String,
    shared: Arc<Shared>,
}

impl Inhabitant for Resident {
    fn live(&self, socket: BorrowedFd<'_>) {
        inside::run(&Inside::new(Arc::clone(&self.shared), socket.as_raw_fd()));
    }

    fn not_born(&self, socket: BorrowedFd<'_>, errno: i32) {
        let _ = socket::send(socket, Message::Failed(errno), None);
        self.shared.quit.store(true, SeqCst);
    }

    fn ended(&self) {
        self.shared.ended.store(true, SeqCst);
        if !self.shared.quit.load(SeqCst) {
            // Its jobs will not be answered any more. A successor finds the guests' requests and carries them out again.
            let mut stderr = io::stderr();
            let _ = writeln!(
                stderr,
                "the process {} that waits for a disk was ended from outside; the daemon ends with it",
                self.name
            );
            std::process::abort();
        }
    }
}

impl Shared {
    /// Ends the wait of a control thread. Called in the process.
    fn finish(&self, number: u8, result: i32) {
        let waiter = self.waiters.get(usize::from(number));
        if waiter.is_some_and(|waiter| waiter.finish(result)) {
            self.free(number);
        }
    }

    fn free(&self, number: u8) {
        if let Some(waiter) = self.waiters.get(usize::from(number)) {
            waiter.begin();
        }
        release(&self.waiting, number);
    }
}

impl Port {
    /// For a reactor that has up to `jobs` jobs in all processes together.
    pub(crate) fn new(jobs: usize) -> io::Result<Port> {
        Ok(Port {
            results: Arc::new(ArrayQueue::new(jobs.max(1))),
            signal: EventFd::new()?,
        })
    }

    /// Signalled when results have come.
    pub(crate) fn signal(&self) -> &EventFd {
        &self.signal
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// The oldest result, with the name that the job was given.
    pub(crate) fn take(&self) -> Option<(u64, i32)> {
        self.results.pop()
    }
}

impl DiskProcess {
    /// Starts a process. To be called by control threads: it takes a fraction of a millisecond, or longer.
    ///
    /// # Errors
    /// The host allows no more threads or processes, or no io_uring.
    pub(crate) fn start(disk: &str) -> io::Result<DiskProcess> {
        let shared = Arc::new(Shared {
            jobs: std::array::from_fn(|_| OnceLock::new()),
            control_jobs: Line::new(CALLERS),
            calls: Line::new(CALLERS),
            control: Mutex::new(()),
            asleep: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            ports: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            waiters: std::array::from_fn(|_| Waiter::default()),
        });
        let resident = Resident {
            name: format!("{NAME_START}{disk}"),
            shared: Arc::clone(&shared),
        };
        let socket = own_process::start(&resident.name.clone(), Box::new(resident))?;
        let message = socket::receive_within(socket.as_fd(), BIRTH_WAIT);
        let socket = Some(socket);
        let process = DiskProcess {
            shared,
            socket,
            patience: PLACE_WAIT,
        };
        match message? {
            (Message::Ready, _) => Ok(process),
            (Message::Failed(errno), _) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Lets a port have results of this process.
    ///
    /// # Errors
    /// There are too many of them, or the descriptor cannot be passed.
    pub(crate) fn attach(&self, port: &Port) -> io::Result<PortNumber> {
        // A job and its cancellation for each result that the port has room for.
        let number = self
            .claim_port(2 * port.results.capacity())
            .ok_or(io::ErrorKind::ResourceBusy)?;
        // The reference belongs to the process from now on; it gives it back at `detach` or at its end.
        let reference = Arc::into_raw(Arc::clone(&port.results));
        let message = Message::Attach {
            port: number,
            reference: reference as usize as u64,
        };
        let passed = self.send(message, Some(port.signal.as_raw_fd()));
        if let Err(error) = passed {
            // SAFETY: it was made above and has not been passed on.
            drop(unsafe { Arc::from_raw(reference) });
            release(&self.shared.ports, number);
            return Err(error);
        }
        Ok(PortNumber(number))
    }

    /// A free number whose line of jobs has `places`. A line is made by the first port under its number and stays as it
    /// is, for the process reads it at any time: a smaller one's number is passed over.
    fn claim_port(&self, places: usize) -> Option<u8> {
        let claimed = self.shared.jobs.iter().zip(0..).find(|(line, number)| {
            let claimed = claim_one(&self.shared.ports, *number);
            let fits = claimed && line.get_or_init(|| Line::new(places)).places() >= places;
            if claimed && !fits {
                release(&self.shared.ports, *number);
            }
            fits
        });
        claimed.map(|(_, number)| number)
    }

    /// Ends the use of a port: results that are still to come are forgotten.
    pub(crate) fn detach(&self, port: PortNumber) {
        // It fails when the process has gone, and the port with it.
        let _ = self.send(Message::Detach { port: port.0 }, None);
    }

    /// Hands over a job under a name, whose lower half is a slot's number; false when there is no room.
    ///
    /// # Safety
    /// Only one thread hands over jobs under the number of a port, from `attach` to `detach`. What the entry points to
    /// stays in place, and may be read and written as it says, until the job's result has come at the port; for ever, if
    /// the port is detached before.
    pub(crate) unsafe fn push(&self, port: PortNumber, entry: squeue::Entry, name: u64) -> bool {
        let name = packed(port.0, name);
        // SAFETY: our caller promises the same.
        unsafe { self.hand_over(port, Job { entry, name }) }
    }

    /// Asks for a job to be taken back; its result tells whether that worked.
    ///
    /// # Safety
    /// Only one thread hands over jobs under the number of a port.
    pub(crate) unsafe fn cancel(&self, port: PortNumber, name: u64) -> bool {
        let entry = io_uring::opcode::AsyncCancel::new(packed(port.0, name)).build();
        let name = inside::NOBODY;
        // SAFETY: our caller promises that it is the only one, and the entry points to nothing.
        unsafe { self.hand_over(port, Job { entry, name }) }
    }

    /// # Safety
    /// As for [`DiskProcess::push`].
    unsafe fn hand_over(&self, port: PortNumber, job: Job) -> bool {
        let line = self.shared.jobs.get(usize::from(port.0)).and_then(OnceLock::get);
        // SAFETY: our caller is the only one that pushes under this port's number, and the line is the port's alone.
        let room = line.is_some_and(|line| unsafe { line.push(job) }.is_ok());
        self.wake();
        room
    }

    /// Carries out one entry and waits for its result: bytes, or a negative error number. For control threads.
    ///
    /// # Errors
    /// `TimedOut`: too many others wait for this disk, and the entry has not been begun.
    ///
    /// # Safety
    /// What the entry points to may be read and written as it says until this returns.
    pub(crate) unsafe fn carry_out(&self, entry: squeue::Entry) -> io::Result<i32> {
        let number = self.waiter(self.patience)?;
        let name = packed(inside::CALLER, number.into());
        self.put(&self.shared.control_jobs, Job { entry, name });
        // It has no time limit, so that nothing is on its way when it returns.
        Ok(self.wait(number, None).unwrap_or(-libc::ETIMEDOUT))
    }

    /// Runs a function in the process, with its table of open files, and waits for it. For control threads.
    ///
    /// # Errors
    /// `TimedOut`: too many others wait for this disk, and the function has not been run.
    pub(crate) fn call<'a, R: Send + 'a>(&self, run: impl FnOnce(&Inside) -> R + Send + 'a) -> io::Result<R> {
        let number = self.waiter(self.patience)?;
        let (call, result) = self.made_call(number, run);
        // SAFETY: only the lifetime changes. The wait below has no time limit and returns when the function has ended, so
        // it does not outlive what it borrows; should its process end before that, the keeper ends this one (`birth::keep`).
        self.put(&self.shared.calls, unsafe {
            std::mem::transmute::<Call<'a>, Call<'static>>(call)
        });
        self.wait(number, None);
        match result.try_recv() {
            Ok(result) => Ok(result),
            Err(error) => unreachable!("a call that has ended has left no result: {error}"),
        }
    }

    /// The same, waiting for so long at most; it goes on by itself behind that.
    pub(crate) fn call_within<R: Send + 'static>(
        &self,
        time: Duration,
        run: impl FnOnce(&Inside) -> R + Send + 'static,
    ) -> io::Result<R> {
        let hangs = || io::Error::from(io::ErrorKind::TimedOut);
        let number = self.waiter(Duration::ZERO)?;
        let (call, result) = self.made_call(number, run);
        self.put(&self.shared.calls, call);
        self.wait(number, Some(time)).ok_or_else(hangs)?;
        result.try_recv().map_err(|_| hangs())
    }

    /// A function to be run, and where its result will be.
    fn made_call<'a, R: Send + 'a>(
        &self,
        number: u8,
        run: impl FnOnce(&Inside) -> R + Send + 'a,
    ) -> (Call<'a>, Receiver<R>) {
        let (sender, receiver) = bounded(1);
        let call = Box::new(move |inside: &Inside| {
            // There is room for one.
            let _ = sender.send(run(inside));
            inside.shared().finish(number, 0);
        });
        (call, receiver)
    }

    /// A descriptor that [`Inside::pass`] has sent.
    pub(crate) fn receive(&self) -> io::Result<OwnedFd> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        match socket::receive_within(socket.as_fd(), BIRTH_WAIT)? {
            (Message::Passed, Some(fd)) => Ok(fd),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The number of a free waiter, as soon as there is one.
    ///
    /// # Errors
    /// `TimedOut`: all were taken for so long, by what has not come back.
    fn waiter(&self, patience: Duration) -> io::Result<u8> {
        let begin = Instant::now();
        loop {
            if let Some(number) = claim(&self.shared.waiting, CALLERS) {
                return Ok(number);
            }
            if begin.elapsed() >= patience {
                let words =
                    format!("{CALLERS} calls have not come back from the disk, and there may be no more");
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for what was begun under a waiter's number.
    fn wait(&self, number: u8, time: Option<Duration>) -> Option<i32> {
        let result = self.shared.waiters.get(usize::from(number))?.wait(time)?;
        self.shared.free(number);
        Some(result)
    }

    /// Puts something into a line of the control threads. Each line has a place for every waiter.
    fn put<T>(&self, line: &Line<T>, value: T) {
        let turn = self.shared.control.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: whoever pushes here holds `control`.
        let put = unsafe { line.push(value) };
        drop(turn);
        assert!(put.is_ok(), "a line has a place for every waiter");
        self.wake();
    }

    fn send(&self, message: Message, fd: Option<RawFd>) -> io::Result<()> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        socket::send(socket.as_fd(), message, fd)
    }

    /// Wakes the process if it sleeps: whoever waits has asked for it before he looked for jobs once more.
    fn wake(&self) {
        // The job is put in before `asleep` is read.
        fence(SeqCst);
        if self.shared.asleep.load(Relaxed) && self.shared.asleep.swap(false, SeqCst) {
            // A full socket wakes it as well.
            let _ = self.send(Message::Wake, None);
        }
    }
}

impl Drop for DiskProcess {
    fn drop(&mut self) {
        self.shared.quit.store(true, SeqCst);
        // It is woken by the end of the socket.
        drop(self.socket.take());
        // So that the disk is free when this returns, unless it hangs.
        let begin = Instant::now();
        while !self.shared.ended.load(SeqCst) && begin.elapsed() < END_WAIT {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// A job's name in the ring: the generation of the slot, the port, the slot.
fn packed(port: u8, name: u64) -> u64 {
    debug_assert!(name as u32 >> SLOT_BITS == 0);
    name | u64::from(port) << SLOT_BITS
}

/// The port and the name that [`packed`] has put together.
fn unpacked(name: u64) -> (u8, u64) {
    let port = (name as u32 >> SLOT_BITS) as u8;
    (port, name & !(0xff << SLOT_BITS))
}

/// Takes the lowest bit that is not in use.
fn claim(bits: &AtomicU64, most: usize) -> Option<u8> {
    (0..most as u8).find(|&number| claim_one(bits, number))
}

fn claim_one(bits: &AtomicU64, number: u8) -> bool {
    bits.fetch_or(1 << number, SeqCst) & 1 << number == 0
}

fn release(bits: &AtomicU64, number: u8) {
    bits.fetch_and(!(1 << number), SeqCst);
}

const _: () = assert!(PORTS <= 64 && CALLERS <= 64 && PORTS < inside::CALLER as usize);

#[cfg(test)]
mod tests;
