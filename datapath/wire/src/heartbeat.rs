//! What nodes tell each other again and again, over each link: that they live, whom they hear, and what they have heard of
//! others about that (F14 to F23).
//!
//! ```text
//!   0  version u8 (1)    1  rows u8    2  link u8    3  zero      4  CRC-32C of all bytes, this field zero
//!   8  epoch u64 (of the membership by whose order places are counted)
//!  16  node u128 (who speaks)            32  boot u128 (which run of its machine the time below counts from)
//!  48  incarnation u64 (which run)       56  nonce u64 (drawn by chance by each run: tells a clone from a run)
//!  64  sequence u64 (from 1, the same on all links)      72  time sent u64, in ns of CLOCK_BOOTTIME
//!  80  echo u64: the last sequence heard from the receiver over this link, 0 for none
//!  88  age of the echo u64, in ns        96  rows of 32 bytes, by place
//!
//!   a row:  0  place u8    1  flags u8 (1: settled)    2 ... 7 zero
//!           8  incarnation u64    16  sequence u64    24  heard u64, a bit for each place
//! ```
//!
//! Little-endian. A place is the position of a member among all of the epoch, in the order of their ids: at most 64. The row of a
//! node says whom it hears; it goes on from hand to hand, so that who does not hear a node still learns whom that hears.

use palisade_words::{Epoch, Incarnation, LinkIndex, Uuid};
use zerocopy::byteorder::little_endian::{U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a heartbeat without its rows.
pub const HEARTBEAT_HEAD_BYTES: usize = 96;

/// Bytes of a row.
pub const HEARING_ROW_BYTES: usize = 32;

/// Members whose heartbeats are told apart (F11: 64 in a group).
pub const HEARING_PLACES_MAX: usize = 64;

/// Bytes of the longest heartbeat.
pub const HEARTBEAT_BYTES_MAX: usize = HEARTBEAT_HEAD_BYTES + HEARING_PLACES_MAX * HEARING_ROW_BYTES;

/// The version that this program writes, and the only one that it reads.
pub const HEARTBEAT_VERSION: u8 = 1;

const SETTLED: u8 = 1;

/// A heartbeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Over which link it is sent.
    pub link: LinkIndex,
    /// The membership by whose order places are counted.
    pub epoch: Epoch,
    /// Who speaks.
    pub node: Uuid,
    /// Which run of its machine `sent` counts from.
    pub boot: Uuid,
    /// Which run of the speaker.
    pub incarnation: Incarnation,
    /// Drawn by chance by each run.
    pub nonce: u64,
    /// Its number, from 1.
    pub sequence: u64,
    /// When it was sent, in ns, by the speaker's clock.
    pub sent_ns: u64,
    /// The last of the receiver's that was heard over this link, and how many ns ago; `None` while there was none.
    pub echo: Option<(u64, u64)>,
    /// The latest row of each node of which the speaker has one, its own among them; by place.
    pub rows: Vec<HearingRow>,
}

/// Whom a node hears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HearingRow {
    /// Whose row it is.
    pub place: u8,
    /// It has been there for long enough to know whom it does not hear.
    pub is_settled: bool,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// Its heartbeat that has carried it: a later one holds.
    pub sequence: u64,
    /// Whom it hears: bit n for the member at place n.
    pub heard: u64,
}

/// Why bytes are no heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeartbeatError {
    /// It is of another version.
    #[error("a heartbeat of version {version}, and this program knows {HEARTBEAT_VERSION}")]
    Version {
        /// Its version.
        version: u8,
    },
    /// There are more or fewer bytes than it says.
    #[error("a heartbeat of {bytes} bytes, which is none that it can have with {rows} rows")]
    Length {
        /// How many there are.
        bytes: usize,
        /// Rows that it names.
        rows: u8,
    },
    /// Bytes have changed on the way.
    #[error("a heartbeat whose checksum is {found:08x} and not {named:08x}")]
    Checksum {
        /// That of the bytes.
        found: u32,
        /// That which it names.
        named: u32,
    },
    /// A field has a value that no sender gives it.
    #[error("a heartbeat with an impossible value in `{field}`")]
    Field {
        /// Which.
        field: &'static str,
    },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHead {
    version: u8,
    rows: u8,
    link: u8,
    zero: u8,
    checksum: U32,
    epoch: U64,
    node: U128,
    boot: U128,
    incarnation: U64,
    nonce: U64,
    sequence: U64,
    sent: U64,
    echo: U64,
    echo_age: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawRow {
    place: u8,
    flags: u8,
    zero: [u8; 6],
    incarnation: U64,
    sequence: U64,
    heard: U64,
}

const _: () = assert!(size_of::<RawHead>() == HEARTBEAT_HEAD_BYTES);
const _: () = assert!(size_of::<RawRow>() == HEARING_ROW_BYTES);
const _: () = assert!(std::mem::offset_of!(RawHead, incarnation) == 48);
const _: () = assert!(HEARING_PLACES_MAX <= u64::BITS as usize);

impl Heartbeat {
    /// As bytes. Rows beyond the limit of places are left out.
    pub fn encode(&self) -> Vec<u8> {
        let rows = self.rows.get(..HEARING_PLACES_MAX).unwrap_or(&self.rows);
        let (echo, echo_age) = self.echo.unwrap_or_default();
        let mut head = RawHead {
            version: HEARTBEAT_VERSION,
            rows: rows.len() as u8,
            link: self.link.0,
            zero: 0,
            checksum: U32::new(0),
            epoch: U64::new(self.epoch.0),
            node: U128::new(self.node.0),
            boot: U128::new(self.boot.0),
            incarnation: U64::new(self.incarnation.0),
            nonce: U64::new(self.nonce),
            sequence: U64::new(self.sequence),
            sent: U64::new(self.sent_ns),
            echo: U64::new(echo),
            echo_age: U64::new(echo_age),
        };
        let rows: Vec<u8> = rows.iter().flat_map(|row| row.encode()).collect();
        head.checksum = U32::new(checksum(&head, &rows));
        let mut bytes = head.as_bytes().to_vec();
        bytes.extend(rows);
        bytes
    }

    /// Reads one. What it means is judged by others.
    ///
    /// # Errors
    /// They are no heartbeat, or one that was changed on the way.
    pub fn decode(bytes: &[u8]) -> Result<Heartbeat, HeartbeatError> {
        let count = bytes.len();
        let Ok((head, rest)) = RawHead::read_from_prefix(bytes) else {
            return Err(HeartbeatError::Length {
                bytes: count,
                rows: 0,
            });
        };
        if head.version != HEARTBEAT_VERSION {
            return Err(HeartbeatError::Version {
                version: head.version,
            });
        }
        let rows = usize::from(head.rows);
        if rows > HEARING_PLACES_MAX || rest.len() != rows * HEARING_ROW_BYTES {
            return Err(HeartbeatError::Length {
                bytes: count,
                rows: head.rows,
            });
        }
        let (found, named) = (checksum(&head, rest), head.checksum.get());
        if found != named {
            return Err(HeartbeatError::Checksum { found, named });
        }
        let heartbeat = Heartbeat {
            link: LinkIndex(head.link),
            epoch: Epoch(head.epoch.get()),
            node: Uuid(head.node.get()),
            boot: Uuid(head.boot.get()),
            incarnation: Incarnation(head.incarnation.get()),
            nonce: head.nonce.get(),
            sequence: head.sequence.get(),
            sent_ns: head.sent.get(),
            echo: match head.echo.get() {
                0 => None,
                echo => Some((echo, head.echo_age.get())),
            },
            rows: rest
                .chunks_exact(HEARING_ROW_BYTES)
                .filter_map(|row| RawRow::read_from_bytes(row).ok())
                .map(|row| HearingRow::read(&row))
                .collect(),
        };
        heartbeat.checked(&head)
    }

    fn checked(self, head: &RawHead) -> Result<Heartbeat, HeartbeatError> {
        let field = |field| Err(HeartbeatError::Field { field });
        if head.incarnation.get() == 0 {
            return field("incarnation");
        }
        if head.sequence.get() == 0 {
            return field("sequence");
        }
        if head.echo.get() == 0 && head.echo_age.get() != 0 {
            return field("age of the echo");
        }
        let places = self.rows.iter().map(|row| usize::from(row.place));
        // In their order, each once.
        if !places.is_sorted_by(|a, b| a < b) || self.rows.last().is_some_and(|row| row.place >= 64) {
            return field("place");
        }
        Ok(self)
    }
}

impl HearingRow {
    fn encode(&self) -> [u8; HEARING_ROW_BYTES] {
        let raw = RawRow {
            place: self.place,
            flags: if self.is_settled { SETTLED } else { 0 },
            zero: [0; 6],
            incarnation: U64::new(self.incarnation.0),
            sequence: U64::new(self.sequence),
            heard: U64::new(self.heard),
        };
        zerocopy::transmute!(raw)
    }

    /// Flags that are not known are not looked at, so that a later version can.
    fn read(raw: &RawRow) -> HearingRow {
        HearingRow {
            place: raw.place,
            is_settled: raw.flags & SETTLED != 0,
            incarnation: Incarnation(raw.incarnation.get()),
            sequence: raw.sequence.get(),
            heard: raw.heard.get(),
        }
    }
}

fn checksum(head: &RawHead, rows: &[u8]) -> u32 {
    let head = RawHead {
        checksum: U32::new(0),
        ..*head
    };
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(head.as_bytes());
    digest.update(rows);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heartbeat(places: &[u8]) -> Heartbeat {
        let row = |place: &u8| HearingRow {
            place: *place,
            is_settled: place.is_multiple_of(2),
            incarnation: Incarnation(3),
            sequence: 4,
            heard: 1 << place,
        };
        Heartbeat {
            link: LinkIndex(1),
            epoch: Epoch(2),
            node: Uuid(3),
            boot: Uuid(4),
            incarnation: Incarnation(5),
            nonce: 6,
            sequence: 7,
            sent_ns: 8,
            echo: Some((9, 10)),
            rows: places.iter().map(row).collect(),
        }
    }

    #[test]
    fn a_heartbeat_is_read_as_it_was_written() {
        let all: Vec<u8> = (0..64).collect();
        for places in [&[][..], &[0, 5, 63], &all] {
            for echo in [None, Some((1, 0))] {
                let heartbeat = Heartbeat {
                    echo,
                    ..heartbeat(places)
                };
                let bytes = heartbeat.encode();
                assert!(bytes.len() <= HEARTBEAT_BYTES_MAX);
                assert_eq!(Heartbeat::decode(&bytes), Ok(heartbeat));
            }
        }
    }

    #[test]
    fn each_bit_that_turns_is_noticed_and_so_is_each_length() {
        let bytes = heartbeat(&[1, 2]).encode();
        for bit in 0..bytes.len() * 8 {
            let mut turned = bytes.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert!(Heartbeat::decode(&turned).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            let cut = Heartbeat::decode(&bytes[..length]);
            assert!(matches!(cut, Err(HeartbeatError::Length { .. })), "{length}");
        }
    }

    #[test]
    fn what_no_sender_says_is_named() {
        let with = |change: fn(&mut Heartbeat)| {
            let mut heartbeat = heartbeat(&[1, 2]);
            change(&mut heartbeat);
            Heartbeat::decode(&heartbeat.encode()).map_err(|error| error.to_string())
        };
        let refused = |change, field: &str| {
            let error = with(change).unwrap_err();
            assert!(error.contains(field), "{error}");
        };
        refused(
            |heartbeat| heartbeat.incarnation = Incarnation(0),
            "`incarnation`",
        );
        refused(|heartbeat| heartbeat.sequence = 0, "`sequence`");
        refused(|heartbeat| heartbeat.echo = Some((0, 1)), "`age of the echo`");
        refused(|heartbeat| heartbeat.rows[1].place = 1, "`place`");
        refused(|heartbeat| heartbeat.rows[1].place = 64, "`place`");
        let mut later = heartbeat(&[]).encode();
        later[0] = 2;
        assert_eq!(
            Heartbeat::decode(&later),
            Err(HeartbeatError::Version { version: 2 })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_lead_to_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(read) = Heartbeat::decode(&bytes) {
                prop_assert_eq!(Heartbeat::decode(&read.encode()), Ok(read));
            }
        }
    }
}
