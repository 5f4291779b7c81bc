//! The connections of a reactor as those see them who make sessions of them.

use super::LocalDevices;
use super::sockets::SocketConnection;
use crate::copy::{self, Access};
use palisade_block::{Fault, Segment};
use palisade_forward::{FrameBody, FrameLinks, LinkEvent, LinkPlace, OutFrame};
use palisade_wire::HELLO_BYTES;
use palisade_words::MemoryId;
use std::{io, ptr};

impl FrameLinks for LocalDevices {
    type Connection = SocketConnection;

    /// Takes a connection into use: `InvalidInput` when it is no stream or more was read from it than a buffer holds,
    /// `AlreadyExists` when the place is not free, and what the kernel says to the options that are set.
    fn attach(&mut self, link: LinkPlace, connection: SocketConnection) -> io::Result<()> {
        self.sockets.attach(link, connection)
    }

    fn send(&mut self, link: LinkPlace, frame: OutFrame) {
        let payload_bytes = frame.header.payload_bytes as usize;
        let has_payload = match frame.body {
            FrameBody::Nothing => payload_bytes == 0,
            FrameBody::Greeting(_) => payload_bytes <= HELLO_BYTES,
            FrameBody::Memory { memory, segment } => {
                assert!(
                    self.memory.has(memory, &[segment]),
                    "a frame's payload lies outside {memory:?}"
                );
                segment.bytes() == payload_bytes
            }
        };
        assert!(
            has_payload,
            "a frame says that {payload_bytes} bytes follow, and others do"
        );
        self.sockets.send(link, &frame, &mut self.memory);
    }

    #[inline]
    fn next_event(&mut self) -> Option<LinkEvent> {
        self.sockets.next_event(&mut self.memory)
    }

    fn land(&mut self, link: LinkPlace, memory: MemoryId, segments: &[Segment]) {
        assert!(
            self.memory.has(memory, segments),
            "a payload is to land outside {memory:?}"
        );
        self.sockets.land(link, memory, segments);
    }

    fn divert(&mut self, link: LinkPlace) {
        self.sockets.divert(link);
    }

    fn close_link(&mut self, link: LinkPlace) {
        self.sockets.close(link);
    }

    fn copy(&mut self, from: (MemoryId, &[Segment]), to: (MemoryId, Segment)) -> Result<(), Fault> {
        let ((from_memory, from), (to_memory, to)) = (from, to);
        assert!(
            self.memory.has(from_memory, from) && self.memory.has(to_memory, &[to]),
            "a copy from outside {from_memory:?} or to outside {to_memory:?}"
        );
        assert!(
            super::bytes(from) == to.bytes() as u64,
            "{} bytes are copied to {}",
            super::bytes(from),
            to.bytes()
        );
        let are_there = self.memory.has_pages_of(from_memory, from, Access::Read)
            && self.memory.has_pages_of(to_memory, &[to], Access::Write);
        if !are_there {
            return Err(Fault::GuestMemory);
        }
        let start: *mut u8 = ptr::with_exposed_provenance_mut(to.address());
        copy::pieces(from, 0, to.bytes(), |address, offset, piece| {
            // SAFETY: both lie in memory that is kept, and the piece inside one segment and inside `to`. They may overlap.
            unsafe { ptr::copy(ptr::with_exposed_provenance(address), start.add(offset), piece) }
        });
        Ok(())
    }
}
