//! Where a volume lies. Deterministic: the same cluster and the same request give the same extents on every node.
//!
//! A pooled disk's data area is counted in units of [`ALLOCATION_UNIT_SECTORS`] from its start; a unit belongs to one
//! volume or to none. A run of free units that holds all is taken first-fit; when there is none, the largest runs are
//! taken, so that the volume has the fewest extents. A volume that grows first continues where it ends.
//!
//! ```text
//! data_start        unit 1            unit 2            unit 3         data_end
//! |  a a a a a a a  |  a a a . . . .  |  b b b b b b b  |  . . . . . . . |
//!                           ^ slack: a's own, used first when a grows
//! ```

use crate::cluster::Cluster;
use crate::disk::{Disk, Usage};
use crate::limits::EXTENTS_PER_VOLUME_MAX;
use crate::refusal::Refusal;
use crate::volume::Extent;
use palisade_words::Name;
use palisade_words::limits::{ALLOCATION_UNIT_SECTORS, EXTENTS_PER_DISK_MAX};

/// Sectors of a disk that can still be given to volumes, in whole units on a pooled disk. 0 for an unknown disk.
pub fn free_sectors(cluster: &Cluster, disk: &Name) -> u64 {
    let Some(found) = cluster.disks.get(disk) else {
        return 0;
    };
    match found.usage {
        Usage::Whole if cluster.extents_on(disk).next().is_some() => 0,
        Usage::Whole => found.sectors,
        Usage::Pooled => free_runs(cluster, disk, found).iter().map(Run::sectors).sum(),
    }
}

/// The pooled disk of a node that has the most free space among those that keep what is written to them and whose
/// logical block is not larger than `block_bytes`; of equal ones the first by name. Memory and null disks are for
/// tests and measuring: nobody's data gets there unless they are named.
pub(crate) fn roomiest_disk<'a>(cluster: &'a Cluster, node: &Name, block_bytes: u32) -> Option<&'a Name> {
    let fitting = |disk: &Disk| {
        let lasting_pool = disk.has_superblock() && disk.first_superblock.is_on_medium() && !disk.leaving;
        disk.node == *node && lasting_pool && disk.block_bytes <= block_bytes
    };
    let candidates = cluster.disks.iter().filter(|(_, disk)| fitting(disk));
    // `max_by_key` gives the last of equal ones, so the order is turned round.
    candidates
        .rev()
        .max_by_key(|(name, _)| free_sectors(cluster, name))
        .map(|(name, _)| name)
}

/// Extends `extents` (all of one volume, none when it is new) by `sectors` more on a pooled disk.
pub(crate) fn extend(
    cluster: &Cluster,
    name: &Name,
    disk: &Disk,
    extents: &mut Vec<Extent>,
    sectors: u64,
) -> Result<(), Refusal> {
    let mut free = free_runs(cluster, name, disk);
    let free_sectors = free.iter().map(Run::sectors).sum();
    let mut missing = sectors;
    if let Some(last) = extents.last_mut().filter(|last| last.disk == *name) {
        missing -= continue_last(last, disk, &mut free, missing);
    }
    if missing == 0 {
        return Ok(());
    }
    let units = missing.div_ceil(ALLOCATION_UNIT_SECTORS);
    if units > free.iter().map(|run| run.units).sum() {
        return Err(Refusal::NoSpace {
            disk: name.clone(),
            wanted_sectors: sectors,
            free_sectors,
        });
    }
    let of_volume = EXTENTS_PER_VOLUME_MAX.saturating_sub(extents.len());
    let of_disk = EXTENTS_PER_DISK_MAX
        .saturating_sub(cluster.extents_on(name).count() + cluster.fragments_on(name).count());
    let runs = choose(&free, units);
    if runs.len() > of_volume.min(of_disk) {
        return Err(Refusal::Fragmented {
            disk: name.clone(),
            pieces_max: of_volume.min(of_disk),
        });
    }
    for run in runs {
        let sectors = run.sectors().min(missing);
        missing -= sectors;
        extents.push(Extent {
            disk: name.clone(),
            disk_lba: disk.data_start + run.start * ALLOCATION_UNIT_SECTORS,
            sectors,
        });
    }
    Ok(())
}

/// The units that an extent owns on a pooled disk: first, and first behind.
pub(crate) fn units_of(disk: &Disk, extent: &Extent) -> (u64, u64) {
    let first = extent.disk_lba.saturating_sub(disk.data_start);
    let start = first / ALLOCATION_UNIT_SECTORS;
    (
        start,
        first
            .saturating_add(extent.sectors)
            .div_ceil(ALLOCATION_UNIT_SECTORS),
    )
}

/// Free units one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    start: u64,
    units: u64,
}

impl Run {
    fn sectors(&self) -> u64 {
        self.units * ALLOCATION_UNIT_SECTORS
    }
}

/// All free runs of a pooled disk in order, neighbours joined.
fn free_runs(cluster: &Cluster, name: &Name, disk: &Disk) -> Vec<Run> {
    let mut used: Vec<(u64, u64)> = cluster
        .extents_on(name)
        .map(|(_, _, extent)| units_of(disk, extent))
        .chain(
            cluster
                .fragments_on(name)
                .map(|(_, _, piece)| units_of(disk, &piece.extent)),
        )
        .collect();
    used.sort_unstable();
    let units = disk.data_end.saturating_sub(disk.data_start) / ALLOCATION_UNIT_SECTORS;
    let mut runs = Vec::new();
    let mut at = 0;
    for (start, end) in used.into_iter().chain([(units, units)]) {
        if start > at {
            runs.push(Run {
                start: at,
                units: start - at,
            });
        }
        at = at.max(end);
    }
    runs
}

/// Makes a volume's last extent longer: first into the slack of its last unit, then into the free units that follow.
/// Returns how many sectors were won, and takes the run out of `free`.
fn continue_last(last: &mut Extent, disk: &Disk, free: &mut Vec<Run>, wanted: u64) -> u64 {
    let (_, end) = units_of(disk, last);
    let slack = (disk.data_start + end * ALLOCATION_UNIT_SECTORS) - (last.disk_lba + last.sectors);
    let mut won = slack.min(wanted);
    if let Some(at) = free.iter().position(|run| run.start == end) {
        // All of it is used, or nothing is missing any more.
        won += free.remove(at).sectors().min(wanted - won);
    }
    last.sectors += won;
    won
}

/// Chooses runs that hold `units` together, in the order of the disk. There must be enough.
fn choose(free: &[Run], units: u64) -> Vec<Run> {
    if let Some(first) = free.iter().find(|run| run.units >= units) {
        return vec![Run {
            start: first.start,
            units,
        }];
    }
    let mut largest = free.to_vec();
    largest.sort_by_key(|run| (std::cmp::Reverse(run.units), run.start));
    let mut missing = units;
    let mut chosen = Vec::new();
    for run in largest {
        if missing == 0 {
            break;
        }
        let units = run.units.min(missing);
        chosen.push(Run {
            start: run.start,
            units,
        });
        missing -= units;
    }
    chosen.sort_by_key(|run| run.start);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, units: u64) -> Run {
        Run { start, units }
    }

    #[test]
    fn takes_the_first_run_that_holds_all() {
        assert_eq!(choose(&[run(0, 2), run(5, 4), run(20, 100)], 3), [run(5, 3)]);
        assert_eq!(choose(&[run(0, 2), run(5, 4)], 2), [run(0, 2)]);
    }

    #[test]
    fn of_equal_runs_the_first_is_taken_and_of_the_last_no_more_than_is_missing() {
        let free = [run(0, 2), run(5, 2), run(9, 2)];
        assert_eq!(choose(&free, 3), [run(0, 2), run(5, 1)]);
        assert_eq!(choose(&free, 4), [run(0, 2), run(5, 2)]);
        assert_eq!(choose(&free, 6), free);
        assert_eq!(
            choose(&[run(0, 1), run(5, 3), run(9, 2)], 4),
            [run(5, 3), run(9, 1)]
        );
    }

    #[test]
    fn takes_the_fewest_runs_when_none_holds_all() {
        assert_eq!(
            choose(&[run(0, 2), run(5, 4), run(20, 6)], 9),
            [run(5, 3), run(20, 6)]
        );
        assert_eq!(
            choose(&[run(0, 2), run(5, 4), run(20, 6)], 12),
            [run(0, 2), run(5, 4), run(20, 6)]
        );
    }
}
