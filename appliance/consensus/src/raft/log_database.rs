//! The log of a voter on stable storage: what it has promised, and the entries that are not dropped yet.

use crate::database::{self, Formats};
use crate::database_file::DatabaseFile;
use crate::raft::record::{EntryRecord, OwnerRecord, PlaceRecord, VoteRecord};
use crate::raft::voter_error::VoterError;
use crate::record::{RecordError, decode, encode};
use crate::store_error::StoreError;
use palisade_words::Uuid;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};

/// Of both files of a voter: they change together.
pub(crate) const VOTER_FORMATS: Formats = Formats { first: 1, latest: 1 };

const VOTER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("voter");
const OWNER: &str = "owner";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const DROPPED: &str = "dropped";

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");

/// What an existing log holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LogContent {
    pub(crate) vote: Option<VoteRecord>,
    /// Up to where it was known to be agreed on.
    pub(crate) committed: Option<PlaceRecord>,
    /// The latest entry that was dropped because the state has it.
    pub(crate) dropped: Option<PlaceRecord>,
    /// The entries after it, without gaps.
    pub(crate) entries: Vec<EntryRecord>,
}

impl LogContent {
    /// The latest entry, dropped or not.
    pub(crate) fn last(&self) -> Option<PlaceRecord> {
        self.entries.last().map(|entry| entry.place).or(self.dropped)
    }

    /// The entry of an index.
    pub(crate) fn at(&self, index: u64) -> Option<&EntryRecord> {
        let first = self.entries.first()?.place.index;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }
}

/// The open log.
#[derive(Debug)]
pub(crate) struct LogDatabase {
    database: Database,
    path: PathBuf,
}

impl LogDatabase {
    /// Makes the empty log of a new voter.
    pub(crate) fn create(file: &dyn DatabaseFile, node: Uuid) -> Result<(), VoterError> {
        LogDatabase::create_after(file, node, None)
    }

    /// Makes the log of a voter that has all up to a place in its state, and has promised nothing.
    pub(crate) fn create_after(
        file: &dyn DatabaseFile,
        node: Uuid,
        dropped: Option<PlaceRecord>,
    ) -> Result<(), VoterError> {
        let unwritten = |error| VoterError::damaged(file.path(), error);
        let owner = encode(&OwnerRecord { node }).map_err(unwritten)?;
        let dropped = dropped
            .map(|place| encode(&place))
            .transpose()
            .map_err(unwritten)?;
        let fill = |write: &WriteTransaction| {
            let mut voter = write.open_table(VOTER)?;
            voter.insert(OWNER, owner.as_slice())?;
            if let Some(dropped) = &dropped {
                voter.insert(DROPPED, dropped.as_slice())?;
            }
            write.open_table(ENTRIES)?;
            Ok(())
        };
        Ok(database::create_file(file, VOTER_FORMATS, fill)?)
    }

    /// What the log of a voter holds, after all of it was found in order. Nothing is written to it.
    pub(crate) fn read(file: &dyn DatabaseFile, node: Uuid) -> Result<LogContent, VoterError> {
        let inspect = |copy: &Database| content(file.path(), copy, node);
        let content = database::inspect_file(file, VOTER_FORMATS, inspect)?;
        in_order(file.path(), &content)?;
        Ok(content)
    }

    /// Opens the log of a voter that was found in order.
    pub(crate) fn open(file: &dyn DatabaseFile, node: Uuid) -> Result<(LogDatabase, LogContent), VoterError> {
        let path = file.path();
        let (database, content) = database::open_file(file, |open| content(path, open, node))?;
        let path = path.to_owned();
        Ok((LogDatabase { database, path }, content))
    }

    /// Keeps what the voter promises. Durable when it returns.
    pub(crate) fn keep_vote(&self, vote: &VoteRecord) -> io::Result<()> {
        let write = self.begin()?;
        self.put(&write, VOTE, vote)?;
        self.commit(write)
    }

    /// Puts entries at the end, and says up to where is agreed. Durable when it returns.
    pub(crate) fn append(&self, entries: &[EntryRecord], committed: Option<PlaceRecord>) -> io::Result<()> {
        let write = self.begin()?;
        if let Some(committed) = &committed {
            self.put(&write, COMMITTED, committed)?;
        }
        for entry in entries {
            let bytes = encode(entry)?;
            let inserted = write
                .open_table(ENTRIES)
                .map_err(redb::Error::from)
                .and_then(|mut table| {
                    table.insert(entry.place.index, bytes.as_slice())?;
                    Ok(())
                });
            inserted.map_err(|error| self.failed(error))?;
        }
        self.commit(write)
    }

    /// Takes away all entries after `last`; all of them when there is no `last`. Durable when it returns.
    pub(crate) fn cut_after(&self, last: Option<u64>) -> io::Result<()> {
        let write = self.begin()?;
        let cut = write
            .open_table(ENTRIES)
            .map_err(redb::Error::from)
            .and_then(|mut table| Ok(table.retain(|index, _| last.is_some_and(|last| index <= last))?));
        cut.map_err(|error| self.failed(error))?;
        self.commit(write)
    }

    /// Drops all entries up to a place, it included, which the state has. Durable when it returns.
    pub(crate) fn drop_up_to(&self, place: PlaceRecord) -> io::Result<()> {
        let write = self.begin()?;
        self.put(&write, DROPPED, &place)?;
        let dropped = write
            .open_table(ENTRIES)
            .map_err(redb::Error::from)
            .and_then(|mut table| Ok(table.retain(|index, _| index > place.index)?));
        dropped.map_err(|error| self.failed(error))?;
        self.commit(write)
    }

    /// The entries of a range, as far as they are there.
    pub(crate) fn entries(&self, range: impl RangeBounds<u64>) -> io::Result<Vec<EntryRecord>> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        let read = || Ok::<_, redb::Error>(self.database.begin_read()?.open_table(ENTRIES)?);
        let table = read().map_err(|error| self.failed(error))?;
        read_entries(&self.path, &table, bounds).map_err(|error| io::Error::other(VoterError::from(error)))
    }

    fn begin(&self) -> io::Result<WriteTransaction> {
        database::begin_write_of(&self.database, VOTER_FORMATS).map_err(|error| self.failed(error))
    }

    fn put<T: Serialize>(&self, write: &WriteTransaction, key: &str, value: &T) -> io::Result<()> {
        let bytes = encode(value)?;
        let put = write
            .open_table(VOTER)
            .map_err(redb::Error::from)
            .and_then(|mut table| {
                table.insert(key, bytes.as_slice())?;
                Ok(())
            });
        put.map_err(|error| self.failed(error))
    }

    fn commit(&self, write: WriteTransaction) -> io::Result<()> {
        write.commit().map_err(|error| self.failed(error.into()))
    }

    fn failed(&self, error: redb::Error) -> io::Error {
        io::Error::other(format!("{} cannot be used: {error}", self.path.display()))
    }
}

fn content(path: &Path, copy: &Database, node: Uuid) -> Result<LogContent, StoreError> {
    let unread = |error: redb::Error| StoreError::unread(path, error);
    let read = copy.begin_read().map_err(|error| unread(error.into()))?;
    let voter = read.open_table(VOTER).map_err(|error| unread(error.into()))?;
    check_owner(path, &voter, node)?;
    let entries = read.open_table(ENTRIES).map_err(|error| unread(error.into()))?;
    Ok(LogContent {
        vote: value_of(path, &voter, VOTE)?,
        committed: value_of(path, &voter, COMMITTED)?,
        dropped: value_of(path, &voter, DROPPED)?,
        entries: read_entries(path, &entries, (Bound::Unbounded, Bound::Unbounded))?,
    })
}

/// Refuses a file that is another node's.
pub(crate) fn check_owner(
    path: &Path,
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    node: Uuid,
) -> Result<(), StoreError> {
    match value_of::<OwnerRecord>(path, table, OWNER)? {
        Some(owner) if owner.node == node => Ok(()),
        Some(owner) => {
            let whose =
                format_args!("it belongs to node {}, and this is node {node}", owner.node).to_string();
            Err(StoreError::damaged(path, whose))
        }
        None => Err(StoreError::damaged(
            path,
            "it does not say to which node it belongs",
        )),
    }
}

/// A value of a table of records by their names; none when it was never put there.
pub(crate) fn value_of<T: DeserializeOwned + Serialize>(
    path: &Path,
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>, StoreError> {
    let bytes = table.get(key).map_err(|error| StoreError::unread(path, error))?;
    let value = bytes.map(|bytes| decode(bytes.value()));
    value.transpose().map_err(|error| unread_record(path, key, error))
}

fn read_entries(
    path: &Path,
    table: &impl ReadableTable<u64, &'static [u8]>,
    bounds: (Bound<u64>, Bound<u64>),
) -> Result<Vec<EntryRecord>, StoreError> {
    let unread = |error: redb::StorageError| StoreError::unread(path, error);
    let mut entries = Vec::new();
    if is_empty(bounds) {
        return Ok(entries);
    }
    for row in table.range::<u64>(bounds).map_err(unread)? {
        let (index, bytes) = row.map_err(unread)?;
        let index = index.value();
        let entry: EntryRecord =
            decode(bytes.value()).map_err(|error| unread_record(path, &format!("entry {index}"), error))?;
        if entry.place.index != index {
            let what = format!("entry {} stands at {index}", entry.place.index);
            return Err(StoreError::damaged(path, what));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Whether no index can be in a range: the database library takes none that ends before it begins.
fn is_empty(bounds: (Bound<u64>, Bound<u64>)) -> bool {
    let first = match bounds.0 {
        Bound::Included(first) => Some(first),
        Bound::Excluded(before) => before.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match bounds.1 {
        Bound::Included(last) => last.checked_add(1),
        Bound::Excluded(end) => Some(end),
        Bound::Unbounded => None,
    };
    first.is_none_or(|first| end.is_some_and(|end| end <= first))
}

fn unread_record(path: &Path, what: &str, error: RecordError) -> StoreError {
    match error {
        RecordError::Checksum => {
            StoreError::damaged(path, format_args!("the checksum of its {what} is wrong"))
        }
        RecordError::Text(why) => {
            StoreError::damaged(path, format_args!("its {what} cannot be read ({why})"))
        }
        RecordError::Unknown(what) => StoreError::Unknown {
            path: path.into(),
            what,
        },
    }
}

/// Whether the parts of a log fit each other.
fn in_order(path: &Path, content: &LogContent) -> Result<(), VoterError> {
    let mut before = content.dropped;
    for entry in &content.entries {
        let due = before.map_or(0, |before| before.index + 1);
        if entry.place.index != due {
            let what = format_args!("it goes on with {} where entry {due} is due", entry.place);
            return Err(VoterError::damaged(path, what));
        }
        if before.is_some_and(|before| before.term > entry.place.term) {
            let what = format_args!("{} stands behind one of a later term", entry.place);
            return Err(VoterError::damaged(path, what));
        }
        before = Some(entry.place);
    }
    // Whoever takes an entry has promised its term first. The first entry of a cluster is of no term.
    let promised = content.vote.map_or(0, |vote| vote.term);
    match before {
        Some(last) if last.term > promised => {
            let what = format_args!(
                "it has {last}, and a promise of term {promised} only: what was promised since is lost"
            );
            Err(VoterError::damaged(path, what))
        }
        _ => Ok(()),
    }
}
