//! What was last read of a disk that may not be used. It is closed between two looks, so what is told of it may be stale, and is
//! told with its age.

use crate::disk::DiskState;
use crate::state::NodeState;
use palisade_block::Nanos;
use palisade_reconcile::Refused;
use palisade_words::Name;

/// What was last read of a disk that may not be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastRead {
    /// When the look at it ended.
    pub at: Nanos,
    /// What is not as it should be with its superblock, in words.
    pub damage: Vec<String>,
    /// Which volumes each side knows, where its medium is an older copy.
    pub sides: Option<String>,
}

impl LastRead {
    /// Of a disk that is being closed.
    pub(crate) fn of(open: &DiskState, at: Nanos) -> LastRead {
        LastRead {
            at,
            damage: open.superblock_damage.clone(),
            sides: open.sides.clone(),
        }
    }
}

impl NodeState {
    /// How old what is told of a refused disk is, in a sentence; `None` for any other disk.
    pub fn age_of_last_read(&self, disk: &Name, now: Nanos) -> Option<String> {
        let refused = self.observed.refused.get(disk)?;
        let age_s = now.since(self.refused.get(disk)?.at).0 / 1_000_000_000;
        let wait_s = refused.look_at_ms.saturating_sub(refused.closed_at_ms) / 1_000;
        let mut told = format!(
            "it was last read {age_s} s ago and is closed between two looks, so that its owner or another program can open it; \
             the next look is due in {} s",
            wait_s.saturating_sub(age_s)
        );
        // Only what keeps a superblock can be asked what it knows.
        if refused.disk.has_superblock() {
            told = format!("{told}, or at once when `palisade disk adopt {disk}` asks");
        }
        Some(told)
    }
}

/// What is said of a disk when it is closed for the first time.
pub(crate) fn said(refused: &Refused, name: &Name) -> String {
    let wait_s = refused.look_at_ms.saturating_sub(refused.closed_at_ms) / 1000;
    format!(
        "disk {name} may not be used and is closed, for its owner or another program to open; it is looked at again in {wait_s} \
         s, and less and less often as long as nothing changes"
    )
}
