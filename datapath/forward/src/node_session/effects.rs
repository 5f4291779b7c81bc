//! What the session says is to be done, done.

use super::{Around, Client, NodeSession};
use crate::links::{FrameBody, FrameLinks, OutFrame};
use crate::order::PeerReport;
use crate::serving::{Delivered, answer_of};
use palisade_block::Devices;
use palisade_port::{CutCause, DownCause, Payload, PortEffect};
use palisade_wire::{BLOCK_CLIENT, ForwardedResult, FrameHeader};

impl NodeSession {
    /// Answers and effects lead to each other until nothing is left of either.
    pub(super) fn carry_out<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        while !self.answers.is_empty() || !self.effects.is_empty() {
            let mut answers = std::mem::take(&mut self.answers);
            for answer in answers.drain(..) {
                self.session.answer(answer, &mut self.effects);
            }
            self.answers = answers;
            // What follows from one goes behind what there is.
            let following = std::mem::take(&mut self.following);
            let mut effects = std::mem::replace(&mut self.effects, following);
            for effect in effects.drain(..) {
                self.carry_out_one(effect, around);
            }
            self.following = effects;
        }
        self.tell_unsettled(around);
    }

    /// Told once for all that have become so together.
    fn tell_unsettled<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        let Client::Asking(operations) = &self.client else {
            return;
        };
        let unsettled = operations.unsettled();
        let before = std::mem::replace(&mut self.unsettled_told, unsettled);
        if unsettled > before {
            let session = self.place;
            around
                .reports
                .push_back(PeerReport::Unsettled { session, unsettled });
        }
    }

    fn carry_out_one<D: Devices + FrameLinks>(&mut self, effect: PortEffect, around: &mut Around<'_, D>) {
        let (session, now) = (self.place, around.now);
        let is_urgent = effect.is_urgent();
        match effect {
            // A connection could not be taken into use after it had been judged well.
            PortEffect::Send { link, .. } if !self.is_attached(link) => {}
            PortEffect::Send {
                link,
                header,
                payload,
            } => {
                let frame = OutFrame {
                    header,
                    body: self.body(&header, payload),
                    payload,
                    is_urgent,
                };
                if let Some(at) = self.links.get_mut(usize::from(link.0)) {
                    at.queued += 1;
                }
                around.hands.send(session.link(link), frame);
            }
            PortEffect::Dial(link) => around.reports.push_back(PeerReport::Dial { session, link }),
            PortEffect::Cut { link, cause } => {
                around
                    .reports
                    .push_back(PeerReport::LinkCut { session, link, cause });
                match (self.is_attached(link), cause) {
                    // It is not there yet. Whoever makes it is told when he brings it.
                    (false, _) => self.session.lost(link, now, &mut self.effects),
                    (true, CutCause::Closed) => self.close_when_sent(link, around),
                    (true, _) => around.hands.close_link(session.link(link)),
                }
            }
            PortEffect::Deliver {
                client,
                round,
                stream,
                sequence,
                words,
                epoch,
                buffer,
                is_again: _,
            } => {
                let length = buffer.and_then(|buffer| self.lengths.get(buffer.0 as usize));
                self.deliver(
                    Delivered {
                        round,
                        stream,
                        sequence,
                        words: if client == BLOCK_CLIENT { words } else { [0; _] },
                        epoch,
                        buffer,
                        bytes: length.copied().unwrap_or_default(),
                    },
                    around,
                );
            }
            PortEffect::Complete { key, completion, .. } => {
                if let Client::Asking(operations) = &mut self.client {
                    operations.complete(key, completion, &mut self.arena, around.ended);
                }
            }
            PortEffect::AnswerDone { key } => {
                self.serves(now, |serving, means| serving.answer_done(key, means));
            }
            PortEffect::Release(buffer) => self.give_buffer(buffer),
            PortEffect::Up => self.is_up(around),
            PortEffect::Down(cause) => self.is_down(cause, around),
            PortEffect::Flow { .. } => {}
        }
    }

    fn deliver<D: Devices + FrameLinks>(&mut self, message: Delivered, around: &mut Around<'_, D>) {
        match &self.client {
            Client::Serving(_) => self.serves(around.now, |serving, means| serving.deliver(message, means)),
            Client::Asking(_) => {
                // Who is asked does not ask. What has no data comes as far as here.
                let answer = answer_of(&message, ForwardedResult::Rejected, u64::MAX);
                self.answers.push(answer);
            }
        }
    }

    /// Nothing of the round before is under way at either end any more. What was kept is asked again.
    fn is_up<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        let session = self.place;
        around.reports.push_back(PeerReport::Up { session });
        if let Client::Asking(operations) = &mut self.client {
            operations.up(around.ended);
        }
        let mut from = 0;
        while let Client::Asking(operations) = &mut self.client
            && let Some((key, asking)) = operations.next_kept(&mut from)
        {
            if let Err(error) = self.send(key, asking) {
                // There is a place in the session for each; it may be going down again.
                self.not_sent(key, error);
                break;
            }
        }
    }

    fn is_down<D: Devices + FrameLinks>(&mut self, cause: DownCause, around: &mut Around<'_, D>) {
        self.serves(around.now, |serving, means| serving.session_lost(means));
        let mut waiting = 0;
        if let Client::Asking(operations) = &mut self.client {
            waiting = operations.in_use();
            if matches!(cause, DownCause::PeerClosed | DownCause::Closed) {
                // It is not made anew.
                operations.give_back(&mut self.arena, around.ended);
            }
        }
        around.reports.push_back(PeerReport::Down {
            session: self.place,
            cause,
            waiting,
        });
    }

    fn body(&self, header: &FrameHeader, payload: Payload) -> FrameBody {
        let buffer = match (payload, &self.client) {
            (Payload::Greeting(hello), _) => return FrameBody::Greeting(hello.encode()),
            (Payload::Message { key, .. }, Client::Asking(operations)) => operations.data(key),
            (Payload::Answer { key }, Client::Serving(serving)) => serving.data(key),
            _ => None,
        };
        match buffer {
            Some(buffer) if header.payload_bytes > 0 => FrameBody::Memory {
                memory: self.arena.memory(),
                segment: self.arena.segment(buffer, header.payload_bytes),
            },
            _ => FrameBody::Nothing,
        }
    }
}
