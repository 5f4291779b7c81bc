//! Positions, counts and sizes: different types, so that one is never taken for another.
//!
//! A sector is always 512 bytes, as in virtio 1.3 section 5.2 ("sector" fields are in 512-byte
//! units whatever `blk_size` says). A volume's logical block may be larger; requests are then multiples of it.

use std::fmt;

/// Bytes in one sector (virtio 1.3, 5.2.6: the unit of `sector` and of the capacity).
pub const SECTOR_BYTES: u64 = 512;

/// A position on a volume or device, in sectors of [`SECTOR_BYTES`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lba(pub u64);

/// A count of sectors of [`SECTOR_BYTES`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sectors(pub u64);

impl Lba {
    /// The position's distance from the start in bytes; `None` when it does not fit 64 bits.
    pub fn checked_bytes(self) -> Option<u64> {
        self.0.checked_mul(SECTOR_BYTES)
    }

    /// The position's distance from the start in bytes. Only for positions already known to lie on a device.
    pub fn bytes(self) -> u64 {
        self.0.wrapping_mul(SECTOR_BYTES)
    }

    /// The position `count` sectors further on; `None` on overflow.
    pub fn checked_add(self, count: Sectors) -> Option<Lba> {
        self.0.checked_add(count.0).map(Lba)
    }

    /// Sectors from `earlier` to here. `earlier` must not lie behind.
    pub fn since(self, earlier: Lba) -> Sectors {
        debug_assert!(earlier <= self);
        Sectors(self.0.wrapping_sub(earlier.0))
    }
}

impl Sectors {
    /// No sectors at all.
    pub const ZERO: Sectors = Sectors(0);

    /// Whole sectors in `bytes`, rounded down.
    pub const fn from_bytes(bytes: u64) -> Sectors {
        Sectors(bytes / SECTOR_BYTES)
    }

    /// The size in bytes. Only for counts already known to lie on a device.
    pub fn bytes(self) -> u64 {
        self.0.wrapping_mul(SECTOR_BYTES)
    }

    /// The size in bytes; `None` when it does not fit 64 bits.
    pub fn checked_bytes(self) -> Option<u64> {
        self.0.checked_mul(SECTOR_BYTES)
    }
}

impl fmt::Debug for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lba {}", self.0)
    }
}

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sectors", self.0)
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_that_do_not_fit_64_bits_are_none() {
        let last = u64::MAX / SECTOR_BYTES;
        assert_eq!(Lba(last).checked_bytes(), Some(last * 512));
        assert_eq!(Lba(last + 1).checked_bytes(), None);
        assert_eq!(Lba(7).checked_bytes(), Some(3584));
        assert_eq!(Lba(7).checked_add(Sectors(u64::MAX - 7)), Some(Lba(u64::MAX)));
        assert_eq!(Lba(7).checked_add(Sectors(u64::MAX - 6)), None);
    }
}
