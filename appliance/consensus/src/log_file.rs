//! The log: applied commands that are not yet in the state.

use crate::database;
use crate::record::{Entry, RecordError, decode, encode};
use crate::store_error::StoreError;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use std::path::Path;

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");

/// Index of the last command that was dropped because the state holds it. A log without it was never shortened.
const DROPPED: TableDefinition<'_, &str, u64> = TableDefinition::new("dropped");
const UP_TO: &str = "up_to";

/// What an existing log holds.
#[derive(Debug, Default)]
pub(crate) struct Logged {
    /// Index of the last command dropped, 0 when none was: the state must hold it.
    pub dropped: u64,
    /// The commands after it, in order.
    pub entries: Vec<Entry>,
}

/// The open log.
#[derive(Debug)]
pub(crate) struct LogFile {
    database: Database,
}

impl LogFile {
    /// One that lies on something else than a file.
    #[cfg(test)]
    pub(crate) fn over(database: Database) -> LogFile {
        LogFile { database }
    }

    /// Opens the log and reads what is in it, in order.
    pub(crate) fn open(path: &Path) -> Result<(LogFile, Logged), StoreError> {
        let (database, logged) = database::open(path, |copy| logged(path, copy))?;
        Ok((LogFile { database }, logged))
    }

    /// Makes an empty log, in the place of one that may be there. `dropped` is the index of the last command that the state
    /// holds, 0 when it holds none.
    pub(crate) fn create(path: &Path, dropped: u64) -> Result<LogFile, StoreError> {
        let fill = |write: &redb::WriteTransaction| {
            write.open_table(ENTRIES)?;
            if dropped > 0 {
                write.open_table(DROPPED)?.insert(UP_TO, dropped)?;
            }
            Ok(())
        };
        let (database, logged) = database::create(path, fill, |copy| logged(path, copy))?;
        if logged.dropped != dropped || !logged.entries.is_empty() {
            return Err(StoreError::damaged(
                path,
                "it does not hold what was just written",
            ));
        }
        Ok(LogFile { database })
    }

    /// Puts an entry at the end. Durable when it returns.
    pub(crate) fn append(&self, entry: &Entry) -> Result<(), redb::Error> {
        let bytes = encode(entry).map_err(std::io::Error::from)?;
        let write = database::begin_write(&self.database)?;
        write.open_table(ENTRIES)?.insert(entry.index, bytes.as_slice())?;
        write.commit()?;
        Ok(())
    }

    /// Drops all entries up to an index, it included.
    pub(crate) fn drop_up_to(&self, index: u64) -> Result<(), redb::Error> {
        let write = database::begin_write(&self.database)?;
        write.open_table(ENTRIES)?.retain(|entry, _| entry > index)?;
        write.open_table(DROPPED)?.insert(UP_TO, index)?;
        write.commit()?;
        Ok(())
    }
}

fn logged(path: &Path, copy: &Database) -> Result<Logged, StoreError> {
    Ok(Logged {
        dropped: dropped(path, copy)?,
        entries: entries(path, copy)?,
    })
}

fn dropped(path: &Path, copy: &Database) -> Result<u64, StoreError> {
    let damaged = |error: redb::Error| StoreError::unread(path, error);
    let read = copy.begin_read().map_err(|error| damaged(error.into()))?;
    let table = match read.open_table(DROPPED) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(0),
        Err(error) => return Err(damaged(error.into())),
    };
    let index = table.get(UP_TO).map_err(|error| damaged(error.into()))?;
    Ok(index.map_or(0, |index| index.value()))
}

fn entries(path: &Path, copy: &Database) -> Result<Vec<Entry>, StoreError> {
    let damaged = |error: redb::Error| StoreError::unread(path, error);
    let read = copy.begin_read().map_err(|error| damaged(error.into()))?;
    let table = read.open_table(ENTRIES).map_err(|error| damaged(error.into()))?;
    let mut entries = Vec::new();
    for row in table.iter().map_err(|error| damaged(error.into()))? {
        let (index, bytes) = row.map_err(|error| damaged(error.into()))?;
        let index = index.value();
        let entry: Entry = decode(bytes.value()).map_err(|error| match error {
            RecordError::Checksum => {
                StoreError::damaged(path, format_args!("the checksum of command {index} is wrong"))
            }
            RecordError::Unknown(what) => StoreError::Unknown {
                path: path.into(),
                what,
            },
            RecordError::Text(why) => {
                StoreError::damaged(path, format_args!("command {index} cannot be read ({why})"))
            }
        })?;
        if entry.index != index {
            return Err(StoreError::damaged(
                path,
                format_args!("command {} stands at {index}", entry.index),
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}
