//! A damaged file gives an error that names it, and is left as it is. Nothing is ever served from it, and nothing
//! panics.

mod story;

use palisade_consensus::{Agreement, Store, StoreError};
use palisade_words::Generation;
use std::fs;
use std::path::Path;
use story::Story;
use tempfile::TempDir;

const COMMANDS: u64 = 40;
/// Bits turned behind the header.
const RARE: usize = 300;
const FILES: [&str; 2] = ["log.redb", "state.redb"];

#[test]
fn a_byte_changed_anywhere_is_noticed_or_harmless() {
    let whole = directory();
    write_story(whole.path());
    for file in FILES {
        let bytes = fs::read(whole.path().join(file)).unwrap();
        // Two bits of each byte of the header, which redb writes in place, all of its marks, and some of the rest.
        let header = (0..320)
            .flat_map(|at| [(at, at % 8), (at, (at + 3) % 8)])
            .chain((0..8).map(|bit| (9, bit)));
        let used: Vec<usize> = (320..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let rest = used.iter().step_by(used.len() / RARE + 1).map(|at| (*at, at % 8));
        let (mut noticed, mut tried) = (0, 0);
        for (at, bit) in header.chain(rest) {
            let mut turned = bytes.clone();
            turned[at] ^= 1 << bit;
            tried += 1;
            noticed += u32::from(is_noticed(whole.path(), file, &turned, at));
        }
        println!("{file}: {noticed} of {tried} noticed");
        assert!(noticed > tried / 20, "{file}: only {noticed} of {tried}");
    }
}

#[test]
fn a_file_cut_short_is_noticed() {
    let whole = directory();
    write_story(whole.path());
    for file in FILES {
        let bytes = fs::read(whole.path().join(file)).unwrap();
        for part in 0..40 {
            let length = bytes.len() * part / 40;
            assert!(
                is_noticed(whole.path(), file, &bytes[..length], length),
                "{file} cut to {length}"
            );
        }
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_in_a_sentence() {
    let whole = directory();
    write_story(whole.path());
    let path = whole.path().join("log.redb");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let said = Store::open(whole.path()).unwrap_err().to_string();
    assert!(
        said.contains("as when it was cut off") && !said.contains("DB corrupted"),
        "{said}"
    );
}

/// In memory where that can be had: these tests open thousands of files, and none of them is about fsync.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("no fault of the store")
}

/// Opens a copy of the store with one file replaced. Either it is the story to its end, or an error that names the
/// file, which stays as it is.
fn is_noticed(whole: &Path, file: &str, bytes: &[u8], at: usize) -> bool {
    let copy = directory();
    for other in FILES {
        fs::copy(whole.join(other), copy.path().join(other)).expect("no fault of the store");
    }
    let damaged = copy.path().join(file);
    fs::write(&damaged, bytes).expect("no fault of the store");
    match Store::open(copy.path()) {
        Ok(store) => {
            assert_eq!(
                *store.cluster(),
                *Story::new().at(Generation(COMMANDS)),
                "{file}, byte {at}"
            );
            false
        }
        Err(error) => {
            assert!(error.to_string().contains(file), "{file}, byte {at}: {error}");
            assert!(
                error.to_string().contains("restore"),
                "{file}, byte {at}: {error}"
            );
            assert!(
                fs::read(&damaged).expect("no fault of the store") == bytes,
                "{file}, byte {at}: the file was changed"
            );
            true
        }
    }
}

fn write_story(directory: &Path) {
    let store = Store::open(directory).expect("no fault of the store");
    for number in 1..=COMMANDS {
        store
            .propose(story::command(number))
            .expect("no fault of the store");
        if number == COMMANDS / 2 {
            store.compact().expect("no fault of the store");
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    for file in FILES {
        let directory = directory();
        write_story(directory.path());
        fs::remove_file(directory.path().join(file)).unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
        assert!(error.to_string().contains(file));
    }
}

/// redb takes an empty file for a new database, and both files may be gone at once.
#[test]
fn nothing_where_a_database_was_is_no_new_database() {
    for file in FILES {
        for content in [vec![], vec![0; 100], vec![0; 1 << 16]] {
            let directory = directory();
            write_story(directory.path());
            let path = directory.path().join(file);
            fs::write(&path, &content).unwrap();
            let error = Store::open(directory.path()).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }
    let directory = directory();
    write_story(directory.path());
    FILES
        .iter()
        .for_each(|file| fs::remove_file(directory.path().join(file)).unwrap());
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Vanished { .. }), "{error}");
    assert!(error.to_string().contains("disk import"), "{error}");
    assert!(FILES.iter().all(|file| !directory.path().join(file).exists()));
}

#[test]
fn a_state_that_is_gone_after_a_clean_stop_is_not_replaced_by_an_empty_one() {
    let directory = directory();
    write_story(directory.path());
    Store::open(directory.path()).unwrap().compact().unwrap();
    fs::remove_file(directory.path().join("state.redb")).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("state.redb"));
    assert!(!directory.path().join("state.redb").exists());
}

#[test]
fn an_older_state_under_a_shortened_log_is_noticed() {
    let directory = directory();
    let state = directory.path().join("state.redb");
    write_story(directory.path());
    let older = fs::read(&state).unwrap();
    Store::open(directory.path()).unwrap().compact().unwrap();
    fs::write(&state, older).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Gap { .. }), "{error}");
}

#[test]
fn files_of_different_stores_do_not_mix() {
    let (a, b) = (directory(), directory());
    write_story(a.path());
    let store = Store::open(b.path()).unwrap();
    for number in 1..=10 {
        store.propose(story::command(number)).unwrap();
    }
    store.compact().unwrap();
    drop(store);
    fs::copy(b.path().join("state.redb"), a.path().join("state.redb")).unwrap();
    assert!(matches!(
        Store::open(a.path()),
        Err(StoreError::Gap {
            expected: 11,
            found: 21,
            ..
        })
    ));
}
