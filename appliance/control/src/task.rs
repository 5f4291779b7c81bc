//! Steps that take a while, and the tasks that they are carried out by.

use palisade_block::Nanos;
use palisade_model::Cluster;
use palisade_reconcile::{Action, Step};
use palisade_words::{Name, ReactorIndex};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Names one thing that was begun outside, for as long as the process lives: no other ever has the same. Its end, or each
/// acknowledgement of it, comes back with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TaskId(pub u64);

/// A step that takes a while.
#[derive(Clone, Debug)]
pub struct UnderWay {
    /// The step.
    pub step: Step,
    /// The cluster it was planned from.
    pub cluster: Arc<Cluster>,
    /// What is being done for it just now.
    pub task: TaskId,
    /// Who does that.
    pub phase: StepPhase,
    /// Reactors that have yet to acknowledge.
    pub awaited: BTreeSet<ReactorIndex>,
    /// The number of the device, volume or attachment that it is about, where it has one.
    pub index: u16,
    /// When it began.
    pub since: Nanos,
}

/// Who does what is being done for a step just now, and so by what its task ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepPhase {
    /// Somebody outside: [`NodeEvent::Finished`](crate::NodeEvent::Finished).
    Work,
    /// The reactors, each of which acknowledges: [`NodeEvent::Acknowledged`](crate::NodeEvent::Acknowledged).
    Reactors,
    /// The door, which lets an attachment go: [`NodeEvent::Detached`](crate::NodeEvent::Detached).
    Door,
    /// The reactors and the door, in whatever order: an attachment is taken away for good.
    Revoking,
}

/// What a task is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A step.
    Step(Action),
    /// The return of a disk whose device had gone.
    Return(Name),
}
