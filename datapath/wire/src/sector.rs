//! One sector of 4 KiB: the frame every record shares.

use palisade_words::{Epoch, Generation, Lba, Uuid};
use zerocopy::byteorder::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned, transmute};

/// Bytes of a sector. Written whole, checked whole.
pub const SECTOR_4K_BYTES: usize = 4096;

/// The first eight bytes of every sector.
pub const MAGIC: [u8; 8] = *b"PALISADE";

/// The latest version: data may begin elsewhere than at 4 MiB, as the superblock says. Earlier ones are read too, and written
/// where they can say it, so that a program of before reads each disk that it could have written.
pub const VERSION: u16 = 3;

/// The version with the lineage in the superblock.
pub(crate) const VERSION_OF_ONE_DATA_START: u16 = 2;

/// The first version.
pub(crate) const VERSION_WITHOUT_LINEAGE: u16 = 1;

/// Bytes of a record inside its sector.
pub const BODY_BYTES: usize = SECTOR_4K_BYTES - 96 - 8;

/// A sector as it lies on disk.
pub type Sector = [u8; SECTOR_4K_BYTES];

/// What a sector holds. The numbers are on disk and never change their meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum RecordType {
    /// Identity, geometry and the table in force.
    Superblock = 1,
    /// Part of an extent table.
    Extents = 2,
    /// A member's heartbeat slot. Reserved, not built.
    MemberSlot = 3,
    /// A write-intent region. Reserved, not built.
    WriteIntent = 4,
    /// A journal's sector. Reserved, not built.
    Journal = 5,
}

/// Why a sector is not the record that was looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SectorError {
    /// Nothing but zeroes: never written, or wiped.
    #[error("is blank")]
    Blank,
    /// No magic: not written by Palisade, or overwritten since.
    #[error("does not begin with the magic of Palisade")]
    NotOurs,
    /// Begins with one write and ends with another.
    #[error("is torn: its end was written by another write than its beginning")]
    Torn,
    /// The content does not fit the checksum.
    #[error("has checksum {stored:08x} where its content gives {computed:08x}")]
    BadChecksum {
        /// As it lies on disk.
        stored: u32,
        /// As it should be.
        computed: u32,
    },
    /// Written by a version that is not known here.
    #[error("is of version {found}; this program knows versions up to {VERSION}")]
    WrongVersion {
        /// Its number.
        found: u16,
    },
    /// Sound, but meant for another place: a misdirected write or read.
    #[error("was meant for LBA {meant}: a write or read was misdirected")]
    WrongPlace {
        /// Where it belongs.
        meant: Lba,
    },
    /// Sound, but another record than belongs here.
    #[error("holds a record of type {found}, which does not belong here")]
    WrongType {
        /// Its number.
        found: u16,
    },
    /// Sound by its checksum, yet a field has a value that no writer gives it.
    #[error("has an impossible value in `{field}`")]
    Malformed {
        /// Which field.
        field: &'static str,
    },
}

/// Whether a sector claims to be ours, sound or not. For a first look at a disk before anything is written to it.
pub fn claims(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The disk and cluster that a sector names in its header, sound or not: what is left of a write that was torn.
pub(crate) fn claimed(bytes: &Sector) -> Option<(Uuid, Uuid)> {
    let raw: RawSector = transmute!(*bytes);
    (raw.magic == MAGIC).then(|| (Uuid(raw.disk.get()), Uuid(raw.cluster.get())))
}

/// Whether nothing but the sequence at its end is there of a sector.
pub(crate) fn is_end_of_a_torn_sector(bytes: &Sector) -> bool {
    let raw: RawSector = transmute!(*bytes);
    let end = RawSector {
        sequence_again: raw.sequence_again,
        ..RawSector::new_zeroed()
    };
    raw.sequence_again.get() != 0 && end.as_bytes() == bytes
}

/// What every sector says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectorHeader {
    /// What it holds.
    pub record: RecordType,
    /// In which version.
    pub version: u16,
    /// Where it lies.
    pub lba: Lba,
    /// Membership under which it was written.
    pub epoch: Epoch,
    /// Configuration that it is part of.
    pub generation: Generation,
    /// Number of the write; the next one to the same record is one higher.
    pub sequence: u64,
    /// The node that wrote it.
    pub owner: Uuid,
    /// The cluster it belongs to.
    pub cluster: Uuid,
    /// The disk it belongs to.
    pub disk: Uuid,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawSector {
    magic: [u8; 8],
    record: U16,
    version: U16,
    crc: U32,
    lba: U64,
    epoch: U64,
    generation: U64,
    sequence: U64,
    owner: U128,
    cluster: U128,
    disk: U128,
    body: [u8; BODY_BYTES],
    sequence_again: U64,
}

const _: () = assert!(size_of::<RawSector>() == SECTOR_4K_BYTES);
const _: () = assert!(std::mem::offset_of!(RawSector, crc) == 12);
const _: () = assert!(std::mem::offset_of!(RawSector, body) == 96);
const _: () = assert!(std::mem::offset_of!(RawSector, sequence_again) == SECTOR_4K_BYTES - 8);

/// Puts a record into its frame.
pub(crate) fn seal(header: &SectorHeader, body: [u8; BODY_BYTES]) -> Sector {
    let mut raw = RawSector {
        magic: MAGIC,
        record: U16::new(header.record as u16),
        version: U16::new(header.version),
        crc: U32::ZERO,
        lba: U64::new(header.lba.0),
        epoch: U64::new(header.epoch.0),
        generation: U64::new(header.generation.0),
        sequence: U64::new(header.sequence),
        owner: U128::new(header.owner.0),
        cluster: U128::new(header.cluster.0),
        disk: U128::new(header.disk.0),
        body,
        sequence_again: U64::new(header.sequence),
    };
    raw.crc = U32::new(crc32c(raw.as_bytes()));
    transmute!(raw)
}

/// Takes a record out of its frame. The checksum is looked at before everything that it protects.
pub(crate) fn open(
    bytes: &Sector,
    record: RecordType,
    lba: Lba,
) -> Result<(SectorHeader, [u8; BODY_BYTES]), SectorError> {
    let mut raw: RawSector = transmute!(*bytes);
    if raw.magic != MAGIC {
        let blank = bytes.iter().all(|byte| *byte == 0);
        return Err(if blank {
            SectorError::Blank
        } else {
            SectorError::NotOurs
        });
    }
    let stored = raw.crc.get();
    raw.crc = U32::ZERO;
    let computed = crc32c(raw.as_bytes());
    if stored != computed {
        let torn = raw.sequence != raw.sequence_again;
        return Err(if torn {
            SectorError::Torn
        } else {
            SectorError::BadChecksum { stored, computed }
        });
    }
    if !(VERSION_WITHOUT_LINEAGE..=VERSION).contains(&raw.version.get()) {
        return Err(SectorError::WrongVersion {
            found: raw.version.get(),
        });
    }
    if raw.lba.get() != lba.0 {
        return Err(SectorError::WrongPlace {
            meant: Lba(raw.lba.get()),
        });
    }
    if raw.record.get() != record as u16 {
        return Err(SectorError::WrongType {
            found: raw.record.get(),
        });
    }
    if raw.sequence != raw.sequence_again {
        return Err(SectorError::Malformed { field: "sequence" });
    }
    let header = SectorHeader {
        record,
        version: raw.version.get(),
        lba,
        epoch: Epoch(raw.epoch.get()),
        generation: Generation(raw.generation.get()),
        sequence: raw.sequence.get(),
        owner: Uuid(raw.owner.get()),
        cluster: Uuid(raw.cluster.get()),
        disk: Uuid(raw.disk.get()),
    };
    Ok((header, raw.body))
}

/// CRC-32C (Castagnoli, as in iSCSI, RFC 3720 section 12.1).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SectorHeader {
        SectorHeader {
            record: RecordType::Superblock,
            version: VERSION,
            lba: Lba(8),
            epoch: Epoch(3),
            generation: Generation(5),
            sequence: 0x0102_0304_0506_0708,
            owner: Uuid(1),
            cluster: Uuid(2),
            disk: Uuid(3),
        }
    }

    fn reopen(sector: &Sector) -> Result<SectorHeader, SectorError> {
        open(sector, RecordType::Superblock, Lba(8)).map(|(header, _)| header)
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa, "RFC 3720 B.4");
    }

    #[test]
    fn every_turned_bit_is_noticed() {
        let sector = seal(&header(), [0xa5; BODY_BYTES]);
        assert_eq!(reopen(&sector), Ok(header()));
        for bit in 0..SECTOR_4K_BYTES * 8 {
            let mut turned = sector;
            turned[bit / 8] ^= 1 << (bit % 8);
            assert!(reopen(&turned).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn each_kind_of_wrongness_has_its_name() {
        let sector = seal(&header(), [0; BODY_BYTES]);
        assert_eq!(reopen(&[0; SECTOR_4K_BYTES]), Err(SectorError::Blank));
        assert_eq!(reopen(&[1; SECTOR_4K_BYTES]), Err(SectorError::NotOurs));
        // Bytes of somebody else's anywhere, zeros in between.
        for at in [0, 7, 8, SECTOR_4K_BYTES - 1] {
            let mut others = [0; SECTOR_4K_BYTES];
            others[at] = 1;
            assert_eq!(reopen(&others), Err(SectorError::NotOurs));
            assert!(!claims(&others));
        }
        // Ours by the first eight bytes, sound or not.
        let mut turned = sector;
        turned[2000] ^= 1;
        assert!(claims(&turned) && claims(&turned[..8]) && !claims(&turned[..7]));
        assert!(matches!(reopen(&turned), Err(SectorError::BadChecksum { .. })));
        let elsewhere = open(&sector, RecordType::Superblock, Lba(16));
        assert_eq!(elsewhere.unwrap_err(), SectorError::WrongPlace { meant: Lba(8) });
        let other = open(&sector, RecordType::Extents, Lba(8));
        assert_eq!(other.unwrap_err(), SectorError::WrongType { found: 1 });

        let mut newer = header();
        newer.sequence += 1;
        let mut torn = seal(&newer, [0; BODY_BYTES]);
        torn[512..].copy_from_slice(&sector[512..]);
        assert_eq!(reopen(&torn), Err(SectorError::Torn));

        let mut future: RawSector = transmute!(sector);
        future.version = U16::new(VERSION + 1);
        future.crc = U32::ZERO;
        future.crc = U32::new(crc32c(future.as_bytes()));
        assert_eq!(
            reopen(&transmute!(future)),
            Err(SectorError::WrongVersion { found: VERSION + 1 })
        );
    }
}
