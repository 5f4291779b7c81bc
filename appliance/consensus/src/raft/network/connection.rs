//! The network as openraft asks for it.

use crate::raft::network::links::{AskError, Links};
use crate::raft::network::message::{
    AppendRecord, AppendedRecord, CandidacyRecord, StateOffer, VoterContent,
};
use crate::raft::record::VoteRecord;
use crate::raft::voter_id::VoterId;
use crate::raft::voting::Voting;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{EmptyNode, OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft_rt_tokio::TokioRuntime;
use std::future::Future;
use std::time::Duration;

type Ours = Voting<TokioRuntime>;

/// How long entries may take until they are on stable storage at another voter. Openraft would wait no longer than from one sign
/// of life to the next, which a slow disk is allowed to take for one sync.
pub const APPEND_WITHIN: Duration = Duration::from_millis(1_500);

/// Makes openraft's connections.
#[derive(Clone, Debug)]
pub struct VoterConnections {
    links: Links,
}

impl VoterConnections {
    /// Over these.
    pub fn over(links: Links) -> VoterConnections {
        VoterConnections { links }
    }
}

impl RaftNetworkFactory<Ours> for VoterConnections {
    type Network = LinkToVoter;

    async fn new_client(&mut self, target: VoterId, _: &EmptyNode) -> LinkToVoter {
        LinkToVoter {
            links: self.links.clone(),
            to: target,
        }
    }
}

/// To one voter.
#[derive(Debug)]
pub struct LinkToVoter {
    links: Links,
    to: VoterId,
}

impl LinkToVoter {
    fn failed(&self, action: RPCTypes, error: &AskError) -> RPCError<Ours> {
        match error {
            // Asked again after a while: at once it is not back, or counts again.
            AskError::Unreachable { .. } | AskError::NotCounted(_) | AskError::Refused { .. } => {
                RPCError::Unreachable(Unreachable::new(error))
            }
            AskError::TimedOut { within, .. } => RPCError::Timeout(Timeout {
                action,
                id: self.links.me(),
                target: self.to,
                timeout: *within,
            }),
            AskError::Broken { .. } | AskError::NotOurs { .. } => RPCError::Network(NetworkError::new(error)),
        }
    }

    /// An answer of a kind that nobody has asked for.
    fn strange(&self, content: &VoterContent) -> RPCError<Ours> {
        let why = format!("its answer is a {}, which was not asked for", content.name());
        self.links.counts().bad_frame(self.to, why.clone());
        RPCError::Network(NetworkError::from_string(why))
    }

    async fn candidacy(
        &self,
        content: VoterContent,
        option: RPCOption,
    ) -> Result<VoteResponse<Ours>, RPCError<Ours>> {
        let asked = self.links.ask(self.to, content, option.hard_ttl()).await;
        match asked.map_err(|error| self.failed(RPCTypes::Vote, &error))? {
            VoterContent::Voted(voted) => Ok(voted.response()),
            other => Err(self.strange(&other)),
        }
    }
}

impl RaftNetworkV2<Ours> for LinkToVoter {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Ours>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Ours>, RPCError<Ours>> {
        let within = match rpc.entries.is_empty() {
            true => option.hard_ttl(),
            false => option.hard_ttl().max(APPEND_WITHIN),
        };
        let asked = self.links.append(self.to, AppendRecord::of(&rpc), within).await;
        let (content, cut) = asked.map_err(|error| self.failed(RPCTypes::AppendEntries, &error))?;
        match (content, cut) {
            (VoterContent::Appended(AppendedRecord::All), Some(last)) => {
                Ok(AppendedRecord::UpTo(Some(last)).response())
            }
            (VoterContent::Appended(appended), _) => Ok(appended.response()),
            (other, _) => Err(self.strange(&other)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Ours>,
        option: RPCOption,
    ) -> Result<VoteResponse<Ours>, RPCError<Ours>> {
        self.candidacy(VoterContent::Vote(CandidacyRecord::of(&rpc)), option)
            .await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Ours>,
        option: RPCOption,
    ) -> Result<VoteResponse<Ours>, RPCError<Ours>> {
        self.candidacy(VoterContent::PreVote(CandidacyRecord::of(&rpc)), option)
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Ours>,
        snapshot: SnapshotOf<Ours, Vec<u8>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Ours>, StreamingError<Ours>> {
        let state = snapshot.snapshot;
        let bytes = u64::try_from(state.len()).unwrap_or(u64::MAX);
        let offer = StateOffer::of(VoteRecord::from(&vote), &snapshot.meta, bytes);
        let sent = self.links.send_state(self.to, offer, &state, option.hard_ttl());
        let sent = tokio::select! {
            sent = sent => sent,
            closed = cancel => return Err(closed.into()),
        };
        match sent.map_err(|error| self.failed(RPCTypes::InstallSnapshot, &error))? {
            VoterContent::StateTaken(vote) => Ok(SnapshotResponse::new(vote.into())),
            other => Err(self.strange(&other).into()),
        }
    }
}
