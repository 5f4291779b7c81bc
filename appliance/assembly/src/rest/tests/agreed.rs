//! A cluster that others have changed meanwhile. What comes of changes that others have to agree with is asked over REST, in
//! `tests/agreement.rs`.

use super::*;
use palisade_model::{Kind, Refusal};
use std::sync::Mutex;

/// Agreement with others, over the files of this node.
#[derive(Debug)]
struct Others {
    store: Arc<Store>,
    /// What this node knows, if it is something else than the files.
    known: Mutex<Option<Arc<Cluster>>>,
}

impl Agreement for Others {
    fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        self.store.propose(command)
    }

    fn cluster(&self) -> Arc<Cluster> {
        let known = self.known.lock().unwrap().clone();
        known.unwrap_or_else(|| self.store.cluster())
    }
}

/// Where a start cannot be told at once, the others may take the node out of the cluster meanwhile.
#[test]
fn a_node_that_is_no_member_any_more_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut others = None;
    let (rest, _door) = still_node_agreeing(folder.path(), "", |store| {
        let known = Mutex::default();
        let made = Arc::new(Others { store, known });
        others = Some(Arc::clone(&made));
        made
    });
    let (shared, others) = (shared_of(&rest), others.unwrap());
    let mut without = Cluster::clone(&others.store.cluster());
    without.nodes.clear();
    *others.known.lock().unwrap() = Some(Arc::new(without));
    let told = crate::started::tell(&shared);
    let name = shared.name.clone();
    let refusal = Refusal::NotFound {
        kind: Kind::Node,
        name,
    };
    assert_eq!(told, Err(ProposeError::Refused(refusal)));
}
