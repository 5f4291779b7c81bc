//! A file of a voter, on a medium that loses what was not synced when its node ends: of each piece of 512 bytes that was written
//! since, any version may have come to it.

use crate::raft::tasks::locked;
use crate::rng::Rng;
use palisade_consensus::DatabaseFile;
use redb::{Builder, Database, DatabaseError, StorageBackend};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What reaches a medium whole.
const PIECE: usize = 512;

/// A file that outlives its node.
#[derive(Clone, Debug)]
pub struct VoterFile {
    path: PathBuf,
    /// Whether a sync does anything.
    syncs: bool,
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    /// None before it was made.
    bytes: Option<Vec<u8>>,
    /// What each piece was at the last sync and after each write since.
    unsynced: BTreeMap<usize, Vec<Vec<u8>>>,
    /// How long the file was then and after each change since.
    lengths: Vec<usize>,
    /// How often it was cut off: who has it open since before has it no longer.
    cuts: u64,
    /// Operations until the node is cut off from it; for ever when there is none.
    operations_left: Option<u64>,
}

impl VoterFile {
    /// A file that is not there yet, on a medium that keeps what is synced, or does not.
    pub fn new(path: impl Into<PathBuf>, syncs: bool) -> VoterFile {
        VoterFile {
            path: path.into(),
            syncs,
            content: Arc::default(),
        }
    }

    /// After so many operations more the node does not reach it any more.
    pub fn fail_after(&self, operations: u64) {
        locked(&self.content).operations_left = Some(operations);
    }

    /// Whether it fails, now or after some operations more.
    pub fn fails(&self) -> bool {
        locked(&self.content).operations_left.is_some()
    }

    /// All that is in it, as a backup of the machine would take it while its node does not run.
    pub fn copy(&self) -> Option<Vec<u8>> {
        locked(&self.content).bytes.clone()
    }

    /// Puts a copy back, while its node does not run.
    pub fn put_back(&self, copy: Option<Vec<u8>>) {
        let mut content = locked(&self.content);
        content.bytes = copy;
        content.unsynced.clear();
        content.lengths.clear();
    }

    /// Another file with what this one has.
    pub fn fork(&self) -> VoterFile {
        let file = VoterFile::new(self.path.clone(), self.syncs);
        file.put_back(self.copy());
        file
    }

    /// The node has ended: what was not synced is left to chance.
    pub fn cut_off(&self, rng: &mut Rng) {
        let mut content = locked(&self.content);
        content.cuts += 1;
        content.operations_left = None;
        let (unsynced, lengths) = (
            std::mem::take(&mut content.unsynced),
            std::mem::take(&mut content.lengths),
        );
        let Some(bytes) = &mut content.bytes else {
            return;
        };
        // Now and then nothing of it was written, or all: an order that was relied on shows best where little was.
        let how = rng.below(4);
        let mut choose = |versions: usize| match how {
            0 => 0,
            1 => versions - 1,
            _ => rng.index(versions),
        };
        if !lengths.is_empty() {
            bytes.resize(lengths[choose(lengths.len())], 0);
        }
        for (at, versions) in unsynced {
            let piece = &versions[choose(versions.len())];
            if let Some(place) = bytes.get_mut(at..at + piece.len()) {
                place.copy_from_slice(piece);
            }
        }
    }
}

impl DatabaseFile for VoterFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn exists(&self) -> bool {
        locked(&self.content).bytes.is_some()
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let bytes = locked(&self.content).bytes.clone();
        bytes.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open(&self, builder: Builder) -> Result<Database, DatabaseError> {
        let cuts = locked(&self.content).cuts;
        builder.create_with_backend(OpenFile {
            content: Arc::clone(&self.content),
            syncs: self.syncs,
            cuts,
        })
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let mut content = locked(&self.content);
        content.bytes = Some(bytes.to_vec());
        content.unsynced.clear();
        content.lengths.clear();
        Ok(())
    }
}

/// A file as a running node has it open.
#[derive(Debug)]
struct OpenFile {
    content: Arc<Mutex<Content>>,
    syncs: bool,
    cuts: u64,
}

impl OpenFile {
    /// Does something with the file, when it is still within reach.
    fn with<T>(&self, work: impl FnOnce(&mut Content) -> Option<T>) -> io::Result<T> {
        let mut content = locked(&self.content);
        if content.cuts != self.cuts || content.operations_left == Some(0) {
            return Err(io::Error::other("the node is cut off from its medium"));
        }
        if let Some(left) = &mut content.operations_left {
            *left -= 1;
        }
        work(&mut content).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|content| content.bytes.as_ref().map(|bytes| bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        self.with(|content| {
            let bytes = content.bytes.as_ref()?;
            out.copy_from_slice(bytes.get(offset..offset + out.len())?);
            Some(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|content| {
            let bytes = content.bytes.as_mut()?;
            if content.lengths.is_empty() {
                content.lengths.push(bytes.len());
            }
            content.lengths.push(len as usize);
            bytes.resize(len as usize, 0);
            Some(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|content| {
            if self.syncs {
                content.unsynced.clear();
                content.lengths.clear();
            }
            Some(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (first, end) = (offset as usize, offset as usize + data.len());
        self.with(|content| {
            let bytes = content.bytes.as_mut()?;
            bytes.get(first..end)?;
            let pieces = (first / PIECE * PIECE..end).step_by(PIECE);
            let piece_of = |bytes: &[u8], at: usize| bytes[at..bytes.len().min(at + PIECE)].to_vec();
            for at in pieces.clone() {
                let versions = content.unsynced.entry(at).or_default();
                if versions.is_empty() {
                    versions.push(piece_of(bytes, at));
                }
            }
            bytes[first..end].copy_from_slice(data);
            for at in pieces {
                let version = piece_of(bytes, at);
                content.unsynced.entry(at).or_default().push(version);
            }
            Some(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(file: &VoterFile) -> OpenFile {
        OpenFile {
            content: Arc::clone(&file.content),
            syncs: file.syncs,
            cuts: locked(&file.content).cuts,
        }
    }

    #[test]
    fn a_cut_leaves_what_was_synced_and_any_part_of_the_rest() {
        let mut found = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let file = VoterFile::new("log", true);
            file.replace(&[0; 2 * PIECE]).unwrap();
            let node = open(&file);
            node.write(0, &[1; 2 * PIECE]).unwrap();
            node.sync_data().unwrap();
            node.write(0, &[2; 2 * PIECE]).unwrap();
            file.cut_off(&mut Rng::new(seed));
            assert!(node.write(0, &[3]).is_err(), "who was cut off writes no more");
            let bytes = file.read().unwrap();
            let pieces: Vec<u8> = bytes.chunks(PIECE).map(|piece| piece[0]).collect();
            assert!(
                bytes
                    .chunks(PIECE)
                    .all(|piece| piece.iter().all(|byte| *byte == piece[0]))
            );
            found.insert(pieces);
        }
        let all: std::collections::BTreeSet<Vec<u8>> = [[1, 1], [1, 2], [2, 1], [2, 2]].map(Vec::from).into();
        assert_eq!(found, all);
    }

    #[test]
    fn a_medium_that_fails_does_so_from_one_operation_to_the_next() {
        let file = VoterFile::new("log", true);
        file.replace(&[0; PIECE]).unwrap();
        let node = open(&file);
        file.fail_after(2);
        node.write(0, &[1]).unwrap();
        node.sync_data().unwrap();
        assert!(node.write(0, &[2]).is_err());
        assert!(node.sync_data().is_err());
    }
}
