//! What all threads of the control plane share.

use crate::config::Settings;
use crate::event::Event;
use crate::orders::Order;
use crate::plant::{Offered, Plant};
use crate::reactor_thread::ReactorHandle;
use crossbeam::channel::Sender;
use palisade_admin::EventLog;
use palisade_block::mailbox::Command as EngineCommand;
use palisade_block::{AttachmentIndex, ReactorIndex};
use palisade_consensus::{Agreement, ProposeError, Store};
use palisade_frontend::DoorHandle;
use palisade_model::{Cluster, Command, Name};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

/// One for each node.
#[derive(Debug)]
pub struct Shared {
    /// The configuration in force.
    pub settings: Settings,
    /// The cluster, and the way to change it.
    pub store: Store,
    /// This node's name.
    pub name: Name,
    /// Its reactors.
    pub reactors: Vec<ReactorHandle>,
    /// What has happened.
    pub events: EventLog,
    /// When it started.
    pub started: SystemTime,
    plant: Mutex<Plant>,
    door: OnceLock<DoorHandle>,
    steward: Sender<Event>,
}

impl Shared {
    /// Before the door is open and the steward runs.
    pub fn new(
        settings: Settings,
        store: Store,
        name: Name,
        reactors: Vec<ReactorHandle>,
        steward: Sender<Event>,
    ) -> Shared {
        let plant = Mutex::new(Plant::default());
        let (events, started, door) = (EventLog::default(), SystemTime::now(), OnceLock::new());
        Shared {
            settings,
            store,
            name,
            reactors,
            events,
            started,
            plant,
            door,
            steward,
        }
    }

    /// The door has been opened.
    pub fn set_door(&self, door: DoorHandle) {
        // It is opened once, in the start of the node.
        let _ = self.door.set(door);
    }

    /// What the node has. Held for moments only.
    pub fn plant(&self) -> MutexGuard<'_, Plant> {
        self.plant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The door.
    ///
    /// # Panics
    /// Before the door was opened, which is a mistake in the order of the start below.
    pub fn door(&self) -> &DoorHandle {
        #[expect(
            clippy::expect_used,
            reason = "set once in Node::start, before any caller exists"
        )]
        self.door
            .get()
            .expect("the door is opened before anybody asks for it")
    }

    /// Tells the steward.
    pub fn send(&self, event: Event) {
        // The steward outlives all who send, except while the node is stopping and nothing is left to do.
        let _ = self.steward.send(event);
    }

    /// A change of the cluster, agreed on when this returns.
    pub fn propose(&self, command: Command) -> Result<palisade_model::Outcome, ProposeError> {
        let outcome = self.store.propose(command)?;
        self.send(Event::Changed);
        Ok(outcome)
    }

    /// The cluster as agreed on.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.store.cluster()
    }

    /// Gives all reactors of an attachment its present settings.
    pub fn retell(&self, offered: &Offered) {
        for (at, reactor) in self.reactors.iter().enumerate() {
            let index = ReactorIndex(at as u16);
            if offered.running.values().any(|&running| running == index) {
                let attachment: AttachmentIndex = offered.index;
                let settings = offered.settings(index);
                reactor.send(Order::Engine(EngineCommand::SetAttachment {
                    attachment,
                    settings,
                }));
            }
        }
    }
}
