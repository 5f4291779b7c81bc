//! The routes: one file of thin handlers per resource. A handler reads the request, asks the appliance, writes the
//! answer.

mod answer;
mod attachments;
mod call;
mod differs;
mod disks;
mod events;
mod health;
mod metrics;
mod node;
mod openapi;
mod probes;
mod query;
mod request;
mod takeover;
mod volumes;

pub use openapi::document;

pub(crate) use answer::Answer;
pub(crate) use call::Door;

use crate::access::{self, Access};
use crate::body::nearest;
use crate::page;
use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware;
use palisade_api::{Problem, ProblemKind, routes};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Everything the server answers.
pub(crate) fn router(door: Door, access: Access) -> Router {
    let (resources, document) = resources().split_for_parts();
    let guarded = resources
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(access, access::guard))
        .with_state(door);
    page::router(document).merge(guarded)
}

/// The routes that carry state, with their descriptions.
fn resources() -> OpenApiRouter<Door> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(node::show))
        .routes(routes!(node::reactors))
        .routes(routes!(health::show))
        .routes(routes!(probes::live))
        .routes(routes!(probes::ready))
        .routes(routes!(events::list))
        .routes(routes!(disks::list, disks::add))
        .routes(routes!(disks::preview))
        .routes(routes!(disks::show, disks::change, disks::remove))
        .routes(routes!(takeover::adopt))
        .routes(routes!(takeover::import))
        .routes(routes!(takeover::relocate))
        .routes(routes!(takeover::backup))
        .routes(routes!(volumes::list, volumes::create))
        .routes(routes!(volumes::show, volumes::change, volumes::delete))
        .routes(routes!(attachments::list, attachments::create))
        .routes(routes!(
            attachments::show,
            attachments::change,
            attachments::delete
        ))
        .routes(routes!(metrics::show))
}

async fn no_route(uri: Uri) -> Answer {
    const KNOWN: [&str; 15] = [
        routes::NODE,
        routes::REACTORS,
        routes::HEALTH,
        routes::LIVE,
        routes::READY,
        routes::EVENTS,
        routes::DISKS,
        routes::DISK_PREVIEW,
        routes::IMPORT,
        routes::RELOCATE,
        routes::STATE_BACKUP,
        routes::VOLUMES,
        routes::ATTACHMENTS,
        routes::METRICS,
        routes::OPENAPI,
    ];
    let remedy = match nearest(uri.path(), &KNOWN) {
        Some(near) => format!("did you mean {near}?"),
        None => format!(
            "{} lists what there is, {} shows it",
            routes::OPENAPI,
            routes::DOCS
        ),
    };
    let path = answer::shown(uri.path());
    let message = format!("there is nothing at {path}");
    Answer::Problem(Problem::new(
        ProblemKind::NotFound,
        "route_not_found",
        message,
        remedy,
    ))
}

async fn no_method(method: Method, uri: Uri) -> Answer {
    let path = answer::shown(uri.path());
    let method = answer::shown(method.as_str());
    Answer::Problem(Problem::new(
        ProblemKind::Method,
        "method_not_allowed",
        format!("{path} cannot be asked with {method}"),
        "the Allow header of this answer names the methods it takes",
    ))
}
