//! What this voter shows of itself: what it has on stable storage, and nothing that it has not.

use crate::raft::log_store::LogStore;
use crate::raft::peers::Peers;
use crate::raft::remembered::Shown;
use crate::raft::state_machine::StateMachine;
use openraft::AsyncRuntime;
use palisade_words::Uuid;
use std::fmt;

/// What one voter shows of itself.
pub struct Shows<RT> {
    log: LogStore<RT>,
    state: StateMachine<RT>,
    peers: Peers,
}

impl<RT: AsyncRuntime> Shows<RT> {
    /// Of a voter that was opened.
    pub fn of(log: &LogStore<RT>, state: &StateMachine<RT>, peers: &Peers) -> Shows<RT> {
        Shows {
            log: log.clone(),
            state: state.clone(),
            peers: peers.clone(),
        }
    }

    /// What it shows now. For an answer this is asked after the answer was made: it rests on no less.
    pub fn now(&self) -> Shown {
        let promised = self.log.promised();
        Shown {
            incarnation: self.peers.incarnation(),
            run: self.peers.run(),
            term: promised.map_or(0, |vote| vote.term),
            voted_for: promised.map_or(Uuid::NIL, |vote| vote.voted_for),
            is_elected: promised.is_some_and(|vote| vote.is_elected),
            applied: self.state.applied_index(),
        }
    }
}

impl<RT> Clone for Shows<RT> {
    fn clone(&self) -> Self {
        Shows {
            log: self.log.clone(),
            state: self.state.clone(),
            peers: self.peers.clone(),
        }
    }
}

impl<RT> fmt::Debug for Shows<RT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shows")
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}
