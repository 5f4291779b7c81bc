//! Events in files: a family of segments, each appended to until it is full, the oldest taken away when there are too many.
//!
//! A segment is text: a record on each line, which is the CRC-32C of the rest of the line in eight hexadecimal digits, a
//! space, and a JSON object. The first record says the format and up to which number the family had come before. So a record
//! that was cut off by a power failure is known as such, a line that is damaged hides no other, and events that are no longer
//! kept are missed by whoever asks for them.
//!
//! ```text
//! 5f0d2c11 {"header":{"format":1,"after":1795224000000000}}
//! 9b3e77a0 {"event":{"id":"...:1795224000000001",...}}
//! 0c41d9fe {"gap":{"count":3,"from":1795224000000002,"up_to":1795224000000004}}
//! ```
//!
//! What an operator commanded and what merely happened are two families: no flood of the one takes the room of the other.
//!
//! What each segment was last known to hold is listed in a file beside the folder. So it is noticed when one of them is deleted,
//! cut off or replaced from outside, in use or between two runs ([`Journal::check`]).

mod known;
mod read;

pub use known::Mended;
pub use read::{Found, read, read_last};

use crate::event_ids::EVENT_NUMBER_MAX;
use known::Known;
use palisade_admin::events::Missed;
use palisade_api::Event;
use read::{Scan, scan};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The format that is written, and the only one there has been.
pub const EVENT_FORMAT: u32 = 1;

/// Bytes of a segment; the record that reaches it is the last one in it.
pub const SEGMENT_BYTES: u64 = 1 << 20;

/// Bytes of all segments of a family: some ten thousand events, and a hundredth of what a small state directory holds.
pub const JOURNAL_BYTES: u64 = 8 << 20;

/// Bytes of the longest record: of an event each text is cut off at a kibibyte or is shorter by itself, and JSON writes no
/// byte in more than six. What is behind the last whole record and longer was never a record of ours.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// What is behind the name of a segment that was set aside.
const ASIDE: &str = "damaged";

/// Files that are set aside from the place of one segment before the last of them is replaced.
const ASIDE_MAX: u8 = 9;

/// Which events are kept together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFamily {
    /// What operators commanded: the audit trail.
    Commands,
    /// Everything else.
    Occurrences,
}

impl EventFamily {
    /// Both.
    pub const ALL: [EventFamily; 2] = [EventFamily::Commands, EventFamily::Occurrences];

    /// That of an event.
    pub fn of(event: &Event) -> EventFamily {
        match event.result.is_some() {
            true => EventFamily::Commands,
            false => EventFamily::Occurrences,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            EventFamily::Commands => "commands",
            EventFamily::Occurrences => "occurrences",
        }
    }
}

/// One line of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventRecord {
    /// The first one.
    Header {
        /// Of the records that follow.
        format: u32,
        /// The greatest number that the family had come to before; 0 when it begins here.
        after: u64,
    },
    /// What happened.
    Event(Box<Event>),
    /// Events that could not be kept, or were lost from files since.
    Gap(Gap),
}

/// Events that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// How many; 0 when nobody knows.
    pub count: u64,
    /// None of their numbers is less; 0 when it was not written.
    #[serde(default)]
    pub from: u64,
    /// None of their numbers is greater.
    pub up_to: u64,
}

impl From<Missed> for Gap {
    fn from(missed: Missed) -> Gap {
        let Missed { count, from, up_to } = missed;
        Gap { count, from, up_to }
    }
}

impl Gap {
    /// These and those of another one.
    pub fn and(self, other: Option<Gap>) -> Gap {
        other.map_or(self, |other| Gap {
            count: self.count + other.count,
            from: self.from.min(other.from),
            up_to: self.up_to.max(other.up_to),
        })
    }
}

/// Puts events in the order of their numbers; one that was found twice is there once.
pub fn in_order(events: &mut Vec<Event>) {
    events.sort_by_key(|event| event.id.number);
    events.dedup_by_key(|event| event.id.number);
}

impl EventRecord {
    /// The greatest number that it speaks of.
    pub fn number(&self) -> Option<u64> {
        match self {
            EventRecord::Header { .. } => None,
            EventRecord::Event(event) => Some(event.id.number),
            EventRecord::Gap(gap) => Some(gap.up_to),
        }
    }
}

/// The segments of a family, as they are written.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    family: EventFamily,
    /// The one that is appended to: the last of those known.
    current: Option<Segment>,
    /// What each segment was last known to hold, the oldest first.
    known: Vec<Known>,
    /// Whether the list of them is as they are.
    is_listed: bool,
    /// The greatest number in the family.
    last: u64,
    segment_bytes: u64,
    journal_bytes: u64,
}

/// What the newest segment of a family holds.
#[derive(Debug, Default)]
pub struct Newest {
    /// Its events.
    pub events: Vec<Event>,
    /// The number after which these are all there were; none when that is not known.
    pub complete_after: Option<u64>,
}

#[derive(Debug)]
struct Segment {
    file: File,
    bytes: u64,
}

impl Journal {
    /// Goes on behind what is there. Gives what is in the newest segment as well.
    ///
    /// # Errors
    /// The folder cannot be made or looked into. A segment that cannot be used is set aside, and is no error.
    pub fn open(folder: &Path, family: EventFamily) -> io::Result<(Journal, Newest)> {
        Journal::open_bounded(folder, family, SEGMENT_BYTES, JOURNAL_BYTES)
    }

    fn open_bounded(
        folder: &Path,
        family: EventFamily,
        segment_bytes: u64,
        journal_bytes: u64,
    ) -> io::Result<(Journal, Newest)> {
        make(folder)?;
        let mut journal = Journal {
            folder: folder.to_owned(),
            family,
            current: None,
            known: known::listed(folder, family),
            is_listed: true,
            last: 0,
            segment_bytes,
            journal_bytes,
        };
        journal.last = journal.known.iter().map(|known| known.last).max().unwrap_or(0);
        let (all, foreign): (Vec<_>, Vec<_>) = segments(folder, family)?
            .into_iter()
            .filter(|segment| !segment.is_aside)
            .partition(Named::is_possible);
        for segment in foreign {
            set_aside(&segment.path, "its number is none that an event can have");
        }
        journal.add_unlisted(&all);
        let newest = all.into_iter().next_back();
        let Some(newest) = newest else {
            return Ok((journal, Newest::default()));
        };
        let scan = scan(&newest.path).unwrap_or_else(|error| Scan::unreadable(&error));
        journal.last = (journal.last).max(scan.last).max(newest.first.saturating_sub(1));
        if scan.holds_nothing() {
            // It had just been made when the daemon or the machine ended; or it was emptied, which the next check tells.
            fs::remove_file(&newest.path)?;
            return Ok((journal, Newest::default()));
        }
        match journal.take_up(&newest.path, &scan) {
            Ok(segment) => journal.current = Some(segment),
            Err(why) => set_aside(&newest.path, &why),
        }
        let is_complete = scan.damage.is_none()
            && scan.gap.is_none()
            && (journal.known.iter()).all(|known| known.first < newest.first || known.is_in(&scan));
        let newest = Newest {
            complete_after: is_complete.then_some(scan.after),
            events: scan.events,
        };
        Ok((journal, newest))
    }

    /// Where it begins when there is nothing of it: behind this number.
    pub fn begin_after(&mut self, number: u64) {
        if self.last == 0 {
            self.last = number;
        }
    }

    /// Takes a segment up where it ends. What is cut off at its end was never told to have been kept.
    fn take_up(&self, path: &Path, scan: &Scan) -> Result<Segment, String> {
        if let Some(damage) = &scan.damage {
            return Err(damage.clone());
        }
        let open = || -> io::Result<Segment> {
            let file = OpenOptions::new().append(true).open(path)?;
            if scan.sound_bytes < scan.bytes {
                log::info!(
                    "{}: {} bytes of an event that was being written when the daemon or the machine ended are left out",
                    path.display(),
                    scan.bytes - scan.sound_bytes
                );
                file.set_len(scan.sound_bytes)?;
            }
            Ok(Segment {
                file,
                bytes: scan.sound_bytes,
            })
        };
        open().map_err(|error| error.to_string())
    }

    /// The greatest number in the family.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Appends records; they are in the hands of the kernel when this returns, and survive the end of the process.
    ///
    /// # Errors
    /// What the file system says. None of them is there then, and the next ones go on behind those of before.
    pub fn append(&mut self, records: &[EventRecord]) -> io::Result<()> {
        let is_gone = |segment: &Segment| segment.file.metadata().is_ok_and(|about| about.nlink() == 0);
        if self.current.as_ref().is_some_and(is_gone) {
            self.current = None;
        }
        if (self.current.as_ref()).is_some_and(|segment| segment.bytes >= self.segment_bytes) {
            self.sync()?;
            self.current = None;
        }
        let first = records
            .iter()
            .find_map(EventRecord::number)
            .unwrap_or_else(|| self.last.saturating_add(1));
        if self.current.is_none() {
            self.begin(first)?;
        }
        let mut text = String::new();
        for record in records {
            line(&mut text, record)?;
        }
        let Some(segment) = &mut self.current else {
            return Err(io::Error::other("no segment is open"));
        };
        if let Err(error) = segment.file.write_all(text.as_bytes()) {
            // What came of it is taken back. Where that does not work either it stays behind as a torn end.
            if segment.file.set_len(segment.bytes).is_err() {
                self.current = None;
            }
            return Err(error);
        }
        segment.bytes += text.len() as u64;
        if let Some(known) = self.known.last_mut() {
            known.take(records, segment.bytes);
        }
        self.is_listed = false;
        self.last = records
            .iter()
            .filter_map(EventRecord::number)
            .fold(self.last, u64::max);
        Ok(())
    }

    /// Returns once all that was appended is on stable storage.
    ///
    /// # Errors
    /// What the file system says; it may not be there after a power failure then.
    pub fn sync(&mut self) -> io::Result<()> {
        self.current
            .as_ref()
            .map_or(Ok(()), |segment| segment.file.sync_data())
    }

    /// Begins a segment, and takes away what is too much then.
    fn begin(&mut self, first: u64) -> io::Result<()> {
        make(&self.folder)?;
        let path = self.path(first);
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let mut text = String::new();
        line(
            &mut text,
            &EventRecord::Header {
                format: EVENT_FORMAT,
                after: self.last,
            },
        )?;
        let begun = file
            .write_all(text.as_bytes())
            .and_then(|()| File::open(&self.folder)?.sync_all());
        if let Err(error) = begun {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let bytes = text.len() as u64;
        self.known.push(Known::begun(first, self.last, &file, bytes)?);
        self.current = Some(Segment { file, bytes });
        self.make_room()
    }

    fn path(&self, first: u64) -> PathBuf {
        let name = format!("{}-{first:020}.log", self.family.prefix());
        self.folder.join(name)
    }

    /// Takes the oldest segments away, and from the list before that. One that is damaged is set aside instead: what it was to
    /// tell has not been read by anybody, and perhaps somebody can.
    fn make_room(&mut self) -> io::Result<()> {
        let all = segments(&self.folder, self.family)?;
        let all: Vec<Named> = all.into_iter().filter(|segment| !segment.is_aside).collect();
        let mut total: u64 = all.iter().map(|one| one.bytes).sum();
        let (older, mut too_many) = (all.len().saturating_sub(1), Vec::new());
        for segment in all.into_iter().take(older) {
            if total + self.segment_bytes <= self.journal_bytes {
                break;
            }
            total = total.saturating_sub(segment.bytes);
            too_many.push(segment);
        }
        let is_kept = |known: &Known| too_many.iter().all(|segment| segment.first != known.first);
        self.known.retain(is_kept);
        self.is_listed = false;
        // Room is made where there is none for a list, too.
        if let Err(error) = self.list() {
            log::warn!(
                "{}: {error}",
                known::path_of_list(&self.folder, self.family).display()
            );
        }
        for segment in too_many {
            match scan(&segment.path) {
                Ok(Scan { damage: None, .. }) => fs::remove_file(&segment.path)?,
                Ok(Scan {
                    damage: Some(why), ..
                }) => set_aside(&segment.path, &why),
                Err(error) => set_aside(&segment.path, &error.to_string()),
            }
        }
        Ok(())
    }
}

/// The names of what was set aside.
///
/// # Errors
/// The folder cannot be looked into.
pub fn aside(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for family in EventFamily::ALL {
        let all = segments(folder, family)?.into_iter().filter(|one| one.is_aside);
        names.extend(all.filter_map(|one| Some(one.path.file_name()?.to_str()?.to_owned())));
    }
    Ok(names)
}

/// Keeps a segment under a name under which nothing is appended to it or takes it away. What can be read in it still is.
fn set_aside(path: &Path, why: &str) {
    let mut names = (1..=ASIDE_MAX).map(|number| match number {
        1 => path.with_added_extension(ASIDE),
        _ => path.with_added_extension(format!("{number}.{ASIDE}")),
    });
    let is_free = |to: &PathBuf| fs::symlink_metadata(to).is_err();
    let free = names.clone().find(is_free);
    let Some(to) = free.or_else(|| names.next_back()) else {
        return;
    };
    log::warn!("{}: {why}; it is kept as {}", path.display(), to.display());
    if let Err(error) = fs::rename(path, &to) {
        log::warn!("{} cannot be renamed: {error}", path.display());
    }
}

/// A file of a family.
#[derive(Clone, Debug)]
struct Named {
    path: PathBuf,
    /// The number of the first event in it.
    first: u64,
    bytes: u64,
    is_aside: bool,
}

impl Named {
    /// Whether there can be an event of the number that it is named by.
    fn is_possible(&self) -> bool {
        self.first <= EVENT_NUMBER_MAX
    }
}

/// All files of a family, the oldest first.
fn segments(folder: &Path, family: EventFamily) -> io::Result<Vec<Named>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let (bare, is_aside) = match name.strip_suffix(ASIDE).and_then(|name| name.strip_suffix('.')) {
            Some(bare) => (without_number(bare), true),
            None => (name, false),
        };
        let number = bare
            .strip_prefix(family.prefix())
            .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".log")?.parse().ok());
        let Some(first) = number else { continue };
        all.push(Named {
            path: entry.path(),
            first,
            bytes: entry.metadata().map_or(0, |about| about.len()),
            is_aside,
        });
    }
    all.sort_by_key(|segment| segment.first);
    Ok(all)
}

/// The name before the number of one of several that were set aside from the same place.
fn without_number(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((bare, number)) if number.parse::<u8>().is_ok() => bare,
        _ => name,
    }
}

/// Makes the folder, and nothing above it: a state directory that has been deleted or moved is not made anew by the way.
fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn line(text: &mut String, record: &EventRecord) -> io::Result<()> {
    let json = serde_json::to_string(record).map_err(io::Error::other)?;
    text.push_str(&format!("{:08x} {json}\n", checksum(json.as_bytes())));
    Ok(())
}

/// CRC-32C (Castagnoli, as in iSCSI, RFC 3720 section 12.1).
fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests;
