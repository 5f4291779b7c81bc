//! What is wrong.

use super::openapi::{AnyProblem, NodeProblem};
use super::request::NodeInAddress;
use super::{Answer, Door};
use axum::extract::State;
use palisade_api::{Health, routes};

/// What is wrong on a node, in words, the worst first. Always 200: the request itself worked.
#[utoipa::path(get, operation_id = "show_health", path = routes::HEALTH, tag = "nodes", params(NodeInAddress), responses(
    (status = 200, description = "The health of the appliance.", body = Health),
    AnyProblem, NodeProblem,
))]
pub(super) async fn show(State(door): State<Door>, node: NodeInAddress) -> Answer {
    let asked = door.call_for_health(move |appliance| {
        node.is_here(appliance)?;
        Ok(Answer::json(&appliance.health()))
    });
    asked.await.flatten().into()
}
