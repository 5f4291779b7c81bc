//! A voter whose files are missing, empty, cut short, of another time or have a bit turned does not start, says which file and
//! what to do, and leaves them as they are. It never begins with an empty log.

use super::*;
use crate::raft::record::{LogId, Vote};
use openraft::storage::RaftLogStorage;
use openraft::{AsyncRuntime, RaftSnapshotBuilder};
use std::fs;
use tempfile::TempDir;

/// A voter with a promise, entries, some of them applied, and a state.
fn voter() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    made(home.path()).unwrap();
    go_on(home.path(), 0..6);
    home
}

fn go_on(directory: &Path, indices: std::ops::Range<u64>) {
    let (mut log, mut state) = opened(directory).unwrap();
    TokioRuntime::new(1).block_on(async {
        log.save_vote(&Vote::new_committed(2, NODE)).await.unwrap();
        append(&mut log, indices.clone().map(|index| entry(2, index))).await;
        apply(&mut state, indices.map(|index| entry(2, index))).await;
    });
}

fn keep_state(directory: &Path, dropped: u64) {
    let (mut log, mut state) = opened(directory).unwrap();
    TokioRuntime::new(1).block_on(async {
        state.build_snapshot().await.unwrap();
        log.purge(LogId::from(place(2, dropped))).await.unwrap();
    });
}

/// The voter does not start, the error names the file and says what to do, and nothing was changed.
fn refused(directory: &Path, file: &str) -> String {
    let content = || [LOG_FILE, STATE_FILE].map(|name| fs::read(directory.join(name)).ok());
    let before = content();
    let error = opened(directory).map(drop).unwrap_err();
    assert!(
        matches!(error, VoterError::Damaged { .. } | VoterError::Missing { .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains(file) && text.contains("let it join anew"), "{text}");
    assert!(content() == before, "something was written");
    text
}

#[test]
fn a_file_that_is_not_there_is_never_made_anew() {
    for file in [LOG_FILE, STATE_FILE] {
        let home = voter();
        fs::remove_file(home.path().join(file)).unwrap();
        assert!(refused(home.path(), file).contains("is missing"));
        // Nor by who takes this for a new voter.
        let error = made(home.path()).unwrap_err().to_string();
        let expected = if file == LOG_FILE {
            "is missing"
        } else {
            "is there already"
        };
        assert!(error.contains(expected), "{error}");
    }
    let home = voter();
    assert!(matches!(made(home.path()), Err(VoterError::Present { .. })));
    drop(opened(home.path()).unwrap());
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(opened(empty.path()), Err(VoterError::Missing { .. })));
}

#[test]
fn a_voter_whose_making_was_cut_off_is_made_again() {
    let home = tempfile::tempdir().unwrap();
    made(home.path()).unwrap();
    fs::remove_file(home.path().join(LOG_FILE)).unwrap();
    made(home.path()).unwrap();
    go_on(home.path(), 0..3);
}

#[test]
fn a_file_that_is_empty_cut_short_or_of_zeroes_is_damaged() {
    for file in [LOG_FILE, STATE_FILE] {
        let home = voter();
        let path = home.path().join(file);
        let whole = fs::read(&path).unwrap();
        let cases = [
            Vec::new(),
            whole[..100].to_vec(),
            whole[..whole.len() / 2].to_vec(),
            vec![0; whole.len()],
            b"something else".repeat(1000),
        ];
        for content in cases {
            fs::write(&path, content).unwrap();
            refused(home.path(), file);
        }
        fs::write(&path, &whole).unwrap();
        drop(opened(home.path()).unwrap());
    }
}

/// In what is in use of the file: elsewhere a bit means nothing, and the voter starts with all that it had.
#[test]
fn a_turned_bit_is_noticed_or_changes_nothing() {
    for file in [LOG_FILE, STATE_FILE] {
        let home = voter();
        let path = home.path().join(file);
        let whole = fs::read(&path).unwrap();
        let expected = opened(home.path()).unwrap().1.cluster();
        // Opening and closing writes what is needed to close, and no more.
        fs::write(&path, &whole).unwrap();
        let mut noticed = 0;
        let used: Vec<usize> = (0..whole.len())
            .filter(|at| !matches!(whole[*at], 0 | 0xff))
            .collect();
        for at in used.iter().step_by(used.len() / 150 + 1) {
            let mut turned = whole.clone();
            turned[*at] ^= 1 << (at % 8);
            fs::write(&path, turned).unwrap();
            match opened(home.path()) {
                Ok((_, state)) => assert_eq!(state.cluster(), expected, "byte {at} of {file}"),
                Err(_) => noticed += 1,
            }
        }
        assert!(noticed > 60, "{noticed} of {file}");
    }
}

#[test]
fn files_of_two_times_do_not_start_together() {
    let home = voter();
    let [log, state] = [LOG_FILE, STATE_FILE].map(|name| home.path().join(name));
    let before = [&log, &state].map(|path| fs::read(path).unwrap());
    go_on(home.path(), 6..9);
    // An older log: what was applied is not in it.
    let later = [&log, &state].map(|path| fs::read(path).unwrap());
    fs::write(&log, &before[0]).unwrap();
    assert!(refused(home.path(), LOG_FILE).contains("entry 6 is not in it"));
    // An older state is one that would be applied again; but not when the log has dropped what it lacks.
    fs::write(&log, &later[0]).unwrap();
    fs::write(&state, &later[1]).unwrap();
    keep_state(home.path(), 7);
    fs::write(&state, &before[1]).unwrap();
    assert!(refused(home.path(), STATE_FILE).contains("not of one time"));
}

#[test]
fn a_log_that_leads_elsewhere_or_has_lost_its_promise_is_damaged() {
    let home = voter();
    let other = tempfile::tempdir().unwrap();
    made(other.path()).unwrap();
    {
        let (mut log, _) = opened(other.path()).unwrap();
        TokioRuntime::new(1).block_on(async {
            log.save_vote(&Vote::new_committed(2, NODE)).await.unwrap();
            let shifted = |index: u64| {
                let mut entry = EntryRecord::from(&entry(2, index));
                entry.content = ContentRecord::Command(Box::new(command(index + 1)));
                RaftEntry::from(entry)
            };
            append(&mut log, (0..6).map(shifted)).await;
        });
    }
    fs::copy(other.path().join(LOG_FILE), home.path().join(LOG_FILE)).unwrap();
    assert!(refused(home.path(), LOG_FILE).contains("generation"));
    // Entries of a term that was not promised.
    let home = voter();
    {
        let (mut log, _) = opened(home.path()).unwrap();
        TokioRuntime::new(1).block_on(append(&mut log, [entry(3, 6)]));
    }
    assert!(refused(home.path(), LOG_FILE).contains("a promise of term 2 only"));
    // A gap.
    let home = voter();
    {
        let (mut log, _) = opened(home.path()).unwrap();
        TokioRuntime::new(1).block_on(append(&mut log, [entry(2, 8)]));
    }
    assert!(refused(home.path(), LOG_FILE).contains("where entry 6 is due"));
}

#[test]
fn the_files_of_another_node_are_refused() {
    let home = voter();
    let [log, state] = files(home.path());
    let error = open::<TokioRuntime>(VoterId(Uuid(8)), &log, &state)
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("it belongs to node"), "{error}");
}

/// What openraft hands over must be what the leader has sent, with its voters.
#[test]
fn a_snapshot_that_is_not_as_it_was_announced_changes_nothing() {
    let home = voter();
    let empty = tempfile::tempdir().unwrap();
    made(empty.path()).unwrap();
    let (_, mut from) = opened(home.path()).unwrap();
    TokioRuntime::new(1).block_on(async {
        let taken = from.build_snapshot().await.unwrap();
        let (_, mut to) = opened(empty.path()).unwrap();
        let mut turned = taken.snapshot.clone();
        turned[40] ^= 1;
        assert!(to.install_snapshot(&taken.meta, turned).await.is_err());
        let mut other = taken.meta.clone();
        other.last_membership = Default::default();
        assert!(to.install_snapshot(&other, taken.snapshot.clone()).await.is_err());
        assert_eq!(to.applied_state().await.unwrap(), Default::default());
        to.install_snapshot(&taken.meta, taken.snapshot.clone())
            .await
            .unwrap();
        let (place, members) = (taken.meta.last_log_id, taken.meta.last_membership);
        assert_eq!(to.applied_state().await.unwrap(), (place, members.clone()));
        drop(to);
        let (_, mut again) = opened(empty.path()).unwrap();
        assert_eq!(again.applied_state().await.unwrap(), (place, members));
        assert_eq!(again.cluster(), from.cluster());
    });
}
