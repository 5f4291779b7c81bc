//! Counters for Prometheus.

use super::openapi::AnyProblem;
use super::{Answer, Door};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use palisade_api::{Problem, ProblemKind, routes};

/// All counters, as OpenMetrics text.
#[utoipa::path(get, path = routes::METRICS, tag = "node", responses(
    (status = 200, description = "OpenMetrics 1.0 text.", body = String, content_type = "application/openmetrics-text"),
    AnyProblem,
))]
pub(super) async fn show(State(door): State<Door>) -> Answer {
    const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match door
        .call(|appliance| crate::exposition::text(appliance.metrics()))
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
