//! In what an existing resource differs from what was asked for under its id: both values, so that a person can tell which
//! of the two is wrong.

use palisade_api::size::human;
use palisade_api::{Created, Problem};
use serde::Serialize;
use serde_json::Value;

/// Carries a creation out. When there is one of this id that was asked for in other words, says which and how.
pub(crate) fn create<W: Serialize, T: Serialize>(
    request: W,
    create: impl FnOnce(W) -> Result<Created<T>, Problem>,
    present: impl FnOnce(&str) -> Option<T>,
) -> Result<Created<T>, Problem> {
    explained(request, create, present)
}

/// Does something for a request, and tells of a resource that is in its way with both values.
pub(crate) fn explained<W: Serialize, T: Serialize, R>(
    request: W,
    act: impl FnOnce(W) -> Result<R, Problem>,
    present: impl FnOnce(&str) -> Option<T>,
) -> Result<R, Problem> {
    let asked = serde_json::to_value(&request).unwrap_or_default();
    act(request).map_err(|problem| {
        let id = asked.get("id").and_then(Value::as_str).unwrap_or_default();
        match problem.code.ends_with("_exists") {
            true => {
                let there = present(id).map(|there| serde_json::to_value(there).unwrap_or_default());
                with_values(problem, &asked, &there.unwrap_or_default())
            }
            false => problem,
        }
    })
}

/// Names every field in which the two differ, with both values. What was left out is what it is when left out; of fields
/// that are whatever they are then, nothing is said.
fn with_values(mut problem: Problem, asked: &Value, there: &Value) -> Problem {
    let differing: Vec<(&str, String)> = FIELDS
        .iter()
        .filter_map(|field| field.differs(asked, there))
        .collect();
    if differing.is_empty() {
        return problem;
    }
    let (names, told): (Vec<&str>, Vec<String>) = differing.into_iter().unzip();
    let what = match problem.message.split_once(" differs from what was asked for") {
        Some((what, _)) => what.to_owned(),
        None => problem.message.clone(),
    };
    problem.message = format!(
        "{what} differs from what was asked for in `{}`: {}",
        names.join("`, `"),
        told.join("; ")
    );
    problem
}

/// A field of a request that the model compares with what is there.
struct Field {
    /// In the request.
    name: &'static str,
    /// In a sentence.
    words: &'static str,
    /// What it means to leave it out.
    left_out: LeftOut,
}

/// What a request means that leaves a field out.
enum LeftOut {
    /// Whatever is there.
    Anything,
    /// That there is none, or that it is off.
    Nothing,
    /// This number.
    Number(u64),
    /// This word.
    Word(&'static str),
    /// That it is on.
    Yes,
}

use LeftOut::{Anything, Nothing, Number, Word, Yes};

const fn field(name: &'static str, words: &'static str, left_out: LeftOut) -> Field {
    Field {
        name,
        words,
        left_out,
    }
}

/// Of all resources; no two have one of the same name that means something else. What a disk is made of has a name for each
/// kind, of which a request has one.
const FIELDS: [Field; 20] = [
    field("file", "what it is made of is", Anything),
    field("block", "what it is made of is", Anything),
    field("memory", "what it is made of is", Anything),
    field("null", "what it is made of is", Anything),
    field("usage", "its usage is", Word("pooled")),
    field("disk", "the disk that it begins on is", Anything),
    field("bytes", "its size is", Anything),
    field("block_bytes", "its logical block has", Anything),
    field("clear", "its space is cleared:", Anything),
    field("volume", "its volume is", Anything),
    field("socket", "its socket is", Anything),
    field("queues", "the number of its queues is", Number(1)),
    field("queue_size", "the size of its queues is", Number(256)),
    field("owner", "the owner of its socket is", Anything),
    field("group", "the group of its socket is", Anything),
    field("mode", "the access rights of its socket are", Word("0660")),
    field("read_only", "it is read-only:", Nothing),
    field("serial", "its serial number is", Anything),
    field("limits", "its limits are", Nothing),
    field("write_cache", "it offers a write cache:", Yes),
];

/// What a disk is made of, by the name of the field.
const MEDIA: [(&str, &str); 4] = [
    ("file", "file"),
    ("block", "block device"),
    ("memory", "memory"),
    ("null", "nothing (null)"),
];

impl Field {
    /// Its name, and both values in a sentence, if they differ.
    fn differs(&self, asked: &Value, there: &Value) -> Option<(&'static str, String)> {
        let name = self.name;
        let given = asked.get(name).filter(|value| !value.is_null());
        let (is, wanted, by_default) = match MEDIA.iter().any(|(kind, _)| *kind == name) {
            true => {
                let given = given?;
                let is = MEDIA
                    .iter()
                    .find_map(|(kind, _)| Some((*kind, there.get(*kind)?)));
                let (kind, value) = is?;
                if kind == name && is_as_asked(given, value) {
                    return None;
                }
                (medium(kind, value), medium(name, given), "")
            }
            false => {
                let is = match name {
                    "disk" => there.pointer("/layout/extents/0/disk"),
                    _ => there.get(name),
                };
                // A resource that has no such field was not asked for one.
                if is.is_none() && given.is_none() {
                    return None;
                }
                let (wanted, by_default) = match (given, &self.left_out) {
                    (Some(given), _) => (given.clone(), ""),
                    (None, Anything) => return None,
                    (None, Nothing) => (Value::Null, ", as it was left out"),
                    (None, Number(number)) => (Value::from(*number), ", as it was left out"),
                    (None, Word(word)) => (Value::from(*word), ", as it was left out"),
                    (None, Yes) => (Value::from(true), ", as it was left out"),
                };
                if is.is_some_and(|is| is_none(is) && is_none(&wanted) || is_as_asked(&wanted, is)) {
                    return None;
                }
                let is = is.map_or_else(|| "none".to_owned(), |is| in_words(name, is));
                (is, in_words(name, &wanted), by_default)
            }
        };
        Some((
            name,
            format!("{} {is}, and {wanted} was asked for{by_default}", self.words),
        ))
    }
}

/// Whether a value says what was asked for: in all that was named, where it has parts. Whether a file has holes is no part of
/// what is compared.
fn is_as_asked(asked: &Value, there: &Value) -> bool {
    match (asked, there) {
        (Value::Object(asked), Value::Object(there)) => asked.iter().all(|(name, value)| {
            name == "sparse"
                || value.is_null()
                || there.get(name).is_some_and(|there| is_as_asked(value, there))
        }),
        _ => asked == there,
    }
}

/// Whether a value means that there is none.
fn is_none(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        // A burst alone limits nothing.
        Value::Object(fields) => fields
            .iter()
            .all(|(name, value)| name == "burst_ms" || is_none(value)),
        _ => false,
    }
}

/// A medium in words: what it is, and where or how large.
fn medium(kind: &str, value: &Value) -> String {
    let word = MEDIA
        .iter()
        .find(|(name, _)| *name == kind)
        .map_or(kind, |(_, word)| word);
    let path = value.get("path").and_then(Value::as_str);
    let bytes = value.get("bytes").filter(|bytes| !bytes.is_null());
    let bytes = bytes.map(|bytes| format!("of {} bytes", in_words("bytes", bytes)));
    let parts = [Some(word.to_owned()), path.map(str::to_owned), bytes];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A value of a field, short enough for a sentence.
fn in_words(field: &str, value: &Value) -> String {
    const CHARS_MAX: usize = 160;
    match value {
        Value::Number(number) if field.ends_with("bytes") => match number.as_u64() {
            Some(bytes) if bytes >= 1024 => format!("{bytes} ({})", human(bytes)),
            _ => number.to_string(),
        },
        Value::String(text) => text.chars().take(CHARS_MAX).collect(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null if field == "read_only" => "no".to_owned(),
        value if is_none(value) => "none".to_owned(),
        Value::Object(fields) => {
            let parts: Vec<String> = fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| format!("{name} {}", in_words(name, value)))
                .collect();
            parts.join(", ").chars().take(CHARS_MAX).collect()
        }
        other => other.to_string().chars().take(CHARS_MAX).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(resource: &str, asked: Value, there: Value) -> String {
        let problem = Problem::exists(resource, "x", "bytes");
        with_values(problem, &asked, &there).message
    }

    #[test]
    fn every_field_that_differs_is_told_with_both_values() {
        let volume = json!({
            "id": "v1", "bytes": 2u64 << 30, "block_bytes": 512, "clear": "now",
            "layout": { "kind": "linear", "extents": [{ "disk": "d1", "bytes": 2u64 << 30 }] },
        });
        assert_eq!(
            said(
                "volume",
                json!({ "id": "v1", "bytes": 1 << 30, "disk": "d2", "block_bytes": 4096, "clear": "never" }),
                volume.clone()
            ),
            "volume \"x\" exists already and differs from what was asked for in `disk`, `bytes`, `block_bytes`, `clear`: the \
             disk that it begins on is d1, and d2 was asked for; its size is 2147483648 (2 GiB), and 1073741824 (1 GiB) was \
             asked for; its logical block has 512, and 4096 (4 KiB) was asked for; its space is cleared: now, and never was \
             asked for"
        );
        // What is left out is taken as it is.
        let one = said("volume", json!({ "id": "v1", "bytes": 1 << 30 }), volume);
        assert!(one.contains("in `bytes`: its size is"), "{one}");
    }

    #[test]
    fn what_a_disk_is_made_of_is_told_in_words() {
        let block = json!({ "id": "d1", "block": { "path": "/dev/x" }, "usage": "whole", "bytes": 1 << 30 });
        let other = said(
            "disk",
            json!({ "id": "d1", "file": { "path": "/b", "bytes": null }, "usage": "pooled" }),
            block,
        );
        assert!(
            other.ends_with(
                "in `file`, `usage`: what it is made of is block device /dev/x, and file /b was asked for; its usage is whole, \
                 and pooled was asked for"
            ),
            "{other}"
        );
        let file = |path: &str, bytes: Option<u64>| json!({ "file": { "path": path, "bytes": bytes, "sparse": true }, "usage": "pooled" });
        let larger = said("disk", file("/a", Some(1 << 30)), file("/a", Some(2 << 30)));
        assert!(
            larger.ends_with(
                "in `file`: what it is made of is file /a of 2147483648 (2 GiB) bytes, and file /a of 1073741824 (1 GiB) bytes \
                 was asked for"
            ),
            "{larger}"
        );
        let memory = said(
            "disk",
            json!({ "memory": { "bytes": 4096 } }),
            json!({ "null": { "bytes": 4096 } }),
        );
        assert!(
            memory.contains("is nothing (null) of 4096 (4 KiB) bytes, and memory of 4096 (4 KiB) bytes"),
            "{memory}"
        );
    }

    #[test]
    fn what_was_left_out_of_an_attachment_is_told_as_what_it_means() {
        let there = json!({
            "id": "a", "volume": "v1", "socket": "/run/a.sock", "queues": 4, "queue_size": 256, "mode": "0660",
            "read_only": true, "serial": "s", "write_cache": true, "limits": { "iops": 100, "burst_ms": 100 },
        });
        let told = said(
            "attachment",
            json!({ "id": "a", "volume": "v1", "read_only": false }),
            there.clone(),
        );
        assert!(
            told.ends_with(
                "in `queues`, `read_only`, `limits`: the number of its queues is 4, and 1 was asked for, as it was left out; it is \
                 read-only: yes, and no was asked for; its limits are burst_ms 100, iops 100, and none was asked \
                 for, as it was left out"
            ),
            "{told}"
        );
        let same = json!({
            "id": "a", "volume": "v1", "queues": 4, "read_only": true, "limits": { "iops": 100 },
        });
        let told = said("attachment", same, there);
        assert!(
            told.ends_with("differs from what was asked for in `bytes`"),
            "nothing is made up: {told}"
        );
    }
}
