//! Every bound of the model, written once, with the reason beside it.

/// Bytes of a name: one label of a host name (RFC 1035, 2.3.4), so a name can be one.
pub const NAME_BYTES_MAX: usize = 63;

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

/// Sectors in one unit of allocation, 4 MiB: small enough to waste little on the last unit, large enough that a
/// 64 TiB disk has only 16 Mi units and a route few runs.
pub const ALLOCATION_UNIT_SECTORS: u64 = 8192;

/// Sectors of the largest disk or volume (4 EiB): every byte position then fits 63 bits.
pub const SECTORS_MAX: u64 = 1 << 53;

/// Highest generation and epoch that a medium is believed. No cluster counts as far at any pace, and as many
/// are left from there: at the end of 64 bits nothing could be changed any more, and no number goes back.
pub const GENERATION_MAX: u64 = 1 << 62;

/// Nodes of a cluster.
pub const NODES_MAX: usize = 64;

/// Disks of a cluster; a node's data path has room for as many devices.
pub const DISKS_MAX: usize = 1024;

/// Volumes of a cluster.
pub const VOLUMES_MAX: usize = 4096;

/// Attachments of a cluster; a node's data path has room for as many.
pub const ATTACHMENTS_MAX: usize = 1024;

/// Extents of one volume. A volume that would need more lies on a disk too fragmented to serve it well.
pub const EXTENTS_PER_VOLUME_MAX: usize = 64;

/// Extents of all volumes on one disk: as many records as the extent table of a pooled disk has room for
/// (`palisade_wire::EXTENTS_MAX`; `palisade-volume` holds one against the other).
pub const EXTENTS_PER_DISK_MAX: usize = 4800;

/// Generations that a disk remembers of its own past. A medium that was away for more changes of its extents than
/// this cannot be told from one that grew on elsewhere. As many fit the superblock.
pub const HISTORY_MAX: usize = 64;

/// Incomplete volumes of a cluster.
pub const FRAGMENTS_MAX: usize = 4096;

/// Virtqueues of one attachment.
pub const QUEUES_MAX: u16 = 64;

/// Entries of the smallest ring offered.
pub const QUEUE_SIZE_MIN: u16 = 2;

/// Entries of the largest ring offered: the standard's own bound.
pub const QUEUE_SIZE_MAX: u16 = 32768;

/// Entries of a ring when nothing is asked for: what QEMU, Cloud Hypervisor (128), Firecracker and libkrun (256) choose
/// by themselves fits, and a long queue of requests does, too.
pub const QUEUE_SIZE_DEFAULT: u16 = 256;

/// Milliseconds of burst an attachment's limit may allow: one minute.
pub const BURST_MS_MAX: u32 = 60_000;

/// Milliseconds of burst when nothing is asked for.
pub const BURST_MS_DEFAULT: u32 = 100;

const _: () = assert!(
    ALLOCATION_UNIT_SECTORS.is_multiple_of(8),
    "units are whole 4 KiB blocks"
);
const _: () = assert!(QUEUE_SIZE_MIN.is_power_of_two() && QUEUE_SIZE_MAX.is_power_of_two());
const _: () = assert!(
    SECTORS_MAX <= i64::MAX as u64 / 512,
    "byte positions fit a signed 64-bit offset"
);
