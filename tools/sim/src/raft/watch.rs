//! A value that some change and others look at, who hear when it was changed.

use crate::raft::tasks::locked;
use openraft::async_runtime::watch::{RecvError, SendError};
use openraft::async_runtime::{Watch, WatchReceiver, WatchSender};
use openraft::{OptionalSend, OptionalSync};
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};

/// The kind of them.
#[derive(Debug)]
pub struct Watched;

#[derive(Debug)]
struct Shared<T> {
    value: RwLock<T>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    version: u64,
    senders: usize,
    receivers: usize,
    waiting: Vec<Waker>,
}

impl<T> Shared<T> {
    fn look(&self) -> WatchedValue<'_, T> {
        WatchedValue(self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let is_changed = change(&mut self.value.write().unwrap_or_else(PoisonError::into_inner));
        if is_changed {
            let waiting = {
                let mut known = locked(&self.known);
                known.version += 1;
                std::mem::take(&mut known.waiting)
            };
            waiting.into_iter().for_each(Waker::wake);
        }
        is_changed
    }
}

/// Who changes it.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

/// Who looks at it.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The value while it is looked at. Who changes it meanwhile waits for ever.
#[derive(Debug)]
pub struct WatchedValue<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for WatchedValue<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Watch for Watched {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = WatchedValue<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(value: T) -> (Sender<T>, Receiver<T>) {
        let known = Known {
            version: 0,
            senders: 1,
            receivers: 1,
            waiting: Vec::new(),
        };
        let shared = Arc::new(Shared {
            value: RwLock::new(value),
            known: Mutex::new(known),
        });
        let sender = Sender(Arc::clone(&shared));
        (sender, Receiver { shared, seen: 0 })
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        locked(&self.0.known).senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut known = locked(&self.0.known);
            known.senders -= 1;
            match known.senders {
                0 => std::mem::take(&mut known.waiting),
                _ => Vec::new(),
            }
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<Watched, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if locked(&self.0.known).receivers == 0 {
            return Err(SendError(value));
        }
        self.0.change(|current| {
            *current = value;
            true
        });
        Ok(())
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        self.0.change(modify)
    }

    fn borrow_watched(&self) -> WatchedValue<'_, T> {
        self.0.look()
    }

    fn subscribe(&self) -> Receiver<T> {
        let mut known = locked(&self.0.known);
        known.receivers += 1;
        Receiver {
            shared: Arc::clone(&self.0),
            seen: known.version,
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        locked(&self.shared.known).receivers += 1;
        Receiver {
            shared: Arc::clone(&self.shared),
            seen: self.seen,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        locked(&self.shared.known).receivers -= 1;
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<Watched, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        poll_fn(|context| {
            let mut known = locked(&self.shared.known);
            if known.version != self.seen {
                self.seen = known.version;
                return Poll::Ready(Ok(()));
            }
            if known.senders == 0 {
                return Poll::Ready(Err(RecvError(())));
            }
            known.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> WatchedValue<'_, T> {
        self.shared.look()
    }

    fn borrow_and_update(&mut self) -> WatchedValue<'_, T> {
        self.seen = locked(&self.shared.known).version;
        self.shared.look()
    }
}
