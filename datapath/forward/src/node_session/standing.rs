//! How a session is, for operators and for whoever checks it.

use super::{Client, NodeSession};
use crate::serving::ServingCounters;
use palisade_block::Nanos;
use palisade_port::{Counters, Landed, SessionPhase};

/// How a session is, for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionStanding {
    /// How far it has come.
    pub phase: SessionPhase,
    /// What was asked and is not answered.
    pub outstanding: u32,
    /// What is to be asked when the session is up again.
    pub kept: u32,
    /// What the other node has asked and was not answered yet.
    pub unanswered: u32,
    /// Changes that wait for the proof that they are not carried out any more.
    pub unsettled: u32,
    /// Changes of the other node that have ended here without anybody knowing whether they land. The session's next round waits for
    /// [`PeerOrder::NothingLands`](crate::PeerOrder::NothingLands) here.
    pub doubts: u32,
    /// Requests of the other node that wait for this one to hear of the mapping that they name.
    pub held: u32,
    /// Since when the oldest of them waits.
    pub held_since: Option<Nanos>,
    /// Payload buffers in use.
    pub buffers_used: u32,
    /// What the session has met.
    pub port: Counters,
    /// What the other node's requests have met, at the end that is asked.
    pub serving: Option<ServingCounters>,
}

impl SessionStanding {
    /// Whether it is up, and nothing is under way or waits.
    pub fn is_at_rest(&self) -> bool {
        let counts = [
            self.outstanding,
            self.kept,
            self.unanswered,
            self.unsettled,
            self.doubts,
            self.held,
            self.buffers_used,
        ];
        self.phase == SessionPhase::Up && counts == [0; 7]
    }
}

impl NodeSession {
    /// How it is.
    pub(crate) fn standing(&self) -> SessionStanding {
        let standing = SessionStanding {
            phase: self.session.phase(),
            outstanding: self.session.outstanding() as u32,
            kept: 0,
            unanswered: self.session.unanswered() as u32,
            unsettled: 0,
            doubts: 0,
            held: 0,
            held_since: None,
            buffers_used: self.arena.used() as u32,
            port: *self.session.counters(),
            serving: None,
        };
        match &self.client {
            Client::Asking(operations) => SessionStanding {
                kept: operations.kept(),
                unsettled: operations.unsettled(),
                ..standing
            },
            Client::Serving(serving) => SessionStanding {
                doubts: serving.doubts(),
                held: serving.held(),
                held_since: serving.held_since(),
                serving: Some(*serving.counters()),
                ..standing
            },
        }
    }

    /// Whether the books agree with themselves; what does not, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.session.check()?;
        let held = match &self.client {
            Client::Asking(operations) => operations.check()?,
            Client::Serving(serving) => serving.check()?,
        };
        let into_buffer = |landing| matches!(landing, Some((Landed::Buffer(_), _)));
        let landing = self.links.iter().filter(|link| into_buffer(link.landing)).count();
        // What has come and waits for those before it in its stream is with the session.
        let used = self.arena.used();
        let with_session = usize::from(self.settings.streams) * usize::from(self.settings.window);
        match (held + landing..=held + landing + with_session).contains(&used) {
            true => Ok(()),
            false => Err(format!(
                "{used} buffers are in use, {held} of them by requests, and {landing} are landed in"
            )),
        }
    }
}
