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
Disks, volumes and attachments of a storage appliance.

* **Ids are chosen by the client.** Creating the same thing twice is creating it once: 201 the first time, 200 after that, \
409 when the second wish differs.
* **Agreed is not applied.** Every resource carries `state`: the `generation` that was agreed on, the one `applied` on the \
node, and what the node is `blocked_on`.
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
    /// The appliance is busy, or has too many clients.
    #[response(status = 503)]
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
            routes::NODE,
            routes::REACTORS,
            routes::HEALTH,
            routes::LIVE,
            routes::READY,
            routes::EVENTS,
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
