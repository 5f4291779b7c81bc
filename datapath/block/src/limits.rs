//! Every bound of the data path, written once, with the reason beside it.

/// Data descriptors a guest may put into one request (`seg_max`, virtio 1.3 5.2.4). With the header and the
/// status descriptor a chain then fits a ring of 128 entries.
pub const SEGMENTS_PER_REQUEST: usize = 126;

/// Places for segments in one slot. A descriptor that crosses the border between two mapped memory regions
/// becomes two segments, so there is room for some such crossings.
pub const SEGMENTS_PER_SLOT: usize = 160;

/// Bytes a guest may put into one data descriptor (`size_max`).
pub const SEGMENT_BYTES_MAX: u32 = 1 << 20;

/// Bytes one request can carry: every descriptor full.
pub const REQUEST_BYTES_MAX: u64 = SEGMENTS_PER_REQUEST as u64 * SEGMENT_BYTES_MAX as u64;

/// Sectors of one discard or write-zeroes range (2 GiB): the kernel calls below take signed 32-bit lengths kindly
/// at this size, and one such request cannot keep a device busy for minutes.
pub const DISCARD_SECTORS_MAX: u32 = 1 << 22;

/// Bytes of one bounce buffer. A misaligned request is carried out in pieces of this size.
pub const BOUNCE_BYTES: usize = 256 * 1024;

/// Requests one queue may hand over in one turn, so that its neighbours are served in the same turn.
pub const PULL_BATCH: usize = 32;

/// Entries of the largest ring we serve (virtio 1.3, 2.7: at most 32768; SPDK and QEMU stop at 1024).
pub const RING_ENTRIES_MAX: u16 = 1024;

/// Virtqueues of one attachment.
pub const QUEUES_PER_ATTACHMENT: usize = 64;

/// Attachments of one node.
pub const ATTACHMENTS_MAX: usize = 1024;

/// Devices of one node.
pub const DEVICES_MAX: usize = 1024;

/// Memory regions of one guest (`VHOST_USER_MAX_RAM_SLOTS` of QEMU is 512 with CONFIGURE_MEM_SLOTS).
pub const MEMORY_REGIONS_MAX: usize = 512;

const _: () = assert!(SEGMENTS_PER_SLOT > SEGMENTS_PER_REQUEST);
const _: () = assert!(REQUEST_BYTES_MAX <= u32::MAX as u64, "`used.len` is 32 bits wide");
const _: () = assert!(BOUNCE_BYTES.is_multiple_of(4096));
const _: () = assert!(RING_ENTRIES_MAX.is_power_of_two());
