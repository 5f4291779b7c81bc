//! What was last read of a disk that may not be used. It is closed between two looks, so what is told of it may be stale,
//! and is told with its age.

use super::{OpenDisk, Plant};
use palisade_words::Name;
use std::time::{Duration, Instant};

/// What was last read of a disk that may not be used.
#[derive(Clone, Debug)]
pub struct LastRead {
    /// When the look at it ended.
    pub at: Instant,
    /// What is not as it should be with its superblock, in words.
    pub damage: Vec<String>,
    /// Which volumes each side knows, where its medium is an older copy.
    pub sides: Option<String>,
}

impl LastRead {
    /// Of a disk that is being closed.
    pub fn of(open: &OpenDisk) -> LastRead {
        LastRead {
            at: Instant::now(),
            damage: open.superblock_damage.clone(),
            sides: open.sides.clone(),
        }
    }
}

impl Plant {
    /// What is not as it should be with the superblocks of disks, open or refused.
    pub fn superblock_damage(&self) -> impl Iterator<Item = (&Name, &[String])> {
        let open = self
            .disks
            .iter()
            .map(|(name, open)| (name, &open.superblock_damage[..]));
        let closed = self
            .refused
            .iter()
            .filter(|(name, _)| !self.disks.contains_key(*name));
        let all = open.chain(closed.map(|(name, last)| (name, &last.damage[..])));
        all.filter(|(_, damage)| !damage.is_empty())
    }

    /// Which volumes each side knows, where the medium of a disk is an older copy.
    pub fn sides(&self, disk: &Name) -> Option<&String> {
        match self.disks.get(disk) {
            Some(open) => open.sides.as_ref(),
            None => self.refused.get(disk)?.sides.as_ref(),
        }
    }

    /// How old what is told of a refused disk is, in a sentence; `None` for any other disk.
    pub fn age_of_last_read(&self, disk: &Name, now: Instant) -> Option<String> {
        let refused = self.observed.refused.get(disk)?;
        let age = now.saturating_duration_since(self.refused.get(disk)?.at);
        let wait = Duration::from_millis(refused.look_at_ms.saturating_sub(refused.closed_at_ms));
        let mut told = format!(
            "it was last read {} s ago and is closed between two looks, so that its owner or another program can open it; the \
             next look is due in {} s",
            age.as_secs(),
            wait.saturating_sub(age).as_secs()
        );
        // Only what keeps a superblock can be asked what it knows.
        if refused.disk.has_superblock() {
            told = format!("{told}, or at once when `palisade disk adopt {disk}` asks");
        }
        Some(told)
    }
}
