//! What comes by one connection: bytes into a buffer of its own, and out of it frames.
//!
//! ```text
//! ring ──recv──> staging ──64 bytes──> header, checked ──> told; land says where ──┐
//!                   └──── payload, as it came: checksum, then a copy to memory <────┘
//! ```
//!
//! The buffer is worked off before it is received into again. The checksum is of the bytes in it, which nobody else reaches:
//! where they land a guest may change them at any moment.

use super::checksum::RunningChecksum;
use super::lent::Lent;
use crate::copy::{self, Access};
use crate::local::memory::MemoryTable;
use palisade_block::limits::SEGMENTS_PER_SLOT;
use palisade_block::{Fault, Segment};
use palisade_forward::{LinkEnd, LinkEvent, LinkPlace};
use palisade_wire::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, HELLO_BYTES};
use palisade_words::MemoryId;

/// Bytes that are received at once, and so of one connection in one turn.
pub const RECEIVED_BYTES_MAX: usize = 256 << 10;

/// The receiving half of a connection.
#[derive(Debug)]
pub(super) struct Receiving {
    /// Zeroed when it is made, so that each byte of it may be read at any time.
    staging: Lent<[u8]>,
    /// Which bytes of it have come and were not looked at.
    from: usize,
    to: usize,
    /// It is in the kernel's hands.
    pub(super) is_outstanding: bool,
    /// Bytes have come, and no frame has ended since.
    has_heard: bool,
    head: [u8; FRAME_HEADER_BYTES],
    head_bytes: usize,
    /// The frame that is arriving, and how much of its payload is still to come.
    frame: Option<FrameHeader>,
    left: usize,
    checksum: RunningChecksum,
    /// What came of a greeting.
    greeting: [u8; HELLO_BYTES],
    /// Where the payload lands, as far as nothing has been put there yet; empty: nowhere.
    segments: Vec<Segment>,
    /// Which segment comes next, and how far it is filled.
    at: (usize, usize),
    memory: MemoryId,
    landed: Result<(), Fault>,
    /// The header has just been told.
    may_land: bool,
}

/// What was found in the buffer.
pub(super) enum Found {
    Event(LinkEvent),
    /// It is worked off.
    Dry,
    End(LinkEnd),
}

impl Receiving {
    pub(super) fn new() -> Receiving {
        Receiving {
            staging: Lent::new(vec![0; RECEIVED_BYTES_MAX].into()),
            from: 0,
            to: 0,
            is_outstanding: false,
            has_heard: false,
            head: [0; FRAME_HEADER_BYTES],
            head_bytes: 0,
            frame: None,
            left: 0,
            checksum: RunningChecksum::new(),
            greeting: [0; HELLO_BYTES],
            segments: Vec::with_capacity(SEGMENTS_PER_SLOT),
            at: (0, 0),
            memory: MemoryId::POOL,
            landed: Ok(()),
            may_land: false,
        }
    }

    /// Begins with a connection, and what was read from it: at most as much as the buffer holds.
    pub(super) fn begin(&mut self, read: &[u8]) {
        assert!(
            !self.is_outstanding,
            "a place is used while the kernel has its buffer"
        );
        self.reset();
        if let Some(staged) = self.staging(read.len()) {
            staged.copy_from_slice(read);
        }
        self.came(read.len());
    }

    /// Forgets what was arriving.
    pub(super) fn reset(&mut self) {
        (self.from, self.to, self.head_bytes, self.left) = (0, 0, 0, 0);
        (self.frame, self.has_heard, self.may_land) = (None, false, false);
        self.segments.clear();
    }

    /// Where the kernel puts what comes next, and how much that may be.
    pub(super) fn buffer(&self) -> (*mut u8, u32) {
        (self.staging.pointer().cast(), RECEIVED_BYTES_MAX as u32)
    }

    /// So many bytes lie at the beginning of the buffer.
    pub(super) fn came(&mut self, bytes: usize) {
        (self.from, self.to) = (0, bytes.min(RECEIVED_BYTES_MAX));
        self.has_heard = bytes > 0;
    }

    /// Whether the buffer may be given to the kernel: all that came by it has been told.
    pub(super) fn is_dry(&self) -> bool {
        let has_whole = self.frame.is_some() && self.left == 0;
        self.from == self.to && !self.is_outstanding && !self.has_heard && !has_whole
    }

    /// Whether something may be written to some memory.
    pub(super) fn lands_in(&self, memory: MemoryId) -> bool {
        !self.segments.is_empty() && self.memory == memory
    }

    /// See [`FrameLinks::land`](palisade_forward::FrameLinks::land); memory and segments have been found to be kept.
    pub(super) fn land(&mut self, memory: MemoryId, segments: &[Segment]) {
        assert!(
            self.may_land,
            "it is said where a payload lands before its header was told"
        );
        let (wanted, mut before) = (self.left, 0);
        for segment in segments {
            if before >= wanted {
                break;
            }
            let place = segment.first(segment.bytes().min(wanted - before));
            before += place.bytes();
            assert!(
                self.segments.len() < SEGMENTS_PER_SLOT,
                "a payload lands in more than {SEGMENTS_PER_SLOT} segments"
            );
            self.segments.push(place);
        }
        assert!(
            before >= wanted,
            "a payload of {wanted} bytes is to land in {before}"
        );
        self.memory = memory;
    }

    /// See [`FrameLinks::divert`](palisade_forward::FrameLinks::divert).
    pub(super) fn divert(&mut self) {
        self.segments.clear();
        self.landed = Ok(());
    }

    /// The next thing in the buffer.
    #[inline]
    pub(super) fn next(&mut self, link: LinkPlace, memory: &mut MemoryTable) -> Found {
        self.may_land = false;
        loop {
            let Some(header) = self.frame else {
                if !self.fill_head() {
                    return self.dry(link);
                }
                match FrameHeader::decode(&self.head) {
                    Err(error) => return Found::End(LinkEnd::NoFrame(error)),
                    Ok(header) => self.begin_frame(header),
                }
                if let Some(header) = self.frame.filter(|header| !is_greeting(header.kind)) {
                    self.may_land = true;
                    return Found::Event(LinkEvent::Header { link, header });
                }
                continue;
            };
            self.take_payload(&header, memory);
            return match self.left {
                0 => self.end_frame(link, header),
                _ => self.dry(link),
            };
        }
    }

    /// Whether a whole header is there.
    #[inline]
    fn fill_head(&mut self) -> bool {
        let bytes = (self.to - self.from).min(FRAME_HEADER_BYTES - self.head_bytes);
        let (from, filled) = (self.from, self.head_bytes);
        let staged = staged(&self.staging, from, bytes, self.is_outstanding);
        if let Some(place) = self.head.get_mut(filled..filled + bytes) {
            place.copy_from_slice(staged);
        }
        self.from += bytes;
        self.head_bytes += bytes;
        self.head_bytes == FRAME_HEADER_BYTES
    }

    #[inline]
    fn begin_frame(&mut self, header: FrameHeader) {
        self.frame = Some(header);
        self.left = header.payload_bytes as usize;
        self.head_bytes = 0;
        self.checksum.restart();
        self.segments.clear();
        (self.at, self.landed) = ((0, 0), Ok(()));
    }

    /// Takes what is there of a payload.
    #[inline]
    fn take_payload(&mut self, header: &FrameHeader, memory: &mut MemoryTable) {
        let bytes = (self.to - self.from).min(self.left);
        if bytes == 0 {
            return;
        }
        let before = header.payload_bytes as usize - self.left;
        let staged = staged(&self.staging, self.from, bytes, self.is_outstanding);
        if header.payload_crc.is_some() {
            self.checksum.add(staged);
        }
        if is_greeting(header.kind) {
            if let Some(place) = self.greeting.get_mut(before..before + bytes) {
                place.copy_from_slice(staged);
            }
        } else if !self.segments.is_empty() {
            let start = staged.as_ptr();
            self.put(start, bytes, memory);
        }
        self.from += bytes;
        self.left -= bytes;
    }

    /// Copies bytes of the buffer to where the payload lands.
    #[inline]
    fn put(&mut self, start: *const u8, bytes: usize, memory: &mut MemoryTable) {
        let mut done = 0;
        while done < bytes
            && let Some(&segment) = self.segments.get(self.at.0)
        {
            let piece = (segment.bytes() - self.at.1).min(bytes - done);
            let place = segment.part(self.at.1, piece).unwrap_or(Segment::EMPTY);
            if !memory.has_pages_of(self.memory, &[place], Access::Write) {
                // It is the guest's doing: the rest goes nowhere, and the connection on.
                self.segments.clear();
                self.landed = Err(Fault::GuestMemory);
                return;
            }
            // SAFETY: the place lies in memory that is kept, which was found when `land` was called, and is not let go of while
            // something lands in it. So many bytes of the buffer follow `start` from `done` on, and nobody has a lease of it.
            unsafe { copy::scatter(start.add(done), &[place], 0, piece) };
            done += piece;
            self.at.1 += piece;
            if self.at.1 == segment.bytes() {
                self.at = (self.at.0 + 1, 0);
            }
        }
    }

    /// A frame has come whole.
    #[inline]
    fn end_frame(&mut self, link: LinkPlace, header: FrameHeader) -> Found {
        (self.frame, self.has_heard) = (None, false);
        self.segments.clear();
        let computed = self.checksum.value();
        if let Some(stored) = header.payload_crc
            && stored != computed
        {
            return Found::End(LinkEnd::BadPayload {
                bytes: header.payload_bytes,
                stored,
                computed,
            });
        }
        Found::Event(match is_greeting(header.kind) {
            true => LinkEvent::Greeting {
                link,
                header,
                body: self.greeting,
            },
            false => LinkEvent::Arrived {
                link,
                header,
                landed: self.landed,
            },
        })
    }

    fn dry(&mut self, link: LinkPlace) -> Found {
        match std::mem::take(&mut self.has_heard) {
            true => Found::Event(LinkEvent::Heard { link }),
            false => Found::Dry,
        }
    }

    /// The first bytes of the buffer, to be filled by us.
    fn staging(&mut self, bytes: usize) -> Option<&mut [u8]> {
        // SAFETY: it is ours alone while nothing is outstanding, which `begin` has made sure of, and the only reference to it.
        let all = unsafe { &mut *self.staging.pointer() };
        all.get_mut(..bytes)
    }
}

/// Bytes of a buffer.
#[inline]
fn staged(staging: &Lent<[u8]>, from: usize, bytes: usize, is_outstanding: bool) -> &[u8] {
    assert!(!is_outstanding, "a buffer is read while the kernel has it");
    // SAFETY: nothing is outstanding, so that nobody writes to it as long as this is borrowed.
    let all = unsafe { &*staging.pointer() };
    all.get(from..from + bytes).unwrap_or_default()
}

/// Whether a frame is told whole, and not its header first.
#[inline]
fn is_greeting(kind: FrameKind) -> bool {
    matches!(kind, FrameKind::Hello | FrameKind::Welcome | FrameKind::Refused)
}

const _: () = assert!(palisade_wire::REFUSAL_BYTES <= HELLO_BYTES);
