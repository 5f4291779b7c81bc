//! A UNIX stream with file descriptors beside the bytes (SCM_RIGHTS), never blocking.
//!
//! Descriptors are sent here, and never received: whoever has received one has to close it, which may take for ever. What
//! comes with descriptors is left in the socket, for a process of its own to receive ([`palisade_sys::fd_filter`]).

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// What one attempt to read gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes, not zero.
    Bytes(usize),
    /// Descriptors come with the next bytes: nothing was taken.
    Descriptors,
    /// Nothing now.
    Later,
    /// The peer has closed its end.
    Closed,
}

/// Reads into `buffer` (not empty), unless descriptors would come along.
///
/// Looking with MSG_PEEK and without room for them tells whether there are any, and puts none into this process' table
/// (net/core/scm.c, scm_recv). Taking no more than was looked at takes none either.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let seen = match look(&socket, buffer, RecvFlags::PEEK)? {
        Received::Bytes(bytes) => bytes,
        other => return Ok(other),
    };
    match look(
        &socket,
        buffer.get_mut(..seen).unwrap_or_default(),
        RecvFlags::empty(),
    )? {
        // Out-of-band bytes that vanish in between can bring it about.
        Received::Descriptors => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "descriptors came where there were none a moment before",
        )),
        other => Ok(other),
    }
}

fn look(socket: impl AsFd, buffer: &mut [u8], flags: RecvFlags) -> io::Result<Received> {
    loop {
        let mut none = RecvAncillaryBuffer::default();
        let flags = flags | RecvFlags::DONTWAIT;
        return match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut none, flags) {
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(Received::Later),
            // A peer that went away with bytes of ours unread leaves a reset behind; for us it has closed.
            Err(Errno::CONNRESET) => Ok(Received::Closed),
            Err(errno) => Err(errno.into()),
            Ok(got) if got.flags.contains(ReturnFlags::CTRUNC) => Ok(Received::Descriptors),
            Ok(got) if got.bytes == 0 => Ok(Received::Closed),
            Ok(got) => Ok(Received::Bytes(got.bytes)),
        };
    }
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
    fn what_comes_with_a_descriptor_is_left_where_it_is() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        let mut buffer = [0; 8];
        assert_eq!(send(&theirs, b"ab", None).unwrap(), Some(2));
        assert_eq!(receive(&ours, &mut buffer).unwrap(), Received::Bytes(2));
        assert_eq!(send(&theirs, b"cde", Some(&file)).unwrap(), Some(3));
        for _ in 0..2 {
            assert_eq!(receive(&ours, &mut buffer).unwrap(), Received::Descriptors);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut buffer)];
        let got = recvmsg(&ours, parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        assert_eq!(
            (got.bytes, control.drain().count(), &buffer[..3]),
            (3, 1, &b"cde"[..])
        );
        assert_eq!(receive(&ours, &mut buffer).unwrap(), Received::Later);
        drop(theirs);
        assert_eq!(receive(&ours, &mut buffer).unwrap(), Received::Closed);
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
