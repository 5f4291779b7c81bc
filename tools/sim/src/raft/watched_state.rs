//! The state machine of a node under the eyes of the history.

use crate::raft::history::{AppliedPosition, History, How};
use crate::raft::runtime::Virtual;
use crate::raft::tasks::{Tasks, locked};
use futures_util::{Stream, StreamExt, stream};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use palisade_consensus::raft::{StateMachine, Voting};
use palisade_model::Cluster;
use std::io;
use std::sync::{Arc, Mutex};

type Types = Voting<Virtual>;

/// It does what the state machine does, and says so to the history.
#[derive(Clone, Debug)]
pub struct WatchedState {
    inner: StateMachine<Virtual>,
    node: usize,
    history: Arc<Mutex<History>>,
}

impl WatchedState {
    /// The state machine of a node that has just been opened.
    pub async fn new(
        inner: StateMachine<Virtual>,
        node: usize,
        history: Arc<Mutex<History>>,
    ) -> io::Result<WatchedState> {
        let mut observed = WatchedState { inner, node, history };
        observed.look(How::Started).await?;
        Ok(observed)
    }

    /// Where it is.
    pub async fn position(&mut self) -> io::Result<AppliedPosition> {
        let (place, members) = self.inner.applied_state().await?;
        let cluster = self.inner.cluster();
        Ok(AppliedPosition {
            index: place.map(|place| place.index()),
            generation: cluster.generation,
            lineage: cluster.lineage,
            members_since: members.log_id().as_ref().map(|place| place.index()),
        })
    }

    /// The cluster as the node knows it.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.inner.cluster()
    }

    async fn look(&mut self, how: How) -> io::Result<()> {
        let position = self.position().await?;
        let node = self.node as u64;
        Tasks::current().note([node, position.index.unwrap_or(0), position.generation.0]);
        locked(&self.history).is_at(self.node, position, how);
        Ok(())
    }
}

impl RaftStateMachine<Types> for WatchedState {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = StateMachine<Virtual>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>)> {
        self.inner.applied_state().await
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut all = Vec::new();
        while let Some(entry) = entries.next().await {
            if let Ok((entry, _)) = &entry {
                locked(&self.history).applies(self.node, entry);
            }
            all.push(entry);
        }
        self.inner.apply(stream::iter(all)).await?;
        self.look(How::Applied).await
    }

    async fn get_snapshot_builder(&mut self) -> StateMachine<Virtual> {
        self.inner.get_snapshot_builder().await
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Types>, snapshot: Vec<u8>) -> io::Result<()> {
        self.inner.install_snapshot(meta, snapshot).await?;
        self.look(How::TookSnapshot).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, Vec<u8>>>> {
        self.inner.get_current_snapshot().await
    }
}
