//! The latest agreed cluster, where readers find it and waiters are woken.

use palisade_model::Cluster;
use palisade_words::Generation;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The latest agreed cluster.
#[derive(Debug)]
pub(crate) struct Published {
    cluster: Mutex<Arc<Cluster>>,
    changed: Condvar,
}

impl Published {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Published {
        Published {
            cluster: Mutex::new(cluster),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn get(&self) -> Arc<Cluster> {
        Arc::clone(&self.lock())
    }

    pub(crate) fn set(&self, cluster: Arc<Cluster>) {
        *self.lock() = cluster;
        self.changed.notify_all();
    }

    pub(crate) fn wait_beyond(&self, generation: Generation, patience: Duration) -> Arc<Cluster> {
        let not_yet = |cluster: &mut Arc<Cluster>| cluster.generation <= generation;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, not_yet);
        let (cluster, _) = waited.unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&cluster)
    }

    /// A poisoned lock still holds a whole value: it is only ever replaced.
    fn lock(&self) -> MutexGuard<'_, Arc<Cluster>> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
