//! Other nodes than its custodian reach a disk, or do no longer. What its superblock says does not change by that, and so
//! neither does the disk's revision.

use super::disk::stays;
use super::text::path_is_good;
use super::{not_found, require};
use crate::argument::{Field, Rule};
use crate::cluster::Cluster;
use crate::command::{AddPath, Outcome, RemovePath};
use crate::disk::{Disk, DiskPath};
use crate::refusal::{Kind, Refusal};
use palisade_words::{Name, Uuid};

impl Cluster {
    pub(super) fn add_path(&mut self, add: &AddPath) -> Result<Outcome, Refusal> {
        let (name, revision) = (&add.disk, self.generation);
        let disk = self.disk_of_id(name, add.uuid)?;
        stays(name, disk)?;
        self.is_member(&add.node)?;
        let rule = |holds, field, rule| require(holds, Kind::Disk, name, field, rule);
        let is_other = *disk.custodian() != add.node;
        rule(is_other, Field::Node, Rule::AnotherNode)?;
        rule(path_is_good(&add.path), Field::Path, Rule::Path)?;
        let is_reachable = disk.medium.path().is_some();
        rule(is_reachable, Field::Path, Rule::PathOfMedium)?;
        if disk.path_of(&add.node) == Some(&*add.path) {
            return Ok(Outcome::Unchanged {
                revision: disk.revision,
            });
        }
        let mut others = self.disks.iter().filter(|(other, _)| *other != name);
        if let Some((other, _)) = others.find(|(_, disk)| disk.path_of(&add.node) == Some(&*add.path)) {
            return Err(Refusal::MediumTaken { disk: other.clone() });
        }
        let path = DiskPath {
            path: add.path.clone(),
            since: revision,
        };
        if let Some(disk) = self.disks.get_mut(name) {
            disk.other_paths.insert(add.node.clone(), path);
        }
        Ok(Outcome::Changed { revision })
    }

    pub(super) fn remove_path(&mut self, remove: &RemovePath) -> Result<Outcome, Refusal> {
        let (name, revision) = (&remove.disk, self.generation);
        let before = self.disk_of_id(name, remove.uuid)?.revision;
        let removed = self
            .disks
            .get_mut(name)
            .and_then(|disk| disk.other_paths.remove(&remove.node));
        match removed {
            Some(_) => Ok(Outcome::Changed { revision }),
            None => Ok(Outcome::Unchanged { revision: before }),
        }
    }

    fn disk_of_id(&self, name: &Name, uuid: Uuid) -> Result<&Disk, Refusal> {
        let found = self.disks.get(name).filter(|disk| disk.uuid == uuid);
        found.ok_or_else(|| not_found(Kind::Disk, name))
    }
}
