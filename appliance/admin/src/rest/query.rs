//! What follows the question mark.

use super::{Answer, Door};
use crate::body::nearest;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use palisade_api::{PAGE_ITEMS, PAGE_ITEMS_MAX, Problem, ProblemKind, RemovalOptions, routes};
use serde::Deserialize;
use std::str::FromStr;
use utoipa::IntoParams;

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct PageQuery {
    /// Resources on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: usize,
    /// The id after which to go on: `next` of the page before.
    pub(crate) after: Option<String>,
}

/// Which events, and in what form.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct EventsQuery {
    /// `json` for a page of events; server-sent events without it.
    pub(crate) format: Option<EventsFormat>,
    /// The id of an event: those after it. 0 or nothing: all that are kept. A Last-Event-ID header goes first.
    pub(crate) after: u64,
    /// Events on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: usize,
}

/// How the removal of a disk is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) struct DiskRemoval {
    /// Take it away at once, although its medium cannot be reached: what the medium carries stays there.
    #[param(default = false)]
    force: bool,
    /// Only say what would happen.
    #[param(default = false)]
    dry_run: bool,
}

/// How the taking away of an attachment is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) struct AttachmentRemoval {
    /// Take it away although a virtual machine is connected to it.
    #[param(default = false)]
    force: bool,
    /// Only say what would happen.
    #[param(default = false)]
    dry_run: bool,
}

/// How the deletion of a volume is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) struct VolumeRemoval {
    /// Take its attachments away with it, although virtual machines are connected to them.
    #[param(default = false)]
    force: bool,
    /// Only say what would happen.
    #[param(default = false)]
    dry_run: bool,
    /// Whether its space is cleared before anybody else gets it. Absent: as the volume says. `false` also ends the
    /// clearing of one that is being deleted.
    clear: Option<bool>,
}

/// How something is to be taken away.
pub(crate) struct RemovalQuery(pub(crate) RemovalOptions);

/// The form of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventsFormat {
    /// A page.
    Json,
    /// A stream of server-sent events.
    Sse,
}

impl FromRequestParts<Door> for PageQuery {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, _: &Door) -> Result<PageQuery, Answer> {
        let pairs = pairs(parts, &["limit", "after"]).map_err(Answer::Problem)?;
        let limit = limit_of(&pairs).map_err(Answer::Problem)?;
        let after = value(&pairs, "after").map(str::to_owned);
        Ok(PageQuery { limit, after })
    }
}

impl FromRequestParts<Door> for EventsQuery {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, _: &Door) -> Result<EventsQuery, Answer> {
        events_of(parts).map_err(Answer::Problem)
    }
}

impl FromRequestParts<Door> for RemovalQuery {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, _: &Door) -> Result<RemovalQuery, Answer> {
        removal_of(parts).map(RemovalQuery).map_err(Answer::Problem)
    }
}

/// The space of volumes alone can be cleared.
fn removal_of(parts: &Parts) -> Result<RemovalOptions, Problem> {
    let of = |list: &str| parts.uri.path().starts_with(list);
    let known: &[&str] = match of(routes::VOLUMES) {
        true => &["dry_run", "force", "clear"],
        false => &["dry_run", "force"],
    };
    let pairs = pairs(parts, known)?;
    let choice = |name| value(&pairs, name).map(|text| yes_or_no(text, name)).transpose();
    Ok(RemovalOptions {
        force: choice("force")?.unwrap_or(false),
        dry_run: choice("dry_run")?.unwrap_or(false),
        clear: choice("clear")?,
    })
}

fn yes_or_no(text: &str, name: &str) -> Result<bool, Problem> {
    text.parse().map_err(|_| {
        let shown = super::answer::shown(text);
        let message = format!("`{name}` is \"{shown}\", which is neither true nor false");
        invalid(name, message, "give true or false")
    })
}

fn events_of(parts: &Parts) -> Result<EventsQuery, Problem> {
    let pairs = pairs(parts, &["format", "after", "limit"])?;
    let format = match value(&pairs, "format") {
        None => None,
        Some("json") => Some(EventsFormat::Json),
        Some("sse") => Some(EventsFormat::Sse),
        Some(other) => {
            let message = format!("`format` is {:?}", super::answer::shown(other));
            return Err(invalid("format", message, "give json or sse"));
        }
    };
    let after = match parts.headers.get("last-event-id") {
        Some(id) => number(id.to_str().unwrap_or(""), "Last-Event-ID")?,
        None => value(&pairs, "after").map_or(Ok(0), |text| number(text, "after"))?,
    };
    Ok(EventsQuery {
        format,
        after,
        limit: limit_of(&pairs)?,
    })
}

/// The pairs of a query, all of them known and each given once.
fn pairs(parts: &Parts, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri) else {
        return Err(Problem::new(
            ProblemKind::Malformed,
            "query_malformed",
            "what follows the question mark in the address cannot be read",
            "write it as name=value&name=value",
        ));
    };
    for (position, (name, _)) in pairs.iter().enumerate() {
        let shown = super::answer::shown(name);
        if !known.contains(&name.as_str()) {
            let remedy = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known ones are {}", known.join(", ")),
            };
            return Err(Problem::new(
                ProblemKind::Invalid,
                "query_unknown",
                format!("the address has a parameter that is not known here: `{shown}`"),
                remedy,
            )
            .about(shown));
        }
        if pairs.iter().take(position).any(|(before, _)| before == name) {
            return Err(invalid(
                &shown,
                format!("`{shown}` is given twice"),
                "give it once",
            ));
        }
    }
    Ok(pairs)
}

fn value<'a>(pairs: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| value.as_str())
}

fn limit_of(pairs: &[(String, String)]) -> Result<usize, Problem> {
    let limit = value(pairs, "limit").map_or(Ok(PAGE_ITEMS), |text| number(text, "limit"))?;
    match limit {
        1..=PAGE_ITEMS_MAX => Ok(limit),
        _ => Err(invalid(
            "limit",
            format!("`limit` is {limit}"),
            format!("give a number from 1 to {PAGE_ITEMS_MAX}"),
        )),
    }
}

fn number<N: FromStr>(text: &str, name: &str) -> Result<N, Problem> {
    text.parse().map_err(|_| {
        let shown = super::answer::shown(text);
        invalid(
            name,
            format!("`{name}` is \"{shown}\", which is no number it takes"),
            "give a whole number",
        )
    })
}

fn invalid(name: &str, message: String, remedy: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Invalid, "query_invalid", message, remedy).about(name)
}
