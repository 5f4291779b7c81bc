//! What is agreed is there again after a restart.

mod story;

use palisade_consensus::{Agreement, ProposeError, Store, StoreError};
use palisade_model::{Generation, Outcome, Refusal};
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use story::Story;

#[test]
fn the_cluster_is_the_same_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for until in [1, 2, 40, 41, 300] {
        let store = Store::open(directory.path()).unwrap();
        for number in store.generation().0 + 1..=until {
            store.propose(story::command(number)).unwrap();
        }
        let cluster = store.cluster();
        drop(store);
        assert_eq!(*cluster, *Story::new().at(Generation(until)));
        assert_eq!(Store::open(directory.path()).unwrap().cluster(), cluster);
    }
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
    write.open_table(about).unwrap().insert("format", 2).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(
        error,
        StoreError::TooNew {
            format: 2,
            known: 1,
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
