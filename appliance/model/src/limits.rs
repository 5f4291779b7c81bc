//! Every bound of the model alone, written once, with the reason beside it. Those that it shares with the data path and
//! with the bytes on disk are in [`palisade_words::limits`].

use palisade_words::SECTOR_BYTES;
use palisade_words::limits::{NODES_MAX, QUEUE_SIZE_MAX};

/// Bytes of a path to a medium (`PATH_MAX` of Linux with its closing zero byte).
pub const PATH_BYTES_MAX: usize = 4095;

/// Bytes of a socket's path: `sun_path` of unix(7) is 108 with its closing zero byte.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Bytes of a WWID as sysfs and SCSI VPD page 0x83 give it.
pub const WWID_BYTES_MAX: usize = 256;

/// Bytes of a user's or group's name (`LOGIN_NAME_MAX` of Linux).
pub const ACCOUNT_BYTES_MAX: usize = 256;

/// Characters of the serial: `VIRTIO_BLK_ID_BYTES`, virtio 1.3, 5.2.6.
pub const SERIAL_BYTES_MAX: usize = 20;

/// Sectors of the largest disk or volume (4 EiB): every byte position then fits 63 bits.
pub const SECTORS_MAX: u64 = 1 << 53;

/// Highest generation and epoch that a medium is believed. No cluster counts as far at any pace, and as many
/// are left from there: at the end of 64 bits nothing could be changed any more, and no number goes back.
pub const GENERATION_MAX: u64 = 1 << 62;

/// Addresses of one node: links over four networks, each with a few ports, are used at once.
pub const ADDRESSES_PER_NODE_MAX: usize = 16;

/// Tokens of a cluster, the used ones that are still remembered included: one for each node that there may be.
pub const TOKENS_MAX: usize = NODES_MAX;

/// Longest time for which a token is made, in seconds: a week, in which a machine is brought to its place. What lies about
/// for longer is better made anew.
pub const TOKEN_LIFE_S_MAX: u64 = 7 * 86_400;

/// Volumes of a cluster.
pub const VOLUMES_MAX: usize = 4096;

/// Extents of one volume. A volume that would need more lies on a disk too fragmented to serve it well.
pub const EXTENTS_PER_VOLUME_MAX: usize = 64;

/// Incomplete volumes of a cluster.
pub const FRAGMENTS_MAX: usize = 4096;

/// Entries of the smallest ring offered.
pub const QUEUE_SIZE_MIN: u16 = 2;

/// Entries of a ring when nothing is asked for: what QEMU, Cloud Hypervisor (128), Firecracker and libkrun (256) choose
/// by themselves fits, and a long queue of requests does, too.
pub const QUEUE_SIZE_DEFAULT: u16 = 256;

/// Milliseconds of burst an attachment's limit may allow: one minute.
pub const BURST_MS_MAX: u32 = 60_000;

/// Milliseconds of burst when nothing is asked for.
pub const BURST_MS_DEFAULT: u32 = 100;

const _: () = assert!(QUEUE_SIZE_MIN.is_power_of_two() && QUEUE_SIZE_MIN <= QUEUE_SIZE_MAX);
const _: () = assert!(
    SECTORS_MAX <= i64::MAX as u64 / SECTOR_BYTES,
    "byte positions fit a signed 64-bit offset"
);
