//! The state: the cluster as a whole, as it was after some command.

use crate::database;
use crate::record::{RecordError, Snapshot, decode, encode};
use crate::store_error::StoreError;
use redb::{Database, ReadableDatabase, TableDefinition};
use std::path::Path;

const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
const LATEST: &str = "latest";

/// The open state.
#[derive(Debug)]
pub(crate) struct StateFile {
    database: Database,
}

impl StateFile {
    /// One that lies on something else than a file.
    #[cfg(test)]
    pub(crate) fn over(database: Database) -> StateFile {
        StateFile { database }
    }

    /// Opens the state and reads it; `None` when none has been kept yet.
    pub(crate) fn open(path: &Path) -> Result<(StateFile, Option<Snapshot>), StoreError> {
        let (database, snapshot) = database::open(path, |copy| latest(path, copy))?;
        Ok((StateFile { database }, snapshot))
    }

    /// Makes a state, in the place of one that may be there.
    pub(crate) fn create(path: &Path, snapshot: Option<&Snapshot>) -> Result<StateFile, StoreError> {
        let bytes = snapshot.map(encode).transpose();
        let bytes = bytes.map_err(|error| StoreError::damaged(path, error))?;
        let fill = |write: &redb::WriteTransaction| {
            let mut state = write.open_table(STATE)?;
            if let Some(bytes) = &bytes {
                state.insert(LATEST, bytes.as_slice())?;
            }
            Ok(())
        };
        let (database, kept) = database::create(path, fill, |copy| latest(path, copy))?;
        if kept.as_ref() != snapshot {
            return Err(StoreError::damaged(
                path,
                "it does not hold what was just written",
            ));
        }
        Ok(StateFile { database })
    }

    /// Replaces the state. Durable when it returns.
    pub(crate) fn keep(&self, snapshot: &Snapshot) -> Result<(), redb::Error> {
        let bytes = encode(snapshot).map_err(std::io::Error::from)?;
        let write = database::begin_write(&self.database)?;
        write.open_table(STATE)?.insert(LATEST, bytes.as_slice())?;
        write.commit()?;
        Ok(())
    }
}

fn latest(path: &Path, copy: &Database) -> Result<Option<Snapshot>, StoreError> {
    let damaged = |error: redb::Error| StoreError::unread(path, error);
    let read = copy.begin_read().map_err(|error| damaged(error.into()))?;
    let table = read.open_table(STATE).map_err(|error| damaged(error.into()))?;
    let Some(bytes) = table.get(LATEST).map_err(|error| damaged(error.into()))? else {
        return Ok(None);
    };
    let snapshot = decode(bytes.value()).map_err(|error| match error {
        RecordError::Checksum => StoreError::damaged(path, "the checksum of the state is wrong"),
        RecordError::Unknown(what) => StoreError::Unknown {
            path: path.into(),
            what,
        },
        RecordError::Text(why) => StoreError::damaged(path, format_args!("the state cannot be read ({why})")),
    })?;
    Ok(Some(snapshot))
}
