//! The types that our Raft is made of.

use crate::raft::proposal::{EntryOutcome, Proposal};
use crate::raft::voter_id::VoterId;
use openraft::impls::{BoxedErrorSource, InlineBatch, ProgressResponder, leader_id_std};
use openraft::vote::RaftLeaderId;
use openraft::{AsyncRuntime, EmptyNode, EntryPayload, OptionalSend, RaftTypeConfig};
use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

/// Raft over the model's commands, on a runtime `RT`.
///
/// A term has one leader at most, as in the paper: `leader_id_std`. What a node's name and addresses are stands in the cluster
/// itself, by the node's id, and not in Raft's membership: so they change without Raft.
pub struct Voting<RT>(PhantomData<fn() -> RT>);

impl<RT: AsyncRuntime> RaftTypeConfig for Voting<RT> {
    type D = Proposal;
    type R = EntryOutcome;
    type NodeId = VoterId;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, VoterId>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Proposal, VoterId, EmptyNode>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = RT;
    type Responder<T>
        = ProgressResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

// All of these are about a type without a value, whatever the runtime is; a derived one would ask the same of the runtime.

impl<RT> Clone for Voting<RT> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<RT> Copy for Voting<RT> {}

impl<RT> Default for Voting<RT> {
    fn default() -> Self {
        Voting(PhantomData)
    }
}

impl<RT> fmt::Debug for Voting<RT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Voting")
    }
}

impl<RT> PartialEq for Voting<RT> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<RT> Eq for Voting<RT> {}

impl<RT> PartialOrd for Voting<RT> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<RT> Ord for Voting<RT> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}
