//! What a member is asked for by others: a command or a read, which it answers itself when it leads, and passes on by nobody.

use crate::agreement::ProposeError;
use crate::raft::network::message::VoterContent;
use crate::raft::propose::{Written, propose};
use crate::raft::state_machine::StateMachine;
use crate::raft::voter_id::VoterId;
use crate::raft::voting::Voting;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{Raft, ReadPolicy};
use openraft_rt_tokio::TokioRuntime;
use palisade_model::Command;
use std::fmt;
use std::time::Duration;
use tokio::time::timeout;

/// A running Raft on threads.
pub(crate) type MemberRaft = Raft<Voting<TokioRuntime>, StateMachine<TokioRuntime>>;

/// Who answers. Its clones are the same.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) raft: MemberRaft,
    pub(crate) state: StateMachine<TokioRuntime>,
}

/// Why this node has no answer of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NotLed {
    /// Nothing was proposed: another one leads, or nobody known.
    By(Option<VoterId>),
    /// It was proposed and no answer has come; or no majority confirms that this node leads.
    NotKnown,
}

impl NotLed {
    pub(crate) fn content(self) -> VoterContent {
        match self {
            NotLed::By(leader) => VoterContent::LedBy(leader.map(|leader| leader.0)),
            NotLed::NotKnown => VoterContent::NotKnown,
        }
    }
}

impl Asked {
    /// Proposes a command as the leader.
    pub(crate) async fn propose_here(&self, command: Command, within: Duration) -> Result<Written, NotLed> {
        let cluster = self.state.cluster();
        match propose(&self.raft, &cluster, command, within).await {
            Ok(written) => Ok(written),
            Err(ProposeError::NotLeader { .. }) => Err(NotLed::By(self.leader_but_me())),
            Err(_) => Err(NotLed::NotKnown),
        }
    }

    /// Up to which entry who reads must have applied so as not to miss anything that is agreed on now. A majority confirms that
    /// this node leads, after it was asked.
    pub(crate) async fn read_here(&self, within: Duration) -> Result<u64, NotLed> {
        let confirmed = self.raft.get_read_log_id(ReadPolicy::ReadIndex);
        match timeout(within, confirmed).await {
            Ok(Ok((read, _))) => Ok(read.index()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(other)))) => {
                Err(NotLed::By(other.leader_id.filter(|id| id != self.raft.node_id())))
            }
            Ok(Err(_)) | Err(_) => Err(NotLed::NotKnown),
        }
    }

    fn leader_but_me(&self) -> Option<VoterId> {
        let metrics = self.raft.metrics();
        let leader = metrics.borrow_watched().current_leader;
        leader.filter(|leader| leader != self.raft.node_id())
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("node", self.raft.node_id())
            .finish_non_exhaustive()
    }
}
