//! Those that have to agree with a node.

use palisade_consensus::{Agreement, Leader, ProposeError, Store};
use palisade_model::{Cluster, Command, Outcome};
use palisade_words::Name;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// What comes of a change.
#[derive(Debug)]
pub enum Fate {
    /// Another node leads the cluster, which is reached there.
    Elsewhere(Vec<String>),
    /// Nobody leads it.
    NoLeader,
    /// It is agreed on, and nobody is told.
    Unheard,
    /// It is not agreed on, and nobody is told.
    Lost,
}

/// They agree with what is asked for at once, as the node's own database does, unless a test says what comes of it.
#[derive(Debug)]
pub struct Others {
    store: Arc<Store>,
    fates: Mutex<VecDeque<Fate>>,
}

impl Others {
    pub(super) fn of(store: Arc<Store>) -> Others {
        Others {
            store,
            fates: Mutex::default(),
        }
    }

    /// This comes of the next changes of volumes, in this order.
    pub fn agree(&self, next: impl IntoIterator<Item = Fate>) {
        self.fates.lock().unwrap().extend(next);
    }

    /// Nothing is decided any more about changes to come.
    pub fn agree_at_once(&self) {
        self.fates.lock().unwrap().clear();
    }

    /// What is agreed on without being asked here, as by another node.
    pub fn have_agreed(&self, command: Command) {
        self.store.propose(command).unwrap();
    }

    fn fate_of(&self, command: &Command) -> Option<Fate> {
        let is_of_volumes = matches!(
            command,
            Command::CreateVolume(_)
                | Command::GrowVolume(_)
                | Command::ChangeVolume(_)
                | Command::DeleteVolume(_)
        );
        is_of_volumes.then(|| self.fates.lock().unwrap().pop_front())?
    }
}

impl Agreement for Others {
    fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        match self.fate_of(&command) {
            None => self.store.propose(command),
            Some(Fate::Elsewhere(addresses)) => {
                let node = Name::new("host-b").unwrap();
                let leader = Some(Leader { node, addresses });
                Err(ProposeError::NotLeader { leader })
            }
            Some(Fate::NoLeader) => Err(ProposeError::NotLeader { leader: None }),
            Some(Fate::Unheard) => self.store.propose(command).and(Err(ProposeError::OutcomeUnknown)),
            Some(Fate::Lost) => Err(ProposeError::OutcomeUnknown),
        }
    }

    fn cluster(&self) -> Arc<Cluster> {
        self.store.cluster()
    }
}
