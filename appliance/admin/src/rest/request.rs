//! What handlers read from a request: the id in the address, the generation the client has seen, the body.

use super::answer::shown;
use super::{Answer, Door};
use crate::audit::Noted;
use crate::body::parse_json;
use crate::limits::{BODY_BYTES_MAX, BODY_WAIT, ID_BYTES_MAX};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::request::Parts;
use palisade_api::{Problem, ProblemKind, RequestBody, routes};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use utoipa::IntoParams;

/// The id in the address.
pub(crate) struct Id(pub(crate) String);

impl FromRequestParts<Door> for Id {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Id, Answer> {
        match Path::<String>::from_request_parts(parts, door).await {
            Ok(Path(id)) if id.len() <= ID_BYTES_MAX => Ok(Id(id)),
            _ => Err(Answer::Problem(Problem::new(
                ProblemKind::NotFound,
                "id_malformed",
                "the id in the address is none: it is too long or not UTF-8",
                "ids consist of a-z, 0-9 and '-'; the list shows those there are",
            ))),
        }
    }
}

/// Which node a request is for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct NodeInAddress {
    /// The id or the name of a node, or `self` for the one that is asked.
    pub(super) node: String,
}

impl FromRequestParts<Door> for NodeInAddress {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<NodeInAddress, Answer> {
        if !parts.uri.path().starts_with(routes::NODES) {
            return Ok(NodeInAddress {
                node: routes::SELF.into(),
            });
        }
        let Id(node) = Id::from_request_parts(parts, door).await?;
        Ok(NodeInAddress { node })
    }
}

/// The node that a request is about, whichever node is asked.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct MemberInAddress {
    /// The id or the name of a node; not `self`.
    pub(super) node: String,
}

impl FromRequestParts<Door> for MemberInAddress {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<MemberInAddress, Answer> {
        let Id(node) = Id::from_request_parts(parts, door).await?;
        Ok(MemberInAddress { node })
    }
}

/// How a guarded change is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only its derived description is used")]
pub(super) struct IfMatch {
    /// The ETag that the resource was last read with; it is changed only if it still has it.
    #[param(rename = "If-Match", nullable = false, pattern = r#"^(\*|"[0-9]{1,19}")$"#)]
    if_match: Option<String>,
}

/// The generation the client has seen, from If-Match (RFC 9110, section 13.1.1); none when it does not matter.
pub(crate) struct Expected(pub(crate) Option<u64>);

impl FromRequestParts<Door> for Expected {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, _: &Door) -> Result<Expected, Answer> {
        let mut values = parts.headers.get_all(IF_MATCH).iter();
        let (Some(value), more) = (values.next(), values.next()) else {
            return Ok(Expected(None));
        };
        let text = value.to_str().unwrap_or("").trim();
        if text == "*" && more.is_none() {
            return Ok(Expected(None));
        }
        let tag = text.strip_prefix("W/").unwrap_or(text);
        let opaque = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        if more.is_some() || opaque.is_none_or(|opaque| opaque.contains('"')) {
            return Err(Answer::Problem(
                Problem::new(
                    ProblemKind::Malformed,
                    "if_match_malformed",
                    format!("If-Match is {}, which is not one ETag", shown(text)),
                    "send the ETag that the resource was last read with, quotes included",
                )
                .about("If-Match"),
            ));
        }
        let generation = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .and_then(|digits| digits.parse().ok());
        match generation {
            Some(generation) => Ok(Expected(Some(generation))),
            // An ETag that we never gave matches nothing.
            None => Err(Answer::Problem(
                Problem::new(
                    ProblemKind::Changed,
                    "changed_meanwhile",
                    format!(
                        "nothing was touched: no resource here ever had the ETag {}",
                        shown(text)
                    ),
                    "read the resource again and send its ETag, quotes included, in If-Match",
                )
                .about("If-Match"),
            )),
        }
    }
}

/// The body, read as JSON.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned + RequestBody> FromRequest<Door> for Json<T> {
    type Rejection = Answer;

    async fn from_request(request: Request, _: &Door) -> Result<Json<T>, Answer> {
        check_media_type(&request).map_err(Answer::Problem)?;
        let noted = Noted::of(request.extensions());
        let bytes = read(request.into_body()).await.map_err(Answer::Problem)?;
        let body: T = parse_json(&bytes).map_err(Answer::Problem)?;
        if let Some(noted) = noted {
            // As it came, without what JSON would be written otherwise.
            noted.body(serde_json::from_slice(&bytes).unwrap_or_default());
            if body.only_asks() {
                noted.only_asks();
            }
        }
        body.check().map_err(Answer::Problem)?;
        Ok(Json(body))
    }
}

/// A body must say that it is JSON. A page of another origin cannot make a browser send that unasked.
fn check_media_type(request: &Request) -> Result<(), Problem> {
    let media_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or("").trim());
    match media_type {
        Some(media_type) if media_type.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(Problem::new(
            ProblemKind::MediaType,
            "media_type_not_json",
            "the body does not say that it is JSON",
            "send Content-Type: application/json",
        )),
    }
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    // By its own account too long: not a byte of it is waited for.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    match timeout(BODY_WAIT, axum::body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if too_long(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(
            ProblemKind::Malformed,
            "body_malformed",
            "the body broke off or is framed wrongly",
            "send it again, with its true Content-Length",
        )),
        Err(_) => Err(Problem::new(
            ProblemKind::Timeout,
            "body_slow",
            format!("the body did not come within {} s", BODY_WAIT.as_secs()),
            "send it again, in one piece",
        )),
    }
}

fn too_large() -> Problem {
    Problem::new(
        ProblemKind::TooLarge,
        "body_too_large",
        format!("the body has more than {BODY_BYTES_MAX} bytes"),
        "send one resource at a time",
    )
}

fn too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
