//! The connections of a session's links, and those that are refused: what is told to whom before it is closed.

use super::{Around, Client, NodeSession};
use crate::links::{FrameBody, FrameLinks, LinkEnd, OutFrame};
use crate::order::{DOORWAY_PLACES, PeerReport};
use palisade_block::{Devices, Nanos};
use palisade_port::{Landed, LinkState, Payload, SessionPhase};
use palisade_wire::{FrameHeader, FrameKind, HELLO_BYTES, Hello, LinkRefusal, REFUSAL_BYTES};
use palisade_words::LinkIndex;

/// What happens at one link between the header of a frame and its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkUse {
    /// There is a connection in the link's place.
    pub(super) is_attached: bool,
    /// Where the payload goes that is just coming.
    pub(super) landing: Option<(Landed, Option<u64>)>,
    /// Frames given to it and not sent.
    pub(super) queued: u32,
    /// It is closed when these are sent, and at this moment in any case.
    pub(super) flushes_until: Option<Nanos>,
}

impl LinkUse {
    pub(super) fn lands_for(&self, key: u64) -> bool {
        matches!(self.landing, Some((_, Some(landing))) if landing == key)
    }
}

/// Connections that are refused, each until the refusal is sent, and no longer than until some moment: whoever made it may not read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doorway {
    places: [Option<Nanos>; DOORWAY_PLACES as usize],
}

impl NodeSession {
    /// A connection that was asked for, or could not be had. If the link was given up and is asked for again, a connection that was
    /// meant for the first time is as good as one that is still to come.
    pub(crate) fn connected<D: Devices + FrameLinks>(
        &mut self,
        link: LinkIndex,
        connection: Option<D::Connection>,
        around: &mut Around<'_, D>,
    ) {
        self.is_stirred = true;
        if self.session.link(link) != Some(LinkState::Dialing) {
            // It was given up meanwhile: the connection is closed by being dropped.
            return;
        }
        match connection.is_some_and(|connection| self.attach(link, connection, around)) {
            true => self.session.connected(link, around.now, &mut self.effects),
            false => self.session.lost(link, around.now, &mut self.effects),
        }
        self.carry_out(around);
    }

    /// A connection that another node has made.
    pub(crate) fn accepted<D: Devices + FrameLinks>(
        &mut self,
        hello: &Hello,
        connection: D::Connection,
        around: &mut Around<'_, D>,
    ) {
        self.is_stirred = true;
        let (link, now) = (hello.link, around.now);
        let is_later_run = self.is_of_later_run(hello);
        let judged = match self.waits_for_proof(is_later_run) {
            true => {
                if is_later_run {
                    // Nobody is there any more who has asked what is under way.
                    self.session.peer_left(now, &mut self.effects);
                }
                Err(LinkRefusal::Draining)
            }
            false => self.session.greeted(link, hello, now, &mut self.effects),
        };
        match judged {
            Ok(()) => {
                self.peer_run = Some(hello.incarnation);
                let is_attached = self.attach(link, connection, around);
                self.carry_out(around);
                if !is_attached {
                    self.session.lost(link, now, &mut self.effects);
                }
            }
            Err(refusal) => self.refuse(refusal, connection, around),
        }
        self.carry_out(around);
    }

    /// Whether a greeting is of the other node, in a run after the one that the session was with.
    fn is_of_later_run(&self, hello: &Hello) -> bool {
        let is_later = self.peer_run.is_some_and(|run| hello.incarnation > run);
        is_later && self.ends.judge(hello, &self.settings).is_ok()
    }

    /// A new round would be taken for the proof that nothing of the one before lands any more. A later run begins one.
    fn waits_for_proof(&self, is_later_run: bool) -> bool {
        match &self.client {
            Client::Asking(_) => false,
            Client::Serving(serving) => {
                let goes_on = self.session.phase() == SessionPhase::Up && !is_later_run;
                serving.is_doubtful() && !goes_on
            }
        }
    }

    fn attach<D: Devices + FrameLinks>(
        &mut self,
        link: LinkIndex,
        connection: D::Connection,
        around: &mut Around<'_, D>,
    ) -> bool {
        let place = self.place.link(link);
        let Some(at) = self.links.get_mut(usize::from(link.0)) else {
            return false;
        };
        match around.hands.attach(place, connection) {
            Ok(()) => {
                *at = LinkUse {
                    is_attached: true,
                    ..LinkUse::default()
                };
                true
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or_default();
                around.reports.push_back(PeerReport::LinkBroken {
                    session: self.place,
                    link,
                    end: LinkEnd::Failed { errno },
                });
                false
            }
        }
    }

    /// A connection is told why it is none of this session's. It has no link's place: that may be in use.
    fn refuse<D: Devices + FrameLinks>(
        &mut self,
        refusal: LinkRefusal,
        connection: D::Connection,
        around: &mut Around<'_, D>,
    ) {
        let until = around.now.after(self.settings.lost_after);
        let session = self.place;
        around
            .reports
            .push_back(PeerReport::LinkRefused { session, refusal });
        let free = self.doorway.places.iter().position(Option::is_none);
        let Some((at, room)) = free.and_then(|at| Some((at, self.doorway.places.get_mut(at)?))) else {
            // As many are being refused as there is room for: this one learns it by being closed.
            return;
        };
        let place = session.doorway(at as u16);
        if around.hands.attach(place, connection).is_err() {
            return;
        }
        *room = Some(until);
        let mut body = [0; HELLO_BYTES];
        for (room, byte) in body.iter_mut().zip(refusal.encode()) {
            *room = byte;
        }
        let header = FrameHeader {
            payload_bytes: REFUSAL_BYTES as u32,
            ..FrameHeader::of(FrameKind::Refused)
        };
        around.hands.send(
            place,
            OutFrame {
                header,
                body: FrameBody::Greeting(body),
                payload: Payload::None,
                is_urgent: true,
            },
        );
    }

    /// Something has happened at a connection that is refused: it has its answer, or is of no use.
    pub(super) fn happened_in_doorway<D: Devices + FrameLinks>(
        &mut self,
        at: u16,
        is_closed: bool,
        around: &mut Around<'_, D>,
    ) {
        if let Some(place) = self.doorway.places.get_mut(usize::from(at)) {
            match is_closed {
                true => *place = None,
                false => around.hands.close_link(self.place.doorway(at)),
            }
        }
    }

    pub(super) fn is_attached(&self, link: LinkIndex) -> bool {
        let link = self.links.get(usize::from(link.0));
        link.is_some_and(|link| link.is_attached)
    }

    /// Closes a link's connection, once what was given to it is sent.
    pub(super) fn close_when_sent<D: Devices + FrameLinks>(
        &mut self,
        link: LinkIndex,
        around: &mut Around<'_, D>,
    ) {
        let until = around.now.after(self.settings.lost_after);
        match self.links.get_mut(usize::from(link.0)) {
            Some(at) if at.queued > 0 => at.flushes_until = Some(until),
            _ => around.hands.close_link(self.place.link(link)),
        }
    }

    /// Closes those that have had their time.
    pub(super) fn look_at_connections<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        let now = around.now;
        for (at, link) in (0..).zip(&mut self.links) {
            if link.flushes_until.take_if(|until| *until <= now).is_some() {
                around.hands.close_link(self.place.link(LinkIndex(at)));
            }
        }
        for (at, place) in (0..).zip(&mut self.doorway.places) {
            if let Some(until) = place
                && *until <= now
            {
                *until = now.after(self.settings.lost_after);
                around.hands.close_link(self.place.doorway(at));
            }
        }
    }

    pub(super) fn connections_look(&self) -> Option<Nanos> {
        let links = self.links.iter().filter_map(|link| link.flushes_until);
        links.chain(self.doorway.places.iter().flatten().copied()).min()
    }

    pub(super) fn has_no_connection(&self) -> bool {
        let places = self.doorway.places;
        self.links.iter().all(|link| !link.is_attached) && places.iter().all(Option::is_none)
    }
}
