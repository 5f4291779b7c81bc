//! Sleeping on descriptors in an epoll, and waking who sleeps.
//!
//! Wakeups are edge-triggered (so is `mio`): a descriptor wakes once for each signal and need not be read. What is
//! signalled while nobody sleeps makes the next sleep end at once, so a signal is never lost; it may be late news.

use crate::EventFd;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Sleeps until one of its descriptors is signalled.
#[derive(Debug)]
pub(crate) struct Sleeper {
    poll: Poll,
    events: Events,
}

/// Ends the sleep of a reactor's [`LocalDevices`](crate::LocalDevices) from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<EventFd>);

/// Asks from any thread whether something has come that ends a sleep. It does not take it, so that a thread that does not
/// wake can be told from one that has nothing to do. It outlives what it asks about, and says no then.
#[derive(Clone, Debug)]
pub struct Pending(Weak<OwnedFd>);

/// What a sleeping thread keeps for those who ask: a descriptor of its own of what it sleeps on.
#[derive(Debug)]
pub(crate) struct SleepsOn(Arc<OwnedFd>);

impl Sleeper {
    /// Makes a sleeper that takes note of up to `events` descriptors after one sleep, and of the others after the next.
    ///
    /// # Errors
    /// Too many open files.
    pub(crate) fn new(events: usize) -> io::Result<Sleeper> {
        Ok(Sleeper {
            poll: Poll::new()?,
            events: Events::with_capacity(events.max(1)),
        })
    }

    /// Lets a descriptor end sleeps. It must stay open until [`Sleeper::remove`].
    ///
    /// # Errors
    /// EEXIST when it has been added already, EPERM when it is of a kind that cannot be waited for (a plain file).
    pub(crate) fn add(&self, fd: RawFd) -> io::Result<()> {
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)
    }

    /// Ends what [`Sleeper::add`] began.
    ///
    /// # Errors
    /// ENOENT when it had not been added, EBADF when it is closed.
    pub(crate) fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.poll.registry().deregister(&mut SourceFd(&fd))
    }

    /// Sleeps until a descriptor is signalled or `timeout` has passed, and gives how many have been. `None` sleeps
    /// without end. A signal handler may end the sleep early.
    ///
    /// # Errors
    /// What epoll_wait(2) says, other than being interrupted.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => Ok(self.events.iter().count()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Sleeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the poll's, which lives as long as this borrow of it.
        unsafe { BorrowedFd::borrow_raw(self.poll.as_raw_fd()) }
    }
}

impl SleepsOn {
    /// Of an epoll or a ring.
    ///
    /// # Errors
    /// Too many open files.
    pub(crate) fn new(fd: BorrowedFd<'_>) -> io::Result<SleepsOn> {
        Ok(SleepsOn(Arc::new(fd.try_clone_to_owned()?)))
    }

    pub(crate) fn pending(&self) -> Pending {
        Pending(Arc::downgrade(&self.0))
    }
}

impl Pending {
    /// Whether something has come. Waits for nothing.
    pub fn has_come(&self) -> bool {
        self.0.upgrade().is_some_and(|fd| is_readable(fd.as_fd()))
    }
}

/// Whether a read, or a wait, would end at once. Waits for nothing.
fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut asked = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd of ours, which lives as long as the call; a time of 0 does not wait.
    let ready = unsafe { libc::poll(&mut asked, 1, 0) };
    ready > 0 && asked.revents & libc::POLLIN != 0
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        Ok(Waker(Arc::new(EventFd::new()?)))
    }

    /// Ends the present sleep, or the next one at once.
    ///
    /// # Errors
    /// What write(2) on an eventfd says; it does not fail in practice.
    pub fn wake(&self) -> io::Result<()> {
        self.0.signal()
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn each_signal_ends_one_sleep_though_nobody_reads_it() {
        let mut sleeper = Sleeper::new(8).unwrap();
        let (one, two) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        sleeper.add(one.as_raw_fd()).unwrap();
        sleeper.add(two.as_raw_fd()).unwrap();
        assert_eq!(sleeper.wait(MOMENT).unwrap(), 0);
        two.signal().unwrap();
        assert_eq!(sleeper.wait(MOMENT).unwrap(), 1);
        assert_eq!(
            sleeper.wait(MOMENT).unwrap(),
            0,
            "nobody read it, yet it is told once"
        );
        two.signal().unwrap();
        one.signal().unwrap();
        assert_eq!(sleeper.wait(MOMENT).unwrap(), 2);
        sleeper.remove(two.as_raw_fd()).unwrap();
        two.signal().unwrap();
        assert_eq!(sleeper.wait(MOMENT).unwrap(), 0);
    }

    #[test]
    fn a_signal_from_before_the_registration_counts() {
        let mut sleeper = Sleeper::new(8).unwrap();
        let event = EventFd::new().unwrap();
        event.signal().unwrap();
        sleeper.add(event.as_raw_fd()).unwrap();
        assert_eq!(sleeper.wait(MOMENT).unwrap(), 1);
    }

    #[test]
    fn the_waker_works_from_another_thread() {
        let mut sleeper = Sleeper::new(8).unwrap();
        let waker = Waker::new().unwrap();
        sleeper.add(waker.as_raw_fd()).unwrap();
        let theirs = waker.clone();
        let thread = std::thread::spawn(move || theirs.wake().unwrap());
        assert_eq!(sleeper.wait(Some(Duration::from_secs(10))).unwrap(), 1);
        thread.join().unwrap();
    }
}
