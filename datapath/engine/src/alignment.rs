//! What a device asks of the memory that it reads and writes.

use palisade_block::{DeviceLimits, Segment};

/// What a device asks of each segment.
#[derive(Clone, Copy)]
pub(crate) struct Alignment {
    /// Bits that no address may have.
    address_mask: usize,
    /// Bits that no length may have.
    length_mask: usize,
}

impl Alignment {
    /// Anything will do.
    pub(crate) const ANY: Alignment = Alignment {
        address_mask: 0,
        length_mask: 0,
    };

    /// Of a device; both of its units are powers of two.
    #[inline]
    pub(crate) fn of(limits: &DeviceLimits) -> Alignment {
        Alignment {
            address_mask: (limits.memory_alignment as usize).saturating_sub(1),
            length_mask: (limits.length_alignment as usize).saturating_sub(1),
        }
    }
}

/// Whether a device that asks for this can reach the memory as it is.
#[inline]
pub(crate) fn is_aligned(segments: &[Segment], alignment: Alignment) -> bool {
    let (addresses, lengths) = segments.iter().fold((0, 0), |(addresses, lengths), segment| {
        (addresses | segment.address(), lengths | segment.bytes())
    });
    addresses & alignment.address_mask | lengths & alignment.length_mask == 0
}

/// Whether a device can reach the memory as it is. Many ask for nothing, and then the segments are not looked at.
#[inline]
pub(crate) fn is_reached(segments: &[Segment], limits: &DeviceLimits) -> bool {
    limits.memory_alignment | limits.length_alignment <= 1 || is_aligned(segments, Alignment::of(limits))
}
