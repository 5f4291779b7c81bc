//! Connections of a reactor, and the other ends of them: a reactor's as well, or plain sockets that the test reads and writes.

use super::{Buffer, until};
use palisade_block::{Devices, Segment};
use palisade_forward::{FrameBody, FrameLinks, LinkEvent, LinkPlace, OutFrame};
use palisade_port::Payload;
use palisade_sys::{LocalDevices, LocalSettings, SocketConnection};
use palisade_wire::{FrameHeader, FrameKind, payload_checksum};
use palisade_words::MemoryId;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

pub const LINK: LinkPlace = LinkPlace(3);

/// One reactor's connections, what they tell, and memory to send from and to land in.
pub struct End {
    pub devices: LocalDevices,
    pub memory: MemoryId,
    pub buffer: Buffer,
    /// Where payloads land, of whatever frame comes next. Nowhere, if there is none.
    pub landing: Vec<Segment>,
    pub events: Vec<LinkEvent>,
}

pub const BUFFER_BYTES: usize = 8 << 20;

impl End {
    pub fn new(deferred: bool) -> End {
        let settings = LocalSettings {
            slots: 64,
            in_flight_max: 64,
            submission_entries: 16,
            deferred,
        };
        let mut devices = LocalDevices::new(settings).unwrap();
        let buffer = Buffer::new(BUFFER_BYTES);
        let memory = devices.keep(buffer.0.lease());
        End {
            devices,
            memory,
            buffer,
            landing: Vec::new(),
            events: Vec::new(),
        }
    }

    pub fn on(socket: impl Into<OwnedFd>) -> End {
        let mut end = End::new(true);
        end.devices.attach(LINK, SocketConnection::new(socket)).unwrap();
        end
    }

    /// One turn: what has happened in it is appended.
    pub fn turn(&mut self) {
        self.devices.submit();
        self.devices.reap(|_, _| {});
        while self.tell() {}
    }

    /// Fetches one event; whether there was one.
    pub fn tell(&mut self) -> bool {
        let Some(event) = self.devices.next_event() else {
            return false;
        };
        if let LinkEvent::Header { link, .. } = event
            && !self.landing.is_empty()
        {
            self.devices.land(link, self.memory, &self.landing);
        }
        self.events.push(event);
        true
    }

    /// Takes turns until so many events of a kind have come.
    pub fn until(&mut self, count: usize, is_meant: impl Fn(&LinkEvent) -> bool) {
        until(|| {
            self.turn();
            self.events.iter().filter(|event| is_meant(event)).count() >= count
        });
    }

    pub fn arrived(&self) -> Vec<FrameHeader> {
        let arrived = |event: &LinkEvent| match event {
            LinkEvent::Arrived { header, .. } => Some(*header),
            _ => None,
        };
        self.events.iter().filter_map(arrived).collect()
    }

    /// A frame from the buffer.
    pub fn frame(&self, sequence: u64, at: usize, bytes: usize) -> OutFrame {
        let body = match bytes {
            0 => FrameBody::Nothing,
            _ => FrameBody::Memory {
                memory: self.memory,
                segment: self.buffer.segment(at, bytes),
            },
        };
        OutFrame {
            header: header(sequence, bytes as u32),
            body,
            payload: Payload::Answer { key: sequence },
            is_urgent: false,
        }
    }

    pub fn send(&mut self, frame: OutFrame) {
        self.devices.send(LINK, frame);
    }

    pub fn close(&mut self) {
        FrameLinks::close_link(&mut self.devices, LINK);
    }
}

pub fn is_arrived(event: &LinkEvent) -> bool {
    matches!(event, LinkEvent::Arrived { .. })
}

pub fn is_sent(event: &LinkEvent) -> bool {
    matches!(event, LinkEvent::Sent { .. })
}

pub fn is_broken(event: &LinkEvent) -> bool {
    matches!(event, LinkEvent::Broken { .. })
}

pub fn is_closed(event: &LinkEvent) -> bool {
    matches!(event, LinkEvent::Closed { .. })
}

pub fn is_heard(event: &LinkEvent) -> bool {
    matches!(event, LinkEvent::Heard { .. })
}

pub fn header(sequence: u64, payload_bytes: u32) -> FrameHeader {
    FrameHeader {
        sequence,
        payload_bytes,
        ..FrameHeader::of(FrameKind::Message)
    }
}

/// A frame's bytes, as they are sent.
pub fn bytes_of(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        payload_crc: Some(payload_checksum([payload])),
        ..header(sequence, payload.len() as u32)
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

pub fn unix() -> (OwnedFd, OwnedFd) {
    let (one, other) = UnixStream::pair().unwrap();
    (one.into(), other.into())
}

pub fn tcp() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    (one.into(), other.into())
}

/// A connection whose sending side has as little room in the kernel as there can be, and the other end.
pub fn narrow() -> (OwnedFd, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&one, 1).unwrap();
    (one.into(), other)
}
