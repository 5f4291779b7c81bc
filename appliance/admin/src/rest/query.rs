//! What follows the question mark.

use super::{Answer, Door};
use crate::audit::Noted;
use crate::body::nearest;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use palisade_api::{EventId, PAGE_ITEMS, PAGE_ITEMS_MAX, Problem, ProblemKind, RemovalOptions, routes};
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
    /// The id of an event, or its number: those after it. 0 or nothing: all that are kept. A Last-Event-ID header goes first.
    #[param(value_type = Option<String>)]
    pub(crate) after: EventId,
    /// So many of the last events instead, oldest first; a stream begins with them and goes on. Not together with `after` or
    /// `limit`. A Last-Event-ID header goes first.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) last: Option<usize>,
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

/// How the removal of a node is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) struct NodeRemoval {
    /// Only say what would happen.
    #[param(default = false)]
    dry_run: bool,
}

/// Nothing follows the question mark. What is asked for there and not known, as a `dry_run`, is refused and not passed over.
pub(crate) struct NoQuery;

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

impl FromRequestParts<Door> for NoQuery {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, _: &Door) -> Result<NoQuery, Answer> {
        match pairs(parts, &[]) {
            Ok(_) => Ok(NoQuery),
            Err(problem) => Err(Answer::Problem(problem)),
        }
    }
}

impl FromRequestParts<Door> for RemovalQuery {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, _: &Door) -> Result<RemovalQuery, Answer> {
        let how = removal_of(parts).map_err(Answer::Problem)?;
        if how.dry_run
            && let Some(noted) = Noted::of(&parts.extensions)
        {
            noted.only_asks();
        }
        Ok(RemovalQuery(how))
    }
}

/// The space of volumes alone can be cleared, and nothing takes a node out that is in use.
fn removal_of(parts: &Parts) -> Result<RemovalOptions, Problem> {
    let of = |list: &str| parts.uri.path().starts_with(list);
    let known: &[&str] = match (of(routes::VOLUMES), of(routes::NODES)) {
        (true, _) => &["dry_run", "force", "clear"],
        (_, true) => &["dry_run"],
        _ => &["dry_run", "force"],
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
    let pairs = pairs(parts, &["format", "after", "last", "limit"])?;
    let format = match value(&pairs, "format") {
        None => None,
        Some("json") => Some(EventsFormat::Json),
        Some("sse") => Some(EventsFormat::Sse),
        Some(other) => {
            let message = format!("`format` is {:?}", super::answer::shown(other));
            return Err(invalid("format", message, "give json or sse"));
        }
    };
    let last = value(&pairs, "last")
        .map(|text| count_of(text, "last"))
        .transpose()?;
    if let (Some(_), Some((other, _))) = (
        last,
        pairs.iter().find(|(name, _)| name == "after" || name == "limit"),
    ) {
        let message = format!("`last` and `{other}` do not go together");
        return Err(invalid("last", message, "give one of them"));
    }
    let seen = parts.headers.get("last-event-id");
    let after = match seen {
        Some(id) => event_id(id.to_str().unwrap_or(""), "Last-Event-ID")?,
        None => value(&pairs, "after").map_or(Ok(EventId::default()), |text| event_id(text, "after"))?,
    };
    Ok(EventsQuery {
        format,
        after,
        last: last.filter(|_| seen.is_none()),
        limit: limit_of(&pairs)?,
    })
}

fn event_id(text: &str, name: &str) -> Result<EventId, Problem> {
    text.parse().map_err(|error| {
        let shown = super::answer::shown(text);
        let message = format!("`{name}` is \"{shown}\": {error}");
        invalid(
            name,
            message,
            "give the `id` of an event, or 0 for all that are kept",
        )
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
                None if known.is_empty() => "leave it out: there are none here".to_owned(),
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
    value(pairs, "limit").map_or(Ok(PAGE_ITEMS), |text| count_of(text, "limit"))
}

fn count_of(text: &str, name: &str) -> Result<usize, Problem> {
    match number(text, name)? {
        count @ 1..=PAGE_ITEMS_MAX => Ok(count),
        count => Err(invalid(
            name,
            format!("`{name}` is {count}"),
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
