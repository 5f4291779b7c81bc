//! What operators do is an event of its own: who, from where, which command, and what became of it.
//!
//! It is kept before the client is answered, and also when the client goes away meanwhile: what has begun is carried
//! through. Requests that only look are not recorded.

use crate::rest::{Answer, Door, shown};
use crate::withheld;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use palisade_api::{
    Actor, CommandResult, CommandSource, Ending, Event, Problem, ProblemKind, Severity, routes,
};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// Who asks, and from where; part of each request that may go on.
#[derive(Clone, Debug)]
pub(crate) struct Commander {
    pub(crate) actor: Actor,
    pub(crate) source: CommandSource,
}

/// What is learned of a command while its request is read.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    body: OnceLock<Value>,
    only_asks: AtomicBool,
}

impl Noted {
    /// That of a request.
    pub(crate) fn of(extensions: &Extensions) -> Option<Arc<Noted>> {
        extensions.get::<Arc<Noted>>().cloned()
    }

    /// The body has been read.
    pub(crate) fn body(&self, body: Value) {
        let _ = self.body.set(body);
    }

    /// Nothing will be changed.
    pub(crate) fn only_asks(&self) {
        self.only_asks.store(true, Relaxed);
    }
}

/// Carries a request through, and records what became of it when it was to change something.
pub(crate) async fn record(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let matched = matched.as_ref().map_or("", MatchedPath::as_str).to_owned();
    let command = named(request.method(), &matched);
    let (Some((noun, verb)), Some(commander)) = (command, request.extensions().get::<Commander>().cloned())
    else {
        return next.run(request).await;
    };
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let noted = Arc::new(Noted::default());
    request.extensions_mut().insert(Arc::clone(&noted));
    // On a task of its own: who commands may hang up, and is held to what has begun all the same.
    let carried = tokio::spawn(async move {
        let response = next.run(request).await;
        if !noted.only_asks.load(Relaxed) {
            let asked = Asked {
                noun,
                verb,
                id: id_of(&matched, &uri, &noted),
                command: command_text(&method, &uri, noted.body.get()),
            };
            door.record(asked.ended(commander, &response)).await;
        }
        response
    });
    carried.await.unwrap_or_else(|_| {
        Answer::Problem(Problem::new(
            ProblemKind::Internal,
            "internal",
            "the request met a fault of the daemon and was given up",
            "the log says more (journalctl -u palisaded); please report it",
        ))
        .into_response()
    })
}

/// That somebody was not let in. Who merely looks without showing anything is not told of: browsers and scrapers do that all
/// day long.
pub(crate) fn refused_entry(
    commander: Commander,
    method: &Method,
    uri: &Uri,
    problem: &Problem,
) -> Option<Event> {
    let looks = method == Method::GET || method == Method::HEAD;
    let is_told = !looks || matches!(&*problem.code, "token_wrong" | "user_refused");
    let message = format!("access refused: {}", problem.message);
    is_told.then(|| Event {
        actor: commander.actor,
        source: Some(commander.source),
        command: Some(command_text(method, uri, None)),
        result: Some(CommandResult {
            ending: Ending::Refused,
            code: Some(problem.code.to_string()),
        }),
        ..Event::new(Severity::Warning, "access_refused", "node", message)
    })
}

/// A command in the words of the command line.
struct Asked {
    noun: &'static str,
    verb: &'static str,
    id: Option<String>,
    command: String,
}

impl Asked {
    fn ended(self, commander: Commander, response: &Response) -> Event {
        let status = response.status();
        let problem = response.extensions().get::<Problem>();
        let (ending, severity) = match status {
            status if status.is_success() => (Ending::Done, Severity::Info),
            StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => (Ending::Failed, Severity::Error),
            _ => (Ending::Refused, Severity::Warning),
        };
        let name = self.id.as_deref().map(|id| format!(" {id}")).unwrap_or_default();
        let words = format!("{} {}{name}", self.noun.replace('_', " "), self.verb);
        let message = match (ending, problem) {
            (Ending::Done, _) if status == StatusCode::OK && matches!(self.verb, "create" | "add") => {
                format!("{words}: it was there already")
            }
            (Ending::Done, _) => format!("{words}: done"),
            (Ending::Refused, None) => format!("{words}: refused"),
            (Ending::Refused, Some(problem)) => format!("{words}: refused: {}", problem.message),
            (Ending::Failed, None) => format!("{words}: failed"),
            (Ending::Failed, Some(problem)) => format!("{words}: failed: {}", problem.message),
        };
        let message = withheld::text(&message);
        let subject = match &self.id {
            Some(id) => format!("{}/{id}", self.noun),
            None if self.noun == CLUSTER => CLUSTER.to_owned(),
            None => "node".to_owned(),
        };
        Event {
            actor: commander.actor,
            source: Some(commander.source),
            command: Some(self.command),
            result: Some(CommandResult {
                ending,
                code: problem.map(|problem| problem.code.to_string()),
            }),
            ..Event::new(severity, format!("{}_{}", self.noun, self.verb), subject, message)
        }
    }
}

/// What makes a node part of a cluster has no id.
const CLUSTER: &str = "cluster";

/// What a request commands, in the words of the command line; nothing when it changes nothing.
fn named(method: &Method, address: &str) -> Option<(&'static str, &'static str)> {
    let named = match (method.as_str(), address) {
        ("POST", routes::DISKS) => ("disk", "add"),
        ("PATCH", routes::DISK) => ("disk", "change"),
        ("DELETE", routes::DISK) => ("disk", "remove"),
        ("POST", routes::DISK_ADOPT) => ("disk", "adopt"),
        ("POST", routes::IMPORT) => ("disk", "import"),
        ("POST", routes::RELOCATE) => ("disk", "relocate"),
        ("POST", routes::VOLUMES) => ("volume", "create"),
        ("PATCH", routes::VOLUME) => ("volume", "change"),
        ("DELETE", routes::VOLUME) => ("volume", "delete"),
        ("POST", routes::ATTACHMENTS) => ("attachment", "create"),
        ("PATCH", routes::ATTACHMENT) => ("attachment", "change"),
        ("DELETE", routes::ATTACHMENT) => ("attachment", "delete"),
        ("PATCH", routes::NODE) => ("node", "change"),
        ("DELETE", routes::NODE) => ("node", "remove"),
        ("POST", routes::CLUSTER_INIT) => (CLUSTER, "init"),
        ("POST", routes::CLUSTER_JOIN) => (CLUSTER, "join"),
        ("POST", routes::JOIN_TOKENS) => ("join_token", "create"),
        ("DELETE", routes::JOIN_TOKEN) => ("join_token", "revoke"),
        _ => return None,
    };
    Some(named)
}

/// The resource: named by the address, or by the body of a creation.
fn id_of(matched: &str, uri: &Uri, noted: &Noted) -> Option<String> {
    let place = matched.split('/').position(|part| part.starts_with('{'));
    let by_address = place.and_then(|place| uri.path().split('/').nth(place));
    let by_body = || noted.body.get()?.get("id")?.as_str();
    by_address.or_else(by_body).map(|id| shown(&withheld::part(id)))
}

fn command_text(method: &Method, uri: &Uri, body: Option<&Value>) -> String {
    let address = withheld::address(uri);
    let asked = format!("{} {}", shown(method.as_str()), shown(&address));
    match body {
        None => asked,
        Some(body) => format!("{asked} {}", withheld::body(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_something_is_named() {
        let document = serde_json::to_value(crate::rest::document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let mut changes = 0;
        for (path, item) in paths {
            for method in item.as_object().unwrap().keys() {
                let method: Method = method.to_uppercase().parse().unwrap();
                let looks = method == Method::GET || path.ends_with("disk-preview");
                assert_eq!(named(&method, path).is_none(), looks, "{method} {path}");
                changes += usize::from(!looks);
            }
        }
        assert_eq!(changes, 18);
    }
}
