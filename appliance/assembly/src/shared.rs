//! What all threads of the control plane share.

use crate::agreed::Agreed;
use crate::cluster::Sited;
use crate::config::Settings;
use crate::counted::Counted;
use crate::effects::executor::Executor;
use crate::last_limit::LastLimit;
use crate::last_seen::LastSeen;
use crate::last_superblock::LastSuperblock;
use crate::local_state::LocalState;
use crate::local_state::lock::{Seen, StateGuard, StateLock};
use crate::message::ControlMessage;
use crate::peers::PeerSessions;
use crate::pinning::Pinning;
use crate::reactor_thread::{NoticeSink, ReactorHandle};
use crate::recorder::EventFiles;
use crate::standing::Findings;
use crate::views::View;
use crate::watch::Watch;
use crossbeam::channel::Sender;
use palisade_admin::EventLog;
use palisade_api::{FindingKind, Health};
use palisade_block::Nanos;
use palisade_consensus::ProposeError;
use palisade_control::Control;
use palisade_frontend::DoorHandle;
use palisade_memory::Shares;
use palisade_model::{Cluster, Command, Disk};
use palisade_wire::StartNumber;
use palisade_words::{Incarnation, Name};
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How long who only looks waits for the present state. It is held for moments, so longer means that its holder is stuck.
const SIGHT_PATIENCE: Duration = Duration::from_millis(100);

/// One for each node.
#[derive(Debug)]
pub struct Shared {
    /// The configuration in force.
    pub settings: Settings,
    /// This node's name.
    pub name: Name,
    /// Its reactors.
    pub reactors: Vec<ReactorHandle>,
    /// Who carries out what takes a while.
    pub executor: Arc<dyn Executor>,
    /// What has happened.
    pub events: Arc<EventLog>,
    /// Where it is kept.
    pub records: EventFiles,
    /// What is wrong.
    pub findings: Findings,
    counted: Mutex<Counted>,
    /// Who is watched for progress.
    pub watch: Arc<Watch>,
    /// What disks without an identity looked like when they were last looked at.
    pub last_seen: LastSeen,
    /// Which generation of its superblock each disk was last known to carry.
    pub last_superblock: LastSuperblock,
    /// What guests may make us spend on their memory.
    pub shares: Arc<Shares>,
    /// What this process may use of memory.
    pub last_limit: LastLimit,
    /// Which guest's memory is to be pinned.
    pub pinning: Pinning,
    /// The sessions with other nodes.
    pub peers: PeerSessions,
    /// When it started.
    pub started: SystemTime,
    /// Which of its runs this is, once the cluster has been told.
    pub incarnation: OnceLock<Incarnation>,
    /// The moment from which the control machine's clock counts.
    pub began: Instant,
    /// The cluster, and the way to change it.
    pub agreed: Agreed,
    /// This node among others, where it is one of several.
    pub site: Sited,
    /// Where other nodes reach it before it has heard of that from them.
    pub first_addresses: Vec<SocketAddr>,
    /// Drawn at this start: a copy of this machine has drawn another.
    pub start_number: StartNumber,
    /// Held by who makes it one of several.
    pub becoming: Mutex<()>,
    /// It is to start anew as one of several.
    pub begins_anew: AtomicBool,
    state: StateLock,
    door: Arc<OnceLock<DoorHandle>>,
    messages: Sender<ControlMessage>,
}

impl Shared {
    /// Before the door is open and the control loop runs.
    pub fn new(
        settings: Settings,
        agreed: Agreed,
        executor: Arc<dyn Executor>,
        name: Name,
        reactors: Vec<ReactorHandle>,
        told: NoticeSink,
    ) -> Shared {
        let NoticeSink {
            control: messages,
            door,
        } = told;
        let cluster = agreed.cluster();
        let generation = cluster.generation;
        let control = Control::new(name.clone(), reactors.len() as u16, generation);
        let state = StateLock::new(LocalState::new(control));
        let shares = Shares::new(settings.shares);
        let last_seen = LastSeen::below(&settings.state_dir);
        let last_superblock = LastSuperblock::below(&settings.state_dir);
        let node = cluster.nodes.get(&name).map(|node| node.uuid.to_string());
        let (records, events) =
            EventFiles::open(&settings.state_dir, &node.unwrap_or_default(), name.as_str());
        let events = Arc::new(events);
        let started = SystemTime::now();
        let (findings, watch) = (Findings::new(Arc::clone(&events)), Arc::default());
        let pinning = Pinning::within(settings.pinned_each_percent, settings.pinned_percent);
        Shared {
            settings,
            name,
            reactors,
            executor,
            events,
            records,
            findings,
            counted: Mutex::default(),
            watch,
            last_seen,
            last_superblock,
            shares,
            last_limit: LastLimit::default(),
            pinning,
            peers: PeerSessions::default(),
            started,
            incarnation: OnceLock::new(),
            began: Instant::now(),
            agreed,
            site: Sited::default(),
            first_addresses: Vec::new(),
            start_number: drawn(),
            becoming: Mutex::default(),
            begins_anew: AtomicBool::new(false),
            state,
            door,
            messages,
        }
    }

    /// The present moment, on the clock of the control machine.
    pub fn now(&self) -> Nanos {
        Nanos(self.began.elapsed().as_nanos() as u64)
    }

    /// The door has been opened.
    pub fn set_door(&self, door: DoorHandle) {
        // It is opened once, in the start of the node.
        let _ = self.door.set(door);
    }

    /// What the node has. Held for moments only.
    pub fn state(&self) -> StateGuard<'_> {
        self.state.lock()
    }

    /// What the node has, for those who must go on although whoever holds the lock may be stuck. `None` when it could not
    /// be had within `patience`.
    pub fn state_within(&self, patience: Duration) -> Option<StateGuard<'_>> {
        self.state.lock_within(patience)
    }

    /// What the node has, to be looked at: as it is, or as it was a moment ago when whoever holds the lock does not let
    /// go of it.
    pub fn seen(&self) -> Seen<'_> {
        self.state.seen(SIGHT_PATIENCE)
    }

    /// Makes the copy that [`Shared::seen`] falls back on as what the node has is now.
    pub fn publish(&self, state: &mut StateGuard<'_>) {
        self.state.publish(state);
    }

    /// Works out what follows from the present state; false when that could not be read within `patience`.
    pub fn derive_findings(&self, patience: Duration) -> bool {
        let cluster = self.cluster();
        let state = self.state_within(patience);
        if let Some(mut state) = state {
            self.observe(&cluster, &state);
            self.publish(&mut state);
            return true;
        }
        false
    }

    /// What is wrong, as far as it is known. It waits for nobody.
    pub fn health(&self) -> Health {
        Health::of(self.findings.list())
    }

    /// Works out what follows from a state that the caller holds.
    pub fn observe(&self, cluster: &Cluster, state: &LocalState) {
        // Under the lock of the state, so that two threads cannot take the same counts for new.
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let reports = |index| self.door().report(index);
        counted.look(cluster, state, &reports, &self.findings, Instant::now());
        drop(counted);
        self.findings.observe(View::new(self, cluster, state).derived());
    }

    /// The door.
    ///
    /// # Panics
    /// Before the door was opened, which is a mistake in the order of the start below.
    pub fn door(&self) -> &DoorHandle {
        #[expect(
            clippy::expect_used,
            reason = "set once in RunningNode::start, before any caller exists"
        )]
        self.door
            .get()
            .expect("the door is opened before anybody asks for it")
    }

    /// Whether the control loop has been told something that it has not taken yet.
    pub fn events_wait(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Has disks that are not used looked at at once: an operator has done something that concerns them. Who cannot be told
    /// now looks by himself before long.
    pub fn look_again(&self, concerns: impl Fn(&Name, &Disk) -> bool) {
        let cluster = self.cluster();
        let concerned = cluster.disks.iter().filter(|(name, disk)| concerns(name, disk));
        let Some(mut state) = self.state_within(SIGHT_PATIENCE) else {
            return;
        };
        concerned.for_each(|(name, _)| state.control.look_again(name));
        drop(state);
        self.send(ControlMessage::Changed);
    }

    /// Tells the control loop.
    pub fn send(&self, message: ControlMessage) {
        // The loop outlives all who send, except while the node is stopping and nothing is left to do.
        let _ = self.messages.send(message);
    }

    /// A change of the cluster, agreed on when this returns.
    pub fn propose(&self, command: Command) -> Result<palisade_model::Outcome, ProposeError> {
        let agreed = self.agreed.propose(command);
        self.tell_of_database(&agreed);
        let outcome = agreed?;
        self.send(ControlMessage::Changed);
        Ok(outcome)
    }

    /// Says so while the database takes no changes, with the first reason.
    pub fn tell_of_database(&self, agreed: &Result<palisade_model::Outcome, ProposeError>) {
        let (kind, subject) = (FindingKind::DatabaseHalted, "node");
        match agreed {
            Ok(_) => self.findings.clear(kind, subject),
            // They say nothing about this node's storage.
            Err(ProposeError::Refused(_) | ProposeError::NotLeader { .. } | ProposeError::OutcomeUnknown) => {
            }
            Err(ProposeError::Misplaced { what }) => {
                self.findings.raise(FindingKind::StateMisplaced, subject, what);
            }
            Err(error @ (ProposeError::Storage { .. } | ProposeError::Halted)) => {
                self.findings.raise(kind, subject, error.to_string());
            }
        }
    }

    /// The cluster as agreed on.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.agreed.cluster()
    }
}

/// A number that no other start draws.
fn drawn() -> StartNumber {
    loop {
        let drawn = uuid::Uuid::new_v4().as_u64_pair().1;
        if let Some(number) = StartNumber::new(drawn) {
            return number;
        }
    }
}
