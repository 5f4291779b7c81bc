//! Opening one redb file with care.
//!
//! A file is first read into memory and opened, checked and read *there*, so that a damaged one is found out before
//! anything is written to it. A new file is made under another name and renamed when it is whole.

use crate::database_file::{DatabaseFile, InDirectory, Shared};
use crate::private;
use crate::store_error::StoreError;
use palisade_sys::stable_file;
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Database, DatabaseError, ReadableDatabase, StorageBackend, TableDefinition, TableError};
use std::fs;
use std::path::{Path, PathBuf};

/// The format written, and the latest one read. What stands in a file is the earliest format whose programs can read it, and
/// programs of earlier ones refuse it: a version that adds what they would lose counts on, and one whose additions are not
/// used writes the number of before.
///
/// In this one nodes say in which of their runs they are. A file of an earlier format is of
/// this one once something was written to it. Format 2 has the lineage of each generation, and format 1 has none.
pub(crate) const FORMAT: u64 = 3;

/// The first format.
const FORMAT_WITHOUT_LINEAGE: u64 = 1;

/// The formats of one kind of file: those that are read, and the one that is written, which is the latest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Formats {
    /// The earliest that is read.
    pub(crate) first: u64,
    /// The latest that is read.
    pub(crate) latest: u64,
}

/// Of the files of a cluster of one.
const FORMATS: Formats = Formats {
    first: FORMAT_WITHOUT_LINEAGE,
    latest: FORMAT,
};

/// What the file is: its format.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");

/// The header of a redb file (its design.md, "Database header"): nine bytes of magic number, one of marks, some of
/// geometry, and two slots that hold the root of the latest commit and of the one before or after.
const HEADER_BYTES: usize = 320;
const MARKS_AT: usize = 9;
const SLOTS_AT: usize = 64;
const SLOT_BYTES: usize = 128;

/// The mark of the slot that counts.
const SECOND_SLOT_MARK: u8 = 1;

/// The mark of a latest commit made in two phases.
const TWO_PHASE_MARK: u8 = 4;

const _: () = assert!(SLOTS_AT + 2 * SLOT_BYTES == HEADER_BYTES);

/// Memory that redb may use for a file's pages, in bytes. The files are small, and read once.
const CACHE_BYTES: usize = 4 << 20;

/// Opens a file that exists, after `inspect` has found a copy of it in order.
pub(crate) fn open<T>(
    path: &Path,
    inspect: impl Fn(&Database) -> Result<T, StoreError>,
) -> Result<(Database, T), StoreError> {
    let file = InDirectory::at(path);
    inspect_file(&file, FORMATS, &inspect)?;
    open_file(&file, inspect)
}

/// Inspects a copy of a file that exists, wherever it lies. Nothing is written to it.
pub(crate) fn inspect_file<T>(
    file: &dyn DatabaseFile,
    formats: Formats,
    inspect: impl Fn(&Database) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let bytes = file.read().map_err(StoreError::io(file.path()))?;
    inspect(&open_copy(file.path(), bytes, formats)?)
}

/// Opens a file of which a copy was found in order.
pub(crate) fn open_file<T>(
    file: &dyn DatabaseFile,
    inspect: impl Fn(&Database) -> Result<T, StoreError>,
) -> Result<(Database, T), StoreError> {
    let opened = file.open(builder());
    let database = opened.map_err(|error| failed(file.path(), error))?;
    let found = inspect(&database)?;
    Ok((database, found))
}

/// Makes a file that takes the place of one that may be there, wherever it lies; `fill` gives it its first tables. Durable
/// when it returns. It is not open then.
pub(crate) fn create_file(
    file: &dyn DatabaseFile,
    formats: Formats,
    fill: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), StoreError> {
    let path = file.path();
    let memory = Shared::default();
    let made = builder().create_with_backend(memory.clone());
    let database = made.map_err(|error| failed(path, error))?;
    let filled = (|| {
        let write = begin_write_of(&database, formats)?;
        fill(&write)?;
        write.commit()?;
        Ok(())
    })();
    filled.map_err(|error: redb::Error| StoreError::unread(path, error))?;
    drop(database);
    let written = memory.bytes().and_then(|bytes| file.replace(&bytes));
    written.map_err(StoreError::io(path))
}

/// Makes a file that takes the place of one that may be there; `fill` gives it its first tables. Durable when it returns,
/// and read back: what `inspect` has found in it.
pub(crate) fn create<T>(
    path: &Path,
    fill: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    inspect: impl Fn(&Database) -> Result<T, StoreError>,
) -> Result<(Database, T), StoreError> {
    let unfinished = unfinished(path);
    if unfinished.exists() {
        fs::remove_file(&unfinished).map_err(StoreError::io(&unfinished))?;
    }
    let file = private::open(&unfinished).map_err(StoreError::io(&unfinished))?;
    let made = FileBackend::new(file).and_then(|backend| builder().create_with_backend(backend));
    let database = made.map_err(|error| failed(&unfinished, error))?;
    let filled = (|| {
        let write = begin_write(&database)?;
        fill(&write)?;
        write.commit()?;
        Ok(())
    })();
    filled.map_err(|error: redb::Error| StoreError::unread(&unfinished, error))?;
    drop(database);
    stable_file::put_in_place(&unfinished, path).map_err(StoreError::io(path))?;
    open(path, inspect)
}

/// A write that is on stable storage, whole, when its commit returns. In two phases: what a commit has replaced is
/// never fallen back to.
pub(crate) fn begin_write(database: &Database) -> Result<redb::WriteTransaction, redb::Error> {
    begin_write_of(database, FORMATS)
}

/// The same for a file of other formats.
pub(crate) fn begin_write_of(
    database: &Database,
    formats: Formats,
) -> Result<redb::WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_two_phase_commit(true);
    write.set_durability(redb::Durability::Immediate)?;
    write.open_table(ABOUT)?.insert("format", formats.latest)?;
    Ok(write)
}

/// A copy of the file in memory, its pages and its format checked.
fn open_copy(path: &Path, mut bytes: Vec<u8>, formats: Formats) -> Result<Database, StoreError> {
    if let Some(what) = nothing_in(&bytes) {
        return Err(StoreError::damaged(path, what));
    }
    distrust(&mut bytes).map_err(|reason| StoreError::damaged(path, reason))?;
    let memory = InMemoryBackend::new();
    let loaded = memory
        .set_len(bytes.len() as u64)
        .and_then(|()| memory.write(0, &bytes));
    loaded.map_err(StoreError::io(path))?;
    drop(bytes);
    let opened = builder().create_with_backend(memory);
    let copy = opened.map_err(|error| failed(path, error))?;
    match format_of(&copy) {
        Ok(Some(format)) if (formats.first..=formats.latest).contains(&format) => Ok(copy),
        Ok(Some(format)) if format > formats.latest => Err(StoreError::TooNew {
            path: path.into(),
            format,
            known: formats.latest,
        }),
        Ok(format) => Err(StoreError::damaged(
            path,
            format_args!("its format is {format:?}"),
        )),
        Err(error) => Err(StoreError::unread(path, error)),
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Why a file cannot be a database, seen before redb sees it: it takes an empty file for a new database.
fn nothing_in(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("it is empty");
    }
    if bytes.len() < HEADER_BYTES {
        return Some("it is cut short");
    }
    bytes
        .iter()
        .all(|byte| *byte == 0)
        .then_some("it holds nothing but zeroes")
}

/// Makes redb look at every page of a copy.
///
/// A commit in two phases redb believes, the map of free pages included, and panics on a bad one. Without the mark of
/// such a commit it verifies all pages, the map's too, and makes the map anew; but then it may also take the other
/// slot, of a commit that was not finished or has been replaced, so that one is overwritten with the latest. What verifies
/// here may be opened as it is.
fn distrust(bytes: &mut [u8]) -> Result<(), &'static str> {
    let (header, _) = bytes
        .split_at_mut_checked(HEADER_BYTES)
        .ok_or("it is cut short")?;
    let marks = header.get_mut(MARKS_AT).ok_or("it is cut short")?;
    if *marks & TWO_PHASE_MARK == 0 {
        return Err("its latest commit is not one of ours");
    }
    let second = *marks & SECOND_SLOT_MARK != 0;
    *marks &= !TWO_PHASE_MARK;
    let slots = header
        .get_mut(SLOTS_AT..)
        .and_then(|slots| slots.split_at_mut_checked(SLOT_BYTES));
    match slots.ok_or("it is cut short")? {
        (other, latest) if second => other.copy_from_slice(latest),
        (latest, other) => other.copy_from_slice(latest),
    }
    Ok(())
}

fn format_of(database: &Database) -> Result<Option<u64>, redb::Error> {
    let read = database.begin_read()?;
    let about = match read.open_table(ABOUT) {
        Ok(about) => about,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let format = redb::ReadableTable::get(&about, "format")?.map(|format| format.value());
    Ok(format)
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn failed(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::in_use(path),
        DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != std::io::ErrorKind::InvalidData
                && source.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            StoreError::Io {
                path: path.into(),
                source,
            }
        }
        error => StoreError::unread(path, error),
    }
}
