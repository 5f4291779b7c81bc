//! Looks after the cluster database: files of it that were deleted from outside are told and put back, and after a change
//! that could not be written everything agreed on is written anew, as soon as the storage takes it, so that nobody has to
//! restart anything.
//!
//! On a thread of its own: storage that does not answer holds up nobody but those who want to change something.

use crate::last_superblock::LastSuperblock;
use crate::own_file;
use crate::shared::Shared;
use crate::started;
use crate::watch::PendingWork;
use palisade_api::size::human;
use palisade_api::{FindingKind, Severity};
use palisade_block::{Doing, Whom};
use palisade_sys::filesystem::FileSystem;
use std::fs::File;
use std::time::{Duration, Instant};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// After this time it is tried for the first time to write everything anew, and then after twice as long each time.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest time between two tries. Each one writes what the cluster holds, a megabyte or so, to storage in trouble.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// With less room than this, or than a tenth of the file system, the next changes are in danger: each lets the log grow, and
/// from time to time all that the cluster holds is written once more.
const ROOM_BYTES: u64 = 64 << 20;

/// Less than this may not even do for one such writing.
const ROOM_BYTES_MIN: u64 = 8 << 20;

/// When to try again.
#[derive(Debug, Default)]
struct Retry(Option<(Instant, Duration)>);

impl Retry {
    /// Whether it is time. The first question begins the wait.
    fn is_due(&mut self, now: Instant) -> bool {
        let (at, _) = self.0.get_or_insert((now + RETRY_MIN, RETRY_MIN));
        now >= *at
    }

    /// It was tried in vain.
    fn later(&mut self, now: Instant) {
        let wait = self.0.map_or(RETRY_MIN, |(_, wait)| (wait * 2).min(RETRY_MAX));
        self.0 = Some((now + wait, wait));
    }
}

/// Looks again and again, until the watch is told to stop.
pub fn run(shared: &Shared) {
    let watched = shared.watch.enrol(
        "node/database",
        "the thread that looks after the cluster database",
        PendingWork::nothing(),
    );
    let mut retry = Retry::default();
    // Also of disks that cannot be opened: what is on record of them is known from here on.
    for disk in shared.cluster().disks.values() {
        if let Err(error) = shared.last_superblock.recall(disk.uuid) {
            log::warn!(
                "what disk {} was last known to carry cannot be read: {error}",
                disk.uuid
            );
        }
    }
    while !shared.watch.is_stopping() {
        watched.progress.asleep_for(Some(LOOK));
        std::thread::sleep(LOOK);
        watched.progress.mark(Doing::Step, Whom::Nobody);
        look(shared);
        look_at_room(shared);
        mend(shared, &mut retry, Instant::now());
        tell_of_start(shared);
        look_at_cluster(shared);
    }
}

/// How this node stands among the others, where there are some.
fn look_at_cluster(shared: &Shared) {
    let (Some(site), Some(member)) = (shared.site.get(), shared.agreed.as_member()) else {
        return;
    };
    let tell = |kind, what: Option<String>| match what {
        None => shared.findings.clear(kind, "node"),
        Some(what) => shared.findings.restate(kind, "node", what),
    };
    let standing = member.standing();
    let stopped = standing
        .stopped
        .map(|why| format!("this node's part of the agreement has stopped: {why}"));
    let is_alone = !standing.has_majority && stopped.is_none();
    tell(FindingKind::ClusterMemberStopped, stopped);
    tell(
        FindingKind::ClusterNoMajority,
        is_alone.then(|| "no majority of the cluster's voters answers".to_owned()),
    );
    tell(FindingKind::ClusterDoorShut, site.door().wrong());
}

/// What could not be written at the start is written once the storage takes it again.
fn tell_of_start(shared: &Shared) {
    if shared.agreed.store().is_none_or(|store| !store.is_halted()) {
        // It is tried again and again.
        let _ = started::tell(shared);
    }
}

fn look(shared: &Shared) {
    let (kind, findings) = (FindingKind::StateMisplaced, &shared.findings);
    // In place of a directory that has gone nothing is made.
    let what = shared.agreed.store().and_then(|store| store.look());
    let what = what.or_else(|| misplaced_media(&shared.last_superblock));
    let what = what.or_else(|| put_back_media(&shared.last_superblock));
    match what {
        None => findings.clear(kind, "node"),
        Some(what) => findings.restate(kind, "node", what),
    }
    let kind = FindingKind::MediaRecordDamaged;
    match told_damaged(shared) {
        None => findings.clear(kind, "node"),
        Some(what) => findings.restate(kind, "node", what),
    }
}

/// What was known of media and was damaged, with the names of the disks.
fn told_damaged(shared: &Shared) -> Option<String> {
    let cluster = shared.cluster();
    let damaged = cluster.disks.iter().filter_map(|(name, disk)| {
        let aside = shared
            .last_superblock
            .damaged(std::iter::once(&disk.uuid))
            .pop()?;
        Some(format!("disk {name} ({})", aside.display()))
    });
    let damaged: Vec<String> = damaged.collect();
    (!damaged.is_empty()).then(|| {
        format!(
            "which generation these were last known to carry could not be read and was set aside: {}",
            damaged.join(", ")
        )
    })
}

/// What is in the place of the folder of what is known of media, if that is something else.
fn misplaced_media(last: &LastSuperblock) -> Option<String> {
    own_file::is_no_folder(last.folder()).then(|| {
        format!(
            "what lies at {} is not the folder of what this daemon last saw of its media: it was put in its place",
            last.folder().display()
        )
    })
}

/// Puts back what was known of media and has been deleted from outside. What was wrong, if anything.
fn put_back_media(last: &LastSuperblock) -> Option<String> {
    let missing = last.missing();
    if missing.is_empty() {
        return None;
    }
    let what = format!(
        "{} of what its disks were last known to carry ({}) has been deleted or moved away",
        match missing.len() {
            1 => "1 file".to_owned(),
            several => format!("{several} files"),
        },
        last.folder().display()
    );
    match missing.into_iter().try_for_each(|disk| last.put_back(disk)) {
        Ok(()) => Some(what),
        Err(error) => Some(format!("{what}, and cannot be put back: {error}")),
    }
}

fn look_at_room(shared: &Shared) {
    let (kind, findings) = (FindingKind::StateSpaceLow, &shared.findings);
    let folder = &shared.settings.state_dir;
    // One that cannot be looked at is told as misplaced.
    let Ok(found) = File::open(folder).and_then(FileSystem::of) else {
        return;
    };
    let needed = needed_bytes(found.total_bytes);
    match found.free_bytes < needed {
        false => findings.clear(kind, "node"),
        // What is free changes all the time, and the sentence should not.
        true => findings.restate(
            kind,
            "node",
            format!(
                "the file system of the state directory {} is nearly full: less than {} of {} are free",
                folder.display(),
                human(needed),
                human(found.total_bytes)
            ),
        ),
    }
}

/// Room that a file system of this size should have for the next changes. A small one is not told of all its life.
fn needed_bytes(total_bytes: u64) -> u64 {
    ROOM_BYTES.min(total_bytes / 10).max(ROOM_BYTES_MIN)
}

fn mend(shared: &Shared, retry: &mut Retry, now: Instant) {
    let (kind, findings) = (FindingKind::DatabaseHalted, &shared.findings);
    let Some(store) = shared.agreed.store().filter(|store| store.is_halted()) else {
        *retry = Retry::default();
        return;
    };
    if !findings.stands(kind, "node") {
        findings.raise(kind, "node", "the cluster database could not be written");
    }
    if !retry.is_due(now) {
        return;
    }
    match store.write_anew() {
        Ok(()) => {
            let message = "all that was agreed on has been written anew, and changes are taken again; the one that could not \
                           be written is not in it: ask for it again";
            log::info!("{message}");
            shared
                .events
                .push(Severity::Info, "database_written_anew", "node", message);
            findings.clear(kind, "node");
        }
        Err(error) => {
            findings.raise(kind, "node", format!("it cannot be written anew yet: {error}"));
            retry.later(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_words::{Generation, Uuid};

    #[test]
    fn what_was_deleted_of_media_is_told_once_and_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let last = LastSuperblock::below(folder.path());
        last.keep_of_new(Uuid(1), Generation(7)).unwrap();
        assert_eq!(put_back_media(&last), None);
        std::fs::remove_dir_all(last.folder()).unwrap();
        let told = put_back_media(&last).unwrap();
        assert!(
            told.starts_with("1 file of what") && !told.contains("cannot"),
            "{told}"
        );
        assert_eq!(put_back_media(&last), None, "it is there again");
        assert_eq!(misplaced_media(&last), None);
        std::fs::remove_dir_all(last.folder()).unwrap();
        std::fs::write(last.folder(), "").unwrap();
        let told = misplaced_media(&last).unwrap();
        assert!(told.contains("is not the folder"), "{told}");
        std::fs::remove_dir_all(folder.path()).unwrap();
        let told = put_back_media(&last).unwrap();
        assert!(told.contains("cannot be put back"), "{told}");
    }

    /// Told by name, for as long as it lies there.
    #[test]
    fn a_damaged_record_of_a_disk_is_told() {
        use crate::rest::tests::preview::{BYTES, added, node, request, written};
        use crate::rest::tests::shared_of;
        let folder = tempfile::tempdir().unwrap();
        let (rest, _door) = node(folder.path());
        let d1 = palisade_words::Name::new("d1").unwrap();
        added(&rest, &request(&folder.path().join("d1.img"), Some(BYTES))).unwrap();
        written(&rest, &d1);
        let shared = shared_of(&rest);
        let disk = shared.cluster().disks[&d1].uuid;
        let record = shared.last_superblock.folder().join(format!("{disk}.superblock"));
        assert_eq!(told_damaged(&shared), None);
        std::fs::create_dir_all(shared.last_superblock.folder()).unwrap();
        std::fs::write(&record, b"\xff").unwrap();
        let _ = shared.last_superblock.recall(disk).unwrap();
        look(&shared);
        let aside = format!("disk d1 ({}.damaged)", record.display());
        let told = told_damaged(&shared).unwrap();
        assert!(told.contains(&aside), "{told}");
        std::fs::remove_file(format!("{}.damaged", record.display())).unwrap();
        assert_eq!(told_damaged(&shared), None);
    }

    #[test]
    fn the_room_that_is_needed_fits_the_file_system() {
        const MIB: u64 = 1 << 20;
        for (total, needed) in [(100_000, 64), (640, 64), (200, 20), (80, 8), (16, 8), (0, 8)] {
            assert_eq!(needed_bytes(total * MIB), needed * MIB, "{total} MiB");
        }
    }

    #[test]
    fn it_is_tried_soon_and_then_less_often() {
        let (mut retry, begin) = (Retry::default(), Instant::now());
        let (mut tries, mut at) = (Vec::new(), Duration::ZERO);
        while at < Duration::from_secs(150) {
            if retry.is_due(begin + at) {
                tries.push(at.as_secs());
                retry.later(begin + at);
            }
            at += Duration::from_secs(1);
        }
        assert_eq!(tries, [1, 3, 7, 15, 31, 61, 91, 121]);
    }
}
