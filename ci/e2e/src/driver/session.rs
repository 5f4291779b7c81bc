//! The monitor's side of a vhost-user session (QEMU's `vhost-user.rst`), by its text alone: nothing of ours is shared
//! with the daemon's, so that a mistake there is not made here as well.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use super::ring::{Ring, USER_BASE};
use crate::failure::{Failure, Outcome, demand};

/// How long one answer may take on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const SET_OWNER: u32 = 3;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_NUM: u32 = 8;
const SET_VRING_ADDR: u32 = 9;
const SET_VRING_BASE: u32 = 10;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const SET_VRING_ERR: u32 = 14;
const GET_PROTOCOL_FEATURES: u32 = 15;
const SET_PROTOCOL_FEATURES: u32 = 16;
const SET_VRING_ENABLE: u32 = 18;
const GET_CONFIG: u32 = 24;
const GET_INFLIGHT_FD: u32 = 31;
const SET_INFLIGHT_FD: u32 = 32;

const VERSION: u32 = 1;
const NEED_REPLY: u32 = 1 << 3;

/// VIRTIO_BLK_F_BLK_SIZE, FLUSH, DISCARD, WRITE_ZEROES, VIRTIO_F_INDIRECT_DESC, VHOST_USER_F_PROTOCOL_FEATURES,
/// VIRTIO_F_VERSION_1. Not SEG_MAX: without it a chain may be as long as the ring.
const WANTED: u64 = 1 << 6 | 1 << 9 | 1 << 13 | 1 << 14 | 1 << 28 | 1 << 30 | 1 << 32;
/// REPLY_ACK, CONFIG, INFLIGHT_SHMFD.
const PROTOCOL_WANTED: u64 = 1 << 3 | 1 << 9 | 1 << 12;

/// Bytes of the configuration space that are looked at (virtio 1.3, 5.2.4).
const CONFIG_BYTES: usize = 60;

/// What the device says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// In sectors of 512 bytes.
    pub capacity: u64,
    /// The logical block.
    pub block_bytes: u32,
    /// Ranges of a discard, 0 when it has none.
    pub discard_ranges: u32,
    /// Ranges of a request for zeroes, 0 when it has none.
    pub zeroes_ranges: u32,
}

/// The region that outlives a daemon: what was in flight when it died.
#[derive(Debug)]
pub struct InFlight {
    description: Vec<u8>,
    file: OwnedFd,
}

/// A session whose ring runs.
#[derive(Debug)]
pub struct Session {
    stream: UnixStream,
    config: Config,
}

impl Session {
    /// Connects and starts `ring`, where it stands. The first session of a ring gets a region for what is in flight, which
    /// is handed on to the next ones.
    ///
    /// # Errors
    /// When nobody listens, or what the daemon answered.
    pub fn start(path: &Path, ring: &Ring, in_flight: &mut Option<InFlight>) -> Outcome<Self> {
        let during = |error| Failure::during(path.display(), error);
        let stream = UnixStream::connect(path).map_err(during)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(during)?;
        let mut session = Self {
            stream,
            config: Config {
                capacity: 0,
                block_bytes: 0,
                discard_ranges: 0,
                zeroes_ranges: 0,
            },
        };
        session.negotiate()?;
        match in_flight {
            Some(carried) => session.carry(carried)?,
            None => {
                let fresh = session.fresh_in_flight(ring)?;
                session.carry(&fresh)?;
                *in_flight = Some(fresh);
            }
        }
        session.start_ring(ring)?;
        Ok(session)
    }

    /// What the device said.
    pub fn config(&self) -> Config {
        self.config
    }

    /// The socket: readable when the daemon has gone.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    fn negotiate(&mut self) -> Outcome {
        let offered = self.number(GET_FEATURES)?;
        demand(offered & 1 << 32 != 0, "the device is not of version 1")?;
        let protocol = self.number(GET_PROTOCOL_FEATURES)? & PROTOCOL_WANTED;
        demand(
            protocol == PROTOCOL_WANTED,
            format!("protocol features {protocol:#x} do not do for a restart"),
        )?;
        self.tell(SET_PROTOCOL_FEATURES, &protocol.to_ne_bytes(), &[])?;
        self.tell(SET_OWNER, &[], &[])?;
        self.order(SET_FEATURES, &(offered & WANTED).to_ne_bytes(), &[])?;
        let mut request = words(&[0, CONFIG_BYTES as u32, 0]);
        request.extend([0; CONFIG_BYTES]);
        let (answer, _) = self.ask(GET_CONFIG, &request, &[])?;
        let word = |at: usize| number_at::<4>(&answer, 12 + at).map(u32::from_le_bytes);
        let offers = |bit: u32| offered >> bit & 1 == 1;
        self.config = Config {
            capacity: u64::from_le_bytes(number_at(&answer, 12)?),
            block_bytes: word(20)?,
            discard_ranges: if offers(13) { word(40)? } else { 0 },
            zeroes_ranges: if offers(14) { word(52)? } else { 0 },
        };
        Ok(())
    }

    fn fresh_in_flight(&self, ring: &Ring) -> Outcome<InFlight> {
        let (description, mut files) = self.ask(GET_INFLIGHT_FD, &in_flight_request(ring), &[])?;
        let file = files.pop();
        Ok(InFlight {
            description,
            file: file.ok_or_else(|| Failure::new("GET_INFLIGHT_FD was answered without a descriptor"))?,
        })
    }

    fn carry(&self, in_flight: &InFlight) -> Outcome {
        let file = in_flight.file.as_fd();
        self.order(SET_INFLIGHT_FD, &in_flight.description, &[file])
    }

    fn start_ring(&self, ring: &Ring) -> Outcome {
        let mut table = words(&[1, 0]);
        table.extend(longs(&[0, ring.memory_bytes(), USER_BASE, 0]));
        self.order(SET_MEM_TABLE, &table, &[ring.memory()])?;
        self.order(SET_VRING_NUM, &words(&[0, ring.size().into()]), &[])?;
        self.order(SET_VRING_BASE, &words(&[0, ring.base().into()]), &[])?;
        let places = ring.places();
        let mut addresses = words(&[0, 0]);
        addresses.extend(longs(&[
            USER_BASE + places.descriptors,
            USER_BASE + places.used,
            USER_BASE + places.avail,
            0,
        ]));
        self.order(SET_VRING_ADDR, &addresses, &[])?;
        self.order(SET_VRING_CALL, &longs(&[0]), &[ring.call()])?;
        self.order(SET_VRING_ERR, &longs(&[0]), &[ring.error()])?;
        self.order(SET_VRING_KICK, &longs(&[0]), &[ring.kick()])?;
        self.order(SET_VRING_ENABLE, &words(&[0, 1]), &[])
    }

    /// A request whose reply is one number.
    fn number(&self, request: u32) -> Outcome<u64> {
        let (answer, _) = self.ask(request, &[], &[])?;
        Ok(u64::from_ne_bytes(number_at(&answer, 0)?))
    }

    /// A request without a reply.
    fn tell(&self, request: u32, payload: &[u8], files: &[BorrowedFd<'_>]) -> Outcome {
        self.send(request, VERSION, payload, files)
    }

    /// A request that is acknowledged.
    fn order(&self, request: u32, payload: &[u8], files: &[BorrowedFd<'_>]) -> Outcome {
        self.send(request, VERSION | NEED_REPLY, payload, files)?;
        let (answer, _) = self.receive(request)?;
        let said = u64::from_ne_bytes(number_at(&answer, 0)?);
        demand(
            said == 0,
            format!("request {request} was refused by the daemon ({said})"),
        )
    }

    /// A request that has a reply of its own.
    fn ask(
        &self,
        request: u32,
        payload: &[u8],
        files: &[BorrowedFd<'_>],
    ) -> Outcome<(Vec<u8>, Vec<OwnedFd>)> {
        self.send(request, VERSION, payload, files)?;
        self.receive(request)
    }

    fn send(&self, request: u32, flags: u32, payload: &[u8], files: &[BorrowedFd<'_>]) -> Outcome {
        let during = |error: std::io::Error| Failure::during(format!("sending request {request}"), error);
        let mut message = words(&[request, flags, payload.len() as u32]);
        message.extend(payload);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(files));
            demand(fits, format!("request {request} with too many descriptors"))?;
        }
        let parts = [IoSlice::new(&message)];
        let sent = rustix::net::sendmsg(&self.stream, &parts, &mut control, SendFlags::NOSIGNAL)
            .map_err(|error| during(error.into()))?;
        (&self.stream)
            .write_all(message.get(sent..).unwrap_or_default())
            .map_err(during)
    }

    fn receive(&self, request: u32) -> Outcome<(Vec<u8>, Vec<OwnedFd>)> {
        let during =
            |error: std::io::Error| Failure::during(format!("the answer to request {request}"), error);
        let mut header = [0; 12];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut header)];
        let got = rustix::net::recvmsg(&self.stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
            .map_err(|error| during(error.into()))?
            .bytes;
        demand(
            got > 0,
            format!("the daemon closed the session instead of answering request {request}"),
        )?;
        let mut files = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights);
            }
        }
        let rest = header.get_mut(got..).unwrap_or_default();
        (&self.stream).read_exact(rest).map_err(during)?;
        let word = |at| number_at(&header, at).map(u32::from_ne_bytes);
        demand(
            word(0)? == request,
            format!("request {request} was answered as {}", word(0)?),
        )?;
        // The protocol's longest message is far below.
        let bytes = word(8)?.min(1 << 16);
        let mut payload = vec![0; bytes as usize];
        (&self.stream).read_exact(&mut payload).map_err(during)?;
        Ok((payload, files))
    }
}

/// Size and offset of the region (the daemon's to say), queues, entries; and the padding of the structure's end.
fn in_flight_request(ring: &Ring) -> Vec<u8> {
    let mut request = longs(&[0, 0]);
    request.extend(1_u16.to_ne_bytes());
    request.extend(ring.size().to_ne_bytes());
    request.extend([0; 4]);
    request
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> Outcome<[u8; N]> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or_else(|| Failure::new(format!("an answer of {} bytes is too short", bytes.len())))
}
