//! A single node's database becomes the first voter, and the cluster grows from there; a voter with older files does not count.

use crate::nodes::{CLUSTER, Members, SOON, change, eventually, id, name};
use palisade_consensus::raft::{MemberRole, grow};
use palisade_consensus::{Agreement, Store};
use palisade_model::{Command, FEATURE_LEVEL, InitCluster, NodeStarted, RaiseFeatureLevel};
use palisade_words::Incarnation;
use std::fs;
use std::path::Path;
use std::time::Duration;

#[test]
fn a_single_node_grows_to_three_voters_with_all_that_it_had() {
    let mut all = Members::of(3);
    let home = all.nodes[0].home.path();
    for file in fs::read_dir(home).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let store = Store::open(home).unwrap();
    let init = InitCluster {
        id: CLUSTER,
        node: name(0),
        node_uuid: id(0).0,
    };
    let started = NodeStarted {
        node: id(0).0,
        incarnation: Incarnation(7),
        feature_level: FEATURE_LEVEL,
    };
    store.propose(Command::InitCluster(init)).unwrap();
    store.propose(Command::NodeStarted(started)).unwrap();
    let to = FEATURE_LEVEL;
    store
        .propose(Command::RaiseFeatureLevel(RaiseFeatureLevel { to }))
        .unwrap();
    for number in 0..30 {
        store.propose(change(number)).unwrap();
    }
    let before = store.cluster();
    drop(store);
    grow(home, id(0)).unwrap();
    (0..3).for_each(|number| all.start(number));
    // It has begun already, long ago.
    all.member(0).begin().unwrap();
    assert_eq!(*all.member(0).cluster(), *before);
    assert_eq!(all.member(0).incarnation(), Incarnation(8));
    all.starts(0);
    all.join(1);
    all.join(2);
    all.await_voters(&[0, 1, 2]);
    all.kill(0);
    all.ask(1, change(30));
    all.start(0);
    all.await_same(&[0, 1, 2]);
    let now = all.member(2).cluster();
    assert!(before.nodes.keys().all(|name| now.nodes.contains_key(name)));
}

/// Rule 10: its files were put back from a copy, so that it does not know what it has promised and confirmed since.
#[test]
fn a_voter_with_older_files_does_not_count() {
    let mut all = Members::formed(3);
    all.ask(0, change(0));
    all.await_same(&[0, 1, 2]);
    let leader = all.leader(&[0, 1, 2]);
    let (forgetful, other) = ((leader + 1) % 3, (leader + 2) % 3);
    all.stop(forgetful);
    let copy = tempfile::tempdir().unwrap();
    copy_files(all.nodes[forgetful].home.path(), copy.path());
    all.start(forgetful);
    for number in 1..20 {
        all.ask(forgetful, change(number));
    }
    all.await_same(&[0, 1, 2]);
    // The other one has heard of how far it had come, from the leader, and writes that down once a second.
    std::thread::sleep(Duration::from_millis(2_500));
    all.stop(forgetful);
    copy_files(copy.path(), all.nodes[forgetful].home.path());
    all.start(forgetful);
    let leader = all.leader(&[leader, other]);
    eventually("the leader does not count it, and says why", || {
        let standing = all.member(leader).standing();
        let peer = standing
            .members
            .iter()
            .find(|peer| peer.id == id(forgetful))
            .unwrap();
        let why = peer.not_counted.clone().unwrap_or_default();
        peer.counts.not_counted > 0 && why.contains("join anew")
    });
    all.ask(leader, change(20));
    // Without the third nothing is agreed on, however long it is tried: two would be a majority.
    let silent = [leader, other]
        .into_iter()
        .find(|number| *number != leader)
        .unwrap();
    all.kill(silent);
    let refused = all.member(leader).propose(change(21));
    assert!(refused.is_err(), "{refused:?}");
    let read = all.member(leader).cluster_now(Duration::from_millis(700));
    assert!(read.is_err(), "{read:?}");
    // Nor does the third, which has not seen it itself, let it vote: all end, and the old leader stays away.
    all.kill(leader);
    all.kill(forgetful);
    all.start(silent);
    all.start(forgetful);
    std::thread::sleep(Duration::from_millis(2_500));
    for number in [silent, forgetful] {
        let standing = all.member(number).standing();
        assert_ne!(standing.role, MemberRole::Leader, "{standing:?}");
    }
    let standing = all.member(silent).standing();
    let peer = standing
        .members
        .iter()
        .find(|peer| peer.id == id(forgetful))
        .unwrap();
    assert!(peer.not_counted.is_some(), "{standing:?}");
    // With those who have forgotten nothing all goes on, and nothing is lost.
    all.start(leader);
    all.ask(silent, change(22));
    let read = all.member(leader).cluster_now(SOON).unwrap();
    for number in 0..=20 {
        let name = palisade_words::Name::new(format!("later{number}")).unwrap();
        assert!(read.nodes.contains_key(&name), "{number}");
    }
}

fn copy_files(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
