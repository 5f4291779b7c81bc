//! What has happened at the connections, told to the session.

use super::{Around, Client, NodeSession};
use crate::arena::PAYLOAD_BUFFER_BYTES;
use crate::links::{FrameLinks, LinkEnd, LinkEvent};
use crate::order::{LinkUser, PeerReport};
use palisade_block::Devices;
use palisade_port::{Landed, Landing, Violation};
use palisade_wire::{FrameHeader, FrameKind, HELLO_BYTES, Hello, LinkRefusal, REFUSAL_BYTES};
use palisade_words::LinkIndex;

impl NodeSession {
    /// What has happened at a connection.
    pub(crate) fn happened<D: Devices + FrameLinks>(
        &mut self,
        user: LinkUser,
        event: LinkEvent,
        around: &mut Around<'_, D>,
    ) {
        self.is_stirred = true;
        let link = match user {
            LinkUser::Link(link) => link,
            LinkUser::Doorway(at) => {
                let is_closed = matches!(event, LinkEvent::Closed { .. });
                let is_over = matches!(event, LinkEvent::Sent { .. } | LinkEvent::Broken { .. });
                if is_closed || is_over {
                    self.happened_in_doorway(at, is_closed, around);
                }
                return;
            }
        };
        let now = around.now;
        match event {
            LinkEvent::Header { header, .. } => self.comes(link, &header, around),
            LinkEvent::Arrived { header, landed, .. } => {
                let Some(at) = self.links.get_mut(usize::from(link.0)) else {
                    return;
                };
                let (place, key) = at.landing.take().unwrap_or((Landed::Nowhere, None));
                if let (Client::Asking(operations), Some(key)) = (&mut self.client, key) {
                    operations.landed(key, landed);
                }
                self.session.arrived(link, &header, place, now, &mut self.effects);
            }
            LinkEvent::Greeting { header, body, .. } => self.greeting(link, &header, &body, around),
            LinkEvent::Heard { .. } => self.session.heard(link, now, &mut self.effects),
            LinkEvent::Sent { bytes, payload, .. } => {
                self.session.transmitted(link, bytes, payload, &mut self.effects);
                self.was_sent(link, around);
            }
            LinkEvent::Broken { end, .. } => self.broken(link, end, around),
            LinkEvent::Closed { .. } => self.closed(link, around),
        }
        self.carry_out(around);
    }

    fn was_sent<D: Devices + FrameLinks>(&mut self, link: LinkIndex, around: &mut Around<'_, D>) {
        if let Some(at) = self.links.get_mut(usize::from(link.0)) {
            at.queued = at.queued.saturating_sub(1);
            if at.queued == 0 && at.flushes_until.take().is_some() {
                around.hands.close_link(self.place.link(link));
            }
        }
    }

    /// Nothing more goes by a link.
    fn broken<D: Devices + FrameLinks>(&mut self, link: LinkIndex, end: LinkEnd, around: &mut Around<'_, D>) {
        around.reports.push_back(PeerReport::LinkBroken {
            session: self.place,
            link,
            end,
        });
        if let Some(at) = self.links.get_mut(usize::from(link.0)) {
            at.flushes_until = None;
        }
        self.session.closing(link, around.now);
        around.hands.close_link(self.place.link(link));
    }

    fn closed<D: Devices + FrameLinks>(&mut self, link: LinkIndex, around: &mut Around<'_, D>) {
        let Some(at) = self.links.get_mut(usize::from(link.0)) else {
            return;
        };
        if let Some((Landed::Buffer(buffer), _)) = std::mem::take(at).landing {
            self.give_buffer(buffer);
        }
        self.session.lost(link, around.now, &mut self.effects);
    }

    /// A frame begins: where its payload goes is said now.
    fn comes<D: Devices + FrameLinks>(
        &mut self,
        link: LinkIndex,
        header: &FrameHeader,
        around: &mut Around<'_, D>,
    ) {
        let landing = self.session.landing(link, header, around.now, &mut self.effects);
        let place = self.place.link(link);
        let lands = match (landing, &self.client) {
            (Landing::Nowhere, _) | (Landing::Answer { .. }, Client::Serving(_)) => (Landed::Nowhere, None),
            (Landing::Answer { key }, Client::Asking(operations)) => {
                if let Some((memory, segments)) = operations.landing(key) {
                    around.hands.land(place, memory, segments);
                }
                (Landed::Answer, Some(key))
            }
            (Landing::Buffer, Client::Asking(_)) => {
                // Who is asked does not ask.
                self.violates(link, Violation::OutOfPlace, around);
                (Landed::Nowhere, None)
            }
            (Landing::Buffer, Client::Serving(_)) => {
                let bytes = header.payload_bytes;
                let fits = bytes <= PAYLOAD_BUFFER_BYTES;
                match fits.then(|| self.arena.take()).flatten() {
                    Some(buffer) => {
                        if let Some(length) = self.lengths.get_mut(buffer.0 as usize) {
                            *length = bytes;
                        }
                        let segment = self.arena.segment(buffer, bytes);
                        around.hands.land(place, self.arena.memory(), &[segment]);
                        (Landed::Buffer(buffer), None)
                    }
                    None => {
                        // No program of ours sends more than there is room for.
                        self.violates(link, Violation::TooMuchData, around);
                        (Landed::Nowhere, None)
                    }
                }
            }
        };
        if let Some(at) = self.links.get_mut(usize::from(link.0)) {
            at.landing = Some(lands);
        }
    }

    /// The other end does what no program of ours does.
    fn violates<D: Devices + FrameLinks>(
        &mut self,
        link: LinkIndex,
        violation: Violation,
        around: &mut Around<'_, D>,
    ) {
        around.reports.push_back(PeerReport::LinkCut {
            session: self.place,
            link,
            cause: palisade_port::CutCause::Violation(violation),
        });
        self.session.closing(link, around.now);
        around.hands.close_link(self.place.link(link));
    }

    fn greeting<D: Devices + FrameLinks>(
        &mut self,
        link: LinkIndex,
        header: &FrameHeader,
        body: &[u8; HELLO_BYTES],
        around: &mut Around<'_, D>,
    ) {
        let now = around.now;
        let understood = match header.kind {
            FrameKind::Welcome => Hello::decode(body)
                .map(|hello| self.session.welcomed(link, &hello, now, &mut self.effects))
                .is_ok(),
            FrameKind::Refused => body
                .first_chunk::<REFUSAL_BYTES>()
                .and_then(|body| LinkRefusal::decode(body).ok())
                .map(|refusal| self.session.refused(link, refusal, now, &mut self.effects))
                .is_some(),
            _ => false,
        };
        if !understood {
            self.violates(link, Violation::OutOfPlace, around);
        }
    }
}
