//! Clearing volumes' space in the background: piece by piece, each recorded in the cluster once it is stable, so that a
//! daemon that ends in the middle goes on there. Guests go first: where zeros have to be written and not just asked for,
//! at most half of the time is taken.

use crate::effects::work::Job;
use crate::message::Done;
use crate::shared::Shared;
use palisade_consensus::ProposeError;
use palisade_model::{Command, RecordCleared, Refusal};
use palisade_sys::Opened;
use palisade_words::{Name, SECTOR_BYTES, Uuid};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Sectors that are cleared at a time: from 4 MiB, a unit of allocation, up to 1 GiB where that is quick.
const CHUNK_SECTORS_MIN: u64 = 1 << 13;
const CHUNK_SECTORS_MAX: u64 = 1 << 21;

/// A chunk that takes less is doubled, one that takes more than [`CHUNK_LONG`] halved.
const CHUNK_SHORT: Duration = Duration::from_millis(20);
const CHUNK_LONG: Duration = Duration::from_millis(250);

/// How often what has been cleared is recorded: so much work is done again at most after a crash.
const RECORD_EVERY: Duration = Duration::from_secs(10);

/// How far a clearing has come.
#[derive(Debug)]
pub struct ClearProgress {
    /// Sectors of the volume, from its beginning, that are in use or read as zeros.
    at: AtomicU64,
    stop: AtomicBool,
}

impl ClearProgress {
    /// At its beginning.
    pub fn new(start: u64) -> ClearProgress {
        ClearProgress {
            at: AtomicU64::new(start),
            stop: AtomicBool::new(false),
        }
    }

    /// Sectors of the volume, from its beginning, that are in use or read as zeros by now.
    pub fn sectors(&self) -> u64 {
        self.at.load(Relaxed)
    }

    /// Asks for its end, which comes with the piece under way.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }
}

/// A piece of a disk to be cleared.
#[derive(Debug)]
pub struct ClearPiece {
    /// The disk's name.
    pub disk: Name,
    /// The open disk.
    pub opened: Arc<Opened>,
    /// Where it begins on the disk.
    pub lba: u64,
    /// Its length.
    pub sectors: u64,
}

/// Clears the pieces of a volume, one after the other.
pub fn clear(
    shared: Arc<Shared>,
    volume: Name,
    uuid: Uuid,
    pieces: Vec<ClearPiece>,
    progress: Arc<ClearProgress>,
) -> Job {
    let (reached, start) = (Arc::clone(&progress), progress.sectors());
    let record = move || {
        let command = Command::RecordCleared(RecordCleared {
            name: volume.clone(),
            uuid,
            sectors: reached.sectors(),
            start,
        });
        match shared.propose(command) {
            // It is gone, and what was done for it is of no use to anybody.
            Ok(_) | Err(ProposeError::Refused(Refusal::NotFound { .. })) => Ok(()),
            Err(error) => Err(format!(
                "what has been cleared of volume {volume} cannot be recorded: {error}"
            )),
        }
    };
    Box::new(move || {
        let mut recorded = Instant::now();
        for piece in &pieces {
            if !clear_piece(piece, &progress, &mut recorded, &record)? {
                return Ok(Done::Plain);
            }
        }
        record().map(|()| Done::Plain)
    })
}

/// Clears one piece and makes it stable. False: it was told to stop.
fn clear_piece(
    piece: &ClearPiece,
    progress: &ClearProgress,
    recorded: &mut Instant,
    record: impl Fn() -> Result<(), String>,
) -> Result<bool, String> {
    let failed =
        |error: std::io::Error| format!("the space on disk {} cannot be cleared: {error}", piece.disk);
    let (mut done, mut chunk) = (0, CHUNK_SECTORS_MIN);
    while done < piece.sectors {
        if progress.stop.load(Relaxed) {
            return Ok(false);
        }
        let sectors = chunk.min(piece.sectors - done);
        let begun = Instant::now();
        let (offset, bytes) = ((piece.lba + done) * SECTOR_BYTES, sectors * SECTOR_BYTES);
        piece.opened.clear(offset, bytes).map_err(failed)?;
        let took = begun.elapsed();
        done += sectors;
        progress.at.fetch_add(sectors, Relaxed);
        chunk = next_chunk(chunk, took);
        if recorded.elapsed() >= RECORD_EVERY {
            piece.opened.sync().map_err(failed)?;
            record()?;
            *recorded = Instant::now();
        }
        if took >= CHUNK_SHORT {
            std::thread::sleep(took.min(CHUNK_LONG));
        }
    }
    piece.opened.sync().map_err(failed)?;
    Ok(true)
}

fn next_chunk(chunk: u64, took: Duration) -> u64 {
    match took {
        _ if took < CHUNK_SHORT => (chunk * 2).min(CHUNK_SECTORS_MAX),
        _ if took > CHUNK_LONG => (chunk / 2).max(CHUNK_SECTORS_MIN),
        _ => chunk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_fit_the_pace_of_the_device() {
        let (quick, long) = (Duration::from_millis(1), Duration::from_secs(1));
        let grown = (0..20).fold(CHUNK_SECTORS_MIN, |chunk, _| next_chunk(chunk, quick));
        assert_eq!(grown, CHUNK_SECTORS_MAX);
        let shrunk = (0..20).fold(grown, |chunk, _| next_chunk(chunk, long));
        assert_eq!(shrunk, CHUNK_SECTORS_MIN);
        assert_eq!(next_chunk(grown, Duration::from_millis(100)), grown);
    }
}
