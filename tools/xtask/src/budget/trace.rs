//! Cache lines of guest memory that a turn touches, from a trace of every access (valgrind's lackey):
//!
//! ```text
//! I  04001000,3        an instruction; " L" a load, " S" a store, " M" both: address, bytes
//! ```
//!
//! The program writes to one place before each turn and to another behind it; only what lies between counts. Within a
//! turn a line counts once for loads and once for stores: between two turns the guest may have taken it away.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

const LINE_BYTES: u64 = 64;

/// Where the parts of the guest's memory lie, as the program tells.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    parts: Vec<(String, u64, u64)>,
    begin: u64,
    end: u64,
    requests: u64,
}

/// Lines per request, by part.
#[derive(Debug, Default, PartialEq)]
pub struct Lines {
    /// Distinct lines loaded from.
    pub loaded: BTreeMap<String, f64>,
    /// Distinct lines stored to.
    pub stored: BTreeMap<String, f64>,
}

impl Layout {
    /// Reads `part NAME ADDRESS BYTES`, `begin ADDRESS`, `end ADDRESS` and `requests COUNT`.
    ///
    /// # Errors
    /// Says which of them is missing.
    pub fn parse(text: &str) -> Result<Layout, String> {
        let (mut parts, mut begin, mut end) = (Vec::new(), None, None);
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["part", name, address, bytes] => {
                    let (from, bytes) = (hex(address), bytes.parse::<u64>().ok());
                    let (from, bytes) = from
                        .zip(bytes)
                        .ok_or_else(|| format!("a part lies at {line:?}"))?;
                    parts.push(((*name).to_owned(), from, from + bytes));
                }
                ["begin", address] => begin = hex(address),
                ["end", address] => end = hex(address),
                _ => {}
            }
        }
        Ok(Layout {
            parts,
            begin: begin.ok_or("the program does not tell where it marks the begin of a turn")?,
            end: end.ok_or("the program does not tell where it marks the end of a turn")?,
            requests: requests(text).ok_or("the program does not tell its requests")?,
        })
    }

    fn part_at(&self, address: u64) -> Option<&str> {
        let here = |(_, from, to): &&(String, u64, u64)| (*from..*to).contains(&address);
        self.parts.iter().find(here).map(|(name, _, _)| name.as_str())
    }
}

/// The number in the line `requests COUNT`, if it is not 0.
pub fn requests(text: &str) -> Option<u64> {
    let count = text.lines().find_map(|line| line.strip_prefix("requests "))?;
    count.parse().ok().filter(|&count| count > 0)
}

/// Counts the lines of a trace.
///
/// # Errors
/// The trace cannot be read, or the marks in it do not alternate.
pub fn count(trace: impl BufRead, layout: &Layout) -> Result<Lines, String> {
    let (mut loads, mut stores) = (BTreeMap::new(), BTreeMap::new());
    let mut touched: Option<BTreeSet<(&str, bool, u64)>> = None;
    let mut turns = 0;
    for line in trace.split(b'\n') {
        let line = line.map_err(|error| format!("the trace cannot be read: {error}"))?;
        let Some((load, store, address, bytes)) = access(&line) else {
            continue;
        };
        if store && (address == layout.begin || address == layout.end) {
            match (touched.take(), address == layout.begin) {
                (None, true) => touched = Some(BTreeSet::new()),
                (Some(lines), false) => {
                    turns += 1;
                    for (part, store, _) in lines {
                        *if store { &mut stores } else { &mut loads }
                            .entry(part)
                            .or_insert(0u64) += 1;
                    }
                }
                _ => return Err("a turn was marked twice in the trace".to_owned()),
            }
            continue;
        }
        let (Some(lines), Some(part)) = (&mut touched, layout.part_at(address)) else {
            continue;
        };
        for line in address / LINE_BYTES..=(address + bytes.max(1) - 1) / LINE_BYTES {
            if load {
                lines.insert((part, false, line));
            }
            if store {
                lines.insert((part, true, line));
            }
        }
    }
    if turns == 0 {
        return Err("no turn is marked in the trace".to_owned());
    }
    let per_request = |counts: BTreeMap<&str, u64>| {
        let each = |(part, count): (&str, u64)| (part.to_owned(), count as f64 / layout.requests as f64);
        counts.into_iter().map(each).collect()
    };
    Ok(Lines {
        loaded: per_request(loads),
        stored: per_request(stores),
    })
}

/// One access to data: whether it loads, whether it stores, address and bytes.
fn access(line: &[u8]) -> Option<(bool, bool, u64, u64)> {
    let (load, store) = match line.get(..3)? {
        b" L " => (true, false),
        b" S " => (false, true),
        b" M " => (true, true),
        _ => return None,
    };
    let (address, bytes) = std::str::from_utf8(line.get(3..)?).ok()?.split_once(',')?;
    Some((
        load,
        store,
        u64::from_str_radix(address, 16).ok()?,
        bytes.trim().parse().ok()?,
    ))
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str =
        "part used 0x1000 128\npart tables 0x2000 4096\nbegin 0x9000\nend 0x9002\nrequests 2\n";

    fn lines(trace: &str) -> Result<Lines, String> {
        count(trace.as_bytes(), &Layout::parse(TOLD).unwrap())
    }

    fn table(entries: &[(&str, f64)]) -> BTreeMap<String, f64> {
        entries
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn a_line_counts_once_a_turn_and_only_between_the_marks() {
        let turn = " S 9000,2\nI  00400000,3\n S 1000,4\n S 1004,4\n L 2000,16\n S 5000,8\n S 9002,2\n";
        let trace = format!("==1== Lackey\n S 1040,4\n{turn} L 1000,2\n{turn}==1== end\n");
        let expected = Lines {
            loaded: table(&[("tables", 1.0)]),
            stored: table(&[("used", 1.0)]),
        };
        assert_eq!(lines(&trace), Ok(expected));
    }

    #[test]
    fn an_access_over_a_border_touches_both_lines_and_one_that_modifies_counts_twice() {
        let trace = " S 9000,2\n L 203c,8\n M 1000,2\n S 9002,2\n";
        let expected = Lines {
            loaded: table(&[("tables", 1.0), ("used", 0.5)]),
            stored: table(&[("used", 0.5)]),
        };
        assert_eq!(lines(trace), Ok(expected));
    }

    #[test]
    fn a_trace_without_whole_turns_is_refused() {
        for trace in [
            "",
            " L 1000,2\n",
            " S 9000,2\n S 1000,2\n",
            " S 9000,2\n S 9000,2\n",
            " S 9002,2\n",
        ] {
            assert!(lines(trace).is_err(), "{trace:?}");
        }
    }

    #[test]
    fn a_layout_says_what_is_missing() {
        for word in ["begin", "end", "requests"] {
            let text: Vec<&str> = TOLD.lines().filter(|line| !line.starts_with(word)).collect();
            assert!(
                Layout::parse(&text.join("\n")).unwrap_err().contains(word),
                "{word}"
            );
        }
        assert!(Layout::parse(&TOLD.replace("0x1000", "1000")).is_err());
        assert_eq!(requests("requests 0\n"), None);
    }
}
