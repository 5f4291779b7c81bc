//! What goes by one connection: frames that wait, and those of them that the kernel has been offered.
//!
//! ```text
//! begun ── of which some bytes were sent ─┐
//! urgent ─────────────────────────────────┼──> one sendmsg: header, payload, header, payload ...  ──> sent ──> told
//! others ─────────────────────────────────┘
//! ```
//!
//! One sendmsg is outstanding at a time. What it has not taken is offered anew, in the order that is right then: a frame that is
//! urgent goes before all of which no byte was taken. Payloads are sent from where they lie.
//!
//! Each frame has one of a fixed number of places until it is told as sent; where there is none the connection breaks, which loses
//! nothing, since its session sends all of it again by others.

use super::checksum::RunningChecksum;
use super::lent::Lent;
use crate::copy::Access;
use crate::local::memory::MemoryTable;
use palisade_block::Segment;
use palisade_forward::{FrameBody, OutFrame};
use palisade_port::Payload;
use palisade_wire::{FRAME_HEADER_BYTES, FrameHeader, HELLO_BYTES};
use palisade_words::MemoryId;
use std::collections::VecDeque;

/// Frames that are offered at once.
const OFFERED_FRAMES_MAX: usize = 64;

/// Bytes that are offered at once: the kernel copies them within our own call. The last frame is cut there.
const OFFERED_BYTES_MAX: usize = 256 << 10;

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Sending {
    /// Those places that have been used: the others take no memory.
    frames: Vec<Frame>,
    free: Vec<u16>,
    places: u16,
    /// Some bytes of it were sent: so many.
    begun: Option<(u16, usize)>,
    urgent: VecDeque<u16>,
    others: VecDeque<u16>,
    sent: VecDeque<u16>,
    /// How many of the urgent ones and of the others the kernel has been offered.
    offered: (usize, usize),
    offer: Lent<Offer>,
    /// The kernel has an offer.
    pub(super) is_outstanding: bool,
    checksum: RunningChecksum,
}

/// A frame that waits.
#[derive(Clone, Copy, Debug)]
struct Frame {
    header: [u8; FRAME_HEADER_BYTES],
    body: FrameBody,
    payload: Payload,
    payload_bytes: usize,
}

/// What the kernel is pointed at.
struct Offer {
    message: libc::msghdr,
    pieces: [libc::iovec; 2 * OFFERED_FRAMES_MAX],
    heads: [Head; OFFERED_FRAMES_MAX],
}

/// A header, and behind it a payload that is no memory of others.
type Head = [u8; FRAME_HEADER_BYTES + HELLO_BYTES];

impl Sending {
    pub(super) fn new() -> Sending {
        const NOTHING: libc::iovec = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: a message that is all zeroes is an empty one.
        let message = unsafe { std::mem::zeroed() };
        Sending {
            frames: Vec::new(),
            free: Vec::new(),
            places: 0,
            begun: None,
            urgent: VecDeque::new(),
            others: VecDeque::new(),
            sent: VecDeque::new(),
            offered: (0, 0),
            offer: Lent::new(Box::new(Offer {
                message,
                pieces: [NOTHING; 2 * OFFERED_FRAMES_MAX],
                heads: [[0; FRAME_HEADER_BYTES + HELLO_BYTES]; OFFERED_FRAMES_MAX],
            })),
            is_outstanding: false,
            checksum: RunningChecksum::new(),
        }
    }

    /// Begins with a connection, with so many places for frames. This allocates.
    pub(super) fn begin(&mut self, places: u16) {
        assert!(
            !self.is_outstanding,
            "a place is used while the kernel has its frames"
        );
        let count = usize::from(places);
        self.reset();
        self.places = places;
        self.frames.clear();
        self.free.clear();
        self.frames.reserve(count);
        self.free.reserve(count);
        for queue in [&mut self.urgent, &mut self.others, &mut self.sent] {
            queue.reserve(count);
        }
    }

    /// Forgets all frames.
    pub(super) fn reset(&mut self) {
        (self.begun, self.offered) = (None, (0, 0));
        for queue in [&mut self.urgent, &mut self.others, &mut self.sent] {
            queue.clear();
        }
    }

    /// Takes a frame, whose memory has been found to be kept.
    ///
    /// # Errors
    /// The error number that says why the connection is of no use any more: no place is free, or a page of the payload is not
    /// there.
    pub(super) fn take(&mut self, frame: &OutFrame, memory: &mut MemoryTable) -> Result<(), i32> {
        self.checksum.restart();
        match &frame.body {
            FrameBody::Nothing => {}
            FrameBody::Greeting(body) => {
                let bytes = frame.header.payload_bytes as usize;
                self.checksum.add(body.get(..bytes).unwrap_or(body));
            }
            &FrameBody::Memory { memory: id, segment } => {
                if !memory.has_pages_of(id, &[segment], Access::Read) {
                    return Err(libc::EFAULT);
                }
                // SAFETY: the segment lies in memory that is kept, as our caller has found.
                unsafe { self.checksum.add_segment(segment) };
            }
        }
        let header = FrameHeader {
            payload_crc: Some(self.checksum.value()),
            ..frame.header
        };
        let waiting = Frame {
            header: header.encode(),
            body: frame.body,
            payload: frame.payload,
            payload_bytes: header.payload_bytes as usize,
        };
        let place = self.put(waiting).ok_or(libc::ENOBUFS)?;
        match frame.is_urgent {
            true => self.urgent.push_back(place),
            false => self.others.push_back(place),
        }
        Ok(())
    }

    /// Puts a frame in a place that is free.
    fn put(&mut self, frame: Frame) -> Option<u16> {
        if let Some(place) = self.free.pop() {
            *self.frames.get_mut(usize::from(place))? = frame;
            return Some(place);
        }
        let place = self.frames.len() as u16;
        (place < self.places).then(|| self.frames.push(frame))?;
        Some(place)
    }

    /// Whether something is to be offered.
    #[inline]
    pub(super) fn has_frames(&self) -> bool {
        self.begun.is_some() || !self.urgent.is_empty() || !self.others.is_empty()
    }

    /// Whether a frame waits whose payload lies in some memory.
    pub(super) fn sends_from(&self, memory: MemoryId) -> bool {
        let begun = self.begun.iter().map(|(place, _)| place);
        let mut waiting = begun.chain(&self.urgent).chain(&self.others);
        waiting.any(|&place| {
            let frame = self.frames.get(usize::from(place));
            frame.is_some_and(
                |frame| matches!(frame.body, FrameBody::Memory { memory: its, .. } if its == memory),
            )
        })
    }

    /// Puts together what the kernel is offered next: a message that stays as it is, and where it is, until the kernel has
    /// answered.
    pub(super) fn offer(&mut self) -> *const libc::msghdr {
        assert!(!self.is_outstanding, "frames are offered twice");
        // SAFETY: the kernel does not have it, and this is the only reference to it.
        let offer = unsafe { &mut *self.offer.pointer() };
        let (mut pieces, mut bytes) = (offer.pieces.iter_mut(), 0);
        let waiting = self.urgent.iter().chain(&self.others).map(|&place| (place, 0));
        let (mut count, mut piece_count) = (0, 0);
        for ((place, done), head) in self.begun.into_iter().chain(waiting).zip(&mut offer.heads) {
            let Some(frame) = self
                .frames
                .get(usize::from(place))
                .filter(|_| bytes < OFFERED_BYTES_MAX)
            else {
                break;
            };
            count += 1;
            for (base, length) in frame.pieces(head, done) {
                let length = length.min(OFFERED_BYTES_MAX - bytes);
                if length > 0
                    && let Some(piece) = pieces.next()
                {
                    (piece.iov_base, piece.iov_len) = (base.cast(), length);
                    piece_count += 1;
                    bytes += length;
                }
            }
        }
        let fresh = count - usize::from(self.begun.is_some());
        let urgent = fresh.min(self.urgent.len());
        self.offered = (urgent, fresh - urgent);
        offer.message.msg_iov = offer.pieces.as_mut_ptr();
        offer.message.msg_iovlen = piece_count as _;
        &raw const offer.message
    }

    /// The kernel has taken so many bytes of its offer.
    pub(super) fn taken(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let Some((place, done)) = self.begun.take().or_else(|| Some((self.next_offered()?, 0))) else {
                unreachable!("the kernel has taken {bytes} bytes more than it was offered");
            };
            let all = self.frames.get(usize::from(place)).map_or(0, Frame::bytes);
            if bytes < all - done {
                self.begun = Some((place, done + bytes));
                break;
            }
            bytes -= all - done;
            self.sent.push_back(place);
        }
        self.offered = (0, 0);
    }

    /// A frame that was sent, and was not told yet: all its bytes, and its payload.
    #[inline]
    pub(super) fn next_sent(&mut self) -> Option<(u64, Payload)> {
        let place = self.sent.pop_front()?;
        self.free.push(place);
        let frame = self.frames.get(usize::from(place))?;
        Some((frame.bytes() as u64, frame.payload))
    }

    /// The first of which no byte was sent, of those that were offered.
    fn next_offered(&mut self) -> Option<u16> {
        let (queue, count) = match self.offered {
            (0, _) => (&mut self.others, &mut self.offered.1),
            _ => (&mut self.urgent, &mut self.offered.0),
        };
        *count = count.checked_sub(1)?;
        queue.pop_front()
    }
}

impl Frame {
    fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload_bytes
    }

    /// What is left of it behind the first `done` bytes: of the head, which is filled for that, and of memory.
    fn pieces(&self, head: &mut Head, done: usize) -> [(*mut u8, usize); 2] {
        let (header, greeting) = head.split_at_mut(FRAME_HEADER_BYTES);
        header.copy_from_slice(&self.header);
        let (segment, own_bytes) = match &self.body {
            FrameBody::Nothing => (Segment::EMPTY, 0),
            FrameBody::Greeting(body) => {
                greeting.copy_from_slice(body);
                (Segment::EMPTY, self.payload_bytes)
            }
            FrameBody::Memory { segment, .. } => (*segment, 0),
        };
        let head_bytes = FRAME_HEADER_BYTES + own_bytes;
        let of_head = done.min(head_bytes);
        let of_memory = done - of_head;
        [
            (
                head.as_mut_ptr().wrapping_add(of_head),
                head_bytes.saturating_sub(of_head),
            ),
            (
                std::ptr::with_exposed_provenance_mut(segment.address().wrapping_add(of_memory)),
                segment.bytes().saturating_sub(of_memory),
            ),
        ]
    }
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").finish_non_exhaustive()
    }
}
