//! Files of the database that go away while it is in use, and storage that fails and comes back.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod story;

use palisade_consensus::{Agreement, ProposeError, RenewError, Store, StoreError};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use story::Story;
use tempfile::TempDir;

const FILES: [&str; 3] = ["lock", "log.redb", "state.redb"];

/// A database with some history.
fn store(directory: &Path) -> Store {
    let store = Store::open(directory).unwrap();
    for number in 1..=140 {
        store.propose(story::command(number)).unwrap();
    }
    assert_eq!(store.look(), None);
    store
}

/// Asserts that a start finds what was agreed on.
fn is_all_there(store: Store, directory: &Path) {
    let cluster = store.cluster();
    drop(store);
    assert_eq!(Store::open(directory).unwrap().cluster(), cluster);
}

#[test]
fn files_that_are_deleted_are_told_and_put_back() {
    for gone in [&FILES[..1], &FILES[1..2], &FILES[2..], &FILES[1..], &FILES[..]] {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let folder = directory.path();
        gone.iter()
            .for_each(|file| fs::remove_file(folder.join(file)).unwrap());
        let refused = store.propose(story::command(141));
        assert!(
            matches!(refused, Err(ProposeError::Misplaced { .. })),
            "{refused:?}"
        );
        let told = store.look().unwrap();
        assert!(gone.iter().all(|file| told.contains(file)), "{told}");
        assert!(told.contains("deleted") && !told.contains("cannot"), "{told}");
        assert_eq!(store.look(), None, "{gone:?}");
        store.propose(story::command(141)).unwrap();
        let second = Store::open(folder);
        assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
        is_all_there(store, folder);
    }
}

#[test]
fn a_directory_that_is_made_anew_gets_the_rights_of_the_one_before() {
    use std::os::unix::fs::PermissionsExt;
    let around = tempfile::tempdir().unwrap();
    let directory = around.path().join("state");
    let store = store(&directory);
    let mode = || fs::metadata(&directory).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o700);
    fs::remove_dir_all(&directory).unwrap();
    assert!(store.look().unwrap().contains("has been deleted or moved away"));
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(store.look().unwrap().contains("deleted"));
    assert_eq!((store.look(), mode()), (None, 0o700));
    is_all_there(store, &directory);
}

#[test]
fn nothing_is_made_in_place_of_a_directory_that_somebody_has_moved() {
    let around = tempfile::tempdir().unwrap();
    let (here, there) = (around.path().join("state"), around.path().join("moved"));
    let store = store(&here);
    fs::rename(&here, &there).unwrap();
    let told = store.look().unwrap();
    assert!(told.contains("deleted or moved away"), "{told}");
    let refused = store.propose(story::command(141));
    assert!(
        matches!(refused, Err(ProposeError::Misplaced { .. })),
        "{refused:?}"
    );
    assert!(!here.exists());
    fs::rename(&there, &here).unwrap();
    assert_eq!(store.look(), None, "it is back");
    store.propose(story::command(141)).unwrap();
    // Deleted for good: an empty one in its place is filled.
    fs::remove_dir_all(&here).unwrap();
    assert!(store.look().is_some() && !here.exists());
    fs::create_dir(&here).unwrap();
    assert!(store.look().unwrap().contains("log.redb"));
    assert_eq!(store.look(), None);
    is_all_there(store, &here);
}

#[test]
fn files_of_somebody_else_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let (log, kept) = (directory.path().join("log.redb"), directory.path().join("kept"));
    fs::rename(&log, &kept).unwrap();
    fs::write(&log, "another").unwrap();
    for _ in 0..2 {
        let told = store.look().unwrap();
        assert!(told.contains("log.redb is another file"), "{told}");
        assert!(store.propose(story::command(141)).is_err());
    }
    assert_eq!(fs::read(&log).unwrap(), b"another");
    fs::rename(&kept, &log).unwrap();
    assert_eq!(store.look(), None);
    is_all_there(store, directory.path());
}

/// A small file system in memory.
struct Small(TempDir);

impl Small {
    fn mount() -> Option<Small> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "none"])
            .arg(folder.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Small(folder))
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// Leaves no byte free.
    fn fill(&self) -> PathBuf {
        let filler = self.path().join("filler");
        let full = Command::new("dd")
            .args(["if=/dev/zero", "bs=4096", "status=none"])
            .arg(format!("of={}", filler.display()))
            .status();
        assert!(!full.unwrap().success(), "there is room left");
        filler
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn after_a_full_file_system_all_is_written_anew_and_changes_are_taken_again() {
    let Some(small) = Small::mount() else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    let directory = small.path().join("state");
    let store = Store::open(&directory).unwrap();
    store.propose(story::command(1)).unwrap();
    let filler = small.fill();
    let (mut number, mut failed) = (2, None);
    while failed.is_none() {
        assert!(number < 5000, "it never gets full");
        match store.propose(story::command(number)) {
            Ok(_) => number += 1,
            Err(error) => failed = Some(error),
        }
        // What it has as a reserve of its own goes too.
        if number % 50 == 0 {
            fs::remove_file(&filler).unwrap();
            small.fill();
        }
    }
    assert!(matches!(failed, Some(ProposeError::Storage { .. })), "{failed:?}");
    assert!(store.is_halted());
    assert_eq!(store.propose(story::command(number)), Err(ProposeError::Halted));
    let still = store.write_anew().unwrap_err();
    assert!(matches!(still, RenewError::NotWritten { .. }), "{still}");
    assert!(store.is_halted());
    let agreed = store.cluster();
    fs::remove_file(&filler).unwrap();
    store.write_anew().unwrap();
    assert!(!store.is_halted());
    assert_eq!(store.cluster(), agreed);
    drop(store);
    let store = Store::open(&directory).unwrap();
    assert_eq!(store.cluster(), agreed, "the change that failed is not in it");
    assert_eq!(*agreed, *Story::new().at(agreed.generation));
    for number in number..number + 200 {
        store.propose(story::command(number)).unwrap();
    }
    is_all_there(store, &directory);
}
