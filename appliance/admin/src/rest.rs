//! The routes: one file of thin handlers per resource. A handler reads the request, asks the appliance, writes the
//! answer.

mod answer;
mod attachments;
mod call;
mod cluster;
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

pub(crate) use answer::{Answer, shown};
pub(crate) use call::Door;

use crate::access::{self, Access, Guard};
use crate::audit;
use crate::body::nearest;
use crate::page;
use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware;
use axum::routing::{get, post};
use palisade_api::{Problem, ProblemKind, routes};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Everything the server answers.
pub(crate) fn router(door: Door, access: Access) -> Router {
    let (resources, document) = resources().split_for_parts();
    let resources = resources.merge(without_a_node());
    let guard = Guard {
        access,
        door: door.clone(),
    };
    let guarded = resources
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(door.clone(), audit::record))
        .layer(middleware::from_fn_with_state(guard, access::guard))
        .with_state(door);
    page::router(document).merge(guarded)
}

/// The routes that carry state, with their descriptions.
fn resources() -> OpenApiRouter<Door> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(node::list))
        .routes(routes!(node::show, node::change, node::remove))
        .routes(routes!(node::reactors))
        .routes(routes!(health::show))
        .routes(routes!(probes::live))
        .routes(routes!(probes::ready))
        .routes(routes!(events::list))
        .routes(routes!(cluster::show))
        .routes(routes!(cluster::init))
        .routes(routes!(cluster::join))
        .routes(routes!(cluster::tokens, cluster::create_token))
        .routes(routes!(cluster::revoke_token))
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

/// Addresses from before nodes had their own, for programs that were written against them: of the node that is asked. The
/// description of the interface names them and describes the new ones.
fn without_a_node() -> Router<Door> {
    Router::new()
        .route("/v1/node", get(node::show))
        .route("/v1/reactors", get(node::reactors))
        .route("/v1/health", get(health::show))
        .route("/v1/disk-preview", post(disks::preview))
        .route("/v1/state/backup", get(takeover::backup))
}

async fn no_route(uri: Uri) -> Answer {
    const KNOWN: [&str; 18] = [
        routes::NODES,
        "/v1/nodes/self",
        "/v1/nodes/self/reactors",
        "/v1/nodes/self/health",
        routes::LIVE,
        routes::READY,
        routes::EVENTS,
        routes::CLUSTER,
        routes::CLUSTER_INIT,
        routes::CLUSTER_JOIN,
        routes::JOIN_TOKENS,
        routes::DISKS,
        routes::IMPORT,
        routes::RELOCATE,
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
