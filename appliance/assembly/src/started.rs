//! The node tells the cluster which of its runs this is, before it does anything else.
//!
//! The database may be on storage that takes no changes at present. What the node serves it serves all the same, and tells
//! as soon as it can; what needs a run that the cluster knows of waits.

use crate::shared::Shared;
use palisade_consensus::ProposeError;
use palisade_model::{
    ChangeNode, Cluster, Command, FEATURE_LEVEL, Kind, Node, NodeRole, NodeStarted, RaiseFeatureLevel,
    Refusal,
};
use palisade_words::{Incarnation, Name};

/// What a node of this program says as its next start.
pub fn next(cluster: &Cluster, name: &Name) -> Option<NodeStarted> {
    let node = cluster.nodes.get(name)?;
    Some(NodeStarted {
        node: node.uuid,
        incarnation: node.incarnation.next(),
        feature_level: FEATURE_LEVEL,
    })
}

/// Tells it, unless that is done.
///
/// # Errors
/// The cluster does not take it from this node, or could not be written.
pub fn tell(shared: &Shared) -> Result<Incarnation, ProposeError> {
    if let Some(known) = shared.incarnation.get() {
        return Ok(*known);
    }
    // Where the start could not be told at once, the others may have taken the node out of the cluster meanwhile.
    let started = next(&shared.cluster(), &shared.name).ok_or_else(|| Refusal::NotFound {
        kind: Kind::Node,
        name: shared.name.clone(),
    })?;
    shared.propose(Command::NodeStarted(started))?;
    if let Err(error) = ask_for_vote(shared) {
        log::info!("this node has no vote yet: {error}");
    }
    if let Err(error) = switch_on(shared) {
        // Somebody else's start may have come between; whoever starts next asks again.
        log::info!("the cluster stays at its feature level: {error}");
    }
    let incarnation = *shared.incarnation.get_or_init(|| started.incarnation);
    log::info!("node {} is in incarnation {incarnation}", shared.name);
    Ok(incarnation)
}

/// One that was let in to vote is wanted as a voter from now on: it is given its vote when there are enough for that.
fn ask_for_vote(shared: &Shared) -> Result<(), ProposeError> {
    let cluster = shared.cluster();
    let is_due = |node: &&Node| node.meant_for == NodeRole::Voter && node.role == NodeRole::Learner;
    if cluster.nodes.get(&shared.name).filter(is_due).is_some() {
        shared.propose(Command::ChangeNode(ChangeNode {
            name: shared.name.clone(),
            addresses: None,
            failure_domain: None,
            role: Some(NodeRole::Voter),
            expected: None,
        }))?;
    }
    Ok(())
}

/// What all members can by now is switched on.
fn switch_on(shared: &Shared) -> Result<(), ProposeError> {
    let cluster = shared.cluster();
    let to = cluster.common_feature_level().min(FEATURE_LEVEL);
    if to > cluster.feature_level {
        shared.propose(Command::RaiseFeatureLevel(RaiseFeatureLevel { to }))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_consensus::{Agreement, Store};
    use palisade_model::InitCluster;
    use palisade_words::Uuid;

    /// Two runs of one state directory are told apart by those who have heard of the first.
    #[test]
    fn each_start_is_another_incarnation() {
        let directory = tempfile::tempdir().unwrap();
        let name = Name::new("n1").unwrap();
        for run in 1..4 {
            let store = Store::open(directory.path()).unwrap();
            if run == 1 {
                let init = InitCluster {
                    id: Uuid(1),
                    node: name.clone(),
                    node_uuid: Uuid(2),
                };
                store.propose(Command::InitCluster(init)).unwrap();
            }
            let started = next(&store.cluster(), &name).unwrap();
            store.propose(Command::NodeStarted(started)).unwrap();
            let node = store.cluster().nodes[&name].clone();
            assert_eq!(
                (node.incarnation, node.feature_level),
                (Incarnation(run), FEATURE_LEVEL)
            );
        }
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(next(&store.cluster(), &Name::new("n2").unwrap()), None);
    }
}
