//! Databases and backups as earlier versions wrote them: each is read as it was meant, and goes on.
//!
//! The files hold what those programs kept, the state in the first line and then the log; they are never made anew.

#![cfg(test)]

mod story;

use palisade_consensus::{Agreement, Backup, Store, StoreError};
use palisade_model::{Cluster, Command, FEATURE_LEVEL, NodeStarted};
use palisade_words::{Generation, Incarnation, Name, Uuid};
use redb::{Database, TableDefinition};
use std::path::Path;
use story::Story;

/// Without lineages.
const FORMAT_1: &str = include_str!("golden/database-1.jsonl");

/// With them; nodes say nothing of themselves yet.
const FORMAT_2: &str = include_str!("golden/database-2.jsonl");

/// A database as the version before wrote it, without lineages: half in the state, half in the log.
#[test]
fn a_database_of_the_version_before_is_read_and_gets_a_lineage_that_stays() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 1, FORMAT_1);
    let store = Store::open(directory.path()).unwrap();
    let (first, expected) = (store.cluster(), Story::new().at(Generation(24)).clone());
    assert_eq!(first.as_ref().clone().unrooted(), expected.unrooted());
    assert!(!first.lineage.is_nil());
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.cluster(), first, "the lineage begins in one place");
    store.propose(story::command(25)).unwrap();
    let more = store.cluster();
    assert_ne!(more.lineage, first.lineage);
    drop(store);
    assert_eq!(Store::open(directory.path()).unwrap().cluster(), more);
    // Another copy that says the same begins where this one did; one that says something else does not.
    let copy = tempfile::tempdir().unwrap();
    write(copy.path(), 1, FORMAT_1);
    assert_eq!(Store::open(copy.path()).unwrap().cluster(), first);
}

/// Its node is a voter that has not said yet which of its runs it is in, and says so when it starts.
#[test]
fn a_database_whose_nodes_say_nothing_of_themselves_is_read_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 2, FORMAT_2);
    let store = Store::open(directory.path()).unwrap();
    let first = store.cluster();
    assert_eq!((first.generation, first.attachments.len()), (Generation(26), 2));
    let node = |cluster: &Cluster| cluster.nodes[&Name::new("n0").expect("a good name")].clone();
    assert!(node(&first).votes());
    assert_eq!(node(&first).incarnation, Incarnation(0));
    let started = NodeStarted {
        node: Uuid(2),
        incarnation: Incarnation(1),
        feature_level: FEATURE_LEVEL,
    };
    store.propose(Command::NodeStarted(started)).unwrap();
    let more = store.cluster();
    drop(store);
    let again = Store::open(directory.path()).unwrap().cluster();
    assert_eq!(again, more);
    assert_eq!(node(&again).incarnation, Incarnation(1));
    // A backup says as much as it needs to: the program of before reads the one, and refuses the other by its number.
    let heads = [&first, &more].map(|cluster| {
        let text = Backup::of(Cluster::clone(cluster)).to_text();
        text.split(", CRC").next().unwrap().to_owned()
    });
    assert_eq!(
        heads,
        [
            "palisade state backup, format 1",
            "palisade state backup, format 2"
        ]
    );
}

/// The program of tomorrow kept something that the one of today would lose with the next writing.
#[test]
fn what_this_program_does_not_know_is_refused_and_left_as_it_is() {
    let (state, log) = FORMAT_2.split_once('\n').unwrap();
    let in_state = |text: &str| {
        format!(
            "{}\n{log}",
            state.replacen("\"epoch\":", &format!("{text}\"epoch\":"), 1)
        )
    };
    let in_log = |from: &str, to: &str| format!("{state}\n{}", log.replacen(from, to, 1));
    let cases = [
        (in_state("\"mirrors\":{\"m1\":3},"), "cluster.mirrors"),
        (
            in_log("\"grow_volume\":{", "\"grow_volume\":{\"stripes\":2,"),
            "command.grow_volume.stripes",
        ),
        (in_log("\"digest\":", "\"actor\":\"ann\",\"digest\":"), "actor"),
        (
            in_log("\"grow_volume\":{", "\"mirror_volume\":{"),
            "mirror_volume",
        ),
    ];
    for (text, unknown) in cases {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), 2, &text);
        let file = directory.path().join(match unknown.starts_with("cluster") {
            true => "state.redb",
            false => "log.redb",
        });
        let before = std::fs::read(&file).unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, StoreError::Unknown { .. }), "{unknown}: {said}");
        assert!(
            said.contains(unknown) && said.contains("start a later version"),
            "{said}"
        );
        assert!(std::fs::read(&file).unwrap() == before, "{unknown}");
    }
    // What says nothing is nothing that could be lost.
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 2, &in_state("\"mirrors\":{},"));
    Store::open(directory.path()).unwrap();
}

#[test]
fn a_backup_of_an_earlier_version_is_restored() {
    let directory = tempfile::tempdir().unwrap();
    let backup = Backup::from_text(include_str!("golden/backup-1"), Path::new("backup-1")).unwrap();
    let of_database = directory.path().join("of_database");
    write(&of_database, 2, FORMAT_2);
    assert_eq!(backup.cluster, *Store::open(&of_database).unwrap().cluster());
    let restored = directory.path().join("restored");
    backup.clone().restore(&restored).unwrap();
    assert_eq!(*Store::open(&restored).unwrap().cluster(), backup.held());
}

/// Puts the records into files as the version did.
fn write(directory: &Path, format: u64, text: &str) {
    let record = |line: &str| {
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, line.as_bytes()) as u32;
        [&sum.to_le_bytes(), line.as_bytes()].concat()
    };
    std::fs::create_dir_all(directory).expect("no fault of the store");
    let about: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
    let make = |name: &str, fill: &dyn Fn(&redb::WriteTransaction)| {
        let database = Database::create(directory.join(name)).expect("no fault of the store");
        let mut write = database.begin_write().expect("no fault of the store");
        write.set_two_phase_commit(true);
        let mut table = write.open_table(about).expect("no fault of the store");
        table.insert("format", format).expect("no fault of the store");
        drop(table);
        fill(&write);
        write.commit().expect("no fault of the store");
    };
    let mut lines = text.lines();
    let state = lines.next().expect("the state is the first line");
    let kept: serde_json::Value = serde_json::from_str(state).expect("it is JSON");
    let kept = kept["index"].as_u64().expect("a state says up to where");
    let snapshot = record(state);
    make("state.redb", &|write| {
        let state: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
        let mut table = write.open_table(state).expect("no fault of the store");
        table
            .insert("latest", snapshot.as_slice())
            .expect("no fault of the store");
    });
    let entries: Vec<Vec<u8>> = lines.map(record).collect();
    assert!(entries.len() > 10);
    make("log.redb", &|write| {
        let table: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
        let mut table = write.open_table(table).expect("no fault of the store");
        for (index, entry) in (kept + 1..).zip(&entries) {
            table
                .insert(index, entry.as_slice())
                .expect("no fault of the store");
        }
        let dropped: TableDefinition<'_, &str, u64> = TableDefinition::new("dropped");
        let mut table = write.open_table(dropped).expect("no fault of the store");
        table.insert("up_to", kept).expect("no fault of the store");
    });
}
