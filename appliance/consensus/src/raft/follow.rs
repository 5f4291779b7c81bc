//! Carries out what [`next_change`] finds, one change at a time, on the node that leads.

use crate::raft::record::PlaceRecord;
use crate::raft::voter_id::VoterId;
use crate::raft::voters::{VotersChange, VotersSeen, next_change};
use crate::raft::voting::Voting;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::Precondition;
use openraft::storage::RaftStateMachine;
use openraft::{AsyncRuntime, ChangeMembers, EmptyNode, Instant, Raft, RaftMetrics, ServerState};
use palisade_model::Cluster;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many entries a node may be behind that is given a vote. So many come while it is asked once.
pub const CAUGHT_UP_ENTRIES: u64 = 16;

/// How long ago a node that is given a vote may have been heard of last.
pub const HEARD_WITHIN: Duration = Duration::from_millis(1_000);

/// How long one change may take. It may go on afterwards, and whoever looks next finds how far it came.
pub const CHANGE_WITHIN: Duration = Duration::from_secs(3);

/// Lets who votes follow the cluster by one change, if this node leads and one is due. Which it was, when it is done.
///
/// # Errors
/// It could not be carried out now; it is found again when this is called the next time.
pub async fn follow<RT, SM>(
    raft: &Raft<Voting<RT>, SM>,
    cluster: &Cluster,
) -> Result<Option<VotersChange>, String>
where
    RT: AsyncRuntime,
    SM: RaftStateMachine<Voting<RT>>,
{
    let (seen, since) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(seen) = seen(&metrics) else {
            return Ok(None);
        };
        (seen, *metrics.membership_config.log_id())
    };
    let Some(change) = next_change(cluster, &seen) else {
        return Ok(None);
    };
    // Nobody else has changed anything since this was looked at.
    let unchanged = Precondition::LastMembershipLogId {
        last_membership_log_id: since,
    };
    let changed = raft.change_membership_if(members(&change), true, [unchanged]);
    match RT::timeout(CHANGE_WITHIN, changed).await {
        Ok(Ok(_)) => Ok(Some(change)),
        Ok(Err(error)) => Err(format!("{change:?}: {error}")),
        Err(_) => Err(format!(
            "{change:?} is not agreed on within {CHANGE_WITHIN:?}, and may be yet"
        )),
    }
}

fn members(change: &VotersChange) -> ChangeMembers<VoterId, EmptyNode> {
    match change {
        VotersChange::Tell(nodes) => {
            let nodes = nodes.iter().map(|id| (*id, EmptyNode {}));
            ChangeMembers::AddNodes(nodes.collect::<BTreeMap<_, _>>())
        }
        VotersChange::Vote(voters) => ChangeMembers::ReplaceAllVoters(voters.clone()),
        VotersChange::Forget(nodes) => ChangeMembers::RemoveNodes(nodes.clone()),
    }
}

/// What this node sees, if it leads.
fn seen<RT: AsyncRuntime>(metrics: &RaftMetrics<Voting<RT>>) -> Option<VotersSeen> {
    if metrics.state != ServerState::Leader {
        return None;
    }
    let members = &metrics.membership_config;
    let agreed = metrics.cluster_committed.as_ref().map(PlaceRecord::from);
    let since = members.log_id().as_ref().map(PlaceRecord::from);
    let last = metrics.last_log_index.unwrap_or(0);
    let has_caught_up = |id: &VoterId| {
        let replicated = metrics.replication.as_ref().and_then(|all| all.get(id));
        let matching = replicated.and_then(Option::as_ref).map(|place| place.index());
        let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(id));
        let heard = heard.and_then(Option::as_ref).map(|at| at.elapsed());
        let is_me = *id == metrics.id;
        is_me
            || (matching.is_some_and(|index| index + CAUGHT_UP_ENTRIES >= last)
                && heard.is_some_and(|ago| ago <= HEARD_WITHIN))
    };
    let nodes = members.nodes().map(|(id, _)| *id);
    let caught_up: BTreeSet<VoterId> = nodes.filter(|id| has_caught_up(id)).collect();
    Some(VotersSeen {
        sets: members.get_joint_config().clone(),
        learners: members.membership().learner_ids().collect(),
        is_agreed: agreed >= since,
        has_agreed_in_term: agreed.is_some_and(|place| place.term == metrics.current_term),
        caught_up,
        leader: metrics.id,
    })
}
