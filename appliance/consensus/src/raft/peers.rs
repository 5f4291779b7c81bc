//! What a voter remembers of its peers on stable storage, and in which of its own runs it is.
//!
//! ```text
//!   message of a voter -> less than it has shown? refused, counted
//!                      `-> a promise that is new -> on stable storage -> what it says counts
//! ```
//!
//! All voters of a cluster may end at once, and one of them come back with older files. So a new run, term or vote of a peer is
//! durable here before anything rests on it. How far a peer has applied is written down with the next promise, and by
//! [`Peers::keep`] now and then: of it a start may know a moment less than was shown.
//!
//! A run is counted on, durable, before it shows itself to anybody.

use crate::database_file::DatabaseFile;
use crate::raft::remembered::{News, Remembered, RememberedRecord, Shown, ShowsLess};
use crate::raft::voter_error::VoterError;
use crate::raft::voter_id::VoterId;
use crate::record::{RecordError, decode, encode};
use crate::store_error::StoreError;
use openraft::AsyncRuntime;
use palisade_words::{Incarnation, Uuid};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the file is called in a directory.
pub const PEERS_FILE: &str = "voter-peers.json";

/// The format that is written, and the latest that is read.
const FORMAT: u64 = 1;

/// All that stands in the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeersRecord {
    pub(crate) format: u64,
    /// Whose file it is.
    pub(crate) node: Uuid,
    /// The latest run of this voter; 0 before its first.
    pub(crate) incarnation: Incarnation,
    /// What the others have shown.
    pub(crate) voters: RememberedRecord,
}

/// Why what a voter says does not count.
#[derive(Debug, thiserror::Error)]
pub enum NotCounted {
    /// It shows less than before.
    #[error("{0}")]
    ShowsLess(#[from] ShowsLess),
    /// What it shows cannot be written down.
    #[error(
        "what node {voter} has promised cannot be written down here, so that it does not count: {source}"
    )]
    NotKept {
        /// Whose.
        voter: VoterId,
        /// Why.
        source: io::Error,
    },
}

/// The memory of a voter. Its clones are the same memory.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    id: VoterId,
    incarnation: Incarnation,
    run: Uuid,
    memory: Mutex<Memory>,
    file: Mutex<Kept>,
}

#[derive(Debug)]
struct Memory {
    remembered: Remembered,
    /// Counts what has changed.
    version: u64,
    /// The version that has the latest promise which was new.
    due: u64,
    /// The version that is on stable storage.
    written: u64,
}

struct Kept {
    file: Box<dyn DatabaseFile + Send>,
    /// Up to which version it has all.
    version: u64,
}

impl Peers {
    /// Makes the memory of a new voter. To be called before its other files are made.
    ///
    /// # Errors
    /// There is one, or it cannot be written.
    pub fn create(id: VoterId, file: &dyn DatabaseFile) -> Result<(), VoterError> {
        if file.exists() {
            // As far as that goes nothing was promised, and a making that was cut off is begun again.
            return match read(id, file)?.incarnation {
                Incarnation(0) => Ok(()),
                _ => Err(VoterError::Present {
                    path: file.path().into(),
                }),
            };
        }
        replace(id, file, Incarnation(0))
    }

    /// Opens the memory of a voter, and begins a run of it: a later one than all before and than `known`, durable. `run` is an
    /// id of its own.
    ///
    /// # Errors
    /// The file is missing, damaged or another node's; or cannot be written.
    pub fn open(
        id: VoterId,
        file: Box<dyn DatabaseFile + Send>,
        run: Uuid,
        known: Incarnation,
    ) -> Result<Peers, VoterError> {
        let mut record = read(id, &*file)?;
        record.incarnation = record.incarnation.max(known).next();
        write(&*file, &record).map_err(StoreError::io(file.path()))?;
        let shared = Shared {
            id,
            incarnation: record.incarnation,
            run,
            memory: Mutex::new(Memory {
                remembered: Remembered::of(record.voters),
                version: 0,
                due: 0,
                written: 0,
            }),
            file: Mutex::new(Kept { file, version: 0 }),
        };
        Ok(Peers {
            shared: Arc::new(shared),
        })
    }

    /// In which of its runs this voter is.
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// The id of this run.
    pub fn run(&self) -> Uuid {
        self.shared.run
    }

    /// A voter shows something of itself with a message. What it says counts when this returns without an error.
    ///
    /// # Errors
    /// It shows less than before, or what it shows cannot be written down.
    pub async fn meets<RT: AsyncRuntime>(&self, voter: VoterId, shown: Shown) -> Result<(), NotCounted> {
        let news = self.memory().remembered.meets(voter, shown)?;
        let kept = self.keep_due::<RT>(news).await;
        kept.map_err(|source| NotCounted::NotKept { voter, source })
    }

    /// Another voter, which counts, tells what the others have shown to it.
    ///
    /// # Errors
    /// It cannot be written down; it is remembered all the same.
    pub async fn hears<RT: AsyncRuntime>(
        &self,
        told: impl IntoIterator<Item = (VoterId, Shown)>,
    ) -> io::Result<()> {
        let others = told.into_iter().filter(|(voter, _)| *voter != self.shared.id);
        let news = others.map(|(voter, shown)| self.memory().remembered.hears_of(voter, shown));
        let news = news.max().unwrap_or(News::Nothing);
        self.keep_due::<RT>(news).await
    }

    /// What others have shown, to be told on, with a number that grows whenever it changes.
    pub fn told(&self) -> (u64, Vec<(VoterId, Shown)>) {
        let memory = self.memory();
        (memory.version, memory.remembered.all().collect())
    }

    /// Counts how often that was changed.
    pub fn version(&self) -> u64 {
        self.memory().version
    }

    /// How many messages of a voter did not count since the last one that did, and why. None when the latest one counts.
    pub fn refused(&self, voter: VoterId) -> Option<(u64, ShowsLess)> {
        self.memory().remembered.refused(voter)
    }

    /// Whether a voter that shows this would count.
    ///
    /// # Errors
    /// It is less than it has shown.
    pub fn check(&self, voter: VoterId, shown: Shown) -> Result<(), ShowsLess> {
        self.memory().remembered.check(voter, shown)
    }

    /// Forgets all voters but these.
    pub fn keep_only(&self, keeps: impl Fn(VoterId) -> bool) {
        self.memory().remembered.keep_only(keeps);
    }

    /// Writes down all that is remembered.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn keep<RT: AsyncRuntime>(&self) -> io::Result<()> {
        let version = self.version();
        self.keep_version::<RT>(version).await
    }

    /// Something may have changed. Waits until all promises that are known are on stable storage.
    async fn keep_due<RT: AsyncRuntime>(&self, news: News) -> io::Result<()> {
        let due = {
            let mut memory = self.memory();
            memory.version += u64::from(news != News::Nothing);
            if news == News::Promise {
                memory.due = memory.version;
            }
            match memory.written >= memory.due {
                true => return Ok(()),
                false => memory.due,
            }
        };
        self.keep_version::<RT>(due).await
    }

    async fn keep_version<RT: AsyncRuntime>(&self, version: u64) -> io::Result<()> {
        let peers = self.clone();
        RT::spawn_blocking(move || peers.write_up_to(version)).await?
    }

    /// Several wait for one write: who comes second finds what it waits for written.
    fn write_up_to(&self, version: u64) -> io::Result<()> {
        let mut kept = self.shared.file.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.version >= version {
            return Ok(());
        }
        let (version, record) = {
            let memory = self.memory();
            let record = PeersRecord {
                format: FORMAT,
                node: self.shared.id.0,
                incarnation: self.shared.incarnation,
                voters: memory.remembered.record(),
            };
            (memory.version, record)
        };
        write(&*kept.file, &record)?;
        kept.version = version;
        self.memory().written = version;
        Ok(())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("id", &self.shared.id)
            .field("incarnation", &self.shared.incarnation)
            .field("memory", &self.memory().remembered)
            .finish()
    }
}

/// The run that a voter's file has counted up to, without beginning another.
///
/// # Errors
/// The file is missing, damaged, or another node's.
pub(crate) fn read(id: VoterId, file: &dyn DatabaseFile) -> Result<PeersRecord, VoterError> {
    let path = file.path();
    let bytes = file.read().map_err(StoreError::io(path))?;
    let record: PeersRecord = decode(&bytes).map_err(|error| match error {
        RecordError::Checksum => StoreError::damaged(path, "its checksum is wrong"),
        RecordError::Text(why) => StoreError::damaged(path, format_args!("it cannot be read ({why})")),
        RecordError::Unknown(what) => StoreError::Unknown {
            path: path.into(),
            what,
        },
    })?;
    if record.format != FORMAT {
        return Err(StoreError::TooNew {
            path: path.into(),
            format: record.format,
            known: FORMAT,
        }
        .into());
    }
    match record.node == id.0 {
        true => Ok(record),
        false => {
            let whose = format_args!("it belongs to node {}, and this is node {id}", record.node).to_string();
            Err(VoterError::damaged(path, whose))
        }
    }
}

/// Puts the memory of a voter that has begun no run in the place of what is there: a later run than `known` is its first.
///
/// # Errors
/// It cannot be written.
pub(crate) fn replace(id: VoterId, file: &dyn DatabaseFile, known: Incarnation) -> Result<(), VoterError> {
    let record = PeersRecord {
        format: FORMAT,
        node: id.0,
        incarnation: known,
        voters: RememberedRecord::default(),
    };
    write(file, &record).map_err(|error| StoreError::io(file.path())(error).into())
}

fn write(file: &dyn DatabaseFile, record: &PeersRecord) -> io::Result<()> {
    file.replace(&encode(record)?)
}

#[cfg(test)]
mod tests;
