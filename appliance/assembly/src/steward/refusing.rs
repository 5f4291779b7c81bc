//! Disks that may not be used are closed, and looked at again and again: what each look finds anew is told, and nothing twice.

use crate::plant::Plant;
use crate::plant::refused::LastRead;
use crate::shared::Shared;
use palisade_model::Kind;
use palisade_reconcile::{Action, Opened as Found, Refused, Step, Superblock};
use palisade_sys::Opened;
use palisade_words::Name;
use std::sync::Arc;

/// What was known of a disk that may not be used, before a step on it is recorded.
pub(super) fn before(plant: &Plant, step: &Step) -> Option<Superblock> {
    match step.action.target() {
        (Kind::Disk, name) => plant.observed.refused.get(name).map(|refused| refused.superblock),
        _ => None,
    }
}

/// Whether a step that has just been recorded is a part of a look that has found what was known `before`, and told then.
pub(super) fn is_told(plant: &mut Plant, step: &Step, before: Option<Superblock>, found: Found) -> bool {
    let (kind, name) = step.action.target();
    if kind != Kind::Disk {
        return false;
    }
    let refused = plant.observed.refused.get(name).map(|refused| refused.superblock);
    if refused.is_none() {
        plant.refused.remove(name);
    }
    match (&step.action, before) {
        (_, None) => false,
        (Action::CloseDisk { .. }, before) => before == refused,
        (Action::OpenDisk { .. }, Some(Superblock::Occupied)) => found.superblock == Superblock::Missing,
        (
            Action::OpenDisk { .. } | Action::ExamineSuperblock { .. } | Action::WriteSuperblock { .. },
            Some(before),
        ) => found.superblock == before,
        _ => false,
    }
}

/// Keeps what was read of a disk that is being closed although it stays, for those who are told of it meanwhile. Whether it
/// stays.
pub(super) fn keep_last_read(shared: &Shared, plant: &mut Plant, name: &Name) -> bool {
    let (Some(observed), Some(open)) = (plant.observed.disks.get(name), plant.disks.get(name)) else {
        return false;
    };
    let cluster = shared.cluster();
    let agreed = cluster.disks.get(name);
    let stays = agreed.is_some_and(|disk| disk.uuid == observed.disk.uuid && !disk.leaving);
    let last = LastRead::of(open);
    if stays {
        plant.refused.insert(name.clone(), last);
    }
    stays
}

/// What is said of a disk when it is closed for the first time.
pub(super) fn said(refused: &Refused, name: &Name) -> String {
    let wait_s = refused.look_at_ms.saturating_sub(refused.closed_at_ms) / 1000;
    format!(
        "disk {name} may not be used and is closed, for its owner or another program to open; it is looked at again in {wait_s} \
         s, and less and less often as long as nothing changes"
    )
}

/// Lets go of open media on a thread of its own: closing can take long.
pub(super) fn drop_aside(left: Vec<Arc<Opened>>) {
    if !left.is_empty() {
        let _ = std::thread::Builder::new()
            .name("close".into())
            .spawn(move || drop(left));
    }
}
