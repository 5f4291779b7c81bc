//! Agreement without stable storage: for the simulator and for tests.

use crate::agreement::{Agreement, ProposeError};
use crate::published::Published;
use palisade_model::{Cluster, Command, Outcome};
use palisade_words::Generation;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Keeps the cluster in memory only.
#[derive(Debug)]
pub struct MemoryStore {
    published: Published,
    proposing: Mutex<()>,
}

impl MemoryStore {
    /// Begins with no cluster.
    pub fn new() -> MemoryStore {
        MemoryStore::with(Cluster::empty())
    }

    /// Begins with a cluster, such as one that a simulated restart has kept.
    pub fn with(cluster: Cluster) -> MemoryStore {
        MemoryStore {
            published: Published::new(Arc::new(cluster)),
            proposing: Mutex::new(()),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl Agreement for MemoryStore {
    fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let _one_at_a_time = self.proposing.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, outcome) = self.published.get().apply(&command)?;
        if !matches!(outcome, Outcome::Unchanged { .. }) {
            self.published.set(Arc::new(next));
        }
        Ok(outcome)
    }

    fn cluster(&self) -> Arc<Cluster> {
        self.published.get()
    }

    fn wait_beyond(&self, generation: Generation, patience: Duration) -> Arc<Cluster> {
        self.published.wait_beyond(generation, patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_model::InitCluster;
    use palisade_words::{Name, Uuid};

    #[test]
    fn a_waiter_is_woken_by_a_change() {
        let store = Arc::new(MemoryStore::new());
        let waiter = Arc::clone(&store);
        let waiting = std::thread::spawn(move || {
            waiter
                .wait_beyond(Generation(0), Duration::from_secs(60))
                .generation
        });
        let init = InitCluster {
            id: Uuid(1),
            node: Name::new("n1").unwrap(),
            node_uuid: Uuid(2),
        };
        store.propose(Command::InitCluster(init)).unwrap();
        assert_eq!(waiting.join().unwrap(), Generation(1));
        assert_eq!(
            store.wait_beyond(Generation(1), Duration::ZERO).generation,
            Generation(1)
        );
    }
}
