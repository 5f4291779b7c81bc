//! The header of a frame: what nodes send each other over the links of a data port.
//!
//! ```text
//!   0  magic u16          2  version u8       3  kind u8            4  CRC-32C of the header, this field zero
//!   8  payload bytes u24 11  attempt u8       12  CRC-32C of the payload u32
//!  16  sequence u64      24  epoch u64
//!  32  round u32         36  stream u16      38  behind u16
//!  40  client u8         41  flags u8        42  the client's own words, 22 bytes               64
//! ```
//!
//! Little-endian. The first 42 bytes are the port's, and all that it understands; the words belong to who uses the port
//! ([`FrameHeader::client`]), and so does the payload of a message and of an answer (specification items 000-27, 003-18).

use crate::sector::crc32c;
use palisade_words::{Epoch, StreamIndex};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute};

/// Bytes of a header.
pub const FRAME_HEADER_BYTES: usize = 64;

/// The version that this program speaks. Two programs one version apart speak the older one's; there is only the first
/// as yet.
pub const FRAME_VERSION: u8 = 1;

/// Bytes of the longest payload: a request is cut into such pieces anyway, and a control frame that has to wait for one
/// to pass waits less than a millisecond at 10 Gbit/s.
pub const FRAME_PAYLOAD_BYTES_MAX: u32 = 1 << 20;

/// Bytes of a header that are the client's own.
pub const CLIENT_WORDS_BYTES: usize = 22;

/// The first two bytes of each frame, "Pf".
const FRAME_MAGIC: u16 = u16::from_le_bytes(*b"Pf");

/// Of the word that has the length of the payload and, above it, the attempt.
const PAYLOAD_BYTES_BITS: u32 = (1 << 24) - 1;
const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX <= PAYLOAD_BYTES_BITS);

/// The payload has no checksum: both ends agreed to leave it out.
const FLAG_UNCHECKED: u8 = 1 << 0;
/// There is nothing in the message any more: see [`FrameHeader::is_void`].
const FLAG_VOID: u8 = 1 << 1;
/// The sender waits for [`FrameKind::Accepted`].
const FLAG_ASKS_ACCEPTED: u8 = 1 << 2;
const FLAGS: u8 = FLAG_UNCHECKED | FLAG_VOID | FLAG_ASKS_ACCEPTED;

/// What a frame is for. The numbers are on the wire and never change their meaning.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// The first frame of a link, by who has made it. The payload is a [`Hello`](crate::Hello).
    Hello = 1,
    /// The answer to it: the other end's own.
    Welcome = 2,
    /// The answer to it: no. The payload is a [`LinkRefusal`](crate::LinkRefusal).
    Refused = 3,
    /// A message of a client, to be answered.
    Message = 4,
    /// A message was given to its client whole and in its order; its answer comes later (003-22).
    Accepted = 5,
    /// What the client at the other end has to say to a message (003-21).
    Answer = 6,
    /// Everything of the rounds before the one named is over (003-28).
    Reset = 7,
    /// The same is so here, and nothing of them is being worked on any more.
    ResetDone = 8,
    /// Is there anybody? It names the round in force at the sender, 0 when there is none.
    Probe = 9,
    /// There is. It names the round as the question does.
    ProbeAnswer = 10,
    /// The sender closes the session in good order: it asks for nothing more and has answered everything (003-10). It is the last
    /// frame of each link: what waited there comes before it.
    Close = 11,
}

impl FrameKind {
    /// All of them.
    pub const ALL: [FrameKind; 11] = [
        FrameKind::Hello,
        FrameKind::Welcome,
        FrameKind::Refused,
        FrameKind::Message,
        FrameKind::Accepted,
        FrameKind::Answer,
        FrameKind::Reset,
        FrameKind::ResetDone,
        FrameKind::Probe,
        FrameKind::ProbeAnswer,
        FrameKind::Close,
    ];

    fn of(number: u8) -> Option<FrameKind> {
        FrameKind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether it belongs to a message of a stream: such frames count only in their round.
    pub fn is_of_a_stream(self) -> bool {
        matches!(self, FrameKind::Message | FrameKind::Accepted | FrameKind::Answer)
    }

    /// Whether a frame of this kind may have so many bytes of payload.
    fn allows(self, bytes: u32) -> bool {
        match self {
            FrameKind::Message | FrameKind::Answer => bytes <= FRAME_PAYLOAD_BYTES_MAX,
            FrameKind::Hello | FrameKind::Welcome => bytes == crate::hello::HELLO_BYTES as u32,
            FrameKind::Refused => bytes == crate::hello::REFUSAL_BYTES as u32,
            _ => bytes == 0,
        }
    }
}

/// One header, its fields as values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// What the frame is for.
    pub kind: FrameKind,
    /// The user of the port whose message it is: several share one.
    pub client: u8,
    /// The stream that the message is of.
    pub stream: StreamIndex,
    /// How often the session was reset before this: what is of an earlier round counts for nothing.
    pub round: u32,
    /// The message's number on its stream and in this round, from 0. In an answer it is that of the message answered.
    pub sequence: u64,
    /// In a message: so many numbers before it is the first one whose answer its sender still waits for. The other end
    /// need remember nothing of those before.
    pub behind: u16,
    /// The membership under which the frame was made.
    pub epoch: Epoch,
    /// In a message: how often it was sent before this, modulo 256. It is answered by the link that brought the latest one.
    pub attempt: u8,
    /// Length of the payload in bytes.
    pub payload_bytes: u32,
    /// CRC-32C of the payload; `None` where both ends agreed to do without.
    pub payload_crc: Option<u32>,
    /// The message was lost with a link after its sender had been told that it is sent (003-23), and its data with it.
    /// This fills its place in the order.
    pub is_void: bool,
    /// The sender of a message wants to know as soon as it is with its client (003-22).
    pub asks_accepted: bool,
    /// What the client has to say of it.
    pub words: [u8; CLIENT_WORDS_BYTES],
}

/// Why bytes are no header. None of these says where the next frame begins: the link has to be made anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// No magic.
    #[error("does not begin as a frame of Palisade does")]
    NotOurs,
    /// The content does not fit the checksum.
    #[error("has checksum {stored:08x} where its content gives {computed:08x}")]
    BadChecksum {
        /// As it came.
        stored: u32,
        /// As it should be.
        computed: u32,
    },
    /// Sound, and of another version.
    #[error("is of version {found}; this program speaks version {FRAME_VERSION}")]
    WrongVersion {
        /// Its number.
        found: u8,
    },
    /// Sound, and of a kind that is not known.
    #[error("is of kind {found}, which this program does not know")]
    UnknownKind {
        /// Its number.
        found: u8,
    },
    /// Sound by its checksum, yet a field has a value that no sender gives it.
    #[error("has an impossible value in `{field}`")]
    Malformed {
        /// Which field.
        field: &'static str,
    },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHeader {
    magic: U16,
    version: u8,
    kind: u8,
    crc: U32,
    payload_bytes: U32,
    payload_crc: U32,
    sequence: U64,
    epoch: U64,
    round: U32,
    stream: U16,
    behind: U16,
    client: u8,
    flags: u8,
    words: [u8; CLIENT_WORDS_BYTES],
}

const _: () = assert!(size_of::<RawHeader>() == FRAME_HEADER_BYTES);
const _: () = assert!(std::mem::offset_of!(RawHeader, sequence) == 16);
const _: () = assert!(std::mem::offset_of!(RawHeader, words) == 42);

impl FrameHeader {
    /// A frame that says nothing but what it is.
    pub fn of(kind: FrameKind) -> FrameHeader {
        FrameHeader {
            kind,
            client: 0,
            stream: StreamIndex(0),
            round: 0,
            sequence: 0,
            behind: 0,
            epoch: Epoch(0),
            attempt: 0,
            payload_bytes: 0,
            payload_crc: None,
            is_void: false,
            asks_accepted: false,
            words: [0; CLIENT_WORDS_BYTES],
        }
    }

    /// The bytes to send ahead of the payload.
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let unchecked = if self.payload_crc.is_none() {
            FLAG_UNCHECKED
        } else {
            0
        };
        let void = if self.is_void { FLAG_VOID } else { 0 };
        let asks_accepted = if self.asks_accepted { FLAG_ASKS_ACCEPTED } else { 0 };
        let mut raw = RawHeader {
            magic: U16::new(FRAME_MAGIC),
            version: FRAME_VERSION,
            kind: self.kind as u8,
            crc: U32::ZERO,
            payload_bytes: U32::new(self.payload_bytes & PAYLOAD_BYTES_BITS | u32::from(self.attempt) << 24),
            payload_crc: U32::new(self.payload_crc.unwrap_or(0)),
            sequence: U64::new(self.sequence),
            epoch: U64::new(self.epoch.0),
            round: U32::new(self.round),
            stream: U16::new(self.stream.0),
            behind: U16::new(self.behind),
            client: self.client,
            flags: unchecked | void | asks_accepted,
            words: self.words,
        };
        raw.crc = U32::new(crc32c(raw.as_bytes()));
        transmute!(raw)
    }

    /// Reads a header.
    ///
    /// # Errors
    /// The bytes are none, or one that no sender of this version makes.
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<FrameHeader, FrameError> {
        let mut raw: RawHeader = transmute!(*bytes);
        if raw.magic.get() != FRAME_MAGIC {
            return Err(FrameError::NotOurs);
        }
        let stored = raw.crc.get();
        raw.crc = U32::ZERO;
        let computed = crc32c(raw.as_bytes());
        if stored != computed {
            return Err(FrameError::BadChecksum { stored, computed });
        }
        if raw.version != FRAME_VERSION {
            return Err(FrameError::WrongVersion { found: raw.version });
        }
        let kind = FrameKind::of(raw.kind).ok_or(FrameError::UnknownKind { found: raw.kind })?;
        let malformed = |field| Err(FrameError::Malformed { field });
        let payload_bytes = raw.payload_bytes.get() & PAYLOAD_BYTES_BITS;
        let is_void = raw.flags & FLAG_VOID != 0;
        let asks_accepted = raw.flags & FLAG_ASKS_ACCEPTED != 0;
        let is_unchecked = raw.flags & FLAG_UNCHECKED != 0;
        let of_a_message = is_void || asks_accepted;
        if raw.flags & !FLAGS != 0
            || of_a_message && kind != FrameKind::Message
            || is_void && payload_bytes != 0
        {
            return malformed("flags");
        }
        if !kind.allows(payload_bytes) {
            return malformed("payload bytes");
        }
        if is_unchecked && raw.payload_crc.get() != 0 {
            return malformed("payload checksum");
        }
        if u64::from(raw.behind.get()) > raw.sequence.get() {
            return malformed("behind");
        }
        Ok(FrameHeader {
            kind,
            client: raw.client,
            stream: StreamIndex(raw.stream.get()),
            round: raw.round.get(),
            sequence: raw.sequence.get(),
            behind: raw.behind.get(),
            epoch: Epoch(raw.epoch.get()),
            attempt: (raw.payload_bytes.get() >> 24) as u8,
            payload_bytes,
            payload_crc: (!is_unchecked).then_some(raw.payload_crc.get()),
            is_void,
            asks_accepted,
            words: raw.words,
        })
    }
}

/// CRC-32C of a payload that lies in pieces, as a header has it.
pub fn payload_checksum<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for piece in pieces {
        digest.update(piece);
    }
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> FrameHeader {
        FrameHeader {
            asks_accepted: true,
            client: 3,
            stream: StreamIndex(0x0405),
            round: 6,
            sequence: 0x0102_0304_0506_0708,
            behind: 9,
            epoch: Epoch(10),
            attempt: 11,
            payload_bytes: 4096,
            payload_crc: Some(0x1234_5678),
            words: *b"what the client has to",
            ..FrameHeader::of(FrameKind::Message)
        }
    }

    /// A header with some bytes changed and a checksum that fits.
    fn forged(change: impl FnOnce(&mut RawHeader)) -> Result<FrameHeader, FrameError> {
        let mut raw: RawHeader = transmute!(header().encode());
        change(&mut raw);
        raw.crc = U32::ZERO;
        raw.crc = U32::new(crc32c(raw.as_bytes()));
        FrameHeader::decode(&transmute!(raw))
    }

    #[test]
    fn every_turned_bit_is_noticed() {
        let sound = header().encode();
        assert_eq!(FrameHeader::decode(&sound), Ok(header()));
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut turned = sound;
            turned[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::decode(&turned).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn each_kind_of_wrongness_has_its_name() {
        let malformed = |field| Err(FrameError::Malformed { field });
        assert_eq!(
            FrameHeader::decode(&[0; FRAME_HEADER_BYTES]),
            Err(FrameError::NotOurs)
        );
        assert_eq!(
            forged(|raw| raw.version = 2),
            Err(FrameError::WrongVersion { found: 2 })
        );
        for kind in [0, FrameKind::ALL.len() as u8 + 1, u8::MAX] {
            assert_eq!(
                forged(|raw| raw.kind = kind),
                Err(FrameError::UnknownKind { found: kind })
            );
        }
        assert_eq!(forged(|raw| raw.flags = 8), malformed("flags"));
        assert_eq!(
            forged(|raw| raw.flags = FLAG_VOID),
            malformed("flags"),
            "a void message has no payload"
        );
        let void_answer = |raw: &mut RawHeader| {
            (raw.kind, raw.flags, raw.payload_bytes) = (FrameKind::Answer as u8, FLAG_VOID, U32::ZERO);
        };
        assert_eq!(forged(void_answer), malformed("flags"));
        assert_eq!(
            forged(|raw| raw.flags = FLAG_UNCHECKED),
            malformed("payload checksum")
        );
        assert_eq!(forged(|raw| raw.sequence = U64::new(8)), malformed("behind"));
        let longer = FRAME_PAYLOAD_BYTES_MAX + 1;
        assert_eq!(
            forged(|raw| raw.payload_bytes = U32::new(longer)),
            malformed("payload bytes")
        );
        for kind in FrameKind::ALL {
            let with_4k = forged(|raw| (raw.kind, raw.flags) = (kind as u8, 0));
            match kind {
                FrameKind::Message | FrameKind::Answer => {
                    assert_eq!(with_4k.map(|header| header.kind), Ok(kind))
                }
                _ => assert_eq!(with_4k, malformed("payload bytes"), "{kind:?}"),
            }
        }
    }

    #[test]
    fn what_is_just_possible_is_read() {
        let first = forged(|raw| (raw.sequence, raw.behind) = (U64::new(9), U16::new(9)));
        assert_eq!(
            first.map(|header| header.behind),
            Ok(9),
            "the oldest is the stream's first"
        );
        let longest = forged(|raw| raw.payload_bytes = U32::new(FRAME_PAYLOAD_BYTES_MAX));
        assert_eq!(
            longest.map(|header| header.payload_bytes),
            Ok(FRAME_PAYLOAD_BYTES_MAX)
        );
    }

    #[test]
    fn messages_and_what_answers_them_are_of_a_stream() {
        let all = FrameKind::ALL.into_iter().filter(|kind| kind.is_of_a_stream());
        assert_eq!(
            all.collect::<Vec<_>>(),
            [FrameKind::Message, FrameKind::Accepted, FrameKind::Answer]
        );
    }

    #[test]
    fn a_payload_in_pieces_has_the_checksum_of_the_whole() {
        let whole: Vec<u8> = (0..=255).cycle().take(5000).collect();
        assert_eq!(payload_checksum([whole.as_slice()]), crc32c(&whole));
        assert_eq!(payload_checksum(whole.chunks(77)), crc32c(&whole));
        assert_eq!(payload_checksum([]), crc32c(&[]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (kind, client, stream, round) in (0..FrameKind::ALL.len(), any::<u8>(), any::<u16>(), any::<u32>()),
            (sequence, behind, epoch, attempt) in (any::<u64>(), any::<u16>(), any::<u64>(), any::<u8>()),
            (bytes, crc, is_void, asks_accepted) in
                (0..=FRAME_PAYLOAD_BYTES_MAX, any::<Option<u32>>(), any::<bool>(), any::<bool>()),
            words in any::<[u8; CLIENT_WORDS_BYTES]>(),
        ) {
            let kind = FrameKind::ALL[kind];
            let is_void = is_void && kind == FrameKind::Message;
            let asks_accepted = asks_accepted && kind == FrameKind::Message;
            let payload_bytes = match kind {
                FrameKind::Message | FrameKind::Answer if !is_void => bytes,
                FrameKind::Hello | FrameKind::Welcome => crate::hello::HELLO_BYTES as u32,
                FrameKind::Refused => crate::hello::REFUSAL_BYTES as u32,
                _ => 0,
            };
            let header = FrameHeader {
                client, stream: StreamIndex(stream), round, sequence, epoch: Epoch(epoch), attempt, payload_bytes, is_void, asks_accepted, words,
                payload_crc: crc,
                behind: behind.min(sequence.min(u64::from(u16::MAX)) as u16),
                ..FrameHeader::of(kind)
            };
            prop_assert_eq!(FrameHeader::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn no_bytes_lead_to_a_panic(bytes in any::<[u8; FRAME_HEADER_BYTES]>(), is_sealed in any::<bool>()) {
            let mut raw: RawHeader = transmute!(bytes);
            if is_sealed {
                (raw.magic, raw.version, raw.crc) = (U16::new(FRAME_MAGIC), FRAME_VERSION, U32::ZERO);
                raw.crc = U32::new(crc32c(raw.as_bytes()));
            }
            let bytes: [u8; FRAME_HEADER_BYTES] = transmute!(raw);
            if let Ok(header) = FrameHeader::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes, "one header has one form");
            }
        }
    }
}
