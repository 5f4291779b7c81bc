//! A file that is replaced as a whole: written beside, made stable, and renamed, so that a crash leaves the old content or the
//! new one, and never a part.
//!
//! Nobody but their owner may open such files. One file beside must have one writer: two that write it at once would mix what
//! they write.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts `bytes` in the place of what `path` holds, on stable storage when this returns. Nothing is made above it.
///
/// # Errors
/// What the file system says; what was there before is there then, and nothing beside it.
pub fn replace(path: &Path, beside: &Path, bytes: &[u8]) -> io::Result<()> {
    write_beside(beside, bytes)?;
    put_in_place(beside, path).inspect_err(|_| drop(fs::remove_file(beside)))
}

/// The first half of it: writes a file that is to come into another's place. What a crash has left there is no longer there.
///
/// # Errors
/// What the file system says; nothing is left of it then.
pub fn write_beside(beside: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(beside)))
}

/// The second half: renames a file that is on stable storage, and makes that stable too.
///
/// # Errors
/// What the file system says.
pub fn put_in_place(beside: &Path, path: &Path) -> io::Result<()> {
    fs::rename(beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_what_cannot_be_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let (path, beside) = (folder.path().join("one"), folder.path().join("one.new"));
        // As a crash has left it, and readable by everybody.
        fs::write(&beside, "a longer half of somethi").unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, &beside, b"first\n").unwrap();
        replace(&path, &beside, b"2\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!beside.exists());
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("below")).unwrap();
        assert!(replace(&taken, &beside, b"3\n").is_err());
        assert!(!beside.exists());
        let missing = folder.path().join("none/one");
        let refused = replace(&missing, &folder.path().join("none/new"), b"4\n");
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
