//! What a guest has made of its volatile write cache, kept for the daemon's successor.
//!
//! A guest that has switched the cache off relies on every answered write being stable, and a front-end that
//! reconnects after a restart does not say it again. The state is a file beside the sockets: it outlives the daemon,
//! and need not outlive the machine, as no guest does.

use crate::own_file;
use palisade_sys::stable_file;
use palisade_words::Name;
use std::io;
use std::path::{Path, PathBuf};

/// Keeps the state. Written beside and renamed, so that a crash leaves the old state or the new one.
pub fn remember(run_dir: &Path, attachment: &Name, on: bool) -> io::Result<()> {
    let path = path(run_dir, attachment);
    let beside = path.with_extension("write-cache.new");
    stable_file::replace(&path, &beside, if on { b"on\n" } else { b"off\n" })
}

/// The state that was kept, if any.
pub fn recall(run_dir: &Path, attachment: &Name) -> Option<bool> {
    match own_file::read(&path(run_dir, attachment)) {
        Ok(state) if state.trim() == "on" => Some(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // "off", or damaged, or not to be read: the careful reading is that every write must be stable.
        _ => Some(false),
    }
}

/// Forgets the state of an attachment that is gone.
pub fn forget(run_dir: &Path, attachment: &Name) {
    // What cannot be removed is overwritten by the next attachment of the name that switches its cache.
    let _ = std::fs::remove_file(path(run_dir, attachment));
}

fn path(run_dir: &Path, attachment: &Name) -> PathBuf {
    run_dir.join(format!("{attachment}.write-cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept_until_forgotten_and_read_carefully() {
        let run_dir = tempfile::tempdir().unwrap();
        let name = Name::new("web1").unwrap();
        assert_eq!(recall(run_dir.path(), &name), None);
        remember(run_dir.path(), &name, false).unwrap();
        assert_eq!(recall(run_dir.path(), &name), Some(false));
        remember(run_dir.path(), &name, true).unwrap();
        assert_eq!(recall(run_dir.path(), &name), Some(true));
        std::fs::write(path(run_dir.path(), &name), "o").unwrap();
        assert_eq!(recall(run_dir.path(), &name), Some(false));
        forget(run_dir.path(), &name);
        assert_eq!(recall(run_dir.path(), &name), None);
        std::fs::create_dir(path(run_dir.path(), &name)).unwrap();
        assert_eq!(recall(run_dir.path(), &name), Some(false), "it cannot be read");
        std::fs::remove_dir(path(run_dir.path(), &name)).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(path(run_dir.path(), &name))
            .status();
        assert!(made.unwrap().success());
        assert_eq!(
            recall(run_dir.path(), &name),
            Some(false),
            "nobody waits for its other end"
        );
    }
}
