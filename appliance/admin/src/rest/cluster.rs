//! The cluster, and the tokens that let nodes in.

use super::openapi::{AnyProblem, BodyProblem, ChangeProblem, HereProblem, OneProblem};
use super::query::{NoQuery, PageQuery};
use super::request::{Id, Json};
use super::{Answer, Door};
use axum::extract::State;
use palisade_api::{
    ClusterInit, ClusterJoin, ClusterJoined, ClusterStatus, JoinTokenCreate, JoinTokenMade, JoinTokenSummary,
    Page, routes,
};

/// The cluster as the node that is asked knows it: who belongs to it, who leads, and whether a majority answers. Without one,
/// what is shown may be behind.
#[utoipa::path(get, operation_id = "show_cluster", path = routes::CLUSTER, tag = "cluster", responses(
    (status = 200, description = "The cluster.", body = ClusterStatus),
    AnyProblem,
))]
pub(super) async fn show(State(door): State<Door>) -> Answer {
    let asked = door.call(|appliance| {
        let mut cluster = appliance.cluster();
        cluster.members.sort_by(|one, other| one.name.cmp(&other.name));
        Answer::json(&cluster)
    });
    asked.await.into()
}

/// Makes the node that is asked the first of a cluster of several. Nothing that it serves is interrupted.
#[utoipa::path(post, operation_id = "init_cluster", path = routes::CLUSTER_INIT, tag = "cluster", request_body = ClusterInit,
    responses(
    (status = 200, description = "The cluster, now or made before by the same request.", body = ClusterStatus),
    AnyProblem, HereProblem, BodyProblem,
))]
pub(super) async fn init(State(door): State<Door>, _: NoQuery, Json(request): Json<ClusterInit>) -> Answer {
    let made = door.call(move |appliance| appliance.cluster_init(request)).await;
    made.flatten().map(|cluster| Answer::json(&cluster)).into()
}

/// Has the node that is asked join a cluster. It must have no disks, volumes or attachments, and starts anew as a member a moment
/// after the answer.
#[utoipa::path(post, operation_id = "join_cluster", path = routes::CLUSTER_JOIN, tag = "cluster", request_body = ClusterJoin,
    responses(
    (status = 200, description = "It has been let in.", body = ClusterJoined),
    AnyProblem, HereProblem, OneProblem, BodyProblem,
))]
pub(super) async fn join(State(door): State<Door>, _: NoQuery, Json(request): Json<ClusterJoin>) -> Answer {
    let joined = door.call(move |appliance| appliance.cluster_join(request)).await;
    joined.flatten().map(|joined| Answer::json(&joined)).into()
}

/// All tokens that let nodes in, in the order of their ids, without their texts: nobody keeps those.
#[utoipa::path(get, operation_id = "list_join_tokens", path = routes::JOIN_TOKENS, tag = "cluster", params(PageQuery), responses(
    (status = 200, description = "A page of tokens.", body = Page<JoinTokenSummary>),
    AnyProblem,
))]
pub(super) async fn tokens(State(door): State<Door>, query: PageQuery) -> Answer {
    door.call(move |appliance| {
        Answer::page(
            appliance.join_tokens(),
            |token| &token.id,
            query.after.as_deref(),
            query.limit,
        )
    })
    .await
    .into()
}

/// Makes a token that lets one node in. Its text is in this answer and nowhere else, so the same request again is refused.
#[utoipa::path(post, operation_id = "create_join_token", path = routes::JOIN_TOKENS, tag = "cluster", request_body = JoinTokenCreate,
    responses(
    (status = 201, description = "Made.", body = JoinTokenMade),
    AnyProblem, ChangeProblem, BodyProblem,
))]
pub(super) async fn create_token(
    State(door): State<Door>,
    _: NoQuery,
    Json(request): Json<JoinTokenCreate>,
) -> Answer {
    let made = door
        .call(move |appliance| appliance.join_token_create(request))
        .await;
    made.flatten().map(|token| Answer::made(&token)).into()
}

/// Takes a token back. The node that it has let in, if any, stays.
#[utoipa::path(delete, operation_id = "revoke_join_token", path = routes::JOIN_TOKEN, tag = "cluster",
    params(("id" = String, Path)), responses(
    (status = 204, description = "It lets nobody in any more."),
    AnyProblem, ChangeProblem, OneProblem,
))]
pub(super) async fn revoke_token(State(door): State<Door>, Id(id): Id, _: NoQuery) -> Answer {
    let revoked = door.call(move |appliance| appliance.join_token_revoke(&id)).await;
    revoked.flatten().map(|()| Answer::gone()).into()
}
