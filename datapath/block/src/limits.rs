//! Every bound of the data path, written once, with the reason beside it. Those that it shares with the model are in
//! [`palisade_words::limits`].

use crate::time::Nanos;
use palisade_words::limits::QUEUE_SIZE_MAX;

/// Data descriptors that a request should have at most (`seg_max`, virtio 1.3 5.2.4). With the header and the status
/// descriptor a chain then fits a ring of 128 entries. It is what we announce, and no limit of what we serve: a driver
/// that has not taken SEG_MAX may use a chain as long as the ring (2.7.5.3.1).
pub const SEGMENTS_PER_REQUEST: usize = 126;

/// Places for segments in one slot. A descriptor that crosses the border between two mapped memory regions
/// becomes two segments, so there is room for some such crossings. What has more is carried out in pieces.
pub const SEGMENTS_PER_SLOT: usize = 160;

/// Places for the segments of a long request: a chain as long as the longest ring, whose buffers, if they do not
/// overlap, cross each border between two memory regions once.
pub const SEGMENTS_LONG_MAX: usize = QUEUE_SIZE_MAX as usize + MEMORY_REGIONS_MAX;

/// Bytes that a data descriptor should have at most (`size_max`). Like `seg_max` it is advice: a driver that has not
/// taken SIZE_MAX puts as much as it likes into one (edk2's up to 1 GiB).
pub const SEGMENT_BYTES_MAX: u32 = 1 << 20;

/// Bytes one request can carry. A chain has at most 2^32 (virtio 1.3, 2.7.5), and the used entry counts data and status
/// byte in 32 bits; what is left is a whole number of blocks of any size.
pub const REQUEST_BYTES_MAX: u64 = (1 << 32) - (1 << 20);

/// Sectors of one discard or write-zeroes range (2 GiB): the kernel calls below take signed 32-bit lengths kindly
/// at this size, and one such request cannot keep a device busy for minutes.
pub const DISCARD_SECTORS_MAX: u32 = 1 << 22;

/// Bytes of one bounce buffer. A misaligned request is carried out in pieces of this size.
pub const BOUNCE_BYTES: usize = 256 * 1024;

/// Bytes of one operation that moves data, whatever its device takes: a longer request is carried out in pieces. A copy of
/// so many, or the zeroing of a hole, takes a reactor 80 to 200 us.
pub const PIECE_BYTES_MAX: u32 = 1 << 20;

/// Bytes of requests in pieces after which one queue begins no further piece in a turn: the others are served between two.
pub const TURN_BYTES_EACH: u64 = PIECE_BYTES_MAX as u64;

/// The same of all queues of a reactor: half a millisecond of a turn on a device that answers at once.
pub const TURN_BYTES_ALL: u64 = 4 << 20;

/// Longer operations, and all pieces, count as bytes in flight. Shorter ones are bounded by the slots they take.
pub const LARGE_BYTES_MIN: u64 = 64 << 10;

/// Bytes in flight of one attachment on the devices of one reactor, so that what others ask of the same disk does not
/// stand behind gigabytes. A disk of 7 GB/s that takes 2 ms for each operation is kept busy by it.
pub const FLIGHT_BYTES_EACH: u64 = 16 << 20;

/// The same while another attachment asks for something of the same disk: what it asks for stands behind these bytes. 4 MiB
/// take 8 ms on a disk of 500 MB/s, and keep one of 7 GB/s busy that takes half a millisecond for each operation.
pub const FLIGHT_BYTES_SHARED: u64 = 4 << 20;

/// For so long after two attachments have asked a disk for something, one behind the other, they share it.
pub const FLIGHT_SHARED_FOR: Nanos = Nanos::from_millis(100);

/// In flight of all attachments; one that has nothing in flight may always have one operation.
pub const FLIGHT_BYTES_ALL: u64 = 64 << 20;

/// Bytes of one discard or write-zeroes operation of a block device, while they go quickly. Each ends at a multiple of its
/// length, so that what a device gives back as one is not cut. A disk that does not know zeroes writes them.
pub const RANGE_BYTES_MAX: u32 = 32 << 20;

/// The same of a file, which is locked meanwhile: how long that takes depends on the pieces in which its space lies there,
/// which nobody knows before, and 8 MiB may be 1024 of them (on ext4 with `discard`, 1 to 3 ms each).
pub const RANGE_BYTES_FILE_MAX: u32 = 8 << 20;

/// The same before anything is known of a device.
pub const RANGE_BYTES_FIRST: u32 = 1 << 20;

/// The same while they take long, unless a device gives nothing back in pieces as short as that.
pub const RANGE_BYTES_MIN: u32 = 256 << 10;

/// In flight of such operations a shorter one counts for as much as the longest of that time less this often: a lock and a
/// journal's record cost the same.
pub const RANGES_SHORT: u32 = 8;

/// How many of the longest ones an attachment may have in flight on a block device on which they go quickly, by one
/// reactor. With four of 32 MiB, neighbours were not slowed down; with 256 they waited for seconds. Else, and on a file,
/// where one waits for the other, it is one.
pub const RANGES_EACH: u64 = 4;

/// All attachments may have so many times as much; one that has none in flight there may always have one, while they go
/// quickly.
pub const RANGES_ALL: u64 = 4;

/// What takes no longer is quick: the next may be longer, and follow at once.
pub const RANGE_QUICK: Nanos = Nanos::from_millis(10);

/// What takes longer is slow: the next are shorter.
pub const RANGE_SLOW: Nanos = Nanos::from_millis(50);

/// So long is one to take that follows a slow one.
pub const RANGE_AIM: Nanos = Nanos::from_millis(25);

/// What was too long for a device is doubled after so much time without another slow one.
pub const RANGE_CALM: Nanos = Nanos::from_secs(5);

/// After one that was not quick comes a pause as long as it took, and no longer than this: others have the lock, or the
/// disk, for half of the time.
pub const RANGE_PAUSE_MAX: Nanos = Nanos::from_secs(1);

/// After the pause the attachment that has waited longest is the next; others are when it has not come for so long.
pub const RANGE_GRACE: Nanos = Nanos::from_millis(20);

/// What takes so long is told, with the name of the attachment: a guest notices a tenth of a second.
pub const RANGE_TOLD: Nanos = Nanos::from_millis(100);

/// Requests one queue may hand over in one turn, so that its neighbours are served in the same turn.
pub const PULL_BATCH: usize = 32;

/// Descriptors of chains that have not the usual shape which all queues of a reactor follow in one turn: as many as a
/// batch of requests as long as we announce has. It is a fifth of a millisecond. The first chain of a turn is followed to
/// its end, however long, so that each comes to its turn.
pub const TURN_DESCRIPTORS_ALL: u32 = PULL_BATCH as u32 * (SEGMENTS_PER_REQUEST as u32 + 2);

/// A turn of a reactor that had work and lasted longer may have been kept waiting by a guest's memory, and so may a sleep
/// that ends so much after its time: from then on each step of a turn is timed by itself, so that it is known by whose.
/// Turns take microseconds; long ones on devices that answer at once take one or two milliseconds.
pub const TURN_SUSPICIOUS: Nanos = Nanos::from_millis(5);

/// They are timed for so long after the last suspicious one.
pub const STALLS_LOOKED_FOR: Nanos = Nanos::from_secs(600);

/// A reactor that submits with the system call that puts it to sleep submits before it at least so often, so that it can
/// be told from the sleep how long that takes. Twenty system calls a second are not noticed.
pub const SUBMITTED_AWAKE: Nanos = Nanos::from_millis(50);

/// One queue's step of a turn should take no longer: no more is taken from the queue then, and its attachment rests. What a
/// step does is bounded so that it takes a fraction of this; it takes longer where pages of the guest's memory have to be
/// waited for, or found and cleared (a hugepage of 2 MiB takes 0.1 to 0.4 ms).
pub const STEP_LONG: Nanos = Nanos::from_millis(2);

/// Places of guests' memory that a turn touches, one for each request and one for each of its segments, after which what has
/// been taken is submitted and the clock is looked at. So much of what a turn does may be on pages that take long, before it
/// is known that they do. It is a batch of requests of one segment: those are submitted as often as before.
pub const TOUCHES_UNSEEN_MAX: u32 = 2 * PULL_BATCH as u32;

/// Segments of one operation on the memory of an attachment whose steps were found to take long, while steps are timed. What
/// has more is carried out in pieces, and rests between two of them: a piece is not interrupted, and 120 fresh hugepages take
/// 40 ms on a fast machine. Of others it would cut every request of 512 KiB whose buffers lie in single pages.
pub const SEGMENTS_SLOW_MAX: usize = 16;

/// After a long step nothing is taken from its attachment for so many times as long, so that others have nine tenths of the
/// reactor's time.
pub const REST_TIMES: u64 = 9;

/// And no longer than this.
pub const REST_MAX: Nanos = Nanos::from_secs(2);

/// A wait within one step that is as long as this is a stall. What is shorter is answered by rests alone.
pub const STALL_MIN: Nanos = Nanos::from_millis(100);

/// The time over which the stalls of one attachment are added up, and what its steps have taken.
pub const STALL_WINDOW: Nanos = Nanos::from_secs(10);

/// What stalls may come to within that time. Its session is cut off for more.
pub const STALLED_MAX: Nanos = Nanos::from_millis(500);

/// One alone may be chance, however long it is.
pub const STALLS_MIN: usize = 2;

/// Long steps of one attachment that are remembered one by one; with more the oldest are forgotten first.
pub const LONG_STEPS_REMEMBERED: usize = 512;

/// Memory regions of one guest (`VHOST_USER_MAX_RAM_SLOTS` of QEMU is 512 with CONFIGURE_MEM_SLOTS).
pub const MEMORY_REGIONS_MAX: usize = 512;

const _: () = assert!(SEGMENTS_PER_SLOT > SEGMENTS_PER_REQUEST);
const _: () = assert!(SEGMENTS_LONG_MAX > SEGMENTS_PER_SLOT);
const _: () = assert!(REQUEST_BYTES_MAX < u32::MAX as u64, "`used.len` is 32 bits wide");
const _: () = assert!(
    REQUEST_BYTES_MAX >= SEGMENTS_PER_REQUEST as u64 * SEGMENT_BYTES_MAX as u64,
    "a request may be as long as what is announced allows"
);
const _: () = assert!(REQUEST_BYTES_MAX.is_multiple_of(1 << 16), "whole blocks");
const _: () = assert!(
    SEGMENTS_PER_REQUEST + 2 <= 128,
    "the ring of the common front-ends"
);
const _: () = assert!(BOUNCE_BYTES.is_multiple_of(4096));
const _: () = assert!(BOUNCE_BYTES <= PIECE_BYTES_MAX as usize);
const _: () = assert!(PIECE_BYTES_MAX.is_multiple_of(4096), "whole blocks");
const _: () = assert!(TURN_BYTES_EACH >= PIECE_BYTES_MAX as u64 && TURN_BYTES_ALL >= TURN_BYTES_EACH);
const _: () = assert!(FLIGHT_BYTES_EACH >= TURN_BYTES_EACH && FLIGHT_BYTES_ALL >= FLIGHT_BYTES_EACH);
const _: () =
    assert!(FLIGHT_BYTES_SHARED <= FLIGHT_BYTES_EACH && FLIGHT_BYTES_SHARED >= PIECE_BYTES_MAX as u64);
const _: () = assert!(RANGE_BYTES_MAX.is_power_of_two() && RANGE_BYTES_FILE_MAX.is_power_of_two());
const _: () = assert!(RANGE_BYTES_FIRST.is_power_of_two() && RANGE_BYTES_MIN.is_power_of_two());
const _: () = assert!(RANGE_BYTES_MIN <= RANGE_BYTES_FIRST && RANGE_BYTES_FIRST <= RANGE_BYTES_FILE_MAX);
const _: () = assert!(RANGE_BYTES_FILE_MAX <= RANGE_BYTES_MAX && RANGES_SHORT <= RANGE_BYTES_MIN / 4096);
const _: () =
    assert!(RANGE_QUICK.0 < RANGE_AIM.0 && RANGE_AIM.0 < RANGE_SLOW.0 && RANGE_SLOW.0 < RANGE_TOLD.0);
const _: () =
    assert!(SEGMENTS_SLOW_MAX < TOUCHES_UNSEEN_MAX as usize && SEGMENTS_SLOW_MAX < SEGMENTS_PER_SLOT);
const _: () = assert!(STEP_LONG.0 < TURN_SUSPICIOUS.0 && TURN_SUSPICIOUS.0 < SUBMITTED_AWAKE.0);
const _: () =
    assert!(STEP_LONG.0 < STALL_MIN.0 && STALL_MIN.0 < STALLED_MAX.0 && STALLED_MAX.0 < STALL_WINDOW.0);
const _: () = assert!(
    STALL_WINDOW.0 / (STEP_LONG.0 * (REST_TIMES + 1)) <= LONG_STEPS_REMEMBERED as u64,
    "none of the window is forgotten, as the attachment rests between two"
);
