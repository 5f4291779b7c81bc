//! Whatever a crash leaves of it: a single node finds its database as it was, or the growth is gone on with, and nothing is lost.

use super::*;
use crate::agreement::Agreement;
use crate::raft::{LOG_FILE, PEERS_FILE, STATE_FILE, VoterError, voter};
use crate::story::{Story, command};
use openraft_rt_tokio::TokioRuntime;
use palisade_model::{Command, FEATURE_LEVEL, NodeStarted};
use palisade_words::Generation;
use tempfile::TempDir;

const NODE: VoterId = VoterId(Uuid(2));

/// A single node with a state, and commands after it.
fn single_node() -> (TempDir, Cluster) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    for number in 1..=7 {
        store.propose(command(number)).unwrap();
    }
    store.compact().unwrap();
    for number in 8..=12 {
        store.propose(command(number)).unwrap();
    }
    store
        .propose(Command::NodeStarted(NodeStarted {
            node: NODE.0,
            incarnation: Incarnation(5),
            feature_level: FEATURE_LEVEL,
        }))
        .unwrap();
    let cluster = Cluster::clone(&store.cluster());
    drop(store);
    (home, cluster)
}

/// It is a voter that has all of it, and votes alone; and no single node is opened in its place.
fn is_grown(directory: &Path, expected: &Cluster) {
    let files = VoterFiles::in_directory(directory);
    let (_, state) = voter::open::<TokioRuntime>(NODE, &files.log, &files.state).unwrap();
    assert_eq!(*state.cluster(), *expected);
    assert_eq!(state.applied_index(), Some(13));
    drop(state);
    assert_eq!(
        peers::read(NODE, &files.peers).unwrap().incarnation,
        Incarnation(5)
    );
    let refused = Store::open(directory).unwrap_err().to_string();
    assert!(
        refused.contains("voter of a cluster") && refused.contains("start the daemon as a member"),
        "{refused}"
    );
    for (old, new) in OLD_FILES {
        assert!(!directory.join(old).exists() && directory.join(new).exists());
    }
}

#[test]
fn a_single_node_becomes_a_voter_with_all_that_it_has_and_stays_one() {
    let (home, cluster) = single_node();
    grow(home.path(), NODE).unwrap();
    is_grown(home.path(), &cluster);
    // Again, and by whoever starts it.
    grow(home.path(), NODE).unwrap();
    finish(home.path(), NODE).unwrap();
    is_grown(home.path(), &cluster);
    // The voter that has gone on is not made anew.
    let log = fs::read(home.path().join(LOG_FILE)).unwrap();
    fs::remove_file(home.path().join(LOG_FILE)).unwrap();
    let lost = grow(home.path(), NODE).unwrap_err();
    assert!(
        matches!(&lost, GrowthError::Single(error) if matches!(**error, StoreError::Vanished { .. })),
        "{lost}"
    );
    fs::write(home.path().join(LOG_FILE), log).unwrap();
    is_grown(home.path(), &cluster);
}

/// Cut off before each step, and in the middle of what each writes.
#[test]
fn a_crash_anywhere_leaves_the_single_node_or_what_is_gone_on_with() {
    let writes = [PEERS_FILE, STATE_FILE, GROWN, LOG_FILE, LOG];
    for done in 0..=STEPS.len() {
        for half in 0..3 {
            let (home, cluster) = single_node();
            STEPS[..done]
                .iter()
                .for_each(|step| step(home.path(), NODE).unwrap());
            if let (Some(name), true) = (writes.get(done), half > 0) {
                // What is written beside goes under another name until it is whole.
                let beside = match *name == GROWN {
                    true => home.path().join(name).with_extension("new"),
                    false => home.path().join(format!("{name}.new")),
                };
                fs::write(beside, vec![half; 3_000 * usize::from(half)]).unwrap();
            }
            if done == 4 && half == 2 {
                // One of the two old files has its new name already.
                fs::rename(home.path().join(LOG), home.path().join(OLD_FILES[0].1)).unwrap();
            }
            let is_marked = done >= 3;
            match Store::open(home.path()) {
                Ok(store) => {
                    assert!(!is_marked, "the single node was opened behind the mark");
                    assert_eq!(*store.cluster(), cluster);
                    // It goes on as if nothing had been begun, and what was begun is begun anew.
                    store.propose(command(13)).unwrap();
                    let more = Cluster::clone(&store.cluster());
                    drop(store);
                    finish(home.path(), NODE).unwrap();
                    drop(Store::open(home.path()).unwrap());
                    grow(home.path(), NODE).unwrap();
                    let files = VoterFiles::in_directory(home.path());
                    let opened = voter::open::<TokioRuntime>(NODE, &files.log, &files.state);
                    assert_eq!(*opened.unwrap().1.cluster(), more);
                }
                Err(error) => {
                    assert!(is_marked, "{error}");
                    finish(home.path(), NODE).unwrap();
                    is_grown(home.path(), &cluster);
                }
            }
        }
    }
}

#[test]
fn who_has_no_part_in_it_is_refused_and_changes_nothing() {
    let (home, cluster) = single_node();
    let stranger = VoterId(Uuid(99));
    let refused = grow(home.path(), stranger).unwrap_err();
    assert!(matches!(refused, GrowthError::Stranger { .. }), "{refused}");
    assert_eq!(*Store::open(home.path()).unwrap().cluster(), cluster);
    STEPS[..3]
        .iter()
        .for_each(|step| step(home.path(), NODE).unwrap());
    let refused = finish(home.path(), stranger).unwrap_err();
    assert!(
        matches!(
            refused,
            GrowthError::Stranger { .. } | GrowthError::OtherNode { .. }
        ),
        "{refused}"
    );
    let bad = fs::read(home.path().join(GROWN)).unwrap();
    fs::write(home.path().join(GROWN), b"{\"format\":2,\"node\":\"2\"}").unwrap();
    assert!(matches!(finish(home.path(), NODE), Err(GrowthError::Mark { .. })));
    fs::write(home.path().join(GROWN), bad).unwrap();
    finish(home.path(), NODE).unwrap();
    is_grown(home.path(), &cluster);
    // A new member does not begin where another has been.
    let again = VoterFiles::in_directory(home.path()).create(NODE).unwrap_err();
    assert!(matches!(again, VoterError::Present { .. }), "{again}");
}

/// What a database of a version before becomes, to its last byte.
#[test]
fn the_files_have_the_bytes_that_they_had_from_the_first_version_on() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    for number in 1..=3 {
        store.propose(command(number)).unwrap();
    }
    assert_eq!(*store.cluster(), *Story::new().at(Generation(3)));
    drop(store);
    grow(home.path(), NODE).unwrap();
    let files = VoterFiles::in_directory(home.path());
    let line = |bytes: Vec<u8>| {
        let (sum, text) = bytes.split_first_chunk::<4>().unwrap();
        format!(
            "{:08x} {}",
            u32::from_le_bytes(*sum),
            String::from_utf8_lossy(text)
        )
    };
    let state = StateDatabase::read(&files.state, NODE.0).unwrap();
    let log = LogDatabase::read(&files.log, NODE.0).unwrap();
    assert_eq!((log.vote, log.committed, log.entries.len()), (None, None, 0));
    let found = [
        line(fs::read(home.path().join(PEERS_FILE)).unwrap()),
        line(crate::record::encode(&state.state).unwrap()),
        line(crate::record::encode(&state.applied.unwrap()).unwrap()),
        line(crate::record::encode(&log.dropped.unwrap()).unwrap()),
        fs::read_to_string(home.path().join(GROWN)).unwrap().trim().into(),
    ];
    let golden: Vec<&str> = include_str!("../../../tests/golden/grown-1.jsonl")
        .lines()
        .collect();
    assert_eq!(found.as_slice(), golden);
}
