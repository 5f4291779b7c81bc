//! Clearing volumes' space: between disks and routes.

use super::{Cause, Planner, share};
use crate::observed::ObservedClearing;
use crate::step::Action;
use palisade_model::{Disk, Extent, Kind, SuperblockState, Usage, Volume};
use palisade_words::Name;

/// Volumes whose space is cleared at a time: enough that a small one does not wait for a large one behind which it
/// happens to stand, few enough that guests' requests are not crowded out.
pub const CLEARINGS_MAX: usize = 4;

impl<'a> Planner<'a> {
    /// Ends clearings of what is no longer to be cleared.
    pub(super) fn stop_clearings(&mut self) {
        let observed = self.observed;
        for (name, clearing) in &observed.clearings {
            let is_in_doubt = || self.disk_ahead_of(&clearing.extents).is_some();
            let goes_on = self.is_to_be_cleared(name, clearing)
                && !self.is_estranged(&clearing.extents)
                && !is_in_doubt();
            if clearing.stopping || goes_on {
                continue;
            }
            let generation = self.wanted.generation;
            self.step(generation, Action::StopClearing { volume: name.clone() });
        }
    }

    /// Clears what is not known to be clear, once nobody can use it and the disks have it on record.
    pub(super) fn clear_volumes(&mut self) {
        let (wanted, observed) = (self.wanted, self.observed);
        let mut under_way = observed.clearings.len();
        for (name, volume) in &wanted.volumes {
            let Some(clearing) = volume.clearing else { continue };
            // One under way goes on, or makes room by its end.
            if wanted.node_of(name) != Some(self.node) || observed.clearings.contains_key(name) {
                continue;
            }
            if clearing.held {
                let cause = Cause::HeldClearing {
                    volume: name.clone(),
                    deleting: volume.deleting,
                };
                self.wait(Kind::Volume, name, cause);
                continue;
            }
            // What it will lead to is known at its end.
            let volume_is_routed = Action::SetRoute { volume: name.clone() };
            if observed.under_way.contains(&volume_is_routed) {
                continue;
            }
            let before = self.steps.len();
            match self.obstacle_to_clearing(volume) {
                Some(on) => self.wait_on((Kind::Volume, name), on),
                None if under_way >= CLEARINGS_MAX => self.wait_for_a_turn(name),
                None => self.step(clearing.since, Action::ClearVolume { volume: name.clone() }),
            }
            under_way += self.steps.len() - before;
        }
    }

    /// A volume's space is being cleared on a disk.
    pub(super) fn clearing_on(&self, disk: &Name) -> Option<&'a Name> {
        let lies_there = |clearing: &ObservedClearing| clearing.extents.iter().any(|e| e.disk == *disk);
        let mut clearings = self.observed.clearings.iter();
        clearings
            .find(|(_, clearing)| lies_there(clearing))
            .map(|(volume, _)| volume)
    }

    fn is_to_be_cleared(&self, name: &Name, clearing: &ObservedClearing) -> bool {
        let volume = self.wanted.volumes.get(name);
        let same = volume.filter(|volume| volume.uuid == clearing.uuid);
        // What a guest may use by now begins before that. And where less is clear than was when it began, the volume has been
        // emptied since: the end of this one would be taken for the end of that.
        same.and_then(|volume| volume.clearing).is_some_and(|wanted| {
            let starts_inside = wanted.from <= clearing.start && clearing.start <= wanted.cleared;
            !wanted.held && starts_inside
        })
    }

    /// What a clearing has to wait for: a disk that is not ready or does not know yet that the space is the volume's, a
    /// route that still leads there, or another clearing of the same space.
    fn obstacle_to_clearing(&self, volume: &'a Volume) -> Option<(Kind, &'a Name)> {
        let uncleared = volume.uncleared_extents();
        let since = volume.clearing.map(|clearing| clearing.since).unwrap_or_default();
        if let Some(disk) = self.disk_not_ready(volume.all_extents(), &uncleared, since) {
            return Some((Kind::Disk, disk));
        }
        if let Some(disk) = self.disk_ahead_of(&uncleared) {
            return Some((Kind::Disk, disk));
        }
        let mut routes = self.observed.routes.iter();
        let route = routes.find(|(_, route)| share(&route.extents, &uncleared));
        let clearing = || {
            let mut clearings = self.observed.clearings.iter();
            clearings.find(|(_, clearing)| share(&clearing.extents, &uncleared))
        };
        let rival = route
            .map(|(other, _)| other)
            .or_else(|| clearing().map(|(other, _)| other));
        rival.map(|other| (Kind::Volume, other))
    }

    /// A disk whose superblock has gone on from the database, or apart from it, or has not been looked at yet, where these
    /// extents lie on one given whole: the database may be an old copy, and no record on such a disk tells whether it is still
    /// to be cleared.
    fn disk_ahead_of(&self, extents: &[Extent]) -> Option<&'a Name> {
        let disks = &self.wanted.disks;
        let is_whole = |extent: &Extent| {
            disks
                .get(&extent.disk)
                .is_some_and(|disk| disk.usage == Usage::Whole)
        };
        if !extents.iter().any(is_whole) {
            return None;
        }
        let may_be_ahead = |(name, disk): &(&Name, &Disk)| {
            let is_asked = *disk.custodian() == *self.node && disk.has_superblock() && !disk.leaving;
            is_asked
                && match self.observed.last_read(name) {
                    Some(SuperblockState::Newer { .. } | SuperblockState::Diverged { .. }) => true,
                    Some(_) => false,
                    // One that cannot be read holds up nobody.
                    None => disk.first_superblock.is_on_medium() && !self.observed.has_failed(name),
                }
        };
        let mut all = disks.iter();
        all.find(may_be_ahead).map(|(name, _)| name)
    }

    fn wait_for_a_turn(&mut self, name: &Name) {
        // With none under way it waits for steps of this plan, which is nothing to be told.
        if let Some(first) = self.observed.clearings.keys().next() {
            self.wait_on((Kind::Volume, name), (Kind::Volume, first));
        }
    }
}
