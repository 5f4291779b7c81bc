//! Files that nobody but their owner may open, wherever they lie and whatever the umask says: who can read a file can lock
//! it, and a database that somebody else has locked does not start.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Read and write for the owner.
const MODE: u32 = 0o600;

/// Opens a file for reading and writing, which is made if it is not there.
///
/// # Errors
/// What the file system says.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    options.mode(MODE).open(path)
}

/// Closes a file that an earlier version has made to everybody but its owner.
///
/// # Errors
/// What the file system says.
pub(crate) fn close(path: &Path) -> io::Result<()> {
    match fs::metadata(path)?.mode() & 0o077 {
        0 => Ok(()),
        _ => fs::set_permissions(path, Permissions::from_mode(MODE)),
    }
}
