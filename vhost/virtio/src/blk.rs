//! virtio-blk (virtio 1.3, 5.2): constants, features, configuration space, and the parsing of a chain's parts.

pub mod config;
pub mod features;
pub(crate) mod request;

/// `VIRTIO_BLK_T_*`: what a request asks for.
pub mod kind {
    /// `VIRTIO_BLK_T_IN`
    pub const IN: u32 = 0;
    /// `VIRTIO_BLK_T_OUT`
    pub const OUT: u32 = 1;
    /// `VIRTIO_BLK_T_FLUSH`
    pub const FLUSH: u32 = 4;
    /// `VIRTIO_BLK_T_GET_ID`
    pub const GET_ID: u32 = 8;
    /// `VIRTIO_BLK_T_DISCARD`
    pub const DISCARD: u32 = 11;
    /// `VIRTIO_BLK_T_WRITE_ZEROES`
    pub const WRITE_ZEROES: u32 = 13;
}

/// Bytes of a request's header: type u32, reserved u32, sector u64.
pub const BLK_HEADER_BYTES: usize = 16;

/// Bytes of `struct virtio_blk_discard_write_zeroes`: sector u64, num_sectors u32, flags u32.
pub const RANGE_BYTES: usize = 16;

/// The flag `unmap` of such a range; all others are reserved.
pub const RANGE_UNMAP: u32 = 1;

/// Bytes of the device id string (virtio 1.3, 5.2.6).
pub const SERIAL_BYTES: usize = 20;
