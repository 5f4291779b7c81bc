//! By what this node agrees: alone with itself, or with others. One becomes the other while guests are served.

use palisade_consensus::raft::ClusterMember;
use palisade_consensus::{Agreement, ProposeError, Store};
use palisade_model::{Cluster, Command, Outcome};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

/// The agreement of the moment.
#[derive(Debug)]
pub struct Agreed(RwLock<Database>);

#[derive(Debug)]
enum Database {
    /// The database of a single node, and who brings commands there.
    Alone {
        store: Arc<Store>,
        agreement: Arc<dyn Agreement + Send + Sync>,
    },
    /// That of one among several.
    Member(Arc<ClusterMember>),
    /// The one is becoming the other: this was agreed on last, and nothing is until then.
    Between(Arc<Cluster>),
}

/// What has gone wrong when a single node was to become a member; what it agreed on alone before goes on.
#[derive(Debug, thiserror::Error)]
pub enum GrowError<E> {
    /// It is one already.
    #[error("this node is in a cluster of several already")]
    Member,
    /// Somebody uses the files of the database and does not let go of them.
    #[error("the files of the cluster database are in use")]
    InUse,
    /// The files of a member could not be made of it.
    #[error("{0}")]
    Failed(E),
}

impl Agreed {
    /// A single node.
    pub fn alone(store: Arc<Store>, agreement: Arc<dyn Agreement + Send + Sync>) -> Agreed {
        Agreed(RwLock::new(Database::Alone { store, agreement }))
    }

    /// One of several.
    pub fn member(member: Arc<ClusterMember>) -> Agreed {
        Agreed(RwLock::new(Database::Member(member)))
    }

    /// The cluster as agreed on, as far as this node knows.
    pub fn cluster(&self) -> Arc<Cluster> {
        match &*self.read() {
            Database::Alone { agreement, .. } => agreement.cluster(),
            Database::Member(member) => member.cluster(),
            Database::Between(cluster) => Arc::clone(cluster),
        }
    }

    /// A change.
    ///
    /// # Errors
    /// As [`Agreement::propose`].
    pub fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let agreement: Arc<dyn Agreement + Send + Sync> = match &*self.read() {
            Database::Alone { agreement, .. } => Arc::clone(agreement),
            Database::Member(member) => Arc::clone(member) as _,
            Database::Between(_) => return Err(ProposeError::NotLeader { leader: None }),
        };
        agreement.propose(command)
    }

    /// The database of a single node.
    pub fn store(&self) -> Option<Arc<Store>> {
        match &*self.read() {
            Database::Alone { store, .. } => Some(Arc::clone(store)),
            Database::Member(_) | Database::Between(_) => None,
        }
    }

    /// The member, where it is one of several.
    pub fn as_member(&self) -> Option<Arc<ClusterMember>> {
        match &*self.read() {
            Database::Member(member) => Some(Arc::clone(member)),
            Database::Alone { .. } | Database::Between(_) => None,
        }
    }

    /// Takes no changes any more: this node is about to start anew as another.
    pub fn freeze(&self) {
        let cluster = self.cluster();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Database::Between(cluster);
    }

    /// Makes a member of a single node: `grow` is called when nobody uses the files of its database any more, and opens those of
    /// the member. When it fails, `reopen` gives the database back.
    ///
    /// # Errors
    /// [`GrowError`].
    pub fn grow<E>(
        &self,
        grow: impl FnOnce() -> Result<Arc<ClusterMember>, E>,
        reopen: impl FnOnce() -> Option<Arc<Store>>,
    ) -> Result<Arc<ClusterMember>, GrowError<E>> {
        let store = {
            let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let Database::Alone { store, agreement } = &*now else {
                return Err(GrowError::Member);
            };
            let (store, cluster) = (Arc::clone(store), agreement.cluster());
            *now = Database::Between(cluster);
            store
        };
        let is_free = free(&store);
        let grown = match is_free {
            true => {
                drop(store);
                grow().map_err(GrowError::Failed)
            }
            false => Err(GrowError::InUse),
        };
        let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match &grown {
            Ok(member) => *now = Database::Member(Arc::clone(member)),
            Err(_) => {
                if let Some(store) = reopen() {
                    let agreement = Arc::clone(&store) as _;
                    *now = Database::Alone { store, agreement };
                }
            }
        }
        grown
    }

    fn read(&self) -> RwLockReadGuard<'_, Database> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until nobody else uses a database: whoever does has taken it for a moment.
fn free(store: &Arc<Store>) -> bool {
    for _ in 0..1000 {
        if Arc::strong_count(store) == 1 {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}
