//! What the planner is told of a medium: one decision, for the daemon and for whoever simulates it.

use crate::image::Image;
use crate::standing::{Standing, judged};
use palisade_model::{Cluster, Disk, Generation, Superblock};
use palisade_wire::{DecodeError, Decoded, Lba, Sector, is_cut_off_write_of};

/// What a medium carries, from what was `found` on it, what it should say, and the generation of the superblock that was
/// `last` known to be on the disk's medium, if any was. `is_cut_off` is asked only when nothing of what is there can be used
/// ([`is_first_write_cut_off`]).
///
/// # Errors
/// It cannot be read, or was written by a later version.
pub fn carried(
    found: &Result<Decoded, DecodeError>,
    wanted: &Image,
    last: Option<Generation>,
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
    if let Some(last) = gone_back(&standing, found, last) {
        return Ok(Superblock::Older { generation, last });
    }
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

/// The generation that a medium has gone back from, if it has: the database has grown out of what it carries, and of what it
/// was `last` known to carry, which was later. That is no crash, which leaves a medium at what was recorded or beyond it, but
/// an older copy, put in the disk's place.
///
/// One that says exactly what the database says is in force whatever was known before: both were put back, together.
pub(crate) fn gone_back(
    standing: &Standing,
    found: &Decoded,
    last: Option<Generation>,
) -> Option<Generation> {
    let is_behind = matches!(standing, Standing::Behind | Standing::Unstamped);
    last.filter(|last| is_behind && newest(found) < *last)
}

/// The latest generation that a sound copy of the superblock tells of, also one whose table is lost: a medium that has been
/// there is no copy from before.
pub(crate) fn newest(found: &Decoded) -> Generation {
    let copies = found.copies.iter().map(|(_, superblock)| superblock);
    let all = copies.chain([&found.superblock]);
    Generation(
        all.map(|superblock| superblock.generation)
            .max()
            .unwrap_or_default(),
    )
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
