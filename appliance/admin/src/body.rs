//! Bodies of requests: bytes that a client sent, turned into values or refused in words.

use crate::objects::Objects;
use palisade_api::{Problem, ProblemKind};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Reads a body as JSON. Whatever the bytes are, the answer is a value or one problem; unknown fields are refused with
/// the nearest known one.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(Objects(&mut reader)).map_err(|error| {
        let path = shortened(&error.path().to_string());
        problem_of(&path, error.inner())
    })?;
    reader.end().map_err(|error| problem_of("", &error))?;
    Ok(value)
}

/// Says what is wrong with a body. `path` leads to the place, "." when it is the body as a whole.
fn problem_of(path: &str, error: &serde_json::Error) -> Problem {
    let text = shortened(&error.to_string());
    match error.classify() {
        Category::Data => field_problem(path, &text),
        Category::Eof => Problem::new(
            ProblemKind::Malformed,
            "body_malformed",
            format!("the body ends in the middle: {text}"),
            "send one whole JSON object",
        ),
        Category::Syntax | Category::Io => Problem::new(
            ProblemKind::Malformed,
            "body_malformed",
            format!("the body is not JSON: {text}"),
            "send one JSON object",
        ),
    }
}

/// Says what is wrong with a field. The texts are those of serde's `Error` trait, which it keeps stable: unknown_field,
/// missing_field, invalid_type and so on.
fn field_problem(path: &str, text: &str) -> Problem {
    let place = place_of(path, text);
    let problem = if text.starts_with("unknown field ") {
        unknown_field(text)
    } else if text.starts_with("missing field ") {
        Problem::new(
            ProblemKind::Invalid,
            "field_missing",
            format!("the body lacks a field: {text}"),
            format!("add {}", quoted(text).first().copied().unwrap_or("it")),
        )
    } else {
        Problem::new(
            ProblemKind::Invalid,
            "field_invalid",
            format!("the body makes no sense: {}", plain(text)),
            "correct the field; /docs shows what each one takes",
        )
    };
    match place {
        Some(place) => problem.about(place),
        None => problem,
    }
}

/// serde's words in the words of JSON: it speaks of the types that a program has.
fn plain(text: &str) -> String {
    let (text, place) = match text.rfind(" at line ") {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let told = ["invalid type: ", "invalid value: ", "invalid length "]
        .iter()
        .find_map(|start| text.strip_prefix(start))
        .and_then(|rest| rest.rsplit_once(", expected "));
    match told {
        Some((given, wanted)) => format!(
            "{} stands where {} is wanted{place}",
            given_in_words(given),
            wanted_in_words(wanted)
        ),
        // Sentences of our own types, and values of enumerations with those that are known.
        None => match text.strip_prefix("unknown variant ") {
            Some(rest) => format!("there is no such value: {rest}{place}"),
            None if text.contains("untagged enum") => {
                format!("it is none of the shapes that can stand there{place}")
            }
            None => format!("{text}{place}"),
        },
    }
}

fn given_in_words(given: &str) -> String {
    match given {
        "map" | "struct" | "newtype struct" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        "unit value" | "null" | "Option value" => "null".to_owned(),
        other => other.to_owned(),
    }
}

fn wanted_in_words(wanted: &str) -> String {
    let whole = |most: u64| format!("a whole number from 0 to {most}");
    match wanted {
        "u8" => whole(u8::MAX.into()),
        "u16" => whole(u16::MAX.into()),
        "u32" => whole(u32::MAX.into()),
        "u64" | "usize" => whole(u64::MAX),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a string" | "string" | "str" | "a borrowed string" => "a text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        "unit" => "null".to_owned(),
        other if other.starts_with("struct ") || other.starts_with("map") => "an object".to_owned(),
        other if other.contains("enum ") => "one of its known values".to_owned(),
        other if other.contains("struct ") => "another value".to_owned(),
        other => other.to_owned(),
    }
}

fn unknown_field(text: &str) -> Problem {
    let names = quoted(text);
    let (unknown, known) = names
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (*first, rest));
    let remedy = match nearest(unknown, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "leave it out".to_owned(),
        None => format!("known fields are {}", known.join(", ")),
    };
    Problem::new(
        ProblemKind::Invalid,
        "field_unknown",
        format!("the body has a field that is not known here: `{unknown}`"),
        remedy,
    )
}

/// The known name most like `unknown`, when one is alike at all.
pub(crate) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Names longer than any we know are like none of them; comparing takes the product of both lengths.
    const NAME_BYTES_MAX: usize = 128;
    if unknown.len() > NAME_BYTES_MAX {
        return None;
    }
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), *name))
        .filter(|(alike, _)| *alike > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The field that an error is about, as a path.
fn place_of(path: &str, text: &str) -> Option<String> {
    let path = path.trim_matches('.');
    let path = if path == "?" { "" } else { path };
    let named = ["unknown field ", "missing field ", "duplicate field "]
        .iter()
        .any(|start| text.starts_with(start))
        .then(|| quoted(text).first().copied())
        .flatten();
    let place = match named {
        Some(name) if path.is_empty() || path == name => name.to_owned(),
        Some(name) if path.ends_with(&format!(".{name}")) => path.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None => path.to_owned(),
    };
    (!place.is_empty()).then_some(place)
}

/// What stands between back quotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// A client's own text comes back to it, but not 64 KiB of it.
fn shortened(text: &str) -> String {
    const BYTES_MAX: usize = 250;
    match text.len() {
        0..=BYTES_MAX => text.to_owned(),
        _ => format!(
            "{}...",
            text.get(..text.floor_char_boundary(BYTES_MAX))
                .unwrap_or_default()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_api::{AttachmentCreate, DiskCreate, Medium, VolumeCreate};

    fn refused<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> Problem {
        parse_json::<T>(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn reads_a_disk_of_each_medium() {
        for (body, name) in [
            (
                r#"{"id":"d","file":{"path":"/a","bytes":1,"sparse":true}}"#,
                "file",
            ),
            (r#"{"id":"d","block":{"path":"/dev/x"},"usage":"whole"}"#, "block"),
            (r#"{"id":"d","memory":{"bytes":9},"block_bytes":4096}"#, "memory"),
            (r#"{"id":"d","null":{"bytes":9},"force":true}"#, "null"),
        ] {
            let request: DiskCreate = parse_json(body.as_bytes()).unwrap();
            assert_eq!(request.medium.name(), name);
            let again: DiskCreate = parse_json(&serde_json::to_vec(&request).unwrap()).unwrap();
            assert_eq!(request, again, "what we write we read");
        }
    }

    #[test]
    fn a_disk_has_exactly_one_medium() {
        for body in [
            r#"{"id":"d"}"#,
            r#"{"id":"d","memory":{"bytes":9},"null":{"bytes":9}}"#,
        ] {
            let problem = refused::<DiskCreate>(body);
            assert_eq!((problem.status(), &*problem.code), (422, "field_invalid"));
            assert!(problem.message.contains("exactly one of `file`"), "{problem}");
        }
        let request: DiskCreate = parse_json(br#"{"id":"d","file":null,"null":{"bytes":9}}"#).unwrap();
        assert!(matches!(request.medium, Medium::Null(_)));
    }

    #[test]
    fn names_the_nearest_known_field() {
        let problem = refused::<VolumeCreate>(r#"{"id":"v","byte":1}"#);
        assert_eq!(
            (&*problem.code, problem.field.as_deref()),
            ("field_unknown", Some("byte"))
        );
        assert_eq!(problem.remedy, "did you mean `bytes`?");
        let problem = refused::<AttachmentCreate>(r#"{"id":"a","volume":"v","limits":{"ipos":3}}"#);
        assert_eq!(problem.field.as_deref(), Some("limits.ipos"));
        assert_eq!(problem.remedy, "did you mean `iops`?");
        let problem = refused::<VolumeCreate>(r#"{"zzzz":1}"#);
        assert_eq!(
            problem.remedy,
            "known fields are id, node, bytes, disk, block_bytes, clear"
        );
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        let problem = refused::<AttachmentCreate>(r#"{"id":"a","volume":"v","limits":{"iops":-3}}"#);
        assert_eq!(
            (&*problem.code, problem.field.as_deref()),
            ("field_invalid", Some("limits.iops"))
        );
        let problem = refused::<AttachmentCreate>(r#"{"id":"a","volume":"v","mode":"999"}"#);
        assert_eq!(problem.field.as_deref(), Some("mode"));
        let problem = refused::<VolumeCreate>(r#"{"id":"v"}"#);
        assert_eq!(
            (&*problem.code, problem.field.as_deref()),
            ("field_missing", Some("bytes"))
        );
        let problem = refused::<VolumeCreate>(r#"{"id":"v","id":"w","bytes":1}"#);
        assert_eq!(
            (&*problem.code, problem.field.as_deref()),
            ("field_invalid", Some("id"))
        );
    }

    #[test]
    fn no_text_speaks_of_the_types_of_a_program() {
        fn said<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> Option<String> {
            parse_json::<T>(body.as_bytes())
                .err()
                .map(|problem| problem.message)
        }
        use palisade_api::{AttachmentPatch, DiskPatch, VolumePatch};
        let values = [
            "[]",
            "[1,2]",
            "1",
            "-1",
            "1.5",
            "true",
            "null",
            "\"x\"",
            "{}",
            "{\"x\":1}",
            "99999999999999999999",
        ];
        let fields = [
            "id",
            "volume",
            "disk",
            "bytes",
            "block_bytes",
            "file",
            "block",
            "memory",
            "null",
            "usage",
            "force",
            "queues",
            "queue_size",
            "owner",
            "mode",
            "read_only",
            "serial",
            "write_cache",
            "limits",
            "path",
            "confirm",
            "clear",
            "protected",
            "volatile",
        ];
        let wholes = values.iter().map(|value| (*value).to_owned());
        let parts = fields
            .iter()
            .flat_map(|field| values.iter().map(move |value| format!("{{\"{field}\":{value}}}")));
        let nested = values.iter().flat_map(|value| {
            [
                format!("{{\"limits\":{{\"iops\":{value}}}}}"),
                format!("{{\"file\":{{\"path\":{value}}}}}"),
            ]
        });
        let mut seen = 0;
        for body in wholes.chain(parts).chain(nested) {
            let told = [
                said::<DiskCreate>(&body),
                said::<VolumeCreate>(&body),
                said::<AttachmentCreate>(&body),
                said::<DiskPatch>(&body),
                said::<VolumePatch>(&body),
                said::<AttachmentPatch>(&body),
            ];
            for message in told.into_iter().flatten() {
                seen += 1;
                for leak in [
                    "struct",
                    "enum",
                    "variant",
                    "DiskCreate",
                    "Volume",
                    "Attachment",
                    "Patch",
                    "Medium",
                    "Limits",
                    "u64",
                    "u16",
                    "u32",
                    "usize",
                    "Option",
                    "tuple",
                    "visitor",
                ] {
                    assert!(!message.contains(leak), "{leak}: {body}: {message}");
                }
            }
        }
        assert!(seen > 500, "{seen}");
    }

    /// The order of our fields is nobody's business: what is told by it would change with each one that is added.
    #[test]
    fn a_list_is_no_object() {
        use palisade_api::{AttachmentPatch, DiskAdopt, VolumePatch};
        let of_lists = [
            refused::<VolumeCreate>(r#"["v",null,8192]"#),
            refused::<VolumePatch>("[12288]"),
            refused::<VolumePatch>("[]"),
            refused::<DiskAdopt>("[]"),
            refused::<AttachmentPatch>(r#"{"limits":[7,8192]}"#),
            refused::<AttachmentPatch>(r#"{"limits":[]}"#),
            refused::<AttachmentCreate>(r#"{"id":"a","volume":"v","limits":[7]}"#),
            refused::<DiskCreate>(r#"{"id":"d","file":["/a",1]}"#),
            refused::<DiskCreate>(r#"{"id":"d","memory":[9]}"#),
        ];
        for problem in of_lists {
            assert_eq!((problem.status(), &*problem.code), (422, "field_invalid"));
            assert!(
                problem
                    .message
                    .contains("a list stands where an object is wanted"),
                "{problem}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_json() {
        for body in [
            "",
            "{",
            "nonsense",
            "{}x",
            "\u{0}",
            &"[".repeat(10_000),
            "{\"id\":\"\\ud800\"}",
        ] {
            let problem = refused::<VolumeCreate>(body);
            assert!(matches!(problem.status(), 400 | 422), "{problem}");
        }
        assert_eq!(refused::<VolumeCreate>(&"[".repeat(60_000)).status(), 422);
    }

    #[test]
    fn does_not_echo_a_long_body() {
        let body = format!(r#"{{"id":"v","bytes":"{}"}}"#, "x".repeat(50_000));
        assert!(refused::<VolumeCreate>(&body).message.len() < 600);
        let body = format!(r#"{{"{}":1}}"#, "x".repeat(50_000));
        let problem = refused::<VolumeCreate>(&body);
        assert!(problem.message.len() < 600 && problem.field.is_none_or(|field| field.len() < 600));
    }
}
