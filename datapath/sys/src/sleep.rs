//! How a reactor sleeps when it has had nothing to do for a while: on the kicks of its rings, the completions of its
//! devices and a waker, all in one epoll.
//!
//! Wakeups are edge-triggered (so is `mio`): a descriptor wakes once for each signal and need not be read. What is
//! signalled while nobody sleeps makes the next sleep end at once, so a signal is never lost; it may be late news.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

/// Sleeps until one of its descriptors is signalled.
#[derive(Debug)]
pub struct Sleeper {
    poll: Poll,
    events: Events,
    waker: Arc<mio::Waker>,
}

/// Ends a [`Sleeper`]'s sleep from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

impl Sleeper {
    /// The token of the waker.
    pub const WAKER: usize = usize::MAX;

    /// Makes a sleeper that tells of up to `events` descriptors after one sleep; the others are told after the next.
    ///
    /// # Errors
    /// Too many open files.
    pub fn new(events: usize) -> io::Result<Sleeper> {
        let poll = Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), Token(Sleeper::WAKER))?);
        Ok(Sleeper {
            poll,
            events: Events::with_capacity(events.max(1)),
            waker,
        })
    }

    /// Lets a descriptor end sleeps. It must stay open until [`Sleeper::remove`].
    ///
    /// # Errors
    /// EEXIST when it has been added already, EPERM when it is of a kind that cannot be waited for (a plain file).
    pub fn add(&self, fd: RawFd, token: usize) -> io::Result<()> {
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), Token(token), Interest::READABLE)
    }

    /// Ends what [`Sleeper::add`] began.
    ///
    /// # Errors
    /// ENOENT when it had not been added, EBADF when it is closed.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.poll.registry().deregister(&mut SourceFd(&fd))
    }

    /// Ends sleeps from other threads.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }

    /// Sleeps until a descriptor or the waker is signalled or `timeout` has passed, and gives the tokens of what was
    /// signalled. `None` sleeps without end. A signal handler may end the sleep early, with no token.
    ///
    /// # Errors
    /// What epoll_wait(2) says, other than being interrupted.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<impl Iterator<Item = usize> + '_> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(error),
        }
        Ok(self.events.iter().map(|event| event.token().0))
    }
}

impl Waker {
    /// Ends the present sleep, or the next one at once.
    ///
    /// # Errors
    /// What write(2) on an eventfd says; it does not fail in practice.
    pub fn wake(&self) -> io::Result<()> {
        self.0.wake()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventFd;
    use std::os::fd::AsRawFd;

    fn tokens(sleeper: &mut Sleeper, timeout_ms: u64) -> Vec<usize> {
        sleeper
            .wait(Some(Duration::from_millis(timeout_ms)))
            .unwrap()
            .collect()
    }

    #[test]
    fn tells_which_descriptor_was_signalled_and_each_signal_once() {
        let mut sleeper = Sleeper::new(8).unwrap();
        let (one, two) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        sleeper.add(one.as_raw_fd(), 1).unwrap();
        sleeper.add(two.as_raw_fd(), 2).unwrap();
        assert!(tokens(&mut sleeper, 0).is_empty());
        two.signal().unwrap();
        assert_eq!(tokens(&mut sleeper, 1000), [2]);
        assert!(
            tokens(&mut sleeper, 0).is_empty(),
            "edge-triggered: nobody read it, yet it is told once"
        );
        two.signal().unwrap();
        one.signal().unwrap();
        let mut both = tokens(&mut sleeper, 1000);
        both.sort_unstable();
        assert_eq!(both, [1, 2]);
        sleeper.remove(two.as_raw_fd()).unwrap();
        two.signal().unwrap();
        assert!(tokens(&mut sleeper, 0).is_empty());
    }

    #[test]
    fn a_signal_from_before_the_registration_counts() {
        let mut sleeper = Sleeper::new(8).unwrap();
        let event = EventFd::new().unwrap();
        event.signal().unwrap();
        sleeper.add(event.as_raw_fd(), 7).unwrap();
        assert_eq!(tokens(&mut sleeper, 0), [7]);
    }

    #[test]
    fn the_waker_works_from_another_thread() {
        let mut sleeper = Sleeper::new(8).unwrap();
        let waker = sleeper.waker();
        let thread = std::thread::spawn(move || waker.wake().unwrap());
        assert_eq!(tokens(&mut sleeper, 10_000), [Sleeper::WAKER]);
        thread.join().unwrap();
    }
}
