//! What is wrong.

use super::openapi::AnyProblem;
use super::{Answer, Door};
use axum::extract::State;
use palisade_api::{Health, routes};

/// What is wrong, in words, the worst first. Always 200: the request itself worked.
#[utoipa::path(get, operation_id = "show_health", path = routes::HEALTH, tag = "node", responses(
    (status = 200, description = "The health of the appliance.", body = Health),
    AnyProblem,
))]
pub(super) async fn show(State(door): State<Door>) -> Answer {
    door.call_for_health(|appliance| Answer::json(&appliance.health()))
        .await
        .into()
}
