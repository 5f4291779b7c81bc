//! What the planner is told of a medium: one decision, for the daemon and for whoever simulates it.

use crate::image::Image;
use crate::standing::{Standing, judged};
use palisade_model::{Cluster, Disk, SuperblockState};
use palisade_wire::{DecodeError, Decoded, Part, RecordPlace, Sector, SectorError, Why, is_cut_off_write_of};
use palisade_words::{Generation, Lba};

/// What a node knows of the superblock that was last on a disk's medium, which what is found there is held against.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnRecord {
    /// It was known to carry this generation.
    At(Generation),
    /// An operator has chosen it with what it carries, in place of what the disk had: the medium is that one, or has been
    /// written since. What lies between is on the way of the medium that was given up.
    Chosen {
        /// The generation that it carried.
        carries: Generation,
        /// The generation of the disk that it was chosen over: what is written to it has a later one.
        over: Generation,
    },
    /// The node knows of none, as after its state directory was lost or restored: only a medium that is level with the
    /// database is the present one beyond doubt.
    Nothing,
    /// Nothing is held against what is there: an operator has chosen it, or the disk's first superblock is still to come, so
    /// that no extent has ever been on it.
    #[default]
    Waived,
}

impl OnRecord {
    /// What a disk's medium is held against, with what the node has `kept` of it. A record from before the cluster took the
    /// medium as it was found is of another database, or was not written any more: the medium was that far at least.
    pub fn of(disk: &Disk, kept: Option<OnRecord>) -> OnRecord {
        let carried = kept.and_then(OnRecord::carried);
        match (kept, carried.zip(disk.taken_at)) {
            (_, Some((carried, taken_at))) if carried < taken_at => OnRecord::At(taken_at),
            (Some(kept), _) => kept,
            (None, _) if disk.first_superblock.is_on_medium() => OnRecord::Nothing,
            (None, _) => OnRecord::Waived,
        }
    }

    /// The generation that the medium carried.
    fn carried(self) -> Option<Generation> {
        match self {
            OnRecord::At(carries) | OnRecord::Chosen { carries, .. } => Some(carries),
            OnRecord::Nothing | OnRecord::Waived => None,
        }
    }

    /// The latest generation that is on record.
    fn latest(self) -> Option<Generation> {
        match self {
            OnRecord::At(last) => Some(last),
            OnRecord::Chosen { carries, over } => Some(over.max(carries)),
            OnRecord::Nothing | OnRecord::Waived => None,
        }
    }

    /// What is kept once the medium is known to carry a generation: that the chosen one is still as it was chosen is
    /// nothing new.
    #[must_use]
    pub fn then(self, carries: Generation) -> OnRecord {
        match self {
            OnRecord::Chosen { carries: chosen, .. } if chosen == carries => self,
            _ => OnRecord::At(carries),
        }
    }

    /// Whether a disk, of which this is on record, is opened with a medium whose generation is to be kept. A copy of the
    /// superblock that is damaged there may have told of a later one: such a medium has come at least so far, and is the
    /// present one when it says what the database says, whose generation is `level`.
    pub fn is_outdated_by(
        kept: Option<OnRecord>,
        found: Generation,
        flawed: bool,
        level: Generation,
    ) -> bool {
        let latest = kept.and_then(OnRecord::latest);
        let is_further = latest.is_none_or(|latest| found > latest);
        !flawed || is_further || found == level
    }

    /// Whether what was found comes before what is on record, for a disk whose own generation is `level`.
    pub(crate) fn ahead_of(self, found: &Decoded, level: Option<Generation>) -> Option<GoneBack> {
        let (is_before, last) = match self {
            OnRecord::At(last) => (newest(found) < last, Some(last)),
            OnRecord::Chosen { carries, over } => {
                let (in_force, newest) = (found.superblock.generation, newest(found));
                let is_chosen = in_force == carries || newest == carries;
                // Of this one nothing is known: it may even be the one that was given up, put back.
                (!is_chosen && newest <= over.max(carries), None)
            }
            OnRecord::Nothing => (level.is_some_and(|level| newest(found) < level), None),
            OnRecord::Waived => (false, None),
        };
        is_before.then_some(GoneBack { last })
    }
}

/// A medium that has gone back to an earlier state, or may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GoneBack {
    /// From which generation, where that is known.
    pub last: Option<Generation>,
}

/// What is known of a disk's medium beside what is found on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// The superblock that was last known to be there.
    pub last: OnRecord,
    /// Both copies at one end may be missing: the first superblock is being written, or an operator has been told that the
    /// end is lost and goes on without it.
    pub end_excused: bool,
}

impl Known {
    /// Nothing.
    pub const NOTHING: Known = Known {
        last: OnRecord::Waived,
        end_excused: false,
    };

    /// The same of a disk: a first write that was cut off leaves one end without its copies.
    #[must_use]
    pub fn of(self, disk: &Disk) -> Known {
        let pending = !disk.first_superblock.is_on_medium();
        Known {
            end_excused: self.end_excused || pending,
            ..self
        }
    }
}

/// What a medium carries, from what was `found` on it, what it should say, and what else is `known` of the disk's medium.
/// `is_cut_off` is asked only when nothing of what is there can be used
/// ([`is_first_write_cut_off`]).
///
/// # Errors
/// It cannot be read, or was written by a later version.
pub fn carried(
    found: &Result<Decoded, DecodeError>,
    wanted: &Image,
    known: Known,
    is_cut_off: impl FnOnce() -> bool,
) -> Result<SuperblockState, DecodeError> {
    let found = match found {
        Ok(found) => found,
        Err(DecodeError::NotOurs | DecodeError::TooSmall { .. }) => return Ok(SuperblockState::Missing),
        // Two that contradict each other, or one that says what cannot be, are left by no write: where it is one, an operator
        // has said that this is to take their place.
        Err(DecodeError::Damaged { .. } | DecodeError::Contradiction(_) | DecodeError::Impossible { .. }) => {
            return Ok(match is_cut_off() {
                true => SuperblockState::Missing,
                false => SuperblockState::Damaged,
            });
        }
        Err(error) => return Err(error.clone()),
    };
    let (decides, standing) = judged(found, wanted);
    let generation = decides.generation;
    if let Some(GoneBack { last }) = gone_back(&standing, found, wanted, known.last) {
        return Ok(SuperblockState::Older { generation, last });
    }
    if let Some(tail) = lost_end(&standing, found, wanted, known) {
        return Ok(SuperblockState::EndLost { generation, tail });
    }
    Ok(match standing {
        Standing::OtherDisk | Standing::OtherCluster => SuperblockState::Foreign,
        Standing::Ahead => SuperblockState::Newer { generation },
        Standing::Diverged { .. } | Standing::Differs => SuperblockState::Diverged { generation },
        Standing::Unstamped => SuperblockState::Ours {
            generation,
            flawed: true,
        },
        Standing::InForce | Standing::Behind => SuperblockState::Ours {
            generation,
            flawed: !found.damage.is_empty(),
        },
    })
}

/// Whether a medium has gone back: the database has grown out of what it carries, and of what it was last known to carry,
/// which was later. That is no crash, which leaves a medium at what was recorded or beyond it, but an older copy, put in the
/// disk's place. Where nothing is known of it, one that is not level with the database may be such a copy.
///
/// One that says exactly what the database says is in force whatever was known before: both were put back, together.
pub(crate) fn gone_back(
    standing: &Standing,
    found: &Decoded,
    wanted: &Image,
    on_record: OnRecord,
) -> Option<GoneBack> {
    let is_behind = matches!(standing, Standing::Behind | Standing::Unstamped);
    let level = wanted.superblock.generation;
    on_record.ahead_of(found, Some(level)).filter(|_| is_behind)
}

/// The end of a medium, true for the one behind the data, at which no copy of the superblock is left, if that is not
/// excused. What one write touches at once is never both copies of one end of a disk that is in use, so no crash brings that
/// about. Sectors that cannot be read, or of which a bit has turned, are the medium's own fault, and nobody has written
/// there; and where no volume lies, nothing can be lost.
pub(crate) fn lost_end(standing: &Standing, found: &Decoded, wanted: &Image, known: Known) -> Option<bool> {
    let is_ours = matches!(
        standing,
        Standing::InForce | Standing::Behind | Standing::Unstamped
    );
    let is_used = !(found.extents.is_empty() && wanted.extents.is_empty());
    // What can still be told to be a record of ours is there, damaged or not. A disk that is taken over from another cluster
    // is renamed at its tail before its head.
    let is_gone = |why: &Why| match why {
        Why::Sector(SectorError::Blank | SectorError::NotOurs) | Why::BeyondEnd { .. } => true,
        Why::OtherDisk { disk, .. } => *disk != found.superblock.disk,
        _ => false,
    };
    let is_lost = |tail: bool| {
        let is_superblock =
            |place: &RecordPlace| place.tail == tail && matches!(place.part, Part::Superblock { .. });
        let blamed = found.damage.iter().filter(|damage| is_superblock(&damage.place));
        let whys: Vec<&Why> = blamed.map(|damage| &damage.why).collect();
        let sound = found.sound.iter().any(|(place, _)| place.tail == tail);
        !sound && !whys.is_empty() && whys.into_iter().all(is_gone)
    };
    let looked_at = is_ours && is_used && !known.end_excused;
    [true, false].into_iter().find(|&tail| looked_at && is_lost(tail))
}

/// The latest generation that a sound copy of the superblock tells of, also one whose table is lost: a medium that has been
/// there is no copy from before.
pub(crate) fn newest(found: &Decoded) -> Generation {
    let copies = found.copies.iter().map(|(_, superblock)| superblock);
    let all = copies.chain([&found.superblock]);
    Generation(
        (all.map(|superblock| superblock.generation)
            .max()
            .unwrap_or_default())
        .0,
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
    is_pending && is_cut_off_write_of(disk_sectors, disk.uuid, cluster.id, read)
}
