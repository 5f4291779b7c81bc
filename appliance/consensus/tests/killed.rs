//! Invariant 10: a daemon killed at any moment has each change wholly or not at all, and all it acknowledged.

mod story;

use palisade_consensus::{Agreement, Store};
use palisade_model::check;
use palisade_words::Generation;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use story::Story;

const KILLS: u64 = 60;
const DIRECTORY: &str = "STORE_DIRECTORY_OF_THE_CHILD";

#[test]
fn acknowledged_changes_outlive_kill_9_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::new();
    let mut last = Generation(0);
    for kill in 0..KILLS {
        // Uneven waits, so that a kill meets opening, appending, and compacting.
        let wait = Duration::from_micros(kill * 7919 % 50_000);
        let acknowledged = propose_until_killed(directory.path(), wait, kill % 3 == 0);
        let store =
            Store::open(directory.path()).unwrap_or_else(|error| panic!("after kill {kill}: {error}"));
        let cluster = store.cluster();
        assert!(
            cluster.generation.0 >= acknowledged.max(last.0),
            "kill {kill}: {acknowledged} were acknowledged, {last} were there before, {} are now",
            cluster.generation
        );
        assert_eq!(check(&cluster), Ok(()), "after kill {kill}");
        assert_eq!(*cluster, *story.at(cluster.generation), "after kill {kill}");
        last = cluster.generation;
    }
    assert!(last.0 > KILLS, "kills met proposing, not only opening: {last}");
}

/// Runs the child until `wait` has passed, from its start or from its first acknowledgement; returns what it
/// acknowledged last.
fn propose_until_killed(directory: &Path, wait: Duration, from_start: bool) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "child_that_proposes_until_killed",
            "--ignored",
            "--nocapture",
            "-q",
        ])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let mut numbers = output
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("ack ")?.parse().ok());
    let first = if from_start { None } else { numbers.next() };
    let killer = std::thread::spawn(move || {
        std::thread::sleep(wait);
        child.kill().and_then(|()| child.wait()).expect("the child's end");
    });
    let acknowledged = numbers.last().or(first).unwrap_or(0);
    killer.join().expect("the killer's end");
    acknowledged
}

#[test]
#[ignore = "the child of the test above"]
fn child_that_proposes_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = Store::open(Path::new(&directory)).unwrap();
    let mut out = std::io::stdout().lock();
    loop {
        let next = store.cluster().generation.0 + 1;
        store.propose(story::command(next)).unwrap();
        if next.is_multiple_of(16) {
            store.compact().unwrap();
        }
        writeln!(out, "\nack {next}").and_then(|()| out.flush()).unwrap();
    }
}
