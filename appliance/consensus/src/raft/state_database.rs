//! The state of a voter on stable storage: the cluster as a whole as of some entry, and how far has been applied since.

use crate::database;
use crate::database_file::DatabaseFile;
use crate::raft::log_database::{VOTER_FORMATS, check_owner, value_of};
use crate::raft::record::{AppliedRecord, MembersRecord, OwnerRecord, StateRecord};
use crate::raft::voter_error::VoterError;
use crate::record::{digest, encode};
use crate::store_error::StoreError;
use palisade_model::{Cluster, check};
use palisade_words::Uuid;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

const VOTER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("voter");
const OWNER: &str = "owner";
const APPLIED: &str = "applied";
const STATE: &str = "state";

/// What an existing state holds.
#[derive(Debug)]
pub(crate) struct StateContent {
    /// The cluster as a whole.
    pub(crate) state: StateRecord,
    /// How far has been applied; none before anything was.
    pub(crate) applied: Option<AppliedRecord>,
}

/// The open state.
#[derive(Debug)]
pub(crate) struct StateDatabase {
    database: Database,
    path: PathBuf,
}

impl StateDatabase {
    /// Makes the state of a new voter, which knows of no cluster yet.
    pub(crate) fn create(file: &dyn DatabaseFile, node: Uuid) -> Result<(), VoterError> {
        let nothing = nothing().map_err(|error| VoterError::damaged(file.path(), error))?;
        StateDatabase::create_with(file, node, &nothing, None)
    }

    /// Makes the state of a voter that begins with something.
    pub(crate) fn create_with(
        file: &dyn DatabaseFile,
        node: Uuid,
        state: &StateRecord,
        applied: Option<&AppliedRecord>,
    ) -> Result<(), VoterError> {
        let unwritten = |error| VoterError::damaged(file.path(), error);
        let owner = encode(&OwnerRecord { node }).map_err(unwritten)?;
        let state = encode(state).map_err(unwritten)?;
        let applied = applied.map(encode).transpose().map_err(unwritten)?;
        let fill = |write: &WriteTransaction| {
            let mut table = write.open_table(VOTER)?;
            table.insert(OWNER, owner.as_slice())?;
            table.insert(STATE, state.as_slice())?;
            if let Some(applied) = &applied {
                table.insert(APPLIED, applied.as_slice())?;
            }
            Ok(())
        };
        Ok(database::create_file(file, VOTER_FORMATS, fill)?)
    }

    /// What the state of a voter holds, after all of it was found in order. Nothing is written to it.
    pub(crate) fn read(file: &dyn DatabaseFile, node: Uuid) -> Result<StateContent, VoterError> {
        let inspect = |copy: &Database| content(file.path(), copy, node);
        Ok(database::inspect_file(file, VOTER_FORMATS, inspect)?)
    }

    /// Opens the state of a voter that was found in order.
    pub(crate) fn open(file: &dyn DatabaseFile, node: Uuid) -> Result<StateDatabase, VoterError> {
        let path = file.path();
        let (database, _) = database::open_file(file, |open| content(path, open, node))?;
        let path = path.to_owned();
        Ok(StateDatabase { database, path })
    }

    /// Keeps how far has been applied. Durable when it returns.
    pub(crate) fn keep_applied(&self, applied: &AppliedRecord) -> io::Result<()> {
        let applied = encode(applied)?;
        self.write(|table| {
            table.insert(APPLIED, applied.as_slice())?;
            Ok(())
        })
    }

    /// Keeps the cluster as a whole, unless a later one is there. Durable when it returns.
    pub(crate) fn keep_state(&self, state: &StateRecord) -> io::Result<()> {
        let bytes = encode(state)?;
        let kept = || {
            let write = database::begin_write_of(&self.database, VOTER_FORMATS)?;
            // Nobody else writes until this is over, so what is read here is what would be replaced.
            if self.state()?.place > state.place {
                return Ok(());
            }
            write.open_table(VOTER)?.insert(STATE, bytes.as_slice())?;
            Ok(write.commit()?)
        };
        kept().map_err(|error| self.failed(error))
    }

    /// Puts a cluster that came from another node in the place of what is there. Durable when it returns, all or nothing of it.
    pub(crate) fn replace(&self, state: &StateRecord, applied: &AppliedRecord) -> io::Result<()> {
        let (state, applied) = (encode(state)?, encode(applied)?);
        self.write(|table| {
            table.insert(STATE, state.as_slice())?;
            table.insert(APPLIED, applied.as_slice())?;
            Ok(())
        })
    }

    /// The cluster as it was kept last.
    pub(crate) fn state(&self) -> io::Result<StateRecord> {
        let read = || Ok::<_, redb::Error>(self.database.begin_read()?.open_table(VOTER)?);
        let table = read().map_err(|error| self.failed(error))?;
        kept(&self.path, &table).map_err(|error| io::Error::other(VoterError::from(error)))
    }

    fn write(
        &self,
        change: impl FnOnce(&mut redb::Table<'_, &str, &[u8]>) -> Result<(), redb::Error>,
    ) -> io::Result<()> {
        let written = || {
            let write = database::begin_write_of(&self.database, VOTER_FORMATS)?;
            change(&mut write.open_table(VOTER)?)?;
            Ok(write.commit()?)
        };
        written().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: redb::Error) -> io::Error {
        io::Error::other(format!("{} cannot be used: {error}", self.path.display()))
    }
}

fn nothing() -> Result<StateRecord, serde_json::Error> {
    let cluster = Cluster::empty();
    Ok(StateRecord {
        place: None,
        members_since: None,
        members: MembersRecord {
            voters: Vec::new(),
            learners: BTreeSet::new(),
        },
        digest: digest(&cluster)?,
        cluster,
    })
}

fn content(path: &Path, copy: &Database, node: Uuid) -> Result<StateContent, StoreError> {
    let unread = |error: redb::Error| StoreError::unread(path, error);
    let read = copy.begin_read().map_err(|error| unread(error.into()))?;
    let table = read.open_table(VOTER).map_err(|error| unread(error.into()))?;
    check_owner(path, &table, node)?;
    let state = kept(path, &table)?;
    let applied: Option<AppliedRecord> = value_of(path, &table, APPLIED)?;
    if state.place > applied.map(|applied| applied.place) {
        let what = "it holds a later state than was ever applied";
        return Err(StoreError::damaged(path, what));
    }
    Ok(StateContent { state, applied })
}

fn kept(
    path: &Path,
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<StateRecord, StoreError> {
    let state: Option<StateRecord> = value_of(path, table, STATE)?;
    let state = state.ok_or_else(|| StoreError::damaged(path, "there is no state in it"))?;
    good(&state).map_err(|what| StoreError::damaged(path, what))?;
    Ok(state)
}

/// Whether a cluster is the one that was meant, and in order: what is wrong with it, if anything.
pub(crate) fn good(state: &StateRecord) -> Result<(), String> {
    let found = digest(&state.cluster).map_err(|error| error.to_string())?;
    if found != state.digest {
        return Err(format!(
            "the digest of its cluster is {found:08x}, and {:08x} was written",
            state.digest
        ));
    }
    check(&state.cluster).map_err(|broken| format!("its cluster is not in order: {broken}"))
}
