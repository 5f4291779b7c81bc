//! The power goes off at every sync, and between any two: whatever of the writes since the last sync of a file has reached
//! the medium, in whatever order, each piece of 512 bytes by itself. Each acknowledged command is there afterwards.
//!
//! The store is the one that the daemon has, on files that keep what was written to them in order ([`Tape`]). A cut is made
//! of that: per file what was synced, and of the rest any choice; then the daemon's own opening reads it, from real files.

use super::*;
use crate::story::{self, Story};
use crate::tape::{Dice, Event, Half, Recorded, Tape, cut_of, directory};
use palisade_words::Generation;
use redb::Database;

/// Commands that are proposed; the state is kept as a whole after every few.
const COMMANDS: u64 = 24;
const COMMANDS_PER_KEEP: u64 = 7;

/// Cuts tried at each point of the tape.
const CUTS: u64 = 4;

const FILES: [&str; 2] = [LOG, STATE];

/// A store over recorded files, which hold what those of a new store hold.
fn recorded(directory: &Path, tape: &Tape) -> (Store, [Half; 2]) {
    drop(Store::open(directory).unwrap());
    let contents = FILES.map(|file| std::fs::read(directory.join(file)).unwrap());
    let open = |file: usize| {
        let content = Mutex::new(contents[file].clone());
        let tape = Arc::clone(tape);
        let backend = Recorded { file, content, tape };
        Database::builder().create_with_backend(backend).unwrap()
    };
    let writer = Writer {
        log: LogFile::over(open(0)),
        state: StateFile::over(open(1)),
        places: Places::of(directory).unwrap(),
        index: 0,
        kept: 0,
        halted: false,
        lock: lock(&directory.join(LOCK)).unwrap(),
    };
    let store = Store {
        published: Published::new(Arc::new(Cluster::empty().rooted())),
        writer: Mutex::new(writer),
    };
    (store, contents.map(Half::of))
}

#[test]
fn a_power_cut_anywhere_leaves_each_acknowledged_command() {
    let home = directory();
    let tape = Tape::default();
    let (store, mut halves) = recorded(home.path(), &tape);
    for number in 1..=COMMANDS {
        store.propose(story::command(number)).unwrap();
        let generation = store.cluster().generation;
        tape.lock()
            .unwrap()
            .push(Event::Acknowledged { step: generation.0 });
        if number.is_multiple_of(COMMANDS_PER_KEEP) {
            store.compact().unwrap();
        }
    }
    // Closing writes too.
    drop(store);
    let tape = tape.lock().unwrap().clone();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut story = Story::new();
    let mut acknowledged = Generation(0);
    let (mut cuts, mut unfinished, mut syncs) = (0, 0, 0);
    for event in &tape {
        match event {
            Event::Write { file, offset, bytes } => halves[*file].write(*offset, bytes),
            Event::Length { file, bytes } => halves[*file].resize(*bytes),
            Event::Acknowledged { step } => acknowledged = Generation(*step),
            Event::Sync { file } => {
                // Right before the sync has done anything, when all is open, and right behind it.
                for cut in 0..CUTS {
                    let there = cut_of(&halves, cut, &mut dice);
                    let found = opened(&there, &mut story);
                    assert!(
                        found >= acknowledged,
                        "{acknowledged} was acknowledged, and {found} is there"
                    );
                    cuts += 1;
                    unfinished += u32::from(found > acknowledged);
                }
                halves[*file].sync();
                syncs += 1;
                let found = opened(&cut_of(&halves, 0, &mut dice), &mut story);
                assert!(
                    found >= acknowledged,
                    "behind a sync: {acknowledged}, and {found} is there"
                );
            }
        }
    }
    assert_eq!(acknowledged, Generation(COMMANDS));
    assert!(syncs >= 2 * COMMANDS && cuts >= 200, "{syncs} syncs, {cuts} cuts");
    // Some of them had the command that nobody had been told of.
    assert!(unfinished > 20, "{unfinished} of {cuts}");
}

/// The generation that the daemon finds: it is as it was told, to its last word.
fn opened(files: &[Vec<u8>; 2], story: &mut Story) -> Generation {
    let directory = directory();
    for (name, content) in FILES.iter().zip(files) {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    let store = Store::open(directory.path()).unwrap_or_else(|error| panic!("{error}"));
    let cluster = store.cluster();
    assert_eq!(*cluster, *story.at(cluster.generation));
    cluster.generation
}
