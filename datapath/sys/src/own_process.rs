//! How a process comes into being that shares the daemon's memory (CLONE_VM) and has a table of open files of its own.
//! What may hang in the kernel hangs there: a disk's operations ([`disk_process`](crate::disk_process)), the closing of
//! what a virtual machine monitor sent ([`fd_filter`](crate::fd_filter)).
//!
//! A thread of the daemon, its *keeper*, first gets a table of open files of its own that never held the daemon's:
//! copying all and closing them would do for most, but closing a file of a network file system or of FUSE may itself
//! wait for a server that hangs. `close_range(first, …, CLOSE_RANGE_UNSHARE)` copies only what lies below `first`, so the
//! process' end of the socket is put at a low number that is kept free for it. The keeper then clones the process, which
//! runs on a stack of its own and with the keeper's thread-local storage (errno, the allocator's cache): from there on
//! the keeper does nothing but wait for its end, in system calls that touch neither.

use memmap2::MmapMut;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// What lives in such a process.
pub(crate) trait Inhabitant: Send + Sync + 'static {
    /// Its whole life, in the process. `socket` is its end, the only descriptor there besides the standard streams. It
    /// takes no lock that a thread of the daemon may hold: one that was killed with it would keep the process for ever.
    fn live(&self, socket: BorrowedFd<'_>);

    /// The process could not be cloned. Called by the keeper, with the same end of the socket.
    fn not_born(&self, socket: BorrowedFd<'_>, errno: i32);

    /// The process has ended, or was not born. Called by the keeper.
    fn ended(&self);
}

/// Opening a device runs there, too.
const STACK_BYTES: usize = 512 << 10;

/// The keeper's own.
const KEEPER_STACK_BYTES: usize = 64 << 10;

/// The first number that is none of the standard streams.
const FIRST: RawFd = 3;

/// A low descriptor number that is kept free, and the turn to use it.
static GATE: Mutex<Option<File>> = Mutex::new(None);

/// Takes the low descriptor number through which such processes get their end of a socket. The earlier it is called the
/// fewer other files lie below it, which each keeper has to close.
///
/// # Errors
/// /dev/null cannot be opened.
pub(crate) fn keep_gate() -> io::Result<()> {
    let mut gate = GATE.lock().unwrap_or_else(PoisonError::into_inner);
    if gate.is_none() {
        *gate = Some(File::options().read(true).write(true).open("/dev/null")?);
    }
    Ok(())
}

/// Starts keeper and process: our end of the socket. The process is shown under `name`, of which fifteen bytes count.
pub(crate) fn start(name: &str, inhabitant: Box<dyn Inhabitant>) -> io::Result<OwnedFd> {
    keep_gate()?;
    let gate = GATE.lock().unwrap_or_else(PoisonError::into_inner);
    let number = match gate.as_ref() {
        Some(gate) => gate.as_raw_fd(),
        None => return Err(io::ErrorKind::NotFound.into()),
    };
    // All that may be short comes before the process does: its end of the socket must not be closed by a failure of ours,
    // which it would take for the daemon's end.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (ours, theirs) = pair()?;
    // SAFETY: dup3 takes no pointers; both descriptors are open and ours.
    if unsafe { libc::dup3(theirs.as_raw_fd(), number, libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    drop(theirs);
    let (unshared, has_unshared) = crossbeam::channel::bounded(1);
    let started = spawn_keeper(name, inhabitant, number, unshared);
    // Until then the keeper's table is the daemon's.
    let unshared = started.and_then(|()| has_unshared.recv().map_err(|_| io::ErrorKind::BrokenPipe.into()));
    // SAFETY: as above. Should it be refused, the number goes on to lead to this socket, until next time.
    unsafe { libc::dup3(null.as_raw_fd(), number, libc::O_CLOEXEC) };
    unshared??;
    Ok(ours)
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the pointer is to two descriptors of ours.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let [one, other] = fds;
    // SAFETY: the kernel has just given us both; nobody else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(one), OwnedFd::from_raw_fd(other)) })
}

fn spawn_keeper(
    name: &str,
    inhabitant: Box<dyn Inhabitant>,
    number: RawFd,
    unshared: crossbeam::channel::Sender<io::Result<()>>,
) -> io::Result<()> {
    let name: String = name.chars().filter(|char| *char != '\0').collect();
    let name = CString::new(name)?;
    let stack = MmapMut::map_anon(STACK_BYTES)?;
    std::thread::Builder::new()
        .name("keeper".into())
        .stack_size(KEEPER_STACK_BYTES)
        .spawn(move || {
            let own = own_table(number);
            let failed = own.is_err();
            // Nobody else waits, so it does not fail.
            let _ = unshared.send(own);
            drop(unshared);
            if !failed {
                keep(&*inhabitant, number, &name, stack);
            }
        })?;
    Ok(())
}

/// Gives the calling thread a table of open files with the standard streams and one other in it.
fn own_table(number: RawFd) -> io::Result<()> {
    close_range(number + 1, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE)?;
    if number > FIRST {
        close_range(FIRST, number as libc::c_uint - 1, 0)?;
    }
    Ok(())
}

fn close_range(first: RawFd, last: libc::c_uint, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: it takes no pointers. The table of this thread is its own, or becomes so by this call; nothing that the
    // thread holds lies in it.
    match unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, last, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the process is given. It lives on the keeper's stack, and the keeper outlives the process or dies with all.
struct Legacy<'a> {
    inhabitant: &'a dyn Inhabitant,
    socket: RawFd,
    name: &'a CStr,
}

/// Clones the process and waits for its end.
fn keep(inhabitant: &dyn Inhabitant, socket: RawFd, name: &CStr, mut stack: MmapMut) {
    block_signals();
    let legacy = Legacy {
        inhabitant,
        socket,
        name,
    };
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: `top` is the upper end of a stack that stays mapped, as `legacy` stays in place, until the process has
    // ended: we wait for that below. It shares our thread-local storage, which we leave alone until then.
    let process = unsafe {
        libc::clone(
            begin,
            top.cast(),
            libc::CLONE_VM,
            (&raw const legacy).cast_mut().cast(),
        )
    };
    if process < 0 {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN);
        // SAFETY: the descriptor is open in this thread's own table.
        inhabitant.not_born(unsafe { BorrowedFd::borrow_raw(socket) }, errno);
    } else {
        await_end(process);
    }
    inhabitant.ended();
}

/// Waits without touching thread-local storage: all signals are blocked, so the call is not interrupted.
fn await_end(process: libc::pid_t) {
    loop {
        // SAFETY: a wait for one process, without a place for its status.
        let ended =
            unsafe { libc::syscall(libc::SYS_wait4, process, std::ptr::null::<i32>(), libc::__WALL, 0) };
        if ended == i64::from(process) {
            return;
        }
    }
}

/// The process inherits this: what is sent to the daemon's whole group or terminal is not for it. It ends with the daemon.
fn block_signals() {
    // SAFETY: the set is plain data, initialised by sigfillset before it is read.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
}

/// The first function of the process.
extern "C" fn begin(legacy: *mut libc::c_void) -> libc::c_int {
    // SAFETY: it is the `Legacy` that `keep` has passed, which stays in place until this process has ended.
    let legacy = unsafe { &*legacy.cast_const().cast::<Legacy<'_>>() };
    // SAFETY: the name is a string that ends with a zero byte; the kernel copies what fits.
    unsafe { libc::prctl(libc::PR_SET_NAME, legacy.name.as_ptr()) };
    // SAFETY: the descriptor is in this process' table, and stays there as long as it lives.
    legacy
        .inhabitant
        .live(unsafe { BorrowedFd::borrow_raw(legacy.socket) });
    // SAFETY: nothing of the process needs to be put in order: it has closed what it had.
    unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    0
}
