//! Whether the files of a database are still where they were opened: a database whose files were deleted or moved goes on to
//! take changes, and all of them are gone at the next start.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The lock of the directory.
pub(crate) const LOCK: &str = "lock";
/// The log of commands.
pub(crate) const LOG: &str = "log.redb";
/// The state that they have led to.
pub(crate) const STATE: &str = "state.redb";

const FILES: [&str; 3] = [LOCK, LOG, STATE];

/// By which a file is known: its device and inode.
type File = (u64, u64);

/// The files of a database, each as it was when it was opened or made.
#[derive(Debug)]
pub(crate) struct Places {
    directory: PathBuf,
    /// Whose the directory is and what others may do in it: mode, user, group.
    rights: (u32, u32, u32),
    files: [Option<File>; 3],
}

/// What is not where it was.
#[derive(Debug)]
pub(crate) struct Misplaced {
    directory: PathBuf,
    directory_gone: bool,
    /// Files that are not there.
    missing: Vec<&'static str>,
    /// Files in whose place others are, or that cannot be looked at.
    strange: Vec<String>,
}

impl Places {
    /// Of a database that has just been opened.
    pub(crate) fn of(directory: &Path) -> io::Result<Places> {
        let about = fs::metadata(directory)?;
        let mut places = Places {
            directory: directory.to_owned(),
            rights: (about.mode() & 0o7777, about.uid(), about.gid()),
            files: [None; 3],
        };
        places.renew()?;
        Ok(places)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// Gives a directory that somebody has made anew the rights and the owner of the one that was opened.
    pub(crate) fn restore_rights(&self) -> io::Result<()> {
        let about = fs::metadata(&self.directory)?;
        let (mode, user, group) = self.rights;
        if (about.uid(), about.gid()) != (user, group) {
            chown(&self.directory, Some(user), Some(group))?;
        }
        match about.mode() & 0o7777 == mode {
            true => Ok(()),
            false => fs::set_permissions(&self.directory, Permissions::from_mode(mode)),
        }
    }

    /// Takes what is there now for ours. One that is not there stays missing.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        for (file, known) in FILES.iter().zip(&mut self.files) {
            match fs::symlink_metadata(self.directory.join(file)) {
                Ok(about) => *known = Some((about.dev(), about.ino())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => *known = None,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether all are where they were.
    pub(crate) fn look(&self) -> Result<(), Misplaced> {
        let mut wrong = Misplaced {
            directory: self.directory.clone(),
            directory_gone: false,
            missing: Vec::new(),
            strange: Vec::new(),
        };
        for (file, known) in FILES.iter().zip(&self.files) {
            match fs::symlink_metadata(self.directory.join(file)) {
                Ok(about) if Some((about.dev(), about.ino())) == *known => {}
                Ok(_) => wrong
                    .strange
                    .push(format!("{file} is another file than the daemon's")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => wrong.missing.push(*file),
                Err(error) => wrong
                    .strange
                    .push(format!("{file} cannot be looked at ({error})")),
            }
        }
        if wrong.missing.is_empty() && wrong.strange.is_empty() {
            return Ok(());
        }
        wrong.directory_gone = !self.directory.is_dir();
        Err(wrong)
    }
}

impl Misplaced {
    /// Whether a file is not there.
    pub(crate) fn lacks(&self, file: &str) -> bool {
        self.missing.contains(&file)
    }

    /// Whether files are missing and nothing else is the matter.
    pub(crate) fn can_be_mended(&self) -> bool {
        !self.directory_gone && self.strange.is_empty()
    }
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.display();
        if self.directory_gone {
            return write!(
                f,
                "the state directory {directory} has been deleted or moved away"
            );
        }
        write!(f, "in the state directory {directory} ")?;
        let missing = match self.missing.as_slice() {
            [] => None,
            [one] => Some(format!("{one} has been deleted or moved away")),
            several => Some(format!("{} have been deleted or moved away", several.join(", "))),
        };
        let all: Vec<String> = missing.into_iter().chain(self.strange.iter().cloned()).collect();
        f.write_str(&all.join("; "))
    }
}
