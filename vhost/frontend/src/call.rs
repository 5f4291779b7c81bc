//! The descriptor that interrupts the guest, exchangeable while its queue runs: a front-end swaps it whenever the
//! guest masks or unmasks an interrupt, and stopping a queue for that would drain it.
//!
//! It is the front-end's, too, which may make it blocking and fill its counter: so it is never written, but signalled
//! by the kernel on our behalf ([`PeerSignal`]).

use crate::interrupts::Interrupts;
use palisade_sys::{PeerEvent, PeerSignal};
use palisade_virtio::Notify;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

/// The session's end: puts new descriptors in.
#[derive(Debug, Default)]
pub(crate) struct CallSlot {
    signal: Arc<OnceLock<PeerSignal>>,
    /// A reactor has left an interrupt for the attachment's thread to give.
    owed: Arc<AtomicBool>,
}

/// The reactor's end: signals the descriptor that is in force, without waiting for anybody.
#[derive(Debug)]
pub struct CallNotify {
    signal: Arc<OnceLock<PeerSignal>>,
    interrupts: Arc<Interrupts>,
    owed: Arc<AtomicBool>,
    /// The front-end's descriptor for errors (SET_VRING_ERR).
    error: Arc<OnceLock<PeerSignal>>,
}

impl CallSlot {
    /// Puts a descriptor in force and signals it once.
    ///
    /// The signal makes up for interrupts sent to the old one meanwhile, or to none. A reactor makes answers visible,
    /// fences, then signals. Either it reaches the new descriptor, or its answers were visible before that was in
    /// force, and then the guest finds them when it looks because of this signal.
    ///
    /// # Errors
    /// Too many open files, no memory, or a kernel that has closed io_uring to us.
    pub(crate) fn swap(&self, call: Option<&PeerEvent>) -> io::Result<()> {
        self.aim(call)?;
        self.signal();
        Ok(())
    }

    /// Signals the descriptor that is in force.
    pub(crate) fn signal(&self) {
        if let Some(signal) = self.signal.get() {
            signal.signal();
        }
    }

    /// Gives the interrupt that a reactor has left, if it has.
    pub(crate) fn give_owed(&self, interrupts: &Interrupts) {
        if self.owed.swap(false, SeqCst) {
            interrupts.give(|| self.signal());
        }
    }

    /// Puts a descriptor in force that is to be signalled only when there is something to tell.
    ///
    /// # Errors
    /// As for [`CallSlot::swap`].
    pub(crate) fn aim(&self, call: Option<&PeerEvent>) -> io::Result<()> {
        let signal = match (self.signal.get(), call) {
            (Some(signal), _) => signal,
            (None, None) => return Ok(()),
            (None, Some(_)) => {
                let fresh = PeerSignal::new()?;
                self.signal.get_or_init(|| fresh)
            }
        };
        signal.aim(call)
    }

    /// An end for a queue that is about to start, which signals on `error` that its ring is broken.
    pub(crate) fn notifier(&self, error: &CallSlot, interrupts: &Arc<Interrupts>) -> CallNotify {
        CallNotify {
            signal: Arc::clone(&self.signal),
            interrupts: Arc::clone(interrupts),
            owed: Arc::clone(&self.owed),
            error: Arc::clone(&error.signal),
        }
    }
}

impl Notify for CallNotify {
    #[inline]
    fn notify(&mut self) {
        let Some(signal) = self.signal.get() else { return };
        if self.interrupts.are_dear() && self.interrupts.leave(&self.owed) {
            return;
        }
        self.interrupts.give(|| signal.signal());
    }

    fn broken(&mut self) {
        if let Some(signal) = self.error.get() {
            signal.signal();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_sys::EventFd;
    use palisade_sys::clock::thread_time;

    fn peer(event: &EventFd) -> PeerEvent {
        PeerEvent::from_owned_fd(event.try_clone().unwrap().into()).unwrap()
    }

    #[test]
    fn a_swap_signals_the_new_one_and_the_queue_follows() {
        let (old, new) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let slot = CallSlot::default();
        let mut notify = slot.notifier(&CallSlot::default(), &Arc::default());
        notify.notify();
        slot.swap(None).unwrap();
        slot.swap(Some(&peer(&old))).unwrap();
        assert_eq!(old.drain().unwrap(), 1);
        notify.notify();
        assert_eq!(old.drain().unwrap(), 1);
        slot.swap(Some(&peer(&new))).unwrap();
        assert_eq!(
            new.drain().unwrap(),
            1,
            "an interrupt must not be lost in between"
        );
        notify.notify();
        assert_eq!((old.drain().unwrap(), new.drain().unwrap()), (0, 1));
        slot.swap(None).unwrap();
        notify.notify();
        assert_eq!(new.drain().unwrap(), 0);
    }

    #[test]
    fn the_descriptor_for_errors_is_signalled_for_errors_only() {
        let event = EventFd::new().unwrap();
        let error = CallSlot::default();
        let mut notify = CallSlot::default().notifier(&error, &Arc::default());
        notify.broken();
        error.aim(Some(&peer(&event))).unwrap();
        notify.notify();
        assert_eq!(event.drain().unwrap(), 0, "nothing is wrong yet");
        notify.broken();
        error.signal();
        assert_eq!(event.drain().unwrap(), 2);
    }

    #[test]
    fn what_is_dear_is_left_to_the_thread_that_is_woken_for_it_once() {
        let mut poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(7)).unwrap();
        let interrupts = Arc::new(Interrupts::default());
        interrupts.wake_by(Arc::new(waker));
        let event = EventFd::new().unwrap();
        let slot = CallSlot::default();
        let mut notify = slot.notifier(&CallSlot::default(), &interrupts);
        slot.aim(Some(&peer(&event))).unwrap();
        notify.notify();
        assert_eq!(event.drain().unwrap(), 1, "cheap ones are given at once");
        for _ in 0..8 {
            let begin = thread_time();
            interrupts.give(|| while thread_time().0 - begin.0 < 2_000_000 {});
        }
        notify.notify();
        notify.notify();
        assert_eq!(event.drain().unwrap(), 0);
        let mut events = mio::Events::with_capacity(4);
        poll.poll(&mut events, Some(std::time::Duration::from_secs(10)))
            .unwrap();
        assert_eq!(events.iter().count(), 1);
        slot.give_owed(&interrupts);
        slot.give_owed(&interrupts);
        assert_eq!(event.drain().unwrap(), 1, "two in one");
        notify.notify();
        slot.give_owed(&interrupts);
        assert_eq!(event.drain().unwrap(), 1, "and none is lost after that");
    }
}
