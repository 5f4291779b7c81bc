//! Disks: opened first, closed last.

use super::{Cause, Planner};
use crate::observed::{ObservedDisk, ObservedRoute};
use crate::refused::Refused;
use crate::step::Action;
use palisade_model::{Cluster, Disk, Kind, SuperblockState};
use palisade_words::{Generation, Name};

impl<'a> Planner<'a> {
    /// Erases and closes disks that are no longer this node's, or leave; and closes those whose medium may not be used: it is
    /// somebody else's, or an operator is to decide about it, and nobody can while it is held here.
    pub(super) fn close_disks(&mut self) {
        let observed = self.observed;
        for (name, open) in &observed.disks {
            let stays = self.wanted_disk(name, open).filter(|disk| !disk.leaving);
            let is_refused = stays.is_some_and(|disk| self.is_refused(name, disk, open));
            if stays.is_some_and(|disk| !self.is_elsewhere(name, disk, open)) && !is_refused {
                continue;
            }
            if let Some(volume) = self.route_to(name).or_else(|| self.clearing_on(name)) {
                // Of one that may not be used it is told why.
                if !is_refused {
                    self.wait_on((Kind::Disk, name), (Kind::Volume, volume));
                }
                continue;
            }
            // What is under way there must have ended: a superblock that is being written would outlive its erasure.
            let generation = self.wanted.generation;
            let disk = name.clone();
            if stays.is_some() {
                self.step(generation, Action::CloseDisk { disk });
            } else if let Some(generation) = self.decided_meanwhile(name, open) {
                self.step(generation, Action::ExamineSuperblock { disk });
            } else if self.is_to_be_erased(name, open) {
                self.step(generation, Action::EraseSuperblock { disk });
            } else {
                self.step(generation, Action::CloseDisk { disk });
            }
        }
    }

    /// Opens disks, takes new sizes into use and keeps superblocks up to date.
    pub(super) fn open_disks(&mut self) {
        let (wanted, observed) = (self.wanted, self.observed);
        for (name, disk) in wanted
            .disks
            .iter()
            .filter(|(_, disk)| *disk.custodian() == *self.node)
        {
            match observed.disks.get(name) {
                None if disk.leaving => self.let_go(name, disk),
                None => self.open_disk(name, disk),
                // It is on its way out.
                Some(_) if disk.leaving => {}
                Some(open) if self.is_elsewhere(name, disk, open) => {}
                Some(open) if open.disk.uuid == disk.uuid => self.keep_disk(name, disk, open),
                // The one of that name before it is being closed.
                Some(_) => {}
            }
        }
    }

    /// A disk that leaves and is not open: closed with nothing of ours on it, or still to be opened for that, as after a
    /// daemon that ended between the two.
    fn let_go(&mut self, name: &Name, disk: &Disk) {
        match self.observed.released.get(&disk.uuid) {
            None if disk.has_superblock() && !self.is_in_other_hands(name, disk) => {
                self.open_disk(name, disk)
            }
            None | Some(false) => {
                let release = Action::ReleaseDisk { disk: name.clone() };
                self.step(self.wanted.generation, release);
            }
            Some(true) => {}
        }
    }

    /// Whether the medium of a disk carried what is not ours to erase when it was last read, which nobody has taken over since,
    /// and cannot be opened now. What is of another disk or cluster cannot be taken over.
    fn is_in_other_hands(&self, name: &Name, disk: &Disk) -> bool {
        let is_others = self
            .refused(name, disk)
            .is_some_and(|refused| match refused.superblock {
                SuperblockState::Foreign => true,
                other => refused.looked_for >= disk.superblock_generation() && !may_be_ours(other),
            });
        let open = Action::OpenDisk { disk: name.clone() };
        is_others && self.observed.failures.contains_key(&open)
    }

    fn open_disk(&mut self, name: &Name, disk: &Disk) {
        if let Some(cause) = held(self.wanted, name, disk) {
            self.wait(Kind::Disk, name, cause);
            return;
        }
        if let Some(refused) = self.refused(name, disk) {
            let is_due = refused.is_due(disk, self.observed.now_ms);
            let open = Action::OpenDisk { disk: name.clone() };
            // Why the latest look has failed is told in place of what the one before it found.
            if !(is_due && self.observed.failures.contains_key(&open)) {
                self.tell_refused(name, disk);
            }
            if !is_due {
                return;
            }
        }
        let path = disk.path_of(self.node);
        let mut others = self.observed.disks.iter();
        let holder = others.find(|(_, open)| path.is_some() && open.disk.path_of(self.node) == path);
        if let Some((other, _)) = holder {
            self.wait_on((Kind::Disk, name), (Kind::Disk, other));
            return;
        }
        self.step(disk.revision, Action::OpenDisk { disk: name.clone() });
    }

    fn keep_disk(&mut self, name: &Name, disk: &Disk, open: &ObservedDisk) {
        let generation = disk.superblock_generation();
        if let Some(cause) = self.unusable(name, disk, open) {
            // The disk has changed since it was looked at, which an operator has brought about who knew.
            match self.is_refused(name, disk, open) {
                true => self.wait(Kind::Disk, name, cause),
                false => self.step(generation, Action::ExamineSuperblock { disk: name.clone() }),
            }
            return;
        }
        if open.disk.revision < disk.revision {
            // The superblock at the tail goes to the new end, so the new size comes first.
            self.step(disk.revision, Action::GrowDisk { disk: name.clone() });
            return;
        }
        let is_written = open.superblock
            == SuperblockState::Ours {
                generation,
                flawed: false,
            };
        if is_written && !disk.first_superblock.is_on_medium() && !open.confirmed {
            self.step(generation, Action::ConfirmSuperblock { disk: name.clone() });
        }
        if !disk.has_superblock() || is_written {
            return;
        }
        self.tell_refused(name, disk);
        match self.route_of_the_gone(name) {
            Some(volume) => self.wait_on((Kind::Disk, name), (Kind::Volume, volume)),
            None => self.step(generation, Action::WriteSuperblock { disk: name.clone() }),
        }
    }

    /// Why nothing may be written to an open disk, if so.
    pub(super) fn unusable(&self, name: &Name, disk: &Disk, open: &ObservedDisk) -> Option<Cause> {
        unusable(self.wanted, name, disk, open.superblock)
    }

    /// Whether an open disk may not be used, and nothing was agreed on since that was found out; or the look after that has
    /// failed.
    fn is_refused(&self, name: &Name, disk: &Disk, open: &ObservedDisk) -> bool {
        let examine = Action::ExamineSuperblock { disk: name.clone() };
        let is_known = open.looked_for >= disk.superblock_generation();
        (is_known || self.observed.failures.contains_key(&examine))
            && self.unusable(name, disk, open).is_some()
    }

    /// What was last read of a disk that may not be used.
    fn refused(&self, name: &Name, disk: &Disk) -> Option<&'a Refused> {
        let refused = self.observed.refused.get(name);
        refused.filter(|refused| refused.is_of(Some(disk)))
    }

    /// Tells why a disk is not used, as long as no look has found it otherwise.
    fn tell_refused(&mut self, name: &Name, disk: &Disk) {
        let refused = self.refused(name, disk);
        let cause = refused.and_then(|refused| unusable(self.wanted, name, disk, refused.superblock));
        if let Some(cause) = cause {
            self.wait(Kind::Disk, name, cause);
        }
    }

    /// Whether what is open is not the disk's medium, and the disk was said to be found under another path since.
    fn is_elsewhere(&self, name: &Name, disk: &Disk, open: &ObservedDisk) -> bool {
        let same = open.disk.uuid == disk.uuid;
        same && open.disk.path_of(self.node) != disk.path_of(self.node)
            && self.unusable(name, disk, open).is_some()
    }

    /// The generation of a disk that leaves, if an operator has decided about what its medium carries since that was looked
    /// at: what was taken over is the disk's own by now, and is not left behind.
    fn decided_meanwhile(&self, name: &Name, open: &ObservedDisk) -> Option<Generation> {
        let leaving = self.wanted_disk(name, open)?;
        let generation = leaving.superblock_generation();
        let decided = open.looked_for < generation && self.unusable(name, leaving, open).is_some();
        (decided && !open.erased).then_some(generation)
    }

    /// A disk that leaves the cluster, or has left it, gives its medium back clean; one that only moved to another node
    /// keeps its superblock. A medium that cannot be erased is not kept open for that once its disk has left.
    fn is_to_be_erased(&self, name: &Name, open: &ObservedDisk) -> bool {
        if let Some(leaving) = self.wanted_disk(name, open) {
            // What cannot be read may be what an erasure has left that was cut off: that is told apart on the medium.
            return leaving.has_superblock() && may_be_ours(open.superblock) && !open.erased;
        }
        let has_left = !self.wanted.disks.values().any(|disk| disk.uuid == open.disk.uuid);
        let is_ours = match open.superblock {
            SuperblockState::Ours { .. } => true,
            // A first write that failed may have left something.
            SuperblockState::Missing => open.touched,
            _ => false,
        };
        let erase = Action::EraseSuperblock { disk: name.clone() };
        has_left && is_ours && !self.observed.failures.contains_key(&erase)
    }

    /// A volume whose route leads to a disk.
    fn route_to(&self, disk: &Name) -> Option<&'a Name> {
        let leads_there = |route: &ObservedRoute| route.extents.iter().any(|extent| extent.disk == *disk);
        let mut routes = self.observed.routes.iter();
        routes
            .find(|(_, route)| leads_there(route))
            .map(|(volume, _)| volume)
    }

    /// A deleted volume whose route still leads to a disk: its extents are not free before that has ended.
    fn route_of_the_gone(&self, disk: &Name) -> Option<&'a Name> {
        let leads_there = |route: &ObservedRoute| route.extents.iter().any(|extent| extent.disk == *disk);
        let is_gone = |name: &Name, route: &ObservedRoute| {
            self.wanted
                .volumes
                .get(name)
                .is_none_or(|volume| volume.uuid != route.uuid)
        };
        let mut routes = self.observed.routes.iter();
        routes
            .find(|(name, route)| leads_there(route) && is_gone(name, route))
            .map(|(volume, _)| volume)
    }
}

/// Why nothing may be written to the medium of a disk that carries this, if so.
pub(crate) fn unusable(
    cluster: &Cluster,
    name: &Name,
    disk: &Disk,
    superblock: SuperblockState,
) -> Option<Cause> {
    if !disk.has_superblock() {
        let foreign = || Cause::SuperblockOnWhole { disk: name.clone() };
        return held(cluster, name, disk).or_else(|| (superblock == SuperblockState::Foreign).then(foreign));
    }
    match superblock {
        SuperblockState::Foreign => Some(Cause::ForeignSuperblock),
        SuperblockState::Newer { generation } => Some(Cause::NewerSuperblock { generation }),
        SuperblockState::Older { generation, last } => Some(Cause::OlderSuperblock { generation, last }),
        SuperblockState::Diverged { generation } => Some(Cause::DivergedSuperblock { generation }),
        SuperblockState::EndLost { tail, .. } => Some(Cause::EndLost { tail }),
        SuperblockState::Ours { .. } => None,
        SuperblockState::Damaged => Some(Cause::DamagedSuperblock),
        SuperblockState::Occupied => Some(Cause::OccupiedMedium),
        SuperblockState::Missing => is_lost(cluster, name, disk).then_some(Cause::LostSuperblock),
    }
}

/// Why a disk is not even looked at, if so.
fn held(cluster: &Cluster, name: &Name, disk: &Disk) -> Option<Cause> {
    disk.held.map(|_| Cause::HeldDisk {
        disk: name.clone(),
        volumes: cluster.volumes_on(name),
    })
}

/// Whether something of ours may be on a medium that carries this, to be erased when its disk leaves.
fn may_be_ours(superblock: SuperblockState) -> bool {
    matches!(
        superblock,
        SuperblockState::Ours { .. }
            | SuperblockState::Missing
            | SuperblockState::EndLost { .. }
            | SuperblockState::Damaged
            | SuperblockState::Occupied
            | SuperblockState::Older { .. }
    )
}

/// Whether a superblock that is not there has been lost: it was on the medium, and something lies on the disk.
pub(crate) fn is_lost(cluster: &Cluster, name: &Name, disk: &Disk) -> bool {
    let is_used = cluster.extents_on(name).next().is_some() || cluster.fragments_on(name).next().is_some();
    disk.first_superblock.is_on_medium() && is_used
}
