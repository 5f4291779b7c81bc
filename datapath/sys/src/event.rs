//! An eventfd of our own: a counter in the kernel that one side adds to and the other side sleeps on (eventfd(2)). What
//! others handed us is a [`PeerEvent`](crate::PeerEvent).

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

    /// Adds one. A full counter is a signal already, so that is no failure.
    ///
    /// # Errors
    /// What write(2) says; it does not fail in practice.
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
    /// What read(2) says; it does not fail in practice.
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
}
