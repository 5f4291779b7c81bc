//! Disks are found under other paths, all in one step: two that have exchanged theirs could not be told of one after
//! the other, because no two disks may have one path.

use super::disk::rules_of_medium;
use super::text::path_is_good;
use super::{expect_revision, not_found, require};
use crate::argument::{Field, Rule};
use crate::cluster::Cluster;
use crate::command::{Outcome, RelocateDisks, Relocation};
use crate::disk::Medium;
use crate::refusal::{Kind, Refusal};
use std::collections::BTreeSet;

impl Cluster {
    pub(super) fn relocate_disks(&mut self, relocate: &RelocateDisks) -> Result<Outcome, Refusal> {
        let (mut told, mut moved) = (BTreeSet::new(), BTreeSet::new());
        for relocation in &relocate.disks {
            let name = &relocation.name;
            let once = told.insert(name);
            require(once, Kind::Disk, name, Field::Disks, Rule::Once)?;
            if self.move_disk(relocation)? {
                moved.insert(name);
            }
        }
        // Only now: on the way to its own path each of them may have had another's.
        for name in &moved {
            let Some(disk) = self.disks.get(*name) else {
                continue;
            };
            if let Some(other) = self.disk_with_medium(Some(name), &disk.node, &disk.medium) {
                return Err(Refusal::MediumTaken { disk: other.clone() });
            }
        }
        let latest = told
            .iter()
            .filter_map(|name| self.disks.get(*name))
            .map(|disk| disk.revision);
        let revision = latest.max().unwrap_or_default();
        match moved.is_empty() {
            true => Ok(Outcome::Unchanged { revision }),
            false => Ok(Outcome::Changed { revision }),
        }
    }

    /// Whether that was another path than it had, or another medium, or ends that it is held.
    fn move_disk(&mut self, relocation: &Relocation) -> Result<bool, Refusal> {
        let Relocation {
            name,
            uuid,
            path,
            found,
            ..
        } = relocation;
        let revision = self.generation;
        let disk = self.disks.get_mut(name).filter(|disk| disk.uuid == *uuid);
        let disk = disk.ok_or_else(|| not_found(Kind::Disk, name))?;
        expect_revision(Kind::Disk, name, relocation.expected, disk.revision)?;
        require(path_is_good(path), Kind::Disk, name, Field::Path, Rule::Path)?;
        let (mut medium, mut record) = (disk.medium.clone(), &disk.record);
        let (Medium::File { path: before, .. } | Medium::Block { path: before, .. }) = &mut medium else {
            let rule = Rule::PathOfMedium;
            return require(false, Kind::Disk, name, Field::Path, rule).map(|()| false);
        };
        before.clone_from(path);
        if let Some(found) = found {
            record = &found.record;
            if let Medium::Block { wwid, .. } = &mut medium {
                wwid.clone_from(&found.wwid);
            }
            rules_of_medium(name, &medium, record)?;
        }
        let held = disk.held.filter(|_| !relocation.confirmed);
        if disk.medium == medium && disk.record == *record && disk.held == held {
            return Ok(false);
        }
        disk.record = record.clone();
        disk.medium = medium;
        disk.held = held;
        disk.revision = revision;
        if relocation.confirmed {
            disk.forget_past();
        }
        Ok(true)
    }
}
