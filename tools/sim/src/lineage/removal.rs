//! The disk leaves the cluster, and comes again: what the removal has agreed on is finished by whichever process is there,
//! and nothing of the database is on the medium when the cluster is told that it is.

use super::{WRITES_AT_REST, World, name};
use palisade_model::{Cluster, Command, Disk, RemoveDisk};
use palisade_reconcile::SuperblockState;
use palisade_volume::{Leaving, is_to_be_erased};
use palisade_wire::{AREA_SECTORS, Decoded, Geometry, is_cut_off_erasure_of};
use palisade_words::{Name, Uuid};
use std::convert::Infallible;
use std::ops::Range;

impl World {
    pub(super) fn remove_and_add(&mut self) -> Result<(), String> {
        let remove = RemoveDisk {
            name: name("d")?,
            expected: None,
            releases: !self.running.cluster.generation.0.is_multiple_of(4),
        };
        let had = self.running.cluster.disks.contains_key(&name("d")?);
        if had && !self.apply(&Command::RemoveDisk(remove)) {
            return Ok(());
        }
        let is_known = |found: Decoded| self.running.marks.contains(&found.superblock.point());
        let knew_all = self.read().is_ok_and(is_known);
        if had {
            // The removal goes its way, whatever was under way; then the medium is clean, if it was ours.
            let ours = self.last_read()?;
            // Now and then it is overtaken by what comes next.
            let turns = match self.running.cluster.generation.0 % 2 {
                0 => WRITES_AT_REST,
                _ => 200,
            };
            for _ in 0..turns {
                self.turn()?;
            }
            let was_ours = matches!(
                ours,
                Some(SuperblockState::Ours { .. } | SuperblockState::Missing)
            );
            let has_left = self.node.control.observed.disks.is_empty()
                && !self.running.cluster.disks.contains_key(&name("d")?);
            if was_ours && knew_all && has_left && self.read().is_ok() {
                return Err("a disk that was given up still carries a superblock".into());
            }
        }
        let uuid = u128::from(self.rng.bits()) + 1;
        let before = self.running.cluster.disks.get(&name("d")?).map(|disk| disk.uuid);
        self.add_disk(uuid)?;
        // Another disk by its permanent id: what was known of the one before is not held against it.
        if self.running.cluster.disks.get(&name("d")?).map(|disk| disk.uuid) != before {
            self.forget_medium();
        }
        Ok(())
    }

    /// The disk has left, or another has come: what was known of its medium is held against nothing.
    pub(super) fn forget_medium(&mut self) {
        self.record.forget();
        (self.last, self.left) = (None, None);
    }

    /// As the daemon decides.
    pub(super) fn is_to_be_erased(&self, cluster: &Cluster, disk: &Name, known: (&Disk, bool)) -> bool {
        let (known, touched) = known;
        let leaving = Leaving::of(cluster, disk, known, touched).held_against(self.record.of(known));
        let read = |lba| Ok::<_, Infallible>(self.sector(lba));
        is_to_be_erased(&self.read(), &leaving, self.disk_sectors, read).unwrap_or(false)
    }

    /// The check of a removal: when the cluster is told that it is done, nothing that its database wrote is left.
    pub(super) fn is_let_go(&self, disk: Uuid) -> Result<(), String> {
        // What another database has put there, be it the same in words, is its own.
        let is_own = |found: Decoded| {
            found.superblock.disk == disk && self.running.marks.contains(&found.superblock.point())
        };
        // An older copy that nobody has chosen stays whole, and so does what lies beside remains of another cluster, which took
        // the disk in.
        let is_left_whole = self.left.is_some()
            || self.record_is_lost()
            || self.is_before_what_was_taken()
            || self.has_remains(64..80, self.running.cluster.id);
        let carries = !is_left_whole && self.read().is_ok_and(is_own);
        let read = |lba| Ok::<_, Infallible>(self.sector(lba));
        match carries || is_cut_off_erasure_of(self.disk_sectors, disk, read) {
            true => Err(format!(
                "a disk was let go with its superblock, or a part of it, still there: {:?}",
                self.read()
                    .map(|found| (found.superblock.point(), found.superblock.lineage))
            )),
            false => Ok(()),
        }
    }

    /// Whether a sector at either end names another disk.
    pub(super) fn has_remains_of_another(&self, disk: Uuid) -> bool {
        self.has_remains(80..96, disk)
    }

    /// Whether a sector at either end has another id than this in these bytes of its header.
    fn has_remains(&self, field: Range<usize>, id: Uuid) -> bool {
        let Ok(geometry) = Geometry::of(self.disk_sectors) else {
            return false;
        };
        let ends = [0, geometry.tail.0]
            .into_iter()
            .flat_map(|start| (start..start + AREA_SECTORS).step_by(8));
        let names_another = |lba: u64| {
            let sector = self.sector(palisade_words::Lba(lba));
            sector.starts_with(&palisade_wire::MAGIC)
                && sector.get(field.clone()) != Some(&id.0.to_le_bytes())
        };
        ends.into_iter().any(names_another)
    }
}
