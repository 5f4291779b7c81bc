//! What daemon and filter process say to each other: packets of a socket of their own, without an allocation on the side
//! of the process.

use super::{RECEIPT_BYTES_MAX, RECEIPT_FDS_MAX};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

/// Longest name that is told.
pub(super) const NAME_BYTES: usize = 256;

const HEAD_BYTES: usize = 8;
const DATA: usize = HEAD_BYTES + NAME_BYTES;

/// Longest answer.
pub(super) const ANSWER_BYTES: usize = DATA + RECEIPT_BYTES_MAX;

/// What the process is told to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Receive from this from now on.
    Connection,
    /// Receive so many bytes at most.
    Receive(u32),
}

/// How a receipt went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Bytes,
    Nothing,
    Closed,
    TooMany,
    /// With an error number.
    Failed,
    /// It has let go of everything.
    Settled,
}

/// The descriptors of an answer could not be taken.
#[derive(Debug)]
pub(super) struct FdsLost;

/// An answer as it is put together: state, length of the name, value; the name's room; the data.
pub(super) struct Answer {
    bytes: [u8; ANSWER_BYTES],
}

/// An answer as it has come.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) state: State,
    pub(super) value: u32,
    name: &'a [u8],
    data: &'a [u8],
}

impl Answer {
    pub(super) fn new() -> Answer {
        Answer {
            bytes: [0; ANSWER_BYTES],
        }
    }

    /// Where the data goes.
    pub(super) fn room(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.bytes[DATA..DATA + bytes.min(RECEIPT_BYTES_MAX)]
    }

    pub(super) fn set(&mut self, state: State, value: u32) {
        self.bytes[0] = state as u8;
        self.bytes[4..8].copy_from_slice(&value.to_ne_bytes());
    }

    pub(super) fn state(&self) -> State {
        State::of(self.bytes[0]).unwrap_or(State::Failed)
    }

    pub(super) fn keep_out(&mut self, name: &[u8]) {
        let length = name.len().min(NAME_BYTES);
        self.bytes[2..4].copy_from_slice(&(length as u16).to_ne_bytes());
        self.bytes[HEAD_BYTES..HEAD_BYTES + length].copy_from_slice(&name[..length]);
    }

    fn packet(&self) -> &[u8] {
        let value = u32::from_ne_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]]);
        let data = match self.state() {
            State::Bytes => value as usize,
            _ => 0,
        };
        &self.bytes[..DATA + data.min(RECEIPT_BYTES_MAX)]
    }
}

impl<'a> Heard<'a> {
    fn of(bytes: &'a [u8]) -> Option<Heard<'a>> {
        let [state, _, low, high, a, b, c, d] = *bytes.first_chunk::<HEAD_BYTES>()?;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        Some(Heard {
            state: State::of(state)?,
            value: u32::from_ne_bytes([a, b, c, d]),
            name: bytes.get(HEAD_BYTES..DATA)?.get(..length)?,
            data: bytes.get(DATA..)?,
        })
    }

    pub(super) fn kept_out(&self) -> Option<String> {
        (!self.name.is_empty()).then(|| String::from_utf8_lossy(self.name).into_owned())
    }

    pub(super) fn data(&self) -> &[u8] {
        self.data
    }
}

impl State {
    fn of(byte: u8) -> Option<State> {
        let all = [
            State::Bytes,
            State::Nothing,
            State::Closed,
            State::TooMany,
            State::Failed,
            State::Settled,
        ];
        all.get(usize::from(byte)).copied()
    }
}

/// Tells the process what to do.
pub(super) fn send_order(
    socket: BorrowedFd<'_>,
    order: Order,
    connection: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = match order {
        Order::Connection => [0; 4],
        Order::Receive(bytes) => bytes.to_ne_bytes(),
    };
    Ok(send(socket, &bytes, connection.into_iter())?)
}

/// What the process is told to do; `None` when there is nothing yet.
///
/// # Errors
/// The daemon has let go of it, or has ended.
pub(super) fn receive_order(socket: BorrowedFd<'_>) -> io::Result<Option<(Order, Option<OwnedFd>)>> {
    let mut bytes = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
        Ok(got) => got.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut connection = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            rights.for_each(|fd| connection = Some(fd));
        }
    }
    match (got, u32::from_ne_bytes(bytes)) {
        (4, 0) => Ok(Some((Order::Connection, connection))),
        (4, bytes) => Ok(Some((Order::Receive(bytes), None))),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Answers, with what is passed on.
pub(super) fn send_answer<'a>(
    socket: BorrowedFd<'_>,
    answer: &Answer,
    fds: impl Iterator<Item = BorrowedFd<'a>>,
) -> io::Result<()> {
    match send(socket, answer.packet(), fds) {
        Err(errno) if errno == Errno::TOOMANYREFS || errno == Errno::NOMEM || errno == Errno::NOBUFS => {
            let mut failed = Answer::new();
            failed.set(State::Failed, errno.raw_os_error() as u32);
            Ok(send(socket, failed.packet(), std::iter::empty())?)
        }
        sent => Ok(sent?),
    }
}

/// Says that everything of the last receipt has been let go.
pub(super) fn send_settled(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut settled = Answer::new();
    settled.set(State::Settled, 0);
    Ok(send(socket, settled.packet(), std::iter::empty())?)
}

/// Waits for an answer until `end`.
pub(super) fn receive_answer<'a>(
    socket: BorrowedFd<'_>,
    room: &'a mut [u8; ANSWER_BYTES],
    fds: &mut Vec<OwnedFd>,
    end: Instant,
) -> io::Result<Result<Heard<'a>, FdsLost>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RECEIPT_FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = loop {
        let mut parts = [IoSliceMut::new(&mut room[..])];
        match recvmsg(socket, &mut parts, &mut control, flags) {
            Ok(got) => break got,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        let left = end.saturating_duration_since(Instant::now());
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
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        fds.clear();
        return Ok(Err(FdsLost));
    }
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let heard = room.get(..got.bytes).and_then(Heard::of);
    heard.map(Ok).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Sends one packet without waiting.
fn send<'a>(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: impl Iterator<Item = BorrowedFd<'a>>,
) -> Result<(), Errno> {
    // At least one, so that there is an element to fill the rest with; only so many are sent as there are.
    let mut all = [socket; RECEIPT_FDS_MAX];
    let mut count = 0;
    for (place, fd) in all.iter_mut().zip(fds) {
        *place = fd;
        count += 1;
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RECEIPT_FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if count > 0 && !control.push(SendAncillaryMessage::ScmRights(&all[..count])) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?;
    Ok(())
}
