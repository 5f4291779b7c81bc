//! Virtual time: moments, waiting for one, and waiting for something no longer than that.

use crate::raft::tasks::{Tasks, Timer};
use openraft::async_runtime::instant;
use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A moment of virtual time: nanoseconds since the run began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(pub u64);

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl instant::Instant for Moment {
    fn now() -> Moment {
        Moment(Tasks::current().now_ns())
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(ns(duration)))
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(ns(duration)))
    }
}

impl SubAssign<Duration> for Moment {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Done at a moment.
#[derive(Debug)]
pub struct Sleep {
    until: Moment,
    timer: Option<Timer>,
}

impl Sleep {
    /// Done at a moment.
    pub fn until(until: Moment) -> Sleep {
        Sleep { until, timer: None }
    }

    /// Done after a time.
    pub fn of(duration: Duration) -> Sleep {
        Sleep::until(Moment(Tasks::current().now_ns()) + duration)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let tasks = Tasks::current();
        if tasks.now_ns() >= self.until.0 {
            return Poll::Ready(());
        }
        let timer = tasks.set_timer(self.timer, self.until.0, context.waker().clone());
        self.timer = Some(timer);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            Tasks::current().clear_timer(timer);
        }
    }
}

/// What is not done in time is given up.
#[derive(Debug)]
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

/// It was not done in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was not done in time")
    }
}

impl<F> Timeout<F> {
    /// Gives a future up at the end of a sleep.
    pub fn new(future: F, sleep: Sleep) -> Timeout<F> {
        let future = Box::pin(future);
        Timeout { future, sleep }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut self.sleep).poll(context).map(|()| Err(TimedOut))
    }
}
