//! The socket a virtual machine connects to, as a file: it appears with its owner and mode already set, listening,
//! and it goes when the attachment goes. What other processes have put in its place is never touched.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Connections the kernel keeps waiting while one is being served. A front-end that reconnects may be back before
/// its old connection has been torn down.
const BACKLOG: i32 = 4;

/// The name under which the socket is prepared, beside its place.
const NEW_SUFFIX: &str = ".new";

/// Who may connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketOwner {
    /// Numeric user; `None` leaves the daemon's own.
    pub user: Option<u32>,
    /// Numeric group; `None` leaves the daemon's own.
    pub group: Option<u32>,
    /// Permission bits. Connecting needs write permission.
    pub mode: u32,
}

/// Why a socket could not be put in its place.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path does not fit a socket address (107 bytes, with the suffix of the temporary name).
    #[error("socket path {path} is too long, at most 103 bytes fit")]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// Something that is not a socket is there.
    #[error("{path} exists and is not a socket; remove it or choose another path")]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// Some process listens there.
    #[error("another process listens on {path}; stop it or choose another path")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// A step failed.
    #[error("socket {path}: cannot {step}: {source}")]
    Step {
        /// The path.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Which file a socket's is: device and inode.
pub type SocketInode = (u64, u64);

/// A listening socket and its file. Dropping it takes the file away, if it still is ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: Option<SocketInode>,
}

impl SocketFile {
    /// Which file it is.
    pub(crate) fn inode(&self) -> Option<SocketInode> {
        self.inode
    }

    /// Where it is, and which file.
    pub(crate) fn place(&self) -> (PathBuf, Option<SocketInode>) {
        (self.path.clone(), self.inode)
    }

    /// Prepares a socket beside `path`, sets who may connect, listens, and only then moves it into place. A socket
    /// left behind by a process that is gone is replaced.
    pub(crate) fn bind(path: &Path, owner: SocketOwner) -> Result<(SocketFile, UnixListener), BindError> {
        let step = |step| {
            move |source: io::Error| BindError::Step {
                path: path.to_owned(),
                step,
                source,
            }
        };
        refuse_if_alive(path)?;
        let mut new = path.as_os_str().to_owned();
        new.push(NEW_SUFFIX);
        let new = PathBuf::from(new);
        let address = SocketAddrUnix::new(&new).map_err(|_| BindError::PathTooLong {
            path: path.to_owned(),
        })?;
        match std::fs::symlink_metadata(&new) {
            Ok(found) if found.file_type().is_socket() => {
                std::fs::remove_file(&new).map_err(step("remove the old temporary name"))?
            }
            Ok(_) => return Err(BindError::Occupied { path: new }),
            Err(_) => {}
        }
        let socket = stream_socket().map_err(step("make the socket"))?;
        rustix::net::bind(&socket, &address).map_err(|errno| step("bind")(errno.into()))?;
        let listener = prepare(&new, path, owner, socket).inspect_err(|_| {
            // The name is ours: it was free a moment ago and we have just made it.
            let _ = std::fs::remove_file(&new);
        })?;
        let inode = std::fs::symlink_metadata(path)
            .ok()
            .map(|at| (at.dev(), at.ino()));
        Ok((
            SocketFile {
                path: path.to_owned(),
                inode,
            },
            listener,
        ))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = std::fs::symlink_metadata(&self.path)
            .ok()
            .map(|at| (at.dev(), at.ino()));
        if now.is_some()
            && now == self.inode
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            log::warn!("socket={} left behind, error={error}", self.path.display());
        }
    }
}

/// Changes who may connect to the socket of this inode. What others have put in its place, and its absence, is left as it is.
pub(crate) fn change_owner(path: &Path, inode: Option<SocketInode>, owner: SocketOwner) -> io::Result<()> {
    let now = std::fs::symlink_metadata(path).ok();
    match now.map(|at| (at.dev(), at.ino())) {
        Some(now) if Some(now) == inode => set_owner(path, owner).map_err(|(_, error)| error),
        _ => Ok(()),
    }
}

/// Takes away a socket that a process which is gone has left behind. What somebody listens on, or has bound and does not
/// listen on yet, stays, and so does what is no socket.
///
/// # Errors
/// It cannot be taken away, or it cannot be told whose it is.
pub fn remove_dead(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        _ => return Ok(false),
    }
    // One that is not listened on yet refuses connections as a dead one does.
    let bound = std::fs::read_to_string("/proc/self/net/unix")?;
    let shown = path.to_string_lossy();
    let is_bound = bound.lines().any(|line| line.ends_with(&*shown));
    if is_bound || refuse_if_alive(path).is_err() {
        return Ok(false);
    }
    std::fs::remove_file(path)?;
    Ok(true)
}

/// Owner first, then mode (a change of owner clears bits), then ears, then the name.
fn prepare(new: &Path, path: &Path, owner: SocketOwner, socket: OwnedFd) -> Result<UnixListener, BindError> {
    let step = |step| {
        move |source: io::Error| BindError::Step {
            path: path.to_owned(),
            step,
            source,
        }
    };
    set_owner(new, owner).map_err(|(what, error)| step(what)(error))?;
    rustix::net::listen(&socket, BACKLOG).map_err(|errno| step("listen")(errno.into()))?;
    std::fs::rename(new, path).map_err(step("move the socket into place"))?;
    Ok(UnixListener::from(socket))
}

/// Owner and group, then the mode; with the step that failed.
fn set_owner(path: &Path, owner: SocketOwner) -> Result<(), (&'static str, io::Error)> {
    if owner.user.is_some() || owner.group.is_some() {
        let both = std::os::unix::fs::chown(path, owner.user, owner.group);
        both.map_err(|error| ("set owner and group", error))?;
    }
    let mode = std::fs::Permissions::from_mode(owner.mode & 0o777);
    std::fs::set_permissions(path, mode).map_err(|error| ("set the mode", error))
}

/// Fails when something that is not a dead socket is in the place.
fn refuse_if_alive(path: &Path) -> Result<(), BindError> {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(BindError::Occupied {
            path: path.to_owned(),
        });
    }
    let address = SocketAddrUnix::new(path).map_err(|_| BindError::PathTooLong {
        path: path.to_owned(),
    })?;
    let step = |source| BindError::Step {
        path: path.to_owned(),
        step: "ask who listens there",
        source,
    };
    let socket = stream_socket().map_err(step)?;
    match rustix::net::connect(&socket, &address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // A full backlog is a listener too.
        Ok(()) | Err(Errno::AGAIN) => Err(BindError::InUse {
            path: path.to_owned(),
        }),
        Err(errno) => Err(step(errno.into())),
    }
}

/// A non-blocking stream socket.
fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const OWNER: SocketOwner = SocketOwner {
        user: None,
        group: None,
        mode: 0o640,
    };

    #[test]
    fn it_appears_listening_with_its_mode_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm.sock");
        let (file, _listener) = SocketFile::bind(&path, OWNER).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        UnixStream::connect(&path).unwrap();
        assert!(matches!(
            SocketFile::bind(&path, OWNER),
            Err(BindError::InUse { .. })
        ));
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_successor_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm.sock");
        let (first, listener) = SocketFile::bind(&path, OWNER).unwrap();
        drop(listener);
        let (_second, _listener) = SocketFile::bind(&path, OWNER).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn only_a_dead_socket_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm.sock");
        assert!(!remove_dead(&path).unwrap(), "there is none");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(!remove_dead(&path).unwrap(), "somebody listens");
        drop(listener);
        assert!(remove_dead(&path).unwrap() && !path.exists());
        let bound = stream_socket().unwrap();
        rustix::net::bind(&bound, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        assert!(!remove_dead(&path).unwrap(), "its owner is about to listen");
        drop(bound);
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        assert!(!remove_dead(&folder.path().join("link")).unwrap());
        std::fs::write(folder.path().join("file"), b"data").unwrap();
        assert!(!remove_dead(&folder.path().join("file")).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_and_a_long_path_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, b"data").unwrap();
        assert!(matches!(
            SocketFile::bind(&path, OWNER),
            Err(BindError::Occupied { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
        let long = folder.path().join("x".repeat(120));
        assert!(matches!(
            SocketFile::bind(&long, OWNER),
            Err(BindError::PathTooLong { .. })
        ));
    }
}
