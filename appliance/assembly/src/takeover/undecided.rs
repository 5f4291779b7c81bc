//! A disk on its recorded medium, of which medium and database tell different things: which of them holds is decided by adopting,
//! and not by saying that the medium is the disk.

use crate::problem;
use crate::shared::Shared;
use crate::superblocks;
use palisade_api::{Problem, ProblemKind};
use palisade_model::{Cluster, Disk};
use palisade_reconcile::SuperblockState;
use palisade_sys::Opened;
use palisade_words::Name;

/// Between what is to be decided, as a clause; `None` where nothing is.
pub fn undecided(
    shared: &Shared,
    cluster: &Cluster,
    name: &Name,
    disk: &Disk,
    opened: &Opened,
) -> Option<String> {
    if !disk.has_superblock() || !disk.first_superblock.is_on_medium() {
        return None;
    }
    let look = superblocks::look(cluster, name, disk, opened, &shared.last_superblock).ok()?;
    match look.superblock {
        superblock @ (SuperblockState::Newer { .. }
        | SuperblockState::Diverged { .. }
        | SuperblockState::Older { .. }) => Some(problem::of_disk_that_knows_more(name, superblock).message),
        SuperblockState::Damaged => Some(format!("the superblock of disk {name} cannot be used")),
        _ => None,
    }
}

/// Nothing would change by saying that a medium is the disk, and something else is to be decided.
pub fn refused(name: &Name, what: &str) -> Problem {
    let message = format!(
        "{what}. That is the medium that was recorded, and confirming it does not decide which of the two holds. Nothing was changed"
    );
    let remedy = format!("see what each side knows, and take one: palisade disk adopt {name}");
    Problem::new(ProblemKind::Conflict, "disk_undecided", message, remedy)
}
