//! The connections of a reactor to those of other nodes, each a socket that the reactor's own ring drives: one receive and one
//! send outstanding at a time, and nothing but what is taken in [`reap`](palisade_block::Devices::reap) and handed over in
//! [`submit`](palisade_block::Devices::submit).
//!
//! ```text
//!            attach                 the other end, the kernel, a bad frame              close
//!   free ──────────────> open ──────────────────────────────────────────> broken ───────────┐
//!    ^                     └──────────────────────── close ─────────────────────────────────┤
//!    └── Closed told <── both completions taken <── both operations taken back <── closing <┘
//! ```
//!
//! A place keeps its buffers when its connection has gone, for the next one: whoever numbers the places bounds that memory
//! (300 KiB for each, and 2 MiB where frames wait in thousands). The kernel has them only while an operation is outstanding, and
//! none is when a connection is told to be closed. To that end its socket is shut down, which the kernel does at once, and what
//! is outstanding is taken back. The descriptor is closed by a thread of its own ([`closer`]).
//!
//! One connection does not fill a turn: it gives what one receive has brought, and of that so many frames
//! ([`TURN_FRAMES_MAX`]). The rest is for the next turn, before which the reactor does not sleep.
//!
//! ## Sizes
//! `examples/echo.rs`, both ends on one thread over TCP on one machine that others were using too: microseconds of processor
//! time for one trip there and back with all that the kernel does for it, medians of three windows. Bare sockets of the same
//! sizes took 9.6 to 10.1, 1.1 to 1.2, 36 to 39 and 34 to 59 in the same runs: the last column says little below a factor of 1.5.
//!
//! | received at once            | 4 KiB, 1 | 4 KiB, 32 | 128 KiB, 1 | 128 KiB, 8 |
//! |-----------------------------|----------|-----------|------------|------------|
//! | 64 KiB                      |   13.1   |    2.3    |    60.1    |    95.2    |
//! | 128 KiB                     |   13.2   |    2.5    |    59.1    |    58.8    |
//! | 256 KiB (this)              |   13.2   |    2.5    |    57.2    |    52.2    |
//! | 512 KiB                     |   13.2   |    2.4    |    58.0    |    50.4    |
//! | 256 KiB, waits before it tries | 12.3  |    2.3    |    53.7    |    78.6    |
//!
//! A frame of 128 KiB does not fit 64 KiB, nor with its header 128 KiB; beyond 256 KiB nothing is gained. To wait before it is tried
//! (IORING_RECVSEND_POLL_FIRST) spares an attempt where nothing has come yet and costs one where something has.
//!
//! Payloads are not sent with MSG_ZEROCOPY: on this machine's own network the kernel copies all the same, so that nothing can be
//! measured there, and each send would have a second completion to wait for before its memory is free.
//!
//! Nothing is said about a socket to the reactor's descriptors that are listened to: what comes is a completion of the ring, which
//! ends a sleep as that of a disk does.

mod checksum;
mod closer;
mod connection;
mod lent;
mod place;
mod receiving;
mod sending;

pub use connection::SocketConnection;
pub use receiving::RECEIVED_BYTES_MAX;

use super::memory::MemoryTable;
use super::ring::Ring;
use palisade_block::{Segment, ledger};
use palisade_forward::{LinkEvent, LinkPlace, OutFrame};
use palisade_words::MemoryId;
use place::{Place, Silence};
use std::collections::VecDeque;
use std::io;

/// Frames, greetings and sent frames that one connection tells of in one turn.
pub const TURN_FRAMES_MAX: u32 = 128;

/// In the lower half of names: an operation of a connection. No slot has this bit ([`SLOT_BITS`]), and listeners and
/// cancellations are told apart before it is looked at.
///
/// [`SLOT_BITS`]: crate::disk_process::SLOT_BITS
const SOCKET: u32 = 1 << 31;

/// Which of the two operations of a connection it is.
const SENDS: u32 = 1 << 16;

const _: () = assert!(SOCKET >> crate::disk_process::SLOT_BITS != 0);
const _: () = assert!((SOCKET | SENDS | u16::MAX as u32) < super::listeners::LISTENER);

/// Whether a completion is of a connection and not of a flight.
#[inline]
pub(super) fn is_of_a_socket(name: u64) -> bool {
    name as u32 & SOCKET != 0
}

/// The name of an operation: the upper half is the connection's generation, so that what is said of a former one of its place
/// is not taken for it.
fn name(link: u16, generation: u32, sends: bool) -> u64 {
    let kind = if sends { SENDS } else { 0 };
    u64::from(generation) << 32 | u64::from(SOCKET | kind | u32::from(link))
}

/// All connections of a reactor.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// Each is made when it is first used.
    places: Vec<Option<Place>>,
    /// Those that have something to tell in this turn, and those that go on with the next one.
    ready: VecDeque<u16>,
    spent: Vec<u16>,
    /// Those that have something to hand over.
    waiting: Vec<u16>,
    /// Operations in the ring, all in all.
    outstanding: u32,
}

impl Sockets {
    pub(super) fn attach(&mut self, link: LinkPlace, connection: SocketConnection) -> io::Result<()> {
        closer::start();
        let count = self.places.len().max(usize::from(link.0) + 1);
        self.places.resize_with(count, || None);
        self.ready.reserve(count - self.ready.len());
        self.spent.reserve(count - self.spent.len());
        self.waiting.reserve(count - self.waiting.len());
        if let Some(place) = self.places.get_mut(usize::from(link.0)) {
            place.get_or_insert_with(|| Place::new(link)).attach(connection)?;
        }
        self.tell(link.0);
        self.wait(link.0);
        Ok(())
    }

    /// Whether something is to be told, in this turn or the next.
    #[inline]
    pub(super) fn has_something_to_tell(&self) -> bool {
        !self.ready.is_empty() || !self.spent.is_empty()
    }

    /// Whether something waits to be handed over.
    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Operations that the kernel has.
    pub(super) fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Whether something is sent from some memory, or lands in it.
    pub(super) fn are_in(&self, memory: MemoryId) -> bool {
        self.places.iter().flatten().any(|place| place.is_in(memory))
    }

    /// A turn begins: those that had told enough go on.
    #[inline]
    pub(super) fn begin_turn(&mut self) {
        self.ready.extend(self.spent.drain(..));
    }

    /// Takes a completion.
    pub(super) fn complete(&mut self, name: u64, result: i32) {
        let (low, generation) = (name as u32, (name >> 32) as u32);
        let (link, sends) = (low as u16, low & SENDS != 0);
        let Some(place) = self.place(link) else {
            return;
        };
        if !place.complete(generation, sends, result) {
            return;
        }
        let hands_over = place.hands_over();
        ledger::leave(&mut self.outstanding, "operations of connections");
        self.tell(link);
        if hands_over {
            self.wait(link);
        }
    }

    /// Hands over what there is room for: receives, sends and what takes them back.
    pub(super) fn push(&mut self, ring: &mut Ring) {
        while let Some(&link) = self.waiting.last() {
            if let Some(Some(place)) = self.places.get_mut(usize::from(link)) {
                let is_done = place.push(ring, &mut self.outstanding);
                if !is_done {
                    return;
                }
                place.is_waiting = false;
            }
            self.waiting.pop();
        }
    }

    pub(super) fn send(&mut self, link: LinkPlace, frame: &OutFrame, memory: &mut MemoryTable) {
        if let Some(place) = self.place(link.0) {
            match place.send(frame, memory) {
                true => self.wait(link.0),
                false => self.tell(link.0),
            }
        }
    }

    pub(super) fn next_event(&mut self, memory: &mut MemoryTable) -> Option<LinkEvent> {
        while let Some(&link) = self.ready.front() {
            let place = self.places.get_mut(usize::from(link))?.as_mut()?;
            match place.step(memory) {
                Ok(event) => return Some(event),
                Err(Silence::Spent) => self.spent.push(link),
                Err(Silence::Done) => {
                    place.is_telling = false;
                    if place.hands_over() {
                        self.wait(link);
                    }
                }
            }
            self.ready.pop_front();
        }
        None
    }

    pub(super) fn land(&mut self, link: LinkPlace, memory: MemoryId, segments: &[Segment]) {
        if let Some(place) = self.place(link.0) {
            place.land(memory, segments);
        }
    }

    pub(super) fn divert(&mut self, link: LinkPlace) {
        if let Some(place) = self.place(link.0) {
            place.divert();
        }
    }

    pub(super) fn close(&mut self, link: LinkPlace) {
        if let Some(place) = self.place(link.0)
            && place.close()
        {
            self.wait(link.0);
            self.tell(link.0);
        }
    }

    pub(super) fn close_all(&mut self) {
        (0..self.places.len() as u16).for_each(|link| self.close(LinkPlace(link)));
    }

    fn place(&mut self, link: u16) -> Option<&mut Place> {
        self.places.get_mut(usize::from(link))?.as_mut()
    }

    /// Has a connection asked for events.
    fn tell(&mut self, link: u16) {
        if let Some(place) = self.place(link)
            && !place.is_telling
        {
            place.begin_telling();
            self.ready.push_back(link);
        }
    }

    /// Has a connection hand something over with the next submission.
    fn wait(&mut self, link: u16) {
        if let Some(place) = self.place(link)
            && !place.is_waiting
        {
            place.is_waiting = true;
            self.waiting.push(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_connection_and_which_operation() {
        let names = [
            name(0, 7, false),
            name(0, 7, true),
            name(u16::MAX, 7, true),
            name(0, 8, false),
        ];
        for (at, one) in names.iter().enumerate() {
            assert!(is_of_a_socket(*one) && !names[..at].contains(one));
        }
        assert!(!is_of_a_socket(
            u64::from((1u32 << crate::disk_process::SLOT_BITS) - 1) | 9 << 32
        ));
    }

    /// What is said of an operation of a former connection, or of one that was not asked for, is about nothing.
    #[test]
    fn a_completion_of_a_former_connection_is_not_taken_for_one_of_the_present() {
        let mut ring = Ring::new(crate::LocalSettings::default()).unwrap();
        let (mut sockets, mut memory) = (Sockets::default(), MemoryTable::default());
        let link = LinkPlace(0);
        let attach = |sockets: &mut Sockets| {
            let (socket, other) = std::os::unix::net::UnixStream::pair().unwrap();
            sockets.attach(link, SocketConnection::new(socket)).unwrap();
            other
        };
        let former = attach(&mut sockets);
        sockets.push(&mut ring);
        sockets.close(link);
        sockets.push(&mut ring);
        while sockets.outstanding() > 0 {
            ring.wait(None);
            ring.completions(|name, result| sockets.complete(name, result));
        }
        let closed = sockets.next_event(&mut memory);
        assert_eq!(closed, Some(LinkEvent::Closed { link }));
        let _present = attach(&mut sockets);
        sockets.push(&mut ring);
        assert_eq!(sockets.outstanding(), 1);
        for foreign in [
            name(0, 0, false),
            name(0, 1, true),
            name(0, 2, false),
            name(1, 1, false),
        ] {
            sockets.complete(foreign, 0);
            assert_eq!(
                (sockets.outstanding(), sockets.next_event(&mut memory)),
                (1, None)
            );
        }
        sockets.close_all();
        sockets.push(&mut ring);
        ring.submit();
        drop(former);
        while sockets.outstanding() > 0 {
            ring.wait(None);
            ring.completions(|name, result| sockets.complete(name, result));
        }
    }
}
