//! A copy of a disk from before that was made larger, in the disk's place: it is shorter than the disk, and nothing was cut off
//! from it.

use crate::superblocks;
use palisade_api::size::human;
use palisade_model::{Disk, Medium};
use palisade_sys::Opened;
use palisade_words::{Generation, Name, SECTOR_BYTES};

/// Such a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SmallerCopy {
    sectors: u64,
    generation: Generation,
}

impl SmallerCopy {
    /// Whether a medium is one.
    pub fn of(disk: &Disk, opened: &Opened) -> Option<SmallerCopy> {
        let sectors = opened.sectors().0;
        if sectors >= disk.sectors || !disk.has_superblock() {
            return None;
        }
        let superblock = superblocks::read(opened).ok()?.superblock;
        (superblock.disk == disk.uuid && superblock.disk_sectors == sectors).then_some(SmallerCopy {
            sectors,
            generation: superblock.generation,
        })
    }

    /// What is told of it.
    pub fn told(&self, name: &Name, disk: &Disk) -> String {
        let path = disk.medium.path().unwrap_or_default();
        format!(
            "{path} is an older copy of disk {name}, from before that was made larger: its superblock, of generation {}, knows of \
             {}, and the disk has {}. What guests have written since is not on it",
            self.generation,
            human(self.sectors * SECTOR_BYTES),
            human(disk.sectors * SECTOR_BYTES)
        )
    }

    /// What to do about it.
    pub fn remedy(&self, name: &Name, disk: &Disk) -> String {
        let (path, bytes) = (
            disk.medium.path().unwrap_or_default(),
            disk.sectors * SECTOR_BYTES,
        );
        let longer = match disk.medium {
            Medium::File { .. } => {
                format!("make the copy as long as the disk is (truncate -s {bytes} {path})")
            }
            _ => format!("make the device as large as the disk is ({bytes} bytes)"),
        };
        format!(
            "bring the right medium back; or {longer}, and decide then, with what each side knows: palisade disk adopt {name} \
             --take disk"
        )
    }
}
