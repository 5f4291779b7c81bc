//! One connection to a vhost-user-blk server, from the virtual machine's side: negotiation, memory, one ring.

use crate::Failure;
use crate::message::{self, REPLY_BYTES_MAX, encode, failure, longs, words};
use crate::pages::{Pages, USER_BASE};
use crate::ring::{Layout, Ring};
use palisade_frontend::codec::{HEADER_BYTES, request};
use palisade_frontend::features::{PROTOCOL_FEATURES, protocol};
use palisade_sys::EventFd;
use palisade_virtio::{ConfigSpace, Features};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a reply is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to speak to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manner {
    /// Ask for kicks and calls by index (`VIRTIO_RING_F_EVENT_IDX`) where it is offered, as Linux guests do.
    pub event_idx: bool,
    /// Offer memory region by region (`CONFIGURE_MEM_SLOTS`) where the server takes it; otherwise as a table.
    pub memory_slots: bool,
}

/// A disk that can be used.
#[derive(Debug)]
pub struct Session {
    stream: UnixStream,
    acknowledges: bool,
    /// The ring.
    pub ring: Ring,
    /// Tells the server to look at the ring.
    pub kick: EventFd,
    /// Size of the disk in sectors of 512 bytes.
    pub sectors: u64,
    /// How the memory was offered: true for region by region.
    pub memory_slots: bool,
    /// Never read: this client polls. It must exist all the same.
    _call: EventFd,
}

impl Session {
    /// Connects, negotiates, shares memory for `layout` and starts one ring in it.
    pub fn open(path: &Path, manner: Manner, layout: Layout) -> Result<Session, Failure> {
        let stream =
            UnixStream::connect(path).map_err(Failure::system(format!("connect to {}", path.display())))?;
        Session::over(stream, manner, layout)
    }

    /// The same over a connection that exists.
    pub fn over(stream: UnixStream, manner: Manner, layout: Layout) -> Result<Session, Failure> {
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(PATIENCE)).map_err(Failure::system("limit the patience of a socket"))?;
        }
        let mut talk = Talk {
            stream,
            acknowledged: false,
        };
        let offered = talk.ask_number(request::GET_FEATURES)?;
        let protocol_bits = talk.negotiate_protocol(offered, manner)?;
        talk.order(request::SET_OWNER, &[], &[])?;
        let reply = talk.ask(
            request::GET_CONFIG,
            &message::config_request(ConfigSpace::BYTES as u32),
        )?;
        let sectors = message::capacity(&reply)?;
        let event_idx = manner.event_idx && offered & Features::EVENT_IDX.bits() != 0;
        let features = wanted_features(offered, event_idx);
        talk.order(request::SET_FEATURES, &longs(&[features]), &[])?;

        let pages = Pages::new(layout.bytes())?;
        let (file, region) = (&pages.file, pages.region);
        let memory_slots = protocol_bits & protocol::CONFIGURE_MEM_SLOTS != 0;
        let mut ring = Ring::new(Arc::clone(&pages.memory), layout, event_idx)?;
        ring.quiet();
        if memory_slots {
            talk.order(
                request::ADD_MEM_REG,
                &message::memory_region(region),
                &[file.as_fd()],
            )?;
        } else {
            talk.order(
                request::SET_MEM_TABLE,
                &message::memory_table(region),
                &[file.as_fd()],
            )?;
        }
        let event = || EventFd::new().map_err(Failure::system("make an eventfd"));
        let (kick, call) = (event()?, event()?);
        let size = u32::from(layout.ring_size());
        talk.order(request::SET_VRING_NUM, &words(&[0, size]), &[])?;
        talk.order(request::SET_VRING_BASE, &words(&[0, 0]), &[])?;
        let addresses = message::ring_addresses(0, layout.ring(), USER_BASE);
        talk.order(request::SET_VRING_ADDR, &addresses, &[])?;
        talk.order(request::SET_VRING_CALL, &longs(&[0]), &[call.as_fd()])?;
        talk.order(request::SET_VRING_KICK, &longs(&[0]), &[kick.as_fd()])?;
        talk.order(request::SET_VRING_ENABLE, &words(&[0, 1]), &[])?;
        // Whatever had no acknowledgement has been carried out when a later request is answered.
        talk.ask_number(request::GET_FEATURES)?;
        Ok(Session {
            acknowledges: talk.acknowledged,
            stream: talk.stream,
            ring,
            kick,
            sectors,
            memory_slots,
            _call: call,
        })
    }

    /// Stops the ring and hangs up. All requests must have been answered.
    pub fn close(self) -> Result<(), Failure> {
        let mut talk = Talk {
            stream: self.stream,
            acknowledged: self.acknowledges,
        };
        talk.ask(request::GET_VRING_BASE, &words(&[0, 0]))?;
        Ok(())
    }
}

fn wanted_features(offered: u64, event_idx: bool) -> u64 {
    let wanted = PROTOCOL_FEATURES
        | Features::VERSION_1.bits()
        | Features::FLUSH.bits()
        | Features::BLK_SIZE.bits()
        | Features::SEG_MAX.bits()
        | Features::SIZE_MAX.bits()
        | if event_idx { Features::EVENT_IDX.bits() } else { 0 };
    offered & wanted
}

/// Requests and replies over the socket.
struct Talk {
    stream: UnixStream,
    /// REPLY_ACK has been negotiated.
    acknowledged: bool,
}

impl Talk {
    fn negotiate_protocol(&mut self, offered: u64, manner: Manner) -> Result<u64, Failure> {
        if offered & PROTOCOL_FEATURES == 0 {
            return Err(failure(
                request::GET_FEATURES,
                "protocol features are not offered".into(),
            ));
        }
        let mut wanted = protocol::MQ | protocol::REPLY_ACK | protocol::CONFIG;
        if manner.memory_slots {
            wanted |= protocol::CONFIGURE_MEM_SLOTS;
        }
        let chosen = self.ask_number(request::GET_PROTOCOL_FEATURES)? & wanted;
        if chosen & protocol::CONFIG == 0 {
            return Err(failure(
                request::GET_PROTOCOL_FEATURES,
                "the configuration space is not offered".into(),
            ));
        }
        self.order(request::SET_PROTOCOL_FEATURES, &longs(&[chosen]), &[])?;
        self.acknowledged = chosen & protocol::REPLY_ACK != 0;
        Ok(chosen)
    }

    /// A request with a reply of its own.
    fn ask(&mut self, request: u32, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        self.send(request, &encode(request, false, payload), &[])?;
        self.reply(request)
    }

    fn ask_number(&mut self, request: u32) -> Result<u64, Failure> {
        message::number(request, &self.ask(request, &[])?)
    }

    /// A request without a reply of its own; acknowledged where that has been negotiated.
    fn order(&mut self, request: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        self.send(request, &encode(request, self.acknowledged, payload), fds)?;
        if self.acknowledged {
            match message::number(request, &self.reply(request)?)? {
                0 => {}
                refusal => return Err(failure(request, format!("refused ({refusal})"))),
            }
        }
        Ok(())
    }

    fn send(&mut self, request: u32, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(failure(request, "too many descriptors".into()));
        }
        let sent = sendmsg(
            &self.stream,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
        .map_err(|errno| failure(request, format!("cannot be sent: {errno}")))?;
        let rest = bytes.get(sent..).unwrap_or_default();
        self.stream
            .write_all(rest)
            .map_err(|error| failure(request, format!("cannot be sent: {error}")))
    }

    /// No reply that this client asks for comes with descriptors, so plain reading will do.
    fn reply(&mut self, request: u32) -> Result<Vec<u8>, Failure> {
        let lost = |error| failure(request, format!("no answer: {error}"));
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).map_err(lost)?;
        let mut payload = [0; REPLY_BYTES_MAX];
        let payload = payload
            .get_mut(..message::reply_bytes(header, request)?)
            .unwrap_or_default();
        self.stream.read_exact(payload).map_err(lost)?;
        Ok(payload.to_vec())
    }
}
