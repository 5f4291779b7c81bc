//! The serving end of a connection: one question after the other, each answered, until the other end goes or says what may not be.

use crate::raft::asked::Asked;
use crate::raft::network::channel::{Channel, ChannelError};
use crate::raft::network::frame::{VoterFrameError, VoterFrameKind, decode_part};
use crate::raft::network::links::{Links, NotAccepted};
use crate::raft::network::message::{
    AppendedRecord, ProposedRecord, StateOffer, VotedRecord, VoterContent, VoterMessage,
};
use crate::raft::network::transport::VoterStream;
use crate::raft::record::{PlaceRecord, Taken, VoteRecord};
use crate::raft::voter_id::VoterId;
use std::time::Duration;
use tokio::time::timeout;

/// Longest state that is taken, in bytes: a cluster with as much of everything as there may be takes a quarter of it.
pub const STATE_BYTES_MAX: u64 = 256 << 20;

/// How long a question, or the next part of a state, may be on its way once it has begun. A connection on which nothing is asked
/// may be quiet for longer: it is there to be taken again.
const QUIET_MAX: Duration = Duration::from_secs(60);

/// How long one part of a state after another may take.
const PART_WITHIN: Duration = Duration::from_secs(5);

/// Longest time that an asker waits for a command or a read here.
const ASKED_WITHIN_MAX: Duration = Duration::from_secs(60);

/// Serves a connection of `from`, as it was authenticated.
pub(crate) async fn serve(links: Links, asked: Asked, stream: Box<dyn VoterStream>, from: VoterId) {
    let mut serving = Serving {
        channel: Channel::over(stream),
        links,
        asked,
        from,
    };
    loop {
        match serving.next().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                if !matches!(error, ChannelError::Io(_)) {
                    let why = format!("a connection of node {from} is closed: {error}");
                    serving.links.counts().bad_frame(from, why);
                }
                return;
            }
        }
    }
}

struct Serving {
    channel: Channel,
    links: Links,
    asked: Asked,
    from: VoterId,
}

impl Serving {
    /// Answers one question. Whether there may be another.
    async fn next(&mut self) -> Result<bool, ChannelError> {
        let Ok(received) = timeout(QUIET_MAX, self.channel.receive()).await else {
            return Ok(false);
        };
        let (frame, body) = received?;
        if frame.kind != VoterFrameKind::Question {
            let what = format!("{:?}, and nothing was asked", frame.kind);
            return Err(ChannelError::NotDue { what });
        }
        let message = VoterMessage::decode(&body)?;
        let accepted = self.links.accept(self.from, &message).await;
        if let Err(why) = accepted {
            let (why, goes_on) = match why {
                NotAccepted::NotCounted(why) => {
                    self.links.counts().not_counted(self.from, why.to_string());
                    // The parts of a state come behind it.
                    (
                        why.to_string(),
                        !matches!(message.content, VoterContent::State(_)),
                    )
                }
                NotAccepted::NotTrue(why) => {
                    let said = format!("a {} is refused: {why}", message.content.name());
                    self.links.counts().bad_frame(self.from, said);
                    (why, false)
                }
            };
            self.answer(frame.number, VoterContent::Refused(why)).await?;
            return Ok(goes_on);
        }
        let answer = match self.answer_to(frame.number, message.content).await {
            Ok(Some(answer)) => answer,
            // This node has stopped: whoever asks hears nothing.
            Ok(None) => return Ok(false),
            Err(Wrong::Channel(error)) => return Err(error),
            Err(Wrong::NotTrue(why)) => {
                self.links.counts().bad_frame(self.from, why.clone());
                self.answer(frame.number, VoterContent::Refused(why)).await?;
                return Ok(false);
            }
        };
        self.answer(frame.number, answer).await?;
        Ok(true)
    }

    async fn answer(&mut self, number: u32, content: VoterContent) -> Result<(), ChannelError> {
        // What it shows is read now, after what it says came about.
        let body = self.links.body(self.from, content);
        self.channel.answer(number, &body).await
    }

    async fn answer_to(&mut self, number: u32, content: VoterContent) -> Result<Option<VoterContent>, Wrong> {
        let raft = &self.asked.raft;
        Ok(match content {
            VoterContent::Append(append) => {
                self.is_own(&append.vote)?;
                let appended = raft.append_entries(append.request()).await.ok();
                appended.map(|appended| VoterContent::Appended(AppendedRecord::of(&appended)))
            }
            VoterContent::Vote(candidacy) => {
                self.is_own(&candidacy.vote)?;
                let voted = raft.vote(candidacy.request()).await.ok();
                voted.map(|voted| VoterContent::Voted(VotedRecord::of(&voted)))
            }
            VoterContent::PreVote(candidacy) => {
                self.is_own(&candidacy.vote)?;
                let voted = raft.pre_vote(candidacy.request()).await.ok();
                voted.map(|voted| VoterContent::Voted(VotedRecord::of(&voted)))
            }
            VoterContent::State(offer) => {
                self.is_own(&offer.vote)?;
                let state = self.parts(number, offer.bytes).await?;
                self.take_state(&offer, state).await
            }
            VoterContent::Propose(asked) => {
                let within = Duration::from_millis(asked.within_ms).min(ASKED_WITHIN_MAX);
                Some(match self.asked.propose_here(*asked.command, within).await {
                    Ok(written) => VoterContent::Proposed(ProposedRecord {
                        place: PlaceRecord {
                            term: written.term,
                            index: written.index,
                        },
                        outcome: written.outcome,
                    }),
                    Err(not_led) => not_led.content(),
                })
            }
            VoterContent::Read(asked) => {
                let within = Duration::from_millis(asked.within_ms).min(ASKED_WITHIN_MAX);
                Some(match self.asked.read_here(within).await {
                    Ok(index) => VoterContent::ReadUpTo(index),
                    Err(not_led) => not_led.content(),
                })
            }
            answer => {
                let why = format!("a {} is no question", answer.name());
                return Err(Wrong::NotTrue(why));
            }
        })
    }

    /// Nobody leads or stands for election in the name of another.
    fn is_own(&self, vote: &VoteRecord) -> Result<(), Wrong> {
        match vote.voted_for == self.from.0 {
            true => Ok(()),
            false => Err(Wrong::NotTrue(format!(
                "it speaks for node {}, and node {} has sent it",
                vote.voted_for, self.from
            ))),
        }
    }

    /// The parts of a state, put together. Room is made as they come.
    async fn parts(&mut self, number: u32, bytes: u64) -> Result<Vec<u8>, Wrong> {
        if bytes > STATE_BYTES_MAX {
            let why = format!("a state of {bytes} bytes is longer than any may be ({STATE_BYTES_MAX})");
            return Err(Wrong::NotTrue(why));
        }
        let mut state = Vec::new();
        let length = |state: &Vec<u8>| u64::try_from(state.len()).unwrap_or(u64::MAX);
        while length(&state) < bytes {
            let received = timeout(PART_WITHIN, self.channel.receive()).await;
            let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
            let (frame, body) = received.map_err(|_| ChannelError::from(late()))??;
            if frame.kind != VoterFrameKind::Part || frame.number != number {
                let what = format!("{:?} {} for a part of state {number}", frame.kind, frame.number);
                return Err(ChannelError::NotDue { what }.into());
            }
            let (offset, part) = decode_part(&body)?;
            let there = length(&state);
            let rest = bytes - there;
            let fits = u64::try_from(part.len()).is_ok_and(|part| part > 0 && part <= rest);
            if offset != there || !fits {
                let what = format!(
                    "{} bytes at {offset} of a state of which {there} of {bytes} bytes are there",
                    part.len()
                );
                return Err(ChannelError::NotDue { what }.into());
            }
            state.extend_from_slice(part);
        }
        Ok(state)
    }

    async fn take_state(&mut self, offer: &StateOffer, snapshot: Vec<u8>) -> Option<VoterContent> {
        let taken = Taken {
            meta: offer.announced(),
            snapshot,
        };
        let installed = self
            .asked
            .raft
            .install_full_snapshot(offer.vote.into(), taken)
            .await;
        let response = installed.ok()?;
        Some(VoterContent::StateTaken(VoteRecord::from(&response.vote)))
    }
}

/// Why a connection is not gone on with.
enum Wrong {
    Channel(ChannelError),
    NotTrue(String),
}

impl From<ChannelError> for Wrong {
    fn from(error: ChannelError) -> Wrong {
        Wrong::Channel(error)
    }
}

impl From<VoterFrameError> for Wrong {
    fn from(error: VoterFrameError) -> Wrong {
        Wrong::Channel(error.into())
    }
}
