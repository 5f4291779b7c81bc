//! Tables and plain sentences for people, JSON for programs.

use crate::failure::Failure;
use comfy_table::{ContentArrangement, Table, presets};
use palisade_api::calendar::date_and_time;
use palisade_api::{DiskCondition, State, size};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Display;
use std::io::{self, Write};

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// As JSON.
    pub json: bool,
}

impl Output {
    /// The appliance's own JSON.
    pub fn value(self, value: &Value) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        writeln!(io::stdout(), "{text}")
    }

    /// A line.
    pub fn line(self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(io::stdout(), "{}", text.as_ref())
    }

    /// A sentence beside the answer, on standard error. One that takes no more is no reason to end: `eprintln!` would.
    pub fn aside(text: impl Display) {
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Something is gone: a sentence for people, nothing for programs.
    pub fn deleted(self, sentence: &str) -> Result<(), Failure> {
        match self.json {
            true => Ok(()),
            false => Ok(self.line(sentence)?),
        }
    }

    /// A table with a heading over each column; a sentence when it is empty.
    pub fn table<const N: usize>(
        self,
        heads: [&str; N],
        rows: Vec<[String; N]>,
        empty: &str,
    ) -> io::Result<()> {
        if rows.is_empty() {
            return self.line(empty);
        }
        self.line(table(heads, rows))
    }

    /// One resource, a line for each of its properties.
    pub fn facts(self, facts: Vec<(&str, String)>) -> io::Result<()> {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, fact) in facts {
            let name = format!("{name}:");
            self.line(format!("{name:<width$}  {fact}", width = width + 1).trim_end())?;
        }
        Ok(())
    }
}

/// A table as text, fitted to the terminal.
pub fn table<const N: usize>(heads: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(heads.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    table.trim_fmt()
}

/// Wanted and in force, in a few words.
pub fn state(state: &State) -> String {
    match (state.blocked_on(), state.is_told_by()) {
        (Some(why), _) => why,
        (None, Some(nodes)) => format!("told by {nodes}"),
        (None, None) if state.is_applied() => "applied".to_owned(),
        (None, None) => "being applied".to_owned(),
    }
}

/// How a disk is doing, in a word.
pub fn condition(condition: DiskCondition) -> String {
    word(&condition)
}

/// A value of an enumeration, in the word that REST uses for it.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word.replace('_', " "),
        _ => String::new(),
    }
}

/// Bytes for people, and exactly.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => size::human(bytes),
        _ => format!("{} ({bytes} bytes)", size::human(bytes)),
    }
}

/// Nanoseconds for people; "-" when they are not known.
pub fn nanoseconds(ns: Option<u64>) -> String {
    let Some(ns) = ns else {
        return "-".to_owned();
    };
    match ns {
        0..10_000 => format!("{:.1} us", ns as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// A list in one line; "-" when it is empty.
pub fn list(items: &[String]) -> String {
    match items {
        [] => "-".to_owned(),
        items => items.join(", "),
    }
}

/// A yes or a no.
pub fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

/// Something that may be absent.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Milliseconds since 1970 as RFC 3339, UTC.
pub fn moment(unix_ms: u64) -> String {
    let (date, time) = date_and_time(unix_ms / 1000);
    format!("{date}T{time}.{:03}Z", unix_ms % 1000)
}

/// Seconds since 1970 likewise.
pub fn second(unix_s: u64) -> String {
    let (date, time) = date_and_time(unix_s);
    format!("{date}T{time}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(moment(unix_ms), text);
        }
    }

    #[test]
    fn latencies_are_readable() {
        for (ns, text) in [
            (1500, "1.5 us"),
            (65_536, "66 us"),
            (2_500_000, "2.5 ms"),
            (3 << 30, "3.2 s"),
        ] {
            assert_eq!(nanoseconds(Some(ns)), text);
        }
        assert_eq!(nanoseconds(None), "-", "nobody has measured it");
    }
}
