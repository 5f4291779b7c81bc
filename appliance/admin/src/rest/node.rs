//! The node and its reactors.

use super::openapi::AnyProblem;
use super::{Answer, Door};
use axum::extract::State;
use palisade_api::{Node, Problem, Reactor, routes};

/// The node.
#[utoipa::path(get, operation_id = "show_node", path = routes::NODE, tag = "node", responses(
    (status = 200, description = "The node.", body = Node),
    AnyProblem,
))]
pub(super) async fn show(State(door): State<Door>) -> Answer {
    let asked: Result<Answer, Problem> = door.call(|appliance| Answer::json(&appliance.node())).await;
    asked.into()
}

/// The reactors of the node, in the order of their numbers.
#[utoipa::path(get, operation_id = "list_reactors", path = routes::REACTORS, tag = "node", responses(
    (status = 200, description = "All reactors.", body = Vec<Reactor>),
    AnyProblem,
))]
pub(super) async fn reactors(State(door): State<Door>) -> Answer {
    door.call(|appliance| Answer::json(&appliance.reactors()))
        .await
        .into()
}
