//! Damaged records written anew from the sound ones, bit for bit what they were.

use crate::decode::{Decoded, Part, RecordPlace, Why};
use crate::encode::{Phase, SectorWrite};
use crate::extent::table_sectors;
use crate::geometry::{Geometry, SUPERBLOCKS, TABLES};
use crate::superblock::Superblock;
use palisade_words::Lba;

/// The writes that put right what is damaged on a disk, each from a sound copy of the same record: nothing that the disk
/// says changes, and no number. `None` when a record has no sound copy left, so that only an [`crate::update`] helps;
/// or when there is nothing to do.
pub fn mend(found: &Decoded) -> Option<Vec<Phase>> {
    let geometry = Geometry::of(found.superblock.disk_sectors).ok()?;
    let (mut tables, mut superblocks) = (Vec::new(), Vec::new());
    for damage in &found.damage {
        match (damage.place.part, &damage.why) {
            // What is complete is older than this copy; its number must not be given twice.
            (_, Why::TableLost { .. } | Why::BeyondEnd { .. }) => return None,
            (Part::Superblock { copy }, _) => {
                let place = *SUPERBLOCKS.get(copy)?;
                let lba = Lba(geometry.area(damage.place.tail) + place);
                let bytes = source(found, copy)?.to_sector(lba);
                superblocks.push(SectorWrite { lba, bytes });
            }
            (Part::Table { slot, index }, _) => {
                tables.push(table_sector(found, &geometry, damage.place, slot, index)?);
            }
        }
    }
    let phases = [tables, superblocks].map(|writes| Phase { writes });
    let phases: Vec<Phase> = phases
        .into_iter()
        .filter(|phase| !phase.writes.is_empty())
        .collect();
    (!phases.is_empty()).then_some(phases)
}

/// What belongs into a copy: the superblock in force where it is its turn, elsewhere the one of the write before.
fn source(found: &Decoded, copy: usize) -> Option<&Superblock> {
    if found.superblock.table.slot as usize == copy {
        return Some(&found.superblock);
    }
    let blamed = |place: &RecordPlace| found.damage.iter().any(|damage| damage.place == *place);
    let same = |place: &RecordPlace| place.part == Part::Superblock { copy } && !blamed(place);
    let mut sound = found.copies.iter().filter(|(place, _)| same(place));
    sound.next().map(|(_, superblock)| superblock)
}

/// A sector of the table in force.
fn table_sector(
    found: &Decoded,
    geometry: &Geometry,
    place: RecordPlace,
    slot: usize,
    index: u32,
) -> Option<SectorWrite> {
    if slot != found.superblock.table.slot as usize {
        return None;
    }
    let start = Lba(geometry.area(place.tail) + *TABLES.get(slot)?);
    let mut sectors = table_sectors(&found.superblock, &found.extents, start);
    let (lba, bytes) = sectors.nth(index as usize)?;
    Some(SectorWrite { lba, bytes })
}
