//! What the planner is told of a medium: one decision, for the daemon and for whoever simulates it.

use crate::image::Image;
use crate::standing::{Standing, judged};
use palisade_model::{Cluster, Disk, Generation, Superblock};
use palisade_wire::{DecodeError, Decoded, Lba, Sector, is_cut_off_write_of};

/// What a medium carries, from what was `found` on it and what it should say. `is_cut_off` is asked only when nothing of what
/// is there can be used ([`is_first_write_cut_off`]).
///
/// # Errors
/// It cannot be read, or was written by a later version.
pub fn carried(
    found: &Result<Decoded, DecodeError>,
    wanted: &Image,
    is_cut_off: impl FnOnce() -> bool,
) -> Result<Superblock, DecodeError> {
    let found = match found {
        Ok(found) => found,
        Err(DecodeError::NotOurs | DecodeError::TooSmall { .. }) => return Ok(Superblock::Missing),
        // Two that contradict each other, or one that says what cannot be, are left by no write: where it is one, an operator
        // has said that this is to take their place.
        Err(DecodeError::Damaged { .. } | DecodeError::Contradiction(_) | DecodeError::Impossible { .. }) => {
            return Ok(match is_cut_off() {
                true => Superblock::Missing,
                false => Superblock::Damaged,
            });
        }
        Err(error) => return Err(error.clone()),
    };
    let (decides, standing) = judged(found, wanted);
    let generation = Generation(decides.generation);
    Ok(match standing {
        Standing::OtherDisk | Standing::OtherCluster => Superblock::Foreign,
        Standing::Ahead => Superblock::Newer { generation },
        Standing::Diverged { .. } | Standing::Differs => Superblock::Diverged { generation },
        Standing::Unstamped => Superblock::Ours {
            generation,
            flawed: true,
        },
        Standing::InForce | Standing::Behind => Superblock::Ours {
            generation,
            flawed: !found.damage.is_empty(),
        },
    })
}

/// Whether what is on a medium of `disk_sectors` units of 512 bytes is what a first write of a disk's superblock has left
/// that was cut off: the cluster waits for that one, and no extent can lie on the disk. `read` gives the 4 KiB at a position.
pub fn is_first_write_cut_off<E>(
    cluster: &Cluster,
    disk: &Disk,
    disk_sectors: u64,
    read: impl FnMut(Lba) -> Result<Sector, E>,
) -> bool {
    let is_pending = !disk.first_superblock.is_on_medium();
    is_pending && is_cut_off_write_of(disk_sectors, disk.uuid.0, cluster.id.0, read)
}
