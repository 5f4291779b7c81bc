//! What a path leads to: found, asked what it is, and opened as the very thing that was asked.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What a path leads to, held fast without being opened: to open a tape rewinds it, to open a terminal may hang up a
/// line, and to open a FIFO waits for its other end. So the kind is asked for first, and then the very thing that was
/// asked is opened, whatever the path leads to by then.
pub(super) struct Place {
    held: File,
    made: bool,
}

impl Place {
    /// Finds it; a file is made, empty, if `create` is set and nothing is there.
    pub(super) fn find(path: &Path, create: bool) -> io::Result<Place> {
        let look = || {
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_PATH)
                .open(path)
        };
        match look() {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                let made = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path);
                match made {
                    Ok(held) => Ok(Place { held, made: true }),
                    // Somebody was faster; or it is a link that leads nowhere, through which nothing is made.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Place {
                        held: look()?,
                        made: false,
                    }),
                    Err(error) => Err(error),
                }
            }
            found => Ok(Place {
                held: found?,
                made: false,
            }),
        }
    }

    pub(super) fn kind(&self) -> io::Result<fs::FileType> {
        Ok(self.about()?.file_type())
    }

    pub(super) fn about(&self) -> io::Result<fs::Metadata> {
        self.held.metadata()
    }

    /// Opens it. Where the file system refuses O_DIRECT (EINVAL) without it; true for that.
    pub(super) fn open(&self, read_only: bool, flags: i32) -> io::Result<(File, bool)> {
        // proc(5): opening the link opens the file that the descriptor holds, not the path anew.
        let link = format!("/proc/self/fd/{}", self.held.as_raw_fd());
        let with = |flags| {
            OpenOptions::new()
                .read(true)
                .write(!read_only)
                .custom_flags(flags | libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(&link)
        };
        match with(flags) {
            Err(error) if flags & libc::O_DIRECT != 0 && error.raw_os_error() == Some(libc::EINVAL) => {
                Ok((with(flags & !libc::O_DIRECT)?, true))
            }
            other => Ok((other?, false)),
        }
    }

    /// Takes back what the filling of a file has left that did not come to its end. One that was there before is as
    /// empty as it was.
    pub(super) fn undo(&self, file: &File, path: &Path) {
        if !self.made {
            let _ = file.set_len(0);
            return;
        }
        let is_ours = |meta: fs::Metadata| {
            file.metadata()
                .is_ok_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino()))
        };
        if fs::symlink_metadata(path).is_ok_and(is_ours) {
            let _ = fs::remove_file(path);
        }
    }
}

/// The kind of what was found, to follow "it is".
pub(super) fn what_it_is(kind: &fs::FileType) -> &'static str {
    if kind.is_file() {
        "a regular file"
    } else if kind.is_block_device() {
        "a block device"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_dir() {
        "a directory"
    } else {
        "of an unknown kind"
    }
}
