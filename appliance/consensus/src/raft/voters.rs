//! Who should vote, by what the cluster says of its nodes; and the next change that leads there. Nothing here does anything.
//!
//! ```text
//!   a node of the cluster that Raft does not know     -> is told what is agreed on, without a vote
//!   a member that should vote, and has caught up      -> one of 1, 3, 5 or 7 voters
//!   a voter that should not                           -> without a vote
//!   a node that Raft knows and the cluster does not   -> is told nothing any more
//! ```
//!
//! A pair of voters stops when either does, and four stop as soon as three: so there is no even number of them, but while one
//! who went is not replaced there are fewer. One voter becomes three in one change, once three have caught up: two appliances
//! without a witness stay one voter. A voter that is silent stays one: nobody but the cluster takes a vote away.

use crate::raft::voter_id::VoterId;
use palisade_model::{Cluster, Node};
use palisade_words::{Generation, Name};
use std::collections::{BTreeMap, BTreeSet};

/// How many voters there may be.
const SIZES: [usize; 4] = [7, 5, 3, 1];

/// What a leader sees when it looks whether something is to be changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VotersSeen {
    /// Who votes, as its log says: two sets while one is replaced by another.
    pub sets: Vec<BTreeSet<VoterId>>,
    /// Who is told without a vote.
    pub learners: BTreeSet<VoterId>,
    /// Whether that is agreed on.
    pub is_agreed: bool,
    /// Whether an entry of this leader's own term is agreed on. Before, it does not know what those before it have changed
    /// (Ongaro, "bug in single-server membership changes", 2015).
    pub has_agreed_in_term: bool,
    /// Who has all but the latest entries, and has said so a moment ago.
    pub caught_up: BTreeSet<VoterId>,
    /// Who sees this.
    pub leader: VoterId,
}

/// A change of who votes or is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VotersChange {
    /// These are told from now on.
    Tell(BTreeSet<VoterId>),
    /// These vote from now on, and nobody else; who voted before is told.
    Vote(BTreeSet<VoterId>),
    /// These are told nothing any more.
    Forget(BTreeSet<VoterId>),
}

/// The next change, if any.
pub fn next_change(cluster: &Cluster, seen: &VotersSeen) -> Option<VotersChange> {
    if !seen.is_agreed || !seen.has_agreed_in_term || !cluster.is_initialised() {
        return None;
    }
    let (last, before) = seen.sets.split_last()?;
    if !before.is_empty() {
        // Somebody has begun this, and has not come to its end.
        return Some(VotersChange::Vote(last.clone()));
    }
    let nodes: BTreeSet<VoterId> = cluster.nodes.values().map(|node| VoterId(node.uuid)).collect();
    let known: BTreeSet<VoterId> = last.union(&seen.learners).copied().collect();
    let unknown: BTreeSet<VoterId> = nodes.difference(&known).copied().collect();
    if !unknown.is_empty() {
        return Some(VotersChange::Tell(unknown));
    }
    if let Some(voters) = wanted_voters(cluster, seen, last).filter(|voters| voters != last) {
        return Some(VotersChange::Vote(voters));
    }
    let gone: BTreeSet<VoterId> = seen.learners.difference(&nodes).copied().collect();
    (!gone.is_empty()).then_some(VotersChange::Forget(gone))
}

/// Who should vote as things are. None when nobody can.
fn wanted_voters(
    cluster: &Cluster,
    seen: &VotersSeen,
    voters: &BTreeSet<VoterId>,
) -> Option<BTreeSet<VoterId>> {
    let wanted = cluster.nodes.values().filter(|node| node.votes());
    let wanted: BTreeMap<VoterId, &Node> = wanted.map(|node| (VoterId(node.uuid), node)).collect();
    let may = |id: &VoterId| voters.contains(id) || seen.caught_up.contains(id);
    let mut candidates: Vec<(VoterId, &Node)> = wanted.into_iter().filter(|(id, _)| may(id)).collect();
    let size = SIZES.into_iter().find(|size| *size <= candidates.len())?;
    let mut chosen: BTreeSet<VoterId> = BTreeSet::new();
    let mut domains: BTreeSet<&Name> = BTreeSet::new();
    while chosen.len() < size {
        let best = candidates
            .iter()
            .enumerate()
            .min_by_key(|(_, (id, node))| rank(*id, node, seen, voters, &domains));
        let (at, _) = best?;
        let (id, node) = candidates.swap_remove(at);
        chosen.insert(id);
        domains.extend(&node.failure_domain);
    }
    Some(chosen)
}

/// Who comes before whom: who votes already and is heard of, the leader first; then who stands where nobody else does; then who
/// came first.
fn rank(
    id: VoterId,
    node: &Node,
    seen: &VotersSeen,
    voters: &BTreeSet<VoterId>,
    domains: &BTreeSet<&Name>,
) -> (bool, bool, bool, bool, Generation, VoterId) {
    let is_alone = node
        .failure_domain
        .as_ref()
        .is_none_or(|domain| !domains.contains(domain));
    (
        !voters.contains(&id),
        id != seen.leader,
        !seen.caught_up.contains(&id),
        !is_alone,
        node.created,
        id,
    )
}

#[cfg(test)]
mod tests;
