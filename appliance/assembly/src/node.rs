//! The node: all rooms joined, started in order, stopped in the reverse order.

use crate::agreed::Agreed;
use crate::cluster::{self, ClusterError};
use crate::config::{ConfigError, Settings};
use crate::control_loop::ControlLoop;
use crate::database;
use crate::effects::executor::{Executor, Threads};
use crate::host::DoorHost;
use crate::last_run;
use crate::message::ControlMessage;
use crate::new_token;
use crate::next_start;
use crate::pinning;
use crate::places;
use crate::reactor_thread::{NoticeSink, ReactorHandle, ReactorPlan};
use crate::rest::Rest;
use crate::samples::oldest_ns;
use crate::shared::Shared;
use crate::sight;
use crate::sockets;
use crate::started;
use crate::watch::{self, Enrolled, PendingWork, Stuck};
use crossbeam::channel::Receiver;
use palisade_admin::{AdminStartError, Server, TcpAccess};
use palisade_api::{FindingKind, Severity};
use palisade_block::Progress;
use palisade_block::progress::Mark;
use palisade_consensus::{Agreement, IdentityError, NodeIdentity, ProposeError, Store, StoreError};
use palisade_engine::ReactorConfig;
use palisade_frontend::Door;
use palisade_model::{Command, InitCluster};
use palisade_words::{Name, NameError, ReactorIndex, Uuid};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long guests' requests may take to finish when the node stops. The service manager must wait longer.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(20);

/// How long reactors may then take to finish what devices still have.
const REACTOR_PATIENCE: Duration = Duration::from_secs(3);

/// The watch looks several times a second; when it has not for so long, it is stuck itself.
const WATCH_BOUND: Duration = Duration::from_secs(15);

/// A running node.
#[derive(Debug)]
pub struct RunningNode {
    shared: Arc<Shared>,
    door: Option<Door>,
    server: Option<Server>,
    control: Option<JoinHandle<()>>,
    watch: Option<JoinHandle<()>>,
    watched: Vec<Enrolled>,
    watch_seen: Option<(Mark, Instant)>,
}

/// How a node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// All that everybody depends on makes progress.
    Moving,
    /// A thread that everybody depends on makes no progress for so long that this process cannot help itself.
    Stuck(Stuck),
    /// A thread that must run has ended.
    Ended(String),
    /// It has joined a cluster, and is to be stopped and started anew as a node of that.
    Joined,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory cannot be made.
    #[error("cannot make {path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The node's name is not one.
    #[error("`node` is {given:?}: {source}")]
    Name {
        /// What was given.
        given: String,
        /// Why not.
        source: NameError,
    },
    /// The cluster database cannot be used.
    #[error("{0}")]
    Store(#[source] Box<StoreError>),
    /// It is one of several, and what it needs for that is not in order.
    #[error("{0}")]
    Cluster(#[source] Box<ClusterError>),
    /// It is not clear which node this is.
    #[error("{0}")]
    Identity(#[source] Box<IdentityError>),
    /// The first thing that this run has to say was refused: that there is a cluster, or that the node has started.
    #[error("the cluster database does not take that this node starts: {0}")]
    Propose(#[source] Box<ProposeError>),
    /// A reactor could not be started.
    #[error("the reactor of core {core} cannot start: {source}; `palisade preflight` says what is missing")]
    Reactor {
        /// Its core.
        core: usize,
        /// Why.
        source: io::Error,
    },
    /// A thread of the control plane could not be started.
    #[error("the {name} thread cannot start: {source}")]
    Thread {
        /// Which.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A setting fits this machine no more.
    #[error("{0}")]
    Config(#[source] Box<ConfigError>),
    /// REST's doors could not be opened.
    #[error("{}; {}", .0, .0.remedy())]
    Admin(#[source] Box<AdminStartError>),
}

impl RunningNode {
    /// Starts everything, the REST port last. Disks, volumes and sockets follow by themselves, as the cluster
    /// database wants them.
    ///
    /// # Errors
    /// What cannot be had.
    pub fn start(settings: Settings) -> Result<RunningNode, StartError> {
        RunningNode::start_with(settings, |store| store, Arc::new(Threads))
    }

    /// The same with another agreement over the files of this node, and somebody else who carries out slow work.
    ///
    /// # Errors
    /// As for [`RunningNode::start`].
    pub fn start_with(
        settings: Settings,
        agreement: impl FnOnce(Arc<Store>) -> Arc<dyn Agreement + Send + Sync>,
        executor: Arc<dyn Executor>,
    ) -> Result<RunningNode, StartError> {
        // The database is nobody else's business; the sockets have rights of their own.
        for (path, mode) in [(&settings.state_dir, 0o700), (&settings.run_dir, 0o755)] {
            let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
            made.map_err(|source| StartError::Directory {
                path: path.clone(),
                source,
            })?;
        }
        let limits = raise_limits();
        let found = cluster::open(&settings).map_err(|error| StartError::Cluster(Box::new(error)))?;
        let (agreed, name, is_new, site) = match found {
            Some((site, agreed, file)) => (agreed, file.name.clone(), false, Some((site, file))),
            None => {
                let store = Store::open(&settings.state_dir);
                let store = Arc::new(store.map_err(|error| StartError::Store(Box::new(error)))?);
                let is_new = store.cluster().nodes.is_empty();
                let name = own_name(&store, &settings)?;
                let agreement = agreement(Arc::clone(&store));
                (Agreed::alone(store, agreement), name, is_new, None)
            }
        };
        let (control, messages) = crossbeam::channel::unbounded();
        let told = NoticeSink {
            control,
            door: Arc::default(),
        };
        let reactors = start_reactors(&settings, &told)?;
        let mut shared = Shared::new(settings, agreed, executor, name, reactors, told);
        if let Some((_, file)) = &site {
            shared.first_addresses = file.nodes.get(&file.node).cloned().unwrap_or_default();
        }
        let shared = Arc::new(shared);
        let member = shared.agreed.as_member();
        if let (Some((site, _)), Some(member)) = (site, member) {
            shared.site.set(Arc::clone(&site));
            site.begin(&shared, &member);
        }
        if !limits.is_empty() {
            let cause = limits.join("; ");
            shared.findings.raise(FindingKind::LimitInForce, "node", cause);
        }
        tell_of_start(&shared)?;
        tell_of_database(&shared, is_new);
        new_token::tell(&shared, is_new);
        let admin = &shared.settings.admin;
        sockets::sweep(&shared.settings.run_dir, &admin.socket, &shared.cluster());
        let thread = |name| move |source| StartError::Thread { name, source };
        let door = Door::open(shared.settings.door, |_| DoorHost::new(Arc::clone(&shared)))
            .map_err(thread("door"))?;
        shared.set_door(door.handle());
        let progress = Arc::new(Progress::default());
        let watched = enrol(&shared, &door, &progress);
        let control = start_control(&shared, messages, progress).map_err(thread("control loop"))?;
        let watch = start_watch(&shared).map_err(thread("watch"))?;
        shared.records.start(&shared).map_err(thread("events"))?;
        start_pinning(&shared).map_err(thread("pin"))?;
        let mut node = RunningNode {
            shared,
            door: Some(door),
            server: None,
            control: Some(control),
            watch: Some(watch),
            watched,
            watch_seen: None,
        };
        node.shared.send(ControlMessage::Changed);
        match node.start_server() {
            Ok(server) => {
                let watch = &node.shared.watch;
                // It shows itself again and again, whether or not there is work.
                let enrolled = watch.enrol_known(
                    "node/rest",
                    "the server of REST",
                    server.progress(),
                    PendingWork::nothing(),
                );
                node.watched.push(enrolled);
                node.server = Some(server);
            }
            Err(error) => {
                node.stop();
                return Err(error);
            }
        }
        node.tell_of_doors();
        node.tell_of_last_run();
        log::info!(
            "node {} serves, cores={:?}",
            node.shared.name,
            node.shared.settings.cores
        );
        Ok(node)
    }

    /// The address of the TCP port, with the port that the kernel has chosen where none was asked for; `None` where there is no
    /// such door, or another process holds its port.
    pub fn rest_address(&self) -> Option<SocketAddr> {
        self.server.as_ref()?.address()
    }

    /// Whether every thread that others depend on runs and makes progress.
    pub fn condition(&mut self) -> Condition {
        self.look_at_port();
        if self.shared.begins_anew.load(Relaxed) {
            return Condition::Joined;
        }
        let runs =
            |thread: &Option<JoinHandle<()>>| thread.as_ref().is_some_and(|thread| !thread.is_finished());
        let ended = |name: String| Condition::Ended(format!("the thread of {name} has ended"));
        if !runs(&self.control) {
            return ended("the control loop".into());
        }
        if !runs(&self.watch) {
            return ended("the watch".into());
        }
        if self.door.as_ref().is_none_or(Door::has_ended) {
            return ended("the door".into());
        }
        if let Some(reactor) = self.shared.reactors.iter().find(|reactor| !reactor.is_alive()) {
            return ended(format!("reactor {}", reactor.plan.index.0));
        }
        // The watch watches the others; nobody but the caller watches it.
        let (mark, now) = (self.shared.watch.mark(), Instant::now());
        match self.watch_seen {
            Some((seen, since)) if seen == mark => {
                if now.duration_since(since) >= WATCH_BOUND {
                    let seconds = now.duration_since(since).as_secs();
                    return Condition::Stuck(Stuck {
                        subject: "node/watch".into(),
                        message: format!("the watch itself has made no progress for {seconds} s"),
                    });
                }
            }
            _ => self.watch_seen = Some((mark, now)),
        }
        self.shared
            .watch
            .past_help()
            .map_or(Condition::Moving, Condition::Stuck)
    }

    /// Drains and stops: no more changes, no more requests from guests, then what is in flight, then the rest.
    pub fn stop(&mut self) {
        self.shared.pinning.stop();
        if let Some(server) = self.server.take() {
            server.stop();
        }
        self.watched.clear();
        self.shared.watch.stop();
        if let Some(watch) = self.watch.take() {
            watch.thread().unpark();
            if watch.join().is_err() {
                log::error!("the watch ended by a panic");
            }
        }
        if let Some(door) = self.door.take()
            && let Err(error) = door.shutdown(DRAIN_PATIENCE)
        {
            log::error!("stopping with requests in flight: {error}");
        }
        for reactor in &self.shared.reactors {
            reactor.stop();
        }
        let deadline = Instant::now() + REACTOR_PATIENCE;
        let ended: Vec<_> = self
            .shared
            .reactors
            .iter()
            .map(|reactor| reactor.join_until(deadline))
            .collect();
        if ended.into_iter().all(|ended| ended) {
            sight::look_last(&self.shared);
        } else {
            // Their requests stay in the in-flight regions, and each such disk stays locked until the kernel is done with
            // it; all others are free. The end of the process is as safe as `kill -9`.
            log::error!(
                "stopping without an answer from {}; a successor takes each of these disks when its last request has \
                 come back, and all others at once",
                self.disks_waited_for()
            );
        }
        if let Some(site) = self.shared.site.get() {
            site.stop();
        }
        if let Some(store) = self.shared.agreed.store()
            && let Err(error) = store.compact()
        {
            log::warn!(
                "the cluster database could not be compacted, which costs time at the next start: {error}"
            );
        }
        self.shared.send(ControlMessage::Stop);
        if let Some(control) = self.control.take()
            && control.join().is_err()
        {
            log::error!("the control loop ended by a panic");
        }
        self.shared.records.stop(&self.shared.events);
        last_run::end(&self.shared.settings.state_dir);
        log::info!("node {} has stopped", self.shared.name);
    }

    /// Looks after what the next start will read: `wrong` says what keeps the configuration file from being taken as it is
    /// now, if anything does.
    ///
    /// # Errors
    /// No thread can be started for it.
    pub fn watch_configuration(
        &self,
        wrong: impl FnMut() -> Option<String> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        // It ends by itself; a folder that does not answer must not hold up the stop.
        std::thread::Builder::new()
            .name("configuration".into())
            .spawn(move || next_start::run(&shared, wrong))
            .map(drop)
    }

    /// Reads tokens, certificate and key again.
    pub fn reload(&self) {
        match self.server.as_ref().map(Server::reload) {
            Some(Err(error)) => log::error!(
                "nothing was reloaded, the old keys stay in force: {error}; {}",
                error.remedy()
            ),
            _ => log::info!("tokens, certificate and key were read again; other settings need a restart"),
        }
    }

    /// The disks that have operations in flight, each with how many and how old.
    fn disks_waited_for(&self) -> String {
        let state = self.shared.seen();
        let waited: Vec<_> = state
            .disks
            .iter()
            .filter_map(|(name, open)| {
                let count: u64 = open.stats.iter().map(|stats| stats.in_flight.get()).sum();
                let seconds = oldest_ns(open) / 1_000_000_000;
                (count > 0).then(|| format!("disk {name} ({count} operations, the oldest for {seconds} s)"))
            })
            .collect();
        match waited.is_empty() {
            true => "a reactor".into(),
            false => waited.join(", "),
        }
    }

    fn start_server(&self) -> Result<Server, StartError> {
        let settings = &self.shared.settings;
        let config = settings
            .admin_config()
            .map_err(|error| StartError::Config(Box::new(error)))?;
        Server::start(config, Arc::new(Rest::new(Arc::clone(&self.shared))))
            .map_err(|error| StartError::Admin(Box::new(error)))
    }

    /// Says by which doors REST is reached and what they ask for.
    fn tell_of_doors(&self) {
        let admin = &self.shared.settings.admin;
        log::info!("rest: socket={}", admin.socket.display());
        let Some(door) = &admin.tcp else { return };
        let Some(server) = &self.server else { return };
        if let Some(why) = server.port_trouble() {
            let cause = format!(
                "REST is not reached over TCP: {why}; it is by the Unix socket {}",
                admin.socket.display()
            );
            return self
                .shared
                .findings
                .restate(FindingKind::RestPortTaken, "node", cause);
        }
        let address = server.address().unwrap_or(door.listen);
        match &door.access {
            TcpAccess::Tokens { admin, .. } => log::info!("rest: tcp={address} token={}", admin.display()),
            TcpAccess::Nothing => log::warn!(
                "rest: every user of this machine may change everything over {address}: admin.loopback_without_token is set"
            ),
        }
    }

    /// Says so when the daemon before this one did not shut down.
    fn tell_of_last_run(&self) {
        let (last, begun) = last_run::begin(&self.shared.settings.state_dir);
        if let Err(error) = begun {
            log::warn!("the next start will not know whether this run was shut down: {error}");
        }
        if let Some(message) = last.told() {
            log::warn!("{message}");
            self.shared
                .events
                .push(Severity::Warning, "last_run_not_shut_down", "node", message);
        }
    }

    /// Whether the port that another process held has been had meanwhile.
    fn look_at_port(&self) {
        if self
            .server
            .as_ref()
            .is_some_and(|server| server.address().is_some())
        {
            self.shared.findings.clear(FindingKind::RestPortTaken, "node");
        }
    }
}

/// Says where the database lies when it does not last there, and that it knows nothing when it has just been made: disks of
/// before may be those of another state directory.
fn tell_of_database(shared: &Shared, is_new: bool) {
    let settings = &shared.settings;
    if !settings.allow.takes_any_place()
        && let Some(cause) = places::of_state(&settings.state_dir)
    {
        shared.findings.raise(FindingKind::StateInMemory, "node", cause);
    }
    if is_new {
        let message = format!(
            "a new cluster database was made in {}, and it knows no disks. If there were some before, they are in the database \
             of another `state_dir`: name that and restart the daemon; if that is lost, `palisade disk import` takes pooled \
             disks in with their volumes",
            settings.state_dir.display()
        );
        log::info!("{message}");
        shared
            .events
            .push(Severity::Info, "database_made", "node", message);
    }
}

/// Lifts what can be lifted. The limits that stay and can keep guests from being served, in words.
fn raise_limits() -> Vec<String> {
    let mut in_force = Vec::new();
    if let Err(error) = palisade_sys::guard::raise_memlock() {
        log::warn!("the limit on locked memory cannot be raised: {error}");
    }
    if let Err(error) = palisade_sys::guard::raise_nofile(1 << 16) {
        log::warn!("the limit on open files cannot be raised: {error}");
    }
    for which in palisade_sys::guard::Resource::ALL {
        match palisade_sys::guard::raise_to_hard(which) {
            Ok(limit) if limit.now != u64::MAX && which != palisade_sys::guard::Resource::Processes => {
                in_force.push(format!("{} {}", limit.now, which.meaning()));
            }
            Ok(limit) => log::debug!("limit {which:?}: {}", limit.now),
            Err(error) => log::warn!("a limit ({which:?}) cannot be raised: {error}"),
        }
    }
    in_force
}

/// The node's name: as the cluster calls the node that this state directory is of, or as configured for a new one.
fn own_name(store: &Store, settings: &Settings) -> Result<Name, StartError> {
    let cluster = store.cluster();
    let chance = || Uuid(uuid::Uuid::new_v4().as_u128());
    let identity = NodeIdentity::of(&settings.state_dir, &cluster, chance)
        .map_err(|error| StartError::Identity(Box::new(error)))?;
    if let Some(name) = identity.name_in(&cluster) {
        return Ok(name.clone());
    }
    let name = Name::new(&*settings.node).map_err(|source| StartError::Name {
        given: settings.node.clone(),
        source,
    })?;
    let first = InitCluster {
        id: chance(),
        node: name.clone(),
        node_uuid: identity.node(),
    };
    store
        .propose(Command::InitCluster(first))
        .map_err(|error| StartError::Propose(Box::new(error)))?;
    Ok(name)
}

/// The cluster learns which of its runs the node is in. On storage that takes no changes this comes later, by itself.
fn tell_of_start(shared: &Shared) -> Result<(), StartError> {
    match started::tell(shared) {
        Ok(_) => Ok(()),
        // One that has just joined hears of itself from the others.
        Err(ProposeError::Refused(refusal)) if shared.site.get().is_none() => {
            Err(StartError::Propose(Box::new(ProposeError::Refused(refusal))))
        }
        Err(error) => {
            log::warn!("the start of this node is not in the cluster database yet: {error}");
            Ok(())
        }
    }
}

fn start_reactors(settings: &Settings, told: &NoticeSink) -> Result<Vec<ReactorHandle>, StartError> {
    let start = |(index, &core): (usize, &usize)| {
        let plan = ReactorPlan {
            index: ReactorIndex(index as u16),
            core,
            idle: settings.idle,
            config: ReactorConfig {
                slots: settings.slots,
                ..ReactorConfig::default()
            },
            pool_buffers: settings.pool_buffers as u32,
        };
        ReactorHandle::start(plan, told.clone()).map_err(|source| StartError::Reactor { core, source })
    };
    settings.cores.iter().enumerate().map(start).collect()
}

/// Puts the threads that everybody depends on on the watch's list.
fn enrol(shared: &Arc<Shared>, door: &Door, control: &Arc<Progress>) -> Vec<Enrolled> {
    let watch = &shared.watch;
    let reactor = |reactor: &ReactorHandle| {
        let (index, core) = (reactor.plan.index, reactor.plan.core);
        watch.enrol_vital(
            format!("reactor/{}", index.0),
            format!("reactor {} on core {core}", index.0),
            Arc::clone(&reactor.progress),
            Some(index),
            reactor.waiting(),
        )
    };
    let mut watched: Vec<_> = shared.reactors.iter().map(reactor).collect();
    let handle = door.handle();
    watched.push(watch.enrol_vital(
        "node/door",
        "the door",
        handle.progress(),
        None,
        PendingWork::asks(move || handle.has_work().then_some("a command")),
    ));
    let asked = Arc::downgrade(shared);
    watched.push(watch.enrol_vital(
        "node/control",
        "the control loop",
        Arc::clone(control),
        None,
        PendingWork::asks(move || asked.upgrade()?.events_wait().then_some("an event")),
    ));
    watched
}

fn start_watch(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let for_sockets = Arc::clone(shared);
    // It ends by itself; a folder of sockets that does not answer must not hold up the stop.
    std::thread::Builder::new()
        .name("sockets".into())
        .spawn(move || sockets::run(&for_sockets))?;
    let for_database = Arc::clone(shared);
    // Likewise.
    std::thread::Builder::new()
        .name("database".into())
        .spawn(move || database::run(&for_database))?;
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || watch::run(&shared))
}

/// Nobody waits for its end: what it does is of no use to a node that stops.
fn start_pinning(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("pin".into())
        .spawn(move || pinning::run(&shared))
        .map(drop)
}

fn start_control(
    shared: &Arc<Shared>,
    messages: Receiver<ControlMessage>,
    progress: Arc<Progress>,
) -> io::Result<JoinHandle<()>> {
    let control = ControlLoop::new(Arc::clone(shared), messages, progress);
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || control.run())
}
