//! The latest agreed cluster, where readers find it, and who wants to hear of it.

use palisade_model::Cluster;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Hears of each cluster that is published.
pub(crate) type Listener = Box<dyn Fn(&Arc<Cluster>) + Send + Sync>;

/// The latest agreed cluster.
pub(crate) struct Published {
    cluster: Mutex<Arc<Cluster>>,
    listeners: Mutex<Vec<Listener>>,
}

impl Published {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Published {
        Published {
            cluster: Mutex::new(cluster),
            listeners: Mutex::default(),
        }
    }

    pub(crate) fn get(&self) -> Arc<Cluster> {
        Arc::clone(&self.lock())
    }

    /// Whoever publishes does so alone.
    pub(crate) fn set(&self, cluster: Arc<Cluster>) {
        let before = std::mem::replace(&mut *self.lock(), Arc::clone(&cluster));
        let is_same = (before.generation, before.lineage) == (cluster.generation, cluster.lineage);
        if !is_same {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            listeners.iter().for_each(|listener| listener(&cluster));
        }
    }

    pub(crate) fn listen(&self, listener: Listener) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(listener);
    }

    /// A poisoned lock still holds a whole value: it is only ever replaced.
    fn lock(&self) -> MutexGuard<'_, Arc<Cluster>> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.lock(), f)
    }
}
