//! The power goes off at every sync, and between any two. Each step of openraft's is wholly there afterwards or wholly absent, and
//! there when it was reported: a vote, entries, a cut of the log, what was applied, a snapshot.

use super::*;
use crate::database_file::DatabaseFile;
use crate::raft::log_database::{LogContent, LogDatabase};
use crate::raft::record::{LogId, Vote};
use crate::tape::{Dice, Event, Half, Recorded, Tape, cut_of, directory};
use openraft::storage::RaftLogStorage;
use openraft::{AsyncRuntime, RaftSnapshotBuilder};
use palisade_words::Generation;
use redb::{Builder, Database, DatabaseError};
use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

/// Cuts tried at each sync.
const CUTS: u64 = 4;

/// A file whose content begins as it was made, and that writes down what is done to it.
#[derive(Debug)]
struct OnTape {
    number: usize,
    made: InDirectory,
    tape: Tape,
}

impl DatabaseFile for OnTape {
    fn path(&self) -> &Path {
        self.made.path()
    }

    fn exists(&self) -> bool {
        self.made.exists()
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        self.made.read()
    }

    fn open(&self, builder: Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(Recorded {
            file: self.number,
            content: Mutex::new(self.made.read()?),
            tape: Arc::clone(&self.tape),
        })
    }

    fn replace(&self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// All that a voter knows when it starts.
#[derive(Clone, PartialEq, Debug)]
struct Found {
    log: LogContent,
    snapshot: Option<PlaceRecord>,
    applied: Option<PlaceRecord>,
    generation: Generation,
}

fn found(bytes: &[Vec<u8>; 2]) -> Found {
    let home = directory();
    for (name, content) in [LOG_FILE, STATE_FILE].iter().zip(bytes) {
        fs::write(home.path().join(name), content).unwrap();
    }
    let (_, mut state) = opened(home.path()).unwrap_or_else(|error| panic!("{error}"));
    let generation = state.cluster().generation;
    assert_eq!(*state.cluster(), *story::Story::new().at(generation));
    let (snapshot, applied) = TokioRuntime::new(1).block_on(async {
        let snapshot = state.get_current_snapshot().await.unwrap();
        (snapshot, state.applied_state().await.unwrap().0)
    });
    drop(state);
    let [log, _] = files(home.path());
    Found {
        log: LogDatabase::read(&log, NODE.0).unwrap(),
        snapshot: snapshot.and_then(|taken| taken.meta.last_log_id.as_ref().map(PlaceRecord::from)),
        applied: applied.as_ref().map(PlaceRecord::from),
        generation,
    }
}

/// What openraft does to a follower: it votes, takes entries, some of which another leader replaces, applies them, and keeps
/// the cluster as a whole so that the log before it can be dropped.
async fn steps(log: &mut LogStore<TokioRuntime>, state: &mut StateMachine<TokioRuntime>, tape: &Tape) -> u64 {
    let mut done = 0;
    let mut said = || {
        done += 1;
        tape.lock().unwrap().push(Event::Acknowledged { step: done });
        done
    };
    for turn in 0..5 {
        let (first, term) = (turn * 6, turn + 1);
        log.save_vote(&Vote::new(term, VoterId(Uuid(8)))).await.unwrap();
        said();
        append(log, (first..first + 8).map(|index| entry(term, index))).await;
        said();
        // The last two were never agreed on.
        let kept = place(term, first + 5);
        log.truncate_after(Some(LogId::from(kept))).await.unwrap();
        said();
        log.save_committed(Some(LogId::from(kept))).await.unwrap();
        apply(state, (first..first + 6).map(|index| entry(term, index))).await;
        said();
        if turn % 2 == 1 {
            state.build_snapshot().await.unwrap();
            said();
            log.purge(LogId::from(kept)).await.unwrap();
            said();
        }
    }
    said()
}

#[test]
fn a_power_cut_anywhere_leaves_each_step_that_was_reported_and_no_half_of_another() {
    let home = directory();
    made(home.path()).unwrap();
    let tape = Tape::default();
    let [log, state] = [0, 1].map(|number| OnTape {
        number,
        made: files(home.path())[number].clone(),
        tape: Arc::clone(&tape),
    });
    let mut halves = [&log, &state].map(|file| Half::of(file.read().unwrap()));
    let (mut log, mut state) = open(NODE, &log, &state).unwrap();
    let steps = TokioRuntime::new(1).block_on(steps(&mut log, &mut state, &tape));
    drop((log, state));
    let tape = tape.lock().unwrap().clone();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    // What was found since the last report: that step's end, or the next one's.
    let mut before = found(&cut_of(&halves, 0, &mut dice));
    let mut since: Vec<Found> = Vec::new();
    let (mut told, mut cuts, mut early) = (0, 0, 0);
    for event in &tape {
        match event {
            Event::Write { file, offset, bytes } => halves[*file].write(*offset, bytes),
            Event::Length { file, bytes } => halves[*file].resize(*bytes),
            Event::Acknowledged { step } => {
                let now = found(&cut_of(&halves, 0, &mut dice));
                for other in &since {
                    assert!(*other == before || *other == now, "step {step}: {other:#?}");
                    early += u32::from(*other == now && now != before);
                }
                assert!(now != before || *step == steps, "step {step} has done nothing");
                since.clear();
                (before, told) = (now, *step);
            }
            Event::Sync { file } => {
                for cut in 0..CUTS {
                    since.push(found(&cut_of(&halves, cut, &mut dice)));
                    cuts += 1;
                }
                halves[*file].sync();
            }
        }
    }
    // Closing the files writes as well, and changes nothing.
    assert!(since.iter().all(|other| *other == before), "{since:#?}");
    assert_eq!((told, before.generation), (steps, Generation(29)));
    assert!(
        cuts >= 200 && early > 20,
        "{cuts} cuts, {early} of a step that was not reported yet"
    );
}
