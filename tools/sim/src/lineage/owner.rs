//! The right owner of a medium that the node may not use: another node's daemon, which opens its own disk, works on it, and
//! lets go of it. While it has it the node cannot open it; what it leaves there is looked at anew.
//!
//! The check: a medium that the node refuses is not held by it for longer than a look takes.

use super::{Database, World, name};
use crate::finding::Invariant;
use crate::plan::Break;
use palisade_model::{ChangeVolume, Clear, Command, GrowVolume};
use palisade_reconcile::SuperblockState;
use palisade_volume::{Bare, Known, image, renewal};
use palisade_words::Lba;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS;

/// Rounds of planning within which a medium that is refused must be closed: it is opened, perhaps looked at once more because
/// something was decided meanwhile, and closed when every reactor has let go of it, each of whose words may come rounds later.
const HELD_ROUNDS_MAX: u32 = 12;

/// Rounds that the owner stays for at most.
const OWNER_ROUNDS_MAX: u64 = 40;

/// Who has the medium locked.
pub(super) struct Lock {
    /// The node.
    held: bool,
    /// Rounds for which it has been held although it is refused.
    refused_rounds: u32,
    /// Its owner, for so many rounds more.
    owner_rounds: u64,
    /// How often the owner has come.
    visits: u64,
    /// It was held for too long.
    is_kept: bool,
    broken: Option<Break>,
}

impl Lock {
    pub(super) fn new(broken: Option<Break>) -> Lock {
        Lock {
            held: false,
            refused_rounds: 0,
            owner_rounds: 0,
            visits: 0,
            is_kept: false,
            broken,
        }
    }

    /// What a finding is about.
    pub(super) fn is_about(&self) -> Invariant {
        match self.is_kept {
            true => Invariant::Isolation,
            false => Invariant::OneLineage,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    pub(super) fn has_owner(&self) -> bool {
        self.owner_rounds > 0
    }

    pub(super) fn open(&mut self) {
        self.held = true;
    }

    pub(super) fn close(&mut self) {
        // The deliberate fault: the effect is not carried out.
        if self.broken != Some(Break::KeepsRefused) {
            self.held = false;
        }
    }

    /// The process has ended, and time has gone by.
    pub(super) fn end(&mut self) {
        (self.held, self.owner_rounds, self.refused_rounds) = (false, 0, 0);
    }
}

impl World {
    /// The check, after a round of planning.
    pub(super) fn is_let_out_of_hand(&mut self) -> Result<(), String> {
        self.lock.owner_rounds = self.lock.owner_rounds.saturating_sub(1);
        let known = self.last_read()?;
        let is_refused = known
            .is_some_and(|known| !matches!(known, SuperblockState::Ours { .. } | SuperblockState::Missing));
        self.lock.refused_rounds = match self.lock.held && is_refused && self.works.is_empty() {
            true => self.lock.refused_rounds + 1,
            false => 0,
        };
        if self.lock.refused_rounds <= HELD_ROUNDS_MAX {
            return Ok(());
        }
        self.lock.is_kept = true;
        Err(format!(
            "a medium that is refused ({known:?}) is held for {} rounds, and its owner cannot open it",
            self.lock.refused_rounds
        ))
    }

    /// The owner of what is on the medium comes for it, if the node does not use it: it changes something, and stays a while.
    pub(super) fn owner_comes(&mut self) -> Result<(), String> {
        // Nobody else has an older copy of this node's own medium; and nobody gets at one in use.
        if self.left.is_some() || self.lock.held || !self.works.is_empty() {
            return Ok(());
        }
        let Ok(found) = self.read() else { return Ok(()) };
        // One that has given the disk up comes for it no more.
        let disk = name("d")?;
        let knows = |one: &Database| {
            one.marks.last() == Some(&found.superblock.point()) && one.cluster.disks.contains_key(&disk)
        };
        let Some(index) = self.kept.iter().position(knows) else {
            return Ok(());
        };
        let volume = name(&format!("v{}", self.rng.below(4)))?;
        let (grow, change) = (
            Command::GrowVolume(GrowVolume {
                name: volume.clone(),
                sectors: 2 * ALLOCATION_UNIT_SECTORS,
                disk: None,
                expected: None,
                clears: false,
            }),
            Command::ChangeVolume(ChangeVolume {
                name: volume,
                protected: None,
                clear: Some(Clear::OnDelete),
                expected: None,
            }),
        );
        let owner = self.kept.swap_remove(index);
        let node = std::mem::replace(&mut self.running, owner);
        // Its lineage goes on also when nothing of the disk changes by what it does.
        self.apply(&change);
        self.apply(&grow);
        let written = image(&self.running.cluster, &name("d")?).map_err(|error| error.to_string());
        let owner = std::mem::replace(&mut self.running, node);
        self.kept.push(owner);
        let bare = || Bare {
            pending: false,
            examined: false,
            blank: false,
            cut_off: false,
        };
        let phases = renewal(&Ok(found), &written?, Known::NOTHING, bare);
        for phase in phases.unwrap_or_default() {
            for write in phase.writes {
                self.medium.write(Lba(write.lba.0), &write.bytes, true, || true);
            }
        }
        if let Ok(found) = self.read() {
            self.carried = found.extents;
        }
        self.lock.owner_rounds = self.rng.between(1, OWNER_ROUNDS_MAX);
        self.lock.visits += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::begin;
    use super::*;
    use crate::rng::{Rng, RunHash};

    /// A scenario to which no owner comes would prove nothing.
    #[test]
    fn owners_come_often() {
        let mut visits = 0;
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            let first = begin(&mut rng).unwrap();
            let mut world = World::new(first, name("n").unwrap(), rng, None);
            world.life(&mut RunHash::default()).unwrap();
            visits += world.lock.visits;
        }
        assert!(visits > 30, "{visits} visits");
    }
}
