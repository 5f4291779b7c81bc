//! An eventfd: a counter in the kernel that one side adds to and the other side sleeps on (eventfd(2)).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// An eventfd of our own: close-on-exec and non-blocking.
#[derive(Debug)]
pub struct EventFd(File);

impl EventFd {
    /// Makes a new one with the count 0.
    ///
    /// # Errors
    /// What eventfd(2) says: mostly that there are too many open files.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        Ok(EventFd(unsafe { File::from_raw_fd(fd) }))
    }

    /// Takes over a descriptor that somebody handed us (a kick or call fd of a VMM) and makes it non-blocking: what
    /// a stranger has set must not be able to block a reactor.
    ///
    /// # Errors
    /// `InvalidInput` when it is no eventfd; what readlink(2) and fcntl(2) say.
    pub fn from_owned_fd(fd: OwnedFd) -> io::Result<EventFd> {
        // Anything else could block whoever signals it, whatever its flags say.
        let kind = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
        if kind.as_os_str() != "anon_inode:[eventfd]" {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is not an eventfd",
            ));
        }
        // SAFETY: F_GETFL takes no pointer and the descriptor is open.
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
        if flags < 0 {
            return Err(io::Error::last_os_error());
        }
        if flags & libc::O_NONBLOCK == 0 {
            // SAFETY: F_SETFL takes an integer and the descriptor is open.
            let set = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) };
            if set < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(EventFd(File::from(fd)))
    }

    /// Adds one. A full counter is a signal already, so that is no failure.
    ///
    /// # Errors
    /// The descriptor is not an eventfd (a hostile VMM may pass any file).
    #[inline]
    pub fn signal(&self) -> io::Result<()> {
        match (&self.0).write(&1u64.to_ne_bytes()) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes the count and leaves 0; it may be 0 already.
    ///
    /// # Errors
    /// The descriptor is not an eventfd.
    pub fn drain(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        match (&self.0).read(&mut count) {
            Ok(8) => Ok(u64::from_ne_bytes(count)),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// A second descriptor of the same counter.
    ///
    /// # Errors
    /// Too many open files.
    pub fn try_clone(&self) -> io::Result<EventFd> {
        self.0.try_clone().map(EventFd)
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<EventFd> for OwnedFd {
    fn from(event: EventFd) -> OwnedFd {
        event.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_signals_and_never_blocks() {
        let event = EventFd::new().unwrap();
        assert_eq!(event.drain().unwrap(), 0);
        let other = event.try_clone().unwrap();
        other.signal().unwrap();
        event.signal().unwrap();
        assert_eq!(event.drain().unwrap(), 2);
        assert_eq!(other.drain().unwrap(), 0);
    }

    #[test]
    fn a_full_counter_is_still_a_signal() {
        let event = EventFd::new().unwrap();
        (&event.0).write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
        event.signal().unwrap();
        assert_eq!(event.drain().unwrap(), u64::MAX - 1);
    }

    #[test]
    fn a_blocking_descriptor_of_a_stranger_is_made_non_blocking() {
        // SAFETY: eventfd takes no pointers, and the descriptor is ours alone.
        let blocking = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, 0)) };
        assert_eq!(EventFd::from_owned_fd(blocking).unwrap().drain().unwrap(), 0);
    }

    #[test]
    fn something_else_than_an_eventfd_is_refused() {
        let file = File::open("/proc/self/status").unwrap();
        let error = EventFd::from_owned_fd(file.into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
