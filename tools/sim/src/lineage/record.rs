//! What the node keeps beside its database of the superblock that was last on the disk's medium, and the loss of it.
//!
//! The check knows nothing of records: once one is lost it holds whatever is written against what the database says and what
//! the operator has chosen.

use super::{World, work::what};
use crate::rng::Rng;
use palisade_model::{Cluster, Disk};
use palisade_reconcile::SuperblockState;
use palisade_volume::{OnRecord, image};
use palisade_words::{Ancestor, Generation, Name};

/// The record of one disk.
#[derive(Default)]
pub(super) struct Record {
    /// In its file.
    kept: Option<OnRecord>,
    /// What the process that runs has read there, or seen itself.
    seen: Option<OnRecord>,
    /// The node knows nothing of the medium, which has not been level with the database since, nor has an operator chosen it.
    is_lost: bool,
    /// The point at which an operator has chosen the medium, until it is written to.
    chosen: Option<Ancestor>,
    /// When it is lost: drawn apart, so that a life without a loss is the same in every scenario.
    losing: Option<Rng>,
    /// How often a process has begun without one.
    pub losses: u64,
}

impl Record {
    pub(super) fn new(losing: Option<Rng>) -> Record {
        Record {
            losing,
            ..Record::default()
        }
    }

    fn put(&mut self, on_record: OnRecord) {
        (self.kept, self.seen) = (Some(on_record), Some(on_record));
    }

    fn recall(&self) -> Option<OnRecord> {
        self.kept.or(self.seen)
    }

    /// As the daemon asks.
    pub(super) fn of(&self, disk: &Disk) -> OnRecord {
        OnRecord::of(disk, self.recall())
    }

    /// The medium is known to carry this: it was written, or found.
    pub(super) fn keep(&mut self, carries: Generation) {
        let before = self.recall();
        self.chosen = self.chosen.filter(|chosen| chosen.generation == carries);
        self.put(before.map_or(OnRecord::At(carries), |kept| kept.then(carries)));
    }

    /// It is the medium of a disk that has been taken in.
    pub(super) fn keep_of_new(&mut self, carries: Generation) {
        self.put(OnRecord::At(carries));
        (self.is_lost, self.chosen) = (false, None);
    }

    /// An operator has chosen it, over what the disk had.
    pub(super) fn choose(&mut self, point: Ancestor, over: Generation) {
        let carries = point.generation;
        self.put(OnRecord::Chosen { carries, over });
        (self.is_lost, self.chosen) = (false, Some(point));
    }

    /// Another disk has come: nothing is held against it.
    pub(super) fn forget(&mut self) {
        (self.kept, self.seen, self.is_lost, self.chosen) = (None, None, false, None);
    }

    /// The process has ended, and what it had seen with it.
    pub(super) fn end(&mut self) {
        self.seen = None;
        self.is_missed();
    }

    fn is_missed(&mut self) {
        let was_lost = self.is_lost;
        self.is_lost |= self.recall().is_none();
        self.losses += u64::from(self.is_lost && !was_lost);
    }

    /// Now and then the file is lost, while the process runs or not.
    pub(super) fn may_be_lost(&mut self) {
        if self.losing.as_mut().is_some_and(|rng| rng.one_in(30)) {
            self.kept = None;
            self.is_missed();
        }
    }
}

impl World {
    /// What the node keeps when it has opened the disk, as the daemon does.
    pub(super) fn keep_opened(&mut self, found: SuperblockState, level: Generation) {
        let kept = self.record.recall();
        self.record.seen = kept;
        if let SuperblockState::Ours { generation, flawed } = found
            && OnRecord::is_outdated_by(kept, generation, flawed, level)
        {
            self.record.keep(generation);
            if self.last < Some(generation) {
                self.knows(generation);
            }
        }
    }

    /// A medium that says what the database says is the present one, whatever is known of it.
    pub(super) fn is_level(&mut self, cluster: &Cluster, disk: &Name) {
        let (Ok(wanted), Ok(found)) = (image(cluster, disk), self.read()) else {
            return;
        };
        // Also with its table lost: it has been there.
        let mut copies = found.copies.iter().map(|(_, superblock)| superblock);
        if copies.any(|copy| copy.point() == wanted.superblock.point()) {
            self.record.is_lost = false;
        }
    }

    /// Whether nothing is known of the medium.
    pub(super) fn record_is_lost(&self) -> bool {
        self.record.is_lost
    }

    /// Whether nothing is known of the medium, and it is one that somebody may have to be asked about.
    pub(super) fn is_unknown(&self, cluster: &Cluster, disk: &Name) -> bool {
        let is_on_medium = |disk: &Disk| disk.first_superblock.is_on_medium();
        self.record.is_lost && cluster.disks.get(disk).is_some_and(is_on_medium)
    }

    /// Whether an operator has to be asked: nothing is known of the medium, or it is not as it was chosen, or carries less than
    /// was last known to be there, or than it carried when the database took it.
    pub(super) fn is_asked_about(&self, cluster: &Cluster, disk: &Name) -> bool {
        let point = self.read().map(|found| found.superblock.point());
        let is_another = |chosen: Ancestor| point.is_ok_and(|point| point != chosen);
        self.is_unknown(cluster, disk)
            || self.record.chosen.is_some_and(is_another)
            || self.is_before(self.last)
            || self.is_before_what_was_taken()
    }

    /// Whether the medium is a copy from before the database took it: another database was here meanwhile, which took that.
    pub(super) fn is_before_what_was_taken(&self) -> bool {
        self.is_before(self.running.taken)
    }

    fn is_before(&self, generation: Option<Generation>) -> bool {
        let carried = self.read().map(|found| found.superblock.generation);
        carried
            .ok()
            .zip(generation)
            .is_some_and(|(carried, generation)| carried < generation)
    }

    /// The check: nothing is written to a medium of which nothing is known, and that is not level with the database, before its
    /// operator has chosen it. On one that tells of no volume nothing is lost by an erasure that an operator has asked for.
    pub(super) fn is_known(&mut self, cluster: &Cluster, disk: &Name, erases: bool) -> Result<(), String> {
        self.is_level(cluster, disk);
        let Ok(found) = self.read() else { return Ok(()) };
        let loses_nothing = erases && found.extents.is_empty();
        match self.is_unknown(cluster, disk) && !loses_nothing {
            true => Err(format!(
                "a medium of which nothing is on record, of generation {}, is written over by {} before anybody was asked",
                found.superblock.generation,
                what(erases)
            )),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::begin;
    use super::*;
    use crate::rng::RunHash;

    /// A scenario in which the record is hardly ever missed would prove nothing, nor one in which nobody is ever asked.
    #[test]
    fn records_are_missed_often() {
        let (mut losses, mut unknown) = (0, 0);
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            let losing = rng.split("losing");
            let first = begin(&mut rng).unwrap();
            let mut world = World::new(first, super::super::name("n").unwrap(), rng, None);
            world.record = Record::new(Some(losing));
            world.life(&mut RunHash::default()).unwrap();
            losses += world.record.losses;
            let disk = super::super::name("d").unwrap();
            unknown += u64::from(world.is_unknown(&world.running.cluster, &disk));
        }
        assert!(losses > 60, "{losses} losses");
        assert!(unknown > 3, "{unknown} unknown at rest");
    }
}
