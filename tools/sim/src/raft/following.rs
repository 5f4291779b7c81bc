//! Who votes follows the cluster (issue 10, rule 9): an operator lets nodes in, and gives and takes votes, by commands; the nodes
//! do the rest.

use crate::raft::clients::VoterClient;
use crate::raft::network::{Network, id_of, node_of};
use crate::raft::tasks::Tasks;
use crate::rng::Rng;
use openraft::async_runtime::WatchReceiver;
use palisade_consensus::raft::VoterId;
use palisade_model::{
    AddNode, ChangeNode, Command, FEATURE_LEVEL, InitCluster, NodeRole, NodeStarted, RaiseFeatureLevel,
    RemoveNode,
};
use palisade_words::{Incarnation, Name, Uuid};
use std::collections::BTreeSet;

/// The sizes that a set of voters may have.
const SIZES: [usize; 3] = [5, 3, 1];

fn name(node: usize) -> Name {
    Name::new(format!("n{node}")).expect("a good name")
}

/// A node says that it has started. Later runs have later numbers.
fn started(node: usize) -> Command {
    Command::NodeStarted(NodeStarted {
        node: id_of(node).0,
        incarnation: Incarnation(1_000 + Tasks::current().now_ns()),
        feature_level: FEATURE_LEVEL,
    })
}

/// What makes a node a member that votes, or that does not.
fn made(node: usize, role: NodeRole) -> [Command; 3] {
    let add = Command::AddNode(AddNode {
        name: name(node),
        uuid: id_of(node).0,
        addresses: Vec::new(),
        failure_domain: None,
    });
    let change = Command::ChangeNode(ChangeNode {
        name: name(node),
        addresses: None,
        failure_domain: None,
        role: Some(role),
        expected: None,
    });
    [add, started(node), change]
}

/// What an operator may do next; some of it is refused.
pub fn some_change(count: usize, rng: &mut Rng) -> Vec<Command> {
    let node = rng.index(count);
    if node > 0 && rng.one_in(6) {
        let (name, expected) = (name(node), None);
        return vec![Command::RemoveNode(RemoveNode { name, expected })];
    }
    let role = match rng.one_in(4) {
        true => NodeRole::Learner,
        false => NodeRole::Voter,
    };
    [begun(), made(node, role).into()].concat()
}

/// What comes before anything that is about nodes.
fn begun() -> Vec<Command> {
    let init = Command::InitCluster(InitCluster {
        id: Uuid(1),
        node: name(0),
        node_uuid: id_of(0).0,
    });
    let to = FEATURE_LEVEL;
    vec![
        init,
        started(0),
        Command::RaiseFeatureLevel(RaiseFeatureLevel { to }),
    ]
}

/// Makes all nodes members, and those of `voters` the ones that are to vote. Whether all of it was answered at `node`.
pub async fn make_voters(
    client: &VoterClient,
    node: usize,
    count: usize,
    voters: &BTreeSet<VoterId>,
) -> bool {
    let role = |node: usize| match voters.contains(&id_of(node)) {
        true => NodeRole::Voter,
        false => NodeRole::Learner,
    };
    // Those who are to vote first: one of them always does.
    let mut all: Vec<usize> = voters.iter().map(|id| node_of(*id)).collect();
    all.extend((0..count).filter(|node| role(*node) == NodeRole::Learner));
    let mut commands = begun();
    // Nobody else has a vote: clients have let in whom there is no machine of.
    let gone = (count..=4).map(|node| {
        let (name, expected) = (name(node), None);
        Command::RemoveNode(RemoveNode { name, expected })
    });
    commands.extend(gone);
    commands.extend(all.into_iter().flat_map(|node| made(node, role(node))));
    for command in commands {
        if !matches!(client.propose(node, command).await, Some(Ok(_))) {
            return false;
        }
    }
    true
}

/// Whether so many as can of those that are to vote do, and nobody else, by what a leader knows.
pub fn is_followed(network: &Network, count: usize, wanted: &BTreeSet<VoterId>) -> bool {
    let size = SIZES.into_iter().find(|size| *size <= wanted.len());
    (0..count).any(|node| {
        let Some(raft) = network.node(node).filter(|raft| raft.is_leader()) else {
            return false;
        };
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = &metrics.membership_config;
        let all: BTreeSet<VoterId> = members.nodes().map(|(id, _)| *id).collect();
        match members.get_joint_config().as_slice() {
            [voters] => {
                Some(voters.len()) == size
                    && voters.is_subset(wanted)
                    && all == (0..count).map(id_of).collect()
            }
            _ => false,
        }
    })
}
