//! What is measured: one row of the table is one kind of device, one operation, one length and one depth.

use crate::Failure;
use serde::Serialize;
use std::fmt;

/// What a target puts below the socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// Answers at once.
    Null,
    /// Memory.
    Memory,
    /// A file opened with O_DIRECT.
    File,
}

/// What the client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Random reads.
    Read,
    /// Random writes.
    Write,
}

/// One row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Row {
    /// Below the socket.
    pub medium: Medium,
    /// The operation.
    pub work: Work,
    /// Bytes of one request.
    pub bytes: u32,
    /// Requests in flight.
    pub depth: u16,
}

/// Length of the rows that measure requests.
pub const SMALL_BYTES: u32 = 4096;
/// Length of the rows that measure bytes.
pub const LARGE_BYTES: u32 = 128 * 1024;
/// Depth of the rows that measure bytes.
pub const LARGE_DEPTH: u16 = 16;
/// Depths of the rows that measure requests.
pub const DEPTHS: [u16; 3] = [1, 32, 128];

impl Row {
    /// All rows, in the table's order.
    pub fn all() -> Vec<Row> {
        let mut rows = Vec::new();
        for medium in [Medium::Null, Medium::Memory, Medium::File] {
            for work in [Work::Read, Work::Write] {
                rows.extend(DEPTHS.map(|depth| Row {
                    medium,
                    work,
                    bytes: SMALL_BYTES,
                    depth,
                }));
            }
            // Nothing moves below the null device, so bytes a second say nothing there.
            if medium != Medium::Null {
                rows.extend([Work::Read, Work::Write].map(|work| Row {
                    medium,
                    work,
                    bytes: LARGE_BYTES,
                    depth: LARGE_DEPTH,
                }));
            }
        }
        rows
    }

    /// The rows of a quick look: null and memory at depth 1 and 32.
    pub fn quick() -> Vec<Row> {
        let wanted = |row: &Row| row.medium != Medium::File && row.bytes == SMALL_BYTES && row.depth <= 32;
        Row::all().into_iter().filter(wanted).collect()
    }

    /// The rows whose name contains one of the comma-separated words; `all` for all.
    pub fn matching(words: &str) -> Result<Vec<Row>, Failure> {
        let words: Vec<&str> = words
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect();
        let wanted = |row: &Row| {
            let name = row.to_string();
            words
                .iter()
                .any(|&word| word == "all" || matches_word(&name, word))
        };
        let rows: Vec<Row> = Row::all().into_iter().filter(wanted).collect();
        if rows.is_empty() {
            let names: Vec<String> = Row::all().iter().map(Row::to_string).collect();
            return Err(Failure::asked(format!(
                "no row matches {words:?}. The rows are: {}",
                names.join(" ")
            )));
        }
        Ok(rows)
    }

    /// Whether the figure of interest is bytes a second.
    pub fn measures_bytes(&self) -> bool {
        self.bytes == LARGE_BYTES
    }
}

/// `file` matches all of `file-…`, and a whole name matches itself only (`null-read-4k-qd1` is not `…-qd128`).
fn matches_word(name: &str, word: &str) -> bool {
    let (mut name, mut word) = (name.split('-'), word.split('-'));
    let Some(first) = word.next() else { return false };
    if !name.by_ref().any(|part| part == first) {
        return false;
    }
    word.all(|part| name.next() == Some(part))
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row {
            medium,
            work,
            bytes,
            depth,
        } = self;
        write!(f, "{medium}-{work}-{}k-qd{depth}", bytes / 1024)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::Read => "read",
            Work::Write => "write",
        })
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Medium::Null => "null",
            Medium::Memory => "memory",
            Medium::File => "file",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_rows() {
        assert_eq!(Row::matching("all").unwrap().len(), Row::all().len());
        assert_eq!(Row::matching("null-read-4k-qd1").unwrap().len(), 1);
        assert_eq!(Row::matching("null").unwrap().len(), 6);
        assert_eq!(Row::matching("128k").unwrap().len(), 4);
        assert_eq!(Row::matching("file-write, memory-read-4k").unwrap().len(), 7);
        assert!(Row::matching("qd7").is_err());
        for row in Row::all() {
            assert_eq!(Row::matching(&row.to_string()).unwrap(), [row]);
        }
        assert_eq!(Row::quick().len(), 8);
    }
}
