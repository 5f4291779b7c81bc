//! A value that one task has at a time, also while it waits for something else.

use crate::raft::tasks::locked;
use openraft::OptionalSend;
use openraft::async_runtime::mutex;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;
use std::task::{Poll, Waker};

/// The value, and who waits for it.
#[derive(Debug)]
pub struct Exclusive<T>(Mutex<Place<T>>);

#[derive(Debug)]
struct Place<T> {
    /// Not here while somebody has it.
    value: Option<T>,
    waiting: Vec<Waker>,
}

/// Who has it. It goes back when this is dropped.
#[derive(Debug)]
pub struct MutexGuarded<'a, T> {
    value: Option<T>,
    home: &'a Exclusive<T>,
}

const HAS_IT: &str = "whoever holds the value has it until it is dropped";

impl<T: OptionalSend + 'static> mutex::Mutex<T> for Exclusive<T> {
    type Guard<'a> = MutexGuarded<'a, T>;

    fn new(value: T) -> Exclusive<T> {
        Exclusive(Mutex::new(Place {
            value: Some(value),
            waiting: Vec::new(),
        }))
    }

    async fn lock(&self) -> MutexGuarded<'_, T> {
        poll_fn(|context| {
            let mut place = locked(&self.0);
            match place.value.take() {
                Some(value) => Poll::Ready(MutexGuarded {
                    value: Some(value),
                    home: self,
                }),
                None => {
                    place.waiting.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl<T> Deref for MutexGuarded<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect(HAS_IT)
    }
}

impl<T> DerefMut for MutexGuarded<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect(HAS_IT)
    }
}

impl<T> Drop for MutexGuarded<'_, T> {
    fn drop(&mut self) {
        let waiting = {
            let mut place = locked(&self.home.0);
            place.value = self.value.take();
            // All of them try, and chance says who is first.
            std::mem::take(&mut place.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}
