//! Who may come in: the token, and the guard against other sites' pages in an operator's browser.

use crate::rest::Answer;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use palisade_api::{Problem, ProblemKind};
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// What a request must show.
#[derive(Clone)]
pub(crate) struct Access {
    /// The token, when one is configured.
    pub(crate) token: Option<Arc<str>>,
}

impl Access {
    /// Whether a request with these headers may go on.
    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match &self.token {
            Some(token) => check_token(token, headers),
            None => check_host(headers),
        }
    }
}

/// Lets a request through, or answers it.
pub(crate) async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let unauthorized = problem.kind == ProblemKind::Unauthorized;
            let mut response = Answer::Problem(problem).into_response();
            if unauthorized {
                response
                    .headers_mut()
                    .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

/// RFC 6750, section 2.1: `Authorization: Bearer TOKEN`. The comparison takes the same time wherever it fails.
fn check_token(token: &str, headers: &HeaderMap) -> Result<(), Problem> {
    let shown = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, shown)| shown.trim());
    match shown {
        Some(shown) if bool::from(shown.as_bytes().ct_eq(token.as_bytes())) => Ok(()),
        Some(_) => Err(Problem::new(
            ProblemKind::Unauthorized,
            "token_wrong",
            "the token is not the one of this appliance",
            "give the token of the daemon's configuration: palisade --token-file FILE, or PALISADE_TOKEN",
        )),
        None => Err(Problem::new(
            ProblemKind::Unauthorized,
            "token_missing",
            "this appliance wants a token and the request shows none",
            "send Authorization: Bearer TOKEN; with the command line, --token-file FILE or PALISADE_TOKEN",
        )),
    }
}

/// Without a token the server is on loopback, where any page in an operator's browser could reach it under a name of
/// its own that it lets point to 127.0.0.1. Such a request carries that name as its Host.
fn check_host(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(HOST) else {
        return Ok(());
    };
    let authority = value
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Authority>().ok());
    let allowed = authority.is_some_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
    });
    match allowed {
        true => Ok(()),
        false => Err(Problem::new(
            ProblemKind::Forbidden,
            "host_refused",
            "the request names a host under which this appliance is not known",
            "use http://127.0.0.1:PORT or http://localhost:PORT, or configure a token",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: axum::http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_token_must_be_the_whole_token() {
        let access = Access {
            token: Some("0123456789abcdef".into()),
        };
        let code = |value: &str| {
            access
                .check(&with(AUTHORIZATION, value))
                .err()
                .map(|problem| problem.code)
        };
        assert_eq!(code("Bearer 0123456789abcdef"), None);
        assert_eq!(code("bearer  0123456789abcdef"), None);
        assert_eq!(code("Bearer 0123456789abcde").as_deref(), Some("token_wrong"));
        assert_eq!(code("Bearer ").as_deref(), Some("token_wrong"));
        assert_eq!(code("Basic 0123456789abcdef").as_deref(), Some("token_missing"));
        assert_eq!(access.check(&HeaderMap::new()).unwrap_err().status(), 401);
    }

    #[test]
    fn another_sites_name_is_no_name_of_ours() {
        let access = Access { token: None };
        for good in ["127.0.0.1:7780", "localhost:7780", "[::1]:7780", "127.0.0.1"] {
            assert_eq!(access.check(&with(HOST, good)), Ok(()), "{good}");
        }
        for bad in [
            "evil.example:7780",
            "localhost.evil.example",
            "",
            "127.0.0.1.evil.example",
        ] {
            assert_eq!(access.check(&with(HOST, bad)).unwrap_err().status(), 403, "{bad}");
        }
    }
}
