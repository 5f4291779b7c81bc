//! What voters say to each other, as values of our own: openraft is a preview, and how it would write its values down may change
//! with it.
//!
//! Each message says who says it to whom, in which cluster, and shows what the sender has promised (issue 10, rule 10).

use crate::raft::network::frame::VoterFrameError;
use crate::raft::proposal::EntryOutcome;
use crate::raft::record::{Announced, EntryRecord, LogId, Members, MembersRecord, PlaceRecord, VoteRecord};
use crate::raft::remembered::Shown;
use crate::raft::voter_id::VoterId;
use crate::raft::voting::Voting;
use crate::record::{RecordError, decode, encode};
use openraft::AsyncRuntime;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use palisade_model::Command;
use palisade_words::Uuid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VoterMessage {
    /// In which cluster.
    pub(crate) cluster: Uuid,
    /// Who says it.
    pub(crate) from: Uuid,
    /// To whom.
    pub(crate) to: Uuid,
    /// What the sender has promised.
    pub(crate) shown: Shown,
    /// What others have shown to the sender, where that is told on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) told: BTreeMap<Uuid, Shown>,
    /// What it says.
    pub(crate) content: VoterContent,
}

impl VoterMessage {
    /// As the body of a frame.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        encode(self)
    }

    /// From the body of a frame, all of it.
    ///
    /// # Errors
    /// It was damaged, or says what this program does not know.
    pub fn decode(body: &[u8]) -> Result<VoterMessage, VoterFrameError> {
        decode(body).map_err(|error| match error {
            RecordError::Checksum => VoterFrameError::Checksum { part: "body" },
            RecordError::Text(why) | RecordError::Unknown(why) => VoterFrameError::Body { why },
        })
    }

    pub(crate) fn told_by_others(&self) -> impl Iterator<Item = (VoterId, Shown)> {
        self.told.iter().map(|(id, shown)| (VoterId(*id), *shown))
    }
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VoterContent {
    /// A leader: entries, or a sign of life.
    Append(AppendRecord),
    /// What came of it.
    Appended(AppendedRecord),
    /// A candidate asks for a vote.
    Vote(CandidacyRecord),
    /// A node asks whether it would get one.
    PreVote(CandidacyRecord),
    /// The answer to either.
    Voted(VotedRecord),
    /// A leader has a state for a voter that is far behind; its parts follow.
    State(StateOffer),
    /// It is taken over, or its leader is another's by now.
    StateTaken(VoteRecord),
    /// A node that does not lead has been asked for a command.
    Propose(AskedRecord),
    /// It is agreed on.
    Proposed(ProposedRecord),
    /// A node that does not lead wants to know up to where it must have applied.
    Read(WithinRecord),
    /// Up to here.
    ReadUpTo(u64),
    /// Whoever was asked does not lead; who does, if it knows.
    LedBy(Option<Uuid>),
    /// It was proposed, and whether it is agreed on is not known; or nobody confirms that the asked one leads.
    NotKnown,
    /// What the sender says does not count, or cannot be understood: why.
    Refused(String),
}

impl VoterContent {
    /// What it is called in texts for people.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            VoterContent::Append(_) => "append",
            VoterContent::Appended(_) => "answer to an append",
            VoterContent::Vote(_) => "request for a vote",
            VoterContent::PreVote(_) => "request for a vote in advance",
            VoterContent::Voted(_) => "vote",
            VoterContent::State(_) => "state",
            VoterContent::StateTaken(_) => "answer to a state",
            VoterContent::Propose(_) => "command",
            VoterContent::Proposed(_) => "answer to a command",
            VoterContent::Read(_) => "read",
            VoterContent::ReadUpTo(_) => "answer to a read",
            VoterContent::LedBy(_) => "name of a leader",
            VoterContent::NotKnown => "answer that nothing is known",
            VoterContent::Refused(_) => "refusal",
        }
    }
}

/// Entries of a leader.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct AppendRecord {
    pub(crate) vote: VoteRecord,
    /// Where they go on.
    pub(crate) previous: Option<PlaceRecord>,
    pub(crate) entries: Vec<EntryRecord>,
    /// Up to where is agreed.
    pub(crate) committed: Option<PlaceRecord>,
    /// A majority has answered the leader a moment ago.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) has_majority: bool,
}

impl AppendRecord {
    pub(crate) fn of<RT: AsyncRuntime>(request: &AppendEntriesRequest<Voting<RT>>) -> AppendRecord {
        AppendRecord {
            vote: VoteRecord::from(&request.vote),
            previous: request.prev_log_id.as_ref().map(PlaceRecord::from),
            entries: request.entries.iter().map(EntryRecord::from).collect(),
            committed: request.leader_commit.as_ref().map(PlaceRecord::from),
            has_majority: false,
        }
    }

    pub(crate) fn request<RT: AsyncRuntime>(self) -> AppendEntriesRequest<Voting<RT>> {
        AppendEntriesRequest {
            vote: self.vote.into(),
            prev_log_id: self.previous.map(LogId::from),
            entries: self.entries.into_iter().map(Into::into).collect(),
            leader_commit: self.committed.map(LogId::from),
        }
    }

    /// Leaves away the last half of its entries; `false` when that would leave none.
    pub(crate) fn halve(&mut self) -> bool {
        let keeps = self.entries.len() / 2;
        self.entries.truncate(keeps);
        keeps > 0
    }

    /// The last entry that it carries.
    pub(crate) fn last(&self) -> Option<PlaceRecord> {
        self.entries.last().map(|entry| entry.place)
    }
}

/// What came of an append.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AppendedRecord {
    /// All of it is on stable storage.
    All,
    /// Up to here it is.
    UpTo(Option<PlaceRecord>),
    /// The entry before is another one here.
    Conflict,
    /// Another was promised more.
    HigherVote(VoteRecord),
}

impl AppendedRecord {
    pub(crate) fn of<RT: AsyncRuntime>(response: &AppendEntriesResponse<Voting<RT>>) -> AppendedRecord {
        match response {
            AppendEntriesResponse::Success => AppendedRecord::All,
            AppendEntriesResponse::PartialSuccess(place) => {
                AppendedRecord::UpTo(place.as_ref().map(PlaceRecord::from))
            }
            AppendEntriesResponse::Conflict => AppendedRecord::Conflict,
            AppendEntriesResponse::HigherVote(vote) => AppendedRecord::HigherVote(VoteRecord::from(vote)),
        }
    }

    pub(crate) fn response<RT: AsyncRuntime>(self) -> AppendEntriesResponse<Voting<RT>> {
        match self {
            AppendedRecord::All => AppendEntriesResponse::Success,
            AppendedRecord::UpTo(place) => AppendEntriesResponse::PartialSuccess(place.map(LogId::from)),
            AppendedRecord::Conflict => AppendEntriesResponse::Conflict,
            AppendedRecord::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.into()),
        }
    }
}

/// Who wants to be elected, and what its log has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct CandidacyRecord {
    pub(crate) vote: VoteRecord,
    pub(crate) last: Option<PlaceRecord>,
    /// The leader has asked it to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_handed_over: bool,
}

impl CandidacyRecord {
    pub(crate) fn of<RT: AsyncRuntime>(request: &VoteRequest<Voting<RT>>) -> CandidacyRecord {
        CandidacyRecord {
            vote: VoteRecord::from(&request.vote),
            last: request.last_log_id.as_ref().map(PlaceRecord::from),
            is_handed_over: request.leadership_transfer,
        }
    }

    pub(crate) fn request<RT: AsyncRuntime>(self) -> VoteRequest<Voting<RT>> {
        let mut request = VoteRequest::new(self.vote.into(), self.last.map(LogId::from));
        request.leadership_transfer = self.is_handed_over;
        request
    }
}

/// A vote, given or not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct VotedRecord {
    pub(crate) vote: VoteRecord,
    pub(crate) is_granted: bool,
    pub(crate) last: Option<PlaceRecord>,
}

impl VotedRecord {
    pub(crate) fn of<RT: AsyncRuntime>(response: &VoteResponse<Voting<RT>>) -> VotedRecord {
        VotedRecord {
            vote: VoteRecord::from(&response.vote),
            is_granted: response.vote_granted,
            last: response.last_log_id.as_ref().map(PlaceRecord::from),
        }
    }

    pub(crate) fn response<RT: AsyncRuntime>(self) -> VoteResponse<Voting<RT>> {
        let vote: crate::raft::record::Vote = self.vote.into();
        VoteResponse::new(vote, self.last.map(LogId::from), self.is_granted)
    }
}

/// A state that is to be taken over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StateOffer {
    pub(crate) vote: VoteRecord,
    /// Up to where it goes.
    pub(crate) place: Option<PlaceRecord>,
    pub(crate) members_since: Option<PlaceRecord>,
    pub(crate) members: MembersRecord,
    /// How long it is.
    pub(crate) bytes: u64,
}

impl StateOffer {
    pub(crate) fn of(vote: VoteRecord, announced: &Announced, bytes: u64) -> StateOffer {
        let members = &announced.last_membership;
        StateOffer {
            vote,
            place: announced.last_log_id.as_ref().map(PlaceRecord::from),
            members_since: members.log_id().as_ref().map(PlaceRecord::from),
            members: MembersRecord::from(members.membership()),
            bytes,
        }
    }

    pub(crate) fn announced(&self) -> Announced {
        let members = self.members.clone().into();
        Announced {
            last_log_id: self.place.map(LogId::from),
            last_membership: Members::new(self.members_since.map(LogId::from), members),
        }
    }
}

/// A command that another node was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct AskedRecord {
    pub(crate) command: Box<Command>,
    /// How long its asker waits.
    pub(crate) within_ms: u64,
}

/// How long its asker waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct WithinRecord {
    pub(crate) within_ms: u64,
}

/// What a command has come to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ProposedRecord {
    pub(crate) place: PlaceRecord,
    pub(crate) outcome: EntryOutcome,
}
