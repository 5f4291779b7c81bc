//! Both files of a voter: made once, and opened at every start.

use crate::database_file::DatabaseFile;
use crate::raft::log_database::{LogContent, LogDatabase};
use crate::raft::log_store::LogStore;
use crate::raft::record::AppliedRecord;
use crate::raft::state_database::{StateContent, StateDatabase};
use crate::raft::state_machine::{Reached, StateMachine};
use crate::raft::voter_error::VoterError;
use crate::raft::voter_id::VoterId;
use openraft::AsyncRuntime;
use std::path::Path;

/// What the log is called in a directory.
pub const LOG_FILE: &str = "voter-log.redb";
/// What the state is called in a directory.
pub const STATE_FILE: &str = "voter-state.redb";

/// Makes the files of a new voter, which has promised nothing and knows of no cluster. To be called once in the life of a
/// node, before it is named to any other.
///
/// The log comes last, so that one that was cut off can be made again: without a log nothing was ever promised.
///
/// # Errors
/// There is a log, or a state with something in it: a voter has been here. Or the files cannot be written.
pub fn create(id: VoterId, log: &dyn DatabaseFile, state: &dyn DatabaseFile) -> Result<(), VoterError> {
    if log.exists() {
        let path = log.path().into();
        return Err(VoterError::Present { path });
    }
    if state.exists() && StateDatabase::read(state, id.0)?.applied.is_some() {
        return Err(missing(log.path()));
    }
    StateDatabase::create(state, id.0)?;
    LogDatabase::create(log, id.0)
}

/// Opens the files of a voter, and goes to where it was.
///
/// # Errors
/// A file is missing, not in order, another node's, or does not fit the other. Both are left as they are.
pub fn open<RT: AsyncRuntime>(
    id: VoterId,
    log: &dyn DatabaseFile,
    state: &dyn DatabaseFile,
) -> Result<(LogStore<RT>, StateMachine<RT>), VoterError> {
    for file in [log, state] {
        if !file.exists() {
            return Err(missing(file.path()));
        }
    }
    // Both are read before one is opened, which may write to it.
    let logged = LogDatabase::read(log, id.0)?;
    let kept = StateDatabase::read(state, id.0)?;
    let reached = reached([log.path(), state.path()], &logged, kept)?;
    let (log, logged) = LogDatabase::open(log, id.0)?;
    let state = StateDatabase::open(state, id.0)?;
    Ok((LogStore::new(log, &logged), StateMachine::new(state, reached)))
}

fn missing(path: &Path) -> VoterError {
    VoterError::Missing { path: path.into() }
}

/// Where the voter was: the state and what was applied since, from the log.
fn reached([log, state]: [&Path; 2], logged: &LogContent, kept: StateContent) -> Result<Reached, VoterError> {
    let mut reached = Reached::of(&kept.state);
    if logged.dropped > reached.place {
        let what = "entries were dropped from the log that are not in it: the two files are not of one time";
        return Err(VoterError::damaged(state, what));
    }
    let Some(applied) = kept.applied else {
        return Ok(reached);
    };
    let first = reached.place.map_or(0, |place| place.index + 1);
    for index in first..=applied.place.index {
        let entry = logged.at(index).ok_or_else(|| {
            let what = format_args!("{} was applied, and entry {index} is not in it", applied.place);
            VoterError::damaged(log, what)
        })?;
        reached.apply(entry.clone());
    }
    let unwritten = |error| VoterError::damaged(state, error);
    same(log, reached.record().map_err(unwritten)?, applied)?;
    Ok(reached)
}

/// Whether the entries lead to what they led to before.
fn same(path: &Path, found: Option<AppliedRecord>, applied: AppliedRecord) -> Result<(), VoterError> {
    if found == Some(applied) {
        return Ok(());
    }
    let what = match found {
        Some(found) if found.place == applied.place => format!(
            "up to {} it leads to generation {} with digest {:08x}, and led to generation {} with digest {:08x} once: another \
             version of this program has applied it, which should be started once more and stopped cleanly, or it is not the \
             log that was there",
            applied.place, found.generation, found.digest, applied.generation, applied.digest
        ),
        Some(found) => format!("it has {} where {} was applied", found.place, applied.place),
        None => format!("{} was applied, and nothing is in it", applied.place),
    };
    Err(VoterError::damaged(path, what))
}
