//! Where one file of a database lies: in a directory, or on a medium of the simulator.

use crate::private;
use palisade_sys::stable_file;
use redb::backends::InMemoryBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One file of a database.
pub trait DatabaseFile: fmt::Debug {
    /// Its name, for whoever has to look after it.
    fn path(&self) -> &Path;

    /// Whether it is there.
    fn exists(&self) -> bool;

    /// All that is in it.
    ///
    /// # Errors
    /// What the file system says, also when it is not there.
    fn read(&self) -> io::Result<Vec<u8>>;

    /// Opens it for reading and writing, and keeps others from doing so. It must be there.
    ///
    /// # Errors
    /// What the database library says.
    fn open(&self, builder: Builder) -> Result<Database, DatabaseError>;

    /// Puts `bytes` in the place of what is there: after a crash the one is there or the other. On stable storage when it
    /// returns.
    ///
    /// # Errors
    /// What the file system says; what was there before is there then.
    fn replace(&self, bytes: &[u8]) -> io::Result<()>;
}

/// A file in a directory, which nobody but its owner may open.
#[derive(Clone, Debug)]
pub struct InDirectory {
    path: PathBuf,
}

impl InDirectory {
    /// The file of a path. The directory must be there, the file need not.
    pub fn at(path: impl Into<PathBuf>) -> InDirectory {
        InDirectory { path: path.into() }
    }
}

impl DatabaseFile for InDirectory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn exists(&self) -> bool {
        self.path.exists()
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        fs::read(&self.path)
    }

    fn open(&self, builder: Builder) -> Result<Database, DatabaseError> {
        private::close(&self.path).map_err(|error| DatabaseError::Storage(error.into()))?;
        builder.open(&self.path)
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let mut beside = self.path.as_os_str().to_owned();
        beside.push(".new");
        stable_file::replace(&self.path, Path::new(&beside), bytes)
    }
}

/// A database in memory whose bytes can be had once it is closed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<InMemoryBackend>);

impl Shared {
    pub(crate) fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.0.len()?).map_err(io::Error::other)?];
        self.0.read(0, &mut bytes)?;
        Ok(bytes)
    }
}

impl StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
