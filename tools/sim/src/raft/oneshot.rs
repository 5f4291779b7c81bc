//! A value that one hands to another, once.

use crate::raft::tasks::locked;
use openraft::OptionalSend;
use openraft::async_runtime::{Oneshot, OneshotSender};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// The kind of them.
#[derive(Debug)]
pub struct Once;

#[derive(Debug)]
struct Place<T> {
    value: Option<T>,
    sender_is_gone: bool,
    receiver_is_gone: bool,
    waker: Option<Waker>,
}

/// Who has it.
#[derive(Debug)]
pub struct Sender<T>(Arc<Mutex<Place<T>>>);

/// Who gets it.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Mutex<Place<T>>>);

/// Who had it is gone, and has not sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NotSent;

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sender is gone")
    }
}

impl std::error::Error for NotSent {}

impl Oneshot for Once {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type ReceiverError = NotSent;

    fn channel<T: OptionalSend>() -> (Sender<T>, Receiver<T>) {
        let place = Arc::new(Mutex::new(Place {
            value: None,
            sender_is_gone: false,
            receiver_is_gone: false,
            waker: None,
        }));
        (Sender(Arc::clone(&place)), Receiver(place))
    }
}

impl<T: OptionalSend> OneshotSender<T> for Sender<T> {
    fn send(self, value: T) -> Result<(), T> {
        let mut place = locked(&self.0);
        if place.receiver_is_gone {
            return Err(value);
        }
        place.value = Some(value);
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut place = locked(&self.0);
            place.sender_is_gone = true;
            place.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let value = {
            let mut place = locked(&self.0);
            place.receiver_is_gone = true;
            place.value.take()
        };
        drop(value);
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, NotSent>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut place = locked(&self.0);
        if let Some(value) = place.value.take() {
            return Poll::Ready(Ok(value));
        }
        if place.sender_is_gone {
            return Poll::Ready(Err(NotSent));
        }
        place.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
