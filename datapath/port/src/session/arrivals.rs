//! What comes by the links.

use super::{PortSession, SessionPhase, complete};
use crate::greeting::{GreetingRun, Standing};
use crate::inbox::Arrival;
use crate::links::LinkState;
use crate::message::{
    BufferIndex, Completes, Completion, CutCause, DownCause, Landed, Landing, Payload, PortEffect,
    PortMessage, Violation,
};
use palisade_block::Nanos;
use palisade_wire::{FrameHeader, FrameKind, HELLO_BYTES, Hello, LinkRefusal};
use palisade_words::{LinkIndex, StreamIndex};

impl PortSession {
    /// The connection is there, at the end that has made it.
    pub fn connected(&mut self, link: LinkIndex, now: Nanos, effects: &mut Vec<PortEffect>) {
        if self.links.state(link) != Some(LinkState::Dialing) {
            return;
        }
        self.links.set(link, LinkState::Greeting, now);
        self.greet(link, FrameKind::Hello, effects);
    }

    /// A connection has come to the end that takes them, and its greeting is [judged](crate::Ends::judge) well.
    ///
    /// # Errors
    /// It cannot be taken now; whoever holds the connection tells the other end.
    pub fn greeted(
        &mut self,
        link: LinkIndex,
        hello: &Hello,
        now: Nanos,
        effects: &mut Vec<PortEffect>,
    ) -> Result<(), LinkRefusal> {
        let run = GreetingRun::of(hello);
        let standing = match self.ends.judge(hello, &self.settings) {
            Ok(()) => run.standing(self.peer_run),
            Err(LinkRefusal::Cloned) => Standing::Cloned,
            Err(refusal) => return Err(refusal),
        };
        match standing {
            Standing::Cloned => {
                self.counters.clones += 1;
                return Err(LinkRefusal::Cloned);
            }
            Standing::Earlier { latest } => return Err(LinkRefusal::EarlierIncarnation { latest }),
            Standing::Later => {
                if self.phase == SessionPhase::Up || self.phase == SessionPhase::Resetting {
                    self.sink(DownCause::PeerForgot, CutCause::Down, now, effects);
                }
                // Of the run before there is no link any more, and nothing under way.
                for old in self.links.all_made() {
                    self.cut(old, CutCause::Down, now, effects);
                }
                let is_linked = self.links.all_made().next().is_some();
                if self.phase != SessionPhase::Down || is_linked || self.inbox.given() > 0 {
                    return Err(LinkRefusal::Draining);
                }
                // Rounds are counted by the run that asks for them.
                self.forget_rounds();
            }
            Standing::Same => {}
        }
        match self.links.state(link) {
            None => return Err(LinkRefusal::NoSuchPlace),
            Some(LinkState::Absent) => {}
            // If the other end has lost it, this one will have soon. It is not taken from whoever has it: another node may
            // have the same identity.
            Some(_) => return Err(LinkRefusal::LinkInUse),
        }
        if matches!(self.phase, SessionPhase::Sinking(_) | SessionPhase::Closed) {
            return Err(LinkRefusal::Draining);
        }
        if !self.agrees(hello) {
            return Err(LinkRefusal::NoSuchPlace);
        }
        self.peer_run = Some(run);
        self.links.set(link, LinkState::Up, now);
        self.greet(link, FrameKind::Welcome, effects);
        self.go_on_with_reset(effects);
        Ok(())
    }

    /// The other end has answered the greeting.
    pub fn welcomed(&mut self, link: LinkIndex, hello: &Hello, now: Nanos, effects: &mut Vec<PortEffect>) {
        if self.links.state(link) != Some(LinkState::Greeting) {
            return self.violation(link, Violation::OutOfPlace, now, effects);
        }
        let run = GreetingRun::of(hello);
        let standing = match self.ends.judge(hello, &self.settings) {
            Err(LinkRefusal::Cloned) => Standing::Cloned,
            Ok(()) if hello.link == link => run.standing(self.peer_run),
            Ok(()) | Err(_) => return self.violation(link, Violation::OtherSession, now, effects),
        };
        match standing {
            Standing::Cloned => {
                self.counters.clones += 1;
                return self.cut(link, CutCause::Refused(LinkRefusal::Cloned), now, effects);
            }
            Standing::Earlier { latest } => {
                let refusal = LinkRefusal::EarlierIncarnation { latest };
                return self.cut(link, CutCause::Refused(refusal), now, effects);
            }
            Standing::Later => {
                self.peer_run = Some(run);
                if matches!(self.phase, SessionPhase::Up | SessionPhase::Resetting) {
                    return self.sink(DownCause::PeerForgot, CutCause::Down, now, effects);
                }
                // Of the run before nothing that comes is of use, and no session has two.
                for old in self.links.all_made() {
                    if self.links.state(old) == Some(LinkState::Up) {
                        self.cut(old, CutCause::Down, now, effects);
                    }
                }
            }
            Standing::Same => {}
        }
        // It may have answered before it heard of this round; but not if it was told of it.
        let has_forgotten = self.links.told_round(link) == self.round && hello.round != self.round;
        if self.phase == SessionPhase::Up && has_forgotten {
            return self.sink(DownCause::PeerForgot, CutCause::Down, now, effects);
        }
        if !self.agrees(hello) {
            return self.violation(link, Violation::OtherSession, now, effects);
        }
        self.peer_run = Some(run);
        self.links.set(link, LinkState::Up, now);
        self.go_on_with_reset(effects);
    }

    /// The other end has refused the link. It is asked again and again.
    pub fn refused(
        &mut self,
        link: LinkIndex,
        refusal: LinkRefusal,
        now: Nanos,
        effects: &mut Vec<PortEffect>,
    ) {
        self.counters.clones += u64::from(refusal == LinkRefusal::Cloned);
        self.cut(link, CutCause::RefusedByPeer(refusal), now, effects);
    }

    /// Where the payload of a frame goes whose header has come. What no program of ours sends cuts the link.
    pub fn landing(
        &mut self,
        link: LinkIndex,
        header: &FrameHeader,
        now: Nanos,
        effects: &mut Vec<PortEffect>,
    ) -> Landing {
        self.links.heard(link, now);
        if self.links.state(link) != Some(LinkState::Up) {
            return Landing::Nowhere;
        }
        if header.kind.is_of_a_stream() && self.is_awaited(header.round) {
            self.come_up(header.round, effects);
        }
        if !header.kind.is_of_a_stream() || !self.is_of_this_round(header) {
            return Landing::Nowhere;
        }
        match header.kind {
            FrameKind::Message => match self.inbox.judge(header) {
                Ok(_) if header.payload_bytes > 0 && self.inbox.may_be_delivered(header) => Landing::Buffer,
                Ok(_) => Landing::Nowhere,
                Err(violation) => {
                    self.violation(link, violation, now, effects);
                    Landing::Nowhere
                }
            },
            _ => self.landing_of_answer(link, header, now, effects),
        }
    }

    fn landing_of_answer(
        &mut self,
        link: LinkIndex,
        header: &FrameHeader,
        now: Nanos,
        effects: &mut Vec<PortEffect>,
    ) -> Landing {
        if !self.outbox.was_sent(header.stream, header.sequence) {
            self.violation(link, Violation::NeverAsked, now, effects);
            return Landing::Nowhere;
        }
        if header.payload_bytes == 0 {
            return Landing::Nowhere;
        }
        let room = |message: &PortMessage| {
            message.completes != Completes::Answered || header.payload_bytes <= message.answer_bytes
        };
        match self.outbox.sent(header.stream, header.sequence) {
            Some(taken) if taken.may_be_answered_by(link) && !room(&taken.message) => {
                self.violation(link, Violation::TooMuchData, now, effects);
                Landing::Nowhere
            }
            Some(taken)
                if taken.may_be_answered_by(link) && taken.message.completes == Completes::Answered =>
            {
                Landing::Answer {
                    key: taken.message.key,
                }
            }
            _ => Landing::Nowhere,
        }
    }

    /// A frame has come whole, its payload where [`landing`](PortSession::landing) said and its checksum right.
    pub fn arrived(
        &mut self,
        link: LinkIndex,
        header: &FrameHeader,
        landed: Landed,
        now: Nanos,
        effects: &mut Vec<PortEffect>,
    ) {
        let buffer = landed.buffer();
        self.links.heard(link, now);
        if self.links.state(link) != Some(LinkState::Up) {
            // Cut while the frame was on its way.
            effects.extend(buffer.map(PortEffect::Release));
            return;
        }
        match header.kind {
            FrameKind::Message | FrameKind::Accepted | FrameKind::Answer
                if !self.is_of_this_round(header) =>
            {
                self.counters.stale += 1;
                effects.extend(buffer.map(PortEffect::Release));
                self.other_round(link, now, effects);
            }
            FrameKind::Message => self.message(link, header, buffer, now, effects),
            FrameKind::Accepted => self.accepted(link, header, effects),
            FrameKind::Answer => self.answered(link, header, landed, now, effects),
            FrameKind::Reset if self.dials => self.violation(link, Violation::OutOfPlace, now, effects),
            FrameKind::Reset => self.reset_asked(link, header.round, now, effects),
            FrameKind::ResetDone => {
                if self.is_awaited(header.round) {
                    self.come_up(header.round, effects);
                }
            }
            FrameKind::Probe | FrameKind::ProbeAnswer
                if header.round != 0 && !self.is_of_this_round(header) =>
            {
                self.counters.stale += 1;
                self.other_round(link, now, effects);
            }
            FrameKind::Probe => {
                let answer = self.header(FrameKind::ProbeAnswer);
                self.give(link, answer, Payload::None, effects);
            }
            FrameKind::ProbeAnswer => {}
            FrameKind::Close => {
                if self.is_of_this_round(header) {
                    self.closed_by_peer(link, now, effects);
                }
            }
            FrameKind::Hello | FrameKind::Welcome | FrameKind::Refused => {
                self.violation(link, Violation::OutOfPlace, now, effects);
            }
        }
    }

    /// The other end uses a round on this link that is not in force here. An end that asks for rounds asks for the next one in any
    /// case; an end that is asked can only let the other one learn of it: the link was made before this end went down, or its
    /// greeting passed that by, and when it is made anew, both say their rounds.
    fn other_round(&mut self, link: LinkIndex, now: Nanos, effects: &mut Vec<PortEffect>) {
        if !self.dials {
            self.cut(link, CutCause::OtherRound, now, effects);
        }
    }

    fn message(
        &mut self,
        link: LinkIndex,
        header: &FrameHeader,
        landed: Option<BufferIndex>,
        now: Nanos,
        effects: &mut Vec<PortEffect>,
    ) {
        let arrival = match self.inbox.arrive(header, link, landed) {
            Ok(arrival) => arrival,
            Err(violation) => {
                effects.extend(landed.map(PortEffect::Release));
                return self.violation(link, violation, now, effects);
            }
        };
        // One that is held may be lost yet, with the session: that it is accepted is said when it is delivered.
        if header.asks_accepted
            && arrival != Arrival::New
            && self.inbox.has_delivered(header.stream, header.sequence)
        {
            self.say_accepted(link, (header.client, header.stream, header.sequence), effects);
        }
        match arrival {
            Arrival::New => self.deliver(header.stream, effects),
            Arrival::Again => {
                self.counters.delivered += 1;
                effects.push(PortEffect::Deliver {
                    client: header.client,
                    round: self.round,
                    stream: header.stream,
                    sequence: header.sequence,
                    words: header.words,
                    epoch: header.epoch,
                    buffer: landed,
                    is_again: true,
                });
            }
            Arrival::Known => {
                self.counters.known += 1;
                effects.extend(landed.map(PortEffect::Release));
            }
        }
    }

    fn deliver(&mut self, stream: StreamIndex, effects: &mut Vec<PortEffect>) {
        while let Some(due) = self.inbox.due(stream) {
            self.counters.delivered += 1;
            effects.push(PortEffect::Deliver {
                client: due.client,
                round: self.round,
                stream: due.stream,
                sequence: due.sequence,
                words: due.words,
                epoch: due.epoch,
                buffer: due.buffer,
                is_again: false,
            });
            if let Some(link) = due.asks_accepted {
                self.say_accepted(link, (due.client, due.stream, due.sequence), effects);
            }
        }
    }

    /// If the link is gone, the message comes again by another one, and this is said by that.
    fn say_accepted(
        &mut self,
        link: LinkIndex,
        (client, stream, sequence): (u8, StreamIndex, u64),
        effects: &mut Vec<PortEffect>,
    ) {
        if self.links.state(link) != Some(LinkState::Up) {
            return;
        }
        let accepted = FrameHeader {
            client,
            stream,
            sequence,
            ..self.header(FrameKind::Accepted)
        };
        self.give(link, accepted, Payload::None, effects);
    }

    fn accepted(&mut self, link: LinkIndex, header: &FrameHeader, effects: &mut Vec<PortEffect>) {
        // As with an answer: by another link than its message went by last, it is read from memory that is given back.
        if let Some(taken) = self.outbox.sent(header.stream, header.sequence)
            && taken.may_be_answered_by(link)
            && taken.message.completes == Completes::Accepted
            && !std::mem::replace(&mut taken.is_told, true)
        {
            effects.push(complete(&taken.message, Completion::Accepted));
        }
    }

    fn answered(
        &mut self,
        link: LinkIndex,
        header: &FrameHeader,
        landed: Landed,
        now: Nanos,
        effects: &mut Vec<PortEffect>,
    ) {
        if !self.outbox.was_sent(header.stream, header.sequence) {
            return self.violation(link, Violation::NeverAsked, now, effects);
        }
        let taken = self.outbox.sent(header.stream, header.sequence);
        // It may have become this link's only after its data was thrown away.
        let lacks_data = |message: &PortMessage| {
            let wants = message.completes == Completes::Answered && header.payload_bytes > 0;
            wants && landed != Landed::Answer
        };
        if taken.is_none_or(|taken| !taken.may_be_answered_by(link) || lacks_data(&taken.message)) {
            self.counters.known += 1;
            return;
        }
        let Some(taken) = self.outbox.answered(header.stream, header.sequence) else {
            return;
        };
        if let Some(by) = taken.link {
            self.links.awaits_no_more(by, taken.message.answer_bytes);
        }
        if !taken.is_told {
            let completion = match taken.message.completes {
                Completes::Sent => Completion::Sent,
                Completes::Accepted => Completion::Accepted,
                Completes::Answered => Completion::Answered {
                    words: header.words,
                    payload_bytes: header.payload_bytes,
                },
            };
            effects.push(complete(&taken.message, completion));
        }
        self.look_at_flow(effects);
        self.close_after_peer(now, effects);
    }

    fn violation(
        &mut self,
        link: LinkIndex,
        violation: Violation,
        now: Nanos,
        effects: &mut Vec<PortEffect>,
    ) {
        self.cut(link, CutCause::Violation(violation), now, effects);
    }

    fn is_of_this_round(&self, header: &FrameHeader) -> bool {
        self.phase == SessionPhase::Up && header.round == self.round
    }

    /// The other end takes so many messages at once: it says the same by each link, or not in one run of it.
    fn agrees(&mut self, hello: &Hello) -> bool {
        let told = (hello.incarnation, hello.window);
        match self.peer_window {
            Some((incarnation, window)) if incarnation == told.0 => window == told.1,
            _ => {
                self.peer_window = Some(told);
                let window = self.settings.window.min(hello.window);
                self.outbox.set_window(window);
                true
            }
        }
    }

    fn greet(&mut self, link: LinkIndex, kind: FrameKind, effects: &mut Vec<PortEffect>) {
        let round = self.round_in_force();
        let hello = self
            .ends
            .hello(&self.settings, link, (round, self.epoch), self.peer_run);
        self.links.told(link, round);
        let header = FrameHeader {
            payload_bytes: HELLO_BYTES as u32,
            ..self.header(kind)
        };
        self.give(link, header, Payload::Greeting(hello), effects);
    }
}
