//! Routes: between disks and sockets.

use super::{Planner, overlap};
use crate::observed::Superblock;
use crate::step::Action;
use palisade_model::{Kind, Name, Volume};

impl<'a> Planner<'a> {
    /// Ends routes that no attachment of this node needs, once their sockets are gone.
    pub(super) fn clear_routes(&mut self) {
        let observed = self.observed;
        for (name, route) in &observed.routes {
            if self.route_is_wanted(name, route) {
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

    /// Takes routes into use for volumes attached on this node.
    pub(super) fn set_routes(&mut self) {
        let (wanted, observed) = (self.wanted, self.observed);
        for (name, volume) in &wanted.volumes {
            if !self.attached.contains(name) {
                continue;
            }
            match observed.routes.get(name) {
                // The one of that name before it is being cleared.
                Some(route) if route.uuid != volume.uuid => continue,
                Some(route) if route.generation >= volume.revision => continue,
                _ => {}
            }
            match self.obstacle(name, volume) {
                Some(on) => self.wait_on((Kind::Volume, name), on),
                None => self.step(volume.revision, Action::SetRoute { volume: name.clone() }),
            }
        }
    }

    /// What a volume's route has to wait for: a disk that is not ready, or a route that still has its sectors.
    fn obstacle(&self, name: &'a Name, volume: &'a Volume) -> Option<(Kind, &'a Name)> {
        for extent in volume.extents() {
            if !self.disk_is_ready(
                &extent.disk,
                volume,
                extent.disk_lba.saturating_add(extent.sectors),
            ) {
                return Some((Kind::Disk, &extent.disk));
            }
        }
        let others = self.observed.routes.iter().filter(|(other, _)| *other != name);
        let shares = |extents: &[palisade_model::Extent]| {
            extents
                .iter()
                .any(|theirs| volume.extents().iter().any(|ours| overlap(ours, theirs)))
        };
        let mut sharing = others.filter(|(_, route)| shares(&route.extents));
        sharing.next().map(|(other, _)| (Kind::Volume, other))
    }

    /// Whether a disk is open, large enough, and has the volume's extents on record. A superblock that is older than
    /// the disk's latest change, but not than the volume's, will do: what concerns others does not hold up this one.
    fn disk_is_ready(&self, name: &Name, volume: &Volume, end: u64) -> bool {
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
            Superblock::Ours { generation } => generation >= volume.revision,
            Superblock::Missing | Superblock::Foreign => false,
        }
    }
}
