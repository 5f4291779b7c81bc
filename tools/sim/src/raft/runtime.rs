//! Openraft's runtime seam over the tasks.

use crate::raft::mpsc::Queues;
use crate::raft::mutex::Exclusive;
use crate::raft::oneshot::{Once, Receiver};
use crate::raft::sleep::{Moment, Sleep, TimedOut, Timeout};
use crate::raft::tasks::{Tasks, said};
use crate::raft::watch::Watched;
use openraft::async_runtime::{Oneshot, OneshotSender};
use openraft::{AsyncRuntime, OptionalSend};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The runtime of a simulated cluster: one thread, virtual time, and chance from a seed.
#[derive(Debug)]
pub struct Virtual(Arc<Tasks>);

impl Virtual {
    /// The runtime of a seed.
    pub fn seeded(seed: u64) -> Virtual {
        Virtual(Tasks::new(seed))
    }

    /// What runs its tasks.
    pub fn tasks(&self) -> &Arc<Tasks> {
        &self.0
    }
}

impl Drop for Virtual {
    fn drop(&mut self) {
        self.0.end_all();
    }
}

/// What comes of a task.
#[derive(Debug)]
pub struct Joined<T>(Receiver<Result<T, Ended>>);

/// Why nothing comes of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It panicked, and said so.
    Panicked(String),
    /// Its group was ended.
    Killed,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Panicked(what) => write!(f, "the task panicked: {what}"),
            Ended::Killed => f.write_str("the task was ended"),
        }
    }
}

impl<T> Future for Joined<T> {
    type Output = Result<T, Ended>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let received = Pin::new(&mut self.0).poll(context);
        received.map(|received| received.unwrap_or(Err(Ended::Killed)))
    }
}

impl AsyncRuntime for Virtual {
    type JoinError = Ended;
    type JoinHandle<T: OptionalSend + 'static> = Joined<T>;
    type Sleep = Sleep;
    type Instant = Moment;
    type TimeoutError = TimedOut;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = Queues;
    type Watch = Watched;
    type Oneshot = Once;
    type Mutex<T: OptionalSend + 'static> = Exclusive<T>;

    fn spawn<T>(future: T) -> Joined<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let (sender, receiver) = Once::channel();
        let work = async move {
            let mut future = Box::pin(future);
            let polled =
                poll_fn(
                    |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
                        Ok(polled) => polled.map(Ok),
                        Err(panic) => Poll::Ready(Err(panic)),
                    },
                );
            let (output, panic) = match polled.await {
                Ok(output) => (Ok(output), None),
                Err(panic) => (Err(Ended::Panicked(said(panic.as_ref()))), Some(panic)),
            };
            // Whoever waits for it hears of it, if anybody does; and a panic is kept for the report of the run.
            let _ = sender.send(output);
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
        };
        Tasks::current().spawn(Box::pin(work));
        Joined(receiver)
    }

    fn sleep(duration: Duration) -> Sleep {
        Sleep::of(duration)
    }

    fn sleep_until(deadline: Moment) -> Sleep {
        Sleep::until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        Timeout::new(future, Sleep::of(duration))
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Moment, future: F) -> Timeout<F> {
        Timeout::new(future, Sleep::until(deadline))
    }

    fn is_panic(error: &Ended) -> bool {
        matches!(error, Ended::Panicked(_))
    }

    fn thread_rng() -> SmallRng {
        SmallRng::seed_from_u64(Tasks::current().bits())
    }

    fn new(_: usize) -> Virtual {
        Virtual::seeded(0)
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    /// It is begun when its time has passed and done in no time then: whoever is ended before that has not begun it.
    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let takes = Duration::from_nanos(Tasks::current().draw_blocking_ns());
        let sleep = Sleep::of(takes);
        async move {
            sleep.await;
            Ok(work())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::tasks::TaskGroup;
    use openraft::async_runtime::{Mpsc, MpscReceiver, MpscSender};
    use openraft::testing::runtime::Suite;

    #[test]
    fn openrafts_own_tests_of_a_runtime_pass() {
        Suite::<Virtual>::test_all();
    }

    /// Some tasks that wait for each other and for chance; the trace of a seed.
    fn trace(seed: u64) -> (Vec<(u64, u64)>, crate::rng::RunHash) {
        let mut runtime = Virtual::seeded(seed);
        runtime.tasks().keep_trace();
        runtime.block_on(async {
            let (sender, mut receiver) = Queues::channel(3);
            for _ in 0..5 {
                let sender = sender.clone();
                Virtual::spawn(async move {
                    for number in 0..10 {
                        let ns = Tasks::current().bits() % 1000;
                        Virtual::sleep(Duration::from_nanos(ns)).await;
                        sender.send(number).await.unwrap();
                    }
                });
            }
            drop(sender);
            while receiver.recv().await.is_some() {}
        });
        (runtime.tasks().trace(), runtime.tasks().hash())
    }

    #[test]
    fn a_seed_replays_task_by_task_and_another_goes_another_way() {
        let first = trace(1);
        assert!(first.0.len() > 100, "{}", first.0.len());
        assert_eq!(first, trace(1));
        assert_ne!(first.0, trace(2).0);
    }

    #[test]
    fn time_goes_on_only_when_all_tasks_wait() {
        let mut runtime = Virtual::seeded(1);
        let (first, second) = runtime.block_on(async {
            Virtual::sleep(Duration::from_secs(3600)).await;
            let first = Tasks::current().now_ns();
            let work: u64 = (0..1000).map(|_| Tasks::current().bits() % 2).sum();
            assert!(work > 300);
            (first, Tasks::current().now_ns())
        });
        assert_eq!((first, second), (3_600_000_000_000, 3_600_000_000_000));
    }

    #[test]
    fn a_group_ends_where_its_tasks_are_and_nobody_else_does() {
        let mut runtime = Virtual::seeded(1);
        let tasks = Arc::clone(runtime.tasks());
        runtime.block_on(async move {
            let (sender, mut receiver) = Queues::channel(10);
            for group in [1, 2] {
                let sender = sender.clone();
                let work = async move {
                    // What a task spawns is of its group.
                    Virtual::spawn(async move {
                        Virtual::sleep(Duration::from_nanos(10)).await;
                        sender.send(group).await.unwrap();
                    });
                };
                Tasks::current().spawn_in(TaskGroup(group), Box::pin(work));
            }
            drop(sender);
            Virtual::sleep(Duration::from_nanos(5)).await;
            tasks.end(TaskGroup(1));
            assert_eq!(receiver.recv().await, Some(2));
            assert_eq!(receiver.recv().await, None);
        });
    }

    #[test]
    fn what_blocks_is_not_begun_by_who_is_ended_before() {
        let mut runtime = Virtual::seeded(1);
        let tasks = Arc::clone(runtime.tasks());
        tasks.set_blocking_ns(100, 100);
        runtime.block_on(async move {
            let (sender, receiver) = Once::channel();
            let work = async move {
                let blocking = Virtual::spawn_blocking(move || sender.send(1));
                let _ = blocking.await;
            };
            tasks.spawn_in(TaskGroup(1), Box::pin(work));
            Virtual::sleep(Duration::from_nanos(50)).await;
            tasks.end(TaskGroup(1));
            assert!(receiver.await.is_err());
        });
    }
}
