//! What stands in a text and is not read from it: it would be lost with the next writing, and nobody would know.

use serde_json::Value;

/// The first part of what was written that is not in what was read of it, by the names that lead to it. Parts that say
/// nothing are left out by some versions and written down by others.
pub(crate) fn unread(written: &Value, read: &Value) -> Option<String> {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => written.iter().find_map(|(name, part)| {
            let Some(same) = read.get(name) else {
                return Some(name.clone()).filter(|_| !says_nothing(part));
            };
            unread(part, same).map(|below| format!("{name}.{below}"))
        }),
        (Value::Array(written), Value::Array(read)) => written
            .iter()
            .zip(read)
            .enumerate()
            .find_map(|(at, (part, same))| unread(part, same).map(|below| format!("{at}.{below}"))),
        _ => None,
    }
}

/// Whether a part is as if it were not there.
fn says_nothing(part: &Value) -> bool {
    match part {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(parts) => parts.is_empty(),
        Value::Object(parts) => parts.is_empty(),
    }
}
