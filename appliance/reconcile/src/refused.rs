//! Disks that may not be used: what their medium was found to carry, and when it is looked at again.
//!
//! Nobody but its owner may hold a medium: one that this node does not use may be another's, or an operator's tools are to
//! get at it. So it is open for the time of a look only, and whatever is decided about it is decided by a new look, under
//! the lock.
//!
//! ```text
//! OpenDisk ── may be used ──► kept open
//!    ▲  └──── may not be ───► CloseDisk ──► refused ─┐
//!    └──── 1 s, 2 s, … 60 s, or an operator at once ─┘
//! ```

use crate::backoff::doubled;
use crate::observed::ObservedDisk;
use palisade_model::{Disk, SuperblockState};
use palisade_words::Generation;

/// Wait after the first look that found a medium that may not be used, in ms.
pub const LOOK_MS_FIRST: u64 = 1_000;

/// Longest wait between two looks, in ms: the right medium, when it is back, is found within this.
pub const LOOK_MS_MAX: u64 = 60_000;

/// A disk whose medium may not be used, as it was when it was last read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The disk as it was agreed then.
    pub disk: Disk,
    /// What its medium carried.
    pub superblock: SuperblockState,
    /// The generation of the disk for which that was found out.
    pub looked_for: Generation,
    /// Looks in a row that have found the same.
    pub looks: u32,
    /// When it was closed after the latest look, on the clock of [`Observed::now_ms`](crate::Observed::now_ms).
    pub closed_at_ms: u64,
    /// When it is looked at again, on the same clock.
    pub look_at_ms: u64,
}

impl Refused {
    /// One more look at the medium of a disk has found that it may not be used, and has ended at `now_ms`.
    pub(crate) fn after(before: Option<&Refused>, disk: &Disk, open: &ObservedDisk, now_ms: u64) -> Refused {
        let same = before.filter(|before| {
            before.superblock == open.superblock && before.disk.medium.path() == disk.medium.path()
        });
        let looks = same.map_or(0, |before| before.looks).saturating_add(1);
        Refused {
            disk: open.disk.clone(),
            superblock: open.superblock,
            looked_for: open.looked_for,
            looks,
            closed_at_ms: now_ms,
            look_at_ms: now_ms.saturating_add(look_after_ms(looks)),
        }
    }

    /// Whether it is about this disk.
    pub(crate) fn is_of(&self, disk: Option<&Disk>) -> bool {
        disk.is_some_and(|disk| disk.uuid == self.disk.uuid)
    }

    /// Whether the medium of the disk is to be looked at at `now_ms`: it is time, or something else was agreed on since.
    pub(crate) fn is_due(&self, disk: &Disk, now_ms: u64) -> bool {
        let has_changed = self.disk.revision < disk.revision
            || self.looked_for < disk.superblock_generation()
            || self.disk.medium != disk.medium
            || disk.leaving;
        has_changed || self.look_at_ms <= now_ms
    }
}

/// How long to wait after so many looks in a row that found the same, in ms: twice as long each time, up to
/// [`LOOK_MS_MAX`].
pub fn look_after_ms(looks: u32) -> u64 {
    doubled(LOOK_MS_FIRST, looks, LOOK_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_less_often_up_to_a_bound() {
        let waits: Vec<_> = (1..=8).map(look_after_ms).collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(look_after_ms(u32::MAX), LOOK_MS_MAX);
    }
}
