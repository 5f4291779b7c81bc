//! The latest agreed cluster, where readers find it.

use palisade_model::Cluster;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The latest agreed cluster.
#[derive(Debug)]
pub(crate) struct Published {
    cluster: Mutex<Arc<Cluster>>,
}

impl Published {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Published {
        Published {
            cluster: Mutex::new(cluster),
        }
    }

    pub(crate) fn get(&self) -> Arc<Cluster> {
        Arc::clone(&self.lock())
    }

    pub(crate) fn set(&self, cluster: Arc<Cluster>) {
        *self.lock() = cluster;
    }

    /// A poisoned lock still holds a whole value: it is only ever replaced.
    fn lock(&self) -> MutexGuard<'_, Arc<Cluster>> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
