//! Segments as they are read: whatever has come into their place since they were written.

use super::{
    EVENT_FORMAT, EventFamily, EventRecord, Gap, RECORD_BYTES_MAX, SEGMENT_BYTES, checksum, in_order,
    segments,
};
use crate::event_ids::EVENT_NUMBER_MAX;
use palisade_api::Event;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What a segment holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Scan {
    /// The greatest number that the family had come to before it.
    pub(super) after: u64,
    pub(super) events: Vec<Event>,
    /// Events that it tells to be missing.
    pub(super) gap: Option<Gap>,
    /// The greatest number in it.
    pub(super) last: u64,
    pub(super) bytes: u64,
    /// Bytes up to the end of the last whole record.
    pub(super) sound_bytes: u64,
    /// Why it is not as it was written. An end that was cut off is none.
    pub(super) damage: Option<String>,
}

/// What is told of a file without its first record.
const BAD_BEGIN: &str = "it does not begin as a file of events does";

/// Reads a segment, bounded, and passes over what is damaged.
///
/// # Errors
/// It cannot be read at all.
pub(super) fn scan(path: &Path) -> io::Result<Scan> {
    scan_for(path, |_| true)
}

/// The same, and of events only those whose numbers are wanted: what is in the others is not looked into, which is what takes
/// time.
fn scan_for(path: &Path, mut is_wanted: impl FnMut(u64) -> bool) -> io::Result<Scan> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let limit = SEGMENT_BYTES * 4;
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    let mut scan = Scan {
        bytes: bytes.len() as u64,
        ..Scan::default()
    };
    if bytes.len() as u64 > limit {
        scan.damage = Some("it is longer than any segment".into());
    }
    let (mut offset, mut bad_lines, mut nul_bytes, mut is_first) = (0, 0u64, 0u64, true);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        offset += line.len() as u64;
        // Where a file is cut off from outside while it is written, zeros stand before what is written next.
        let nuls = line.iter().take_while(|byte| **byte == 0).count();
        match line.get(nuls..).and_then(|line| record(line, &mut is_wanted)) {
            Some(Line::Record(EventRecord::Header { format, after })) if is_first => {
                if format != EVENT_FORMAT {
                    scan.damage = Some(format!(
                        "it is of format {format}, and this daemon knows format {EVENT_FORMAT} only"
                    ));
                    return Ok(scan);
                }
                (scan.after, scan.last) = (after, after);
            }
            Some(line) => {
                if is_first {
                    scan.damage = Some(BAD_BEGIN.into());
                }
                scan.take(line);
            }
            // The first record was being written.
            _ if is_first && !line.ends_with(b"\n") && offset <= RECORD_BYTES_MAX => break,
            _ => {
                if is_first {
                    scan.damage = Some(BAD_BEGIN.into());
                }
                // An end that was cut off is none: it has no end of a line.
                bad_lines += u64::from(line.ends_with(b"\n"));
                is_first = false;
                continue;
            }
        }
        nul_bytes += nuls as u64;
        is_first = false;
        scan.sound_bytes = offset;
    }
    if bad_lines + nul_bytes > 0 {
        scan.damage = Some(format!(
            "{bad_lines} lines of it cannot be read, and {nul_bytes} bytes are zeros"
        ));
    }
    if scan.bytes - scan.sound_bytes > RECORD_BYTES_MAX {
        scan.damage
            .get_or_insert_with(|| "its end is no record that was cut off".into());
    }
    Ok(scan)
}

impl Scan {
    /// Of a file that cannot be read at all.
    pub(super) fn unreadable(error: &io::Error) -> Scan {
        Scan {
            damage: Some(error.to_string()),
            ..Scan::default()
        }
    }

    /// Whether no record was ever wholly written to it.
    pub(super) fn holds_nothing(&self) -> bool {
        self.damage.is_none() && self.sound_bytes == 0
    }

    fn take(&mut self, line: Line) {
        let record = match line {
            Line::Unwanted(number) => {
                self.last = self.last.max(number);
                return;
            }
            Line::Record(record) => record,
        };
        self.last = self.last.max(record.number().unwrap_or(0));
        match record {
            EventRecord::Event(event) => self.events.push(*event),
            EventRecord::Gap(gap) => self.gap = Some(gap.and(self.gap)),
            EventRecord::Header { .. } => {}
        }
    }
}

/// A line that is whole and as it was written.
enum Line {
    Record(EventRecord),
    /// An event of this number, of which nothing else is wanted.
    Unwanted(u64),
}

fn record(line: &[u8], is_wanted: impl FnOnce(u64) -> bool) -> Option<Line> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, json) = line.split_at_checked(8)?;
    let json = json.strip_prefix(b" ")?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    if sum != checksum(json) {
        return None;
    }
    if let Some(number) = number_of_event(json).filter(|number| *number <= EVENT_NUMBER_MAX)
        && !is_wanted(number)
    {
        return Some(Line::Unwanted(number));
    }
    let record: EventRecord = serde_json::from_slice(json).ok()?;
    is_possible(&record).then_some(Line::Record(record))
}

/// The number of an event as it is written, whose id comes first.
fn number_of_event(json: &[u8]) -> Option<u64> {
    let id = json.strip_prefix(b"{\"event\":{\"id\":\"")?;
    let id = id.split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(id).ok()?.rsplit(':').next()?.parse().ok()
}

/// Whether a record speaks of numbers that an event can have. Going on behind others there would be none left some day.
fn is_possible(record: &EventRecord) -> bool {
    let number = match record {
        EventRecord::Header { after, .. } => *after,
        EventRecord::Event(event) => event.id.number,
        EventRecord::Gap(gap) => gap.up_to,
    };
    number <= EVENT_NUMBER_MAX
}

/// Events that were found, and whether there were more.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// In the order of their numbers.
    pub events: Vec<Event>,
    /// Some after the number asked for are no longer there, or never were.
    pub lost: bool,
}

/// At most `limit` events of numbers above `after` and up to `up_to`, of both families. 0 asks for all that there are.
///
/// # Errors
/// The folder cannot be looked into.
pub fn read(folder: &Path, after: u64, up_to: u64, limit: usize) -> io::Result<Found> {
    let mut found = Found::default();
    for family in EventFamily::ALL {
        let one = read_family(folder, family, after, up_to, limit)?;
        found.events.extend(one.events);
        found.lost |= one.lost;
    }
    found.events.sort_by_key(|event| event.id.number);
    found.events.truncate(limit);
    Ok(found)
}

fn read_family(
    folder: &Path,
    family: EventFamily,
    after: u64,
    up_to: u64,
    limit: usize,
) -> io::Result<Found> {
    let all = segments(folder, family)?;
    // Of what lies before the last one that begins at or below the number asked for nothing is wanted. There may be two that
    // begin at the same number: one was set aside.
    let begins = all.iter().map(|segment| segment.first);
    let start = begins
        .take_while(|first| *first <= after.saturating_add(1))
        .last();
    let wanted = all
        .iter()
        .filter(|segment| start.is_none_or(|start| segment.first >= start));
    let (mut found, mut reached, mut before) = (Found::default(), after, None);
    for segment in wanted {
        if found.events.len() >= limit && before != Some(segment.first) {
            break;
        }
        before = Some(segment.first);
        let mut taken = 0;
        let is_wanted = |number| {
            let is_wanted = number > after && number <= up_to && taken < limit;
            taken += usize::from(is_wanted);
            is_wanted
        };
        let scan = match scan_for(&segment.path, is_wanted) {
            Ok(scan) => scan,
            Err(error) => {
                log::warn!("{}: {error}", segment.path.display());
                found.lost = true;
                continue;
            }
        };
        // Who asks for all there is misses nothing of what came before the first.
        found.lost |= reached > 0 && scan.after > reached;
        found.lost |= scan.damage.is_some() || scan.gap.is_some_and(|gap| gap.up_to > after);
        reached = reached.max(scan.last);
        let wanted = |event: &Event| event.id.number > after && event.id.number <= up_to;
        found.events.extend(scan.events.into_iter().filter(wanted));
    }
    in_order(&mut found.events);
    found.events.truncate(limit);
    Ok(found)
}

/// The last `count` events of numbers up to `up_to`, of both families.
///
/// # Errors
/// The folder cannot be looked into.
pub fn read_last(folder: &Path, up_to: u64, count: usize) -> io::Result<Found> {
    let (mut events, mut scans) = (Vec::new(), Vec::new());
    for family in EventFamily::ALL {
        let (mut found, mut before) = (Vec::new(), None);
        for segment in segments(folder, family)?.iter().rev() {
            // There may be two that begin at the same number: one was set aside.
            if found.len() >= count && before != Some(segment.first) {
                break;
            }
            before = Some(segment.first);
            let mut scan = scan(&segment.path).unwrap_or_else(|error| Scan::unreadable(&error));
            let wanted = |event: &Event| event.id.number <= up_to;
            found.extend(std::mem::take(&mut scan.events).into_iter().filter(wanted));
            in_order(&mut found);
            scans.push(scan);
        }
        events.append(&mut found);
    }
    events.sort_by_key(|event| event.id.number);
    events.drain(..events.len().saturating_sub(count));
    let begin = events.first().map_or(u64::MAX, |event| event.id.number);
    let is_lost = |scan: &Scan| scan.damage.is_some() || scan.gap.is_some_and(|gap| gap.up_to >= begin);
    Ok(Found {
        lost: scans.iter().any(is_lost),
        events,
    })
}
