//! Answers: resources with their ETags, lists, problems.

use crate::withheld;
use axum::body::Body;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use axum::http::{Response as HttpResponse, StatusCode};
use axum::response::{IntoResponse, Response};
use palisade_api::{Created, Page, Problem, ProblemKind, Removal, RemovalOptions, State};
use serde::Serialize;

/// What a handler gives back.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A resource or list, ready to be sent.
    Ready(Response),
    /// It did not work.
    Problem(Problem),
}

impl Answer {
    /// JSON without an ETag.
    pub(crate) fn json(value: &impl Serialize) -> Answer {
        Answer::Ready(json(StatusCode::OK, value))
    }

    /// One resource.
    pub(crate) fn resource(value: &impl Serialize, state: &State) -> Answer {
        Answer::tagged(value, state.generation)
    }

    /// One resource that is of a generation.
    pub(crate) fn tagged(value: &impl Serialize, generation: u64) -> Answer {
        let mut response = json(StatusCode::OK, value);
        put(&mut response, ETAG, &etag(generation));
        Answer::Ready(response)
    }

    /// Something new that cannot be read again.
    pub(crate) fn made(value: &impl Serialize) -> Answer {
        Answer::Ready(json(StatusCode::CREATED, value))
    }

    /// One resource that was asked for: 201 when it is new, 200 when it was there.
    pub(crate) fn created<T: Serialize>(
        created: Created<T>,
        address: impl Fn(&T) -> String,
        state: impl Fn(&T) -> &State,
    ) -> Answer {
        let (status, value) = match created {
            Created::New(value) => (StatusCode::CREATED, value),
            Created::Existing(value) => (StatusCode::OK, value),
        };
        let mut response = json(status, &value);
        put(&mut response, ETAG, &etag(state(&value).generation));
        put(&mut response, LOCATION, &address(&value));
        Answer::Ready(response)
    }

    /// Something is gone, and there is nothing to say; or it would be, and this is what would happen.
    pub(crate) fn removed(how: RemovalOptions, removal: &Removal) -> Answer {
        match how.dry_run {
            true => Answer::json(removal),
            false => Answer::gone(),
        }
    }

    /// Something is gone, and there is nothing to say.
    pub(crate) fn gone() -> Answer {
        Answer::Ready(StatusCode::NO_CONTENT.into_response())
    }

    /// Part of a list: what follows `after`, in the order of the ids.
    pub(crate) fn page<T: Serialize>(
        mut all: Vec<T>,
        id: impl Fn(&T) -> &str,
        after: Option<&str>,
        limit: usize,
    ) -> Answer {
        all.sort_by(|a, b| id(a).cmp(id(b)));
        let start = after.map_or(0, |after| all.partition_point(|item| id(item) <= after));
        let mut items: Vec<T> = all.into_iter().skip(start).take(limit + 1).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|item| id(item).to_owned());
        Answer::json(&Page { items, next })
    }
}

impl From<Result<Answer, Problem>> for Answer {
    fn from(result: Result<Answer, Problem>) -> Answer {
        result.unwrap_or_else(Answer::Problem)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Answer::Ready(response) => response,
            Answer::Problem(problem) => {
                let status =
                    StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                if status.is_server_error() {
                    log::warn!(
                        "rest: answered {status} code={} {}",
                        problem.code,
                        withheld::text(&problem.message)
                    );
                }
                let mut response = json(status, &problem);
                if let Some(seconds) = problem.retry_after_s {
                    put(&mut response, RETRY_AFTER, &seconds.to_string());
                }
                // For who records what became of a command.
                response.extensions_mut().insert(problem.clone());
                if matches!(problem.kind, ProblemKind::Timeout | ProblemKind::TooLarge) {
                    // The rest of the body is still under way and will not be read.
                    put(&mut response, axum::http::header::CONNECTION, "close");
                }
                response
            }
        }
    }
}

/// A text of the client's, in a message that goes back to it.
pub(crate) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    let escaped: String = text
        .chars()
        .take(CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    match text.chars().count() > CHARS_MAX {
        true => format!("{escaped}..."),
        false => escaped,
    }
}

/// The resource's ETag: its generation (RFC 9110, section 8.8.3). It names what is wanted; what is observed beside it
/// may differ between two answers of the same ETag.
fn etag(generation: u64) -> String {
    format!("\"{generation}\"")
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let Ok(bytes) = serde_json::to_vec(value) else {
        // Our own types have string keys only and always serialize.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = HttpResponse::new(Body::from(bytes));
    *response.status_mut() = status;
    put(&mut response, CONTENT_TYPE, "application/json");
    put(&mut response, CACHE_CONTROL, "no-store");
    response
}

fn put(response: &mut Response, name: HeaderName, value: &str) {
    debug_assert_ne!(name, ALLOW, "axum sets it");
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
