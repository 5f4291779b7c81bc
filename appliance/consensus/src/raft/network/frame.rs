//! Frames between voters: a header of a fixed length, and a body.
//!
//! ```text
//!   offset  bytes
//!        0      4  magic "PVOT"
//!        4      1  version, 1
//!        5      1  kind: 1 question, 2 answer, 3 part of a state
//!        6      2  nothing: 0
//!        8      4  number: an answer has that of its question
//!       12      4  length of the body in bytes, at most 32 MiB
//!       16      4  CRC-32C of the bytes before
//!       20         the body: CRC-32C of the rest, then the rest: JSON, or, of a part, its offset (8) and what is there
//! ```
//!
//! All numbers are little-endian. The header is checked before room is made for a body.

use crate::record::crc32c;

/// Length of a header in bytes.
pub const VOTER_HEADER_BYTES: usize = 20;

/// Longest body, in bytes: what one append carries is cut before.
pub const VOTER_BODY_BYTES_MAX: usize = 32 << 20;

/// Longest piece of a state in one frame, in bytes.
pub const PART_BYTES_MAX: usize = 256 << 10;

const FRAME_MAGIC: [u8; 4] = *b"PVOT";
const FRAME_VERSION: u8 = 1;

/// The check sum before, and the offset of, a part.
const PART_HEAD_BYTES: usize = 12;

const _: () = assert!(PART_BYTES_MAX + PART_HEAD_BYTES <= VOTER_BODY_BYTES_MAX);

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoterFrameKind {
    /// Somebody wants an answer.
    Question,
    /// Here it is.
    Answer,
    /// A piece of a state that was announced.
    Part,
}

/// The header of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VoterFrame {
    /// What it is.
    pub kind: VoterFrameKind,
    /// An answer has that of its question, and a part that of the question it belongs to.
    pub number: u32,
    /// Length of what follows, in bytes.
    pub body_bytes: usize,
}

/// Why bytes are no frame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VoterFrameError {
    /// It begins otherwise.
    #[error("what came is no frame of a voter: something else speaks on this connection")]
    Magic,
    /// Its version is not known here.
    #[error(
        "a frame is of version {found}, and this program knows version {FRAME_VERSION}: versions further apart than one do not \
             work together; bring this node and its peer to the same version"
    )]
    Version {
        /// Which.
        found: u8,
    },
    /// It was damaged on its way.
    #[error("the checksum of a frame's {part} is wrong: it was damaged on its way")]
    Checksum {
        /// Of which part: "header" or "body".
        part: &'static str,
    },
    /// Its kind is not known here.
    #[error("a frame is of kind {found}, which this program does not know")]
    Kind {
        /// Which.
        found: u8,
    },
    /// What is to be nothing says something.
    #[error("a frame says something where this version says nothing")]
    Reserved,
    /// Its body is longer than any may be.
    #[error("a frame has a body of {found} bytes, and {VOTER_BODY_BYTES_MAX} are the most")]
    TooLong {
        /// How long.
        found: usize,
    },
    /// Its body does not say what it should.
    #[error("the body of a frame cannot be read: {why}")]
    Body {
        /// Why.
        why: String,
    },
}

impl VoterFrame {
    /// A header as bytes.
    pub fn to_bytes(self) -> [u8; VOTER_HEADER_BYTES] {
        let kind = match self.kind {
            VoterFrameKind::Question => 1,
            VoterFrameKind::Answer => 2,
            VoterFrameKind::Part => 3,
        };
        let mut bytes = [0; VOTER_HEADER_BYTES];
        let length = u32::try_from(self.body_bytes).unwrap_or(u32::MAX);
        let parts: [(usize, &[u8]); 5] = [
            (0, &FRAME_MAGIC),
            (4, &[FRAME_VERSION]),
            (5, &[kind]),
            (8, &self.number.to_le_bytes()),
            (12, &length.to_le_bytes()),
        ];
        for (at, part) in parts {
            put(&mut bytes, at, part);
        }
        let sum = crc32c(bytes.split_at(16).0);
        put(&mut bytes, 16, &sum.to_le_bytes());
        bytes
    }

    /// A header from bytes.
    ///
    /// # Errors
    /// They are none; of a damaged one only that is said.
    pub fn from_bytes(bytes: &[u8; VOTER_HEADER_BYTES]) -> Result<VoterFrame, VoterFrameError> {
        let [m0, m1, m2, m3, version, kind, r0, r1, rest @ ..] = *bytes;
        if [m0, m1, m2, m3] != FRAME_MAGIC {
            return Err(VoterFrameError::Magic);
        }
        let [n0, n1, n2, n3, l0, l1, l2, l3, s0, s1, s2, s3] = rest;
        // Whatever a later version says, its check sum covers the same.
        if crc32c(bytes.split_at(16).0) != u32::from_le_bytes([s0, s1, s2, s3]) {
            return Err(VoterFrameError::Checksum { part: "header" });
        }
        if version != FRAME_VERSION {
            return Err(VoterFrameError::Version { found: version });
        }
        let kind = match kind {
            1 => VoterFrameKind::Question,
            2 => VoterFrameKind::Answer,
            3 => VoterFrameKind::Part,
            found => return Err(VoterFrameError::Kind { found }),
        };
        if [r0, r1] != [0, 0] {
            return Err(VoterFrameError::Reserved);
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let body_bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if body_bytes > VOTER_BODY_BYTES_MAX {
            return Err(VoterFrameError::TooLong { found: body_bytes });
        }
        Ok(VoterFrame {
            kind,
            number: u32::from_le_bytes([n0, n1, n2, n3]),
            body_bytes,
        })
    }
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(part) {
        *byte = *new;
    }
}

/// The body of a part: where in the state it stands, and what is there.
pub fn encode_part(offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(offset.to_le_bytes());
    body.extend(bytes);
    let sum = crc32c(body.split_at(4).1);
    put(&mut body, 0, &sum.to_le_bytes());
    body
}

/// The part in a body: its offset in bytes, and what is there.
///
/// # Errors
/// It is damaged or too short.
pub fn decode_part(body: &[u8]) -> Result<(u64, &[u8]), VoterFrameError> {
    let damaged = VoterFrameError::Checksum { part: "body" };
    let (sum, rest) = body.split_first_chunk::<4>().ok_or_else(|| damaged.clone())?;
    if crc32c(rest) != u32::from_le_bytes(*sum) {
        return Err(damaged);
    }
    let (offset, bytes) = rest
        .split_first_chunk::<8>()
        .ok_or_else(|| VoterFrameError::Body {
            why: "a part has no offset".into(),
        })?;
    Ok((u64::from_le_bytes(*offset), bytes))
}
