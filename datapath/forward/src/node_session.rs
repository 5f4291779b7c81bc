//! One session with the connections below it and the client above it: what comes out of the one goes into the other.

use crate::arena::Arena;
use crate::asking::{Ended, Operations, Outcome, words};
use crate::links::{FrameBody, FrameLinks, LinkEnd, LinkEvent, LinkPlace, OutFrame};
use crate::order::{PeerReport, SessionEnd, SessionPlace};
use crate::serving::{Delivered, ServedVolume, Serving, ServingCounters};
use palisade_block::{Devices, Fault, Io, Nanos, Op, Started};
use palisade_port::{
    BufferIndex, Completes, Counters, Ends, LINKS_MAX, Landed, Landing, LinkState, MessageAnswer, Payload,
    PortEffect, PortMessage, PortSession, SendError, SessionPhase, SessionSettings, SessionSettingsError,
};
use palisade_wire::{
    BLOCK_CLIENT, FrameHeader, FrameKind, HELLO_BYTES, Hello, LinkRefusal, REFUSAL_BYTES, VolumeKey,
};
use palisade_words::{LinkIndex, MemoryId, SlotIndex, StreamIndex};
use std::collections::VecDeque;

/// What happens at one link between the header of a frame and its end.
#[derive(Clone, Copy, Debug, Default)]
struct LinkUse {
    /// There is a connection in the link's place.
    is_attached: bool,
    /// Where the payload goes that is just coming.
    landing: Option<(Landed, Option<u64>)>,
    /// A refusal was sent by it: it is closed when that is out.
    is_refused: bool,
}

/// The client above a session.
#[derive(Debug)]
enum Client {
    Asking(Operations),
    Serving(Serving),
}

/// What a session works with that belongs to the reactor.
pub(crate) struct Around<'a, D> {
    pub(crate) hands: &'a mut D,
    pub(crate) now: Nanos,
    pub(crate) ended: &'a mut Ended,
    pub(crate) reports: &'a mut VecDeque<PeerReport>,
}

/// One session of a reactor.
#[derive(Debug)]
pub(crate) struct NodeSession {
    place: SessionPlace,
    session: PortSession,
    streams: u16,
    client: Client,
    arena: Arena,
    /// Length of what lies in each buffer that was landed in.
    lengths: Box<[u32]>,
    links: [LinkUse; LINKS_MAX as usize],
    effects: Vec<PortEffect>,
    answers: Vec<MessageAnswer>,
    /// It is to end.
    is_ending: bool,
}

/// How a session is, for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionStanding {
    /// How far it has come.
    pub phase: SessionPhase,
    /// What was asked and is not answered.
    pub outstanding: u32,
    /// What the other node has asked and was not answered yet.
    pub unanswered: u32,
    /// Changes that wait for the proof that they are not carried out any more.
    pub unsettled: u32,
    /// What the session has met.
    pub port: Counters,
    /// What the other node's requests have met, at the end that is asked.
    pub serving: Option<ServingCounters>,
}

/// Effects that a turn has room for without allocating.
const EFFECTS: usize = 1024;

impl NodeSession {
    /// # Errors
    /// The settings lie out of their bounds.
    pub(crate) fn new<D: Devices + FrameLinks>(
        place: SessionPlace,
        ends: Ends,
        settings: SessionSettings,
        end: SessionEnd,
        around: &mut Around<'_, D>,
    ) -> Result<NodeSession, SessionSettingsError> {
        let mut effects = Vec::with_capacity(EFFECTS);
        let (session, client, lease) = match end {
            SessionEnd::Asking(lease) => {
                let mut session = PortSession::asking(ends, settings, around.now)?;
                session.keep_messages(true);
                // What its last run has asked, the other end sees to: it lets in no later run before that is over.
                session.earlier_runs_landed(&mut effects);
                session.begin(around.now, &mut effects);
                let operations = Operations::new(settings.messages);
                (session, Client::Asking(operations), lease)
            }
            SessionEnd::Serving(exchange) => {
                let lease = exchange.lease().clone();
                let session = PortSession::serving(ends, settings, around.now)?;
                (session, Client::Serving(Serving::new(exchange)), lease)
            }
        };
        let arena = Arena::new(&lease, around.hands.keep(&lease));
        let mut new = NodeSession {
            place,
            session,
            streams: settings.streams.max(1),
            client,
            lengths: vec![0; arena.len()].into(),
            arena,
            links: [LinkUse::default(); LINKS_MAX as usize],
            effects,
            answers: Vec::with_capacity(EFFECTS),
            is_ending: false,
        };
        new.carry_out(around);
        Ok(new)
    }

    /// As what the devices keep its buffers.
    pub(crate) fn memory(&self) -> MemoryId {
        self.arena.memory()
    }

    pub(crate) fn session_mut(&mut self) -> &mut PortSession {
        &mut self.session
    }

    /// Whether something is read into memory for whoever waits for it.
    pub(crate) fn reads_into(&self, memory: MemoryId) -> bool {
        match &self.client {
            Client::Asking(operations) => operations.are_in(memory),
            Client::Serving(_) => false,
        }
    }

    /// An operation of the engine's.
    pub(crate) fn ask<D: Devices + FrameLinks>(&mut self, io: &Io<'_>, hands: &mut D) -> Started {
        let Client::Asking(operations) = &mut self.client else {
            return Started::Done(Err(Fault::Unreachable));
        };
        if io.mapping.is_forwarded {
            // Another node has asked for it already. It is carried out here or nowhere.
            return Started::Done(Err(Fault::Unreachable));
        }
        if io.op == Op::Flush {
            // The other node answers a change when it is on stable storage.
            return Started::Done(Ok(()));
        }
        let Ok(words) = words(io) else {
            return Started::Done(Err(Fault::Rejected));
        };
        if !operations.has_room() {
            return Started::Busy;
        }
        let bytes = if io.op.moves_data() {
            io.sectors.bytes() as u32
        } else {
            0
        };
        let buffer = match io.op {
            Op::Write => {
                let Some(buffer) = self.arena.take() else {
                    return Started::Busy;
                };
                let to = (self.arena.memory(), self.arena.segment(buffer, bytes));
                if let Err(fault) = hands.copy((io.memory, io.segments), to) {
                    self.arena.give(buffer);
                    return Started::Done(Err(fault));
                }
                Some(buffer)
            }
            _ => None,
        };
        let Some(key) = operations.begin(io, buffer) else {
            self.arena_back(buffer);
            return Started::Busy;
        };
        let message = PortMessage {
            client: BLOCK_CLIENT,
            stream: StreamIndex((key as u32 % u32::from(self.streams)) as u16),
            words,
            payload_bytes: if io.op == Op::Write { bytes } else { 0 },
            answer_bytes: if io.op == Op::Read { bytes } else { 0 },
            epoch: io.mapping.epoch,
            key,
            completes: Completes::Answered,
        };
        match self.session.send(message, &mut self.effects) {
            Ok(()) => Started::Pending,
            Err(error) => {
                operations.forget(key, &mut self.arena);
                match error {
                    SendError::Full => Started::Busy,
                    SendError::Down => Started::Done(Err(Fault::Unreachable)),
                    SendError::NoStream { .. } | SendError::TooLong { .. } => {
                        Started::Done(Err(Fault::Rejected))
                    }
                }
            }
        }
    }

    fn arena_back(&mut self, buffer: Option<BufferIndex>) {
        if let Some(buffer) = buffer {
            self.arena.give(buffer);
        }
    }

    /// The engine wants an operation back; true when it was this session's.
    pub(crate) fn take_back<D: Devices + FrameLinks>(&mut self, slot: SlotIndex, around: &mut Around<'_, D>) {
        let Client::Asking(operations) = &mut self.client else {
            return;
        };
        let Some(key) = operations.take_back(slot, around.ended) else {
            return;
        };
        for (at, link) in (0..).zip(self.links.iter()) {
            if matches!(link.landing, Some((_, Some(landing))) if landing == key) {
                around.hands.divert(link_place(self.place, LinkIndex(at)));
            }
        }
    }

    /// Somebody has proved that nothing that was asked is carried out any more.
    pub(crate) fn nothing_lands(&mut self, ended: &mut Ended) {
        if let Client::Asking(operations) = &mut self.client {
            operations.nothing_lands(ended);
        }
    }

    /// A mapping by which the other node is served.
    pub(crate) fn serve(&mut self, key: VolumeKey, volume: ServedVolume) {
        if let Client::Serving(serving) = &mut self.client {
            serving.serve(key, volume, &mut self.arena, &mut self.answers);
        }
    }

    /// It is served by none any more.
    pub(crate) fn stop_serving(&mut self, key: VolumeKey) {
        if let Client::Serving(serving) = &mut self.client {
            serving.stop(key, &mut self.arena, &mut self.answers);
        }
    }

    /// A connection that was asked for, or could not be had.
    pub(crate) fn connected<D: Devices + FrameLinks>(
        &mut self,
        link: LinkIndex,
        connection: Option<D::Connection>,
        around: &mut Around<'_, D>,
    ) {
        let is_wanted = self.session.link(link) == Some(LinkState::Dialing);
        let attached = match connection {
            Some(connection) if is_wanted => self.attach(link, connection, around),
            // It was given up meanwhile: the connection is closed by being dropped.
            _ => false,
        };
        match attached {
            true => self.session.connected(link, around.now, &mut self.effects),
            false if !self.is_attached(link) => self.session.lost(link, around.now, &mut self.effects),
            false => {}
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
        let link = hello.link;
        if self.is_attached(link) || usize::from(link.0) >= self.links.len() {
            // There is no place to tell it from. It asks again.
            around.reports.push_back(PeerReport::LinkRefused {
                session: self.place,
                refusal: LinkRefusal::LinkInUse,
            });
            return;
        }
        if !self.attach(link, connection, around) {
            return;
        }
        let greeted = self.session.greeted(link, hello, around.now, &mut self.effects);
        self.carry_out(around);
        if let Err(refusal) = greeted {
            around.reports.push_back(PeerReport::LinkRefused {
                session: self.place,
                refusal,
            });
            let mut body = [0; HELLO_BYTES];
            for (room, byte) in body.iter_mut().zip(refusal.encode()) {
                *room = byte;
            }
            let header = FrameHeader {
                payload_bytes: REFUSAL_BYTES as u32,
                ..FrameHeader::of(FrameKind::Refused)
            };
            if let Some(at) = self.links.get_mut(usize::from(link.0)) {
                at.is_refused = true;
            }
            around.hands.send(
                link_place(self.place, link),
                OutFrame {
                    header,
                    body: FrameBody::Greeting(body),
                    payload: Payload::None,
                    is_urgent: true,
                },
            );
        }
    }

    fn attach<D: Devices + FrameLinks>(
        &mut self,
        link: LinkIndex,
        connection: D::Connection,
        around: &mut Around<'_, D>,
    ) -> bool {
        let Some(at) = self.links.get_mut(usize::from(link.0)) else {
            return false;
        };
        let attached = around.hands.attach(link_place(self.place, link), connection);
        if let Err(error) = &attached {
            let errno = error.raw_os_error().unwrap_or_default();
            around.reports.push_back(PeerReport::LinkBroken {
                session: self.place,
                link,
                end: LinkEnd::Failed { errno },
            });
            return false;
        }
        *at = LinkUse {
            is_attached: true,
            ..LinkUse::default()
        };
        true
    }

    fn is_attached(&self, link: LinkIndex) -> bool {
        self.links
            .get(usize::from(link.0))
            .is_some_and(|link| link.is_attached)
    }

    /// What has happened at a link.
    pub(crate) fn happened<D: Devices + FrameLinks>(
        &mut self,
        link: LinkIndex,
        event: LinkEvent,
        around: &mut Around<'_, D>,
    ) {
        let now = around.now;
        let place = link_place(self.place, link);
        let Some(mut at) = self.links.get(usize::from(link.0)).copied() else {
            return;
        };
        match event {
            LinkEvent::Header { header, .. } => {
                at.landing = Some(self.land(link, &header, around));
            }
            LinkEvent::Arrived { header, landed, .. } => {
                let (place, key) = at.landing.take().unwrap_or((Landed::Nowhere, None));
                if let (Client::Asking(operations), Some(key)) = (&mut self.client, key) {
                    operations.landed(key, landed);
                }
                self.session.arrived(link, &header, place, now, &mut self.effects);
            }
            LinkEvent::Greeting { header, body, .. } => self.greeting(link, &header, &body, around),
            LinkEvent::Heard { .. } => self.session.heard(link, now, &mut self.effects),
            LinkEvent::Sent { bytes, payload, .. } => {
                if at.is_refused {
                    around.hands.close_link(place);
                } else {
                    self.session.transmitted(link, bytes, payload, &mut self.effects);
                }
            }
            LinkEvent::Broken { end, .. } => {
                around.reports.push_back(PeerReport::LinkBroken {
                    session: self.place,
                    link,
                    end,
                });
                if !at.is_refused {
                    self.session.closing(link, now);
                }
                around.hands.close_link(place);
            }
            LinkEvent::Closed { .. } => {
                if let Some((Landed::Buffer(buffer), _)) = at.landing.take() {
                    self.arena.give(buffer);
                }
                let was_refused = at.is_refused;
                at = LinkUse::default();
                self.put(link, at);
                if !was_refused {
                    self.session.lost(link, now, &mut self.effects);
                }
                return self.carry_out(around);
            }
        }
        self.put(link, at);
        self.carry_out(around);
    }

    fn put(&mut self, link: LinkIndex, at: LinkUse) {
        if let Some(place) = self.links.get_mut(usize::from(link.0)) {
            *place = at;
        }
    }

    /// Says where a payload goes whose header has come.
    fn land<D: Devices + FrameLinks>(
        &mut self,
        link: LinkIndex,
        header: &FrameHeader,
        around: &mut Around<'_, D>,
    ) -> (Landed, Option<u64>) {
        let place = link_place(self.place, link);
        let landing = self.session.landing(link, header, around.now, &mut self.effects);
        match (landing, &self.client) {
            (Landing::Nowhere, _) => (Landed::Nowhere, None),
            (Landing::Buffer, _) => {
                let fits = header.payload_bytes <= crate::arena::PAYLOAD_BUFFER_BYTES;
                let Some(buffer) = fits.then(|| self.arena.take()).flatten() else {
                    // No program of ours sends more than there is room for.
                    self.session.closing(link, around.now);
                    around.hands.close_link(place);
                    return (Landed::Nowhere, None);
                };
                if let Some(length) = self.lengths.get_mut(buffer.0 as usize) {
                    *length = header.payload_bytes;
                }
                let segment = self.arena.segment(buffer, header.payload_bytes);
                around.hands.land(place, self.arena.memory(), &[segment]);
                (Landed::Buffer(buffer), None)
            }
            (Landing::Answer { key }, Client::Asking(operations)) => {
                if let Some((memory, segments)) = operations.landing(key) {
                    around.hands.land(place, memory, segments);
                }
                (Landed::Answer, Some(key))
            }
            (Landing::Answer { .. }, Client::Serving(_)) => (Landed::Nowhere, None),
        }
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
            self.session.closing(link, now);
            around.hands.close_link(link_place(self.place, link));
        }
    }

    /// What earlier runs of this node have submitted has landed.
    pub(crate) fn earlier_runs_landed<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        self.session.earlier_runs_landed(&mut self.effects);
        self.carry_out(around);
    }

    /// Requests that the engine has ended, and what the time brings.
    pub(crate) fn turn<D: Devices + FrameLinks>(&mut self, is_due: bool, around: &mut Around<'_, D>) {
        if let Client::Serving(serving) = &mut self.client {
            serving.take_ends(&mut self.arena, &mut self.answers);
        }
        if is_due {
            self.session.tick(around.now, &mut self.effects);
        }
        self.carry_out(around);
    }

    /// Gives the links what they can take.
    pub(crate) fn pump<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        self.session.pump(around.now, &mut self.effects);
        self.carry_out(around);
    }

    /// Nothing more is hoped for from the other node: what waits for it comes back.
    pub(crate) fn give_back<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        self.session.keep_messages(false);
        self.session.peer_left(around.now, &mut self.effects);
        self.carry_out(around);
    }

    /// Nothing more is asked.
    pub(crate) fn end<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        self.is_ending = true;
        self.session.close(around.now, &mut self.effects);
        self.carry_out(around);
    }

    /// Whether it was to end, and has.
    pub(crate) fn has_ended(&self) -> bool {
        let is_over = self.is_ending && self.session.phase() == SessionPhase::Closed;
        let is_idle = match &self.client {
            Client::Asking(operations) => operations.are_none(),
            Client::Serving(serving) => serving.is_idle(),
        };
        is_over && is_idle && self.links.iter().all(|link| !link.is_attached)
    }

    /// How it is.
    pub(crate) fn standing(&self) -> SessionStanding {
        let (unsettled, serving) = match &self.client {
            Client::Asking(operations) => (operations.unsettled(), None),
            Client::Serving(serving) => (0, Some(*serving.counters())),
        };
        SessionStanding {
            phase: self.session.phase(),
            outstanding: self.session.outstanding() as u32,
            unanswered: self.session.unanswered() as u32,
            unsettled,
            port: *self.session.counters(),
            serving,
        }
    }

    pub(crate) fn next_look(&self) -> Option<Nanos> {
        self.session.next_look()
    }

    /// Answers and effects lead to each other until nothing is left of either.
    fn carry_out<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        let mut effects = std::mem::take(&mut self.effects);
        loop {
            for answer in self.answers.drain(..) {
                self.session.answer(answer, &mut effects);
            }
            if effects.is_empty() {
                break;
            }
            // What follows from one goes behind what there is.
            let mut at = 0;
            while let Some(&effect) = effects.get(at) {
                at += 1;
                self.carry_out_one(effect, around);
            }
            effects.clear();
            effects.append(&mut self.effects);
        }
        self.effects = effects;
    }

    fn carry_out_one<D: Devices + FrameLinks>(&mut self, effect: PortEffect, around: &mut Around<'_, D>) {
        let session = self.place;
        match effect {
            PortEffect::Send {
                link,
                header,
                payload,
            } => {
                let frame = OutFrame {
                    header,
                    body: self.body(&header, payload),
                    payload,
                    is_urgent: effect.is_urgent(),
                };
                around.hands.send(link_place(session, link), frame);
            }
            PortEffect::Dial(link) => around.reports.push_back(PeerReport::Dial { session, link }),
            PortEffect::Cut { link, cause } => {
                around
                    .reports
                    .push_back(PeerReport::LinkCut { session, link, cause });
                match self.is_attached(link) {
                    true => around.hands.close_link(link_place(session, link)),
                    // It is not there yet. Whoever makes it is told when he brings it.
                    false => self.session.lost(link, around.now, &mut self.effects),
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
                let message = Delivered {
                    round,
                    stream,
                    sequence,
                    words: if client == BLOCK_CLIENT { words } else { [0; _] },
                    epoch,
                    buffer,
                    bytes: length.copied().unwrap_or_default(),
                };
                if let Client::Serving(serving) = &mut self.client {
                    serving.deliver(message, &mut self.arena, &mut self.answers);
                }
            }
            PortEffect::Complete { key, completion, .. } => {
                if let Client::Asking(operations) = &mut self.client {
                    let outcome = operations.complete(key, completion, &mut self.arena, around.ended);
                    let unsettled = operations.unsettled();
                    if outcome == Outcome::Unsettled {
                        around
                            .reports
                            .push_back(PeerReport::Unsettled { session, unsettled });
                    }
                }
            }
            PortEffect::AnswerDone { key } => {
                if let Client::Serving(serving) = &mut self.client {
                    serving.answer_done(key, &mut self.arena, &mut self.answers);
                }
            }
            PortEffect::Release(buffer) => self.arena.give(buffer),
            PortEffect::Up => {
                // Nothing of the round before is under way at either end any more.
                self.nothing_lands(around.ended);
                self.session
                    .keep_messages(matches!(self.client, Client::Asking(_)));
                around.reports.push_back(PeerReport::Up { session });
            }
            PortEffect::Down(cause) => {
                if let Client::Serving(serving) = &mut self.client {
                    serving.session_lost(&mut self.arena, &mut self.answers);
                }
                let waiting = self.session.outstanding() as u32;
                around.reports.push_back(PeerReport::Down {
                    session,
                    cause,
                    waiting,
                });
            }
            PortEffect::Flow { .. } => {}
        }
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

/// The place of a link in the reactor's table of connections.
pub(crate) fn link_place(session: SessionPlace, link: LinkIndex) -> LinkPlace {
    LinkPlace(session.0 * u16::from(LINKS_MAX) + u16::from(link.0))
}

/// Whose link a place is.
pub(crate) fn link_of(place: LinkPlace) -> (SessionPlace, LinkIndex) {
    let links = u16::from(LINKS_MAX);
    (SessionPlace(place.0 / links), LinkIndex((place.0 % links) as u8))
}

const _: () = assert!(crate::order::SESSIONS_MAX as u32 * LINKS_MAX as u32 <= 1 << 16);
