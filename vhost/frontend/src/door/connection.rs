//! Bytes to messages and replies to bytes, on sockets that never block.

use super::receiving::{Receipt, Receiving};
use crate::codec::{HEADER_BYTES, Message, MessageHeader, PAYLOAD_BYTES_MAX, ProtocolError, Reply};
use crate::socket;
use rustix::fd::AsFd;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

/// Replies kept for a front-end that does not read. Each follows a request, so an honest one never has more than it
/// has requests on the way.
const REPLIES_MAX: usize = 64;

/// What reading gave.
#[derive(Debug)]
pub(super) enum Next {
    /// A message, or what is wrong with what came instead, and whether an acknowledgement was asked for.
    Message(Result<Message, ProtocolError>, bool),
    /// A message with a descriptor that was kept out, because closing it may wait for somebody.
    KeptOut {
        /// The number of the request.
        request: u32,
        /// Whether an acknowledgement was asked for.
        need_reply: bool,
        /// How the kernel names the descriptor.
        file: String,
    },
    /// Nothing complete yet.
    Later,
    /// Nothing will come any more.
    Over(String),
    /// Nothing more is taken, because of what came or was to come.
    Refused(String),
}

/// The message that is being received. Never more is read than belongs to it, so that file descriptors are known to
/// belong to it too.
#[derive(Debug)]
pub(super) struct Input {
    buffer: Box<[u8; HEADER_BYTES + PAYLOAD_BYTES_MAX]>,
    filled: usize,
    header: Option<MessageHeader>,
    fds: Vec<OwnedFd>,
    /// A descriptor of it that was kept out.
    kept_out: Option<String>,
    /// Whether a whole message has come ever.
    any: bool,
}

impl Input {
    pub(super) fn new() -> Input {
        let buffer = Box::new([0; HEADER_BYTES + PAYLOAD_BYTES_MAX]);
        Input {
            buffer,
            filled: 0,
            header: None,
            fds: Vec::new(),
            kept_out: None,
            any: false,
        }
    }

    /// Whether a message has begun and not ended, or none has come at all.
    pub(super) fn is_unfinished(&self) -> bool {
        self.filled > 0 || !self.any
    }

    /// Reads on.
    pub(super) fn next(&mut self, socket: impl AsFd, receiving: &mut Receiving) -> Next {
        loop {
            let wanted = HEADER_BYTES + self.header.map_or(0, |header| header.payload_bytes);
            if self.filled < wanted {
                let Some(free) = self.buffer.get_mut(self.filled..wanted) else {
                    return Next::Over("a message longer than the buffer".to_owned());
                };
                match receiving.receive(&socket, free, &mut self.fds) {
                    Receipt::Bytes(bytes, kept_out) => {
                        self.filled += bytes;
                        self.kept_out = self.kept_out.take().or(kept_out);
                    }
                    Receipt::Later => return Next::Later,
                    Receipt::Closed if self.filled == 0 => {
                        return Next::Over("the front-end has closed the connection".to_owned());
                    }
                    Receipt::Closed => {
                        return Next::Over(
                            "the front-end has closed the connection inside a message".to_owned(),
                        );
                    }
                    Receipt::Over(reason) => return Next::Refused(reason),
                }
                continue;
            }
            match self.header {
                Some(header) => return self.complete(header),
                None => match self.parse_header() {
                    Ok(header) => self.header = Some(header),
                    Err(error) => return Next::Message(Err(error), false),
                },
            }
        }
    }

    fn parse_header(&self) -> Result<MessageHeader, ProtocolError> {
        // The buffer is longer than a header, so the default never comes into play.
        MessageHeader::parse(self.buffer.first_chunk().copied().unwrap_or_default())
    }

    fn complete(&mut self, header: MessageHeader) -> Next {
        let fds = std::mem::take(&mut self.fds);
        let payload = self.buffer.get(HEADER_BYTES..self.filled).unwrap_or(&[]);
        let message = match self.kept_out.take() {
            None => Next::Message(Message::parse(header, payload, fds), header.need_reply),
            Some(file) => Next::KeptOut {
                request: header.request,
                need_reply: header.need_reply,
                file,
            },
        };
        self.filled = 0;
        self.header = None;
        self.any = true;
        message
    }
}

/// What has not been sent yet.
#[derive(Debug, Default)]
pub(super) struct Output {
    queue: VecDeque<Reply>,
    /// Bytes of the first one that have gone.
    sent: usize,
}

impl Output {
    /// Adds a reply; false when there are too many already.
    pub(super) fn push(&mut self, reply: Reply) -> bool {
        self.queue.push_back(reply);
        self.queue.len() <= REPLIES_MAX
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Sends what the socket takes.
    ///
    /// # Errors
    /// The socket is of no more use.
    pub(super) fn flush(&mut self, socket: impl AsFd) -> io::Result<()> {
        while let Some(reply) = self.queue.front() {
            let left = reply.bytes.get(self.sent..).unwrap_or(&[]);
            // The descriptor goes with the first byte; after that, what is left is bytes only.
            let fd = reply.fd.as_ref().filter(|_| self.sent == 0);
            match socket::send(&socket, left, fd)? {
                None => return Ok(()),
                Some(bytes) if bytes < left.len() => self.sent += bytes,
                Some(_) => {
                    self.sent = 0;
                    self.queue.pop_front();
                }
            }
        }
        Ok(())
    }
}
