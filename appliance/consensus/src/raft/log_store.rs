//! The log, as openraft asks for it.

use crate::raft::log_database::{LogContent, LogDatabase};
use crate::raft::record::{EntryRecord, LogId, PlaceRecord, RaftEntry, Vote, VoteRecord};
use crate::raft::voting::Voting;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{AsyncRuntime, LogState, OptionalSend, RaftLogReader};
use std::fmt::{self, Debug};
use std::io;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The log of a voter. Its clones are the same log: openraft reads from one while it writes to another.
pub struct LogStore<RT> {
    shared: Arc<Shared>,
    runtime: PhantomData<fn() -> RT>,
}

#[derive(Debug)]
struct Shared {
    database: LogDatabase,
    known: Mutex<Known>,
}

/// What of the log is known without reading it.
#[derive(Debug)]
struct Known {
    /// As it is on stable storage.
    vote: Option<VoteRecord>,
    dropped: Option<PlaceRecord>,
    last: Option<PlaceRecord>,
    /// Up to where is agreed. It goes to stable storage with the next entries: a start takes it from the state otherwise.
    committed: Option<PlaceRecord>,
}

impl<RT: AsyncRuntime> LogStore<RT> {
    pub(crate) fn new(database: LogDatabase, content: &LogContent) -> LogStore<RT> {
        let known = Known {
            vote: content.vote,
            dropped: content.dropped,
            last: content.last(),
            committed: content.committed,
        };
        LogStore {
            shared: Arc::new(Shared {
                database,
                known: Mutex::new(known),
            }),
            runtime: PhantomData,
        }
    }

    /// What this voter has promised last, as it is on stable storage.
    pub(crate) fn promised(&self) -> Option<VoteRecord> {
        self.known().vote
    }

    /// Does something with the file where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LogDatabase) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let shared = Arc::clone(&self.shared);
        RT::spawn_blocking(move || work(&shared.database)).await?
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<RT> Clone for LogStore<RT> {
    fn clone(&self) -> Self {
        LogStore {
            shared: Arc::clone(&self.shared),
            runtime: PhantomData,
        }
    }
}

impl<RT> Debug for LogStore<RT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.shared, f)
    }
}

impl<RT: AsyncRuntime> RaftLogReader<Voting<RT>> for LogStore<RT> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftEntry>> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        let entries = self.blocking(move |log| log.entries(bounds)).await?;
        Ok(entries.into_iter().map(RaftEntry::from).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.known().vote.map(Vote::from))
    }
}

impl<RT: AsyncRuntime> RaftLogStorage<Voting<RT>> for LogStore<RT> {
    type LogReader = LogStore<RT>;

    async fn get_log_state(&mut self) -> io::Result<LogState<Voting<RT>>> {
        let known = self.known();
        Ok(LogState {
            last_purged_log_id: known.dropped.map(LogId::from),
            last_log_id: known.last.map(LogId::from),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore<RT> {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = VoteRecord::from(vote);
        self.blocking(move |log| log.keep_vote(&vote)).await?;
        self.known().vote = Some(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.known().committed = committed.as_ref().map(PlaceRecord::from);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.known().committed.map(LogId::from))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Voting<RT>>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<EntryRecord> = entries
            .into_iter()
            .map(|entry| EntryRecord::from(&entry))
            .collect();
        let last = entries.last().map(|entry| entry.place);
        let committed = self.known().committed;
        self.blocking(move |log| log.append(&entries, committed)).await?;
        {
            let mut known = self.known();
            known.last = last.or(known.last);
        }
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let last = last.as_ref().map(PlaceRecord::from);
        let index = last.map(|last| last.index);
        self.blocking(move |log| log.cut_after(index)).await?;
        let mut known = self.known();
        known.last = known.last.min(last).max(known.dropped);
        Ok(())
    }

    async fn purge(&mut self, place: LogId) -> io::Result<()> {
        let place = PlaceRecord::from(&place);
        self.blocking(move |log| log.drop_up_to(place)).await?;
        let mut known = self.known();
        known.dropped = known.dropped.max(Some(place));
        known.last = known.last.max(Some(place));
        Ok(())
    }
}
