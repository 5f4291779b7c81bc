//! How a member stands, for status pages.

use super::Inner;
use crate::raft::follow::HEARD_WITHIN;
use crate::raft::network::FrameCounts;
use crate::raft::voter_id::VoterId;
use crate::raft::voting::Voting;
use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, RaftMetrics, ServerState};
use openraft_rt_tokio::TokioRuntime;
use palisade_words::Incarnation;
use std::collections::BTreeSet;
use std::time::Duration;

/// What a member does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberRole {
    /// It brings commands into their order.
    Leader,
    /// It votes, and follows a leader.
    Follower,
    /// It votes, and wants to be elected.
    Candidate,
    /// It is told what is agreed on, or is waiting to be, and has no vote.
    Learner,
    /// It does nothing any more.
    Stopped,
}

/// How a member stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberStanding {
    /// What it does.
    pub role: MemberRole,
    /// In which of its runs it is.
    pub incarnation: Incarnation,
    /// The latest term it knows of.
    pub term: u64,
    /// Who leads in it, as far as it knows.
    pub leader: Option<VoterId>,
    /// The latest entry in its log.
    pub logged: Option<u64>,
    /// The latest entry that it knows to be agreed on.
    pub agreed: Option<u64>,
    /// The latest entry that it has applied.
    pub applied: Option<u64>,
    /// Whether a majority answers: the leader, as far as it knows; a follower goes by its leader, which it has heard of.
    pub has_majority: bool,
    /// Who votes. Two sets while one is replaced by another: a majority of each is needed then, so that a change that is under
    /// way can wait for one that went.
    pub voters: Vec<BTreeSet<VoterId>>,
    /// The entry of the log that names them: its term and its number; none before there is one.
    pub voters_since: Option<(u64, u64)>,
    /// All members that Raft knows of, this one included.
    pub members: Vec<VoterStanding>,
    /// Why it has stopped, if it has: the first cause. It has to be started anew.
    pub stopped: Option<String>,
}

/// How one of the others stands, as seen from here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VoterStanding {
    /// Who.
    pub id: VoterId,
    /// Whether it has a vote.
    pub votes: bool,
    /// Up to where its log is the leader's, when this is the leader.
    pub matches: Option<u64>,
    /// How long ago something that counts was heard of it; none of this node itself, or when nothing was.
    pub heard: Option<Duration>,
    /// What has gone wrong with it in this run.
    pub counts: FrameCounts,
    /// Why what it says does not count, if so.
    pub not_counted: Option<String>,
}

/// Whether a majority has answered a leader a moment ago.
pub(super) fn is_answered(metrics: &RaftMetrics<Voting<TokioRuntime>>) -> bool {
    let mut voters = metrics.membership_config.voter_ids();
    let acked = metrics.last_quorum_acked.as_ref().map(|at| at.elapsed());
    metrics.state == ServerState::Leader
        && (voters.all(|voter| voter == metrics.id) || acked.is_some_and(|ago| ago <= HEARD_WITHIN))
}

impl Inner {
    pub(super) fn standing(&self) -> MemberStanding {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = &metrics.membership_config;
        let voters: Vec<VoterId> = members.voter_ids().collect();
        let stopped = metrics.running_state.as_ref().err().map(ToString::to_string);
        let role = match metrics.state {
            _ if stopped.is_some() => MemberRole::Stopped,
            ServerState::Leader => MemberRole::Leader,
            ServerState::Follower => MemberRole::Follower,
            ServerState::Candidate => MemberRole::Candidate,
            ServerState::Learner => MemberRole::Learner,
            ServerState::Shutdown => MemberRole::Stopped,
        };
        let peer = |id: VoterId| {
            let replicated = metrics.replication.as_ref().and_then(|all| all.get(&id));
            VoterStanding {
                id,
                votes: voters.contains(&id),
                matches: replicated.and_then(Option::as_ref).map(|place| place.index()),
                heard: self.links.heard_of(id),
                counts: self.links.counts_of(id),
                not_counted: self
                    .links
                    .peers()
                    .refused(id)
                    .map(|(count, why)| format!("{why} ({count} messages)")),
            }
        };
        let is_recent = |ago: Duration| ago <= HEARD_WITHIN;
        let has_majority = match role {
            MemberRole::Leader => is_answered(&metrics),
            MemberRole::Follower | MemberRole::Learner => metrics
                .current_leader
                .filter(|leader| self.links.is_led_with_majority(*leader))
                .and_then(|leader| self.links.heard_of(leader))
                .is_some_and(is_recent),
            MemberRole::Candidate | MemberRole::Stopped => false,
        };
        MemberStanding {
            role,
            incarnation: self.links.peers().incarnation(),
            term: metrics.current_term,
            leader: metrics.current_leader,
            logged: metrics.last_log_index,
            agreed: metrics.local_committed.as_ref().map(|place| place.index()),
            applied: metrics.last_applied.as_ref().map(|place| place.index()),
            has_majority,
            voters: members.get_joint_config().clone(),
            voters_since: (*members.log_id())
                .as_ref()
                .map(|place| (**place.committed_leader_id(), place.index())),
            members: members.nodes().map(|(id, _)| peer(*id)).collect(),
            stopped,
        }
    }
}
