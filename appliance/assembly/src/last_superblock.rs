//! Which generation of its superblock each pooled disk was last known to carry: kept beside the cluster database, so that an
//! older copy of a medium that is put in its place is told from the medium itself.
//!
//! Nothing on such a copy tells it from a medium whose last write of a superblock a crash cut short: both carry a
//! configuration that ours has grown out of. What does is the order of two stable writes, of the medium first and of this
//! record afterwards: a crash leaves the medium at what is on record, or beyond it, and never before it.
//!
//! ```text
//! agreed     written, flushed, read back     on record      a crash in between leaves
//!    |------------------|------------------------|
//!    g on medium        g+1 on medium            g+1        g or g+1 on the medium, g on record: no copy
//! ```
//!
//! It is this node's own observation and no part of the agreed configuration: as one, it would cost an entry of the log, and
//! its flush, for each superblock that is written, and would be restored with the database from a time when the media were
//! other ones. A record that is older than the truth finds fewer copies and accuses no medium. Where there is none, as after a
//! state directory was restored, only a medium that is level with the database is taken for the present one, and recorded at
//! once.
//!
//! A medium that an operator has chosen in place of what the disk had is recorded as that one (`46 over 49`), until its
//! superblock is written: one that carries 47 is not it, although its number is the larger one.

use crate::own_file::{self, Obstacle};
use palisade_model::Disk;
use palisade_volume::OnRecord;
use palisade_wire::Decoded;
use palisade_words::{Ancestor, Generation, Uuid};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The folder in which it is kept, a file for each disk, and the copies that an operator has just decided to go on from.
#[derive(Clone, Debug)]
pub struct LastSuperblock {
    folder: PathBuf,
    known: Arc<Mutex<Known>>,
}

/// What this daemon knows by itself.
#[derive(Debug, Default)]
struct Known {
    /// Copies that an operator has just decided to go on from.
    chosen: BTreeMap<Uuid, Chosen>,
    /// What it has read of the record, seen or written: counts where a record has been lost since, or could not be kept.
    carried: BTreeMap<Uuid, OnRecord>,
    /// Disks whose lost end an operator goes on without, and the generation of each when that was decided. Not kept beyond
    /// this daemon: until the end is written anew, the next one asks once more.
    without_end: BTreeMap<Uuid, Generation>,
}

/// A copy that an operator goes on from.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    /// What it carries.
    carries: Ancestor,
    /// The disk's generation when that was decided. It counts once the cluster has agreed, which makes the disk's a later one.
    since: Generation,
}

impl Chosen {
    fn on_record(&self) -> OnRecord {
        OnRecord::Chosen {
            carries: self.carries.generation,
            over: self.since,
        }
    }
}

impl LastSuperblock {
    /// Below the state directory.
    pub fn below(state_dir: &Path) -> LastSuperblock {
        LastSuperblock {
            folder: state_dir.join("media"),
            known: Arc::default(),
        }
    }

    /// Where it is kept.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is on record of a disk's medium, for what was `found` on it: nothing is held against that once an operator has
    /// decided to go on from it.
    ///
    /// # Errors
    /// The record is there and cannot be read: what is in the way.
    pub fn known(&self, disk: &Disk, found: &Decoded) -> Result<OnRecord, Obstacle> {
        let chosen = self.lock().chosen.get(&disk.uuid).copied();
        let is_chosen = |chosen: Chosen| {
            chosen.carries == found.superblock.point() && disk.superblock_generation() > chosen.since
        };
        if chosen.is_some_and(is_chosen) {
            return Ok(OnRecord::Waived);
        }
        let known = self.recall(disk.uuid).map_err(|error| {
            let obstacle = own_file::obstacle(&self.folder, &self.path(disk.uuid), &error);
            Obstacle {
                what: format!(
                    "which generation the disk was last known to carry cannot be looked up: {}",
                    obstacle.what
                ),
                ..obstacle
            }
        })?;
        Ok(OnRecord::of(disk, known))
    }

    /// What is on record, or else what this daemon has seen. What is damaged is set aside, and is as if it had never been kept:
    /// where there is none, only a medium that is level with the database is taken for the present one.
    ///
    /// # Errors
    /// What the file system says, unless there is none.
    pub fn recall(&self, disk: Uuid) -> io::Result<Option<OnRecord>> {
        let mut known = self.lock();
        let kept = self.kept(disk)?;
        // Remembered: it counts for this daemon also when the record is lost while it runs.
        known.carried.extend(kept.map(|kept| (disk, kept)));
        Ok(known.carried.get(&disk).copied())
    }

    fn kept(&self, disk: Uuid) -> io::Result<Option<OnRecord>> {
        match own_file::read(&self.path(disk)) {
            Ok(text) => match from_text(text.trim()) {
                Some(kept) => Ok(Some(kept)),
                None => self.set_aside(disk).map(|()| None),
            },
            Err(error) if error.kind() == io::ErrorKind::InvalidData => self.set_aside(disk).map(|()| None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes room for a new record in the place of one that says nothing: no program of ours has written that.
    fn set_aside(&self, disk: Uuid) -> io::Result<()> {
        let (path, aside) = (self.path(disk), self.aside(disk));
        log::warn!(
            "{} is damaged, and set aside as {}",
            path.display(),
            aside.display()
        );
        fs::rename(path, aside)
    }

    /// Records of these disks that were damaged and set aside, for as long as they lie there.
    pub fn damaged<'a>(&self, disks: impl Iterator<Item = &'a Uuid>) -> Vec<PathBuf> {
        let aside = disks.map(|disk| self.aside(*disk));
        aside.filter(|aside| aside.exists()).collect()
    }

    /// Keeps that a disk's medium carries a generation, stable when this returns. To be called once that is stable on the
    /// medium itself.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(&self, disk: Uuid, carries: Generation) -> io::Result<()> {
        let mut known = self.lock();
        // One that has just been chosen, and not been settled yet; a record that cannot be read is worth no more than none.
        let chosen = known.chosen.get(&disk).map(|chosen| chosen.on_record());
        let kept = chosen.or_else(|| self.kept(disk).unwrap_or_default());
        let kept = kept.or_else(|| known.carried.get(&disk).copied());
        let on_record = kept.map_or(OnRecord::At(carries), |kept| kept.then(carries));
        self.put(&mut known, disk, on_record)
    }

    /// The same of a disk that is taken into the cluster, in place of what is known of one that was here once.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_of_new(&self, disk: Uuid, carries: Generation) -> io::Result<()> {
        self.put(&mut self.lock(), disk, OnRecord::At(carries))
    }

    fn put(&self, known: &mut Known, disk: Uuid, on_record: OnRecord) -> io::Result<()> {
        known.carried.insert(disk, on_record);
        self.record(disk, on_record)?;
        known.chosen.remove(&disk);
        known.without_end.remove(&disk);
        Ok(())
    }

    /// The cluster has agreed on going on from what a medium carries: so it is the present one, also for the next daemon.
    ///
    /// # Errors
    /// What the file system says.
    pub fn settle(&self, disk: Uuid) -> io::Result<()> {
        // Under the lock: the superblock may have been written, and kept, already.
        let mut known = self.lock();
        let Some(chosen) = known.chosen.get(&disk) else {
            return Ok(());
        };
        let on_record = chosen.on_record();
        known.carried.insert(disk, on_record);
        self.record(disk, on_record)
    }

    fn record(&self, disk: Uuid, on_record: OnRecord) -> io::Result<()> {
        if matches!(self.kept(disk), Ok(Some(kept)) if kept == on_record) {
            return Ok(());
        }
        let Some(text) = to_text(on_record) else {
            return Ok(());
        };
        let path = self.path(disk);
        let beside = path.with_extension("superblock-new");
        own_file::replace(&self.folder, &path, &beside, &text)
    }

    /// Disks whose record this daemon has read or written, and that is not there any more.
    pub fn missing(&self) -> Vec<Uuid> {
        let known = self.lock();
        let is_missing = |disk: &Uuid| matches!(self.kept(*disk), Ok(None)) && !self.path(*disk).exists();
        known.carried.keys().copied().filter(is_missing).collect()
    }

    /// Writes the record of a disk anew that is missing, from what this daemon knows.
    ///
    /// # Errors
    /// What the file system says.
    pub fn put_back(&self, disk: Uuid) -> io::Result<()> {
        // Under the lock: the disk may have left meanwhile.
        let known = self.lock();
        match known.carried.get(&disk) {
            Some(on_record) => self.record(disk, *on_record),
            None => Ok(()),
        }
    }

    /// An operator goes on from what a medium carries, older or not. Counts when the cluster has agreed on it.
    pub fn choose(&self, disk: &Disk, carries: Ancestor) {
        let since = disk.superblock_generation();
        self.lock().chosen.insert(disk.uuid, Chosen { carries, since });
    }

    /// An operator goes on without an end of a medium that is lost. Counts when the cluster has agreed on it.
    pub fn go_on_without_end(&self, disk: &Disk) {
        let since = disk.superblock_generation();
        self.lock().without_end.insert(disk.uuid, since);
    }

    /// Whether that was decided, and agreed on, and the end has not been written anew since.
    pub fn is_end_excused(&self, disk: &Disk) -> bool {
        let since = self.lock().without_end.get(&disk.uuid).copied();
        since.is_some_and(|since| disk.superblock_generation() > since)
    }

    /// The cluster has refused that.
    pub fn unchoose(&self, disk: Uuid) {
        self.lock().chosen.remove(&disk);
    }

    /// Forgets a disk that has left.
    pub fn forget(&self, disk: Uuid) {
        let mut known = self.lock();
        known.without_end.remove(&disk);
        known.chosen.remove(&disk);
        known.carried.remove(&disk);
        // What cannot be removed is asked about once more if the medium ever comes back by an import.
        let _ = fs::remove_file(self.path(disk));
        let _ = fs::remove_file(self.aside(disk));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, disk: Uuid) -> PathBuf {
        self.folder.join(format!("{disk}.superblock"))
    }

    fn aside(&self, disk: Uuid) -> PathBuf {
        self.folder.join(format!("{disk}.superblock.damaged"))
    }
}

/// As it is kept in the file. A daemon that knows nothing of choices takes one for a record that is damaged, and asks once
/// more.
fn to_text(on_record: OnRecord) -> Option<String> {
    match on_record {
        OnRecord::At(last) => Some(last.0.to_string()),
        OnRecord::Chosen { carries, over } => Some(format!("{} over {}", carries.0, over.0)),
        OnRecord::Nothing | OnRecord::Waived => None,
    }
}

fn from_text(text: &str) -> Option<OnRecord> {
    let number = |text: &str| text.parse().ok().map(Generation);
    match text.split_once(" over ") {
        Some((carries, over)) => Some(OnRecord::Chosen {
            carries: number(carries)?,
            over: number(over)?,
        }),
        None => number(text).map(OnRecord::At),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept_until_forgotten_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let last = LastSuperblock::below(folder.path());
        assert_eq!(last.recall(Uuid(1)).unwrap(), None);
        for generation in [46, 46, 47, 3] {
            last.keep(Uuid(1), Generation(generation)).unwrap();
            let known = LastSuperblock::below(folder.path()).recall(Uuid(1)).unwrap();
            assert_eq!(known, Some(OnRecord::At(Generation(generation))));
        }
        assert_eq!(last.recall(Uuid(2)).unwrap(), None);
        fs::write(last.path(Uuid(1)), "4x").unwrap();
        let another = LastSuperblock::below(folder.path());
        assert_eq!(another.recall(Uuid(1)).unwrap(), None);
        let seen = last.recall(Uuid(1)).unwrap();
        let at_3 = Some(OnRecord::At(Generation(3)));
        assert_eq!(seen, at_3, "the daemon that has seen it knows it");
        last.forget(Uuid(1));
        assert_eq!(last.recall(Uuid(1)).unwrap(), None);
        assert!(!last.path(Uuid(1)).exists());
    }

    #[test]
    fn what_was_on_record_is_known_to_who_has_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |number| Some(OnRecord::At(Generation(number)));
        LastSuperblock::below(folder.path())
            .keep(Uuid(1), Generation(46))
            .unwrap();
        let [read, unread] = [(); 2].map(|()| LastSuperblock::below(folder.path()));
        assert_eq!(read.recall(Uuid(1)).unwrap(), at(46));
        fs::remove_file(read.path(Uuid(1))).unwrap();
        assert_eq!(read.recall(Uuid(1)).unwrap(), at(46));
        assert_eq!(unread.recall(Uuid(1)).unwrap(), None);
        read.forget(Uuid(1));
        assert_eq!(read.recall(Uuid(1)).unwrap(), None);
    }

    /// The choice outlives the daemon in which it was made, until the superblock is written.
    #[test]
    fn what_was_chosen_stays_on_record_as_that() {
        let folder = tempfile::tempdir().unwrap();
        let last = LastSuperblock::below(folder.path());
        let [then, now, next] = [46, 49, 50].map(Generation);
        let chosen = OnRecord::Chosen {
            carries: then,
            over: now,
        };
        last.put(&mut last.lock(), Uuid(1), chosen).unwrap();
        let another = LastSuperblock::below(folder.path());
        assert_eq!(another.recall(Uuid(1)).unwrap(), Some(chosen));
        another.keep(Uuid(1), then).unwrap();
        assert_eq!(
            another.recall(Uuid(1)).unwrap(),
            Some(chosen),
            "seen as it was chosen"
        );
        another.keep(Uuid(1), next).unwrap();
        assert_eq!(another.recall(Uuid(1)).unwrap(), Some(OnRecord::At(next)));
        another.put(&mut another.lock(), Uuid(1), chosen).unwrap();
        another.keep_of_new(Uuid(1), then).unwrap();
        assert_eq!(
            another.recall(Uuid(1)).unwrap(),
            Some(OnRecord::At(then)),
            "taken in anew"
        );
        for text in ["46 over", "46 over x", "x over 49", "46 49"] {
            fs::write(another.path(Uuid(1)), text).unwrap();
            assert_eq!(
                LastSuperblock::below(folder.path()).recall(Uuid(1)).unwrap(),
                None
            );
        }
    }

    #[test]
    fn records_that_are_missing_are_told_and_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let before = LastSuperblock::below(folder.path());
        for disk in [1, 2, 3] {
            before.keep_of_new(Uuid(disk), Generation(disk as u64)).unwrap();
        }
        let last = LastSuperblock::below(folder.path());
        for disk in [1, 2, 3, 4] {
            last.recall(Uuid(disk)).unwrap();
        }
        assert_eq!(last.missing(), []);
        fs::remove_dir_all(&last.folder).unwrap();
        assert_eq!(last.missing(), [Uuid(1), Uuid(2), Uuid(3)]);
        last.forget(Uuid(2));
        for disk in [1, 2, 3] {
            last.put_back(Uuid(disk)).unwrap();
        }
        assert_eq!(last.missing(), []);
        let next = LastSuperblock::below(folder.path());
        let recalled = [1, 2, 3].map(|disk| next.recall(Uuid(disk)).unwrap());
        assert_eq!(
            recalled,
            [1, 0, 3].map(|at| (at > 0).then_some(OnRecord::At(Generation(at))))
        );
    }

    /// Whatever says nothing is treated alike: a crash of the machine leaves a file empty or full of zeros on some file systems.
    #[test]
    fn a_record_that_says_nothing_is_set_aside_and_is_as_one_that_is_lost() {
        let garbage: [&[u8]; 5] = [b"", b"\0\0\0\0", b"\xff\xfe\x80", b"4x", &[b'7'; (1 << 20) + 1]];
        for damaged in garbage {
            let folder = tempfile::tempdir().unwrap();
            let before = LastSuperblock::below(folder.path());
            before.keep_of_new(Uuid(1), Generation(46)).unwrap();
            fs::write(before.path(Uuid(1)), damaged).unwrap();
            let last = LastSuperblock::below(folder.path());
            let told = |last: &LastSuperblock| last.damaged([Uuid(1), Uuid(2)].iter());
            assert_eq!(told(&last), Vec::<PathBuf>::new(), "nobody has looked yet");
            for _ in 0..2 {
                assert_eq!(last.recall(Uuid(1)).unwrap(), None, "{damaged:?}");
                assert_eq!(told(&last), [last.aside(Uuid(1))]);
                assert_eq!(
                    fs::read(last.aside(Uuid(1))).unwrap(),
                    damaged,
                    "nothing of it is deleted"
                );
            }
            // It is made anew, and told until somebody has moved it away.
            last.keep(Uuid(1), Generation(47)).unwrap();
            let next = LastSuperblock::below(folder.path());
            let at_47 = Some(OnRecord::At(Generation(47)));
            assert_eq!(next.recall(Uuid(1)).unwrap(), at_47);
            assert_eq!(told(&next), [next.aside(Uuid(1))]);
            fs::remove_file(next.aside(Uuid(1))).unwrap();
            assert_eq!(told(&next), Vec::<PathBuf>::new());
            assert_eq!(next.recall(Uuid(1)).unwrap(), at_47);
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let last = LastSuperblock::below(folder.path());
        fs::create_dir_all(last.path(Uuid(1))).unwrap();
        let error = last.recall(Uuid(1)).unwrap_err();
        let told = own_file::obstacle(&last.folder, &last.path(Uuid(1)), &error);
        let named = last.path(Uuid(1)).display().to_string();
        assert!(
            told.what.contains(&named) && told.remedy.contains(&named),
            "{told:?}"
        );
    }
}
