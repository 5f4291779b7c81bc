//! The machine: an event in, effects out.

use crate::effect::{Effect, LogEntry, Work};
use crate::event::NodeEvent;
use crate::state::NodeState;
use crate::task::{Purpose, StepPhase, TaskId, UnderWay};
use palisade_block::Nanos;
use palisade_block::mailbox::ReactorChange;
use palisade_model::Cluster;
use palisade_reconcile::{Action, Step, plan};
use palisade_words::{Generation, Name, ReactorIndex, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

/// The control machine of a node. What it knows can be looked at through it, and is changed by it alone.
#[derive(Clone, Debug)]
pub struct Control {
    pub(crate) node: Name,
    pub(crate) reactors: u16,
    pub(crate) state: NodeState,
    /// What is being done outside, and what for.
    pub(crate) tasks: BTreeMap<TaskId, Purpose>,
    next_task: u64,
}

/// What a call is made with, and what comes of it.
pub(crate) struct Turn<'a> {
    pub cluster: &'a Arc<Cluster>,
    pub now: Nanos,
    pub effects: Vec<Effect>,
}

impl Deref for Control {
    type Target = NodeState;

    fn deref(&self) -> &NodeState {
        &self.state
    }
}

impl Control {
    /// That of a node with so many reactors, whose process starts at this generation of the cluster.
    pub fn new(node: Name, reactors: u16, started: Generation) -> Control {
        Control::in_state(
            node,
            reactors,
            NodeState {
                started,
                ..NodeState::default()
            },
        )
    }

    /// One that finds itself in a given state, with nothing under way.
    pub fn in_state(node: Name, reactors: u16, state: NodeState) -> Control {
        Control {
            node,
            reactors,
            state,
            tasks: BTreeMap::new(),
            next_task: 0,
        }
    }

    /// Takes an event in and says what is to be done now. `cluster` is the cluster as it is agreed on, and `now` is of a
    /// clock that does not go back.
    pub fn on(&mut self, event: NodeEvent, cluster: &Arc<Cluster>, now: Nanos) -> Vec<Effect> {
        let mut effects = self.take(event, cluster, now);
        effects.extend(self.plan(cluster, now));
        effects
    }

    /// The first half of [`Control::on`]: what has happened becomes state. Whoever has several events takes them all before
    /// the next plan.
    pub fn take(&mut self, event: NodeEvent, cluster: &Arc<Cluster>, now: Nanos) -> Vec<Effect> {
        let mut turn = self.turn(cluster, now);
        self.take_event(event, &mut turn);
        turn.effects
    }

    /// The second half: begins what can be begun. A step that ends at once may make room for others, so it plans until there
    /// is no such step. One that has failed is held back for a while, so this comes to an end.
    pub fn plan(&mut self, cluster: &Arc<Cluster>, now: Nanos) -> Vec<Effect> {
        let mut turn = self.turn(cluster, now);
        self.ask_again(now);
        loop {
            let ended = self.state.ended;
            for step in plan(cluster, &self.node, &self.state.observed) {
                if self.may_begin(&step, cluster) {
                    self.begin(step, &mut turn);
                }
            }
            if self.state.ended == ended {
                return turn.effects;
            }
        }
    }

    /// The moment at which there may be more to do although nothing has happened: [`NodeEvent::Changed`] then. `None`: time alone
    /// changes nothing.
    pub fn due(&self) -> Option<Nanos> {
        let retry = self.state.observed.next_retry_ms().map(Nanos::from_millis);
        [retry, self.asks_again_at()].into_iter().flatten().min()
    }

    /// An operator decides about a disk, whose medium he is shown: nobody opens it until [`Control::decided`]. False: another
    /// does so at this moment.
    pub fn decide(&mut self, disk: &Name) -> bool {
        self.state.observed.deciding.insert(disk.clone())
    }

    /// The decision is made, or has been given up: the disk is looked at at once.
    pub fn decided(&mut self, disk: &Name) {
        self.state.observed.deciding.remove(disk);
        self.look_again(disk);
    }

    /// Whether other nodes may be asked for what they reach: not before the cluster knows in which of its runs this node is, since
    /// by that number they tell its runs apart. At first they may.
    pub fn may_ask(&mut self, may: bool) {
        self.state.asks_nobody = !may;
    }

    /// Has a disk that is not used looked at in the next plan: an operator has done something that concerns it.
    pub fn look_again(&mut self, disk: &Name) {
        self.state.observed.look_again(disk);
    }

    /// An operator has seen what is on a disk's medium and has said that its superblock is to be written anew.
    pub fn renew(&mut self, disk: Uuid) {
        self.state.renewed.insert(disk);
    }

    fn turn<'a>(&mut self, cluster: &'a Arc<Cluster>, now: Nanos) -> Turn<'a> {
        self.state.observed.now_ms = now.0 / 1_000_000;
        Turn {
            cluster,
            now,
            effects: Vec::new(),
        }
    }

    /// Whether a step of a plan is begun now: not while it is under way, nor beside another change of the same route, whose
    /// end might come after its own. And no attachment is offered while the route of its volume is being ended, nor the other
    /// way round: its guest would come in to nothing.
    fn may_begin(&self, step: &Step, cluster: &Cluster) -> bool {
        let under_way = &self.state.under_way;
        let is_under_way = |action: &Action| under_way.contains_key(action);
        let is_beside = match &step.action {
            Action::SetRoute { volume } => is_under_way(&Action::ClearRoute {
                volume: volume.clone(),
            }),
            Action::ClearRoute { volume } => {
                let set = Action::SetRoute {
                    volume: volume.clone(),
                };
                let mut offered = under_way.values().filter_map(|other| {
                    let attachment = offered_by(&other.step.action)?;
                    other.cluster.attachments.get(attachment)
                });
                is_under_way(&set) || offered.any(|attachment| attachment.volume == *volume)
            }
            action => {
                let attachment = offered_by(action).and_then(|name| cluster.attachments.get(name));
                attachment.is_some_and(|attachment| {
                    is_under_way(&Action::ClearRoute {
                        volume: attachment.volume.clone(),
                    })
                })
            }
        };
        !is_under_way(&step.action) && !is_beside
    }

    pub(crate) fn all_reactors(&self) -> BTreeSet<ReactorIndex> {
        (0..self.reactors).map(ReactorIndex).collect()
    }

    /// A name for something that begins outside.
    pub(crate) fn new_task(&mut self, purpose: Purpose) -> TaskId {
        let task = TaskId(self.next_task);
        self.next_task += 1;
        self.tasks.insert(task, purpose);
        task
    }

    /// Notes that a step has come to a phase that does not end at once, and gives its task.
    pub(crate) fn enter(
        &mut self,
        step: Step,
        cluster: &Arc<Cluster>,
        (phase, index): (StepPhase, u16),
        now: Nanos,
    ) -> TaskId {
        let task = self.new_task(Purpose::Step(step.action.clone()));
        let awaited = match phase {
            StepPhase::Reactors | StepPhase::Revoking => self.all_reactors(),
            StepPhase::Work | StepPhase::Door => BTreeSet::new(),
        };
        self.enter_as(task, step, cluster, (phase, index, awaited), now);
        task
    }

    /// The same of a task that has begun already.
    pub(crate) fn enter_as(
        &mut self,
        task: TaskId,
        step: Step,
        cluster: &Arc<Cluster>,
        (phase, index, awaited): (StepPhase, u16, BTreeSet<ReactorIndex>),
        now: Nanos,
    ) {
        self.tasks.insert(task, Purpose::Step(step.action.clone()));
        self.state.observed.begin(&step);
        let under_way = UnderWay {
            step: step.clone(),
            cluster: Arc::clone(cluster),
            task,
            phase,
            awaited,
            index,
            since: now,
        };
        self.state.under_way.insert(step.action, under_way);
    }

    /// Takes a step out of what is under way: its phase is over.
    pub(crate) fn leave_phase(&mut self, action: &Action) -> Option<UnderWay> {
        let under_way = self.state.under_way.remove(action)?;
        self.tasks.remove(&under_way.task);
        Some(under_way)
    }

    /// Begins work outside for a step.
    pub(crate) fn start(&mut self, step: Step, cluster: &Arc<Cluster>, work: Work, turn: &mut Turn<'_>) {
        let index = match &work {
            Work::GrowDisk { device, .. } => device.0,
            _ => 0,
        };
        let task = self.enter(step, cluster, (StepPhase::Work, index), turn.now);
        turn.effects.push(Effect::Start {
            task,
            cluster: Arc::clone(cluster),
            work,
        });
    }

    /// Tells every reactor.
    pub(crate) fn tell_all(&self, task: Option<TaskId>, change: &ReactorChange, turn: &mut Turn<'_>) {
        for reactor in self.all_reactors() {
            let change = change.clone();
            turn.effects.push(Effect::Tell {
                reactor,
                task,
                change,
            });
        }
    }
}

/// The attachment whose guests a step lets in.
fn offered_by(action: &Action) -> Option<&Name> {
    match action {
        Action::OfferSocket { attachment } | Action::ReopenSocket { attachment } => Some(attachment),
        _ => None,
    }
}

impl Turn<'_> {
    pub(crate) fn log(&mut self, entry: LogEntry) {
        self.effects.push(Effect::Log(entry));
    }
}

#[cfg(test)]
mod tests;
