//! What is agreed is there again after a restart.

mod story;

use palisade_consensus::{Agreement, ProposeError, Store, StoreError};
use palisade_model::{Outcome, Refusal};
use palisade_words::Generation;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use story::Story;

#[test]
fn the_cluster_is_the_same_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for until in [1, 2, 40, 41, 300] {
        let store = Store::open(directory.path()).unwrap();
        for number in store.cluster().generation.0 + 1..=until {
            store.propose(story::command(number)).unwrap();
        }
        let cluster = store.cluster();
        drop(store);
        assert_eq!(*cluster, *Story::new().at(Generation(until)));
        assert_eq!(Store::open(directory.path()).unwrap().cluster(), cluster);
    }
}

/// Who can read a file of the database can lock it, and then it does not start.
#[test]
fn nobody_else_can_open_its_files_wherever_they_lie() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let modes = || {
        let files = ["lock", "log.redb", "state.redb"].map(|file| directory.path().join(file));
        files.map(|file| fs::metadata(file).unwrap().permissions().mode() & 0o777)
    };
    let store = Store::open(directory.path()).unwrap();
    store.propose(story::command(1)).unwrap();
    assert_eq!(modes(), [0o600; 3], "made");
    drop(store);
    for file in ["lock", "log.redb", "state.redb"] {
        fs::set_permissions(directory.path().join(file), Permissions::from_mode(0o644)).unwrap();
    }
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(modes(), [0o600; 3], "opened");
    let backup = directory.path().join("backup");
    palisade_consensus::backup::write_file(&backup, "{}").unwrap();
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    drop(store);
}

#[test]
fn what_changes_nothing_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let refused = store.propose(story::command(3));
    assert_eq!(refused, Err(ProposeError::Refused(Refusal::NotInitialised)));
    store.propose(story::command(1)).unwrap();
    assert!(matches!(
        store.propose(story::command(1)),
        Ok(Outcome::Unchanged { .. })
    ));
    drop(store);
    assert_eq!(entries(directory.path()), 1);
}

#[test]
fn the_log_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for number in 1..=300 {
        store.propose(story::command(number)).unwrap();
    }
    drop(store);
    assert!(entries(directory.path()) < 128);
    let store = Store::open(directory.path()).unwrap();
    store.compact().unwrap();
    drop(store);
    assert_eq!(entries(directory.path()), 0);
}

#[test]
fn one_directory_has_one_user() {
    let directory = tempfile::tempdir().unwrap();
    let _store = Store::open(directory.path()).unwrap();
    assert!(matches!(
        Store::open(directory.path()),
        Err(StoreError::InUse { .. })
    ));
}

#[test]
fn a_later_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let about: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
    let database = Database::open(directory.path().join("state.redb")).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(about).unwrap().insert("format", 4).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(
        error,
        StoreError::TooNew {
            format: 4,
            known: 3,
            ..
        }
    ));
    assert!(error.to_string().contains("later version"));
}

#[test]
fn an_interrupted_beginning_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("log.redb.new"), b"half").unwrap();
    drop(Store::open(directory.path()).unwrap());
    std::fs::remove_file(directory.path().join("state.redb")).unwrap();
    Store::open(directory.path())
        .unwrap()
        .propose(story::command(1))
        .unwrap();
}

fn entries(directory: &std::path::Path) -> u64 {
    let entries: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
    let database = Database::open(directory.join("log.redb")).expect("no fault of the store");
    database
        .begin_read()
        .expect("no fault of the store")
        .open_table(entries)
        .expect("no fault of the store")
        .len()
        .expect("no fault of the store")
}
