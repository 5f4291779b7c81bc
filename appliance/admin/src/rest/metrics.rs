//! Counters for Prometheus.

use super::openapi::AnyProblem;
use super::{Answer, Door};
use crate::exposition::MEDIA_TYPE;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use palisade_api::{Problem, ProblemKind, routes};

/// All counters, as text for Prometheus.
#[utoipa::path(get, operation_id = "show_metrics", path = routes::METRICS, tag = "node", responses(
    (status = 200, description = "Prometheus's text format 0.0.4.", body = String, content_type = "text/plain"),
    AnyProblem,
))]
pub(super) async fn show(State(door): State<Door>) -> Answer {
    match door
        .call(|appliance| crate::exposition::text(&appliance.metrics()))
        .await
    {
        Ok(Ok(text)) => Answer::Ready(([(CONTENT_TYPE, MEDIA_TYPE)], text).into_response()),
        Ok(Err(error)) => Answer::Problem(Problem::new(
            ProblemKind::Internal,
            "internal",
            format!("the counters could not be written: {error}"),
            "please report it",
        )),
        Err(problem) => Answer::Problem(problem),
    }
}
