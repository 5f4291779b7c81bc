//! Who is at the other end of a Unix socket, as the kernel says it: nothing that the other end could claim.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The process that connected, as it was at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user.
    pub user: u32,
    /// Its effective group.
    pub group: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Of the connected stream socket `socket` (unix(7): SO_PEERCRED and SO_PEERGROUPS).
    ///
    /// # Errors
    /// What getsockopt(2) says: it is no connected Unix socket.
    pub fn of(socket: BorrowedFd<'_>) -> io::Result<Peer> {
        let mut credentials = [libc::ucred {
            pid: 0,
            uid: 0,
            gid: 0,
        }];
        option(socket, libc::SO_PEERCRED, &mut credentials)?;
        let [credentials] = credentials;
        Ok(Peer {
            user: credentials.uid,
            group: credentials.gid,
            groups: groups(socket)?,
        })
    }

    /// Whether the process belongs to a group.
    pub fn is_in(&self, group: u32) -> bool {
        self.group == group || self.groups.contains(&group)
    }
}

/// linux/socket.h of Linux 6.16, not in libc yet.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Has the kernel refuse descriptors (SCM_RIGHTS) that somebody sends to a Unix socket, or to whatever a listening one will
/// accept. Whoever reads a message or closes the socket lets go of them, and that can take long: a TCP socket that lingers
/// waits for its peer.
///
/// # Errors
/// `Unsupported` before Linux 6.16; what setsockopt(2) says.
pub fn refuse_descriptors(socket: BorrowedFd<'_>) -> io::Result<()> {
    let off: libc::c_int = 0;
    // SAFETY: the descriptor is open for the length of the borrow, and the kernel reads one integer of ours.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            mem::size_of_val(&off) as libc::socklen_t,
        )
    };
    match done {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            error => Err(error),
        },
    }
}

/// A process may have 65536 supplementary groups; the kernel says how many when there is too little room.
fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut room = vec![0_u32; 64];
    loop {
        match option(socket, libc::SO_PEERGROUPS, &mut room) {
            Ok(bytes) => {
                room.truncate(bytes / mem::size_of::<u32>());
                return Ok(room);
            }
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && room.len() < 1 << 16 => {
                room.resize(room.len() * 4, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads an option of the socket level into `room` and says how many bytes it has.
fn option<T: Copy>(socket: BorrowedFd<'_>, name: libc::c_int, room: &mut [T]) -> io::Result<usize> {
    let mut bytes = mem::size_of_val(room) as libc::socklen_t;
    // SAFETY: the descriptor is open for the length of the borrow; the kernel writes at most `bytes` bytes into `room`,
    // which is ours and that long, and both callers' elements (ucred, u32) take every value of their bytes.
    let told = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            room.as_mut_ptr().cast(),
            &mut bytes,
        )
    };
    match told {
        0 => Ok(bytes as usize),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_other_end_is_this_process() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = Peer::of(here.as_fd()).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| -> Vec<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace()
                .map(|word| word.parse().unwrap())
                .collect()
        };
        assert_eq!((peer.user, peer.group), (field("Uid:")[1], field("Gid:")[1]));
        assert_eq!(peer.groups, field("Groups:"));
        assert!(peer.is_in(peer.group) && !peer.is_in(u32::MAX));
    }

    #[test]
    fn descriptors_are_refused_to_their_sender_before_anybody_accepts() {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        match refuse_descriptors(listener.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return,
            other => other.unwrap(),
        }
        let client = UnixStream::connect(&path).unwrap();
        let send = |fds: &[BorrowedFd<'_>]| {
            let mut space = [mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() {
                assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
            }
            let bytes = [io::IoSlice::new(b"x")];
            sendmsg(&client, &bytes, &mut control, SendFlags::NOSIGNAL)
        };
        assert_eq!(send(&[listener.as_fd()]), Err(rustix::io::Errno::PERM));
        assert_eq!(send(&[]), Ok(1));
    }

    #[test]
    fn what_is_no_socket_has_no_peer() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Peer::of(file.as_fd()).is_err());
    }
}
