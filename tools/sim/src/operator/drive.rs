//! A disk's medium, and what the daemon decides by what it carries.

use crate::disk::Medium;
use palisade_model::{Cluster, Disk};
use palisade_reconcile::SuperblockState;
use palisade_volume::{Bare, Known, Leaving, carried, image, is_first_write_cut_off, is_to_be_erased};
use palisade_wire::{AREA_SECTORS, DecodeError, Decoded, SECTOR_4K_BYTES, Sector, decode};
use palisade_words::{Lba, Name, Sectors, Uuid};
use std::convert::Infallible;

/// A disk's medium, which is there whatever the cluster knows of it.
pub(super) struct Drive {
    pub(super) medium: Medium,
    pub(super) sectors: u64,
}

impl Drive {
    pub(super) fn new(sectors: u64, block_bytes: u32) -> Drive {
        Drive {
            medium: Medium::new(Sectors(sectors), block_bytes),
            sectors,
        }
    }

    /// What is there, as a daemon that starts finds it.
    pub(super) fn read(&self) -> Result<Decoded, DecodeError> {
        decode(self.sectors, |lba| Ok::<_, Infallible>(self.sector(lba)))
    }

    /// The disk is added: both ends are wiped of what a torn erasure has left.
    pub(super) fn take(&mut self) {
        for start in [0, self.sectors - AREA_SECTORS] {
            for lba in (start..start + AREA_SECTORS).step_by(8) {
                if self.sector(Lba(lba)) != [0; SECTOR_4K_BYTES] {
                    self.medium.write(Lba(lba), &[0; SECTOR_4K_BYTES], true, || true);
                }
            }
        }
    }

    fn sector(&self, lba: Lba) -> Sector {
        let mut sector = [0; SECTOR_4K_BYTES];
        let bytes = self.medium.read(Lba(lba.0), Sectors(8));
        if bytes.len() == sector.len() {
            sector.copy_from_slice(bytes);
        }
        sector
    }

    pub(super) fn bare(&self, cluster: &Cluster, disk: &Name, examined: bool) -> Bare {
        let ends = [0, self.sectors - AREA_SECTORS];
        let is_zero = |start: u64| {
            let bytes = self.medium.read(Lba(start), Sectors(AREA_SECTORS));
            bytes.iter().all(|byte| *byte == 0)
        };
        Bare {
            pending: is_pending(cluster, disk),
            examined,
            blank: ends.into_iter().all(is_zero),
            cut_off: self.is_cut_off(cluster, disk),
        }
    }

    fn is_cut_off(&self, cluster: &Cluster, disk: &Name) -> bool {
        let read = |lba| Ok::<_, Infallible>(self.sector(lba));
        let disk = cluster.disks.get(disk);
        disk.is_some_and(|disk| is_first_write_cut_off(cluster, disk, self.sectors, read))
    }

    /// The check of a node that is about to write: what the medium carries, where it can be read, is of that disk.
    pub(super) fn is_of(&self, disk: Uuid, node: &Name) -> Result<(), String> {
        match self.read() {
            Ok(found) if found.superblock.disk != disk => Err(format!(
                "{node} writes for disk {disk} to a medium that carries the superblock of disk {}",
                found.superblock.disk
            )),
            _ => Ok(()),
        }
    }

    /// What a process that was killed has left in the device's cache is stable before anybody relies on it.
    pub(super) fn make_stable(&mut self) {
        let mark = self.medium.flush_begin();
        self.medium.flush_end(mark);
    }

    /// What the planner is told of a superblock, as the daemon tells it.
    pub(super) fn superblock(&self, cluster: &Cluster, disk: &Name) -> Result<SuperblockState, String> {
        let wanted = image(cluster, disk).map_err(|error| error.to_string())?;
        carried(&self.read(), &wanted, known(cluster, disk), || {
            self.is_cut_off(cluster, disk)
        })
        .map_err(|error| error.to_string())
    }
}

impl Drive {
    /// As the daemon decides.
    pub(super) fn is_to_be_erased(
        &self,
        cluster: &Cluster,
        disk: &Name,
        known: &Disk,
        touched: bool,
    ) -> Result<bool, String> {
        let leaving = Leaving::of(cluster, disk, known, touched);
        let read = |lba| Ok::<_, Infallible>(self.sector(lba));
        is_to_be_erased(&self.read(), &leaving, self.sectors, read).map_err(|error| error.to_string())
    }
}

pub(super) fn known(cluster: &Cluster, disk: &Name) -> Known {
    let disk = cluster.disks.get(disk);
    disk.map_or(Known::NOTHING, |disk| Known::NOTHING.of(disk))
}

fn is_pending(cluster: &Cluster, disk: &Name) -> bool {
    let found = cluster.disks.get(disk);
    found.is_some_and(|disk| !disk.first_superblock.is_on_medium())
}
