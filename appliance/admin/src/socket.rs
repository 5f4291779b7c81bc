//! The Unix socket by which this machine's operators come in: its file, and who a connection is.

use crate::config::{AdminStartError, SocketDoor};
use crate::keys::Role;
use crate::limits::SOCKET_ANSWER_WAIT;
use palisade_sys::peer::Peer;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A listening socket and its file. Dropping it takes the file away, if it still is ours.
#[derive(Debug)]
pub(crate) struct Listening {
    path: PathBuf,
    inode: (u64, u64),
}

/// What is where the socket ought to be.
#[derive(Debug)]
pub(crate) enum Place {
    /// The socket that clients are taken from.
    Ours,
    /// Nothing.
    Empty,
    /// A socket of somebody else.
    AnotherSocket,
    /// Something that is no socket.
    Other,
    /// It cannot be looked at.
    Unknown(io::Error),
}

impl Listening {
    /// What is in the socket's place now.
    pub(crate) fn place(&self) -> Place {
        match std::fs::symlink_metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.inode => Place::Ours,
            Ok(found) if found.file_type().is_socket() => Place::AnotherSocket,
            Ok(_) => Place::Other,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Place::Empty,
            Err(error) => Place::Unknown(error),
        }
    }
}

/// Prepares a socket beside its place, sets who may connect, and moves it into its place.
pub(crate) fn bind(door: &SocketDoor) -> Result<(Listening, UnixListener), AdminStartError> {
    let path = &door.path;
    let failed = |step| {
        move |source: io::Error| AdminStartError::Socket {
            path: path.clone(),
            step,
            source,
        }
    };
    refuse_if_answered(path)?;
    let new = path.with_added_extension("new");
    match std::fs::symlink_metadata(&new) {
        Ok(found) if found.file_type().is_socket() => {
            std::fs::remove_file(&new).map_err(failed("remove the old temporary name"))?
        }
        Ok(_) => {
            let source = io::Error::other(format!("{} is in the way and is no socket", new.display()));
            return Err(failed("prepare it")(source));
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(&new).map_err(failed("make it"))?;
    // A client that is nobody yet could keep a thread of the server waiting in the closing of what it sends. Before Linux
    // 6.16 the kernel cannot be told; there, who may knock is all that stands in its way.
    if let Err(error) = palisade_sys::peer::refuse_descriptors(listener.as_fd())
        && error.kind() != io::ErrorKind::Unsupported
    {
        let _ = std::fs::remove_file(&new);
        return Err(failed("have descriptors refused on it")(error));
    }
    let place = || {
        // Those who may not come in need not even knock. Each who knocks is asked for anyway.
        let (group, mode) = match (door.admin_group, door.read_group) {
            (None, None) => (None, 0o600),
            (Some(group), None) | (None, Some(group)) => (Some(group), 0o660),
            (Some(_), Some(_)) => (None, 0o666),
        };
        if group.is_some() {
            std::os::unix::fs::chown(&new, None, group).map_err(failed("set its group"))?;
        }
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode))
            .map_err(failed("set its mode"))?;
        listener
            .set_nonblocking(true)
            .map_err(failed("listen without blocking"))?;
        let about = std::fs::symlink_metadata(&new).map_err(failed("look at it"))?;
        std::fs::rename(&new, path).map_err(failed("move it into place"))?;
        Ok((about.dev(), about.ino()))
    };
    let inode = place().inspect_err(|_| {
        // The name is ours: it was free a moment ago and we have just made it.
        let _ = std::fs::remove_file(&new);
    })?;
    let file = Listening {
        path: path.clone(),
        inode,
    };
    Ok((file, listener))
}

impl Drop for Listening {
    fn drop(&mut self) {
        let now = std::fs::symlink_metadata(&self.path).map(|about| (about.dev(), about.ino()));
        if now.is_ok_and(|now| now == self.inode)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            log::warn!("socket={} left behind, error={error}", self.path.display());
        }
    }
}

/// Fails when something that is no socket is in the place, or somebody answers there. A daemon that was killed and waits
/// in the kernel for a device that hangs still holds its socket, but answers no more.
fn refuse_if_answered(path: &Path) -> Result<(), AdminStartError> {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(AdminStartError::Socket {
            path: path.to_owned(),
            step: "take its place",
            source: io::Error::other("something that is no socket is there"),
        });
    }
    let ask = || -> io::Result<usize> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(SOCKET_ANSWER_WAIT))?;
        stream.set_write_timeout(Some(SOCKET_ANSWER_WAIT))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        stream.read(&mut [0; 64])
    };
    match ask() {
        Ok(1..) => Err(AdminStartError::SocketInUse {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

impl SocketDoor {
    /// Who has connected and how far he may go; nothing for who may not come in at all.
    pub(crate) fn judge(&self, stream: &impl AsFd) -> io::Result<(u32, Option<Role>)> {
        let peer = Peer::of(stream.as_fd())?;
        let own = std::fs::metadata("/proc/self").map(|about| about.uid());
        let is_in = |group: Option<u32>| group.is_some_and(|group| peer.is_in(group));
        let role = if peer.user == 0 || own.is_ok_and(|own| own == peer.user) || is_in(self.admin_group) {
            Some(Role::Admin)
        } else {
            is_in(self.read_group).then_some(Role::Read)
        };
        Ok((peer.user, role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(folder: &Path) -> SocketDoor {
        SocketDoor {
            path: folder.join("api.socket"),
            admin_group: None,
            read_group: None,
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_appears_with_its_mode_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut door = door(folder.path());
        let (file, _listener) = bind(&door).unwrap();
        assert_eq!(mode(&door.path), 0o600);
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let own = std::fs::metadata("/proc/self").unwrap().gid();
        door.admin_group = Some(own);
        let (_file, _listener) = bind(&door).unwrap();
        assert_eq!(mode(&door.path), 0o660);
    }

    #[test]
    fn a_socket_that_nobody_answers_on_is_replaced_and_a_successor_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let door = door(folder.path());
        // It listens and never answers, as a process does that was killed and waits in the kernel.
        let (first, _silent) = bind(&door).unwrap();
        let (_second, _listener) = bind(&door).unwrap();
        drop(first);
        UnixStream::connect(&door.path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let door = door(folder.path());
        std::fs::write(&door.path, b"data").unwrap();
        let error = bind(&door).unwrap_err();
        assert!(error.to_string().contains("no socket is there"), "{error}");
        assert_eq!(std::fs::read(&door.path).unwrap(), b"data");
    }

    #[test]
    fn the_kernel_tells_who_has_connected() {
        let folder = tempfile::tempdir().unwrap();
        let (here, _there) = UnixStream::pair().unwrap();
        let own = std::fs::metadata("/proc/self").unwrap().uid();
        let judged = door(folder.path()).judge(&here).unwrap();
        assert_eq!(judged, (own, Some(Role::Admin)));
    }
}
