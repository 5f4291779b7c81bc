//! Headers that may be there once. Of two, whatever stands before this server may have judged the one and we the other.

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, IF_MATCH, ORIGIN};
use axum::http::{Uri, Version};
use palisade_api::{Problem, ProblemKind};

/// RFC 9110 gives each of these one value ("singleton fields", section 5.3), and our clients send one `If-Match`. Of
/// `Content-Length`, hyper refuses two that differ and joins two that do not, as RFC 9112, section 6.3, allows.
const ONCE: [HeaderName; 5] = [HOST, ORIGIN, AUTHORIZATION, CONTENT_TYPE, IF_MATCH];

/// Said by browsers alone.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what is there twice, and a request of HTTP/1.1 without a `Host`: RFC 9112, section 3.2, "a server MUST respond
/// with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host header field and to any request
/// message that contains more than one Host header field line or a Host header field with an invalid field value".
pub(crate) fn check(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let several = |name: &&HeaderName| headers.get_all(*name).iter().nth(1).is_some();
    if let Some(name) = ONCE.iter().chain([&SEC_FETCH_SITE]).find(several) {
        return Err(malformed(
            "header_repeated",
            format!("the header {name} is there more than once"),
            "send it once",
        ));
    }
    // With HTTP/2 the host is a part of the address.
    if version == Version::HTTP_11 && !headers.contains_key(HOST) && uri.authority().is_none() {
        return Err(malformed(
            "host_missing",
            "the request names no host".to_owned(),
            "send a Host header, as HTTP/1.1 wants it",
        ));
    }
    Ok(())
}

fn malformed(code: &'static str, message: String, remedy: &'static str) -> Problem {
    Problem::new(ProblemKind::Malformed, code, message, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn code(version: Version, headers: &[(&'static str, &'static str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let checked = check(version, &Uri::from_static("/v1/nodes/self"), &map);
        checked
            .err()
            .map_or_else(String::new, |problem| problem.code.into_owned())
    }

    #[test]
    fn what_has_one_value_may_be_there_once() {
        let host = ("host", "localhost");
        assert_eq!(code(Version::HTTP_11, &[host]), "");
        for name in [
            "host",
            "origin",
            "authorization",
            "content-type",
            "if-match",
            "sec-fetch-site",
        ] {
            let twice = [("host", "localhost"), (name, "1"), (name, "1")];
            assert_eq!(code(Version::HTTP_11, &twice), "header_repeated", "{name}");
        }
        // A list.
        let twice = [host, ("accept", "a/b"), ("accept", "c/d")];
        assert_eq!(code(Version::HTTP_11, &twice), "");
    }

    #[test]
    fn a_host_is_asked_for_where_the_standard_does() {
        assert_eq!(code(Version::HTTP_11, &[]), "host_missing");
        assert_eq!(code(Version::HTTP_10, &[]), "");
    }
}
