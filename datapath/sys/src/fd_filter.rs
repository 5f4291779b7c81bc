//! Descriptors that somebody from outside sends over a socket are received in a process of its own, and only those of
//! kinds whose closing waits for nobody are passed on.
//!
//! Whoever has a descriptor has to close it, at the latest when the process ends, and that is the other side's choice:
//! closing a file of FUSE asks its server (FLUSH) and waits, uninterruptibly, for an answer; of NFS likewise; a pipe waits
//! for its lock, which a writer may hold while it waits for a page; a TCP socket may linger. One such descriptor in the
//! daemon's table would hang whichever thread closes it, and when the daemon is killed, all its locks, sockets and the
//! port: the table is closed one by one, by whoever ends last. A descriptor is in the receiver's table when recvmsg(2)
//! returns, so it cannot be looked at before; it can be received elsewhere.
//!
//! ```text
//! VMM --SCM_RIGHTS--> connection --> filter process --SCM_RIGHTS, checked kinds only--> attachment's thread
//!                                      own table: this connection, what is being looked at
//! ```
//!
//! The process is not one of the daemon's threads: when the daemon is killed it is gone at once, and what is left is one
//! process that waits in the closing of one descriptor, with one connection in its hands. It shares the daemon's memory as
//! disk processes do ([`own_process`](crate::own_process)).
//!
//! | kind | why it waits for nobody |
//! |---|---|
//! | memfd, file of tmpfs or hugetlbfs | nothing is done at close but the freeing of pages (`F_GET_SEALS` is answered for them alone) |
//! | eventfd | a reference is dropped, those who poll are woken |
//! | Unix stream socket | is taken apart; what descriptors it holds unread are let go without FLUSH |

mod wire;

use crate::disk_process;
use crate::own_process::{self, Inhabitant};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use wire::{Answer, Order, State};

/// Most descriptors that are taken with one receipt.
pub const RECEIPT_FDS_MAX: usize = 32;

/// Most bytes that are taken with one receipt.
pub const RECEIPT_BYTES_MAX: usize = 8192;

/// How the name of each process begins, as ps(1) shows it.
pub const NAME_START: &str = "fd:";

/// What was received.
#[derive(Debug)]
pub struct Receipt {
    /// How it went.
    pub state: Received,
    /// What came and was passed on, in order.
    pub fds: Vec<OwnedFd>,
    /// How the kernel names the first descriptor that was not passed on, because its closing may wait.
    pub kept_out: Option<String>,
}

/// How a receipt went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// There was nothing.
    Nothing,
    /// The other side has closed the connection.
    Closed,
    /// More descriptors came than fit; all were let go.
    TooManyFds,
    /// This process has as many descriptors open as it may, so what was passed on could not be taken.
    NoRoomForFds,
}

/// A process that receives for one connection. Dropping it lets it end; it is not waited for.
#[derive(Debug)]
pub struct FdFilter {
    socket: OwnedFd,
    shared: Arc<Shared>,
    /// What it is letting go, and since when.
    closing: Option<(String, Instant)>,
}

/// Keeps ready what starting a process takes: one descriptor with a low number, the earlier the better.
///
/// # Errors
/// /dev/null cannot be opened.
pub fn prepare() -> io::Result<()> {
    own_process::keep_gate()
}

impl FdFilter {
    /// Starts a process that receives from a connection. `whose` shows in its name.
    ///
    /// # Errors
    /// The host allows no more threads or processes, or no more open files.
    pub fn start(whose: &str, connection: BorrowedFd<'_>) -> io::Result<FdFilter> {
        let shared = Arc::new(Shared::default());
        let resident = Resident(Arc::clone(&shared));
        let filter = FdFilter {
            socket: own_process::start(&format!("{NAME_START}{whose}"), Box::new(resident))?,
            shared,
            closing: None,
        };
        wire::send_order(filter.socket.as_fd(), Order::Connection, Some(connection))?;
        Ok(filter)
    }

    /// Receives up to the buffer's length and what comes along, as recvmsg(2) does, without waiting for the other side.
    ///
    /// # Errors
    /// `TimedOut` when the process has not answered within `patience`: it hangs in what it was given before. What
    /// recvmsg(2) says. The filter is of no more use then.
    pub fn receive(&mut self, buffer: &mut [u8], patience: Duration) -> io::Result<Receipt> {
        let end = Instant::now() + patience;
        self.settle(end)?;
        let wanted = buffer.len().min(RECEIPT_BYTES_MAX);
        wire::send_order(self.socket.as_fd(), Order::Receive(wanted as u32), None)?;
        let mut fds = Vec::new();
        let mut room = [0; wire::ANSWER_BYTES];
        let answer = match wire::receive_answer(self.socket.as_fd(), &mut room, &mut fds, end)? {
            Ok(answer) => answer,
            Err(wire::FdsLost) => {
                return Ok(Receipt {
                    state: Received::NoRoomForFds,
                    fds: Vec::new(),
                    kept_out: None,
                });
            }
        };
        let kept_out = answer.kept_out();
        self.note(kept_out.as_deref());
        let state = match answer.state {
            State::Bytes => {
                let data = answer.data();
                let Some(to) = buffer.get_mut(..data.len()) else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                to.copy_from_slice(data);
                Received::Bytes(data.len())
            }
            State::Nothing => Received::Nothing,
            State::Closed => Received::Closed,
            State::TooMany => Received::TooManyFds,
            State::Failed => return Err(io::Error::from_raw_os_error(answer.value as i32)),
            State::Settled => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Receipt { state, fds, kept_out })
    }

    /// What the process is letting go just now, and since when; `None` when it is done with everything.
    pub fn closing(&mut self) -> Option<(&str, Instant)> {
        // An error says that it has gone, which is an end as well.
        let _ = self.settle(Instant::now());
        self.closing.as_ref().map(|(what, since)| (what.as_str(), *since))
    }

    /// Lets the process end. What is left when it hangs in a closing.
    pub fn let_go(mut self) -> Option<Lingering> {
        self.closing()?;
        let (what, since) = self.closing.take()?;
        LINGERING.fetch_add(1, SeqCst);
        self.shared.lingers.store(true, SeqCst);
        if self.shared.ended.load(SeqCst) {
            self.shared.linger_no_more();
        }
        Some(Lingering {
            shared: Arc::clone(&self.shared),
            what,
            since,
        })
    }

    fn note(&mut self, kept_out: Option<&str>) {
        self.closing = kept_out.map(|what| (what.to_owned(), Instant::now()));
    }

    /// Waits until the process is done with what it was letting go.
    fn settle(&mut self, end: Instant) -> io::Result<()> {
        if self.closing.is_none() {
            return Ok(());
        }
        if self.shared.ended.load(SeqCst) {
            self.closing = None;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut room = [0; wire::ANSWER_BYTES];
        match wire::receive_answer(self.socket.as_fd(), &mut room, &mut Vec::new(), end) {
            Ok(_) => self.closing = None,
            Err(error) => {
                if error.kind() != io::ErrorKind::TimedOut {
                    self.closing = None;
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Drop for FdFilter {
    fn drop(&mut self) {
        self.shared.quit.store(true, SeqCst);
    }
}

/// A process that has been let go and has not ended: it waits in the kernel for the closing of a descriptor.
#[derive(Debug)]
pub struct Lingering {
    shared: Arc<Shared>,
    what: String,
    since: Instant,
}

impl Lingering {
    /// What does not let itself be closed.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether it has been closed, and the process is gone.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(SeqCst)
    }
}

/// Processes let go that hang, of the whole daemon.
static LINGERING: AtomicUsize = AtomicUsize::new(0);

/// How many processes that were let go hang in a closing, whoever they worked for.
pub fn lingering() -> usize {
    LINGERING.load(SeqCst)
}

/// What daemon and process have in common.
#[derive(Debug, Default)]
struct Shared {
    /// It counts as one that hangs.
    lingers: AtomicBool,
    /// The daemon wants it to end.
    quit: AtomicBool,
    /// It has ended.
    ended: AtomicBool,
}

impl Shared {
    fn linger_no_more(&self) {
        if self.lingers.swap(false, SeqCst) {
            LINGERING.fetch_sub(1, SeqCst);
        }
    }
}

/// What lives in the process. It neither allocates nor locks.
struct Resident(Arc<Shared>);

impl Resident {
    /// Does what it is told until the other end of the socket has gone.
    fn serve(&self, socket: BorrowedFd<'_>) {
        let mut connection: Option<OwnedFd> = None;
        loop {
            match poll(&mut [PollFd::new(&socket, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            match wire::receive_order(socket) {
                Ok(Some((Order::Connection, fd))) => connection = fd,
                Ok(Some((Order::Receive(bytes), _))) => {
                    let Some(connection) = &connection else { return };
                    if receive(connection.as_fd(), socket, bytes as usize).is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }
}

impl Inhabitant for Resident {
    fn live(&self, socket: BorrowedFd<'_>) {
        self.serve(socket);
        if !self.0.quit.load(SeqCst) {
            disk_process::wind_up();
        }
    }

    fn not_born(&self, _socket: BorrowedFd<'_>, _errno: i32) {}

    fn ended(&self) {
        self.0.ended.store(true, SeqCst);
        self.0.linger_no_more();
    }
}

/// Receives once, passes on what may be, answers, and then lets go of everything: that may hang.
fn receive(connection: BorrowedFd<'_>, socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let mut answer = Answer::new();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RECEIPT_FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let room = answer.room(bytes.min(RECEIPT_BYTES_MAX));
    let received = loop {
        match recvmsg(connection, &mut [IoSliceMut::new(room)], &mut control, flags) {
            Err(Errno::INTR) => {}
            other => break other,
        }
    };
    let mut fds: [Option<OwnedFd>; RECEIPT_FDS_MAX] = [const { None }; RECEIPT_FDS_MAX];
    let mut count = 0;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            for fd in rights {
                if let Some(place) = fds.get_mut(count) {
                    *place = Some(fd);
                    count += 1;
                }
            }
        }
    }
    match received {
        Ok(received) if received.flags.contains(ReturnFlags::CTRUNC) => answer.set(State::TooMany, 0),
        Ok(received) if received.bytes == 0 => answer.set(State::Closed, 0),
        Ok(received) => answer.set(State::Bytes, received.bytes as u32),
        Err(Errno::AGAIN) => answer.set(State::Nothing, 0),
        // A peer that went away with bytes of ours unread leaves a reset behind; for us it has closed.
        Err(Errno::CONNRESET) => answer.set(State::Closed, 0),
        Err(errno) => answer.set(State::Failed, errno.raw_os_error() as u32),
    }
    let passes = answer.state() == State::Bytes;
    let all_pass = fds.iter().flatten().all(|fd| waits_for_nobody(fd.as_fd()));
    if !all_pass {
        let other = fds.iter().flatten().find(|fd| !waits_for_nobody(fd.as_fd()));
        if let Some(other) = other {
            answer.keep_out(link(other.as_raw_fd(), &mut [0; LINK_BYTES]));
        }
    }
    // The message is refused as a whole when one of them is kept out.
    let pass = passes && all_pass;
    wire::send_answer(
        socket,
        &answer,
        fds.iter().flatten().map(AsFd::as_fd).filter(|_| pass),
    )?;
    drop(fds);
    if !all_pass {
        wire::send_settled(socket)?;
    }
    Ok(())
}

/// Room for what a descriptor leads to.
const LINK_BYTES: usize = wire::NAME_BYTES;

/// Whether closing a descriptor waits for nobody, whatever its other owners do.
fn waits_for_nobody(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: a plain call on an open descriptor; it asks no file system.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) } >= 0 {
        return true;
    }
    let mut room = [0; LINK_BYTES];
    // The link of a file begins with '/', so nobody can give one such a name.
    let name = link(fd.as_raw_fd(), &mut room);
    name == b"anon_inode:[eventfd]" || name.starts_with(b"socket:[") && is_unix_stream(fd)
}

fn is_unix_stream(fd: BorrowedFd<'_>) -> bool {
    let domain = rustix::net::sockopt::socket_domain(fd);
    let kind = rustix::net::sockopt::socket_type(fd);
    domain == Ok(rustix::net::AddressFamily::UNIX) && kind == Ok(rustix::net::SocketType::STREAM)
}

/// What a descriptor of this process leads to, as the kernel names it. It asks no file system, and needs no memory.
fn link(fd: i32, room: &mut [u8; LINK_BYTES]) -> &[u8] {
    let mut path = [0; 32];
    let mut rest = &mut path[..31];
    // It fits, and the last byte stays zero.
    let _ = io::Write::write_fmt(&mut rest, format_args!("/proc/self/fd/{fd}"));
    // SAFETY: the path ends with a zero byte; the kernel writes no more than the room has.
    let bytes = unsafe { libc::readlink(path.as_ptr().cast(), room.as_mut_ptr().cast(), room.len()) };
    usize::try_from(bytes)
        .ok()
        .and_then(|bytes| room.get(..bytes))
        .unwrap_or(b"?")
}

#[cfg(test)]
mod tests;
