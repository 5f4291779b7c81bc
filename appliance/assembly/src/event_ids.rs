//! Where the ids of events go on after a restart.
//!
//! They are a sequence over the life of the node, kept in a file of the state directory: reserved many at a time, so that
//! an event costs no write. Where that file is missing or cannot be read they go on at the wall clock's microsecond,
//! which lies far ahead of what was ever given, unless the clock was set back; the file is what holds then.
//!
//! A number that no clock could have given is no number of ours, wherever it stands: going on behind it would sooner or later
//! leave none to give.

use crate::own_file;
use crate::unix_time::now_us;
use palisade_sys::stable_file;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Ids reserved at a time.
const RESERVED: u64 = 1 << 20;

/// Name of the file.
const FILE: &str = "event-ids";

/// Name of what was in its place and was not one of ours.
const ASIDE: &str = "event-ids.damaged";

/// The greatest number that an event can have: the microsecond at which the year 2200 begins. They begin at the clock's, and
/// the years until then have room for more events than a node has time for.
pub const EVENT_NUMBER_MAX: u64 = 7_258_118_400_000_000;

/// No daemon begins behind this: room for 2^32 events is left above it.
const BEGIN_MAX: u64 = EVENT_NUMBER_MAX - (1 << 32);

/// The ids that may be given. One thread has them, and so one alone writes the file.
#[derive(Debug)]
pub struct EventIds {
    path: PathBuf,
    /// No id above this may be given before more are reserved.
    reserved: u64,
    /// Whether the file could not be written when it was tried last, which is told once.
    is_failing: bool,
}

impl EventIds {
    /// Goes on behind all ids that were given by daemons on this state directory, and behind `known`, which is on record; the
    /// first one is behind that returned.
    pub fn resume(state_dir: &Path, known: u64) -> (EventIds, u64) {
        let path = state_dir.join(FILE);
        let before = match own_file::read(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(number) if number <= BEGIN_MAX => number,
                Ok(number) => set_aside(
                    &path,
                    &format!("{number} is beyond what can be a number of an event"),
                ),
                Err(_) => set_aside(&path, "not a number"),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => set_aside(&path, &error.to_string()),
        };
        // A clock that stands beyond the bound, or a record that does, gives no number.
        let begins = [now_us(), before, known];
        let last = begins.into_iter().filter(|number| *number <= BEGIN_MAX).max();
        let last = last.unwrap_or(0);
        let mut ids = EventIds {
            path,
            reserved: last,
            is_failing: false,
        };
        ids.reserve(last);
        (ids, last)
    }

    /// Reserves more when `last` has come near to what is reserved, and writes the file anew if somebody has deleted it. To be
    /// called about each second; the folder of the file may not answer.
    pub fn keep(&mut self, last: u64) {
        self.reserve(last);
        let missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        if fs::symlink_metadata(&self.path).is_err_and(missing) {
            self.write(self.reserved);
        }
    }

    fn reserve(&mut self, last: u64) {
        if last.saturating_add(RESERVED / 2) >= self.reserved && self.reserved < BEGIN_MAX {
            self.write(last.saturating_add(RESERVED).min(BEGIN_MAX));
        }
    }

    fn write(&mut self, reserved: u64) {
        let beside = self.path.with_extension("new");
        match stable_file::replace(&self.path, &beside, format!("{reserved}\n").as_bytes()) {
            Ok(()) => (self.reserved, self.is_failing) = (reserved, false),
            Err(error) if !std::mem::replace(&mut self.is_failing, true) => log::warn!(
                "{}: {error}; when the clock is set back before a restart, ids of events may be given twice",
                self.path.display()
            ),
            Err(_) => {}
        }
    }
}

/// The name of what was set aside, when something was.
pub fn aside(state_dir: &Path) -> Option<String> {
    let there = fs::symlink_metadata(state_dir.join(ASIDE)).is_ok();
    there.then(|| ASIDE.to_owned())
}

/// Keeps what is in the place of the file, and goes on without: at 0.
fn set_aside(path: &Path, why: &str) -> u64 {
    let to = path.with_file_name(ASIDE);
    log::warn!(
        "{}: {why}; ids of events go on at the clock's time, and it is kept as {}",
        path.display(),
        to.display()
    );
    if let Err(error) = fs::rename(path, &to) {
        log::warn!("{} cannot be renamed: {error}", path.display());
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_on_although_the_clock_was_set_back() {
        let folder = std::env::temp_dir().join(format!("event-ids-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (mut ids, first) = EventIds::resume(&folder, 0);
        ids.keep(first + RESERVED);
        let reserved: u64 = fs::read_to_string(folder.join(FILE))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert_eq!(reserved, first + 2 * RESERVED);
        // A clock that was ahead by a century when the daemon before ran.
        let ahead = now_us() + 100 * 365 * 86_400 * 1_000_000;
        fs::write(folder.join(FILE), format!("{ahead}\n")).unwrap();
        let (_, second) = EventIds::resume(&folder, 0);
        assert_eq!(second, ahead);
        let (_, third) = EventIds::resume(&folder, 0);
        assert_eq!(third, ahead + RESERVED);
        let (mut ids, fourth) = EventIds::resume(&folder, 0);
        let kept = fs::read(folder.join(FILE)).unwrap();
        fs::remove_file(folder.join(FILE)).unwrap();
        ids.keep(fourth);
        assert_eq!(fs::read(folder.join(FILE)).unwrap(), kept);
        fs::write(folder.join(FILE), "rubbish").unwrap();
        assert!(EventIds::resume(&folder, 0).1 > first);
        assert_eq!(fs::read(folder.join(ASIDE)).unwrap(), b"rubbish");
        fs::remove_file(folder.join(FILE)).unwrap();
        let known = EventIds::resume(&folder, ahead).1;
        assert_eq!(known, ahead, "the file is gone, and the clock was set back");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_number_that_no_clock_can_have_given_is_set_aside_and_there_are_always_numbers_to_give() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join(FILE);
        for (text, is_ours) in [
            (u64::MAX, false),
            (EVENT_NUMBER_MAX, false),
            (BEGIN_MAX + 1, false),
            (BEGIN_MAX, true),
        ] {
            fs::write(&file, format!("{text}\n")).unwrap();
            let (mut ids, last) = EventIds::resume(state.path(), 0);
            assert!(last <= BEGIN_MAX, "{text}: {last}");
            assert_eq!(last == text, is_ours, "{text}");
            ids.keep(last + RESERVED);
            let (_, next) = EventIds::resume(state.path(), last + 1);
            assert!(last <= next && next <= BEGIN_MAX, "{text}: {next}");
            let aside = aside(state.path());
            assert_eq!(aside.is_some(), !is_ours, "{text}");
            let Some(aside) = aside else { continue };
            let kept = fs::read_to_string(state.path().join(&aside)).unwrap();
            assert_eq!(kept, format!("{text}\n"));
            fs::remove_file(state.path().join(aside)).unwrap();
        }
        let (_, last) = EventIds::resume(&state.path().join("none"), u64::MAX);
        assert!(last <= BEGIN_MAX, "{last}");
    }
}
