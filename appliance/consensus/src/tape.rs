//! Files that keep what was written to them in order, and the ways in which a power cut may leave them: per file what was
//! synced, and of the rest any choice, each piece of 512 bytes by itself.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// What reaches a medium whole.
const PIECE: usize = 512;

/// What was done to the files, or said about them.
#[derive(Clone, Debug)]
pub(crate) enum Event {
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
    /// Whoever wrote was told that so much is done.
    Acknowledged {
        step: u64,
    },
}

/// What was done to the files, in order.
pub(crate) type Tape = Arc<Mutex<Vec<Event>>>;

/// A file that writes down what is done to it.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) file: usize,
    pub(crate) content: Mutex<Vec<u8>>,
    pub(crate) tape: Tape,
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

/// Chance, always the same.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }
}

/// One file as a cut finds it.
#[derive(Clone, Debug)]
pub(crate) struct Half {
    stable: Vec<u8>,
    /// Since the last sync: what each piece was to become, one after the other.
    pieces: BTreeMap<usize, Vec<Vec<u8>>>,
    lengths: Vec<usize>,
}

impl Half {
    pub(crate) fn of(stable: Vec<u8>) -> Half {
        Half {
            stable,
            pieces: BTreeMap::new(),
            lengths: Vec::new(),
        }
    }

    pub(crate) fn resize(&mut self, bytes: usize) {
        self.lengths.push(bytes);
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        for (at, piece) in (offset..).step_by(PIECE).zip(bytes.chunks(PIECE)) {
            self.pieces.entry(at).or_default().push(piece.to_vec());
        }
    }

    /// What there is when each piece has come as far as `choose` says, of so many steps.
    pub(crate) fn cut(&self, mut choose: impl FnMut(usize) -> usize) -> Vec<u8> {
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

    pub(crate) fn sync(&mut self) {
        *self = Half::of(self.cut(|steps| steps - 1));
    }
}

/// In memory where that can be had: thousands of files are opened, and none of it is about fsync.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Nothing of what was not synced; all of it; or any part.
pub(crate) fn cut_of(halves: &[Half; 2], cut: u64, dice: &mut Dice) -> [Vec<u8>; 2] {
    halves.each_ref().map(|half| {
        half.cut(|steps| match cut {
            0 => 0,
            1 => steps - 1,
            _ => dice.below(steps),
        })
    })
}
