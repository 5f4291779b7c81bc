//! The descriptor that interrupts the guest, exchangeable while its queue runs: a front-end swaps it whenever the
//! guest masks or unmasks an interrupt, and stopping a queue for that would drain it.

use palisade_sys::EventFd;
use palisade_virtio::Notify;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The session's end: puts new descriptors in.
#[derive(Debug, Default)]
pub(crate) struct CallSlot {
    shared: Arc<Shared>,
}

/// The reactor's end: signals the descriptor that is in force. Looking for a new one costs a load; the lock is
/// tried, never waited for, and only after a swap.
#[derive(Debug)]
pub struct CallNotify {
    shared: Arc<Shared>,
    /// The version of `call`.
    seen: u64,
    call: Option<Arc<EventFd>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Counts swaps.
    version: AtomicU64,
    call: Mutex<Option<Arc<EventFd>>>,
}

impl CallSlot {
    /// Puts a descriptor in force and signals it once.
    ///
    /// The signal makes up for interrupts sent to the old one meanwhile. A reactor makes answers visible, fences,
    /// then looks at the version. Either it sees the new one and signals the new descriptor, or its answers were
    /// visible before the version changed, and then the guest finds them when it looks because of this signal.
    pub(crate) fn swap(&self, call: Option<EventFd>) {
        let call = call.map(Arc::new);
        *self.shared.call.lock().unwrap_or_else(PoisonError::into_inner) = call.clone();
        self.shared.version.fetch_add(1, Ordering::SeqCst);
        if let Some(call) = call {
            // A descriptor that takes no signals is the front-end's own loss.
            let _ = call.signal();
        }
    }

    /// An end for a queue that is about to start.
    pub(crate) fn notifier(&self) -> CallNotify {
        CallNotify {
            shared: Arc::clone(&self.shared),
            seen: u64::MAX,
            call: None,
        }
    }
}

impl Notify for CallNotify {
    #[inline]
    fn notify(&mut self) {
        let version = self.shared.version.load(Ordering::SeqCst);
        if version != self.seen
            && let Ok(call) = self.shared.call.try_lock()
        {
            self.call.clone_from(&call);
            self.seen = version;
        }
        if let Some(call) = &self.call {
            // Same as above: whoever gave a descriptor that cannot be signalled gets no interrupts.
            let _ = call.signal();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_signals_the_new_one_and_the_queue_follows() {
        let (old, new) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let slot = CallSlot::default();
        let mut notify = slot.notifier();
        notify.notify();
        slot.swap(Some(old.try_clone().unwrap()));
        assert_eq!(old.drain().unwrap(), 1);
        notify.notify();
        assert_eq!(old.drain().unwrap(), 1);
        slot.swap(Some(new.try_clone().unwrap()));
        assert_eq!(
            new.drain().unwrap(),
            1,
            "an interrupt must not be lost in between"
        );
        notify.notify();
        assert_eq!((old.drain().unwrap(), new.drain().unwrap()), (0, 1));
        slot.swap(None);
        notify.notify();
        assert_eq!(new.drain().unwrap(), 0);
    }
}
