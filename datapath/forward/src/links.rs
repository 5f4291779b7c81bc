//! What stands below the sessions: connections that carry whole frames, all of one reactor. In the daemon they are sockets that
//! the reactor's own ring drives; in the simulator, what it makes of them.

use palisade_block::{Fault, Segment};
use palisade_port::Payload;
use palisade_wire::{FrameError, FrameHeader, HELLO_BYTES};
use palisade_words::MemoryId;
use std::fmt::Debug;
use std::io;

/// A connection's place in a reactor's table: whoever uses the connections gives the numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkPlace(pub u16);

/// What follows the header of a frame that is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameBody {
    /// Nothing.
    Nothing,
    /// A greeting or a refusal: the header says how long it is.
    Greeting([u8; HELLO_BYTES]),
    /// Memory that stays as it is until the frame is sent or its connection is closed.
    Memory {
        /// As what the devices keep it.
        memory: MemoryId,
        /// Which part of it.
        segment: Segment,
    },
}

/// A frame to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutFrame {
    /// All but the payload's checksum, which is put in here.
    pub header: FrameHeader,
    /// The payload.
    pub body: FrameBody,
    /// Given back when the frame is sent.
    pub payload: Payload,
    /// It goes ahead of all others of its connection of which no byte was sent.
    pub is_urgent: bool,
}

/// Why a connection is of no use any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkEnd {
    /// The other end has closed it.
    #[error("the other end has closed the connection")]
    Closed,
    /// The kernel says so.
    #[error("{}", io::Error::from_raw_os_error(*errno))]
    Failed {
        /// The error's number.
        errno: i32,
    },
    /// What came is no header, so that nobody knows where the next one begins.
    #[error("a frame {0}")]
    NoFrame(FrameError),
    /// The payload does not fit the header's checksum.
    #[error("a frame of {bytes} bytes has checksum {stored:08x} where its content gives {computed:08x}")]
    BadPayload {
        /// Length of the payload.
        bytes: u32,
        /// As it came.
        stored: u32,
        /// As it should be.
        computed: u32,
    },
}

/// What has happened on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// The header of a frame has come that is no greeting. Where its payload goes is said with [`FrameLinks::land`] before the
    /// next event is asked for; otherwise it is thrown away.
    Header {
        /// Which connection.
        link: LinkPlace,
        /// The header.
        header: FrameHeader,
    },
    /// That frame has come whole, and its checksum is right.
    Arrived {
        /// Which connection.
        link: LinkPlace,
        /// The header.
        header: FrameHeader,
        /// Whether the payload lies where it was to go: a guest's memory may have been taken away. All of it is off the
        /// connection in either case.
        landed: Result<(), Fault>,
    },
    /// A greeting, the answer to one, or a refusal has come whole.
    Greeting {
        /// Which connection.
        link: LinkPlace,
        /// The header.
        header: FrameHeader,
        /// The payload: as many bytes of it as the header says.
        body: [u8; HELLO_BYTES],
    },
    /// Bytes have come that end no frame.
    Heard {
        /// Which connection.
        link: LinkPlace,
    },
    /// A frame was given to the network whole.
    Sent {
        /// Which connection.
        link: LinkPlace,
        /// All bytes of it.
        bytes: u64,
        /// As it came with the frame.
        payload: Payload,
    },
    /// Nothing more comes or goes by the connection: it is to be closed.
    Broken {
        /// Which connection.
        link: LinkPlace,
        /// Why.
        end: LinkEnd,
    },
    /// The connection is closed: nothing is written for it anywhere any more, nor read that was to be sent. Its place is free.
    Closed {
        /// Which connection.
        link: LinkPlace,
    },
}

/// The connections of one reactor. All calls return at once; what has happened is fetched with
/// [`next_event`](FrameLinks::next_event). Memory that frames are sent from or land in is kept by the same hands as
/// [`Devices`](palisade_block::Devices) keep it.
///
/// Frames arrive in the order in which they were sent on the same connection, but for urgent ones, or not at all.
pub trait FrameLinks {
    /// An established connection, as it comes from whoever has made or taken it.
    type Connection: Debug;

    /// Takes a connection into use in a place that is free. Not part of a turn: this may allocate.
    ///
    /// # Errors
    /// It cannot be used. The connection is closed then, without an event.
    fn attach(&mut self, link: LinkPlace, connection: Self::Connection) -> io::Result<()>;

    /// A frame goes to a connection: behind all others, or before those of which no byte was sent. It is given to the network
    /// with the next [`submit`](palisade_block::Devices::submit). For a connection that is broken or closing it is nothing.
    ///
    /// # Panics
    /// When the memory is not kept, or the segment lies outside it: somebody else's would be sent.
    fn send(&mut self, link: LinkPlace, frame: OutFrame);

    /// The next thing that has happened since the last [`reap`](palisade_block::Devices::reap).
    fn next_event(&mut self) -> Option<LinkEvent>;

    /// Where the payload goes of the frame whose header has just been told: into these segments, in order, which hold so much.
    /// The list need not outlive the call.
    ///
    /// # Panics
    /// When the memory is not kept, a segment lies outside it, or they hold less than the payload.
    fn land(&mut self, link: LinkPlace, memory: MemoryId, segments: &[Segment]);

    /// What is still to come of the frame that is just arriving goes nowhere: its memory is not touched any more. It arrives all
    /// the same.
    fn divert(&mut self, link: LinkPlace);

    /// Closes a connection: [`LinkEvent::Closed`] follows. One that is closing already is none of this call's business.
    fn close_link(&mut self, link: LinkPlace);

    /// Copies memory, all of it, in order.
    ///
    /// # Errors
    /// There is no page behind some of `from`. What lies at `to` then is not to be used.
    ///
    /// # Panics
    /// When either is not kept, or a segment lies outside it, or `from` has another length than `to`.
    fn copy(&mut self, from: (MemoryId, &[Segment]), to: (MemoryId, Segment)) -> Result<(), Fault>;
}
