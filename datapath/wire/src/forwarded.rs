//! What a block request says when it goes to another node, and what is answered: the client's own words of a frame
//! ([`FrameHeader::words`](crate::FrameHeader::words)). The data of a write is the payload of its message, that of a read the
//! payload of its answer.
//!
//! ```text
//! asked      0  operation u8, unmap 0x80    1  volume u64    9  generation u32   13  first sector u48   19  sectors u24
//! answered   0  result u8                   1 ... 21 zero
//! ```
//!
//! Little-endian. Sectors are those of the volume, not of a disk: where they lie is looked up anew by the node asked, in the
//! mapping that it knows itself. The volume is named by [`VolumeKey`], the mapping by the low half of its generation; who asks
//! under another mapping than the one in force is answered [`ForwardedResult::Stale`] or kept waiting, and never served by it.

use crate::frame::CLIENT_WORDS_BYTES;
use palisade_words::{Generation, Lba, Sectors, Uuid};
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute};

/// The client of a data port that block requests go by ([`FrameHeader::client`](crate::FrameHeader::client)).
pub const BLOCK_CLIENT: u8 = 1;

/// The first sector that a request cannot say any more.
pub const FORWARDED_LBA_END: u64 = 1 << 48;

/// Sectors of the longest request: a third byte has no more.
pub const FORWARDED_SECTORS_MAX: u64 = (1 << 24) - 1;

const UNMAP: u8 = 0x80;

/// A volume by half of its permanent id: both halves of it, one laid over the other. Two volumes of one cluster with the same
/// key cannot be told apart here, so that neither is served to other nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VolumeKey(pub u64);

impl VolumeKey {
    /// Of a permanent id.
    pub fn of(volume: Uuid) -> VolumeKey {
        VolumeKey((volume.0 >> 64) as u64 ^ volume.0 as u64)
    }
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ForwardedOp {
    /// Volume to answer.
    Read,
    /// Message to volume.
    Write,
    /// All that was answered before is on stable storage when this is answered.
    Flush,
    /// The range's content is no longer wanted.
    Discard,
    /// The range reads as zeroes afterwards.
    WriteZeroes {
        /// The range may be deallocated.
        unmap: bool,
    },
}

impl ForwardedOp {
    /// The numbers are on the wire and never change their meaning.
    fn number(self) -> u8 {
        match self {
            ForwardedOp::Read => 1,
            ForwardedOp::Write => 2,
            ForwardedOp::Flush => 3,
            ForwardedOp::Discard => 4,
            ForwardedOp::WriteZeroes { unmap: false } => 5,
            ForwardedOp::WriteZeroes { unmap: true } => 5 | UNMAP,
        }
    }

    fn of(number: u8) -> Option<ForwardedOp> {
        Some(match number {
            1 => ForwardedOp::Read,
            2 => ForwardedOp::Write,
            3 => ForwardedOp::Flush,
            4 => ForwardedOp::Discard,
            5 => ForwardedOp::WriteZeroes { unmap: false },
            0x85 => ForwardedOp::WriteZeroes { unmap: true },
            _ => return None,
        })
    }
}

/// A block request on its way to another node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForwardedRequest {
    /// What to do.
    pub op: ForwardedOp,
    /// Of which volume.
    pub volume: VolumeKey,
    /// By which of its mappings, the low half of its generation.
    pub generation: u32,
    /// First sector on the volume, below [`FORWARDED_LBA_END`].
    pub lba: Lba,
    /// Length, [`FORWARDED_SECTORS_MAX`] at most; zero for a flush and for nothing else.
    pub sectors: Sectors,
}

/// Why words are no request. No program of ours sends such.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("has an impossible value in `{field}`")]
pub struct ForwardedError {
    /// Which field.
    pub field: &'static str,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawRequest {
    op: u8,
    volume: U64,
    generation: U32,
    lba: [u8; 6],
    sectors: [u8; 3],
}

const _: () = assert!(size_of::<RawRequest>() == CLIENT_WORDS_BYTES);

/// The half of a generation that a request names its mapping by.
pub fn generation_half(generation: Generation) -> u32 {
    generation.0 as u32
}

impl ForwardedRequest {
    /// As the words of a message.
    ///
    /// # Errors
    /// A number does not fit: a volume that large cannot be served to other nodes, and a request that long has to be cut.
    pub fn encode(&self) -> Result<[u8; CLIENT_WORDS_BYTES], ForwardedError> {
        self.check()?;
        let [a, b, c, d, e, f, _, _] = self.lba.0.to_le_bytes();
        let [x, y, z, ..] = self.sectors.0.to_le_bytes();
        Ok(transmute!(RawRequest {
            op: self.op.number(),
            volume: U64::new(self.volume.0),
            generation: U32::new(self.generation),
            lba: [a, b, c, d, e, f],
            sectors: [x, y, z],
        }))
    }

    /// Reads the words of a message.
    ///
    /// # Errors
    /// They are none that a program of ours sends.
    pub fn decode(words: &[u8; CLIENT_WORDS_BYTES]) -> Result<ForwardedRequest, ForwardedError> {
        let raw: RawRequest = transmute!(*words);
        let [a, b, c, d, e, f] = raw.lba;
        let [x, y, z] = raw.sectors;
        let request = ForwardedRequest {
            op: ForwardedOp::of(raw.op).ok_or(ForwardedError { field: "operation" })?,
            volume: VolumeKey(raw.volume.get()),
            generation: raw.generation.get(),
            lba: Lba(u64::from_le_bytes([a, b, c, d, e, f, 0, 0])),
            sectors: Sectors(u64::from_le_bytes([x, y, z, 0, 0, 0, 0, 0])),
        };
        request.check()?;
        Ok(request)
    }

    /// Bytes of data that go one way or the other.
    pub fn data_bytes(&self) -> u64 {
        match self.op {
            ForwardedOp::Read | ForwardedOp::Write => self.sectors.bytes(),
            ForwardedOp::Flush | ForwardedOp::Discard | ForwardedOp::WriteZeroes { .. } => 0,
        }
    }

    fn check(&self) -> Result<(), ForwardedError> {
        let is_flush = self.op == ForwardedOp::Flush;
        if self.sectors.0 > FORWARDED_SECTORS_MAX || is_flush != (self.sectors == Sectors::ZERO) {
            return Err(ForwardedError { field: "sectors" });
        }
        match self.lba.checked_add(self.sectors) {
            Some(end) if end.0 <= FORWARDED_LBA_END => Ok(()),
            _ => Err(ForwardedError {
                field: "first sector",
            }),
        }
    }
}

/// What a node answers to a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ForwardedResult {
    /// It is done, and a change is on stable storage.
    Done,
    /// The mapping named is not the one in force there. Nothing was done.
    Stale,
    /// The node does not serve the volume, or not to whoever asks. Nothing was done.
    NotServed,
    /// Who asks may not change the volume. Nothing was done.
    ReadOnly,
    /// The medium failed.
    Media,
    /// No space left.
    NoSpace,
    /// The device has vanished.
    Gone,
    /// The device has refused the node.
    Fenced,
    /// The operation is not offered.
    Unsupported,
    /// It was taken back at its deadline, and nothing of it has been done nor will be.
    TimedOut,
    /// The node's own way to the device is broken.
    Unreachable,
    /// It lies behind the end of the device.
    BeyondEnd,
    /// The file may not become that large.
    TooLarge,
    /// The node has no memory for it.
    NoMemory,
    /// The node's kernel forbids it.
    Denied,
    /// The node took it for malformed.
    Rejected,
}

impl ForwardedResult {
    /// All of them.
    pub const ALL: [ForwardedResult; 16] = [
        ForwardedResult::Done,
        ForwardedResult::Stale,
        ForwardedResult::NotServed,
        ForwardedResult::ReadOnly,
        ForwardedResult::Media,
        ForwardedResult::NoSpace,
        ForwardedResult::Gone,
        ForwardedResult::Fenced,
        ForwardedResult::Unsupported,
        ForwardedResult::TimedOut,
        ForwardedResult::Unreachable,
        ForwardedResult::BeyondEnd,
        ForwardedResult::TooLarge,
        ForwardedResult::NoMemory,
        ForwardedResult::Denied,
        ForwardedResult::Rejected,
    ];

    /// The numbers are on the wire and never change their meaning.
    fn number(self) -> u8 {
        match self {
            ForwardedResult::Done => 0,
            ForwardedResult::Stale => 1,
            ForwardedResult::NotServed => 2,
            ForwardedResult::ReadOnly => 3,
            ForwardedResult::Media => 16,
            ForwardedResult::NoSpace => 17,
            ForwardedResult::Gone => 18,
            ForwardedResult::Fenced => 19,
            ForwardedResult::Unsupported => 20,
            ForwardedResult::TimedOut => 21,
            ForwardedResult::Unreachable => 22,
            ForwardedResult::BeyondEnd => 23,
            ForwardedResult::TooLarge => 24,
            ForwardedResult::NoMemory => 25,
            ForwardedResult::Denied => 26,
            ForwardedResult::Rejected => 27,
        }
    }

    /// As the words of an answer.
    pub fn encode(self) -> [u8; CLIENT_WORDS_BYTES] {
        let mut words = [0; CLIENT_WORDS_BYTES];
        if let Some(first) = words.first_mut() {
            *first = self.number();
        }
        words
    }

    /// Reads the words of an answer.
    ///
    /// # Errors
    /// They are none that a program of ours sends.
    pub fn decode(words: &[u8; CLIENT_WORDS_BYTES]) -> Result<ForwardedResult, ForwardedError> {
        let [number, rest @ ..] = words;
        let known = ForwardedResult::ALL
            .into_iter()
            .find(|result| result.number() == *number);
        match known {
            Some(result) if rest.iter().all(|byte| *byte == 0) => Ok(result),
            _ => Err(ForwardedError { field: "result" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> ForwardedRequest {
        ForwardedRequest {
            op: ForwardedOp::Write,
            volume: VolumeKey(0x0102_0304_0506_0708),
            generation: 0x1112_1314,
            lba: Lba(0x2122_2324_2526),
            sectors: Sectors(0x31_32_33),
        }
    }

    #[test]
    fn the_bytes_are_those_of_version_1() {
        let words = request().encode().unwrap();
        let expected = [
            2, 8, 7, 6, 5, 4, 3, 2, 1, 0x14, 0x13, 0x12, 0x11, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 0x33,
            0x32, 0x31,
        ];
        assert_eq!(words, expected);
        assert_eq!(ForwardedRequest::decode(&expected), Ok(request()));
        let zeroes = ForwardedRequest {
            op: ForwardedOp::WriteZeroes { unmap: true },
            ..request()
        };
        assert_eq!(zeroes.encode().unwrap()[0], 0x85);
        let numbers: Vec<u8> = ForwardedResult::ALL
            .into_iter()
            .map(|result| result.encode()[0])
            .collect();
        assert_eq!(
            numbers,
            [0, 1, 2, 3, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27]
        );
        for result in ForwardedResult::ALL {
            assert_eq!(ForwardedResult::decode(&result.encode()), Ok(result));
        }
    }

    #[test]
    fn a_request_may_be_as_long_and_end_as_far_as_its_fields_can_say() {
        let last = ForwardedRequest {
            lba: Lba(FORWARDED_LBA_END - FORWARDED_SECTORS_MAX),
            sectors: Sectors(FORWARDED_SECTORS_MAX),
            ..request()
        };
        assert_eq!(ForwardedRequest::decode(&last.encode().unwrap()), Ok(last));
        let beyond = ForwardedRequest {
            lba: Lba(last.lba.0 + 1),
            ..last
        };
        assert_eq!(beyond.encode().unwrap_err().field, "first sector");
    }

    #[test]
    fn data_goes_with_reads_and_writes_alone() {
        let of = |op| ForwardedRequest { op, ..request() }.data_bytes();
        let bytes = 0x31_32_33 * 512;
        assert_eq!((of(ForwardedOp::Read), of(ForwardedOp::Write)), (bytes, bytes));
        for op in [
            ForwardedOp::Flush,
            ForwardedOp::Discard,
            ForwardedOp::WriteZeroes { unmap: false },
        ] {
            assert_eq!(of(op), 0);
        }
        assert_eq!(generation_half(Generation(0x7_1234_5678)), 0x1234_5678);
    }

    #[test]
    fn what_no_program_of_ours_says_is_refused() {
        let field = |change: fn(&mut ForwardedRequest)| {
            let mut request = request();
            change(&mut request);
            request.encode().unwrap_err().field
        };
        assert_eq!(field(|request| request.sectors = Sectors(0)), "sectors");
        assert_eq!(field(|request| request.sectors = Sectors(1 << 24)), "sectors");
        assert_eq!(field(|request| request.op = ForwardedOp::Flush), "sectors");
        assert_eq!(field(|request| request.lba = Lba(1 << 48)), "first sector");
        assert_eq!(field(|request| request.lba = Lba(u64::MAX)), "first sector");
        let mut words = request().encode().unwrap();
        words[0] = 6;
        assert_eq!(ForwardedRequest::decode(&words).unwrap_err().field, "operation");
        words[0] = 3;
        assert_eq!(ForwardedRequest::decode(&words).unwrap_err().field, "sectors");
        let mut answer = ForwardedResult::Gone.encode();
        answer[21] = 1;
        assert!(ForwardedResult::decode(&answer).is_err());
        answer = [4; CLIENT_WORDS_BYTES];
        assert!(ForwardedResult::decode(&answer).is_err());
    }

    #[test]
    fn a_volume_is_named_by_both_halves_of_its_id() {
        let key = VolumeKey::of(Uuid(0x11 << 64 | 0x01));
        assert_eq!(key, VolumeKey(0x10));
        assert_ne!(key, VolumeKey::of(Uuid(0x01)));
        assert_ne!(key, VolumeKey::of(Uuid(0x11 << 64)));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_the_same(words in any::<[u8; CLIENT_WORDS_BYTES]>(), op in 0u8..8) {
            let mut words = words;
            words[0] = words[0] & 0x80 | op;
            if let Ok(request) = ForwardedRequest::decode(&words) {
                prop_assert_eq!(request.encode(), Ok(words));
            }
            if let Ok(result) = ForwardedResult::decode(&words) {
                prop_assert_eq!(result.encode(), words);
            }
        }
    }
}
