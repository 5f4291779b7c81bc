//! Tasks on one thread, in an order that the seed decides, and a clock that goes on when all of them wait.
//!
//! A task belongs to a group, that of whoever spawned it: a node of a cluster. A group can be ended as a whole, in the middle of
//! whatever its tasks do: their futures are dropped where they wait, as a process that is killed stops where it is.

use crate::rng::{Rng, RunHash};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Which tasks end together. What belongs to no group has number 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TaskGroup(pub u32);

/// A task as it is polled.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The number of the future that is waited for; tasks count from 1.
const MAIN: u64 = 0;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Tasks>>> = const { RefCell::new(None) };
}

/// All tasks of a run.
#[derive(Debug)]
pub struct Tasks {
    state: Mutex<State>,
    ready: Arc<Mutex<Ready>>,
}

struct State {
    now_ns: u64,
    rng: Rng,
    tasks: BTreeMap<u64, Task>,
    tasks_made: u64,
    /// The group of the task that is being polled.
    group: TaskGroup,
    timers: BTreeMap<Timer, Waker>,
    timers_made: u64,
    hash: RunHash,
    /// How long what blocks takes: the shortest and the longest time.
    blocking_ns: (u64, u64),
    panics: Vec<String>,
    trace: Option<Vec<(u64, u64)>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tasks at {} ns", self.tasks.len(), self.now_ns)
    }
}

struct Task {
    group: TaskGroup,
    /// Taken out while it is polled.
    work: Option<Work>,
}

/// When it goes off, and its number: those of one time go off in the order they were set.
pub(crate) type Timer = (u64, u64);

/// Tasks that have something to do, each once.
#[derive(Debug, Default)]
struct Ready(Vec<u64>);

struct Bell {
    task: u64,
    ready: Arc<Mutex<Ready>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let mut ready = locked(&self.ready);
        if !ready.0.contains(&self.task) {
            ready.0.push(self.task);
        }
    }
}

impl Tasks {
    /// The tasks of a run, by its seed.
    pub fn new(seed: u64) -> Arc<Tasks> {
        Arc::new(Tasks {
            state: Mutex::new(State {
                now_ns: 0,
                rng: Rng::new(seed).split("tasks"),
                tasks: BTreeMap::new(),
                tasks_made: 0,
                group: TaskGroup::default(),
                timers: BTreeMap::new(),
                timers_made: 0,
                hash: RunHash::default(),
                blocking_ns: (0, 0),
                panics: Vec::new(),
                trace: None,
            }),
            ready: Arc::default(),
        })
    }

    /// Those of which one runs on this thread.
    ///
    /// # Panics
    /// There is none: a part of a simulated node was used outside of it.
    pub fn current() -> Arc<Tasks> {
        let current = CURRENT.with_borrow(Clone::clone);
        current.expect("the simulator's runtime is used by tasks of the simulator only")
    }

    /// How long what blocks takes: the shortest and the longest time, in nanoseconds.
    pub fn set_blocking_ns(&self, shortest: u64, longest: u64) {
        self.state().blocking_ns = (shortest, longest);
    }

    /// Writes down from now on which task is polled when.
    pub fn keep_trace(&self) {
        self.state().trace = Some(Vec::new());
    }

    /// Which task was polled when (in nanoseconds), as far as that was kept.
    pub fn trace(&self) -> Vec<(u64, u64)> {
        self.state().trace.clone().unwrap_or_default()
    }

    /// Virtual time, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.state().now_ns
    }

    /// 64 random bits.
    pub fn bits(&self) -> u64 {
        self.state().rng.bits()
    }

    /// How long something takes that blocks and begins now, in nanoseconds.
    pub(crate) fn draw_blocking_ns(&self) -> u64 {
        let mut state = self.state();
        let (shortest, longest) = state.blocking_ns;
        state.rng.between(shortest, longest)
    }

    /// The hash over everything that has happened so far.
    pub fn hash(&self) -> RunHash {
        self.state().hash
    }

    /// Adds something that has happened to the hash.
    pub fn note<const N: usize>(&self, words: [u64; N]) {
        let mut state = self.state();
        let now_ns = state.now_ns;
        state.hash.add([now_ns]);
        state.hash.add(words);
    }

    /// What tasks panicked with since this was asked last.
    pub fn take_panics(&self) -> Vec<String> {
        std::mem::take(&mut self.state().panics)
    }

    /// Adds a task to the group of the one that runs, and answers with its number.
    pub(crate) fn spawn(&self, work: Work) -> u64 {
        let group = self.state().group;
        self.spawn_in(group, work)
    }

    /// Adds a task to a group.
    pub(crate) fn spawn_in(&self, group: TaskGroup, work: Work) -> u64 {
        let mut state = self.state();
        state.tasks_made += 1;
        let number = state.tasks_made;
        let work = Some(work);
        state.tasks.insert(number, Task { group, work });
        locked(&self.ready).0.push(number);
        number
    }

    /// Ends all tasks of a group where they are.
    pub fn end(&self, group: TaskGroup) {
        let mut state = self.state();
        let (ended, left) = std::mem::take(&mut state.tasks)
            .into_iter()
            .partition(|(_, task)| task.group == group);
        state.tasks = left;
        drop(state);
        // What they leave behind may wake others, who ask the tasks.
        let ended: BTreeMap<u64, Task> = ended;
        drop(ended);
    }

    /// Sets a timer, in the place of an earlier one.
    pub(crate) fn set_timer(&self, earlier: Option<Timer>, at_ns: u64, waker: Waker) -> Timer {
        let mut state = self.state();
        let timer = earlier.unwrap_or_else(|| {
            state.timers_made += 1;
            (at_ns, state.timers_made)
        });
        state.timers.insert(timer, waker);
        timer
    }

    /// Gives a timer up.
    pub(crate) fn clear_timer(&self, timer: Timer) {
        self.state().timers.remove(&timer);
    }

    /// Runs tasks until a future is done.
    ///
    /// # Panics
    /// All tasks wait for each other.
    pub fn block_on<F: Future>(self: &Arc<Tasks>, future: F) -> F::Output {
        let outer = CURRENT.replace(Some(Arc::clone(self)));
        let mut future = pin!(future);
        locked(&self.ready).0.push(MAIN);
        let output = loop {
            let Some(task) = self.next() else {
                assert!(self.go_on(), "every task waits for another");
                continue;
            };
            let waker = Waker::from(Arc::new(Bell {
                task,
                ready: Arc::clone(&self.ready),
            }));
            let mut context = Context::from_waker(&waker);
            if task != MAIN {
                self.poll(task, &mut context);
            } else if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                break output;
            }
        };
        locked(&self.ready).0.retain(|task| *task != MAIN);
        CURRENT.set(outer);
        output
    }

    /// Which of those that are ready comes next is chance.
    fn next(&self) -> Option<u64> {
        let mut state = self.state();
        let mut ready = locked(&self.ready);
        if ready.0.is_empty() {
            return None;
        }
        let at = state.rng.index(ready.0.len());
        let task = ready.0.swap_remove(at);
        let now_ns = state.now_ns;
        state.hash.add([now_ns, task]);
        if let Some(trace) = &mut state.trace {
            trace.push((now_ns, task));
        }
        Some(task)
    }

    fn poll(&self, number: u64, context: &mut Context<'_>) {
        let mut state = self.state();
        // One that has ended may be woken still.
        let Some(task) = state.tasks.get_mut(&number) else {
            return;
        };
        let (Some(mut work), group) = (task.work.take(), task.group) else {
            return;
        };
        let outer = std::mem::replace(&mut state.group, group);
        drop(state);
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        let mut state = self.state();
        state.group = outer;
        let is_done = match &polled {
            Ok(polled) => polled.is_ready(),
            Err(panic) => {
                state.panics.push(said(panic.as_ref()));
                true
            }
        };
        let left = match state.tasks.get_mut(&number) {
            Some(task) if !is_done => {
                task.work = Some(work);
                None
            }
            // Done; or its group was ended while it was polled.
            _ => Some((state.tasks.remove(&number), work)),
        };
        drop(state);
        drop(left);
    }

    /// Lets time go on to the next timer. False when there is none.
    fn go_on(&self) -> bool {
        let mut state = self.state();
        let Some(((at_ns, _), waker)) = state.timers.pop_first() else {
            return false;
        };
        state.now_ns = state.now_ns.max(at_ns);
        drop(state);
        waker.wake();
        true
    }

    /// Drops all tasks, which may ask the tasks.
    pub(crate) fn end_all(self: &Arc<Tasks>) {
        let outer = CURRENT.replace(Some(Arc::clone(self)));
        loop {
            let tasks = std::mem::take(&mut self.state().tasks);
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
        }
        CURRENT.set(outer);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

/// What a panic says.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it does not say why".into())
}

/// One thread has it, so nobody ever waits; and whoever panicked with it has left it whole.
pub(crate) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
