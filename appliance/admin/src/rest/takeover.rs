//! Disks that carry more than the database knows, or are elsewhere than it says, and the database as a file.

use super::openapi::{AnyProblem, BodyProblem, ChangeProblem, GuardProblem, NodeProblem, OneProblem};
use super::request::{Id, Json, NodeInAddress};
use super::{Answer, Door};
use axum::extract::State;
use palisade_api::{
    DiskAdopt, DiskAdoption, DiskImport, DiskImported, DiskRelocate, DiskRelocated, StateBackup, routes,
};

/// Shows what a disk and the database know of each other and what either side would lose; with `take`, takes a side.
#[utoipa::path(post, operation_id = "adopt_disk", path = routes::DISK_ADOPT, tag = "disks", request_body = DiskAdopt,
    params(("id" = String, Path)), responses(
    (status = 200, description = "What each side knows, and what was taken.", body = DiskAdoption),
    AnyProblem, ChangeProblem, OneProblem, BodyProblem,
))]
pub(super) async fn adopt(State(door): State<Door>, Id(id): Id, Json(request): Json<DiskAdopt>) -> Answer {
    let adopted = door
        .call(move |appliance| appliance.disk_adopt(&id, request))
        .await;
    adopted.flatten().map(|adoption| Answer::json(&adoption)).into()
}

/// Takes disks in with the volumes that their superblocks tell of. Nothing on them is lost.
#[utoipa::path(post, operation_id = "import_disks", path = routes::IMPORT, tag = "disks", request_body = DiskImport, responses(
    (status = 200, description = "What was, or with `dry_run` would be, taken in.", body = DiskImported),
    AnyProblem, ChangeProblem, BodyProblem,
))]
pub(super) async fn import(State(door): State<Door>, Json(request): Json<DiskImport>) -> Answer {
    let imported = door.call(move |appliance| appliance.disk_import(request)).await;
    imported.flatten().map(|imported| Answer::json(&imported)).into()
}

/// Records disks where they are that have exchanged their paths, in one step. The medium of each has to be under the path of
/// one of them, known by what it says itself.
#[utoipa::path(post, operation_id = "relocate_disks", path = routes::RELOCATE, tag = "disks",
    request_body = DiskRelocate, responses(
    (status = 200, description = "Where each was, and where it is recorded now.", body = DiskRelocated),
    AnyProblem, ChangeProblem, OneProblem, BodyProblem, GuardProblem,
))]
pub(super) async fn relocate(State(door): State<Door>, Json(request): Json<DiskRelocate>) -> Answer {
    let relocated = door
        .call(move |appliance| appliance.disks_relocate(request))
        .await;
    relocated
        .flatten()
        .map(|relocated| Answer::json(&relocated))
        .into()
}

/// The cluster database as a node has it, as a file to keep elsewhere. `palisade state restore` makes a database of it.
#[utoipa::path(get, operation_id = "back_up_state", path = routes::STATE_BACKUP, tag = "nodes", params(NodeInAddress), responses(
    (status = 200, description = "The backup.", body = StateBackup),
    AnyProblem, NodeProblem,
))]
pub(super) async fn backup(State(door): State<Door>, node: NodeInAddress) -> Answer {
    let asked = door.call(move |appliance| {
        node.is_here(appliance)?;
        Ok(Answer::json(&appliance.state_backup()))
    });
    asked.await.flatten().into()
}
