//! A queue with room for so many values, from many to one.

use crate::raft::tasks::locked;
use openraft::OptionalSend;
use openraft::async_runtime::mpsc::SendError;
use openraft::async_runtime::{Mpsc, MpscReceiver, MpscSender, MpscWeakSender, TryRecvError};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// The kind of them.
#[derive(Debug)]
pub struct Queues;

#[derive(Debug)]
struct Queue<T> {
    values: VecDeque<T>,
    room: usize,
    senders: usize,
    receiver_is_gone: bool,
    waits_for_value: Option<Waker>,
    wait_for_room: Vec<Waker>,
}

impl<T> Queue<T> {
    /// Those who have something to do now that there is a value, or none any more.
    fn for_receiver(&mut self) -> Vec<Waker> {
        self.waits_for_value.take().into_iter().collect()
    }
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// Who puts values in.
#[derive(Debug)]
pub struct Sender<T>(Arc<Mutex<Queue<T>>>);

/// Who may get to be one, as long as there are others.
#[derive(Debug)]
pub struct WeakSender<T>(Arc<Mutex<Queue<T>>>);

/// Who takes them out.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Mutex<Queue<T>>>);

impl Mpsc for Queues {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type WeakSender<T: OptionalSend> = WeakSender<T>;

    fn channel<T: OptionalSend>(room: usize) -> (Sender<T>, Receiver<T>) {
        let queue = Arc::new(Mutex::new(Queue {
            values: VecDeque::new(),
            room,
            senders: 1,
            receiver_is_gone: false,
            waits_for_value: None,
            wait_for_room: Vec::new(),
        }));
        (Sender(Arc::clone(&queue)), Receiver(queue))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        locked(&self.0).senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let wakers = {
            let mut queue = locked(&self.0);
            queue.senders -= 1;
            match queue.senders {
                0 => queue.for_receiver(),
                _ => Vec::new(),
            }
        };
        wake(wakers);
    }
}

impl<T: OptionalSend> MpscSender<Queues, T> for Sender<T> {
    async fn send(&self, value: T) -> Result<(), SendError<T>> {
        let mut value = Some(value);
        poll_fn(move |context| {
            let mut queue = locked(&self.0);
            let Some(sent) = value.take() else {
                return Poll::Ready(Ok(()));
            };
            if queue.receiver_is_gone {
                return Poll::Ready(Err(SendError(sent)));
            }
            if queue.values.len() >= queue.room {
                value = Some(sent);
                queue.wait_for_room.push(context.waker().clone());
                return Poll::Pending;
            }
            queue.values.push_back(sent);
            let wakers = queue.for_receiver();
            drop(queue);
            wake(wakers);
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender(Arc::clone(&self.0))
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> WeakSender<T> {
        WeakSender(Arc::clone(&self.0))
    }
}

impl<T: OptionalSend> MpscWeakSender<Queues, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        let mut queue = locked(&self.0);
        if queue.senders == 0 {
            return None;
        }
        queue.senders += 1;
        Some(Sender(Arc::clone(&self.0)))
    }
}

impl<T: OptionalSend> MpscReceiver<T> for Receiver<T> {
    async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| match self.try_recv() {
            Ok(value) => Poll::Ready(Some(value)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => {
                locked(&self.0).waits_for_value = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let (value, wakers) = {
            let mut queue = locked(&self.0);
            match queue.values.pop_front() {
                Some(value) => (Ok(value), std::mem::take(&mut queue.wait_for_room)),
                None if queue.senders == 0 => (Err(TryRecvError::Disconnected), Vec::new()),
                None => (Err(TryRecvError::Empty), Vec::new()),
            }
        };
        wake(wakers);
        value
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let (values, wakers) = {
            let mut queue = locked(&self.0);
            queue.receiver_is_gone = true;
            let wakers = std::mem::take(&mut queue.wait_for_room);
            (std::mem::take(&mut queue.values), wakers)
        };
        drop(values);
        wake(wakers);
    }
}
