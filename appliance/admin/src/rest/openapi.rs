//! The description of the interface, made from the types and the handlers.

use super::query::EventsFormat;
use palisade_api::Problem;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa::{IntoResponses, ToSchema};

/// The whole description (OpenAPI 3.1), as `/openapi.json` gives it.
pub fn document() -> OpenApi {
    super::resources().split_for_parts().1
}

/// All but the routes.
pub(super) fn head() -> OpenApi {
    let mut info = Info::new("Palisade", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.to_owned());
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "The token of the daemon's configuration; without one configured, none is asked for.",
        ))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(
            ComponentsBuilder::new()
                .schema_from::<Problem>()
                .schema_from::<EventsFormat>()
                .security_scheme("token", SecurityScheme::Http(token))
                .build(),
        ))
        .security(Some([
            SecurityRequirement::default(),
            SecurityRequirement::new("token", Vec::<String>::new()),
        ]))
        .build()
}

const DESCRIPTION: &str = "\
Disks, volumes and attachments of a storage appliance, and the cluster that several appliances form.

* **Ids are chosen by the client.** Creating the same thing twice is creating it once: 201 the first time, 200 after that, \
409 when the second request differs.
* **Agreed is not applied.** Every resource carries `state`: the `generation` that was agreed on, and in `applied` for each node \
that has to do with it the generation in force there, and what the node is `blocked_on`.
* **What belongs to one node is below its address**, `/v1/nodes/ID/...`, and answered by that node alone; `self` is the one \
that is asked. `/v1/node`, `/v1/health`, `/v1/reactors`, `/v1/disk-preview` and `/v1/state/backup` are from before that: they are \
answered as those below `/v1/nodes/self`.
* **A change may be asked for again.** Where another node leads the cluster the answer is 421, and `ask` says whom to ask; \
while nobody does it is 503, and where it is not known whether the change was agreed on, 504, both with Retry-After. Nothing is \
done twice.
* **A cluster is formed by its nodes.** `/v1/cluster/init` and `/v1/cluster/join` are about the node that is asked and are never \
to be sent on to another; everything else about the cluster may be asked of any node. A join token's text is in the answer that \
makes it and nowhere else.
* **Changes can be guarded.** A resource's ETag is its generation; with If-Match a change is refused (412) when somebody \
else was faster.
* **An error is a Problem**: a stable `code`, a sentence, and a `remedy`.";

/// What every request may meet.
#[derive(IntoResponses, ToSchema)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) enum AnyProblem {
    /// The query or a header cannot be read.
    #[response(status = 400)]
    Malformed(Problem),
    /// A token is configured, and the request shows none or another.
    #[response(status = 401)]
    Unauthorized(Problem),
    /// The Host is none of this appliance's.
    #[response(status = 403)]
    Forbidden(Problem),
    /// A parameter is not known or out of range.
    #[response(status = 422)]
    Invalid(Problem),
    /// A fault of the daemon.
    #[response(status = 500)]
    Internal(Problem),
    /// The appliance is busy, has too many clients, or knows no leader of the cluster.
    #[response(status = 503, headers(("Retry-After" = u32)))]
    Unavailable(Problem),
}

/// What a request for one resource may meet.
#[derive(IntoResponses, ToSchema)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) enum OneProblem {
    /// There is no such resource, or what the body names does not exist.
    #[response(status = 404)]
    NotFound(Problem),
}

/// What a request below a node's address may meet.
#[derive(IntoResponses, ToSchema)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) enum NodeProblem {
    /// The cluster has no such node, or what the body names does not exist.
    #[response(status = 404)]
    NotFound(Problem),
    /// Another node has to be asked; the remedy names its addresses as far as they are known.
    #[response(status = 421)]
    Misdirected(Problem),
}

/// What a change may meet.
#[derive(IntoResponses, ToSchema)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) enum ChangeProblem {
    /// Another node has to be asked: the leader of the cluster, or the only one that can do it. `ask` names it, with its
    /// addresses as far as they are known. Nothing has been changed.
    #[response(status = 421)]
    Misdirected(Problem),
    /// The change was proposed, and whether it is agreed on is not known. The same request may be made again: nothing is
    /// done twice.
    #[response(status = 504, headers(("Retry-After" = u32)))]
    Undecided(Problem),
}

/// What a change of the node that is asked may meet, which no other node can make in its place.
#[derive(IntoResponses, ToSchema)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) enum HereProblem {
    /// Whether it was done is not known. The same request may be made again, of the same node: nothing is done twice.
    #[response(status = 504, headers(("Retry-After" = u32)))]
    Undecided(Problem),
}

/// What a body may meet.
#[derive(IntoResponses, ToSchema)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) enum BodyProblem {
    /// The body did not come in time.
    #[response(status = 408)]
    Timeout(Problem),
    /// The resource exists and differs, or something that is there stands in the way.
    #[response(status = 409)]
    Conflict(Problem),
    /// The body is longer than 64 KiB.
    #[response(status = 413)]
    TooLarge(Problem),
    /// The body does not say that it is JSON.
    #[response(status = 415)]
    MediaType(Problem),
    /// The disks have no room.
    #[response(status = 507)]
    NoSpace(Problem),
}

/// What a guarded change may meet.
#[derive(IntoResponses, ToSchema)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) enum GuardProblem {
    /// The resource is in use.
    #[response(status = 409)]
    Conflict(Problem),
    /// The resource is no longer the one of the ETag in If-Match.
    #[response(status = 412)]
    Changed(Problem),
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_api::routes;
    use serde_json::Value;
    use std::collections::BTreeSet;

    #[test]
    fn every_address_of_the_contract_is_described_and_no_other() {
        let document = document();
        let mut described: Vec<&str> = document.paths.paths.keys().map(String::as_str).collect();
        let mut known = [
            routes::NODES,
            routes::NODE,
            routes::REACTORS,
            routes::HEALTH,
            routes::LIVE,
            routes::READY,
            routes::EVENTS,
            routes::CLUSTER,
            routes::CLUSTER_INIT,
            routes::CLUSTER_JOIN,
            routes::JOIN_TOKENS,
            routes::JOIN_TOKEN,
            routes::DISKS,
            routes::DISK,
            routes::DISK_ADOPT,
            routes::DISK_PREVIEW,
            routes::IMPORT,
            routes::RELOCATE,
            routes::STATE_BACKUP,
            routes::VOLUMES,
            routes::VOLUME,
            routes::ATTACHMENTS,
            routes::ATTACHMENT,
            routes::METRICS,
        ];
        described.sort_unstable();
        known.sort_unstable();
        assert_eq!(described, known);
    }

    /// Every value below a key, wherever it stands.
    fn below<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name == key {
                        found.push(value);
                    }
                    below(value, key, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| below(item, key, found)),
            _ => {}
        }
    }

    fn operations(document: &Value) -> Vec<(String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        paths
            .iter()
            .flat_map(|(path, item)| {
                let operations = item.as_object().unwrap().iter();
                operations.map(move |(method, one)| (format!("{method} {path}"), one))
            })
            .collect()
    }

    /// Clients are generated from the description, and name their functions after it.
    #[test]
    fn each_operation_has_a_name_of_its_own_and_says_what_it_answers() {
        let document = serde_json::to_value(document()).unwrap();
        let mut names = BTreeSet::new();
        for (at, operation) in operations(&document) {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "{at}: {name} is taken");
            let identifier = name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
            assert!(identifier && !name.is_empty(), "{at}: {name}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{at}");
            for (status, response) in responses {
                assert!(response["description"].is_string(), "{at}: {status}");
            }
        }
        assert!(names.len() > 20, "{names:?}");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(document()).unwrap();
        let mut references = Vec::new();
        below(&document, "$ref", &mut references);
        assert!(references.len() > 100, "{}", references.len());
        let paths = references.iter().map(|reference| reference.as_str().unwrap());
        let nowhere: BTreeSet<_> = paths
            .filter(|path| document.pointer(path.trim_start_matches('#')).is_none())
            .collect();
        assert!(nowhere.is_empty(), "{nowhere:?}");
        let schemes = document["components"]["securitySchemes"].as_object().unwrap();
        let mut asked = Vec::new();
        below(&document, "security", &mut asked);
        for scheme in asked.iter().flat_map(|asked| asked.as_array().unwrap()) {
            for name in scheme.as_object().unwrap().keys() {
                assert!(schemes.contains_key(name), "{name}");
            }
        }
    }

    /// Who asks for a change has to know that it may be asked for again, and of whom.
    #[test]
    fn each_change_says_whom_to_ask_and_when_to_ask_again() {
        let document = serde_json::to_value(document()).unwrap();
        let mut changes = 0;
        for (at, operation) in operations(&document) {
            if at.starts_with("get ") || at.ends_with("disk-preview") {
                continue;
            }
            changes += 1;
            let responses = &operation["responses"];
            // What makes a node part of a cluster is about that node: sent on, it would be done to another one.
            let is_of_one_node = [routes::CLUSTER_INIT, routes::CLUSTER_JOIN]
                .iter()
                .any(|address| at.ends_with(address));
            assert_eq!(responses["421"].is_object(), !is_of_one_node, "{at}");
            for status in ["503", "504"] {
                assert!(
                    responses[status]["headers"]["Retry-After"].is_object(),
                    "{at}: {status}"
                );
            }
        }
        assert_eq!(changes, 18);
        let problem = &document["components"]["schemas"]["Problem"]["properties"];
        assert!(problem["ask"].is_object() && problem["retry_after_s"].is_object());
    }

    /// A generator of clients makes one type of what is put together, and cannot of one of several objects.
    #[test]
    fn what_is_put_together_is_made_of_objects() {
        let document = serde_json::to_value(document()).unwrap();
        let mut together = Vec::new();
        below(&document, "allOf", &mut together);
        assert!(!together.is_empty());
        for part in together.iter().flat_map(|parts| parts.as_array().unwrap()) {
            let path = part["$ref"].as_str().map(|path| path.trim_start_matches('#'));
            let schema = path.map_or(part, |path| document.pointer(path).unwrap());
            assert_eq!(schema["type"], "object", "{part}");
        }
    }

    #[test]
    fn parameters_are_named_once_and_those_of_the_path_are_all_there() {
        let document = serde_json::to_value(document()).unwrap();
        for (at, operation) in operations(&document) {
            let none = Vec::new();
            let parameters = operation["parameters"].as_array().unwrap_or(&none);
            let mut named = BTreeSet::new();
            for one in parameters {
                let (place, name) = (one["in"].as_str().unwrap(), one["name"].as_str().unwrap());
                assert!(named.insert((place, name)), "{at}: {name} twice");
                assert!(one["schema"].is_object(), "{at}: {name} has no schema");
                if place == "path" {
                    assert_eq!(one["required"], true, "{at}: {name}");
                    assert!(at.contains(&format!("{{{name}}}")), "{at}: no {name}");
                }
            }
            let wanted = at.split('{').skip(1).filter_map(|part| part.split_once('}'));
            for (name, _) in wanted {
                assert!(named.contains(&("path", name)), "{at}: {name} is not described");
            }
        }
    }
}
