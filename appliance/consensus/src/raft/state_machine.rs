//! The cluster that the entries lead to, as openraft asks for it.

use crate::published::Published;
use crate::raft::proposal::EntryOutcome;
use crate::raft::record::{
    Announced, AppliedRecord, ContentRecord, EntryRecord, LogId, Members, MembersRecord, PlaceRecord,
    StateRecord, Taken,
};
use crate::raft::state_database::{StateDatabase, good};
use crate::raft::voting::Voting;
use crate::record::{RecordError, decode, digest, encode};
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{AsyncRuntime, OptionalSend, RaftSnapshotBuilder};
use palisade_model::Cluster;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The cluster of a voter. Its clones are the same cluster.
pub struct StateMachine<RT> {
    shared: Arc<Shared>,
    runtime: PhantomData<fn() -> RT>,
}

#[derive(Debug)]
struct Shared {
    database: StateDatabase,
    reached: Mutex<Reached>,
    published: Published,
}

/// How far it has come. All of it is on stable storage, as a state or as entries of the log.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    /// The latest entry applied.
    pub(crate) place: Option<PlaceRecord>,
    /// The entry that says who votes.
    pub(crate) members_since: Option<PlaceRecord>,
    /// Who votes.
    pub(crate) members: MembersRecord,
    /// What the entries have led to.
    pub(crate) cluster: Arc<Cluster>,
}

impl Reached {
    pub(crate) fn of(state: &StateRecord) -> Reached {
        Reached {
            place: state.place,
            members_since: state.members_since,
            members: state.members.clone(),
            cluster: Arc::new(state.cluster.clone()),
        }
    }

    /// Goes on by one entry.
    pub(crate) fn apply(&mut self, entry: EntryRecord) -> EntryOutcome {
        self.place = Some(entry.place);
        match entry.content {
            ContentRecord::Term => EntryOutcome::Nothing,
            ContentRecord::Members(members) => {
                (self.members_since, self.members) = (Some(entry.place), members);
                EntryOutcome::Nothing
            }
            ContentRecord::Command(command) => match self.cluster.apply(&command) {
                Ok((next, outcome)) => {
                    self.cluster = Arc::new(next);
                    EntryOutcome::Applied(outcome)
                }
                Err(refusal) => EntryOutcome::Refused(refusal),
            },
        }
    }

    /// For the record; none before anything was applied.
    pub(crate) fn record(&self) -> io::Result<Option<AppliedRecord>> {
        let Some(place) = self.place else {
            return Ok(None);
        };
        Ok(Some(AppliedRecord {
            place,
            generation: self.cluster.generation,
            lineage: self.cluster.lineage,
            digest: digest(&self.cluster)?,
        }))
    }

    fn state(&self) -> io::Result<StateRecord> {
        Ok(StateRecord {
            place: self.place,
            members_since: self.members_since,
            members: self.members.clone(),
            digest: digest(&self.cluster)?,
            cluster: Cluster::clone(&self.cluster),
        })
    }
}

impl<RT: AsyncRuntime> StateMachine<RT> {
    pub(crate) fn new(database: StateDatabase, reached: Reached) -> StateMachine<RT> {
        StateMachine {
            shared: Arc::new(Shared {
                database,
                published: Published::new(Arc::clone(&reached.cluster)),
                reached: Mutex::new(reached),
            }),
            runtime: PhantomData,
        }
    }

    /// The cluster as far as this node knows that it is agreed. Another node may know more: who must not miss anything asks
    /// the leader first (`ReadPolicy::ReadIndex`). Cheap.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.shared.published.get()
    }

    /// The latest entry that is applied, on record; none before any.
    pub(crate) fn applied_index(&self) -> Option<u64> {
        self.reached().place.map(|place| place.index)
    }

    /// From now on `listener` hears of each cluster that is published, in their order, after it can be had here. It must not
    /// block, and not ask for anything that waits for an entry.
    pub fn listen(&self, listener: impl Fn(&Arc<Cluster>) + Send + Sync + 'static) {
        self.shared.published.listen(Box::new(listener));
    }

    /// Does something with the file where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StateDatabase) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let shared = Arc::clone(&self.shared);
        RT::spawn_blocking(move || work(&shared.database)).await?
    }

    /// Goes where `reached` is, which is on stable storage.
    fn go_to(&self, reached: Reached) {
        let cluster = Arc::clone(&reached.cluster);
        *self.reached() = reached;
        self.shared.published.set(cluster);
    }

    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.shared.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<RT> Clone for StateMachine<RT> {
    fn clone(&self) -> Self {
        StateMachine {
            shared: Arc::clone(&self.shared),
            runtime: PhantomData,
        }
    }
}

impl<RT> fmt::Debug for StateMachine<RT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shared, f)
    }
}

/// A snapshot is a [`StateRecord`], as bytes.
impl<RT: AsyncRuntime> RaftStateMachine<Voting<RT>> for StateMachine<RT> {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = StateMachine<RT>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Members)> {
        let reached = self.reached();
        let members = Members::new(
            reached.members_since.map(LogId::from),
            reached.members.clone().into(),
        );
        Ok((reached.place.map(LogId::from), members))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Voting<RT>>>> + Unpin + OptionalSend,
    {
        let mut reached = self.reached().clone();
        let mut answers = Vec::new();
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let answer = reached.apply(EntryRecord::from(&entry));
            answers.extend(responder.map(|responder| (responder, answer)));
        }
        if let Some(record) = reached.record()? {
            self.blocking(move |state| state.keep_applied(&record)).await?;
        }
        self.go_to(reached);
        for (responder, answer) in answers {
            responder.send(answer);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> StateMachine<RT> {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &Announced, snapshot: Vec<u8>) -> io::Result<()> {
        let state = received(&snapshot, meta).map_err(|what| {
            let what = format!("the state that came from the leader is not as it was sent: {what}");
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        let reached = Reached::of(&state);
        if let Some(applied) = reached.record()? {
            self.blocking(move |file| file.replace(&state, &applied)).await?;
        }
        self.go_to(reached);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Taken>> {
        let state = self.blocking(StateDatabase::state).await?;
        match state.place {
            None => Ok(None),
            Some(_) => as_snapshot(&state).map(Some),
        }
    }
}

impl<RT: AsyncRuntime> RaftSnapshotBuilder<Voting<RT>> for StateMachine<RT> {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> io::Result<Taken> {
        let state = self.reached().state()?;
        let snapshot = as_snapshot(&state)?;
        self.blocking(move |file| file.keep_state(&state)).await?;
        Ok(snapshot)
    }
}

fn as_snapshot(state: &StateRecord) -> io::Result<Taken> {
    Ok(Taken {
        meta: state.announced(),
        snapshot: encode(state)?,
    })
}

/// The state in a snapshot; what is wrong with it, otherwise.
fn received(bytes: &[u8], announced: &Announced) -> Result<StateRecord, String> {
    let state: StateRecord = decode(bytes).map_err(|error| match error {
        RecordError::Checksum => "its checksum is wrong".into(),
        RecordError::Text(why) => format!("it cannot be read ({why})"),
        RecordError::Unknown(what) => format!("the leader has a later version, and {what}"),
    })?;
    good(&state)?;
    let said = state.announced();
    match said == *announced {
        true => Ok(state),
        false => Err(format!("it is {said}, and was announced as {announced}")),
    }
}
