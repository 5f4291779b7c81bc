//! What is agreed on: a log on stable storage and the cluster that it leads to. Its answers get lost, and another node may lead.

use crate::plan::Break;
use palisade_consensus::{Agreement, ProposeError};
use palisade_model::{Cluster, Command, Outcome};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// What comes of the next proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It is agreed on or refused, and answered.
    Answered,
    /// Another node leads, and nothing happens.
    NotLeader,
    /// It does not reach the log, and there is no answer.
    Lost,
    /// It is agreed on, and there is no answer.
    Unheard,
}

/// The log, as several nodes would keep it.
#[derive(Debug)]
pub(super) struct Log {
    /// The commands, each of which has changed something.
    entries: RefCell<Vec<Command>>,
    cluster: RefCell<Arc<Cluster>>,
    /// What the log led to after each of them.
    clusters: RefCell<Vec<Arc<Cluster>>>,
    fate: Cell<Fate>,
    broken: Option<Break>,
}

impl Log {
    /// Without any cluster.
    pub(super) fn new(broken: Option<Break>) -> Log {
        Log {
            entries: RefCell::default(),
            cluster: RefCell::new(Arc::new(Cluster::empty())),
            clusters: RefCell::default(),
            fate: Cell::new(Fate::Answered),
            broken,
        }
    }

    /// Says what comes of the next proposal.
    pub(super) fn next(&self, fate: Fate) {
        self.fate.set(fate);
    }

    /// How many commands have changed something.
    pub(super) fn commands(&self) -> usize {
        self.clusters.borrow().len()
    }

    /// What the log led to after the first so many of them.
    pub(super) fn after(&self, commands: usize) -> Option<Arc<Cluster>> {
        let last = commands.checked_sub(1)?;
        self.clusters.borrow().get(last).cloned()
    }

    /// The last command.
    pub(super) fn last(&self) -> Option<Command> {
        self.entries.borrow().last().cloned()
    }

    /// All commands.
    #[cfg(test)]
    pub(super) fn entries(&self) -> Vec<Command> {
        self.entries.borrow().clone()
    }

    /// What a process that starts finds: it must be what those before it were told.
    pub(super) fn read_again(&self) -> Result<(), String> {
        let mut found = Cluster::empty();
        for entry in self.entries.borrow().iter() {
            let applied = found.apply(entry);
            (found, _) = applied.map_err(|refusal| format!("{entry:?} once done is refused: {refusal:?}"))?;
        }
        let told = self.cluster.replace(Arc::new(found));
        match *self.cluster() == *told {
            true => Ok(()),
            false => Err(format!(
                "generation {} was acknowledged, and the log leads to generation {}",
                told.generation,
                self.cluster().generation
            )),
        }
    }
}

impl Agreement for Log {
    fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let fate = self.fate.replace(Fate::Answered);
        match fate {
            Fate::NotLeader => return Err(ProposeError::NotLeader { leader: None }),
            Fate::Lost => return Err(ProposeError::OutcomeUnknown),
            Fate::Answered | Fate::Unheard => {}
        }
        let (next, outcome) = self.cluster().apply(&command)?;
        if !matches!(outcome, Outcome::Unchanged { .. }) {
            self.clusters.borrow_mut().push(Arc::new(next.clone()));
            // The deliberate fault: a leader that has been replaced answers all the same.
            if self.broken != Some(Break::AcknowledgesUnlogged) {
                self.entries.borrow_mut().push(command);
            }
            self.cluster.replace(Arc::new(next));
        }
        match fate {
            Fate::Unheard => Err(ProposeError::OutcomeUnknown),
            _ => Ok(outcome),
        }
    }

    fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.cluster.borrow())
    }
}
