//! The power goes off at every sync, and between any two: whatever of the writes since the last sync of a file has reached
//! the medium, in whatever order, each piece of 512 bytes by itself. Each acknowledged command is there afterwards.
//!
//! The store is the one that the daemon has, on files that keep what was written to them in order ([`Tape`]). A cut is made
//! of that: per file what was synced, and of the rest any choice; then the daemon's own opening reads it, from real files.

#[path = "../../tests/story/mod.rs"]
mod story;

use super::*;
use palisade_words::Generation;
use redb::{Database, StorageBackend};
use std::collections::BTreeMap;
use story::Story;

/// What reaches a medium whole.
const PIECE: usize = 512;

/// Commands that are proposed; the state is kept as a whole after every few.
const COMMANDS: u64 = 24;
const COMMANDS_PER_KEEP: u64 = 7;

/// Cuts tried at each point of the tape.
const CUTS: u64 = 4;

#[derive(Clone, Debug)]
enum Event {
    Write {
        file: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    Length {
        file: usize,
        bytes: usize,
    },
    Sync {
        file: usize,
    },
    Acknowledged {
        generation: Generation,
    },
}

/// What was done to the files, in order.
type Tape = Arc<Mutex<Vec<Event>>>;

/// A file that writes down what is done to it.
#[derive(Debug)]
struct Recorded {
    file: usize,
    content: Mutex<Vec<u8>>,
    tape: Tape,
}

impl Recorded {
    fn note(&self, event: Event) {
        self.tape.lock().unwrap().push(event);
    }
}

impl StorageBackend for Recorded {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.content.lock().unwrap();
        let there = content.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let (file, bytes) = (self.file, bytes as usize);
        self.content.lock().unwrap().resize(bytes, 0);
        self.note(Event::Length { file, bytes });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(Event::Sync { file: self.file });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (file, offset) = (self.file, offset as usize);
        assert!(
            offset.is_multiple_of(PIECE),
            "a write that begins within a piece is torn otherwise"
        );
        let mut content = self.content.lock().unwrap();
        content[offset..offset + data.len()].copy_from_slice(data);
        let bytes = data.to_vec();
        self.note(Event::Write { file, offset, bytes });
        Ok(())
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }
}

/// One file as a cut finds it.
#[derive(Clone, Debug)]
struct Half {
    stable: Vec<u8>,
    /// Since the last sync: what each piece was to become, one after the other.
    pieces: BTreeMap<usize, Vec<Vec<u8>>>,
    lengths: Vec<usize>,
}

impl Half {
    fn of(stable: Vec<u8>) -> Half {
        Half {
            stable,
            pieces: BTreeMap::new(),
            lengths: Vec::new(),
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        for (at, piece) in (offset..).step_by(PIECE).zip(bytes.chunks(PIECE)) {
            self.pieces.entry(at).or_default().push(piece.to_vec());
        }
    }

    /// What there is when each piece has come as far as `choose` says, of so many steps.
    fn cut(&self, mut choose: impl FnMut(usize) -> usize) -> Vec<u8> {
        let mut content = self.stable.clone();
        let step = choose(self.lengths.len() + 1);
        let length = step
            .checked_sub(1)
            .map_or(content.len(), |step| self.lengths[step]);
        // What was written behind the end makes the file longer, as long as it has not been made shorter since.
        content.resize(length, 0);
        for (at, versions) in &self.pieces {
            let step = choose(versions.len() + 1);
            let Some(piece) = step.checked_sub(1).map(|step| &versions[step]) else {
                continue;
            };
            if let Some(place) = content.get_mut(*at..*at + piece.len()) {
                place.copy_from_slice(piece);
            }
        }
        content
    }

    fn sync(&mut self) {
        *self = Half::of(self.cut(|steps| steps - 1));
    }
}

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

/// In memory where that can be had: thousands of files are opened, and none of it is about fsync.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

#[test]
fn a_power_cut_anywhere_leaves_each_acknowledged_command() {
    let home = directory();
    let tape = Tape::default();
    let (store, mut halves) = recorded(home.path(), &tape);
    for number in 1..=COMMANDS {
        store.propose(story::command(number)).unwrap();
        let generation = store.cluster().generation;
        tape.lock().unwrap().push(Event::Acknowledged { generation });
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
            Event::Length { file, bytes } => halves[*file].lengths.push(*bytes),
            Event::Acknowledged { generation } => acknowledged = *generation,
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

/// Nothing of what was not synced; all of it; or any part.
fn cut_of(halves: &[Half; 2], cut: u64, dice: &mut Dice) -> [Vec<u8>; 2] {
    halves.each_ref().map(|half| {
        half.cut(|steps| match cut {
            0 => 0,
            1 => steps - 1,
            _ => dice.below(steps),
        })
    })
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
