//! What a peer has promised is on stable storage before it counts, and is known after another start.

use super::*;
use crate::database_file::InDirectory;
use openraft_rt_tokio::TokioRuntime;
use std::path::Path;

const ME: VoterId = VoterId(Uuid(1));
const PEER: VoterId = VoterId(Uuid(2));

fn file(directory: &Path) -> InDirectory {
    InDirectory::at(directory.join(PEERS_FILE))
}

fn opened(directory: &Path, known: u64) -> Result<Peers, VoterError> {
    Peers::open(ME, Box::new(file(directory)), Uuid(77), Incarnation(known))
}

fn shown(incarnation: u64, term: u64, applied: u64) -> Shown {
    Shown {
        incarnation: Incarnation(incarnation),
        run: Uuid(u128::from(incarnation)),
        term,
        voted_for: ME.0,
        is_elected: false,
        applied: Some(applied),
    }
}

fn meets(peers: &Peers, shown: Shown) -> Result<(), NotCounted> {
    TokioRuntime::new(1).block_on(peers.meets::<TokioRuntime>(PEER, shown))
}

#[test]
fn what_was_promised_is_known_after_a_start_and_runs_are_counted_on() {
    let home = tempfile::tempdir().unwrap();
    Peers::create(ME, &file(home.path())).unwrap();
    Peers::create(ME, &file(home.path())).unwrap();
    let first = opened(home.path(), 0).unwrap();
    assert_eq!((first.incarnation(), first.run()), (Incarnation(1), Uuid(77)));
    assert!(Peers::create(ME, &file(home.path())).is_err());
    meets(&first, shown(4, 9, 100)).unwrap();
    meets(&first, shown(4, 9, 120)).unwrap();
    // As if it had been killed: nothing is written any more.
    drop(first);
    let second = opened(home.path(), 0).unwrap();
    assert_eq!(second.incarnation(), Incarnation(2));
    for less in [shown(5, 8, 200), shown(5, 9, 99), shown(3, 9, 200)] {
        assert!(matches!(meets(&second, less), Err(NotCounted::ShowsLess(_))));
    }
    assert_eq!(second.refused(PEER).map(|(count, _)| count), Some(3));
    meets(&second, shown(5, 9, 150)).unwrap();
    TokioRuntime::new(1)
        .block_on(second.keep::<TokioRuntime>())
        .unwrap();
    drop(second);
    // What the cluster knows of this node counts as well.
    let third = opened(home.path(), 40).unwrap();
    assert_eq!(third.incarnation(), Incarnation(41));
    assert!(meets(&third, shown(6, 9, 149)).is_err());
    assert_eq!(third.told().1, [(PEER, shown(5, 9, 150))]);
    // Others tell of it what they have been shown; of this node itself they have nothing to tell.
    let told = [(PEER, shown(7, 10, 151)), (ME, shown(99, 99, 0))];
    TokioRuntime::new(1)
        .block_on(third.hears::<TokioRuntime>(told))
        .unwrap();
    assert_eq!(third.told().1, [(PEER, shown(7, 10, 151))]);
    drop(third);
    assert_eq!(opened(home.path(), 0).unwrap().told().1.len(), 1);
}

#[test]
fn a_promise_that_cannot_be_written_down_does_not_count() {
    let home = tempfile::tempdir().unwrap();
    Peers::create(ME, &file(home.path())).unwrap();
    let peers = opened(home.path(), 0).unwrap();
    std::fs::remove_dir_all(home.path()).unwrap();
    // Nor does the same, when it is shown again.
    for _ in 0..2 {
        let error = meets(&peers, shown(1, 1, 1)).unwrap_err();
        assert!(error.to_string().contains("does not count"), "{error}");
    }
    std::fs::create_dir_all(home.path()).unwrap();
    meets(&peers, shown(1, 1, 1)).unwrap();
    assert!(
        opened(home.path(), 0)
            .unwrap()
            .check(PEER, shown(2, 0, 1))
            .is_err()
    );
}

#[test]
fn a_memory_that_is_missing_damaged_or_of_another_is_refused() {
    let home = tempfile::tempdir().unwrap();
    assert!(matches!(opened(home.path(), 0), Err(VoterError::Missing { .. })));
    Peers::create(ME, &file(home.path())).unwrap();
    let whole = std::fs::read(home.path().join(PEERS_FILE)).unwrap();
    for at in 0..whole.len() {
        let mut turned = whole.clone();
        turned[at] ^= 4;
        std::fs::write(home.path().join(PEERS_FILE), turned).unwrap();
        assert!(opened(home.path(), 0).is_err(), "byte {at}");
    }
    std::fs::write(home.path().join(PEERS_FILE), &whole).unwrap();
    let other = Peers::open(PEER, Box::new(file(home.path())), Uuid(5), Incarnation(0)).unwrap_err();
    assert!(other.to_string().contains("it belongs to node"), "{other}");
    drop(opened(home.path(), 0).unwrap());
}
