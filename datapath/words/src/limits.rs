//! Limits that more than one room keeps, written once, with the reason beside each. What bounds one room alone stands in
//! that room.

/// Bytes of a name: one label of a host name (RFC 1035, 2.3.4), so a name can be one.
pub const NAME_BYTES_MAX: usize = 63;

/// Sectors in one unit of allocation, 4 MiB: small enough to waste little on the last unit, large enough that a
/// 64 TiB disk has only 16 Mi units and a route few runs; and a multiple of every discard, erase, stripe and thin-pool
/// granularity met in practice.
pub const ALLOCATION_UNIT_SECTORS: u64 = 8192;

/// Disks of a cluster; a node's data path has room for as many devices.
pub const DISKS_MAX: usize = 1024;

/// Members of a cluster: as many have slots, write-intent regions and journals on a shared disk.
pub const NODES_MAX: usize = 64;

/// Devices of a node's data path: disks, and other nodes that are asked for theirs. Those come behind the disks.
pub const DEVICES_MAX: usize = DISKS_MAX + NODES_MAX;

/// Attachments of a cluster; a node's data path has room for as many.
pub const ATTACHMENTS_MAX: usize = 1024;

/// Virtqueues of one attachment.
pub const QUEUES_MAX: u16 = 64;

/// Entries of the largest ring: the standard's own bound (virtio 1.3, 2.7).
pub const QUEUE_SIZE_MAX: u16 = 32768;

/// Extents of all volumes on one disk: as many records as the extent table of a pooled disk has room for.
pub const EXTENTS_PER_DISK_MAX: usize = 4800;

/// Generations that a disk remembers of its own past: as many fit its superblock. A medium that was away for
/// more changes of its extents than this cannot be told from one that grew on elsewhere.
pub const HISTORY_MAX: usize = 64;

const _: () = assert!(
    ALLOCATION_UNIT_SECTORS.is_multiple_of(8),
    "units are whole 4 KiB blocks"
);
const _: () = assert!(QUEUE_SIZE_MAX.is_power_of_two());
