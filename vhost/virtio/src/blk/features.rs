//! Feature bits of the device and of its rings.

use crate::blk::config::VolumeGeometry;
use std::ops::{BitAnd, BitOr};

/// A set of feature bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Features(u64);

impl Features {
    /// `VIRTIO_BLK_F_SIZE_MAX`
    pub const SIZE_MAX: Features = Features(1 << 1);
    /// `VIRTIO_BLK_F_SEG_MAX`
    pub const SEG_MAX: Features = Features(1 << 2);
    /// `VIRTIO_BLK_F_RO`
    pub const RO: Features = Features(1 << 5);
    /// `VIRTIO_BLK_F_BLK_SIZE`
    pub const BLK_SIZE: Features = Features(1 << 6);
    /// `VIRTIO_BLK_F_FLUSH`
    pub const FLUSH: Features = Features(1 << 9);
    /// `VIRTIO_BLK_F_TOPOLOGY`
    pub const TOPOLOGY: Features = Features(1 << 10);
    /// `VIRTIO_BLK_F_CONFIG_WCE`
    pub const CONFIG_WCE: Features = Features(1 << 11);
    /// `VIRTIO_BLK_F_MQ`
    pub const MQ: Features = Features(1 << 12);
    /// `VIRTIO_BLK_F_DISCARD`
    pub const DISCARD: Features = Features(1 << 13);
    /// `VIRTIO_BLK_F_WRITE_ZEROES`
    pub const WRITE_ZEROES: Features = Features(1 << 14);
    /// `VIRTIO_F_NOTIFY_ON_EMPTY` (virtio 1.3, 6.3): a legacy driver wants to be notified when the ring has run empty,
    /// whatever it has said of notifications.
    pub const NOTIFY_ON_EMPTY: Features = Features(1 << 24);
    /// `VIRTIO_F_ANY_LAYOUT` (virtio 1.3, 6.3): a legacy driver may frame requests as it likes, as all others may.
    pub const ANY_LAYOUT: Features = Features(1 << 27);
    /// `VIRTIO_RING_F_INDIRECT_DESC`
    pub const INDIRECT_DESC: Features = Features(1 << 28);
    /// `VIRTIO_RING_F_EVENT_IDX`
    pub const EVENT_IDX: Features = Features(1 << 29);
    /// `VIRTIO_F_VERSION_1`
    pub const VERSION_1: Features = Features(1 << 32);

    /// What a driver may take without our having offered it, since it is the transport's affair and changes nothing in a
    /// ring: ORDER_PLATFORM (36), SR_IOV (37), NOTIFICATION_DATA (38, what lies in a kick that reaches us as an eventfd)
    /// and RING_RESET (40, which reaches us as a queue that is stopped and set up anew).
    pub const OF_THE_TRANSPORT: Features = Features(1 << 36 | 1 << 37 | 1 << 38 | 1 << 40);

    /// No feature.
    pub const NONE: Features = Features(0);

    /// From the wire. Bits without a name here are kept: transports have their own.
    pub const fn from_bits(bits: u64) -> Features {
        Features(bits)
    }

    /// For the wire.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all bits of `other` are set.
    #[inline]
    pub const fn contains(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits that are not in `other`.
    pub const fn without(self, other: Features) -> Features {
        Features(self.0 & !other.0)
    }

    /// What a volume offers.
    pub fn offered(geometry: &VolumeGeometry) -> Features {
        let when = |condition: bool, features: Features| if condition { features } else { Features::NONE };
        Features::VERSION_1
            | Features::ANY_LAYOUT
            | Features::NOTIFY_ON_EMPTY
            | Features::INDIRECT_DESC
            | Features::EVENT_IDX
            | Features::SIZE_MAX
            | Features::SEG_MAX
            | Features::BLK_SIZE
            | Features::TOPOLOGY
            | Features::FLUSH
            | Features::CONFIG_WCE
            | when(geometry.queues > 1, Features::MQ)
            | when(geometry.read_only, Features::RO)
            | when(geometry.discard && !geometry.read_only, Features::DISCARD)
            | when(
                geometry.write_zeroes && !geometry.read_only,
                Features::WRITE_ZEROES,
            )
    }
}

impl BitOr for Features {
    type Output = Features;

    fn bitor(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }
}

impl BitAnd for Features {
    type Output = Features;

    fn bitand(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }
}

impl std::fmt::Debug for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Features({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_words::Sectors;

    #[test]
    fn what_is_offered_follows_the_volume_and_nothing_else() {
        for bits in 0..16u16 {
            let [many, read_only, discard, write_zeroes] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let offered = Features::offered(&VolumeGeometry {
                sectors: Sectors(8),
                block_bytes: 512,
                physical_block_bytes: 512,
                optimal_io_bytes: 0,
                read_only,
                queues: if many { 2 } else { 1 },
                discard,
                discard_alignment_bytes: 0,
                write_zeroes,
                writeback: false,
            });
            // By the numbers of the standard (virtio 1.3, 5.2.3, 6 and 6.3).
            let always = [1, 2, 6, 9, 10, 11, 24, 27, 28, 29, 32];
            let when = [
                (5, read_only),
                (12, many),
                (13, discard && !read_only),
                (14, write_zeroes && !read_only),
            ];
            let expected = always.into_iter().map(|bit| (bit, true)).chain(when);
            let expected = expected.fold(0u64, |all, (bit, is_there)| all | u64::from(is_there) << bit);
            assert_eq!(offered.bits(), expected, "{bits:#x}");
        }
    }

    #[test]
    fn sets_of_features_are_sets() {
        let (some, others) = (Features::from_bits(0b0110), Features::from_bits(0b1100));
        assert_eq!((some | others).bits(), 0b1110);
        assert_eq!((some & others).bits(), 0b0100);
        assert_eq!(some.without(others).bits(), 0b0010);
        assert!((some | others).contains(some) && some.contains(Features::NONE));
        assert!(!some.contains(others) && !some.contains(Features::from_bits(1)));
    }
}
