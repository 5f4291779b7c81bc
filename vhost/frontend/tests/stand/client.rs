//! A front-end that speaks the protocol by hand, right or wrong.

use super::guest::{Guest, USER_BASE};
use palisade_frontend::codec::{Region, request};
use palisade_memory::RingAddresses;
use palisade_sys::EventFd;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const VERSION: u32 = 1;
const NEED_REPLY: u32 = 1 << 3;

/// A connection, from the VMM's side.
pub struct Client {
    pub stream: UnixStream,
}

/// A reply's request number, payload and descriptors.
#[derive(Debug)]
pub struct Answer {
    pub request: u32,
    pub payload: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Answer {
    pub fn number(&self) -> u64 {
        u64::from_ne_bytes(self.payload[..8].try_into().unwrap())
    }
}

/// Header and payload of a request.
pub fn frame(request: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    let header = [request, VERSION | flags, payload.len() as u32];
    header
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .chain(payload.iter().copied())
        .collect()
}

pub fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

pub fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

pub fn region_bytes(region: Region) -> Vec<u8> {
    longs(&[
        region.guest_address,
        region.bytes,
        region.user_address,
        region.file_offset,
    ])
}

/// The payload of SET_VRING_ADDR for guest addresses.
pub fn vring_addr_bytes(index: u32, ring: RingAddresses, log: bool) -> Vec<u8> {
    let user = |guest| USER_BASE + guest;
    let mut bytes = words(&[index, log.into()]);
    bytes.extend(longs(&[
        user(ring.descriptors),
        user(ring.used),
        user(ring.avail),
        ring.used,
    ]));
    bytes
}

impl Client {
    pub fn connect(path: &Path) -> Client {
        Client::over(UnixStream::connect(path).unwrap())
    }

    pub fn over(stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Client { stream }
    }

    pub fn send(&self, bytes: &[u8], fds: &[&OwnedFd]) -> io::Result<()> {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        let sent = rustix::net::sendmsg(
            &self.stream,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        (&self.stream).write_all(&bytes[sent..])
    }

    /// Sends a request that has no reply of its own, without asking for one.
    pub fn tell(&self, request: u32, payload: &[u8], fds: &[&OwnedFd]) {
        self.send(&frame(request, 0, payload), fds).unwrap();
    }

    /// Sends a request that has a reply of its own.
    pub fn ask(&self, request: u32, payload: &[u8]) -> Answer {
        self.send(&frame(request, 0, payload), &[]).unwrap();
        let answer = self.answer().unwrap();
        assert_eq!(answer.request, request);
        answer
    }

    /// Sends a request and asks for an acknowledgement: 0 for success.
    pub fn order(&self, request: u32, payload: &[u8], fds: &[&OwnedFd]) -> u64 {
        self.send(&frame(request, NEED_REPLY, payload), fds).unwrap();
        let answer = self.answer().unwrap();
        assert_eq!(answer.request, request);
        answer.number()
    }

    /// Receives one message, a reply or a request of the back-end's own.
    pub fn answer(&self) -> io::Result<Answer> {
        let mut header = [0; 12];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut header)];
        let received = rustix::net::recvmsg(&self.stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (&self.stream).read_exact(&mut header[received.bytes..])?;
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; word(8) as usize];
        (&self.stream).read_exact(&mut payload)?;
        Ok(Answer {
            request: word(0),
            payload,
            fds,
        })
    }

    /// Reads until the back-end has closed the connection.
    pub fn wait_for_end(&self) {
        let mut rest = Vec::new();
        match (&self.stream).read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// Negotiates as QEMU does on connecting.
    pub fn negotiate(&self) {
        let features = self.ask(request::GET_FEATURES, &[]).number();
        let protocol = self.ask(request::GET_PROTOCOL_FEATURES, &[]).number();
        self.tell(request::SET_PROTOCOL_FEATURES, &longs(&[protocol]), &[]);
        self.tell(request::SET_OWNER, &[], &[]);
        self.tell(request::SET_FEATURES, &longs(&[features & !(1 << 26)]), &[]);
    }

    pub fn set_mem_table(&self, guest: &Guest) {
        let mut payload = words(&[1, 0]);
        payload.extend(region_bytes(guest.region));
        assert_eq!(self.order(request::SET_MEM_TABLE, &payload, &[&guest.file]), 0);
    }

    /// Sets a ring up as QEMU does. The order is its own: size, base, addresses, kick, call, enable.
    pub fn set_ring(
        &self,
        index: u32,
        size: u16,
        base: u16,
        ring: RingAddresses,
        kick: &EventFd,
        call: &EventFd,
    ) {
        self.tell(request::SET_VRING_NUM, &words(&[index, size.into()]), &[]);
        self.tell(request::SET_VRING_BASE, &words(&[index, base.into()]), &[]);
        self.tell(
            request::SET_VRING_ADDR,
            &vring_addr_bytes(index, ring, false),
            &[],
        );
        self.tell(request::SET_VRING_KICK, &longs(&[index.into()]), &[&dup(kick)]);
        self.tell(request::SET_VRING_CALL, &longs(&[index.into()]), &[&dup(call)]);
        assert_eq!(self.order(request::SET_VRING_ENABLE, &words(&[index, 1]), &[]), 0);
    }
}

pub fn dup(event: &EventFd) -> OwnedFd {
    event.try_clone().unwrap().into()
}
