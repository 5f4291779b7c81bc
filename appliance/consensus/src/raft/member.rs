//! A running member of the cluster: it votes or listens, and answers whoever asks for a command or a read.
//!
//! ```text
//!   any thread --propose--> [threads of its own: openraft, connections, followers of the cluster] --> other members
//!                  ^               |
//!                  `-- cluster() --'  published, listeners told
//! ```
//!
//! It passes on what it does not lead to the one that does, once: what was passed on is never passed on again. All that
//! waits has a deadline.

mod asking;
mod error;
mod standing;
mod tasks;

use crate::agreement::{Agreement, ProposeError};
use crate::database_file::InDirectory;
use crate::places::LOCK;
use crate::raft::asked::{Asked, MemberRaft};
use crate::raft::files::VoterFiles;
use crate::raft::growth;
use crate::raft::network::serving::serve;
use crate::raft::network::{Links, VoterConnections, VoterDial, VoterStream};
use crate::raft::peers::Peers;
use crate::raft::proposal::EntryOutcome;
use crate::raft::rules::rules;
use crate::raft::shows::Shows;
use crate::raft::state_machine::StateMachine;
use crate::raft::voter;
use crate::raft::voter_id::VoterId;
use crate::store::{self, Store};
use crate::store_error::StoreError;
use openraft::{Raft, SnapshotPolicy};
use openraft_rt_tokio::TokioRuntime;
use palisade_model::{Cluster, Command, Outcome};
use palisade_words::{Incarnation, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

pub use error::{MemberError, ReadNowError};
pub use standing::{MemberRole, MemberStanding, VoterStanding};

/// How long [`Agreement::propose`] waits, unless the settings say otherwise.
pub const PROPOSE_WITHIN: Duration = Duration::from_secs(5);

/// How much longer than it was told to a thread waits for an answer of the member's own threads.
const ANSWERS_LATE: Duration = Duration::from_secs(1);

/// How long an orderly stop may take.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// Threads that do what does not block.
const WORKER_THREADS: usize = 2;

/// Threads that wait for files, at most.
const BLOCKING_THREADS_MAX: usize = 8;

/// Connections of one other member, at most: openraft has three, and a candidate and those who pass on have theirs.
const SERVED_PER_VOTER_MAX: usize = 16;

/// Who a member is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberSettings {
    /// The node.
    pub node: VoterId,
    /// The cluster; what is said in another is refused.
    pub cluster: Uuid,
    /// An id for this run, drawn anew at each start: two runs from one copy of the files are told apart by it.
    pub run: Uuid,
    /// How long a command may take until it is answered.
    pub propose_within: Duration,
    /// After how many entries the cluster is kept as a whole; the usual number when none is said.
    pub entries_per_state: Option<u64>,
}

impl MemberSettings {
    /// With the usual times.
    pub fn of(node: VoterId, cluster: Uuid, run: Uuid) -> MemberSettings {
        MemberSettings {
            node,
            cluster,
            run,
            propose_within: PROPOSE_WITHIN,
            entries_per_state: None,
        }
    }
}

/// A member that runs. Dropped without [`ClusterMember::stop`] it ends where it is, as by a crash.
pub struct ClusterMember {
    inner: Inner,
    runtime: Option<Runtime>,
    propose_within: Duration,
    served: Mutex<BTreeMap<VoterId, Arc<AtomicUsize>>>,
    /// Held as long as the member has its files.
    _lock: File,
}

/// What its tasks work with. Its clones are the same.
#[derive(Clone)]
struct Inner {
    raft: MemberRaft,
    state: StateMachine<TokioRuntime>,
    links: Links,
    handle: Handle,
}

impl ClusterMember {
    /// Makes the files of a new member in a directory, which is made if there is none: it has promised nothing and knows of no
    /// cluster. To be called once in the life of a node.
    ///
    /// # Errors
    /// A voter, or a single node's database, is there; or the files cannot be written.
    pub fn create(directory: &Path, node: VoterId) -> Result<(), MemberError> {
        store::make_private(directory).map_err(StoreError::io(directory))?;
        let _lock = store::lock(&directory.join(LOCK))?;
        if let Some(path) = store::single_database_in(directory) {
            return Err(MemberError::SingleDatabase { path });
        }
        Ok(VoterFiles::in_directory(directory).create(node)?)
    }

    /// The same in the place of a single node's database, which must have agreed on nothing that counts: no disks, volumes or
    /// attachments. It is put away under a name that no version opens. What is a member's already is left as it is.
    ///
    /// # Errors
    /// There is something in it, or a file cannot be written.
    pub fn replace_single(directory: &Path, node: VoterId) -> Result<(), MemberError> {
        if store::voter_in(directory).is_some() {
            return Ok(());
        }
        if let Some(path) = store::single_database_in(directory) {
            let (_, cluster) = Store::open_to_grow(directory)?.reached();
            let is_bare =
                cluster.disks.is_empty() && cluster.volumes.is_empty() && cluster.attachments.is_empty();
            if !is_bare {
                return Err(MemberError::SingleDatabase { path });
            }
            growth::put_away(directory, node)?;
        }
        ClusterMember::create(directory, node)
    }

    /// Starts the member whose files are in a directory.
    ///
    /// # Errors
    /// Another process uses the directory; a file is missing, damaged or another node's; or there are no threads to be had.
    pub fn start(
        directory: &Path,
        settings: MemberSettings,
        dial: Arc<dyn VoterDial>,
    ) -> Result<ClusterMember, MemberError> {
        growth::finish(directory, settings.node)?;
        let lock = store::lock(&directory.join(LOCK))?;
        let files = VoterFiles::in_directory(directory);
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("palisade-raft")
            .enable_all()
            .build()
            .map_err(|source| MemberError::Threads { source })?;
        let inner = inner(&files, &settings, dial, runtime.handle())?;
        tasks::spawn(&inner);
        Ok(ClusterMember {
            inner,
            runtime: Some(runtime),
            propose_within: settings.propose_within,
            served: Mutex::default(),
            _lock: lock,
        })
    }

    /// Makes this member the only voter of a cluster that begins with it. A member that has begun already, or was told of a
    /// cluster by others, is left as it is.
    ///
    /// # Errors
    /// Its files cannot be written.
    pub fn begin(&self) -> Result<(), MemberError> {
        let (raft, me) = (self.inner.raft.clone(), self.id());
        let begun = async move {
            if raft.is_initialized().await.unwrap_or(false) {
                return Ok(());
            }
            let first = BTreeSet::from([me]);
            raft.initialize(first).await.map_err(|error| error.to_string())
        };
        match self.wait_for(begun, STOPS_WITHIN) {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => Err(MemberError::Raft { why }),
            None => Err(MemberError::Raft {
                why: "it has stopped".into(),
            }),
        }
    }

    /// Serves a connection that another member has made, until it ends. The caller has authenticated `from`; whoever claims to
    /// be another on it is refused. The stream must work on whatever runtime polls it.
    pub fn serve(&self, stream: Box<dyn VoterStream>, from: VoterId) {
        let place = {
            let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(served.entry(from).or_default())
        };
        if place.fetch_add(1, Ordering::Relaxed) >= SERVED_PER_VOTER_MAX {
            place.fetch_sub(1, Ordering::Relaxed);
            let why = format!("node {from} has {SERVED_PER_VOTER_MAX} connections already, and makes more");
            return self.inner.links.counts().too_many(from, why);
        }
        let place = Place(place);
        let (links, asked) = (self.inner.links.clone(), self.inner.asked());
        self.inner.handle.spawn(async move {
            serve(links, asked, stream, from).await;
            drop(place);
        });
    }

    /// The cluster with all that was agreed on before this was called. Blocks no longer than `within`.
    ///
    /// # Errors
    /// No majority confirms it in that time. [`Agreement::cluster`] still has what this node knows.
    pub fn cluster_now(&self, within: Duration) -> Result<Arc<Cluster>, ReadNowError> {
        let inner = self.inner.clone();
        let read = async move { inner.cluster_now(within).await };
        self.wait_for(read, within).unwrap_or(Err(ReadNowError::Stopped))
    }

    /// How this member stands. Cheap: nobody is asked.
    pub fn standing(&self) -> MemberStanding {
        self.inner.standing()
    }

    /// From now on `listener` hears of each cluster that is published here, in their order. It must not block, and not ask this
    /// member for anything.
    pub fn listen(&self, listener: impl Fn(&Arc<Cluster>) + Send + Sync + 'static) {
        self.inner.state.listen(listener);
    }

    /// Its connections to the others, and what has gone wrong on them.
    pub fn links(&self) -> &Links {
        &self.inner.links
    }

    /// Its node.
    pub fn id(&self) -> VoterId {
        self.inner.links.me()
    }

    /// In which of its runs it is: a later one than all that it or the cluster knows of.
    pub fn incarnation(&self) -> Incarnation {
        self.inner.links.peers().incarnation()
    }

    /// Stops in good order: nothing is on its way to a file afterwards, and all files can be opened again.
    pub fn stop(mut self) {
        let inner = self.inner.clone();
        let stopping = async move {
            // It stops whatever has become of it.
            let _ = inner.raft.shutdown().await;
            inner.links.close();
            if let Err(error) = inner.links.peers().keep::<TokioRuntime>().await {
                log::warn!("agreement: what others have shown cannot be written down: {error}");
            }
        };
        if self.wait_for(stopping, STOPS_WITHIN).is_none() {
            log::warn!("agreement: a member has not stopped in good order within {STOPS_WITHIN:?}");
        }
        if let Some(runtime) = self.runtime.take() {
            // Where that would block it may not: on a thread of another runtime.
            match Handle::try_current() {
                Ok(_) => runtime.shutdown_background(),
                Err(_) => runtime.shutdown_timeout(STOPS_WITHIN),
            }
        }
    }

    /// Lets something be done on the member's threads, and waits for it. None when they have ended, or are much too late.
    fn wait_for<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        within: Duration,
    ) -> Option<T> {
        let (sender, receiver) = sync_channel(1);
        self.inner.handle.spawn(async move {
            // Who waits may have given up.
            let _ = sender.send(work.await);
        });
        receiver.recv_timeout(within + ANSWERS_LATE).ok()
    }
}

impl Agreement for ClusterMember {
    /// At any member: one that does not lead passes it on.
    fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let (inner, within) = (self.inner.clone(), self.propose_within);
        let proposed = async move { inner.propose(command, within).await };
        let written = self.wait_for(proposed, within);
        match written.unwrap_or(Err(ProposeError::OutcomeUnknown))?.outcome {
            EntryOutcome::Applied(outcome) => Ok(outcome),
            EntryOutcome::Refused(refusal) => Err(refusal.into()),
            // The leader's program has not known what a command is.
            EntryOutcome::Nothing => Err(ProposeError::OutcomeUnknown),
        }
    }

    /// As far as this node knows: others may know more.
    fn cluster(&self) -> Arc<Cluster> {
        self.inner.state.cluster()
    }
}

impl Drop for ClusterMember {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for ClusterMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterMember")
            .field("links", &self.inner.links)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn asked(&self) -> Asked {
        Asked {
            raft: self.raft.clone(),
            state: self.state.clone(),
        }
    }
}

/// A place among those who are served, as long as it is held.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens the files, and starts openraft on them.
fn inner(
    files: &VoterFiles<InDirectory>,
    settings: &MemberSettings,
    dial: Arc<dyn VoterDial>,
    handle: &Handle,
) -> Result<Inner, MemberError> {
    let node = settings.node;
    let (log, state) = voter::open::<TokioRuntime>(node, &files.log, &files.state)?;
    let cluster = state.cluster();
    let known = cluster
        .node_by_id(node.0)
        .map_or(Incarnation(0), |(_, node)| node.incarnation);
    let peers = Peers::open(node, Box::new(files.peers.clone()), settings.run, known)?;
    let shows = Shows::of(&log, &state, &peers);
    let links = Links::new(settings.cluster, node, dial, shows, peers);
    let mut config = rules(settings.cluster).map_err(|error| MemberError::Raft {
        why: error.to_string(),
    })?;
    if let Some(entries) = settings.entries_per_state {
        config.snapshot_policy = SnapshotPolicy::LogsSinceLast(entries);
        config.max_in_snapshot_log_to_keep = entries;
    }
    let network = VoterConnections::over(links.clone());
    let (config, machine) = (Arc::new(config), state.clone());
    let (sender, receiver) = sync_channel(1);
    handle.spawn(async move {
        let raft = Raft::new(node, config, network, log, machine).await;
        let _ = sender.send(raft);
    });
    let raft = receiver.recv().map_err(|error| MemberError::Raft {
        why: error.to_string(),
    })?;
    let raft = raft.map_err(|error| MemberError::Raft {
        why: error.to_string(),
    })?;
    Ok(Inner {
        raft,
        state,
        links,
        handle: handle.clone(),
    })
}
