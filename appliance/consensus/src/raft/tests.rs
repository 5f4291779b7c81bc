//! What a voter keeps, under openraft's own tests, power cuts and damage; and the bytes of each record.

mod bytes;
mod damaged;
mod power_cut;
mod suite;

use crate::database_file::InDirectory;
use crate::raft::record::{ContentRecord, EntryRecord, MembersRecord, PlaceRecord, RaftEntry};
use crate::raft::{LOG_FILE, LogStore, STATE_FILE, StateMachine, VoterError, VoterId, create, open};
use crate::story;
use openraft::storage::{RaftLogStorageExt, RaftStateMachine};
use openraft_rt_tokio::TokioRuntime;
use palisade_model::Command;
use palisade_words::Uuid;
use std::collections::BTreeSet;
use std::path::Path;

const NODE: VoterId = VoterId(Uuid(7));

fn files(directory: &Path) -> [InDirectory; 2] {
    [LOG_FILE, STATE_FILE].map(|name| InDirectory::at(directory.join(name)))
}

fn made(directory: &Path) -> Result<(), VoterError> {
    let [log, state] = files(directory);
    create(NODE, &log, &state)
}

fn opened(directory: &Path) -> Result<(LogStore<TokioRuntime>, StateMachine<TokioRuntime>), VoterError> {
    let [log, state] = files(directory);
    open(NODE, &log, &state)
}

fn place(term: u64, index: u64) -> PlaceRecord {
    PlaceRecord { term, index }
}

fn members() -> MembersRecord {
    MembersRecord {
        voters: vec![BTreeSet::from([NODE.0, Uuid(8), Uuid(9)])],
        learners: BTreeSet::from([Uuid(10)]),
    }
}

/// Entry 0 says who votes, and each after it has the command of its number.
fn entry(term: u64, index: u64) -> RaftEntry {
    let content = match index {
        0 => ContentRecord::Members(members()),
        number => ContentRecord::Command(Box::new(command(number))),
    };
    let place = place(term, index);
    RaftEntry::from(EntryRecord { place, content })
}

fn command(number: u64) -> Command {
    story::command(number)
}

/// Appends entries as openraft does, and waits until they are durable.
async fn append(log: &mut LogStore<TokioRuntime>, entries: impl IntoIterator<Item = RaftEntry>) {
    let entries: Vec<RaftEntry> = entries.into_iter().collect();
    log.blocking_append(entries).await.unwrap();
}

/// Applies entries as openraft does on a follower, where nobody waits for what comes of them.
async fn apply(state: &mut StateMachine<TokioRuntime>, entries: impl IntoIterator<Item = RaftEntry>) {
    let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
    state.apply(futures_util::stream::iter(entries)).await.unwrap();
}
