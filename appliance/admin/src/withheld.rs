//! What lets somebody in is written down nowhere: not in what is recorded of an operator's commands, and not in the log.
//!
//! It is known by the field that it stands in, and by its own shape wherever it was put by mistake: in an address, in another
//! field, in a sentence that repeats what was sent.

use axum::http::Uri;
use palisade_api::{JOIN_TOKEN_PREFIX, JOIN_TOKEN_WITHHELD};
use serde_json::Value;

/// Whether a field of this name holds what lets somebody in.
fn is_secret(field: &str) -> bool {
    let field = field.to_ascii_lowercase();
    field.ends_with("token") || field.ends_with("secret") || field.ends_with("password")
}

/// A text in which no join token is left.
pub(crate) fn text(text: &str) -> String {
    let mut parts = text.split(JOIN_TOKEN_PREFIX);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    for rest in parts {
        kept.push_str(JOIN_TOKEN_PREFIX);
        kept.push_str(JOIN_TOKEN_WITHHELD);
        kept.push_str(rest.trim_start_matches(is_of_token));
    }
    kept
}

/// A body without what stands in such a field, however deep, and without what looks like a join token elsewhere.
pub(crate) fn body(body: &Value) -> Value {
    match body {
        Value::String(content) => Value::String(text(content)),
        Value::Array(items) => items.iter().map(self::body).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let value = match is_secret(name) && !value.is_null() {
                    true => JOIN_TOKEN_WITHHELD.into(),
                    false => self::body(value),
                };
                (text(name), value)
            };
            Value::Object(fields.iter().map(field).collect())
        }
        other => other.clone(),
    }
}

/// The path and query of an address, likewise.
pub(crate) fn address(uri: &Uri) -> String {
    let path = part(uri.path());
    let Some(query) = uri.query() else { return path };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_secret(&unescaped(name)) => format!("{name}={JOIN_TOKEN_WITHHELD}"),
        _ => part(pair),
    };
    let pairs: Vec<String> = query.split('&').map(pair).collect();
    format!("{path}?{}", pairs.join("&"))
}

/// A part of an address as it came, unless a token shows once its escapes (RFC 3986, section 2.1) are undone.
pub(crate) fn part(given: &str) -> String {
    let plain = unescaped(given);
    match plain.contains(JOIN_TOKEN_PREFIX) {
        true => text(&plain),
        false => given.to_owned(),
    }
}

fn unescaped(given: &str) -> String {
    let mut bytes = given.bytes();
    let mut plain = Vec::with_capacity(given.len());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let escaped = (byte == b'%')
            .then(|| Some((digit(ahead.next()?)?, digit(ahead.next()?)?)))
            .flatten();
        match escaped {
            Some((high, low)) => {
                plain.push(high << 4 | low);
                bytes = ahead;
            }
            None => plain.push(byte),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| digit.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TOKEN: &str = "palisade-join-aeydcm-rtgq_2tmnzy";

    #[test]
    fn a_field_that_lets_somebody_in_is_left_out_wherever_it_stands() {
        let given = json!({
            "token": "anything", "Token": 7, "join_token": ["x"], "password": { "a": "b" }, "client_secret": "s",
            "list": [{ "token": "anything" }], "token_id": "node-2", "valid_s": 60, "none": { "token": null },
        });
        let kept = json!({
            "token": "[withheld]", "Token": "[withheld]", "join_token": "[withheld]", "password": "[withheld]",
            "client_secret": "[withheld]", "list": [{ "token": "[withheld]" }], "token_id": "node-2", "valid_s": 60,
            "none": { "token": null },
        });
        assert_eq!(body(&given), kept);
    }

    #[test]
    fn a_join_token_is_known_by_its_shape_wherever_it_was_put() {
        let told = text(&format!("\"{TOKEN}\" and {TOKEN}, {TOKEN}{TOKEN}"));
        let mark = "palisade-join-[withheld]";
        assert_eq!(told, format!("\"{mark}\" and {mark}, {mark}{mark}"));
        assert_eq!(text("no token, palisade-joined"), "no token, palisade-joined");
        let misplaced = json!({ "peers": [TOKEN], TOKEN: 1 });
        assert!(!body(&misplaced).to_string().contains("aeydcm"));
    }

    #[test]
    fn an_address_has_none_either_however_it_is_written() {
        let escaped: String = TOKEN.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for given in [
            format!("/v1/cluster/tokens/{TOKEN}"),
            format!("/v1/cluster/tokens/{escaped}"),
            format!("/v1/cluster/join?x={TOKEN}&y=1"),
            format!("/v1/cluster/join?{escaped}=1"),
            "/v1/cluster/join?token=aeydcm".to_owned(),
            "/v1/cluster/join?tok%65n=aeydcm".to_owned(),
        ] {
            let kept = address(&given.parse().unwrap());
            assert!(
                !kept.contains("aeydcm") && kept.contains("[withheld]"),
                "{given}: {kept}"
            );
        }
        for given in [
            "/v1/volumes/a%20b?force=true&clear=false",
            "/v1/volumes/%zz?%",
            "/v1/disks/d1",
        ] {
            assert_eq!(address(&given.parse().unwrap()), given);
        }
    }
}
