//! In what an existing resource differs from what was asked for under its id: both values, so that a person can tell which
//! of the two is wrong.

use palisade_api::size::human;
use palisade_api::{Created, Problem};
use serde::Serialize;
use serde_json::Value;

/// Carries a creation out. When there is one of this id that was asked for in other words, says which and how.
pub(crate) fn create<W: Serialize, T: Serialize>(
    wish: W,
    create: impl FnOnce(W) -> Result<Created<T>, Problem>,
    present: impl FnOnce(&str) -> Option<T>,
) -> Result<Created<T>, Problem> {
    explained(wish, create, present)
}

/// Does something for a wish, and tells of a resource that is in its way with both values.
pub(crate) fn explained<W: Serialize, T: Serialize, R>(
    wish: W,
    act: impl FnOnce(W) -> Result<R, Problem>,
    present: impl FnOnce(&str) -> Option<T>,
) -> Result<R, Problem> {
    let asked = serde_json::to_value(&wish).unwrap_or_default();
    act(wish).map_err(|problem| {
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

fn with_values(mut problem: Problem, asked: &Value, there: &Value) -> Problem {
    let Some(field) = problem.field.clone() else {
        return problem;
    };
    let at = |value: &Value| {
        let found = field
            .split('.')
            .try_fold(value, |value, part| value.get(part))
            .cloned();
        found.map(|value| in_words(&field, &value))
    };
    let (is, wanted) = (at(there), at(asked));
    if is != wanted {
        let none = || "nothing".to_owned();
        problem.message = format!(
            "{}: it has {}, and {} was asked for",
            problem.message,
            is.unwrap_or_else(none),
            wanted.unwrap_or_else(none)
        );
    }
    problem
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

    #[test]
    fn both_values_are_in_the_sentence() {
        let said = |field: &str, asked: Value, there: Value| {
            let problem = Problem::exists("volume", "v1", field);
            with_values(problem, &asked, &there).message
        };
        let sizes = said(
            "bytes",
            json!({ "bytes": 1 << 30 }),
            json!({ "bytes": 2u64 << 30 }),
        );
        assert!(
            sizes.ends_with("in `bytes`: it has 2147483648 (2 GiB), and 1073741824 (1 GiB) was asked for"),
            "{sizes}"
        );
        let media = said(
            "file",
            json!({ "file": { "path": "/b", "bytes": null } }),
            json!({ "block": { "path": "/dev/x" } }),
        );
        assert!(
            media.ends_with("it has nothing, and path /b was asked for"),
            "{media}"
        );
        let same = said("serial", json!({}), json!({}));
        assert!(!same.contains("it has"), "{same}");
    }
}
