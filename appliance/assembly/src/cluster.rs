//! This node among others: who it is to them, where they reach it, and how it reaches them.
//!
//! ```text
//!   cluster init ---> authority, own certificate, the database becomes the first voter's, the door for nodes opens
//!   cluster join ---> the cluster signs a certificate; the node starts anew, and is told by the others what was agreed on
//!   each start   ---> membership.json says that the node is one of several: keys, Raft's files, the door for nodes
//! ```
//!
//! One TCP port takes everything that nodes say to each other; what a connection is for is agreed on in its handshake
//! ([`Purpose`](palisade_trust::Purpose)). All of it is TLS 1.3 with certificates at both ends.

pub mod door;
pub mod init;
pub mod join;
pub mod membership_file;
pub(crate) mod sensing;
pub mod status;
mod way;

use crate::agreed::Agreed;
use crate::config::Settings;
use crate::shared::Shared;
use membership_file::{MembershipFile, MembershipFileError};
use palisade_consensus::raft::{ClusterMember, MemberError, MemberSettings, VoterId};
use palisade_trust::{Acceptor, Connector, Credentials, KeyDirectory, KeyDirectoryError, Purpose};
use palisade_trust::{RefusalCounters, Roster};
use palisade_words::Uuid;
use sensing::Sensing;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::runtime::{Builder, Runtime};
pub(crate) use way::Way;

/// Why a node is no member although it should be.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The file that says so is not in order.
    #[error("{0}")]
    Membership(#[from] MembershipFileError),
    /// Its keys cannot be used.
    #[error("{0}")]
    Keys(#[from] KeyDirectoryError),
    /// It has no certificate.
    #[error(
        "this node is of cluster {cluster} and has no certificate of it: bring back the folder `trust` of its state directory, or let \
         it join again with a new token and an empty state directory"
    )]
    NoCertificate {
        /// The cluster.
        cluster: Uuid,
    },
    /// Its part of the agreement cannot be had.
    #[error("{0}")]
    Member(#[from] MemberError),
    /// There are no threads.
    #[error("the threads for other nodes cannot be started: {0}")]
    Threads(#[source] io::Error),
}

/// This node among others.
#[derive(Debug)]
pub struct Site {
    way: Arc<Way>,
    runtime: Mutex<Option<Runtime>>,
    door: door::Standing,
    sensing: Arc<Sensing>,
    refusals: Arc<RefusalCounters>,
}

/// What is known of the cluster, if this node is in one of several.
#[derive(Debug, Default)]
pub struct Sited(OnceLock<Arc<Site>>);

impl Sited {
    /// It is, from now on.
    pub fn set(&self, site: Arc<Site>) {
        // It becomes so once.
        let _ = self.0.set(site);
    }

    /// The site.
    pub fn get(&self) -> Option<&Arc<Site>> {
        self.0.get()
    }
}

/// Opens what the state directory of a node has that is one of several; `None` where it is alone.
///
/// # Errors
/// [`ClusterError`].
pub fn open(settings: &Settings) -> Result<Option<(Arc<Site>, Agreed, MembershipFile)>, ClusterError> {
    let Some(file) = MembershipFile::read(&settings.state_dir)? else {
        return Ok(None);
    };
    let site = Site::open(settings, &file)?;
    // At the first start as one of several: what this node had agreed on alone, which was nothing, is put away, and it begins with
    // files that have promised nothing.
    ClusterMember::replace_single(&settings.state_dir, VoterId(file.node))?;
    let member = site.start_member(settings, &file)?;
    Ok(Some((site, Agreed::member(member), file)))
}

impl Site {
    /// Of a node with its keys.
    pub(crate) fn open(settings: &Settings, file: &MembershipFile) -> Result<Arc<Site>, ClusterError> {
        let keys = KeyDirectory::open(&settings.state_dir)?;
        let credentials = keys.credentials(file.cluster, file.node)?;
        let cluster = file.cluster;
        let credentials = credentials.ok_or(ClusterError::NoCertificate { cluster })?;
        let (roster, counters) = (Arc::new(Roster::default()), Arc::<RefusalCounters>::default());
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(32)
            .thread_name("palisade-nodes")
            .enable_all()
            .build()
            .map_err(ClusterError::Threads)?;
        Ok(Arc::new(Site {
            way: Arc::new(Way::new(
                file,
                connector(&credentials, &roster, &counters),
                acceptor(&credentials, &roster, &counters),
                roster,
            )),
            runtime: Mutex::new(Some(runtime)),
            door: door::Standing::default(),
            sensing: Sensing::new(),
            refusals: counters,
        }))
    }

    /// Starts this node's part of the agreement.
    pub(crate) fn start_member(
        &self,
        settings: &Settings,
        file: &MembershipFile,
    ) -> Result<Arc<ClusterMember>, MemberError> {
        let run = Uuid(uuid::Uuid::new_v4().as_u128());
        let member = MemberSettings::of(VoterId(file.node), file.cluster, run);
        let dial = Arc::new(way::Dial(Arc::clone(&self.way)));
        let member = Arc::new(ClusterMember::start(&settings.state_dir, member, dial)?);
        self.way.set_member(&member);
        Ok(member)
    }

    /// Begins: the door for nodes opens, data finds its way to them, and whoever changes the cluster is heard.
    pub fn begin(&self, shared: &Arc<Shared>, member: &Arc<ClusterMember>) {
        let (way, told) = (Arc::downgrade(&self.way), Arc::downgrade(shared));
        self.way
            .roster()
            .update(&palisade_consensus::Agreement::cluster(&**member));
        member.listen(move |cluster| {
            if let Some(way) = way.upgrade() {
                way.roster().update(cluster);
            }
            if let Some(shared) = told.upgrade() {
                shared.send(crate::message::ControlMessage::Changed);
            }
        });
        if let Err(error) = self.sensing.start(shared, member, &self.way) {
            log::error!(
                "no thread could be started for heartbeats, and the others will not hear this node: {error}"
            );
        }
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            self.way.set_threads(runtime.handle().clone());
            runtime.spawn(door::run(
                Arc::downgrade(shared),
                Arc::clone(&self.way),
                self.door.clone(),
            ));
        }
    }

    /// Connections and machines that were refused since the start.
    pub(crate) fn refusals(&self) -> &RefusalCounters {
        &self.refusals
    }

    /// Who is there.
    pub(crate) fn sensing(&self) -> &Arc<Sensing> {
        &self.sensing
    }

    /// The way to other nodes.
    pub(crate) fn way(&self) -> &Way {
        &self.way
    }

    /// Where the door for nodes stands open, or why it does not.
    pub fn door(&self) -> &door::Standing {
        &self.door
    }

    /// Ends: nobody comes in any more.
    pub fn stop(&self) {
        self.sensing.stop();
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

/// However it is let go of, its threads are not waited for, which may not be done everywhere.
impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
    }
}

fn connector(credentials: &Credentials, roster: &Arc<Roster>, counters: &Arc<RefusalCounters>) -> Connector {
    Connector::new(credentials.clone(), Arc::clone(roster), Arc::clone(counters))
}

fn acceptor(credentials: &Credentials, roster: &Arc<Roster>, counters: &Arc<RefusalCounters>) -> Acceptor {
    Acceptor::new(
        credentials.clone(),
        &Purpose::ALL,
        Arc::clone(roster),
        Arc::clone(counters),
    )
}
