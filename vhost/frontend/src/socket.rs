//! A UNIX stream with file descriptors beside the bytes (SCM_RIGHTS), never blocking.

use crate::codec::FDS_MAX;
use crate::shortage;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// What one attempt to read gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes, not zero.
    Bytes(usize),
    /// Nothing now.
    Later,
    /// The peer has closed its end.
    Closed,
    /// More file descriptors came than fit; the kernel has closed those that did not.
    TooManyFds,
    /// File descriptors came, and this process has as many open as it may; the kernel has closed them.
    NoRoomForFds,
}

/// Reads into `buffer` (not empty) and puts file descriptors that came along into `fds`, which never gets longer
/// than [`FDS_MAX`].
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Received::Later),
            // A peer that went away with bytes of ours unread leaves a reset behind; for us it has closed.
            Err(Errno::CONNRESET) => return Ok(Received::Closed),
            Err(errno) => return Err(errno.into()),
            Ok(received) => break received,
        }
    };
    let before = fds.len();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    // The kernel cuts off for two reasons: there was no place left in our buffer, which is the peer's doing, or in this
    // process's table of files, which is not (net/core/scm.c, scm_detach_fds).
    let came = fds.len() - before;
    if received.flags.contains(ReturnFlags::CTRUNC) && came < FDS_MAX {
        fds.clear();
        shortage::met();
        return Ok(Received::NoRoomForFds);
    }
    if fds.len() > FDS_MAX || received.flags.contains(ReturnFlags::CTRUNC) {
        fds.clear();
        return Ok(Received::TooManyFds);
    }
    Ok(if received.bytes == 0 {
        Received::Closed
    } else {
        Received::Bytes(received.bytes)
    })
}

/// Sends what the socket takes of `bytes`, with `fd` beside the first of them; `None` when it takes nothing now.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], fd: Option<&OwnedFd>) -> io::Result<Option<usize>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd.as_fd()]);
    if let Some(fds) = &fds
        && !control.push(SendAncillaryMessage::ScmRights(fds))
    {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(errno.into()),
            Ok(sent) => return Ok(Some(sent)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_with_its_bytes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        assert_eq!(send(&theirs, b"abc", Some(&file)).unwrap(), Some(3));
        let (mut buffer, mut fds) = ([0; 8], Vec::new());
        assert_eq!(receive(&ours, &mut buffer, &mut fds).unwrap(), Received::Bytes(3));
        assert_eq!((&buffer[..3], fds.len()), (&b"abc"[..], 1));
        assert_eq!(receive(&ours, &mut buffer, &mut fds).unwrap(), Received::Later);
        drop(theirs);
        assert_eq!(receive(&ours, &mut buffer, &mut fds).unwrap(), Received::Closed);
    }

    #[test]
    fn a_peer_that_does_not_read_is_not_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let bytes = [0; 65536];
        let sent = (0..1000)
            .take_while(|_| send(&ours, &bytes, None).unwrap().is_some())
            .count();
        assert!(sent < 1000, "the socket took everything");
        theirs.write_all(b"x").unwrap();
    }
}
