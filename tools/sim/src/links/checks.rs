//! What is looked at whenever something happens: what must hold of messages, rounds and memory.

use super::World;
use super::client::{self, Sent, Work};
use crate::finding::Invariant;
use palisade_port::{Completes, Completion, DownCause};

impl World {
    /// Nothing of the round before is under way at either end.
    pub(super) fn is_up(&mut self, side: usize) {
        self.ends[side].clients.last.clear();
        let outstanding = self.ends[side].clients.outstanding();
        if outstanding > 0 && !self.keeps {
            self.find(
                side,
                Invariant::OneAnswer,
                format!("is up with {outstanding} messages of before"),
            );
        }
        let given_back = |sent: &&Sent| matches!(sent.completion, Some(Completion::Nack { .. }));
        let over = self.ends[side]
            .clients
            .sent
            .values()
            .filter(given_back)
            .map(|sent| sent.message.key);
        self.over.extend(over);
        let peer = &mut self.ends[1 - side];
        peer.peer_ups += 1;
        let clients = &peer.clients;
        let older = clients.works.iter().chain(&clients.orphans).next();
        if let Some(key) = older.map(|work| work.key) {
            self.find(
                side,
                Invariant::WriteKept,
                format!("is up while message {key} is worked on"),
            );
        }
    }

    /// What a message asks for lands on a disk: not after its sender was told that it cannot.
    pub(super) fn landed(&mut self, side: usize, work: &Work) {
        let ups = self.ends[side].peer_ups;
        if work.sender_ups != ups {
            self.find(
                side,
                Invariant::WriteKept,
                format!(
                    "message {} of round {} lands after its sender was up again",
                    work.key, work.round
                ),
            );
        }
    }

    pub(super) fn is_down(&mut self, side: usize, cause: DownCause) {
        let may_be = match cause {
            DownCause::NoLink | DownCause::PeerForgot => !self.has_sound_link,
            DownCause::NoAnswer => self.settings.answer_within.is_some(),
            DownCause::PeerLeft => true,
            DownCause::PeerClosed | DownCause::Closed => {
                !self.has_sound_link || self.ends.iter().any(|end| end.is_closing)
            }
            DownCause::NotYet => false,
        };
        // With a sound link an end goes down only because the other one did.
        let follows = matches!(cause, DownCause::NoLink | DownCause::PeerForgot);
        let is_consequence = follows && self.settings.answer_within.is_some();
        if !may_be && !is_consequence {
            self.find(
                side,
                Invariant::Isolation,
                format!("is down, cause {cause:?}, while a link is sound"),
            );
        }
    }

    pub(super) fn delivered(&mut self, side: usize, round: u32, work: &Work, count: u64, is_again: bool) {
        let key = work.key;
        let Some(sent) = self.ends[1 - side].clients.sent.get(&key).cloned() else {
            return self.find(
                side,
                Invariant::ForeignBytes,
                format!("message {key} was never sent"),
            );
        };
        if !self.ends[side].holds(work.buffer, key, sent.message.payload_bytes) {
            self.find(
                side,
                Invariant::ForeignBytes,
                format!("message {key} has other data than was sent"),
            );
        }
        if self.over.contains(&key) {
            self.find(
                side,
                Invariant::WriteKept,
                format!("message {key} comes after its sender was up again"),
            );
        }
        if sent.completion == Some(Completion::Nack { may_land: false }) {
            self.find(
                side,
                Invariant::WriteKept,
                format!("message {key} comes, which was given back as never sent"),
            );
        }
        let stream = sent.message.stream;
        let last = self.ends[side].clients.last.get(&stream).copied();
        let last = last.filter(|&(of, ..)| of == round);
        if is_again {
            let (is_read, is_known) = (
                sent.is_read(),
                last.is_some_and(|(_, sequence, _)| work.sequence <= sequence),
            );
            if !is_read || !is_known {
                self.find(
                    side,
                    Invariant::OneAnswer,
                    format!("message {key} comes again: read {is_read}, known {is_known}"),
                );
            }
        } else {
            if last.is_some_and(|(_, sequence, before)| work.sequence <= sequence || count <= before) {
                self.find(
                    side,
                    Invariant::OneAnswer,
                    format!("message {key} comes after {last:?} of round {round}"),
                );
            }
            // What lies between may have been lost if nobody waits for it; if it is of an earlier round, it is over.
            let between = last.map_or(0, |(_, _, before)| before + 1)..count;
            let overtaken = self.ends[1 - side]
                .clients
                .of_stream(stream, between)
                .find(|other| other.message.completes != Completes::Sent && other.completion.is_none());
            if let Some(overtaken) = overtaken {
                let overtaken = overtaken.message.key;
                self.find(
                    side,
                    Invariant::OneAnswer,
                    format!("message {key} has overtaken {overtaken}"),
                );
            }
            self.ends[side]
                .clients
                .last
                .insert(stream, (round, work.sequence, count));
        }
        if let Some(sent) = self.ends[1 - side].clients.sent.get_mut(&key) {
            sent.delivered += 1;
        }
    }

    pub(super) fn completed(&mut self, side: usize, key: u64, completion: Completion, is_up: bool) {
        let Some(sent) = self.ends[side].clients.sent.get_mut(&key) else {
            return self.find(
                side,
                Invariant::OneAnswer,
                format!("message {key} was never sent"),
            );
        };
        let before = sent.completion.replace(completion);
        let sent = sent.clone();
        let wrong = match completion {
            _ if before.is_some() => Some("is done twice"),
            Completion::Sent => {
                (sent.message.completes != Completes::Sent).then_some("does not end by being sent")
            }
            Completion::Accepted if sent.message.completes != Completes::Accepted => {
                Some("does not end by being accepted")
            }
            Completion::Accepted => {
                (sent.delivered == 0).then_some("is said to be accepted and was not delivered")
            }
            Completion::Answered { words, payload_bytes } => {
                let names_it = client::named(&words) == (key, !key);
                let has_data = payload_bytes == sent.message.answer_bytes
                    && (payload_bytes == 0 || sent.answer == client::data(key, payload_bytes));
                match () {
                    () if sent.message.completes != Completes::Answered => Some("does not end by an answer"),
                    () if !names_it || sent.answered == 0 => Some("has the answer of another"),
                    () if !has_data => Some("has other data than was answered"),
                    () => None,
                }
            }
            Completion::Nack { .. } => is_up.then_some("is given back while the session is up"),
        };
        if let Some(wrong) = wrong {
            self.find(
                side,
                Invariant::OneAnswer,
                format!("message {key} {wrong}: {sent:?}"),
            );
        }
        self.ends[side].poison(key);
    }

    pub(super) fn check(&mut self, side: usize) {
        let end = &self.ends[side];
        if let Err(what) = end.session.check() {
            end.find(self.now, Invariant::DataPath, what);
        }
        let windows = usize::from(self.settings.streams) * usize::from(self.settings.window);
        if end.buffers.len() > windows + usize::from(self.settings.links) + end.clients.works.len() {
            end.find(
                self.now,
                Invariant::BoundedWaiting,
                format!("{} buffers are taken", end.buffers.len()),
            );
        }
    }
}
