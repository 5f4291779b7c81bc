//! Who carries out what takes a while.

use super::work::{self, Job};
use crate::message::ControlMessage;
use crate::shared::Shared;
use palisade_control::{TaskId, Work};
use std::fmt;
use std::sync::Arc;

/// Carries out the control machine's slow work. The daemon's does each on a thread of its own ([`Threads`]); one of a test holds
/// some of it back, or lets it fail.
pub trait Executor: fmt::Debug + Send + Sync {
    /// Begins it, without waiting for it: the caller holds the state of the node.
    fn begin(&self, slow: SlowWork);
}

/// Work that the control machine has begun and waits for. One that is dropped instead of being ended is waited for as long as
/// the node runs.
pub struct SlowWork {
    shared: Arc<Shared>,
    task: TaskId,
    work: Work,
    job: Job,
}

impl SlowWork {
    pub(super) fn new(shared: Arc<Shared>, task: TaskId, work: Work, job: Job) -> SlowWork {
        SlowWork {
            shared,
            task,
            work,
            job,
        }
    }

    /// What it is.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Carries it out and tells the control loop what came of it. Blocks for as long as that takes.
    pub fn carry_out(self) {
        let result = (self.job)();
        let task = self.task;
        self.shared.send(ControlMessage::Finished { task, result });
    }

    /// Tells the control loop that it could not be done, and why; of it nothing is done.
    pub fn fail(self, reason: String) {
        let (task, result) = (self.task, Err(reason));
        self.shared.send(ControlMessage::Finished { task, result });
    }
}

impl fmt::Debug for SlowWork {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("SlowWork")
            .field("task", &self.task)
            .field("work", &self.work)
            .finish_non_exhaustive()
    }
}

/// Each on a thread of its own: none has to wait for another that hangs.
#[derive(Clone, Copy, Debug)]
pub struct Threads;

impl Executor for Threads {
    fn begin(&self, slow: SlowWork) {
        let (shared, task) = (Arc::clone(&slow.shared), slow.task);
        let thread = std::thread::Builder::new().name(work::thread_name(&slow.work).into());
        if let Err(error) = thread.spawn(move || slow.carry_out()) {
            let reason = format!(
                "no thread could be started for it: {error}; raise the service's limits on threads and memory \
                 (TasksMax, LimitNPROC, MemoryMax)"
            );
            let result = Err(reason);
            shared.send(ControlMessage::Finished { task, result });
        }
    }
}
