//! Files of a line or two that a daemon has written for its successor. Whatever has come into their place since, the
//! start neither reads for ever nor takes all memory.

use palisade_sys::stable_file;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Longest such file that is read; the longest that is written is a fraction of it.
const BYTES_MAX: u64 = 1 << 20;

/// Reads one.
///
/// # Errors
/// What the file system says, or that it is longer than any of ours, or no file: to open a FIFO waits for its other end.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let read = File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    match read as u64 > BYTES_MAX {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is longer than anything that is kept there",
        )),
        false => Ok(text),
    }
}

/// What keeps one from being read or written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Obstacle {
    /// What it is, as a clause.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// What is in the way of one that cannot be read or written: something else in the place of its folder or of itself is told as
/// that, because it says nothing of what was kept there.
pub fn obstacle(folder: &Path, path: &Path, error: &io::Error) -> Obstacle {
    let (at, should) = match (is_no_folder(folder), fs::metadata(path)) {
        (true, _) => (folder, "a folder"),
        (false, Ok(there)) if !there.is_file() => (path, "a file"),
        _ => {
            return Obstacle {
                what: format!("{} cannot be read or written: {error}", path.display()),
                remedy: format!("see that the daemon may read and write {}", folder.display()),
            };
        }
    };
    let at = at.display();
    Obstacle {
        what: format!(
            "what lies at {at} is not {should}, as the one in which this daemon keeps what it last saw of its media"
        ),
        remedy: format!(
            "put back what was at {at}; or, if that is gone, move away what is in its place now (mv {at} {at}.aside): it is made \
             anew by itself, and no data of a disk is touched by that"
        ),
    }
}

/// Whether something that is no folder is in the place of one.
pub fn is_no_folder(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|there| !there.is_dir())
}

/// Writes a line in the place of what a file holds, stable when this returns; its folder is made if there is none, and nothing
/// above it: a state directory that somebody has deleted or moved is not made anew by the way. It is written `beside` and
/// renamed, so that a crash leaves the old one or the new one.
///
/// # Errors
/// What the file system says.
pub fn replace(folder: &Path, path: &Path, beside: &Path, line: &str) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    stable_file::replace(path, beside, format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_and_nothing_above_it() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("state/media");
        let keep = || replace(&folder, &folder.join("one"), &folder.join("new"), "a line");
        assert_eq!(keep().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!state.path().join("state").exists());
        fs::create_dir(state.path().join("state")).unwrap();
        keep().unwrap();
        keep().unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        std::fs::write(&path, "a line\n").unwrap();
        assert_eq!(read(&path).unwrap(), "a line\n");
        let endless = read(Path::new("/dev/zero")).unwrap_err();
        assert!(endless.to_string().contains("no file"), "{endless}");
        File::create(&path).unwrap().set_len(BYTES_MAX + 1).unwrap();
        let long = read(&path).unwrap_err();
        assert!(long.to_string().contains("longer"), "{long}");
        let missing = read(&folder.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
