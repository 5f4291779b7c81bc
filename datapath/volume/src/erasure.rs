//! Whether what a medium carries is to be erased when its disk leaves the cluster: asked with what is on the medium at
//! that very moment. Only what the cluster knows to be its own goes; what grew on elsewhere is left alone.
//!
//! An erasure may be cut off anywhere, and the next daemon asks again. So what it has left, from the first superblock that
//! is gone to the last sector of a table, is told from a superblock that was damaged by itself.

use crate::carried::OnRecord;
use crate::standing::beside;
use palisade_model::{Cluster, Disk, History};
use palisade_wire::{
    DecodeError, Decoded, Part, RecordPlace, Sector, SectorError, Superblock, Why, is_cut_off_erasure_of,
    is_cut_off_write_of,
};
use palisade_words::{Ancestor, Lba, Name, Uuid};

/// What is known of a disk that leaves, or has left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaving {
    /// Its permanent id.
    pub uuid: Uuid,
    /// That of its cluster.
    pub cluster: Uuid,
    /// The generations at which what its superblock says has changed.
    pub history: History,
    /// Its first superblock was still to be written, so that a part of it may be there.
    pub pending: bool,
    /// What is known of the superblock that was last on its medium.
    pub on_record: OnRecord,
}

impl Leaving {
    /// Of a disk that is open: what the cluster knows of it by now, which may be more than when it was opened, or what it knew
    /// then of one that has left. `touched`: a write of its superblock was begun since it was opened.
    pub fn of(cluster: &Cluster, name: &Name, opened: &Disk, touched: bool) -> Leaving {
        let now = cluster.disks.get(name).filter(|disk| disk.uuid == opened.uuid);
        Leaving {
            uuid: opened.uuid,
            cluster: cluster.id,
            history: now.unwrap_or(opened).history.clone(),
            pending: touched || !opened.first_superblock.is_on_medium(),
            on_record: OnRecord::Waived,
        }
    }

    /// The same of a disk of whose medium something is on record.
    #[must_use]
    pub fn held_against(self, on_record: OnRecord) -> Leaving {
        Leaving { on_record, ..self }
    }

    /// Whether what was found is an older copy in the disk's place, or may be one, and not what an erasure that was cut off
    /// has left of the write before the last one, which looks older too.
    fn is_copy(&self, found: &Decoded) -> bool {
        let level = self.history.latest().map(|latest| latest.generation);
        self.on_record.ahead_of(found, level).is_some() && !is_being_erased(found)
    }
}

/// Whether what was `found` on a disk of `disk_sectors` units of 512 bytes is to be erased. `read` gives the 4 KiB at a
/// position; it is asked only when no superblock could be decoded.
///
/// # Errors
/// It cannot be read, or was written by a later version.
pub fn is_to_be_erased<E>(
    found: &Result<Decoded, DecodeError>,
    leaving: &Leaving,
    disk_sectors: u64,
    mut read: impl FnMut(Lba) -> Result<Sector, E>,
) -> Result<bool, DecodeError> {
    let disk = leaving.uuid;
    match found {
        Ok(found) => {
            let is_known = |superblock: &Superblock| {
                let point = superblock.point();
                let known = |ours: &Ancestor| ours.id == point.id;
                superblock.lineage.is_none() || leaving.history.iter().any(known)
            };
            let is_ours = found.superblock.disk == disk && is_known(&found.superblock);
            // An older copy in the disk's place stays whole.
            Ok(is_ours && !leaving.is_copy(found) && beside(found).all(is_known))
        }
        Err(DecodeError::Damaged { .. } | DecodeError::NotOurs) => {
            let half_written =
                leaving.pending && is_cut_off_write_of(disk_sectors, disk, leaving.cluster, &mut read);
            Ok(half_written || is_cut_off_erasure_of(disk_sectors, disk, read))
        }
        Err(
            DecodeError::Contradiction(_) | DecodeError::Impossible { .. } | DecodeError::TooSmall { .. },
        ) => Ok(false),
        Err(error) => Err(error.clone()),
    }
}

/// Whether an erasure has begun on what can still be decoded: it leaves zeroes where a superblock was. A bit that has turned
/// does not, nor a write of a later superblock that was cut off. Two things beside an erasure leave zeroes there: a first
/// write that was cut off, which has left something at the tail before it goes to the head, and the loss of a whole end,
/// with which nothing has gone from the other. An erasure of the last write begins at the tail, and has reached the head, or
/// found a copy lost there, when only the write before it is left.
fn is_being_erased(found: &Decoded) -> bool {
    let is_superblock =
        |place: &RecordPlace, tail| place.tail == tail && matches!(place.part, Part::Superblock { .. });
    let wiped = |tail| {
        let is_blank = |why: &Why| matches!(why, Why::Sector(SectorError::Blank));
        let mut damage = found.damage.iter();
        damage.any(|damage| is_superblock(&damage.place, tail) && is_blank(&damage.why))
    };
    let sound = |tail| {
        let places = found.sound.iter().filter(|(place, _)| is_superblock(place, tail));
        places.count()
    };
    let is_first_write = found.superblock.sequence == 1 && wiped(false) && sound(true) > 0;
    let is_end_lost = sound(false) == 2 && sound(true) == 0;
    !is_first_write && (wiped(false) || (wiped(true) && !is_end_lost))
}
