//! What must not even be agreed on: changes of a disk whose medium knows more, or something else, than the database.
//!
//! Nothing would be written to such a medium anyway. But the database would go on by itself, and what was an old copy
//! of it would become another branch, from which there is no way back but to lose one of the two.

use crate::observed::Observed;
use crate::plan::is_lost;
use palisade_model::{Cluster, Disk, Extent, SuperblockState};
use palisade_words::Name;

/// What stands against a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Objection {
    /// It would change a disk whose medium carries something else than the database knows.
    Disk {
        /// Which.
        disk: Name,
        /// What the medium carries.
        superblock: SuperblockState,
    },
    /// It would change a disk that this node has not looked at yet.
    NotLookedAt {
        /// Which.
        disk: Name,
    },
}

/// What stands against going from one configuration to the next on a node, if anything. A disk may always be removed:
/// its medium is left alone then.
pub fn objection(before: &Cluster, after: &Cluster, node: &Name, observed: &Observed) -> Option<Objection> {
    let here = before
        .disks
        .iter()
        .filter(|(_, disk)| *disk.custodian() == *node && disk.has_superblock());
    here.filter(|(name, disk)| is_changed(disk, after.disks.get(*name)))
        .find_map(|(name, disk)| against(before, after, (name, disk), observed))
}

fn is_changed(disk: &Disk, after: Option<&Disk>) -> bool {
    let same = after.filter(|after| after.uuid == disk.uuid);
    same.is_some_and(|after| after.superblock_generation() != disk.superblock_generation())
}

fn against(
    before: &Cluster,
    after: &Cluster,
    (name, known): (&Name, &Disk),
    observed: &Observed,
) -> Option<Objection> {
    let disk = name.clone();
    let Some(superblock) = observed.last_read(name) else {
        return (!observed.has_failed(name)).then_some(Objection::NotLookedAt { disk });
    };
    let stands = match superblock {
        SuperblockState::Ours { .. } => false,
        SuperblockState::Newer { .. } | SuperblockState::Diverged { .. } | SuperblockState::Older { .. } => {
            true
        }
        // The right medium, when it is back, is brought up to date; but nothing may be put on this one.
        SuperblockState::Foreign
        | SuperblockState::Damaged
        | SuperblockState::Occupied
        | SuperblockState::EndLost { .. } => takes_more(before, after, name),
        SuperblockState::Missing => is_lost(before, name, known) && takes_more(before, after, name),
    };
    stands.then_some(Objection::Disk { disk, superblock })
}

/// Whether something lies on the disk afterwards that does not lie there now.
fn takes_more(before: &Cluster, after: &Cluster, disk: &Name) -> bool {
    let now: Vec<&Extent> = before.extents_on(disk).map(|(_, _, extent)| extent).collect();
    after
        .extents_on(disk)
        .any(|(_, _, extent)| !now.contains(&extent))
}
