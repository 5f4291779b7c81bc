//! From what a disk shall say to the sectors to write, in an order that a crash cannot spoil.
//!
//! ```text
//!   format:  wipe all superblocks | tables | superblocks at the tail | superblocks at the head
//!   update:                         tables | superblock at the tail  | superblock at the head
//!   erase:   superblocks at the tail | superblocks at the head | all tables
//! ```
//!
//! `|` is a sync. The head comes last in each: a reader looks there first, so the change counts when all else is
//! in place.

use crate::extent::{ExtentRecord, table_crc, table_sectors};
use crate::geometry::{Geometry, GeometryError, SECTORS_PER_4K, SUPERBLOCKS, TABLE_SECTORS, TABLES};
use crate::lineage::Kinship;
use crate::sector::{SECTOR_4K_BYTES, Sector};
use crate::superblock::{Superblock, TableRef};
use palisade_words::limits::EXTENTS_PER_DISK_MAX;
use palisade_words::{Epoch, Generation, Lba, Uuid};
use std::fmt;

/// One sector to write.
#[derive(Clone, PartialEq, Eq)]
pub struct SectorWrite {
    /// Where, a multiple of 8.
    pub lba: Lba,
    /// What.
    pub bytes: Sector,
}

impl fmt::Debug for SectorWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sector at LBA {}", self.lba)
    }
}

/// Writes that may go in any order. All of them must be stable before the first of the next phase is begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Phase {
    /// The writes.
    pub writes: Vec<SectorWrite>,
}

/// A change of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    /// What [`crate::decode`] gives once all phases are done.
    pub superblock: Superblock,
    /// What to write, in order.
    pub phases: Vec<Phase>,
}

/// Why a disk cannot be made to say so.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// The table is full.
    #[error("{count} extents do not fit: a disk holds {limit}")]
    TooManyExtents {
        /// Asked for.
        count: usize,
        /// Possible.
        limit: usize,
    },
    /// The extent lies outside the data area or is impossible in itself.
    #[error("extent {index}: impossible `{field}`")]
    Extent {
        /// Position in the list.
        index: usize,
        /// What is wrong.
        field: &'static str,
    },
    /// Two extents share a place on the disk.
    #[error("extents {} and {} overlap at LBA {lba}", .indices[0], .indices[1])]
    Overlap {
        /// Positions in the list.
        indices: [usize; 2],
        /// Where.
        lba: Lba,
    },
    /// Two extents of one volume do not say the same of it.
    #[error("extents {} and {} are of one volume and differ in `{field}`", .indices[0], .indices[1])]
    Volume {
        /// Positions in the list.
        indices: [usize; 2],
        /// In what they differ.
        field: &'static str,
    },
    /// Two extents hold the same part of one volume.
    #[error("extents {} and {} hold the same part of one volume, from LBA {lba} of it on", .indices[0], .indices[1])]
    Twice {
        /// Positions in the list.
        indices: [usize; 2],
        /// Where, on the volume.
        lba: Lba,
    },
    /// The superblock has a value that is never written.
    #[error("superblock: impossible `{field}`")]
    Superblock {
        /// Which field.
        field: &'static str,
    },
    /// The disk has no room for our areas.
    #[error("{0}")]
    Geometry(#[source] GeometryError),
    /// The change belongs to another disk or cluster than the one it should replace.
    #[error("the change is for {:032x}, the disk says {:032x}", .wanted.0, .found.0)]
    OtherDisk {
        /// On the disk.
        found: Uuid,
        /// In the change.
        wanted: Uuid,
    },
    /// The change has not grown out of what the disk says.
    #[error(
        "generation {wanted} has not grown out of generation {found}, which the disk carries ({})",
        relation(.kinship)
    )]
    NotDescended {
        /// How what the disk says stands to the change.
        kinship: Kinship,
        /// Generation on the disk.
        found: Generation,
        /// Generation of the change.
        wanted: Generation,
    },
    /// The change is older than what the disk says.
    #[error(
        "the change (epoch {}, generation {}) is older than the disk (epoch {}, generation {})",
        .wanted.0,
        .wanted.1,
        .found.0,
        .found.1
    )]
    Older {
        /// (epoch, generation) on the disk.
        found: (Epoch, Generation),
        /// (epoch, generation) of the change.
        wanted: (Epoch, Generation),
    },
}

fn relation(kinship: &Kinship) -> &'static str {
    match kinship {
        Kinship::Descendant => "the disk's is the later one",
        _ => "the two went on apart",
    }
}

/// Makes a disk ours. Whatever it said before is gone after the first phase; it is ours with the last.
pub fn format(superblock: &Superblock, extents: &[ExtentRecord]) -> Result<Update, EncodeError> {
    let superblock = numbered(superblock, extents, 1)?;
    let geometry = Geometry::of(superblock.disk_sectors).map_err(EncodeError::Geometry)?;
    let wipe = Phase {
        writes: [false, true]
            .into_iter()
            .flat_map(|tail| wiped(&geometry, tail))
            .collect(),
    };
    let phases = vec![
        wipe,
        tables(&superblock, extents, &geometry),
        superblocks(&superblock, &geometry, true, &[0, 1]),
        superblocks(&superblock, &geometry, false, &[0, 1]),
    ];
    Ok(Update {
        superblock,
        phases: nonempty(phases),
    })
}

/// Replaces what a disk says (`before`, as decoded from it) by `after` and `extents`. What is replaced must be the
/// configuration that `after` is or has grown out of, by its lineage; for one from before there were lineages the
/// caller has seen to it. A repeated attempt after a failure begins at the same `before` or at what decoding gives now;
/// both are safe.
///
/// # Errors
/// [`EncodeError::OtherDisk`]: another disk, or another cluster whose configuration `after` does not name as an ancestor.
/// [`EncodeError::NotDescended`], [`EncodeError::Older`]: it would go back or aside. Others: `after` cannot be written.
pub fn update(
    before: &Superblock,
    after: &Superblock,
    extents: &[ExtentRecord],
) -> Result<Update, EncodeError> {
    may_replace(before, after)?;
    let sequence = before
        .sequence
        .checked_add(1)
        .ok_or(EncodeError::Superblock { field: "sequence" })?;
    let superblock = numbered(after, extents, sequence)?;
    let geometry = Geometry::of(superblock.disk_sectors).map_err(EncodeError::Geometry)?;
    let turn = superblock.table.slot as usize;
    // A tail that has just come into being holds neither copy yet.
    let moved = before.disk_sectors != after.disk_sectors;
    // And the first copy at the head says whose disk it is: a copy of the cluster before would outvote the new ones.
    let renamed = before.cluster != after.cluster;
    let tail_copies: &[usize] = if moved || renamed { &[0, 1] } else { &[turn] };
    let mut phases = vec![
        tables(&superblock, extents, &geometry),
        superblocks(&superblock, &geometry, true, tail_copies),
        superblocks(&superblock, &geometry, false, &[turn]),
    ];
    if renamed {
        // The one in force comes last: were it gone first, the one of the write before it would speak for the disk.
        phases.push(superblocks(&superblock, &geometry, false, &[1 - turn]));
    }
    Ok(Update {
        superblock,
        phases: nonempty(phases),
    })
}

fn may_replace(before: &Superblock, after: &Superblock) -> Result<(), EncodeError> {
    let kinship = before.kinship(after);
    if before.disk != after.disk {
        let (found, wanted) = (before.disk, after.disk);
        return Err(EncodeError::OtherDisk { found, wanted });
    }
    // An ancestor by name may be of another cluster: somebody has decided that.
    if before.cluster != after.cluster && kinship != Kinship::Ancestor {
        let (found, wanted) = (before.cluster, after.cluster);
        return Err(EncodeError::OtherDisk { found, wanted });
    }
    let (found, wanted) = ((before.epoch, before.generation), (after.epoch, after.generation));
    let unproven = before.lineage.is_none() && kinship == Kinship::Unknown;
    if !unproven && !matches!(kinship, Kinship::Same | Kinship::Ancestor) {
        return Err(EncodeError::NotDescended {
            kinship,
            found: found.1,
            wanted: wanted.1,
        });
    }
    if wanted.0 < found.0 || wanted.1 < found.1 {
        return Err(EncodeError::Older { found, wanted });
    }
    Ok(())
}

/// Gives a disk back: it is ours until the last superblock has gone; then its tables go, so that nothing of it is left to
/// be taken for somebody's. The data of volumes stays readable to whoever looks.
pub fn erase(disk_sectors: u64) -> Result<Vec<Phase>, GeometryError> {
    let geometry = Geometry::of(disk_sectors)?;
    let superblocks = [true, false].map(|tail| Phase {
        writes: wiped(&geometry, tail).collect(),
    });
    let tables = Phase {
        writes: [true, false]
            .into_iter()
            .flat_map(|tail| without_tables(&geometry, tail))
            .collect(),
    };
    Ok(superblocks.into_iter().chain([tables]).collect())
}

/// The superblock with its sequence and table filled in, checked together with its extents.
fn numbered(
    superblock: &Superblock,
    extents: &[ExtentRecord],
    sequence: u64,
) -> Result<Superblock, EncodeError> {
    let table = TableRef {
        slot: (sequence % 2) as u32,
        count: extents.len() as u32,
        crc: table_crc(extents),
    };
    let superblock = Superblock {
        sequence,
        table,
        ..superblock.clone()
    };
    if extents.len() > EXTENTS_PER_DISK_MAX {
        return Err(EncodeError::TooManyExtents {
            count: extents.len(),
            limit: EXTENTS_PER_DISK_MAX,
        });
    }
    if let Some(field) = superblock.impossible_field() {
        return Err(EncodeError::Superblock { field });
    }
    check_extents(&superblock, extents)?;
    Ok(superblock)
}

/// Whether all extents are possible, lie in the data area and none over another, on the disk or in its volume; and whether
/// those of one volume say the same of it.
pub(crate) fn check_extents(superblock: &Superblock, extents: &[ExtentRecord]) -> Result<(), EncodeError> {
    for (index, extent) in extents.iter().enumerate() {
        if let Some(field) = extent.impossible_field() {
            return Err(EncodeError::Extent { index, field });
        }
        if extent.disk_lba < superblock.data_start || extent.disk_end() > superblock.data_end {
            return Err(EncodeError::Extent {
                index,
                field: "disk_lba",
            });
        }
    }
    let mut order: Vec<(usize, &ExtentRecord)> = extents.iter().enumerate().collect();
    order.sort_by_key(|(_, extent)| extent.disk_lba);
    for ((a, left), (b, right)) in order.iter().zip(order.iter().skip(1)) {
        if left.disk_end() > right.disk_lba {
            return Err(EncodeError::Overlap {
                indices: [*a, *b],
                lba: right.disk_lba,
            });
        }
    }
    order.sort_by_key(|(_, extent)| (extent.volume, extent.volume_lba));
    let neighbours = order.iter().zip(order.iter().skip(1));
    for ((a, left), (b, right)) in neighbours.filter(|((_, a), (_, b))| a.volume == b.volume) {
        let indices = [*a, *b];
        let differs = [
            ("volume_name", left.volume_name != right.volume_name),
            ("block_bytes", left.block_bytes != right.block_bytes),
            ("volume_sectors", left.volume_sectors != right.volume_sectors),
        ];
        if let Some((field, _)) = differs.into_iter().find(|(_, differs)| *differs) {
            return Err(EncodeError::Volume { indices, field });
        }
        // Each lies inside the volume, so that its end is a number.
        if left.volume_lba.0 + left.sectors > right.volume_lba.0 {
            let lba = right.volume_lba;
            return Err(EncodeError::Twice { indices, lba });
        }
    }
    Ok(())
}

fn tables(superblock: &Superblock, extents: &[ExtentRecord], geometry: &Geometry) -> Phase {
    let place = TABLES
        .get(superblock.table.slot as usize)
        .copied()
        .unwrap_or_default();
    let copies = [true, false].map(|tail| Lba(geometry.area(tail) + place));
    let writes = copies
        .iter()
        .flat_map(|start| table_sectors(superblock, extents, *start))
        .map(|(lba, bytes)| SectorWrite { lba, bytes })
        .collect();
    Phase { writes }
}

fn superblocks(superblock: &Superblock, geometry: &Geometry, tail: bool, copies: &[usize]) -> Phase {
    let places = copies.iter().filter_map(|copy| SUPERBLOCKS.get(*copy));
    let writes = places
        .map(|place| Lba(geometry.area(tail) + place))
        .map(|lba| SectorWrite {
            lba,
            bytes: superblock.to_sector(lba),
        })
        .collect();
    Phase { writes }
}

fn wiped(geometry: &Geometry, tail: bool) -> impl Iterator<Item = SectorWrite> {
    let start = geometry.area(tail);
    SUPERBLOCKS.iter().map(move |place| SectorWrite {
        lba: Lba(start + place),
        bytes: [0; SECTOR_4K_BYTES],
    })
}

fn without_tables(geometry: &Geometry, tail: bool) -> impl Iterator<Item = SectorWrite> {
    let start = geometry.area(tail);
    let sectors = TABLES
        .iter()
        .flat_map(|table| (0..TABLE_SECTORS).map(move |index| table + index * SECTORS_PER_4K));
    sectors.map(move |place| SectorWrite {
        lba: Lba(start + place),
        bytes: [0; SECTOR_4K_BYTES],
    })
}

fn nonempty(phases: Vec<Phase>) -> Vec<Phase> {
    phases
        .into_iter()
        .filter(|phase| !phase.writes.is_empty())
        .collect()
}
