//! Descriptors that end a sleep in the ring: each is watched by one poll that tells of every signal and goes on.
//!
//! A poll that the kernel gives up (no memory, a full completion queue) is asked for again before the next sleep, and
//! tells at once of a descriptor that is signalled: a signal may be told late or twice, and is never lost. Polls are
//! no operations in flight: a reactor that does not sleep makes no system call for them.

use palisade_block::ledger;
use std::os::fd::RawFd;

/// The lower half of the names of polls; no slot has this number.
pub(super) const LISTENER: u32 = u32::MAX - 1;

/// All descriptors that are listened to.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    all: Vec<Listener>,
    /// How many of them are not watched by a poll just now.
    lapsed: u32,
    /// Counts all there ever were, so that what is told of a former one is not taken for a present one.
    begun: u32,
}

#[derive(Debug)]
struct Listener {
    name: u64,
    fd: RawFd,
    watched: bool,
}

impl Listeners {
    /// Notes a descriptor; false when it is there already.
    pub(super) fn add(&mut self, fd: RawFd) -> bool {
        if self.all.iter().any(|listener| listener.fd == fd) {
            return false;
        }
        self.begun = self.begun.wrapping_add(1);
        self.all.push(Listener {
            name: u64::from(self.begun) << 32 | u64::from(LISTENER),
            fd,
            watched: false,
        });
        ledger::enter(&mut self.lapsed, "listeners without a poll");
        true
    }

    /// Forgets a descriptor: its name if a poll watches it, which is to be taken back; `None` if it is not there.
    pub(super) fn remove(&mut self, fd: RawFd) -> Option<Option<u64>> {
        let at = self.all.iter().position(|listener| listener.fd == fd)?;
        let gone = self.all.swap_remove(at);
        if !gone.watched {
            ledger::leave(&mut self.lapsed, "listeners without a poll");
        }
        Some(gone.watched.then_some(gone.name))
    }

    /// A descriptor that needs a poll, with the poll's name; it counts as watched from now on.
    #[inline]
    pub(super) fn next_lapsed(&mut self) -> Option<(u64, RawFd)> {
        if self.lapsed == 0 {
            return None;
        }
        let listener = self.all.iter_mut().find(|listener| !listener.watched)?;
        listener.watched = true;
        ledger::leave(&mut self.lapsed, "listeners without a poll");
        Some((listener.name, listener.fd))
    }

    /// Takes the end of a poll.
    #[cold]
    pub(super) fn ended(&mut self, name: u64) {
        if let Some(listener) = self.all.iter_mut().find(|listener| listener.name == name)
            && listener.watched
        {
            listener.watched = false;
            ledger::enter(&mut self.lapsed, "listeners without a poll");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_watched_once_and_again_when_its_poll_has_ended() {
        let mut listeners = Listeners::default();
        assert!(listeners.add(5) && listeners.add(6) && !listeners.add(5));
        let (five, six) = (listeners.next_lapsed().unwrap(), listeners.next_lapsed().unwrap());
        assert_eq!((five.1, six.1, listeners.next_lapsed()), (5, 6, None));
        assert_ne!(five.0, six.0);
        listeners.ended(five.0);
        listeners.ended(five.0);
        assert_eq!(listeners.next_lapsed(), Some(five));
        assert_eq!(listeners.next_lapsed(), None);
    }

    #[test]
    fn the_end_of_a_former_poll_says_nothing_of_the_same_descriptor_now() {
        let mut listeners = Listeners::default();
        listeners.add(5);
        let (former, _) = listeners.next_lapsed().unwrap();
        assert_eq!(listeners.remove(5), Some(Some(former)));
        assert_eq!(listeners.remove(5), None);
        listeners.add(5);
        assert_eq!(listeners.remove(5), Some(None), "no poll watches it yet");
        listeners.add(5);
        let (present, _) = listeners.next_lapsed().unwrap();
        listeners.ended(former);
        assert_eq!(listeners.next_lapsed(), None);
        listeners.ended(present);
        assert_eq!(listeners.next_lapsed(), Some((present, 5)));
    }
}
