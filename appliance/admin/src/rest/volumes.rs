//! Volumes.

use super::differs;
use super::openapi::{AnyProblem, BodyProblem, ChangeProblem, GuardProblem, OneProblem};
use super::query::{PageQuery, RemovalQuery, VolumeRemoval};
use super::request::{Expected, Id, IfMatch, Json};
use super::{Answer, Door};
use axum::extract::State;
use palisade_api::{Page, Problem, Removal, Volume, VolumeCreate, VolumePatch, routes};

/// All volumes, in the order of their ids.
#[utoipa::path(get, operation_id = "list_volumes", path = routes::VOLUMES, tag = "volumes", params(PageQuery), responses(
    (status = 200, description = "A page of volumes.", body = Page<Volume>),
    AnyProblem,
))]
pub(super) async fn list(State(door): State<Door>, query: PageQuery) -> Answer {
    door.call(move |appliance| {
        Answer::page(
            appliance.volumes(),
            |volume| &volume.id,
            query.after.as_deref(),
            query.limit,
        )
    })
    .await
    .into()
}

/// Creates a volume.
#[utoipa::path(post, operation_id = "create_volume", path = routes::VOLUMES, tag = "volumes", request_body = VolumeCreate, responses(
    (status = 201, description = "Created.", body = Volume, headers(("ETag" = String), ("Location" = String))),
    (status = 200, description = "It was there already, created by the same request.", body = Volume,
        headers(("ETag" = String), ("Location" = String))),
    AnyProblem, ChangeProblem, BodyProblem, OneProblem,
))]
pub(super) async fn create(State(door): State<Door>, Json(request): Json<VolumeCreate>) -> Answer {
    let created = door
        .call(move |appliance| {
            differs::create(
                request,
                |request| appliance.volume_create(request),
                |id| appliance.volume(id),
            )
        })
        .await;
    let address = |volume: &Volume| format!("{}/{}", routes::VOLUMES, volume.id);
    created
        .flatten()
        .map(|created| Answer::created(created, address, |volume| &volume.state))
        .into()
}

/// One volume.
#[utoipa::path(get, operation_id = "show_volume", path = routes::VOLUME, tag = "volumes", params(("id" = String, Path)), responses(
    (status = 200, description = "The volume.", body = Volume, headers(("ETag" = String))),
    AnyProblem, OneProblem,
))]
pub(super) async fn show(State(door): State<Door>, Id(id): Id) -> Answer {
    door.call(move |appliance| match appliance.volume(&id) {
        Some(volume) => Answer::resource(&volume, &volume.state),
        None => Answer::Problem(Problem::not_found("volume", &id)),
    })
    .await
    .into()
}

/// Lets a volume grow, or changes how it is treated. Guests see a new size without a reboot, once the new part is clear.
#[utoipa::path(patch, operation_id = "change_volume", path = routes::VOLUME, tag = "volumes", request_body = VolumePatch,
    params(("id" = String, Path), IfMatch), responses(
    (status = 200, description = "The volume as agreed on.", body = Volume, headers(("ETag" = String))),
    AnyProblem, ChangeProblem, OneProblem, BodyProblem, GuardProblem,
))]
pub(super) async fn change(
    State(door): State<Door>,
    Id(id): Id,
    Expected(expected): Expected,
    Json(patch): Json<VolumePatch>,
) -> Answer {
    let changed = door
        .call(move |appliance| appliance.volume_change(&id, patch, expected))
        .await;
    changed
        .flatten()
        .map(|volume| Answer::resource(&volume, &volume.state))
        .into()
}

/// Deletes a volume and what it holds. Refused while it is attached or protected. With `clear` its space is cleared
/// before anybody else gets it, and the volume stays until then, as `deleting`.
#[utoipa::path(delete, operation_id = "delete_volume", path = routes::VOLUME, tag = "volumes",
    params(("id" = String, Path), IfMatch, VolumeRemoval), responses(
    (status = 200, description = "With `dry_run`: what would happen. Nothing has.", body = Removal),
    (status = 204, description = "Deleted."),
    AnyProblem, ChangeProblem, OneProblem, GuardProblem,
))]
pub(super) async fn delete(
    State(door): State<Door>,
    Id(id): Id,
    Expected(expected): Expected,
    RemovalQuery(how): RemovalQuery,
) -> Answer {
    let deleted = door
        .call(move |appliance| appliance.volume_delete(&id, expected, how))
        .await;
    deleted
        .flatten()
        .map(|removal| Answer::removed(how, &removal))
        .into()
}
