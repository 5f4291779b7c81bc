//! The node: all rooms joined, started in order, stopped in the reverse order.

use crate::config::Settings;
use crate::event::Event;
use crate::host::DoorHost;
use crate::reactor_thread::{ReactorHandle, ReactorPlan};
use crate::rest::Rest;
use crate::shared::Shared;
use crate::steward::Steward;
use crossbeam::channel::{Receiver, Sender};
use palisade_admin::{AdminConfig, Server, StartError as AdminError, Tls};
use palisade_api::Severity;
use palisade_block::ReactorIndex;
use palisade_consensus::{Agreement, ProposeError, Store, StoreError};
use palisade_engine::ReactorConfig;
use palisade_frontend::Door;
use palisade_model::{Command, InitCluster, Name, NameError, Uuid};
use palisade_sys::PageBacking;
use std::fmt;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long guests' requests may take to finish when the node stops. The service manager must wait longer.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(20);

/// How long reactors may then take to finish what devices still have.
const REACTOR_PATIENCE: Duration = Duration::from_secs(3);

/// A running node.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    door: Option<Door>,
    server: Option<Server>,
    steward: Option<JoinHandle<()>>,
}

/// Why a node did not start.
#[derive(Debug)]
pub enum StartError {
    /// A directory cannot be made.
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The node's name is not one.
    Name {
        /// What was given.
        given: String,
        /// Why not.
        source: NameError,
    },
    /// The cluster database cannot be used.
    Store(Box<StoreError>),
    /// The first entry of a new database was refused.
    Propose(Box<ProposeError>),
    /// A reactor could not be started.
    Reactor {
        /// Its core.
        core: usize,
        /// Why.
        source: io::Error,
    },
    /// A thread of the control plane could not be started.
    Thread {
        /// Which.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The token file cannot be read.
    Token {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The REST port could not be opened.
    Admin(Box<AdminError>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Directory { path, source } => write!(f, "cannot make {}: {source}", path.display()),
            StartError::Name { given, source } => write!(f, "`node` is {given:?}: {source}"),
            StartError::Store(source) => source.fmt(f),
            StartError::Propose(source) => write!(f, "the new cluster database was refused: {source}"),
            StartError::Reactor { core, source } => {
                write!(
                    f,
                    "the reactor of core {core} cannot start: {source}; `palisade preflight` says what is missing"
                )
            }
            StartError::Thread { name, source } => write!(f, "the {name} thread cannot start: {source}"),
            StartError::Token { path, source } => {
                write!(f, "cannot read the token in {}: {source}", path.display())
            }
            StartError::Admin(source) => write!(f, "{source}; {}", source.remedy()),
        }
    }
}

impl std::error::Error for StartError {}

impl Node {
    /// Starts everything, the REST port last. Disks, volumes and sockets follow by themselves, as the cluster
    /// database wants them.
    pub fn start(settings: Settings) -> Result<Node, StartError> {
        // The database is nobody else's business; the sockets have rights of their own.
        for (path, mode) in [(&settings.state_dir, 0o700), (&settings.run_dir, 0o755)] {
            let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
            made.map_err(|source| StartError::Directory {
                path: path.clone(),
                source,
            })?;
        }
        raise_limits();
        let store = Store::open(&settings.state_dir).map_err(|error| StartError::Store(Box::new(error)))?;
        let name = own_name(&store, &settings.node)?;
        let (steward, events) = crossbeam::channel::unbounded();
        let reactors = start_reactors(&settings, &steward)?;
        let shared = Arc::new(Shared::new(settings, store, name, reactors, steward));
        shared.plant().observed.started = shared.cluster().generation;
        let thread = |name| move |source| StartError::Thread { name, source };
        let door = Door::open(|_| DoorHost::new(Arc::clone(&shared))).map_err(thread("door"))?;
        shared.set_door(door.handle());
        let steward = start_steward(&shared, events).map_err(thread("steward"))?;
        let mut node = Node {
            shared,
            door: Some(door),
            server: None,
            steward: Some(steward),
        };
        node.warn_of_plain_pages();
        node.shared.send(Event::Changed);
        match node.start_server() {
            Ok(server) => node.server = Some(server),
            Err(error) => {
                node.stop();
                return Err(error);
            }
        }
        let address = node.server.as_ref().map(Server::address);
        log::info!(
            "node {} serves, rest={address:?}, cores={:?}",
            node.shared.name,
            node.shared.settings.cores
        );
        Ok(node)
    }

    /// Whether every thread that must run does.
    pub fn is_alive(&self) -> bool {
        let steward = self.steward.as_ref().is_some_and(|thread| !thread.is_finished());
        steward && self.shared.reactors.iter().all(ReactorHandle::is_alive)
    }

    /// Drains and stops: no more changes, no more requests from guests, then what is in flight, then the rest.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
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
        for reactor in &self.shared.reactors {
            if !reactor.join_until(deadline) {
                // Its requests stay in the in-flight region and its disks stay locked until the kernel is done with
                // them: the end of the process is as safe as `kill -9`.
                log::error!("a reactor waits for a device that hangs; stopping without it");
            }
        }
        if let Err(error) = self.shared.store.compact() {
            log::warn!(
                "the cluster database could not be compacted, which costs time at the next start: {error}"
            );
        }
        self.shared.send(Event::Stop);
        if let Some(steward) = self.steward.take()
            && steward.join().is_err()
        {
            log::error!("the steward ended by a panic");
        }
        log::info!("node {} has stopped", self.shared.name);
    }

    fn start_server(&self) -> Result<Server, StartError> {
        let settings = &self.shared.settings;
        let token = settings.token_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path);
            text.map(|text| text.trim().to_owned())
                .map_err(|source| StartError::Token {
                    path: path.clone(),
                    source,
                })
        });
        let tls = settings.tls.clone().map(|(cert, key)| Tls { cert, key });
        let config = AdminConfig {
            listen: settings.listen,
            tls,
            token: token.transpose()?,
        };
        Server::start(config, Arc::new(Rest::new(Arc::clone(&self.shared))))
            .map_err(|error| StartError::Admin(Box::new(error)))
    }

    fn warn_of_plain_pages(&self) {
        if self
            .shared
            .reactors
            .iter()
            .any(|reactor| reactor.backing == PageBacking::Plain)
        {
            let message = "no hugepages are free, buffers are made of plain pages: `palisade preflight --apply` sets \
                           some aside; restart the daemon afterwards";
            log::warn!("{message}");
            self.shared
                .events
                .push(Severity::Warning, "plain_pages", "node", message);
        }
    }
}

fn raise_limits() {
    if let Err(error) = palisade_sys::guard::raise_memlock() {
        log::warn!("the limit on locked memory cannot be raised: {error}");
    }
    if let Err(error) = palisade_sys::guard::raise_nofile(1 << 16) {
        log::warn!("the limit on open files cannot be raised: {error}");
    }
}

/// The node's name: as in the database, or as configured for a new one.
fn own_name(store: &Store, configured: &str) -> Result<Name, StartError> {
    let cluster = store.cluster();
    if let Some(name) = cluster.nodes.keys().next() {
        return Ok(name.clone());
    }
    let name = Name::new(configured).map_err(|source| StartError::Name {
        given: configured.into(),
        source,
    })?;
    let chance = || Uuid(uuid::Uuid::new_v4().as_u128());
    let first = InitCluster {
        id: chance(),
        node: name.clone(),
        node_uuid: chance(),
    };
    store
        .propose(Command::InitCluster(first))
        .map_err(|error| StartError::Propose(Box::new(error)))?;
    Ok(name)
}

fn start_reactors(settings: &Settings, events: &Sender<Event>) -> Result<Vec<ReactorHandle>, StartError> {
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
        ReactorHandle::start(plan, events.clone()).map_err(|source| StartError::Reactor { core, source })
    };
    settings.cores.iter().enumerate().map(start).collect()
}

fn start_steward(shared: &Arc<Shared>, events: Receiver<Event>) -> io::Result<JoinHandle<()>> {
    let steward = Steward::new(Arc::clone(shared), events);
    std::thread::Builder::new()
        .name("steward".into())
        .spawn(move || steward.run())
}
