//! An operator puts an older copy of the medium in the disk's place. Everything on it is of the disk's own lineage, and no
//! table on it is one that the database never had: what is gone is what guests have written since.
//!
//! The check compares no generations: it counts the configurations that the node has known to be on the medium.

use super::{World, name};
use palisade_model::Cluster;
use palisade_reconcile::SuperblockState;
use palisade_volume::image;
use palisade_words::{Generation, Name};

/// What is known of an older copy in the disk's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restored {
    /// Configurations that had been on the medium when it was made.
    then: u64,
    /// Those that had been there when it took the medium's place.
    now: u64,
}

impl World {
    /// A copy of the medium is made, or the one that was made takes its place while the process is down.
    pub(super) fn restore_medium(&mut self) -> Result<(), String> {
        match self.copy.take().filter(|_| self.rng.one_in(2)) {
            Some((copy, then)) => {
                self.restart(true)?;
                let point = |world: &World| world.read().map(|found| found.superblock.point());
                let before = point(self);
                self.medium = copy;
                // What was there is gone by the operator's hand, also where nothing has come in its place.
                self.carried = Vec::new();
                let now = self.known;
                let differs = point(self).is_ok_and(|point| before.as_ref() != Ok(&point));
                // Of another disk than the one that the node has now it keeps nothing.
                let now_has = self.running.cluster.disks.get(&name("d")?).map(|disk| disk.uuid);
                let is_its = self
                    .read()
                    .is_ok_and(|found| Some(found.superblock.disk) == now_has);
                // The owner may have brought the medium there before the node knew of it.
                let is_last_known = self.counted.is_some() && point(self).ok() == self.counted;
                if now > then && differs && is_its && !is_last_known {
                    self.left = Some(Restored { then, now });
                }
                self.restart(false)
            }
            None if self.works.is_empty() => {
                let copy = self.medium.copy();
                self.copy = Some((copy, self.known));
                // Something is done before it is needed.
                for _ in 0..self.rng.between(1, 4) {
                    self.command()?;
                }
                for _ in 0..self.rng.below(400) {
                    self.turn()?;
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What the node keeps of a superblock that is sound on the medium.
    pub(super) fn keep(&mut self, there: SuperblockState) {
        if let SuperblockState::Ours {
            generation,
            flawed: false,
        } = there
        {
            self.record.keep(generation);
            self.knows(generation);
        }
    }

    /// The node knows a superblock to be on the medium from now on: it has written or found it, or an operator has taken it.
    pub(super) fn knows(&mut self, generation: Generation) {
        // A database that has come back to its own disk, unchanged since, knows nothing new by that.
        let there = self.read().ok().map(|found| found.superblock.point());
        let is_counted = there.is_some() && there == self.counted;
        self.known += u64::from(self.last != Some(generation) && !is_counted);
        self.counted = there;
        self.last = Some(generation);
    }

    /// What the medium says has changed by a bit that has turned. Where the latest superblock was in one place only, because the
    /// process ended while it was written, what is left is as good as an older copy.
    pub(super) fn has_turned(&mut self) {
        let carries = self.read().ok().map(|found| found.superblock.generation);
        match self.last.zip(carries) {
            Some((last, carries)) if carries < last => {
                let now = self.known;
                let then = now.saturating_sub(1);
                self.left = Some(Restored { then, now });
            }
            // A bit that has turned back brings the later one back.
            Some(_) => self.left = None,
            None => {}
        }
    }

    /// The check: nothing is written to an older copy whose operator has not chosen.
    pub(super) fn is_chosen(&self, what: &str) -> Result<(), String> {
        match self.left {
            Some(Restored { then, now }) => Err(format!(
                "an older copy of the medium, of configuration {then} where {now} had been on it, is written over by {what} \
                 before anybody was asked"
            )),
            None => Ok(()),
        }
    }

    /// A database that says what the copy says was put back with it: nobody has anything to choose.
    pub(super) fn is_the_same_time(&mut self, cluster: &Cluster, disk: &Name) -> Result<(), String> {
        let wanted = image(cluster, disk).map_err(|error| error.to_string())?;
        let Ok(found) = self.read() else { return Ok(()) };
        if found.superblock.point() == wanted.superblock.point() {
            self.left = None;
            self.knows(found.superblock.generation);
        }
        Ok(())
    }
}
