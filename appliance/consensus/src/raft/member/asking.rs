//! How a member finds an answer: its own when it leads, the leader's otherwise, within a deadline.

use super::{Inner, ReadNowError};
use crate::agreement::ProposeError;
use crate::raft::asked::NotLed;
use crate::raft::network::links::AskError;
use crate::raft::network::message::{AskedRecord, VoterContent, WithinRecord};
use crate::raft::propose::Written;
use crate::raft::voter_id::VoterId;
use openraft::async_runtime::WatchReceiver;
use palisade_model::{Cluster, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long after one try the next one is made, while nobody leads.
const AGAIN_AFTER: Duration = Duration::from_millis(30);

/// How much of its own time an asker leaves to the asked one, in hundredths: its answer has to come back in the rest.
const LEAVES_PERCENT: u32 = 90;

/// What came of asking once.
enum Told<T> {
    Answered(T),
    /// Nothing was done; another may be asked.
    NotLed,
    /// Something may have been done.
    NotKnown,
}

impl Inner {
    pub(super) async fn propose(&self, command: Command, within: Duration) -> Result<Written, ProposeError> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.propose_once(&command, left).await {
                Told::Answered(written) => {
                    // Whoever asked finds it in the cluster of this node.
                    let left = until.saturating_duration_since(Instant::now());
                    self.has_applied(written.index, left).await;
                    return Ok(written);
                }
                Told::NotKnown => return Err(ProposeError::OutcomeUnknown),
                Told::NotLed if left <= AGAIN_AFTER => return Err(ProposeError::NotLeader { leader: None }),
                Told::NotLed => sleep(AGAIN_AFTER).await,
            }
        }
    }

    async fn propose_once(&self, command: &Command, left: Duration) -> Told<Written> {
        let Some(leader) = self.leader() else {
            return Told::NotLed;
        };
        if leader == self.links.me() {
            return told(self.asked().propose_here(command.clone(), left).await);
        }
        let asked = AskedRecord {
            command: Box::new(command.clone()),
            within_ms: milliseconds(left * LEAVES_PERCENT / 100),
        };
        match self.links.ask(leader, VoterContent::Propose(asked), left).await {
            Ok(VoterContent::Proposed(done)) => Told::Answered(Written {
                term: done.place.term,
                index: done.place.index,
                outcome: done.outcome,
            }),
            Ok(VoterContent::LedBy(_)) => Told::NotLed,
            Ok(_) => Told::NotKnown,
            Err(error) => not_asked(&error),
        }
    }

    pub(super) async fn cluster_now(&self, within: Duration) -> Result<Arc<Cluster>, ReadNowError> {
        let until = Instant::now() + within;
        let mut why = ReadNowError::NoLeader;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.read_once(left).await {
                Told::Answered(index) => {
                    let left = until.saturating_duration_since(Instant::now());
                    return match self.has_applied(index, left).await {
                        true => Ok(self.state.cluster()),
                        false => Err(ReadNowError::Behind),
                    };
                }
                // A read that was not answered has changed nothing, so that it is asked again.
                Told::NotKnown => why = ReadNowError::NoMajority,
                Told::NotLed => {}
            }
            if left <= AGAIN_AFTER {
                return Err(why);
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn read_once(&self, left: Duration) -> Told<u64> {
        let Some(leader) = self.leader() else {
            return Told::NotLed;
        };
        if leader == self.links.me() {
            return told(self.asked().read_here(left).await);
        }
        let within_ms = milliseconds(left * LEAVES_PERCENT / 100);
        let read = VoterContent::Read(WithinRecord { within_ms });
        match self.links.ask(leader, read, left).await {
            Ok(VoterContent::ReadUpTo(index)) => Told::Answered(index),
            Ok(VoterContent::LedBy(_)) => Told::NotLed,
            Ok(_) => Told::NotKnown,
            Err(error) => not_asked(&error),
        }
    }

    /// Who leads, as far as this node knows.
    pub(super) fn leader(&self) -> Option<VoterId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .running_state
            .is_ok()
            .then_some(metrics.current_leader)
            .flatten()
    }

    /// Waits until this node has applied an entry. Whether it has.
    async fn has_applied(&self, index: u64, within: Duration) -> bool {
        let wait = self.raft.wait(Some(within));
        let applied = wait.applied_index_at_least(Some(index), "a command or a read");
        applied.await.is_ok()
    }
}

fn told<T>(answer: Result<T, NotLed>) -> Told<T> {
    match answer {
        Ok(answer) => Told::Answered(answer),
        Err(NotLed::By(_)) => Told::NotLed,
        Err(NotLed::NotKnown) => Told::NotKnown,
    }
}

/// Who could not be reached has done nothing, nor has who refuses what this node says.
fn not_asked<T>(error: &AskError) -> Told<T> {
    match error {
        AskError::Unreachable { .. } | AskError::Refused { .. } => Told::NotLed,
        AskError::TimedOut { .. }
        | AskError::Broken { .. }
        | AskError::NotOurs { .. }
        | AskError::NotCounted(_) => Told::NotKnown,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
