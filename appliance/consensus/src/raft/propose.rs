//! A command to a running Raft, and what is told to whoever asked for it.

use crate::agreement::{Leader, ProposeError};
use crate::raft::proposal::{EntryOutcome, Proposal};
use crate::raft::voting::Voting;
use openraft::errors::{ClientWriteError, ForwardToLeader, RaftError};
use openraft::storage::RaftStateMachine;
use openraft::{AsyncRuntime, Raft};
use palisade_model::{Cluster, Command};
use std::time::Duration;

/// A command that is agreed on, and what it has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The term of its entry.
    pub term: u64,
    /// The index of its entry.
    pub index: u64,
    /// What it has come to; a refusal is one of these.
    pub outcome: EntryOutcome,
}

/// Proposes a command at this node, and waits no longer than `within` for it to be agreed on. `cluster` is as this node knows it,
/// and says who the leader is.
///
/// # Errors
/// [`ProposeError::NotLeader`] when it was not proposed at all. [`ProposeError::OutcomeUnknown`] when it was proposed and no answer
/// has come, whyever: this node may have stopped leading, or working. It may be agreed on or not, now or later.
pub async fn propose<RT, SM>(
    raft: &Raft<Voting<RT>, SM>,
    cluster: &Cluster,
    command: Command,
    within: Duration,
) -> Result<Written, ProposeError>
where
    RT: AsyncRuntime,
    SM: RaftStateMachine<Voting<RT>>,
{
    match RT::timeout(within, raft.client_write(Proposal(command))).await {
        Ok(Ok(done)) => Ok(Written {
            term: **done.log_id.committed_leader_id(),
            index: done.log_id.index(),
            outcome: done.data,
        }),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(other)))) => {
            Err(elsewhere(&other, cluster))
        }
        Ok(Err(_)) | Err(_) => Err(ProposeError::OutcomeUnknown),
    }
}

/// Who leads, as far as this node knows. Where its interface for operators is the cluster does not say.
fn elsewhere<RT: AsyncRuntime>(other: &ForwardToLeader<Voting<RT>>, cluster: &Cluster) -> ProposeError {
    let known = other.leader_id.and_then(|id| cluster.node_by_id(id.0));
    ProposeError::NotLeader {
        leader: known.map(|(name, _)| Leader {
            node: name.clone(),
            addresses: Vec::new(),
        }),
    }
}
