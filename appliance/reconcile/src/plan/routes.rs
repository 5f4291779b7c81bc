//! Routes: between disks and sockets.

use super::{Planner, share};
use crate::observed::ObservedRoute;
use crate::step::Action;
use palisade_model::{Extent, Kind, Volume};
use palisade_words::{Generation, Name};
use std::collections::BTreeMap;

impl<'a> Planner<'a> {
    /// Ends routes that neither this node's attachments nor other nodes need, or that lead where they may not any more, once
    /// their sockets are gone.
    pub(super) fn clear_routes(&mut self) {
        let observed = self.observed;
        for (name, route) in &observed.routes {
            if self.route_is_wanted(name, route) && !self.misleads(name, route) {
                continue;
            }
            let mut sockets = observed.sockets.iter();
            match sockets.find(|(_, socket)| socket.attachment.volume == *name) {
                Some((socket, _)) => self.wait_on((Kind::Volume, name), (Kind::Attachment, socket)),
                None => {
                    let generation = self.wanted.generation;
                    self.step(generation, Action::ClearRoute { volume: name.clone() });
                }
            }
        }
    }

    /// Takes routes into use for volumes that this node serves.
    pub(super) fn set_routes(&mut self) {
        let observed = self.observed;
        for (name, volume) in self.served.clone() {
            // What is cleared first has no route before.
            if volume.usable_sectors() == 0 {
                continue;
            }
            match observed.routes.get(name) {
                // The one of that name before it is being cleared.
                Some(route) if route.uuid != volume.uuid => continue,
                Some(route) if route.generation > volume.route_generation() => continue,
                Some(route)
                    if route.generation == volume.route_generation()
                        && (!self.is_behind(name, route) || self.misleads(name, route)) =>
                {
                    continue;
                }
                _ => {}
            }
            match self.obstacle(name, volume) {
                Some(on) => self.wait_on((Kind::Volume, name), on),
                None => self.step(
                    volume.route_generation(),
                    Action::SetRoute { volume: name.clone() },
                ),
            }
        }
    }

    /// Whether a route that goes on as it is has to be said anew: to be asked by others than before, or, of one between nodes, in
    /// another membership. What is only this node's own is none of others' business.
    fn is_behind(&self, name: &Name, route: &ObservedRoute) -> bool {
        let askers = match route.reached_by == *self.node {
            true => self.wanted.askers_of(name),
            false => BTreeMap::new(),
        };
        let is_between_nodes = route.reached_by != *self.node || !askers.is_empty();
        let asked_by_others = route.reached_by == *self.node && route.askers != askers;
        asked_by_others || is_between_nodes && route.epoch != self.wanted.epoch
    }

    /// Whether a route leads where its volume's guests may not go, or not any more: to a disk that may not be used, or to
    /// sectors that are not the volume's, or have to be cleared before guests see them. A volume that is emptied, or told of
    /// anew by a disk, has such a route when its disk was not out of service first.
    pub(super) fn misleads(&self, name: &Name, route: &ObservedRoute) -> bool {
        let volume = self.wanted.volumes.get(name);
        let same = volume.filter(|volume| volume.uuid == route.uuid);
        let is_offered = same.is_none_or(|volume| {
            let offered = volume.extents_between(0, route.sectors.min(volume.usable_sectors()));
            joined(&offered) == joined(&route.extents)
        });
        let is_moved = self.wanted.node_of(name) != Some(&route.reached_by);
        let is_own = route.reached_by == *self.node;
        !is_offered || is_moved || is_own && self.is_estranged(&route.extents)
    }

    /// Whether one of these lies on a disk that may not be used any more: it is no longer this node's, or its superblock
    /// is that of somebody else now, or gone. What is written there would be lost, and what is read there may be a
    /// stranger's.
    pub(super) fn is_estranged(&self, extents: &[Extent]) -> bool {
        let is_one = |extent: &Extent| {
            let open = self.observed.disks.get(&extent.disk);
            let disk = open.and_then(|open| Some((open, self.wanted_disk(&extent.disk, open)?)));
            disk.is_none_or(|(open, disk)| self.unusable(&extent.disk, disk, open).is_some())
        };
        extents.iter().any(is_one)
    }

    /// What a volume's route has to wait for: a disk that is not ready, a route that still has its sectors, or a
    /// clearing that may still write zeros there.
    fn obstacle(&self, name: &'a Name, volume: &'a Volume) -> Option<(Kind, &'a Name)> {
        let usable = volume.usable_extents();
        // How it is with the disks of other nodes those know, who are asked.
        let is_own = self.wanted.node_of(name) == Some(self.node);
        let late = || self.disk_not_ready(volume.all_extents(), &usable, volume.route_generation());
        if let Some(disk) = is_own.then(late).flatten() {
            return Some((Kind::Disk, disk));
        }
        let mut others = self.observed.routes.iter().filter(|(other, _)| *other != name);
        let route = others.find(|(_, route)| share(&route.extents, &usable));
        let clearing = || {
            let mut clearings = self.observed.clearings.iter();
            clearings.find(|(_, clearing)| share(&clearing.extents, &usable))
        };
        let rival = route
            .map(|(other, _)| other)
            .or_else(|| clearing().map(|(other, _)| other));
        rival.map(|other| (Kind::Volume, other))
    }

    /// The first of the disks under `used` that is not open, not large enough, or has no record of at least `generation`
    /// of its extents. A superblock that is older than the disk's latest change, but not than `generation`, will do: what
    /// concerns others does not hold up this one. `all` are the extents that `used` are pieces of.
    pub(super) fn disk_not_ready(
        &self,
        all: &'a [Extent],
        used: &[Extent],
        generation: Generation,
    ) -> Option<&'a Name> {
        let is_ready = |extent: &Extent| {
            let end = extent.disk_lba.saturating_add(extent.sectors);
            self.disk_is_ready(&extent.disk, generation, end)
        };
        let late = used.iter().find(|extent| !is_ready(extent))?;
        all.iter()
            .map(|extent| &extent.disk)
            .find(|disk| **disk == late.disk)
    }

    fn disk_is_ready(&self, name: &Name, recorded: Generation, end: u64) -> bool {
        let Some(open) = self.observed.disks.get(name) else {
            return false;
        };
        let Some(disk) = self.wanted_disk(name, open) else {
            return false;
        };
        if open.disk.data_end < end || self.unusable(name, disk, open).is_some() {
            return false;
        }
        match open.superblock {
            _ if !disk.has_superblock() => true,
            found => found.has_reached(recorded),
        }
    }
}

/// The same sectors in the same order, with pieces that continue each other as one.
fn joined(extents: &[Extent]) -> Vec<Extent> {
    let mut all: Vec<Extent> = Vec::new();
    for extent in extents {
        match all.last_mut() {
            Some(last)
                if last.disk == extent.disk
                    && last.disk_lba.checked_add(last.sectors) == Some(extent.disk_lba) =>
            {
                last.sectors = last.sectors.saturating_add(extent.sectors);
            }
            _ => all.push(extent.clone()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(disk: &str, disk_lba: u64, sectors: u64) -> Extent {
        Extent {
            disk: Name::new(disk).unwrap_or_else(|error| panic!("{error}")),
            disk_lba,
            sectors,
        }
    }

    #[test]
    fn only_pieces_that_continue_each_other_are_one() {
        let first = extent("a", 8, 16);
        let next = [first.clone(), extent("a", 24, 8), extent("a", 32, 1)];
        assert_eq!(joined(&next), [extent("a", 8, 25)]);
        // Another disk, a gap, and the other way round.
        for other in [extent("b", 24, 8), extent("a", 25, 8), extent("a", 0, 8)] {
            let both = [first.clone(), other];
            assert_eq!(joined(&both), both);
        }
        assert_eq!(joined(&[]), []);
    }
}
