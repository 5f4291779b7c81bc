//! The overview for people and the browsable description: files that are part of the program, fetched from nowhere.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::IntoResponse;
use axum::routing::get;
use palisade_api::routes;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/overview.js");

/// The page, its parts, and the description. They hold nothing of the appliance and are given without a token; the page
/// asks for it and shows it with each of its own requests.
pub(crate) fn router(document: OpenApi) -> Router {
    Router::new()
        .route(
            routes::PAGE,
            get(|| async { part("text/html; charset=utf-8", HTML) }),
        )
        .route(
            "/style.css",
            get(|| async { part("text/css; charset=utf-8", STYLE) }),
        )
        .route(
            "/overview.js",
            get(|| async { part("text/javascript; charset=utf-8", SCRIPT) }),
        )
        .merge(SwaggerUi::new(routes::DOCS).url(routes::OPENAPI, document))
}

fn part(media_type: &'static str, content: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
    ];
    (headers, content)
}
