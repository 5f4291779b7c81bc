//! Disks.

use super::differs;
use super::openapi::{AnyProblem, BodyProblem, ChangeProblem, GuardProblem, NodeProblem, OneProblem};
use super::query::{DiskRemoval, PageQuery, RemovalQuery};
use super::request::{Expected, Id, IfMatch, Json, NodeInAddress};
use super::{Answer, Door};
use axum::extract::State;
use palisade_api::{Disk, DiskCreate, DiskPatch, DiskPreview, Page, Problem, Removal, routes};

/// All disks, in the order of their ids.
#[utoipa::path(get, operation_id = "list_disks", path = routes::DISKS, tag = "disks", params(PageQuery), responses(
    (status = 200, description = "A page of disks.", body = Page<Disk>),
    AnyProblem,
))]
pub(super) async fn list(State(door): State<Door>, query: PageQuery) -> Answer {
    door.call(move |appliance| {
        Answer::page(
            appliance.disks(),
            |disk| &disk.id,
            query.after.as_deref(),
            query.limit,
        )
    })
    .await
    .into()
}

/// Adds a disk. A file is created when it does not exist; a medium that holds something is refused unless forced.
#[utoipa::path(post, operation_id = "add_disk", path = routes::DISKS, tag = "disks", request_body = DiskCreate, responses(
    (status = 201, description = "Added.", body = Disk, headers(("ETag" = String), ("Location" = String))),
    (status = 200, description = "It was there already, added by the same request.", body = Disk,
        headers(("ETag" = String), ("Location" = String))),
    AnyProblem, ChangeProblem, BodyProblem,
))]
pub(super) async fn add(State(door): State<Door>, Json(request): Json<DiskCreate>) -> Answer {
    let added = door
        .call(move |appliance| {
            differs::create(
                request,
                |request| appliance.disk_add(request),
                |id| appliance.disk(id),
            )
        })
        .await;
    let answer = |created| {
        Answer::created(
            created,
            |disk: &Disk| format!("{}/{}", routes::DISKS, disk.id),
            |disk| &disk.state,
        )
    };
    added.flatten().map(answer).into()
}

/// What adding a disk would find on its medium and do with it. Nothing is changed.
#[utoipa::path(post, operation_id = "preview_disk", path = routes::DISK_PREVIEW, tag = "nodes", request_body = DiskCreate,
    params(NodeInAddress), responses(
    (status = 200, description = "What was found, what would be wiped, and why it would be refused, if so.", body = DiskPreview),
    AnyProblem, NodeProblem, BodyProblem,
))]
pub(super) async fn preview(
    State(door): State<Door>,
    node: NodeInAddress,
    Json(request): Json<DiskCreate>,
) -> Answer {
    let shown = door
        .call(move |appliance| {
            node.is_here(appliance)?;
            differs::explained(
                request,
                |request| appliance.disk_preview(request),
                |id| appliance.disk(id),
            )
        })
        .await;
    shown.flatten().map(|preview| Answer::json(&preview)).into()
}

/// One disk.
#[utoipa::path(get, operation_id = "show_disk", path = routes::DISK, tag = "disks", params(("id" = String, Path)), responses(
    (status = 200, description = "The disk.", body = Disk, headers(("ETag" = String))),
    AnyProblem, OneProblem,
))]
pub(super) async fn show(State(door): State<Door>, Id(id): Id) -> Answer {
    door.call(move |appliance| match appliance.disk(&id) {
        Some(disk) => Answer::resource(&disk, &disk.state),
        None => Answer::Problem(Problem::not_found("disk", &id)),
    })
    .await
    .into()
}

/// Lets a disk grow: a file to `bytes`; without it the size of the medium is read again. Or changes its protection.
#[utoipa::path(patch, operation_id = "change_disk", path = routes::DISK, tag = "disks", request_body = DiskPatch,
    params(("id" = String, Path), IfMatch), responses(
    (status = 200, description = "The disk as agreed on.", body = Disk, headers(("ETag" = String))),
    AnyProblem, ChangeProblem, OneProblem, BodyProblem, GuardProblem,
))]
pub(super) async fn change(
    State(door): State<Door>,
    Id(id): Id,
    Expected(expected): Expected,
    Json(patch): Json<DiskPatch>,
) -> Answer {
    let changed = door
        .call(move |appliance| appliance.disk_change(&id, patch, expected))
        .await;
    changed
        .flatten()
        .map(|disk| Answer::resource(&disk, &disk.state))
        .into()
}

/// Gives a disk up. It must hold no volume. The superblock of a pooled disk is erased; of a whole disk nothing is touched.
/// The disk stays, as `leaving`, until that is done and it is closed: once it is gone, others can open its medium.
#[utoipa::path(delete, operation_id = "remove_disk", path = routes::DISK, tag = "disks",
    params(("id" = String, Path), IfMatch, DiskRemoval), responses(
    (status = 200, description = "With `dry_run`: what would happen. Nothing has.", body = Removal),
    (status = 204, description = "Given up."),
    AnyProblem, ChangeProblem, OneProblem, GuardProblem,
))]
pub(super) async fn remove(
    State(door): State<Door>,
    Id(id): Id,
    Expected(expected): Expected,
    RemovalQuery(how): RemovalQuery,
) -> Answer {
    let removed = door
        .call(move |appliance| appliance.disk_remove(&id, expected, how))
        .await;
    removed
        .flatten()
        .map(|removal| Answer::removed(how, &removal))
        .into()
}
