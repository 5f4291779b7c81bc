//! A session: everything between one reactor of this node and one of another, over all links. Both ends are this machine; one
//! of them makes the links.
//!
//! ```text
//!                    link up, own clients done: Reset sent          no link, no answer, peer left
//!     +------+  ------------------------------------->  +-----------+                       +---------+
//!     | Down |                                          | Resetting |  ResetDone:  +----+   | Sinking |
//!     |      |  ------------------------------------->  |           | -----------> | Up |-->|         |--.
//!     +------+    Reset received; own clients done:     +-----------+              +----+   +---------+  |
//!        ^        ResetDone sent                              '------------------------------->  ^       |
//!        '------------------- all links are closed: Down is said, then all comes back ----------'-------'
//! ```
//!
//! - A link that is lost is none of the clients' business: what was sent by it is sent again by another (003-34). The session is
//!   down when there was none for a while, or when somebody who knows says so (003-26, 27).
//! - A round begins with a reset that both ends have acknowledged, and with nothing of the one before under way at either end:
//!   when a session is up again, what it gave back as perhaps still landing has landed or never will (003-28).
//! - This holds over a start of either node: what its last run had submitted may still be on its way to a disk, and until its
//!   owner says that it is not, no round is asked for and none is confirmed ([`PortSession::earlier_runs_landed`]).
//! - An answer comes by the link that its message went by last, and by no other: no two links write to where a client wants its
//!   data, and none does once the message is done.

mod arrivals;
mod reset;

use crate::greeting::{Ends, GreetingRun};
use crate::inbox::Inbox;
use crate::links::{LinkState, Links, Overdue};
use crate::message::{
    Completes, Completion, CutCause, DownCause, MessageAnswer, Payload, PortEffect, PortMessage, SendError,
};
use crate::outbox::Outbox;
use crate::settings::{SessionSettings, SessionSettingsError};
use palisade_block::Nanos;
use palisade_wire::{FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX, FrameHeader, FrameKind};
use palisade_words::{Epoch, Incarnation, LinkIndex};

pub use reset::ResetWait;

/// What a session has met, for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Messages sent, each as often as it was sent.
    pub sent: u64,
    /// Of these, those that were sent again because a link was lost.
    pub sent_again: u64,
    /// Messages delivered to clients.
    pub delivered: u64,
    /// Messages that came although they were known.
    pub known: u64,
    /// Frames of an earlier round.
    pub stale: u64,
    /// Links lost or cut.
    pub links_lost: u64,
    /// Resets carried out.
    pub resets: u64,
    /// Links cut because the other end did what no program of ours does.
    pub violations: u64,
    /// Links refused, by either end, because two machines speak as one run of one node.
    pub clones: u64,
    /// Messages whose clients were told that they are sent ([`Completes::Sent`]), and which were lost then.
    pub lost_after_sent: u64,
}

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionPhase {
    /// Nothing is taken.
    Down,
    /// Links are being closed; then it is down. Clients are told the cause if it was up.
    Sinking(Option<DownCause>),
    /// A new round is being agreed on.
    Resetting,
    /// Messages are taken, sent and delivered.
    Up,
    /// It was closed, and nothing more comes of it.
    Closed,
}

/// One session. Each call gives, in order, what is to be done outside.
#[derive(Debug)]
pub struct PortSession {
    ends: Ends,
    settings: SessionSettings,
    /// This end makes the links.
    dials: bool,
    phase: SessionPhase,
    round: u32,
    /// The reset under way.
    reset: reset::Reset,
    /// Nothing that earlier runs of this node have submitted can land any more.
    earlier_runs_landed: bool,
    /// What is not done when the session goes down is kept for the next round instead of being given back.
    keeps: bool,
    /// Close is to be said when everything is done.
    is_closing: bool,
    /// The other end has said it: nothing is sent any more, and what it has answered is still coming.
    peer_closes: bool,
    epoch: Epoch,
    /// The run that the session is with, or was with last.
    peer_run: Option<GreetingRun>,
    /// Which run of the other end takes how many messages of one stream at once.
    peer_window: Option<(Incarnation, u16)>,
    links: Links,
    outbox: Outbox,
    inbox: Inbox,
    /// Answers' data that was given to links, by the client's name.
    sending: Vec<(LinkIndex, u64)>,
    counters: Counters,
}

impl PortSession {
    /// The end that makes the links.
    ///
    /// # Errors
    /// The settings lie out of their bounds.
    pub fn asking(
        ends: Ends,
        settings: SessionSettings,
        now: Nanos,
    ) -> Result<PortSession, SessionSettingsError> {
        PortSession::new(ends, settings, true, now)
    }

    /// The end that takes them.
    ///
    /// # Errors
    /// The settings lie out of their bounds.
    pub fn serving(
        ends: Ends,
        settings: SessionSettings,
        now: Nanos,
    ) -> Result<PortSession, SessionSettingsError> {
        PortSession::new(ends, settings, false, now)
    }

    fn new(
        ends: Ends,
        settings: SessionSettings,
        dials: bool,
        now: Nanos,
    ) -> Result<PortSession, SessionSettingsError> {
        settings.check()?;
        Ok(PortSession {
            ends,
            settings,
            dials,
            phase: SessionPhase::Down,
            round: 0,
            reset: reset::Reset::default(),
            earlier_runs_landed: false,
            keeps: false,
            is_closing: false,
            peer_closes: false,
            epoch: Epoch(0),
            peer_run: None,
            peer_window: None,
            links: Links::new(settings.links, now),
            outbox: Outbox::new(&settings),
            inbox: Inbox::new(&settings),
            // A link that was lost may have as much on its way as the one that took its place.
            sending: Vec::with_capacity(
                usize::from(settings.links) * usize::from(settings.streams) * usize::from(settings.window),
            ),
            counters: Counters::default(),
        })
    }

    /// How far it has come.
    pub fn phase(&self) -> SessionPhase {
        self.phase
    }

    /// What it has met.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The round in force, or the last one that was; 0 before the first.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// The run of the other node that the session is with, or was with last.
    pub fn peer_incarnation(&self) -> Option<Incarnation> {
        self.peer_run.map(|run| run.incarnation)
    }

    /// How far a link is; `None` when there is none of that number.
    pub fn link(&self, link: LinkIndex) -> Option<LinkState> {
        self.links.state(link)
    }

    /// Messages taken and not done.
    pub fn outstanding(&self) -> usize {
        self.outbox.len()
    }

    /// Messages that this end's clients have and did not answer.
    pub fn unanswered(&self) -> usize {
        self.inbox.given()
    }

    /// The session follows an earlier one of this run with the same peer, which is closed. Before anything else: no round is
    /// counted twice, those included that the other end was asked for and may be in without this end's knowledge.
    pub fn follow(&mut self, earlier: &PortSession) {
        self.round = earlier.round.max(earlier.reset.round());
        self.peer_run = earlier.peer_run;
    }

    /// From now on, what is not done when the session goes down is kept and sent in the next round, or given back. Of what is
    /// kept nobody is told; it may be done twice, in order.
    pub fn keep_messages(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    /// The membership that this node knows, for the next greeting.
    pub fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Takes a message. It is sent by [`pump`](PortSession::pump).
    ///
    /// # Errors
    /// It cannot be taken; nothing of it is kept.
    pub fn send(&mut self, message: PortMessage, effects: &mut Vec<PortEffect>) -> Result<(), SendError> {
        let may_wait = self.keeps && !matches!(self.phase, SessionPhase::Closed);
        if self.is_closing || self.phase != SessionPhase::Up && !may_wait {
            return Err(SendError::Down);
        }
        if !self.outbox.has_stream(message.stream) {
            return Err(SendError::NoStream {
                stream: message.stream,
            });
        }
        if message.payload_bytes > FRAME_PAYLOAD_BYTES_MAX {
            return Err(SendError::TooLong {
                bytes: message.payload_bytes,
            });
        }
        if !self.outbox.take(message) {
            return Err(SendError::Full);
        }
        self.look_at_flow(effects);
        Ok(())
    }

    /// A client answers a message that was delivered to it. One of an earlier round is answered to nobody.
    pub fn answer(&mut self, answer: MessageAnswer, effects: &mut Vec<PortEffect>) {
        assert!(
            answer.is_repeatable || answer.payload_bytes == 0,
            "data is not kept, so that an answer with data is repeatable: a fault of the client's"
        );
        let is_over = self.phase != SessionPhase::Up;
        let is_wanted = answer.round == self.round && self.inbox.answer(&answer, is_over);
        if !is_wanted && answer.payload_bytes > 0 {
            effects.push(PortEffect::AnswerDone { key: answer.key });
        }
        self.go_on_with_reset(effects);
    }

    /// Gives the links what they can take. To be called after everything else, once in a turn.
    pub fn pump(&mut self, now: Nanos, effects: &mut Vec<PortEffect>) {
        if self.phase != SessionPhase::Up {
            return;
        }
        while let Some((stream, sequence, answer, is_wanted)) = self.inbox.next_answer() {
            // By no other link than its message came by: the other end sends that once more when the link is lost, and by this
            // learns what was lost with it. They wait for nothing, since their number is bounded by that of the messages.
            let up = |link: &LinkIndex| self.links.state(*link) == Some(LinkState::Up);
            let has_data = answer.payload_bytes > 0;
            let Some(link) = answer.link().filter(up).filter(|_| is_wanted) else {
                effects.extend(has_data.then_some(PortEffect::AnswerDone { key: answer.key }));
                continue;
            };
            let payload = match has_data {
                false => Payload::None,
                true => Payload::Answer { key: answer.key },
            };
            if has_data {
                self.sending.push((link, answer.key));
            }
            let header = FrameHeader {
                client: answer.client,
                stream,
                sequence,
                words: answer.words,
                payload_bytes: answer.payload_bytes,
                ..self.header(FrameKind::Answer)
            };
            self.give(link, header, payload, effects);
        }
        while !self.peer_closes
            && self.outbox.has_ready()
            && let Some(link) = self.links.for_frame(self.settings.ahead_bytes)
            && let Some((place, taken, behind)) = self.outbox.next(link, now)
        {
            let message = &taken.message;
            // Of one whose client was told that it is done, nobody has the data any more. What the other end has accepted it knows
            // all the same.
            let is_void = taken.is_told;
            let header = FrameHeader {
                client: message.client,
                stream: message.stream,
                sequence: taken.sequence,
                behind,
                attempt: taken.attempts,
                epoch: message.epoch,
                is_void,
                asks_accepted: message.completes == Completes::Accepted && !taken.is_told,
                words: message.words,
                payload_bytes: if is_void { 0 } else { message.payload_bytes },
                ..self.header(FrameKind::Message)
            };
            self.counters.sent += 1;
            self.counters.lost_after_sent += u64::from(is_void && message.completes == Completes::Sent);
            self.links.awaits(link, message.answer_bytes);
            let payload = Payload::Message {
                place,
                generation: taken.generation,
                key: message.key,
            };
            self.give(link, header, payload, effects);
        }
        self.close_if_done(now, effects);
    }

    /// A frame has been given to the network whole; `bytes` are all of it. Not after its link was [lost](PortSession::lost).
    pub fn transmitted(
        &mut self,
        link: LinkIndex,
        bytes: u64,
        payload: Payload,
        effects: &mut Vec<PortEffect>,
    ) {
        self.links.transmitted(link, bytes);
        match payload {
            Payload::Message {
                place, generation, ..
            } => {
                let Some(taken) = self.outbox.at(place, generation) else {
                    return;
                };
                if taken.message.completes == Completes::Sent && !std::mem::replace(&mut taken.is_told, true)
                {
                    effects.push(complete(&taken.message, Completion::Sent));
                }
            }
            Payload::Answer { key } => {
                if let Some(at) = self.sending.iter().position(|&sending| sending == (link, key)) {
                    self.sending.swap_remove(at);
                    effects.push(PortEffect::AnswerDone { key });
                }
            }
            Payload::None | Payload::Greeting(_) => {}
        }
    }

    /// Bytes have come by a link, of a frame that is not whole yet: to be called when some have, and no header or frame with them.
    /// A link that needs longer for one frame than it may be silent is not given up by this, at neither end.
    pub fn heard(&mut self, link: LinkIndex, now: Nanos, effects: &mut Vec<PortEffect>) {
        if self.links.hears(link, now, self.settings.probe_after) {
            let probe = self.header(FrameKind::Probe);
            self.give(link, probe, Payload::None, effects);
        }
    }

    /// What the time brings: probes, links to be made or given up, the end of patience. To be called when
    /// [`next_look`](PortSession::next_look) says.
    pub fn tick(&mut self, now: Nanos, effects: &mut Vec<PortEffect>) {
        while let Some(overdue) = self.links.overdue(&self.settings, self.makes_links(), now) {
            match overdue {
                Overdue::Lost(link) => self.cut(link, CutCause::Silent, now, effects),
                Overdue::Probe(link) => {
                    let probe = self.header(FrameKind::Probe);
                    self.give(link, probe, Payload::None, effects);
                }
                Overdue::Dial(link) => {
                    self.links.set(link, LinkState::Dialing, now);
                    effects.push(PortEffect::Dial(link));
                }
            }
        }
        if self.phase == SessionPhase::Up {
            let answers_by = self.settings.answer_within.and_then(|within| {
                let oldest = self.outbox.oldest_sent()?;
                (now.since(oldest) >= within).then_some(DownCause::NoAnswer)
            });
            let no_link = self.links.none_for(now) >= Some(self.settings.down_after);
            if let Some(cause) = no_link.then_some(DownCause::NoLink).or(answers_by) {
                self.sink(cause, CutCause::Down, now, effects);
            }
        }
        self.close_after_peer(now, effects);
        self.ask_anew(now);
        self.go_on_with_reset(effects);
    }

    /// When to call [`tick`](PortSession::tick) next at the latest.
    pub fn next_look(&self) -> Option<Nanos> {
        let links = self.links.next_look(&self.settings, self.makes_links());
        let is_up = self.phase == SessionPhase::Up;
        let no_link = self.links.none_since().filter(|_| is_up);
        let down = no_link.map(|since| since.after(self.settings.down_after));
        let answers = self.settings.answer_within.filter(|_| is_up);
        let answer = answers.and_then(|within| Some(self.outbox.oldest_sent()?.after(within)));
        [links, down, answer].into_iter().flatten().min()
    }

    /// Makes the links. They are made anew whenever they are lost.
    pub fn begin(&mut self, now: Nanos, effects: &mut Vec<PortEffect>) {
        if !self.makes_links() {
            return;
        }
        for at in 0..self.settings.links {
            let link = LinkIndex(at);
            if self.links.state(link) == Some(LinkState::Absent) {
                self.links.set(link, LinkState::Dialing, now);
                effects.push(PortEffect::Dial(link));
            }
        }
    }

    /// Somebody who knows says that the other end is gone (003-26).
    pub fn peer_left(&mut self, now: Nanos, effects: &mut Vec<PortEffect>) {
        if matches!(self.phase, SessionPhase::Up | SessionPhase::Resetting) {
            self.sink(DownCause::PeerLeft, CutCause::Down, now, effects);
        }
    }

    /// Takes no more messages; when all are done and answered, tells the other end and is closed (003-10).
    pub fn close(&mut self, now: Nanos, effects: &mut Vec<PortEffect>) {
        self.is_closing = true;
        if self.phase != SessionPhase::Up {
            self.stop(now, effects);
        }
        self.close_if_done(now, effects);
    }

    /// Ends at once: what is not done comes back.
    pub fn stop(&mut self, now: Nanos, effects: &mut Vec<PortEffect>) {
        self.is_closing = true;
        self.keeps = false;
        if !matches!(self.phase, SessionPhase::Closed) {
            self.sink(DownCause::Closed, CutCause::Down, now, effects);
        }
    }

    fn close_if_done(&mut self, now: Nanos, effects: &mut Vec<PortEffect>) {
        let is_done = self.outbox.is_empty() && self.inbox.given() == 0 && !self.inbox.has_answers();
        let begins = self.is_closing && !self.peer_closes && self.phase == SessionPhase::Up;
        // Without a link it cannot be said; then it is waited for, as long as the session goes on without one.
        if !begins || !is_done || self.links.up() == 0 {
            return;
        }
        let close = self.header(FrameKind::Close);
        for link in self.links.all_made() {
            if self.links.state(link) == Some(LinkState::Up) {
                self.give(link, close, Payload::None, effects);
            }
        }
        self.sink(DownCause::Closed, CutCause::Closed, now, effects);
    }

    fn makes_links(&self) -> bool {
        match self.phase {
            // What is to be done before a session is closed may need a link.
            SessionPhase::Up => self.dials && !self.peer_closes,
            SessionPhase::Down | SessionPhase::Resetting => self.dials && !self.is_closing,
            SessionPhase::Sinking(_) | SessionPhase::Closed => false,
        }
    }

    /// The round in force; 0 when there is none.
    fn round_in_force(&self) -> u32 {
        match self.phase {
            SessionPhase::Up => self.round,
            _ => 0,
        }
    }

    /// A header of this session.
    fn header(&self, kind: FrameKind) -> FrameHeader {
        FrameHeader {
            round: self.round_in_force(),
            epoch: self.epoch,
            ..FrameHeader::of(kind)
        }
    }

    fn give(
        &mut self,
        link: LinkIndex,
        header: FrameHeader,
        payload: Payload,
        effects: &mut Vec<PortEffect>,
    ) {
        self.links
            .give(link, FRAME_HEADER_BYTES as u64 + u64::from(header.payload_bytes));
        effects.push(PortEffect::Send {
            link,
            header,
            payload,
        });
    }

    fn look_at_flow(&mut self, effects: &mut Vec<PortEffect>) {
        if let Some(holds_back) = self.outbox.flow() {
            effects.push(PortEffect::Flow { holds_back });
        }
    }

    /// Closes a link. What follows from that follows when it is [closed](PortSession::lost).
    fn cut(&mut self, link: LinkIndex, cause: CutCause, now: Nanos, effects: &mut Vec<PortEffect>) {
        match self.links.state(link) {
            None | Some(LinkState::Absent | LinkState::Closing) => return,
            Some(_) => {}
        }
        if matches!(cause, CutCause::Violation(_)) {
            self.counters.violations += 1;
        }
        self.links.set(link, LinkState::Closing, now);
        effects.push(PortEffect::Cut { link, cause });
    }

    /// A link's connection is broken or has brought nonsense, and whoever holds it is closing it: nothing more goes by it.
    /// [`lost`](PortSession::lost) follows.
    pub fn closing(&mut self, link: LinkIndex, now: Nanos) {
        if !matches!(self.links.state(link), None | Some(LinkState::Absent)) {
            self.links.set(link, LinkState::Closing, now);
        }
    }

    /// A link's connection is closed, by whomever: nothing that was to come by it is written anywhere any more, and nothing
    /// that was to be sent by it is read.
    pub fn lost(&mut self, link: LinkIndex, now: Nanos, effects: &mut Vec<PortEffect>) {
        if matches!(self.links.state(link), None | Some(LinkState::Absent)) {
            return;
        }
        self.links.set(link, LinkState::Absent, now);
        self.counters.links_lost += 1;
        self.counters.sent_again += self.outbox.lost(link) as u64;
        self.sending.retain(|&(by, key)| {
            if by == link {
                effects.push(PortEffect::AnswerDone { key });
            }
            by != link
        });
        self.inbox.lost(link);
        self.reset.lost(link);
        self.sink_if_closed(now, effects);
        self.close_after_peer(now, effects);
        self.go_on_with_reset(effects);
    }

    /// Whether the books agree with themselves; what does not, in words.
    ///
    /// # Errors
    /// They do not, by a fault of this program.
    pub fn check(&self) -> Result<(), String> {
        self.outbox.check()?;
        self.inbox.check()?;
        let is_at_rest = matches!(self.phase, SessionPhase::Down | SessionPhase::Closed);
        match is_at_rest && !self.keeps && !self.outbox.is_empty() {
            true => Err(format!("{:?} with {} messages", self.phase, self.outbox.len())),
            false => Ok(()),
        }
    }
}

fn complete(message: &PortMessage, completion: Completion) -> PortEffect {
    PortEffect::Complete {
        client: message.client,
        key: message.key,
        completion,
    }
}

#[cfg(test)]
mod tests;
