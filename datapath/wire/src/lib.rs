//! # wire: bytes that outlive a process
//!
//! Storey 0. What a pooled disk carries, byte by byte: the superblock and the table of extents; and what nodes say to each
//! other over a data port: the header of each frame, and what both ends tell when a link is made. Pure: encoding
//! gives bytes (of a disk: sectors to write in ordered phases), decoding takes them. Nothing here opens, locks or waits.
//!
//! It must never know who carries the bytes (files, io_uring, sockets, the simulator) nor what a cluster decides.
//!
//! ## A pooled disk
//!
//! Everything is made of 4 KiB sectors, each with one writer. Positions are counted in sectors of 512 bytes
//! ([`Lba`](palisade_words::Lba)), as everywhere in Palisade, so a sector of this crate begins at a multiple of 8.
//!
//! ```text
//!   0         64 KiB     256 KiB   896 KiB   2 MiB         3 MiB            4 MiB or 68 MiB
//!   | super-  | super-   | extent  | extent  | member      | write-intent   | data, in units
//!   | block A | block B  | table A | table B | slots       | and journals   | of 4 MiB ...
//!   +---------+----------+---------+---------+-------------+----------------+------ - - -
//!   '------------- head, mirrored at the tail '- reserved, not built yet ---'
//!
//!   ... data |  gap below   | super-  | super-   | extent  | extent  |
//!            |  one unit    | block A | block B  | table A | table B |
//!   - - - ---+--------------+---------+----------+---------+---------+
//!            data_end       tail: the last 2 MiB, the same as the     end of the disk, rounded
//!                           first                                     down to 4 KiB
//! ```
//!
//! - **Superblock A and B** lie 64 KiB apart, so that no inner block of a device (NAND page, RAID chunk line) holds
//!   both. A change goes to the copy whose turn it is, by the parity of its sequence number; a torn write spoils
//!   that copy and leaves the other.
//! - **Extent tables A and B** alternate in the same way. A change writes the other table, waits until it is stable,
//!   and only then the superblock that names it: the change is there wholly or not at all.
//! - **The unit of 4 MiB** is a multiple of every discard, erase, stripe and thin-pool granularity met in practice,
//!   so that a freed extent can really be given back; a volume wastes less than that, and a table of 4800 extents
//!   is never the limit for a disk below 18 GiB, and beyond only for one cut into very many volumes.
//! - **Reserved**: record types and places for member slots, write-intent regions and journals exist; nothing
//!   writes them yet. Each of 64 nodes has the same share between 3 MiB and the start of data: 1040 KiB on a disk of 8 GiB and
//!   more, 16 KiB on a smaller one. Where data begins is said by the superblock, so disks laid out otherwise are read as
//!   they are.
//!
//! ## One sector
//!
//! Little-endian. The first 96 bytes and the last 8 are the same in every version and every record type.
//!
//! ```text
//!   0  magic "PALISADE"   8  type u16   10 version u16   12 CRC-32C of the sector, this field zero
//!   16 own LBA u64       24 epoch u64   32 generation u64   40 sequence u64
//!   48 owner node u128   64 cluster u128   80 disk u128
//!   96 ... 4087 body, unused bytes zero                  4088 sequence again: differs in a torn sector
//! ```
//!
//! ## Invariants
//!
//! - One turned bit anywhere in a sector is noticed ([`SectorError::BadChecksum`] or an error more exact).
//! - A sector read from another place than it was written to is refused ([`SectorError::WrongPlace`]).
//! - Of two copies with one number and unlike content none is believed because of the number ([`Why::OtherContent`],
//!   [`DecodeError::Contradiction`]).
//! - A change is written over what it has grown out of, by the ids of both, and over nothing else
//!   ([`EncodeError::NotDescended`]), whatever the numbers say.
//! - What is read has the rules of what is written ([`encode`]): a superblock or a table that breaks one, with whatever
//!   checksum, is refused with the rule ([`DecodeError::Impossible`]), and no older state is taken for it.
//! - A version or record type that is not known is refused, never guessed, even when an older copy could be read.
//! - No content of a disk leads to a panic, nor to an allocation above the table's fixed size.
//!
//! Between nodes: a frame is a header of 64 bytes, whose checksum is looked at before any of its fields, and a payload of up
//! to 1 MiB with a checksum of its own ([`frame`]); a link begins with a greeting ([`hello`]); a block request and its answer
//! are in the header's last 22 bytes ([`forwarded`]). A header that is damaged says nothing of where the next one begins, so
//! that its link has to be made anew. Beside them go heartbeats ([`heartbeat`]).
//!
//! Start reading at [`sector`], then [`superblock`], [`extent`], [`encode`] and [`decode`]. [`signature`] knows what
//! others write on disks.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod decode;
pub mod encode;
pub mod extent;
pub mod forwarded;
pub mod frame;
pub mod geometry;
pub mod heartbeat;
pub mod hello;
pub mod label;
pub mod lineage;
pub mod mend;
pub mod remains;
pub mod sector;
pub mod signature;
pub mod superblock;

pub use decode::{Claim, Damage, DecodeError, Decoded, Impossibility, Part, Proof, RecordPlace, Why, decode};
pub use encode::{EncodeError, Phase, SectorWrite, Update, erase, format, update};
pub use extent::{ExtentRecord, ExtentRole};
pub use forwarded::{
    BLOCK_CLIENT, FORWARDED_LBA_END, FORWARDED_SECTORS_MAX, ForwardedError, ForwardedOp, ForwardedRequest,
    ForwardedResult, VolumeKey, generation_half,
};
pub use frame::{
    CLIENT_WORDS_BYTES, FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX, FRAME_VERSION, FrameError, FrameHeader,
    FrameKind, payload_checksum,
};
pub use geometry::{
    AREA_SECTORS, DATA_START_LEAST, DATA_START_MOST, DATA_START_ROOMY, Geometry, GeometryError,
    ROOMY_SECTORS_MIN,
};
pub use heartbeat::{
    HEARING_PLACES_MAX, HEARING_ROW_BYTES, HEARTBEAT_BYTES_MAX, HEARTBEAT_HEAD_BYTES, HEARTBEAT_VERSION,
    HearingRow, Heartbeat, HeartbeatError,
};
pub use hello::{HELLO_BYTES, Hello, HelloError, LinkRefusal, REFUSAL_BYTES, StartNumber};
pub use label::{LABEL_BYTES_MAX, Label, LabelError};
pub use lineage::{ANCESTORS_MAX, Kinship, Lineage};
pub use mend::mend;
pub use remains::{disks_named, is_cut_off_erasure_of, is_cut_off_write_of};
pub use sector::{MAGIC, RecordType, SECTOR_4K_BYTES, Sector, SectorError, VERSION, claims};
pub use signature::{SIGNATURE_BYTES, Signature, recognise};
pub use superblock::{Superblock, TableRef};
