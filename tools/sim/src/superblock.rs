//! Invariant 10 on a disk: the table of extents is rewritten again and again, the power goes at any write, and what
//! the disk says afterwards is the old table or the new one, never a mixture. Once all is well a turned bit anywhere
//! in the newest record is survived.

use crate::disk::Medium;
use crate::finding::{Findings, Invariant};
use crate::rng::{Rng, RunHash};
use palisade_block::Nanos;
use palisade_wire::{
    DATA_START_LEAST, Decoded, ExtentRecord, ExtentRole, Geometry, Label, Sector, Superblock, Update, decode,
    format, update,
};
use palisade_words::limits::ALLOCATION_UNIT_SECTORS;
use palisade_words::{Lba, Sectors, Uuid};
use std::convert::Infallible;

/// 512-byte units in one record.
const RECORD: Sectors = Sectors(8);

/// Runs it.
pub fn run(mut rng: Rng, findings: &Findings) -> RunHash {
    let mut hash = RunHash::default();
    let units = rng.between(1, 6);
    let disk_sectors = Geometry::LEAST_SECTORS + units * ALLOCATION_UNIT_SECTORS + rng.below(64);
    let block_bytes = if rng.one_in(2) { 512 } else { 4096 };
    let whole_blocks = Sectors(disk_sectors / 8 * 8);
    let mut disk = Bench {
        medium: Medium::new(whole_blocks, block_bytes),
        disk_sectors,
        rng,
    };
    if let Err(what) = disk.life(&mut hash) {
        findings.add(Invariant::AllOrNothing, Nanos(0), what);
    }
    hash
}

/// The disk, and who writes it.
struct Bench {
    medium: Medium,
    disk_sectors: u64,
    rng: Rng,
}

impl Bench {
    fn life(&mut self, hash: &mut RunHash) -> Result<(), String> {
        let label = Label::new("bench").map_err(|error| error.to_string())?;
        let blank = Superblock::new(Uuid(7), Uuid(8), Uuid(9), label, 512, self.disk_sectors)
            .map_err(|error| error.to_string())?;
        let extents = self.some_extents()?;
        let made = format(&blank, &extents).map_err(|error| error.to_string())?;
        let whole = self.write(&made);
        hash.add([u64::from(whole), made.superblock.sequence]);
        match self.read() {
            Ok(found) if found.extents == extents => {}
            Err(_) if !whole => {
                let again = format(&blank, &extents).map_err(|error| error.to_string())?;
                self.write_wholly(&again);
            }
            other => return Err(format!("formatting (done: {whole}) left {other:?}")),
        }
        for round in 0..self.rng.between(2, 8) {
            self.change(round)
                .map_err(|what| format!("round {round}: {what}"))?;
            hash.add([round, self.rng.bits()]);
        }
        Ok(())
    }

    /// One change of the table, with power cuts until it is done.
    fn change(&mut self, round: u64) -> Result<(), String> {
        let before = self.read()?;
        let new = self.some_extents()?;
        let after = Superblock {
            generation: before.superblock.generation.next(),
            ..before.superblock.clone()
        };
        let mut from = before.superblock.clone();
        let mut seen_new = false;
        for attempt in 0.. {
            let planned = update(&from, &after, &new).map_err(|error| error.to_string())?;
            let whole = if attempt < 3 {
                self.write(&planned)
            } else {
                self.write_wholly(&planned)
            };
            let found = self.read()?;
            let is_new = found.superblock.generation == after.generation && found.extents == new;
            let is_old = found.superblock.generation == before.superblock.generation
                && found.extents == before.extents;
            if !is_new && !is_old {
                return Err(format!("neither old nor new: {found:?}"));
            }
            if seen_new && is_old {
                return Err("what had been there was undone".to_owned());
            }
            if whole {
                if !is_new {
                    return Err("all was written and flushed, and the old is there".to_owned());
                }
                return if round.is_multiple_of(2) {
                    self.turn_a_bit(&planned, &found)
                } else {
                    Ok(())
                };
            }
            seen_new |= is_new;
            // A second attempt begins where the first did, or at what the disk says now: both are safe.
            if self.rng.one_in(2) || seen_new {
                from = found.superblock;
            }
        }
        Ok(())
    }

    /// Writes an update, or as much of it as the power allows. True when all of it is stable.
    fn write(&mut self, planned: &Update) -> bool {
        let count: usize = planned.phases.iter().map(|phase| phase.writes.len()).sum();
        let cut = self.rng.one_in(2).then(|| self.rng.index(count + 1));
        self.write_until(planned, cut)
    }

    fn write_wholly(&mut self, planned: &Update) -> bool {
        self.write_until(planned, None)
    }

    fn write_until(&mut self, planned: &Update, cut: Option<usize>) -> bool {
        let mut written = 0;
        for phase in &planned.phases {
            let mut writes: Vec<_> = phase.writes.iter().collect();
            // Within a phase nothing is ordered.
            self.rng.shuffle(&mut writes);
            for write in writes {
                if cut == Some(written) {
                    // The write in progress is torn at the device's own blocks.
                    let rng = &mut self.rng;
                    self.medium
                        .write(Lba(write.lba.0), &write.bytes, false, || rng.one_in(2));
                    self.medium.power_cut(&mut self.rng);
                    return false;
                }
                self.medium.write(Lba(write.lba.0), &write.bytes, false, || true);
                written += 1;
            }
            let mark = self.medium.flush_begin();
            self.medium.flush_end(mark);
        }
        if cut.is_some() {
            self.medium.power_cut(&mut self.rng);
        }
        true
    }

    /// Turns one bit of one record just written: the other copy still says the same.
    fn turn_a_bit(&mut self, planned: &Update, newest: &Decoded) -> Result<(), String> {
        let writes: Vec<_> = planned.phases.iter().flat_map(|phase| &phase.writes).collect();
        let Some(write) = writes.get(self.rng.index(writes.len())) else {
            return Ok(());
        };
        let mut bytes = write.bytes;
        let at = self.rng.index(bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << self.rng.below(8);
        }
        self.medium.write(Lba(write.lba.0), &bytes, true, || true);
        let found = self.read()?;
        self.medium.write(Lba(write.lba.0), &write.bytes, true, || true);
        if found.extents != newest.extents || found.superblock.generation != newest.superblock.generation {
            return Err(format!(
                "a bit turned at LBA {} byte {at}, and the disk says {found:?}",
                write.lba.0
            ));
        }
        if found.damage.is_empty() {
            return Err(format!(
                "a bit turned at LBA {} byte {at} was not noticed",
                write.lba.0
            ));
        }
        Ok(())
    }

    fn read(&self) -> Result<Decoded, String> {
        let read = |lba: palisade_words::Lba| {
            let mut sector: Sector = [0; palisade_wire::SECTOR_4K_BYTES];
            let bytes = self.medium.read(Lba(lba.0), RECORD);
            if bytes.len() == sector.len() {
                sector.copy_from_slice(bytes);
            }
            Ok::<Sector, Infallible>(sector)
        };
        decode(self.disk_sectors, read).map_err(|error| error.to_string())
    }

    /// Extents that do not overlap, in the order of their volumes.
    fn some_extents(&mut self) -> Result<Vec<ExtentRecord>, String> {
        let geometry = Geometry::of(self.disk_sectors).map_err(|error| error.to_string())?;
        let units = geometry.data_sectors() / ALLOCATION_UNIT_SECTORS;
        let mut extents = Vec::new();
        for unit in 0..units {
            // Now and then many small extents, so that the table takes several sectors.
            let parts = if self.rng.one_in(3) { 48 } else { 1 };
            let sectors = ALLOCATION_UNIT_SECTORS / parts / 8 * 8;
            for part in 0..parts {
                if self.rng.one_in(4) {
                    continue;
                }
                let volume = u128::from(self.rng.bits()) + 1;
                extents.push(ExtentRecord {
                    volume: Uuid(volume),
                    volume_name: Label::new("v").map_err(|error| error.to_string())?,
                    role: ExtentRole::Linear,
                    part: 0,
                    block_bytes: 4096,
                    volume_lba: palisade_words::Lba(0),
                    disk_lba: palisade_words::Lba(
                        DATA_START_LEAST.0 + unit * ALLOCATION_UNIT_SECTORS + part * sectors,
                    ),
                    sectors,
                    volume_sectors: sectors,
                });
            }
        }
        Ok(extents)
    }
}
