//! Sizes of the model test's world, how its volume lies on the devices, and what these can do.

use palisade_block::*;

/// Requests under way at most, each with sectors and memory of its own.
pub const HEADS: u16 = 6;
/// Sectors of each.
pub const WINDOW: u64 = 96;
/// Sectors of the volume.
pub const SECTORS: u64 = HEADS as u64 * WINDOW;
/// Memory of each request.
pub const MEMORY_BYTES: usize = 128 << 10;
/// Where that of the first begins.
pub const MEMORY_AT: usize = 0;
/// Where the pool's begins.
pub const POOL_AT: usize = 1 << 20;
pub const BUFFERS: usize = 2;
pub const DEVICES: usize = 3;
pub const DEADLINE: u64 = 1000;

/// Two ways to lay the volume out: first sector on the volume, length, device, first sector there.
pub const LAYOUTS: [[(u64, u64, u16, u64); 3]; 2] = [
    [(0, 200, 0, 1000), (200, 104, 1, 800), (304, 272, 2, 64)],
    [(0, 40, 2, 5000), (40, 360, 1, 4000), (400, 176, 0, 6000)],
];

/// One asks for sectors, one for blocks and cannot do all, one takes anything.
pub fn limits_of(device: usize) -> DeviceLimits {
    let common = DeviceLimits {
        io_bytes_max: 16 << 10,
        ..crate::bench_of::limits(10_000)
    };
    match device {
        0 => common,
        1 => DeviceLimits {
            block_bytes: 4096,
            memory_alignment: 512,
            length_alignment: 4096,
            io_bytes_max: 32 << 10,
            discard: false,
            write_zeroes: false,
            ..common
        },
        _ => DeviceLimits {
            memory_alignment: 1,
            length_alignment: 1,
            ..common
        },
    }
}
