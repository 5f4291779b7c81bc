//! An established connection, and how its socket is set up for the ring.
//!
//! Sizes of the kernel's buffers are left alone: TCP grows them with the way's bandwidth and delay as far as `net.ipv4.tcp_rmem`
//! and `tcp_wmem` allow, and a size that is asked for ends that, and is cut to `net.core.rmem_max` (208 KiB where nobody has
//! raised it). Asked for on one machine, 208 KiB made no difference that `examples/echo.rs` could show (processor time of a trip
//! of 4 KiB, one and 32 at once, and of 128 KiB: 12.9, 2.2 and 52.8 us, beside 13.2, 2.5 and 57.2 without); between machines it
//! would bound what is on its way.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// After so long without an acknowledgement the kernel gives a connection up (TCP_USER_TIMEOUT), in milliseconds. Sessions find
/// out much sooner that nobody is there; this is for what a closed connection still has to send to a node that is gone, which
/// would otherwise be tried for a quarter of an hour.
const UNACKNOWLEDGED_MS_MAX: libc::c_uint = 5000;

/// Frames of one connection that may wait to be sent, unless it is said otherwise: as many of the smallest ones as a session
/// with default settings has given to a link and not transmitted (256 KiB), and as many control frames again as there are
/// messages.
const QUEUED_FRAMES: u16 = 5120;

/// An established connection, authenticated by whoever has made it, to be driven by a reactor's ring: a TCP or Unix stream
/// socket. A socket with kernel TLS is one, too, once its handshake is over.
#[derive(Debug)]
pub struct SocketConnection {
    pub(super) socket: OwnedFd,
    /// What was read from it before it came here.
    pub(super) read: Vec<u8>,
    pub(super) queued_frames: u16,
}

impl SocketConnection {
    /// Of a connected socket.
    pub fn new(socket: impl Into<OwnedFd>) -> SocketConnection {
        SocketConnection {
            socket: socket.into(),
            read: Vec::new(),
            queued_frames: QUEUED_FRAMES,
        }
    }

    /// With bytes that were read from it already: they are taken for the first that arrive. At most
    /// [`RECEIVED_BYTES_MAX`](super::RECEIVED_BYTES_MAX) of them.
    pub fn with_read(mut self, bytes: Vec<u8>) -> SocketConnection {
        self.read = bytes;
        self
    }

    /// With places for so many frames that wait to be sent, at least one. A frame more than that breaks the connection
    /// (ENOBUFS): its session then sends all of them again by others.
    pub fn with_queued_frames(mut self, frames: u16) -> SocketConnection {
        self.queued_frames = frames.max(1);
        self
    }
}

/// Sets a socket up.
///
/// # Errors
/// `InvalidInput` when it is no stream; what getsockopt(2) and setsockopt(2) say.
pub(super) fn set_up(socket: &OwnedFd) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    if option(fd, libc::SO_TYPE)? != libc::SOCK_STREAM {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // With O_NONBLOCK the ring answers EAGAIN instead of waiting for the socket.
    rustix::io::ioctl_fionbio(socket, false)?;
    // So that closing waits for nothing: what was sent goes on in the background.
    let no_lingering = libc::linger {
        l_onoff: 0,
        l_linger: 0,
    };
    set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, &no_lingering)?;
    if matches!(option(fd, libc::SO_DOMAIN)?, libc::AF_INET | libc::AF_INET6) {
        // A frame is given to the kernel whole: it is not to wait for the next one.
        let on: libc::c_int = 1;
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &on)?;
        set_option(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_USER_TIMEOUT,
            &UNACKNOWLEDGED_MS_MAX,
        )?;
    }
    Ok(())
}

fn option(fd: RawFd, name: libc::c_int) -> io::Result<libc::c_int> {
    let (mut value, mut bytes) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: both pointers are to values of ours, and `bytes` is the size of the first.
    let got = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut bytes,
        )
    };
    match got {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let (pointer, bytes) = ((value as *const T).cast(), size_of_val(value) as libc::socklen_t);
    // SAFETY: the pointer is to a value of ours that is so long and that the kernel only reads.
    let set = unsafe { libc::setsockopt(fd, level, name, pointer, bytes) };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
