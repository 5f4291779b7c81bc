//! The disks of a scenario, and what each generation of the log says of them.

use super::commands::{DISK_SECTORS, DISKS};
use super::drive::Drive;
use super::name;
use super::node::Drives;
use crate::rng::Rng;
use palisade_model::Cluster;
use palisade_volume::image;
use palisade_wire::{DecodeError, ExtentRecord};
use palisade_words::{Generation, Name, Uuid};
use std::collections::BTreeMap;

/// What a disk of a permanent id says at a generation.
type Tables = BTreeMap<(Uuid, Generation), Vec<ExtentRecord>>;

/// All of them.
pub(super) struct Disks {
    /// Their media.
    pub drives: Drives,
    tables: Tables,
}

impl Disks {
    pub(super) fn new(rng: &mut Rng) -> Result<Disks, String> {
        let mut drives = Drives::new();
        for number in 0..DISKS {
            let block_bytes = if rng.one_in(2) { 512 } else { 4096 };
            drives.insert(name("disk", number)?, Drive::new(DISK_SECTORS, block_bytes));
        }
        Ok(Disks {
            drives,
            tables: Tables::new(),
        })
    }

    /// What a cluster that was agreed on says of each disk.
    pub(super) fn note(&mut self, cluster: &Cluster) {
        for (name, disk) in &cluster.disks {
            if let Ok(image) = image(cluster, name) {
                let key = (disk.uuid, image.superblock.generation);
                self.tables.insert(key, image.extents);
            }
        }
    }

    /// Each disk says what one generation of the log says, or nothing where nothing is promised yet.
    pub(super) fn check(&self, cluster: &Cluster) -> Result<(), String> {
        for (name, drive) in &self.drives {
            let wanted = cluster.disks.get(name);
            match drive.read() {
                Ok(found) => {
                    let (disk, generation) = (found.superblock.disk, found.superblock.generation);
                    match self.tables.get(&(disk, generation)) {
                        None => {
                            return Err(format!(
                                "{name} says generation {generation}, which the log has not"
                            ));
                        }
                        Some(table) if *table != found.extents => {
                            return Err(format!(
                                "{name} says something else at generation {generation} than was agreed on"
                            ));
                        }
                        Some(_) => {}
                    }
                }
                Err(error)
                    if wanted.is_some_and(|disk| disk.first_superblock.is_on_medium() && !disk.leaving) =>
                {
                    return Err(format!("{name} has lost its superblock: {error}"));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// When nothing more happens the disks say what the cluster says, all of it.
    pub(super) fn are_as_wanted(&self, cluster: &Cluster) -> Result<(), String> {
        self.check(cluster)?;
        let mut drives = self.drives.iter();
        drives.try_for_each(|(name, drive)| Disks::is_as_wanted(name, drive, cluster))
    }

    fn is_as_wanted(name: &Name, drive: &Drive, cluster: &Cluster) -> Result<(), String> {
        let Some(disk) = cluster.disks.get(name) else {
            // What has left the cluster has left nothing behind, whatever came between the two.
            return match drive.read() {
                Err(DecodeError::NotOurs) => Ok(()),
                found => Err(format!("{name} has left, and carries {found:?}")),
            };
        };
        let found = drive.read().map_err(|error| format!("{name} at rest: {error}"))?;
        let wanted = image(cluster, name).map_err(|error| error.to_string())?;
        let is_whole = found.extents == wanted.extents
            && found.superblock.generation == wanted.superblock.generation
            && found.superblock.disk == disk.uuid
            && found.damage.is_empty();
        match is_whole && disk.first_superblock.is_on_medium() {
            true => Ok(()),
            false => Err(format!(
                "{name} at rest does not say what the cluster says: generation {} for {}, {:?}, {:?}",
                found.superblock.generation,
                wanted.superblock.generation,
                disk.first_superblock,
                found.damage
            )),
        }
    }
}
