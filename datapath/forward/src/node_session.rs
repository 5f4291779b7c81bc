//! One session with the connections below it and the client above it: what comes out of the one goes into the other.

mod connections;
mod effects;
mod events;
mod standing;

use crate::arena::{Arena, PAYLOAD_BUFFER_BYTES};
use crate::asking::{Asking, Ended, Operations, asking};
use crate::links::FrameLinks;
use crate::order::{PeerReport, SessionEnd, SessionPlace};
use crate::serving::{Means, ServedVolume, Serving};
use connections::{Doorway, LinkUse};
use palisade_block::{Devices, Fault, Io, Nanos, Op, Started};
use palisade_port::{
    BufferIndex, Completes, Ends, LINKS_MAX, MessageAnswer, PortEffect, PortMessage, PortSession, SendError,
    SessionPhase, SessionSettings, SessionSettingsError,
};
use palisade_wire::{BLOCK_CLIENT, VolumeKey};
use palisade_words::{Epoch, Incarnation, LinkIndex, MemoryId, SlotIndex, StreamIndex, VolumeIndex};
use std::collections::VecDeque;

pub use standing::SessionStanding;

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
    ends: Ends,
    session: PortSession,
    /// The run of the other node that has made a link last.
    peer_run: Option<Incarnation>,
    settings: SessionSettings,
    client: Client,
    arena: Arena,
    /// Length of what lies in each buffer that was landed in.
    lengths: Box<[u32]>,
    links: [LinkUse; LINKS_MAX as usize],
    /// Connections that are refused.
    doorway: Doorway,
    effects: Vec<PortEffect>,
    /// What follows from these.
    following: Vec<PortEffect>,
    answers: Vec<MessageAnswer>,
    /// Changes that nobody was told of that they are unsettled.
    unsettled_told: u32,
    /// When it wants to look at the clock.
    look_at: Option<Nanos>,
    /// Something has happened to it since its links were given what they can take.
    is_stirred: bool,
    /// It is to end.
    is_ending: bool,
}

/// Effects of one call, beyond those that each message, link and request may have.
const EFFECTS: usize = 64;

impl NodeSession {
    /// # Errors
    /// The settings lie out of their bounds, or there is no memory for what may be under way by them.
    pub(crate) fn new<D: Devices + FrameLinks>(
        place: SessionPlace,
        ends: Ends,
        mut settings: SessionSettings,
        end: SessionEnd,
        around: &mut Around<'_, D>,
    ) -> Result<NodeSession, SessionSettingsError> {
        settings.check()?;
        let (is_asking, lease) = match &end {
            SessionEnd::Asking(lease) => (true, lease.clone()),
            SessionEnd::Serving(exchange) => (false, exchange.lease().clone()),
        };
        let buffers = Arena::count(&lease);
        if is_asking && buffers == 0 {
            return Err(too_few_buffers(buffers, 1));
        }
        let links = usize::from(settings.links);
        let mut landing = 0;
        if !is_asking {
            // Half of it is for what comes with messages, of which so many are under way at most.
            let streams = usize::from(settings.streams);
            let window = buffers.saturating_sub(links) / 2 / streams;
            settings.window = settings.window.min(window.clamp(1, usize::from(u16::MAX)) as u16);
            landing = streams * usize::from(settings.window) + links;
            if buffers <= landing {
                return Err(too_few_buffers(buffers, landing + 1));
            }
        }
        let (mut session, client) = match end {
            SessionEnd::Asking(_) => {
                let session = PortSession::asking(ends, settings, around.now)?;
                (session, Client::Asking(Operations::new(settings.messages)))
            }
            SessionEnd::Serving(exchange) => {
                let session = PortSession::serving(ends, settings, around.now)?;
                (
                    session,
                    Client::Serving(Serving::new(exchange, buffers - landing)),
                )
            }
        };
        let arena = Arena::new(&lease, around.hands.keep(&lease));
        let under_way = effects_at_once(&settings);
        let mut effects = Vec::with_capacity(under_way);
        if matches!(client, Client::Asking(_)) {
            // What its last run has asked the other end sees to: it lets in no later run before that is over.
            session.earlier_runs_landed(&mut effects);
        }
        session.begin(around.now, &mut effects);
        let mut new = NodeSession {
            place,
            ends,
            session,
            peer_run: None,
            settings,
            client,
            lengths: vec![0; arena.len()].into(),
            arena,
            links: [LinkUse::default(); LINKS_MAX as usize],
            doorway: Doorway::default(),
            effects,
            following: Vec::with_capacity(under_way),
            answers: Vec::with_capacity(under_way),
            unsettled_told: 0,
            look_at: None,
            is_stirred: true,
            is_ending: false,
        };
        new.carry_out(around);
        Ok(new)
    }

    /// As what the devices keep its buffers.
    pub(crate) fn memory(&self) -> MemoryId {
        self.arena.memory()
    }

    /// Operations that may end in one turn.
    pub(crate) fn operations(&self) -> usize {
        match &self.client {
            Client::Asking(_) => self.settings.messages as usize,
            Client::Serving(_) => 0,
        }
    }

    /// The membership that this node knows.
    pub(crate) fn set_epoch(&mut self, epoch: Epoch) {
        self.session.set_epoch(epoch);
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
        let asking = match asking(io) {
            Ok(asking) if asking.payload_bytes.max(asking.answer_bytes) <= PAYLOAD_BUFFER_BYTES => asking,
            _ => return Started::Done(Err(Fault::Rejected)),
        };
        let is_over = self.is_ending || self.session.phase() == SessionPhase::Closed;
        if is_over || operations.gives_back() && self.session.phase() != SessionPhase::Up {
            return Started::Done(Err(Fault::Unreachable));
        }
        if !operations.has_room() {
            return Started::Busy;
        }
        let buffer = match io.op {
            Op::Write => {
                let Some(buffer) = self.arena.take() else {
                    return Started::Busy;
                };
                let to = (
                    self.arena.memory(),
                    self.arena.segment(buffer, asking.payload_bytes),
                );
                if let Err(fault) = hands.copy((io.memory, io.segments), to) {
                    self.arena.give(buffer);
                    return Started::Done(Err(fault));
                }
                Some(buffer)
            }
            _ => None,
        };
        let Some(key) = operations.begin(io, asking, buffer) else {
            if let Some(buffer) = buffer {
                self.arena.give(buffer);
            }
            return Started::Busy;
        };
        match self.send(key, asking) {
            Ok(()) => Started::Pending,
            Err(error) => self.not_sent(key, error),
        }
    }

    /// Gives the session an operation.
    fn send(&mut self, key: u64, asking: Asking) -> Result<(), SendError> {
        self.is_stirred = true;
        let message = PortMessage {
            client: BLOCK_CLIENT,
            stream: StreamIndex((key as u32 % u32::from(self.settings.streams)) as u16),
            words: asking.words,
            payload_bytes: asking.payload_bytes,
            answer_bytes: asking.answer_bytes,
            epoch: asking.epoch,
            key,
            completes: Completes::Answered,
        };
        self.session.send(message, &mut self.effects)
    }

    fn not_sent(&mut self, key: u64, error: SendError) -> Started {
        let Client::Asking(operations) = &mut self.client else {
            return Started::Done(Err(Fault::Unreachable));
        };
        match error {
            SendError::Down => {
                operations.keep(key);
                Started::Pending
            }
            SendError::Full => {
                operations.forget(key, &mut self.arena);
                Started::Busy
            }
            SendError::NoStream { .. } | SendError::TooLong { .. } => {
                operations.forget(key, &mut self.arena);
                Started::Done(Err(Fault::Rejected))
            }
        }
    }

    /// The engine wants an operation back, if it is one of this session's.
    pub(crate) fn take_back<D: Devices + FrameLinks>(&mut self, slot: SlotIndex, around: &mut Around<'_, D>) {
        let Client::Asking(operations) = &mut self.client else {
            return;
        };
        let Some(key) = operations.take_back(slot, &mut self.arena, around.ended) else {
            return;
        };
        for (at, link) in (0..).zip(self.links.iter()) {
            if link.lands_for(key) {
                around.hands.divert(self.place.link(LinkIndex(at)));
            }
        }
    }

    /// Somebody has proved that nothing that was asked is carried out any more.
    pub(crate) fn nothing_lands<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        if let Client::Asking(operations) = &mut self.client {
            operations.nothing_lands(around.ended);
        }
        self.serves(around.now, Serving::nothing_lands);
        self.is_stirred = true;
        self.carry_out(around);
    }

    /// Does something with what the other node has asked.
    fn serves(&mut self, now: Nanos, what: impl FnOnce(&mut Serving, &mut Means<'_>)) {
        if let Client::Serving(serving) = &mut self.client {
            let (arena, answers) = (&mut self.arena, &mut self.answers);
            what(serving, &mut Means { arena, answers, now });
        }
    }

    /// A mapping by which the other node is served.
    pub(crate) fn serve<D: Devices + FrameLinks>(
        &mut self,
        key: VolumeKey,
        volume: ServedVolume,
        around: &mut Around<'_, D>,
    ) {
        self.serves(around.now, |serving, means| serving.serve(key, volume, means));
        self.is_stirred = true;
        self.carry_out(around);
    }

    /// It is served by none any more.
    pub(crate) fn stop_serving<D: Devices + FrameLinks>(
        &mut self,
        key: VolumeKey,
        volume: VolumeIndex,
        around: &mut Around<'_, D>,
    ) {
        self.serves(around.now, |serving, means| serving.stop(key, volume, means));
        self.is_stirred = true;
        self.carry_out(around);
    }

    /// What earlier runs of this node have submitted has landed.
    pub(crate) fn earlier_runs_landed<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        self.is_stirred = true;
        self.session.earlier_runs_landed(&mut self.effects);
        self.carry_out(around);
    }

    /// Requests that the engine has ended, and what the time brings.
    pub(crate) fn turn<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        let now = around.now;
        let is_due = self.look_at.is_some_and(|at| at <= now);
        if !is_due && !self.has_ends() && !self.is_stirred {
            return;
        }
        self.is_stirred = true;
        self.serves(now, |serving, means| {
            serving.take_ends(means);
            serving.tick(means);
        });
        if is_due {
            self.session.tick(now, &mut self.effects);
            self.look_at_connections(around);
        }
        self.carry_out(around);
    }

    fn has_ends(&self) -> bool {
        match &self.client {
            Client::Asking(_) => false,
            Client::Serving(serving) => serving.has_ends(),
        }
    }

    /// Gives the links what they can take.
    pub(crate) fn pump<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        if self.has_ends() {
            self.is_stirred = true;
            self.serves(around.now, |serving, means| serving.take_ends(means));
            self.carry_out(around);
        }
        if !std::mem::take(&mut self.is_stirred) {
            return;
        }
        self.session.pump(around.now, &mut self.effects);
        self.carry_out(around);
        self.look_at = self.next_look();
    }

    /// Nothing more is hoped for from the other node: what waits for it comes back.
    pub(crate) fn give_back<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        if let Client::Asking(operations) = &mut self.client {
            operations.give_back(&mut self.arena, around.ended);
        }
        self.is_stirred = true;
        self.session.peer_left(around.now, &mut self.effects);
        self.carry_out(around);
    }

    /// Nothing more is asked.
    pub(crate) fn end<D: Devices + FrameLinks>(&mut self, around: &mut Around<'_, D>) {
        self.is_ending = true;
        self.is_stirred = true;
        if let Client::Asking(operations) = &mut self.client {
            operations.give_back(&mut self.arena, around.ended);
        }
        self.session.close(around.now, &mut self.effects);
        self.carry_out(around);
    }

    /// Whether it was to end, and has.
    pub(crate) fn has_ended(&self) -> bool {
        let is_over = self.is_ending && self.session.phase() == SessionPhase::Closed;
        let is_idle = || match &self.client {
            Client::Asking(operations) => operations.are_none(),
            Client::Serving(serving) => serving.is_idle(),
        };
        is_over && is_idle() && self.has_no_connection()
    }

    /// When it wants to look at the clock, as of its last turn.
    pub(crate) fn look_at(&self) -> Option<Nanos> {
        self.look_at
    }

    fn next_look(&self) -> Option<Nanos> {
        let held = match &self.client {
            Client::Asking(_) => None,
            Client::Serving(serving) => serving.next_look(),
        };
        let connections = self.connections_look();
        [self.session.next_look(), held, connections]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether something has happened that its links are to hear of in this turn.
    pub(crate) fn is_stirred(&self) -> bool {
        self.is_stirred || self.has_ends()
    }

    fn give_buffer(&mut self, buffer: BufferIndex) {
        self.arena.give(buffer);
        self.is_stirred = true;
    }
}

/// Effects and answers that one call may give: one of each message and of each request, and some of each link.
fn effects_at_once(settings: &SessionSettings) -> usize {
    let requests = usize::from(settings.streams) * usize::from(settings.window) * 4;
    settings.messages as usize + requests + usize::from(settings.links) * 8 + EFFECTS
}

fn too_few_buffers(found: usize, least: usize) -> SessionSettingsError {
    SessionSettingsError {
        field: "buffers",
        found: found as u64,
        least: least as u64,
        most: u64::MAX,
    }
}
