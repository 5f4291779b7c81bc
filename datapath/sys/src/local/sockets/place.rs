//! One place for a connection: its socket, what it does, and the order in which it tells of that.

use super::connection::{SocketConnection, set_up};
use super::receiving::{Found, RECEIVED_BYTES_MAX, Receiving};
use super::sending::Sending;
use super::{TURN_FRAMES_MAX, closer, name};
use crate::local::memory::MemoryTable;
use crate::local::ring::Ring;
use io_uring::opcode;
use io_uring::types::Fd;
use palisade_block::{Segment, ledger};
use palisade_forward::{LinkEnd, LinkEvent, LinkPlace, OutFrame};
use palisade_words::MemoryId;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// A connection, or room for one.
#[derive(Debug)]
pub(super) struct Place {
    link: LinkPlace,
    state: State,
    socket: Option<OwnedFd>,
    /// Counts the place's connections.
    generation: u32,
    receiving: Receiving,
    sending: Sending,
    /// Why nothing more comes or goes; told when what came before has been.
    end: Option<LinkEnd>,
    /// Its operations have been asked back: the receive, the send.
    cancelled: (bool, bool),
    /// How much more it may tell of in this turn.
    budget: u32,
    /// It is among those that are asked for events, or go on with the next turn.
    pub(super) is_telling: bool,
    /// It is among those that have something to hand over.
    pub(super) is_waiting: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    Open,
    /// It has told that it is of no use.
    Broken,
    Closing,
}

/// Why a connection has nothing to tell.
pub(super) enum Silence {
    /// It has, but not in this turn.
    Spent,
    /// There is nothing.
    Done,
}

impl Place {
    pub(super) fn new(link: LinkPlace) -> Place {
        Place {
            link,
            state: State::Free,
            socket: None,
            generation: 0,
            receiving: Receiving::new(),
            sending: Sending::new(),
            end: None,
            cancelled: (false, false),
            budget: 0,
            is_telling: false,
            is_waiting: false,
        }
    }

    /// Takes a connection, or closes it.
    pub(super) fn attach(&mut self, connection: SocketConnection) -> io::Result<()> {
        let usable = match self.state {
            State::Free if connection.read.len() <= RECEIVED_BYTES_MAX => set_up(&connection.socket),
            State::Free => Err(io::ErrorKind::InvalidInput.into()),
            _ => Err(io::ErrorKind::AlreadyExists.into()),
        };
        if let Err(error) = usable {
            closer::close(connection.socket);
            return Err(error);
        }
        self.receiving.begin(&connection.read);
        self.sending.begin(connection.queued_frames);
        self.socket = Some(connection.socket);
        (self.state, self.end, self.cancelled) = (State::Open, None, (false, false));
        Ok(())
    }

    pub(super) fn is_in(&self, memory: MemoryId) -> bool {
        self.state != State::Free && (self.receiving.lands_in(memory) || self.sending.sends_from(memory))
    }

    /// Whether there is something to hand over.
    pub(super) fn hands_over(&self) -> bool {
        let (receives, sends) = (self.receiving.is_outstanding, self.sending.is_outstanding);
        match self.state {
            State::Open if self.end.is_none() => {
                self.receiving.is_dry() || !sends && self.sending.has_frames()
            }
            State::Closing => receives && !self.cancelled.0 || sends && !self.cancelled.1,
            _ => false,
        }
    }

    /// Hands over what there is; false when the ring has no room for all of it.
    pub(super) fn push(&mut self, ring: &mut Ring, outstanding: &mut u32) -> bool {
        while self.hands_over() {
            if !ring.has_room() {
                return false;
            }
            match self.state {
                State::Closing => self.push_cancel(ring),
                _ => self.push_operation(ring, outstanding),
            }
        }
        true
    }

    fn push_operation(&mut self, ring: &mut Ring, outstanding: &mut u32) {
        let fd = Fd(self.fd());
        let sends = !self.receiving.is_dry();
        let entry = match sends {
            false => {
                let (buffer, bytes) = self.receiving.buffer();
                self.receiving.is_outstanding = true;
                opcode::Recv::new(fd, buffer, bytes).build()
            }
            true => {
                let message = self.sending.offer();
                self.sending.is_outstanding = true;
                // A peer that has gone is told by the result, and not by a signal.
                let flags = libc::MSG_NOSIGNAL as u32;
                opcode::SendMsg::new(fd, message).flags(flags).build()
            }
        };
        ledger::enter(outstanding, "operations of connections");
        // SAFETY: the entry points to the buffer, or to the offer and by it to memory that was found to be kept when its frames
        // were taken. Buffer and offer are left alone while `is_outstanding` says so, and the frames' memory is not let go of
        // while they wait (`Place::is_in`); all of it stays for good when the reactor's devices are dropped with operations
        // outstanding.
        unsafe { ring.push(entry, name(self.link.0, self.generation, sends)) };
    }

    fn push_cancel(&mut self, ring: &mut Ring) {
        let sends = !self.receiving.is_outstanding || self.cancelled.0;
        match sends {
            false => self.cancelled.0 = true,
            true => self.cancelled.1 = true,
        }
        ring.push_cancel(name(self.link.0, self.generation, sends));
    }

    /// Takes a completion; false when it is none of the present connection's.
    pub(super) fn complete(&mut self, generation: u32, sends: bool, result: i32) -> bool {
        let is_outstanding = match sends {
            false => &mut self.receiving.is_outstanding,
            true => &mut self.sending.is_outstanding,
        };
        if generation != self.generation || !std::mem::take(is_outstanding) {
            return false;
        }
        if self.state != State::Open {
            return true;
        }
        match result {
            1.. if sends => self.sending.taken(result as usize),
            1.. => self.receiving.came(result as usize),
            0 if !sends => self.fail(LinkEnd::Closed),
            // It is tried again.
            _ if matches!(-result, libc::EINTR | libc::EAGAIN) => {}
            _ => self.fail(LinkEnd::Failed { errno: -result }),
        }
        true
    }

    fn fail(&mut self, end: LinkEnd) {
        self.end.get_or_insert(end);
    }

    /// Takes a frame; false when the connection is of no use any more.
    pub(super) fn send(&mut self, frame: &OutFrame, memory: &mut MemoryTable) -> bool {
        if self.state != State::Open || self.end.is_some() {
            return false;
        }
        if let Err(errno) = self.sending.take(frame, memory) {
            self.fail(LinkEnd::Failed { errno });
        }
        self.end.is_none()
    }

    pub(super) fn land(&mut self, memory: MemoryId, segments: &[Segment]) {
        if self.state == State::Open {
            self.receiving.land(memory, segments);
        }
    }

    pub(super) fn divert(&mut self) {
        self.receiving.divert();
    }

    /// Begins to close; false when that has been done, or there is no connection.
    pub(super) fn close(&mut self) -> bool {
        if matches!(self.state, State::Free | State::Closing) {
            return false;
        }
        self.state = State::Closing;
        // What the ring waits for can be taken back; what it has given to a worker of the kernel's cannot. That comes to pass with a
        // send: when the other end shuts its half, Linux 6.18 goes on with it by waiting in a worker. This ends both at once.
        if let Some(socket) = &self.socket {
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
        self.receiving.reset();
        if !self.sending.is_outstanding {
            self.sending.reset();
        }
        true
    }

    /// It is asked for events from now on.
    pub(super) fn begin_telling(&mut self) {
        (self.is_telling, self.budget) = (true, TURN_FRAMES_MAX);
    }

    /// The next thing that it has to tell.
    #[inline]
    pub(super) fn step(&mut self, memory: &mut MemoryTable) -> Result<LinkEvent, Silence> {
        match self.state {
            State::Free | State::Broken => Err(Silence::Done),
            State::Closing => self.end_closing(),
            State::Open if self.budget == 0 => {
                self.budget = TURN_FRAMES_MAX;
                Err(Silence::Spent)
            }
            State::Open => {
                self.budget -= 1;
                self.step_open(memory)
            }
        }
    }

    #[inline]
    fn step_open(&mut self, memory: &mut MemoryTable) -> Result<LinkEvent, Silence> {
        let link = self.link;
        if let Some((bytes, payload)) = self.sending.next_sent() {
            return Ok(LinkEvent::Sent { link, bytes, payload });
        }
        if !self.receiving.is_outstanding {
            match self.receiving.next(link, memory) {
                Found::Event(event) => return Ok(event),
                Found::End(end) => {
                    self.receiving.reset();
                    self.end = Some(end);
                }
                Found::Dry => {}
            }
        }
        let Some(end) = self.end else {
            return Err(Silence::Done);
        };
        self.state = State::Broken;
        // Nothing lands any more; what was being sent is the kernel's until the connection is closed.
        self.receiving.divert();
        Ok(LinkEvent::Broken { link, end })
    }

    /// The connection has gone when both its operations have come back.
    fn end_closing(&mut self) -> Result<LinkEvent, Silence> {
        if self.receiving.is_outstanding || self.sending.is_outstanding {
            return Err(Silence::Done);
        }
        self.sending.reset();
        if let Some(socket) = self.socket.take() {
            closer::close(socket);
        }
        self.generation = self.generation.wrapping_add(1);
        self.state = State::Free;
        Ok(LinkEvent::Closed { link: self.link })
    }

    fn fd(&self) -> RawFd {
        self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}
