//! What segments were last known to hold, and what becomes of one that no longer holds it.
//!
//! While the daemon runs, a segment that is gone, is another file or is shorter than what was written is found by a look at its
//! name, which costs no reading. At a start, where any file may have been put back from a backup, each is read. What a segment
//! held is then put together from what is left of it, from what was set aside and from what the daemon has in its memory; that
//! is written anew under the same name, and the rest is said there as a gap.
//!
//! The list of segments lies beside their folder. It tells of no more than what is on stable storage, and a segment leaves it
//! before it is taken away to make room: so what is in the list and not in the files was lost.

use super::read::{Scan, scan};
use super::{
    EVENT_FORMAT, EventFamily, EventRecord, Gap, Journal, Named, Segment, in_order, line, make, segments,
    set_aside,
};
use crate::event_ids::EVENT_NUMBER_MAX;
use crate::own_file;
use palisade_api::Event;
use palisade_sys::stable_file;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The format of the list, and the only one there has been.
const LIST_FORMAT: u32 = 1;

/// What a segment was last known to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The number that it is named by.
    pub(super) first: u64,
    /// The greatest number that the family had come to before it.
    after: u64,
    /// The greatest number in it.
    pub(super) last: u64,
    /// How many events are in it.
    events: u64,
    /// What is missing in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
    /// Which file it is; none before it has been read.
    #[serde(skip)]
    file: Option<Written>,
}

/// A file as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    device: u64,
    inode: u64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct List {
    format: u32,
    segments: Vec<Known>,
}

/// A segment that had been deleted, cut off or replaced, and was written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// Where it lies.
    pub path: PathBuf,
    /// Whether it was not there at all.
    pub was_gone: bool,
    /// Its events that are in it again.
    pub events: u64,
    /// Its events that are lost.
    pub lost: Option<Gap>,
}

impl Written {
    fn of(about: &Metadata, bytes: u64) -> Written {
        Written {
            device: about.dev(),
            inode: about.ino(),
            bytes,
        }
    }
}

impl Known {
    /// One of which nothing is known but its name.
    fn named(first: u64) -> Known {
        Known {
            first,
            after: 0,
            last: 0,
            events: 0,
            gap: None,
            file: None,
        }
    }

    /// One that has just been made, of so many bytes.
    pub(super) fn begun(first: u64, after: u64, file: &File, bytes: u64) -> io::Result<Known> {
        Ok(Known {
            after,
            file: Some(Written::of(&file.metadata()?, bytes)),
            ..Known::named(first)
        })
    }

    /// Records were appended to it, and it has so many bytes now.
    pub(super) fn take(&mut self, records: &[EventRecord], bytes: u64) {
        for record in records {
            self.last = self.last.max(record.number().unwrap_or(0));
            match record {
                EventRecord::Event(_) => self.events += 1,
                EventRecord::Gap(gap) => self.gap = Some(gap.and(self.gap)),
                EventRecord::Header { .. } => {}
            }
        }
        if let Some(file) = &mut self.file {
            file.bytes = bytes;
        }
    }

    /// Whether all of it was found in a file.
    pub(super) fn is_in(&self, scan: &Scan) -> bool {
        self.events <= scan.events.len() as u64 && self.last <= scan.last
    }

    /// Whether the file of its name is the one that was written, and no shorter.
    fn is_at(&self, path: &Path) -> bool {
        let (Some(file), Ok(about)) = (self.file, fs::metadata(path)) else {
            return false;
        };
        file == Written::of(&about, file.bytes) && about.len() >= file.bytes
    }

    /// Which of its events are not among these, which are in the order of their numbers.
    fn missing_in(&self, events: &[Event]) -> Option<Gap> {
        let count = self.events.saturating_sub(events.len() as u64);
        let numbers = events.iter().map(|event| event.id.number);
        let from = numbers
            .clone()
            .fold(self.first, |from, number| match from == number {
                true => from + 1,
                false => from,
            });
        let up_to = numbers
            .rev()
            .fold(self.last, |up_to, number| match up_to == number {
                true => up_to.saturating_sub(1),
                false => up_to,
            });
        (count > 0).then_some(Gap {
            count,
            from: from.min(up_to),
            up_to,
        })
    }
}

impl Journal {
    /// Looks whether all that was written is there still, and writes anew what is not, from what is left of it and from the
    /// events that are `held`. What was written anew is put to `mended`, also when not all could be.
    ///
    /// # Errors
    /// The folder cannot be made, or a segment cannot be written. It is tried again at the next check.
    pub fn check(&mut self, held: impl Fn() -> Vec<Event>, mended: &mut Vec<Mended>) -> io::Result<()> {
        let is_other = |known: &&Known| !known.is_at(&self.path(known.first));
        let other: Vec<Known> = self.known.iter().filter(is_other).cloned().collect();
        for known in other {
            mended.extend(self.mend(known, &held)?);
        }
        Ok(())
    }

    fn mend(&mut self, known: Known, held: &impl Fn() -> Vec<Event>) -> io::Result<Option<Mended>> {
        let path = self.path(known.first);
        let found = match scan(&path) {
            Ok(scan) => Some(scan),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Scan::unreadable(&error)),
        };
        if let Some(scan) = found
            .as_ref()
            .filter(|scan| scan.damage.is_none() && known.is_in(scan))
        {
            self.take_as_it_is(known, scan)?;
            return Ok(None);
        }
        make(&self.folder)?;
        let was_gone = found.is_none();
        if let Some(scan) = found {
            let why = scan.damage.as_deref();
            match scan.bytes == 0 && path.is_file() {
                true => fs::remove_file(&path)?,
                false => set_aside(&path, why.unwrap_or("less is in it than was written")),
            }
        }
        let mut events = self.left_of(&known)?;
        let is_empty = known.events == 0 && known.gap.is_none();
        let reaches = events.last().is_some_and(|event| event.id.number >= known.last);
        if is_empty || (reaches && known.missing_in(&events).is_none()) {
            // There never was anything, or all of it can be read where it was set aside.
            self.forget(known.first);
            return Ok(None);
        }
        let is_its = |event: &Event| {
            let number = event.id.number;
            EventFamily::of(event) == self.family && (known.first..=known.last).contains(&number)
        };
        events.extend(held().into_iter().filter(is_its));
        in_order(&mut events);
        let lost = known.missing_in(&events);
        let mended = Mended {
            path,
            was_gone,
            events: events.len() as u64,
            lost,
        };
        self.write_anew(known, events, lost)?;
        Ok(Some(mended))
    }

    /// The file of a segment is another one, as after a start, and holds all there was.
    fn take_as_it_is(&mut self, known: Known, scan: &Scan) -> io::Result<()> {
        let path = self.path(known.first);
        let is_current = self.is_current(known.first);
        let bytes = match is_current {
            true => {
                let segment = self.take_up(&path, scan).map_err(io::Error::other)?;
                self.current.insert(segment).bytes
            }
            false => scan.bytes,
        };
        let known = Known {
            first: known.first,
            after: scan.after,
            last: scan.last,
            events: scan.events.len() as u64,
            gap: scan.gap.or(known.gap),
            file: Some(Written::of(&fs::metadata(&path)?, bytes)),
        };
        self.replace(known);
        Ok(())
    }

    /// What of a segment can be read in the files that were set aside, in the order of their numbers.
    fn left_of(&self, known: &Known) -> io::Result<Vec<Event>> {
        let all = segments(&self.folder, self.family)?;
        let aside = (all.iter()).filter(|segment| segment.is_aside && segment.first == known.first);
        let scans = aside.filter_map(|segment| scan(&segment.path).ok());
        let mut events: Vec<Event> = scans
            .flat_map(|scan| scan.events)
            .filter(|event| (known.first..=known.last).contains(&event.id.number))
            .collect();
        in_order(&mut events);
        Ok(events)
    }

    fn write_anew(&mut self, known: Known, events: Vec<Event>, lost: Option<Gap>) -> io::Result<()> {
        let (path, is_current) = (self.path(known.first), self.is_current(known.first));
        let gap = lost.map_or(known.gap, |lost| Some(lost.and(known.gap)));
        let count = events.len() as u64;
        let header = EventRecord::Header {
            format: EVENT_FORMAT,
            after: known.after,
        };
        let events = events
            .into_iter()
            .map(|event| EventRecord::Event(Box::new(event)));
        let records = [header]
            .into_iter()
            .chain(gap.map(EventRecord::Gap))
            .chain(events);
        let mut text = String::new();
        for record in records {
            line(&mut text, &record)?;
        }
        stable_file::replace(&path, &path.with_extension("new"), text.as_bytes())?;
        let (file, bytes) = (OpenOptions::new().append(true).open(&path)?, text.len() as u64);
        let known = Known {
            events: count,
            gap,
            file: Some(Written::of(&file.metadata()?, bytes)),
            ..known
        };
        if is_current {
            self.current = Some(Segment { file, bytes });
        }
        self.replace(known);
        Ok(())
    }

    fn is_current(&self, first: u64) -> bool {
        self.known.last().is_some_and(|known| known.first == first)
    }

    fn replace(&mut self, known: Known) {
        self.is_listed = false;
        if let Some(place) = self.known.iter_mut().find(|one| one.first == known.first) {
            *place = known;
        }
    }

    fn forget(&mut self, first: u64) {
        if self.is_current(first) {
            self.current = None;
        }
        self.known.retain(|known| known.first != first);
        self.is_listed = false;
    }

    /// Takes up segments that are not in the list, as of a daemon that had none.
    pub(super) fn add_unlisted(&mut self, all: &[Named]) {
        for segment in all {
            if self.known.iter().all(|known| known.first != segment.first) {
                self.known.push(Known::named(segment.first));
            }
        }
        self.known.sort_by_key(|known| known.first);
    }

    /// Writes the list of segments, if something has changed since. What is in them is to be on stable storage before that.
    ///
    /// # Errors
    /// What the file system says.
    pub fn list(&mut self) -> io::Result<()> {
        if self.is_listed {
            return Ok(());
        }
        let list = List {
            format: LIST_FORMAT,
            segments: self.known.clone(),
        };
        let mut text = serde_json::to_string(&list).map_err(io::Error::other)?;
        text.push('\n');
        let path = path_of_list(&self.folder, self.family);
        stable_file::replace(&path, &path.with_extension("new"), text.as_bytes())?;
        self.is_listed = true;
        Ok(())
    }
}

/// Where the list of the segments of a family lies.
pub(super) fn path_of_list(folder: &Path, family: EventFamily) -> PathBuf {
    folder.with_extension(format!("{}.json", family.prefix()))
}

/// What the list says. One that cannot be read tells nothing, and is written anew before long.
pub(super) fn listed(folder: &Path, family: EventFamily) -> Vec<Known> {
    let path = path_of_list(folder, family);
    let text = match own_file::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            log::warn!(
                "{}: {error}; it is not known which events there were",
                path.display()
            );
            return Vec::new();
        }
    };
    let list = serde_json::from_str::<List>(&text).ok();
    let list = list.filter(|list| list.format == LIST_FORMAT);
    let Some(mut list) = list else {
        log::warn!("{}: it is no list of files of events", path.display());
        return Vec::new();
    };
    list.segments
        .retain(|known| known.first.max(known.last) <= EVENT_NUMBER_MAX);
    list.segments.sort_by_key(|known| known.first);
    list.segments
}
