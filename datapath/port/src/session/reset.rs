//! How a session goes down and comes up again.

use super::{PortSession, SessionPhase, complete};
use crate::links::LinkState;
use crate::message::{CutCause, DownCause, Payload, PortEffect};
use palisade_block::Nanos;
use palisade_wire::{FrameHeader, FrameKind};
use palisade_words::LinkIndex;

/// A reset that is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reset {
    /// The round asked for last.
    round: u32,
    /// By which link the other end was asked for it, while that lives. At the other end: by which it has asked.
    asked_by: Option<LinkIndex>,
    /// When that was first seen to have no answer.
    unanswered: Option<Nanos>,
}

impl Reset {
    pub(super) fn round(&self) -> u32 {
        self.round
    }

    /// The link is gone: the question, or what was answered, may be lost.
    pub(super) fn lost(&mut self, link: LinkIndex) {
        if self.asked_by == Some(link) {
            self.asked_by = None;
        }
    }
}

/// What a session waits for that is not up, for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetWait {
    /// Its links are being closed.
    Closing,
    /// No link carries frames.
    Link,
    /// What an earlier run of this node has submitted may still land, as long as its owner has not said otherwise.
    EarlierRuns,
    /// This end's clients are at work on what they had in the round before.
    OwnClients {
        /// So many messages.
        unanswered: usize,
    },
    /// The other end has been asked and has not answered, or it is the one that asks.
    OtherEnd,
}

impl PortSession {
    /// Nothing that runs of this node before this one have submitted can land any more, or what an earlier session of this run
    /// with the same peer has: their writes have been seen to land, or the disks refuse them. Until this is said, no round
    /// begins. It holds for as long as this run lives.
    pub fn earlier_runs_landed(&mut self, effects: &mut Vec<PortEffect>) {
        self.earlier_runs_landed = true;
        self.go_on_with_reset(effects);
    }

    /// What it waits for; `None` when it is up, or closed and waits for nothing.
    pub fn waits_for(&self) -> Option<ResetWait> {
        match self.phase {
            SessionPhase::Up | SessionPhase::Closed => None,
            SessionPhase::Sinking(_) => Some(ResetWait::Closing),
            SessionPhase::Down | SessionPhase::Resetting => Some(match self.inbox.given() {
                _ if !self.earlier_runs_landed => ResetWait::EarlierRuns,
                0 if self.links.up() == 0 => ResetWait::Link,
                0 => ResetWait::OtherEnd,
                unanswered => ResetWait::OwnClients { unanswered },
            }),
        }
    }

    /// Goes down. First all links are closed, so that nothing comes by them into memory that is given back.
    pub(super) fn sink(
        &mut self,
        cause: DownCause,
        cut: CutCause,
        now: Nanos,
        effects: &mut Vec<PortEffect>,
    ) {
        let tells = match self.phase {
            SessionPhase::Up if self.peer_closes => Some(DownCause::PeerClosed),
            SessionPhase::Up => Some(cause),
            SessionPhase::Resetting => None,
            SessionPhase::Down if self.is_closing => None,
            SessionPhase::Down | SessionPhase::Sinking(_) | SessionPhase::Closed => return,
        };
        self.phase = SessionPhase::Sinking(tells);
        self.reset.asked_by = None;
        for link in self.links.all_made() {
            self.cut(link, cut, now, effects);
        }
        self.sink_if_closed(now, effects);
    }

    /// The other end closes in good order. What it has answered may still be coming by other links, so that each is kept until it
    /// says so by it too; it is not made anew: whoever uses it decides.
    pub(super) fn closed_by_peer(&mut self, link: LinkIndex, now: Nanos, effects: &mut Vec<PortEffect>) {
        (self.is_closing, self.peer_closes, self.keeps) = (true, true, false);
        self.cut(link, CutCause::Down, now, effects);
        self.close_after_peer(now, effects);
    }

    /// Goes down after the other end when nothing can come any more, or nothing is waited for.
    pub(super) fn close_after_peer(&mut self, now: Nanos, effects: &mut Vec<PortEffect>) {
        let is_over = self.links.up() == 0 || self.outbox.is_empty();
        if self.peer_closes && is_over && self.phase == SessionPhase::Up {
            self.sink(DownCause::PeerClosed, CutCause::Down, now, effects);
        }
    }

    /// All links are closed: the clients are told, and then have their messages back (003-27).
    pub(super) fn sink_if_closed(&mut self, now: Nanos, effects: &mut Vec<PortEffect>) {
        let SessionPhase::Sinking(tells) = self.phase else {
            return;
        };
        if self.links.all_made().next().is_some() {
            return;
        }
        effects.extend(tells.map(PortEffect::Down));
        self.phase = if self.is_closing {
            SessionPhase::Closed
        } else {
            SessionPhase::Down
        };
        self.end_round(effects);
        self.begin(now, effects);
    }

    /// What was not delivered is thrown away, what was sent comes back or waits for the next round.
    fn end_round(&mut self, effects: &mut Vec<PortEffect>) {
        let (mut buffers, mut data) = (Vec::new(), Vec::new());
        self.inbox
            .discard(|buffer| buffers.push(buffer), |key| data.push(key));
        effects.extend(buffers.into_iter().map(PortEffect::Release));
        effects.extend(data.into_iter().map(|key| PortEffect::AnswerDone { key }));
        match self.keeps && !self.is_closing {
            true => self.counters.lost_after_sent += self.outbox.begin_anew(),
            false => {
                let lost = self
                    .outbox
                    .clear(|message, nack| effects.push(complete(message, nack)));
                self.counters.lost_after_sent += lost;
            }
        }
        self.look_at_flow(effects);
    }

    /// Goes on with a reset if it can: begins one when there is a link, asks, or says that this end is done.
    pub(super) fn go_on_with_reset(&mut self, effects: &mut Vec<PortEffect>) {
        let is_resetting = self.phase == SessionPhase::Resetting;
        let begins = self.dials && self.phase == SessionPhase::Down;
        if !(is_resetting || begins) || self.links.up() == 0 {
            return;
        }
        // Clients may still be at work on what they had in the round before, or disks on what an earlier run has submitted:
        // that ends first.
        if self.inbox.given() > 0 || !self.earlier_runs_landed {
            return;
        }
        if !self.dials {
            return self.come_up(self.reset.round, effects);
        }
        if is_resetting && self.reset.asked_by.is_some() {
            return;
        }
        let Some(link) = self.links.for_control() else {
            return;
        };
        // One whose link was lost is asked again: the other end may have heard it, and be up already.
        let round = match is_resetting {
            true => self.reset.round,
            false => self.round.max(self.reset.round) + 1,
        };
        self.phase = SessionPhase::Resetting;
        self.reset = Reset {
            round,
            asked_by: Some(link),
            unanswered: None,
        };
        let reset = FrameHeader {
            round,
            ..self.header(FrameKind::Reset)
        };
        self.give(link, reset, Payload::None, effects);
    }

    /// The other end has had time to answer a question. It may be down again after it has said yes, and then it takes a number
    /// that it knows for a late one: the next one is asked for.
    pub(super) fn ask_anew(&mut self, now: Nanos) {
        if !self.dials || self.phase != SessionPhase::Resetting || self.reset.asked_by.is_none() {
            return;
        }
        let since = *self.reset.unanswered.get_or_insert(now);
        if now.since(since) >= self.settings.lost_after {
            self.phase = SessionPhase::Down;
            self.reset.asked_by = None;
        }
    }

    /// The other end asks for a new round.
    pub(super) fn reset_asked(
        &mut self,
        link: LinkIndex,
        round: u32,
        now: Nanos,
        effects: &mut Vec<PortEffect>,
    ) {
        if self.phase == SessionPhase::Up && round == self.round {
            return self.say_done(Some(link), effects);
        }
        // A question that was delayed by its link, and asked again by another one since.
        if round <= self.round || round < self.reset.round {
            self.counters.stale += 1;
            return;
        }
        match self.phase {
            SessionPhase::Up => {
                // It has given up the round that is in force here. Half an answer may be arriving by a link of that: all are
                // closed, and it asks again.
                return self.sink(DownCause::PeerForgot, CutCause::Down, now, effects);
            }
            SessionPhase::Down | SessionPhase::Resetting => {}
            SessionPhase::Sinking(_) | SessionPhase::Closed => return,
        }
        self.phase = SessionPhase::Resetting;
        self.reset = Reset {
            round,
            asked_by: Some(link),
            unanswered: None,
        };
        self.go_on_with_reset(effects);
    }

    /// Whether the other end begins this round, by saying so or by sending something of it.
    pub(super) fn is_awaited(&self, round: u32) -> bool {
        self.dials && self.phase == SessionPhase::Resetting && round == self.reset.round
    }

    /// Rounds are counted anew.
    pub(super) fn forget_rounds(&mut self) {
        (self.round, self.reset) = (0, Reset::default());
    }

    /// The new round begins here. The end that was asked for it says so.
    pub(super) fn come_up(&mut self, round: u32, effects: &mut Vec<PortEffect>) {
        let asked_by = self.reset.asked_by.take();
        self.round = round;
        self.inbox.begin_anew();
        self.phase = SessionPhase::Up;
        self.counters.resets += 1;
        if !self.dials {
            self.say_done(asked_by, effects);
        }
        effects.push(PortEffect::Up);
    }

    /// The round in force is said to the other end, by the link that it has asked by if that is there.
    fn say_done(&mut self, asked_by: Option<LinkIndex>, effects: &mut Vec<PortEffect>) {
        let done = self.header(FrameKind::ResetDone);
        let by = asked_by.filter(|&link| self.links.state(link) == Some(LinkState::Up));
        if let Some(link) = by.or_else(|| self.links.for_control()) {
            self.give(link, done, Payload::None, effects);
        }
    }
}
