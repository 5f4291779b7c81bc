//! Attachments.

use super::differs;
use super::openapi::{AnyProblem, BodyProblem, ChangeProblem, GuardProblem, OneProblem};
use super::query::{AttachmentRemoval, PageQuery, RemovalQuery};
use super::request::{Expected, Id, IfMatch, Json};
use super::{Answer, Door};
use axum::extract::State;
use palisade_api::{Attachment, AttachmentCreate, AttachmentPatch, Page, Problem, Removal, routes};

/// All attachments, in the order of their ids.
#[utoipa::path(get, operation_id = "list_attachments", path = routes::ATTACHMENTS, tag = "attachments", params(PageQuery), responses(
    (status = 200, description = "A page of attachments.", body = Page<Attachment>),
    AnyProblem,
))]
pub(super) async fn list(State(door): State<Door>, query: PageQuery) -> Answer {
    door.call(move |appliance| {
        let all = appliance.attachments();
        Answer::page(
            all,
            |attachment| &attachment.id,
            query.after.as_deref(),
            query.limit,
        )
    })
    .await
    .into()
}

/// Offers a volume to a virtual machine. The socket appears once the volume can be served.
#[utoipa::path(post, operation_id = "create_attachment", path = routes::ATTACHMENTS, tag = "attachments", request_body = AttachmentCreate, responses(
    (status = 201, description = "Created.", body = Attachment, headers(("ETag" = String), ("Location" = String))),
    (status = 200, description = "It was there already, created by the same request.", body = Attachment,
        headers(("ETag" = String), ("Location" = String))),
    AnyProblem, ChangeProblem, BodyProblem, OneProblem,
))]
pub(super) async fn create(State(door): State<Door>, Json(request): Json<AttachmentCreate>) -> Answer {
    let created = door
        .call(move |appliance| {
            differs::create(
                request,
                |request| appliance.attachment_create(request),
                |id| appliance.attachment(id),
            )
        })
        .await;
    let address = |attachment: &Attachment| format!("{}/{}", routes::ATTACHMENTS, attachment.id);
    created
        .flatten()
        .map(|created| Answer::created(created, address, |attachment| &attachment.state))
        .into()
}

/// One attachment, with its connection and what it has done.
#[utoipa::path(get, operation_id = "show_attachment", path = routes::ATTACHMENT, tag = "attachments", params(("id" = String, Path)), responses(
    (status = 200, description = "The attachment.", body = Attachment, headers(("ETag" = String))),
    AnyProblem, OneProblem,
))]
pub(super) async fn show(State(door): State<Door>, Id(id): Id) -> Answer {
    door.call(move |appliance| match appliance.attachment(&id) {
        Some(attachment) => Answer::resource(&attachment, &attachment.state),
        None => Answer::Problem(Problem::not_found("attachment", &id)),
    })
    .await
    .into()
}

/// Changes limits or the socket's rights, while the guest runs.
#[utoipa::path(patch, operation_id = "change_attachment", path = routes::ATTACHMENT, tag = "attachments", request_body = AttachmentPatch,
    params(("id" = String, Path), IfMatch), responses(
    (status = 200, description = "The attachment as agreed on.", body = Attachment, headers(("ETag" = String))),
    AnyProblem, ChangeProblem, OneProblem, BodyProblem, GuardProblem,
))]
pub(super) async fn change(
    State(door): State<Door>,
    Id(id): Id,
    Expected(expected): Expected,
    Json(patch): Json<AttachmentPatch>,
) -> Answer {
    let changed = door
        .call(move |appliance| appliance.attachment_change(&id, patch, expected))
        .await;
    changed
        .flatten()
        .map(|attachment| Answer::resource(&attachment, &attachment.state))
        .into()
}

/// Takes an attachment away: its socket first, then what the guest has in flight is finished. Refused while a virtual
/// machine is connected, unless forced: its disk would be gone under it.
#[utoipa::path(delete, operation_id = "delete_attachment", path = routes::ATTACHMENT, tag = "attachments",
    params(("id" = String, Path), IfMatch, AttachmentRemoval), responses(
    (status = 200, description = "With `dry_run`: what would happen. Nothing has.", body = Removal),
    (status = 204, description = "Taken away."),
    AnyProblem, ChangeProblem, OneProblem, GuardProblem,
))]
pub(super) async fn delete(
    State(door): State<Door>,
    Id(id): Id,
    Expected(expected): Expected,
    RemovalQuery(how): RemovalQuery,
) -> Answer {
    let deleted = door
        .call(move |appliance| appliance.attachment_delete(&id, expected, how))
        .await;
    deleted
        .flatten()
        .map(|removal| Answer::removed(how, &removal))
        .into()
}
