//! What daemon and disk process say to each other over their socket: little, as they share memory. It carries open files
//! across, wakes the process, and by its end tells it of the daemon's.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// One message, a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// There are jobs or calls.
    Wake,
    /// Take a port into use; with its eventfd.
    Attach {
        port: u8,
        /// A reference to the port, which the receiver owns.
        reference: u64,
    },
    /// Give a port back.
    Detach { port: u8 },
    /// The process has come into being.
    Ready,
    /// It has not, for this error number.
    Failed(i32),
    /// An open file of the process, for the daemon.
    Passed,
}

const BYTES: usize = 16;

impl Message {
    fn encode(self) -> [u8; BYTES] {
        let (kind, small, large) = match self {
            Message::Wake => (0, 0, 0),
            Message::Attach { port, reference } => (1, i32::from(port), reference),
            Message::Detach { port } => (2, i32::from(port), 0),
            Message::Ready => (3, 0, 0),
            Message::Failed(errno) => (4, errno, 0),
            Message::Passed => (5, 0, 0),
        };
        let mut bytes = [0; BYTES];
        bytes[0] = kind;
        bytes[4..8].copy_from_slice(&i32::to_ne_bytes(small));
        bytes[8..].copy_from_slice(&u64::to_ne_bytes(large));
        bytes
    }

    fn decode(bytes: [u8; BYTES]) -> Option<Message> {
        let [kind, _, _, _, a, b, c, d, large @ ..] = bytes;
        let small = i32::from_ne_bytes([a, b, c, d]);
        let port = u8::try_from(small).ok();
        Some(match kind {
            0 => Message::Wake,
            1 => Message::Attach {
                port: port?,
                reference: u64::from_ne_bytes(large),
            },
            2 => Message::Detach { port: port? },
            3 => Message::Ready,
            4 => Message::Failed(small),
            5 => Message::Passed,
            _ => return None,
        })
    }
}

/// Sends without waiting.
pub(super) fn send(socket: BorrowedFd<'_>, message: Message, fd: Option<RawFd>) -> io::Result<()> {
    let bytes = message.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // SAFETY: the descriptor is open as long as its owner, our caller's caller, lives, which is longer than this call.
    let fds = fd.map(|fd| [unsafe { BorrowedFd::borrow_raw(fd) }]);
    if let Some(fds) = &fds
        && !control.push(SendAncillaryMessage::ScmRights(fds))
    {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, flags)?;
    Ok(())
}

/// What a look at the socket has found.
#[derive(Debug)]
pub(super) enum Received {
    Message(Message, Option<OwnedFd>),
    Nothing,
    /// The other side has gone.
    End,
}

/// Receives without waiting.
pub(super) fn receive(socket: BorrowedFd<'_>) -> io::Result<Received> {
    let mut bytes = [0; BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
        Ok(got) => got.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
        Err(Errno::CONNRESET | Errno::PIPE) => return Ok(Received::End),
        Err(error) => return Err(error.into()),
    };
    let mut passed = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            rights.for_each(|fd| passed = Some(fd));
        }
    }
    match (got, Message::decode(bytes)) {
        (0, _) => Ok(Received::End),
        (BYTES, Some(message)) => Ok(Received::Message(message, passed)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Receives one message, waiting for it up to `wait`.
pub(super) fn receive_within(
    socket: BorrowedFd<'_>,
    wait: Duration,
) -> io::Result<(Message, Option<OwnedFd>)> {
    let end = std::time::Instant::now() + wait;
    loop {
        match receive(socket)? {
            Received::Message(message, fd) => return Ok((message, fd)),
            Received::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            Received::Nothing => {}
        }
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let time = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&time)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
