//! A data port's session over links that are slow, break, swallow what is sent, and turn bits: both ends are the machine that
//! the daemon runs, each with clients that send and answer, and each may stand still or start anew.
//!
//! What is checked: each message has one completion, and the one it asked for (invariant 1); what is delivered comes in the
//! order of its stream, once in a round, with the data that was sent; nothing that was given back is delivered once the session
//! is up again, and nothing of an earlier round is worked on then (invariants 4 and 6); nothing is written to memory of a message
//! that is done (14); a link that is lost brings no session down (11); what is kept is bounded; and when the faults stop, all is
//! answered within a bound (13).

mod checks;
mod client;
mod closing;
mod end;
mod faults;
mod finale;
mod network;

use crate::finding::{Findings, Invariant};
use crate::frames::Frame;
use crate::rng::{Rng, RunHash};
use end::{End, Event, Line};
use network::Connection;
use palisade_block::Nanos;
use palisade_port::{Completes, CutCause, LinkState, SendError, SessionPhase, SessionSettings};
use palisade_wire::{FrameHeader, FrameKind, Hello, REFUSAL_BYTES, payload_checksum};
use palisade_words::{LinkIndex, StreamIndex};
use std::collections::BTreeSet;

/// Steps in which things go wrong.
const STEPS: u64 = 3000;

/// After the last fault everything is answered within so long of simulated time: all links are found lost and made anew, the
/// session goes down and comes up, and a client takes 30 ms to answer.
const HEALED_WITHIN: Nanos = Nanos::from_millis(400);

/// The same where one frame takes up to 9 ms, and all may have to go by one link.
const HEALED_SLOWLY_WITHIN: Nanos = Nanos::from_millis(4000);

struct World {
    now: Nanos,
    rng: Rng,
    hash: RunHash,
    findings: Findings,
    settings: SessionSettings,
    keeps: bool,
    ends: [End; 2],
    connections: Vec<Connection>,
    /// Nothing happens to the connections of link 0, and no end stands still or starts anew.
    has_sound_link: bool,
    /// Links by which, from a step on and for good, nothing arrives at one end. There is always another link.
    dead: Vec<(LinkIndex, usize)>,
    dead_from: u64,
    step: u64,
    /// A session that is closed is followed by another one.
    reopens: bool,
    /// One frame may take longer than a link may be silent.
    is_slow: bool,
    next_key: u64,
    /// Messages given back whose sender has been up since: they are over.
    over: BTreeSet<u64>,
}

/// Runs one seed.
pub fn run(mut rng: Rng, findings: &Findings) -> RunHash {
    let is_slow = rng.one_in(6);
    let window = rng.between(1, 8) as u16;
    let streams = rng.between(1, 4) as u16;
    let settings = SessionSettings {
        links: rng.between(1, 4) as u8,
        streams,
        window,
        messages: (u32::from(window) * u32::from(streams) + rng.between(0, 20) as u32).max(4),
        ahead_bytes: rng.between(1, 8000),
        probe_after: Nanos::from_millis(1),
        lost_after: Nanos::from_millis(4),
        again_after: Nanos::from_micros(300),
        down_after: Nanos::from_millis(rng.between(2, 9)),
        // One frame may take half of that.
        answer_within: (rng.one_in(4) && !is_slow).then_some(Nanos::from_millis(20)),
    };
    let keeps = rng.one_in(3);
    let ends = [0, 1].map(|side| End::new(side, settings, keeps, findings.clone()));
    let dies = |link: u8, rng: &mut Rng| rng.one_in(2).then(|| (LinkIndex(link), rng.index(2)));
    let dead = match rng.one_in(4) {
        true => (1..settings.links)
            .filter_map(|link| dies(link, &mut rng))
            .collect(),
        false => Vec::new(),
    };
    let dead_from = rng.below(STEPS);
    let has_sound_link = settings.links > 1 && rng.one_in(3);
    let mut world = World {
        now: Nanos(0),
        hash: RunHash::default(),
        findings: findings.clone(),
        settings,
        keeps,
        ends,
        connections: Vec::new(),
        has_sound_link,
        is_slow,
        dead,
        dead_from,
        step: 0,
        reopens: true,
        next_key: 1,
        over: BTreeSet::new(),
        rng,
    };
    let end = &mut world.ends[0];
    end.session.begin(Nanos(0), &mut end.effects);
    for _ in 0..STEPS {
        world.faults();
        world.step(true);
        if findings.any() {
            return world.hash;
        }
    }
    world.heal();
    if !world.findings.any() {
        world.closes_in_good_order();
    }
    world.hash
}

impl World {
    fn step(&mut self, sends: bool) {
        self.now = self.now.after(Nanos::from_micros(self.rng.between(5, 120)));
        for side in 0..2 {
            if self.ends[side].stands_until > self.now {
                continue;
            }
            self.connect(side);
            self.breaks(side);
            let links: Vec<LinkIndex> = self.ends[side].lines.keys().copied().collect();
            for link in links {
                self.ends[side].receive(link, &mut self.connections, self.now, &mut self.rng);
                self.carry_out(side);
            }
            self.lands(side);
            self.answers(side);
            self.carry_out(side);
            if sends {
                self.sends(side);
            }
            let end = &mut self.ends[side];
            if end.session.next_look().is_some_and(|at| at <= self.now) {
                end.session.tick(self.now, &mut end.effects);
            }
            end.session.pump(self.now, &mut end.effects);
            self.carry_out(side);
            let end = &mut self.ends[side];
            end.transmit(&mut self.connections, self.now, &mut self.rng);
            end.left(self.now);
            end.close(&mut self.connections, self.now, &mut self.rng);
            self.carry_out(side);
            self.check(side);
            self.reopens(side);
        }
    }

    /// Links that were asked for are there; at the other end, greetings come.
    fn connect(&mut self, side: usize) {
        let (now, rng) = (self.now, &mut self.rng);
        if side == 0 {
            let end = &mut self.ends[0];
            let due: Vec<LinkIndex> = end
                .dials
                .iter()
                .filter(|(_, at)| **at <= now)
                .map(|(&link, _)| link)
                .collect();
            for link in due {
                end.dials.remove(&link);
                if end.session.link(link) != Some(LinkState::Dialing) {
                    continue;
                }
                end.lines.insert(link, Line::new(self.connections.len()));
                let mut connection = Connection::new(link, self.is_slow, rng);
                if self.step > self.dead_from {
                    let dead = self.dead.iter().filter(|(dead, _)| *dead == link);
                    dead.for_each(|&(_, to)| connection.swallow(to));
                }
                self.connections.push(connection);
                end.session.connected(link, now, &mut end.effects);
            }
        } else {
            for at in 0..self.connections.len() {
                self.greeting(at);
            }
        }
        self.carry_out(side);
    }

    /// The first frame of a connection that the serving end has not given to its session yet.
    fn greeting(&mut self, at: usize) {
        let now = self.now;
        let connection = &mut self.connections[at];
        let is_known = self.ends[1].lines.values().any(|line| line.connection == at);
        let has_come = connection.to[1]
            .frames
            .front()
            .is_some_and(|frame| frame.arrives.1 <= now);
        if is_known || !connection.is_held[1] || !has_come {
            return;
        }
        let Some(frame) = connection.to[1].frames.pop_front() else {
            return;
        };
        let header = FrameHeader::decode(&frame.header);
        let sound = header.is_ok_and(|header| {
            header.kind == FrameKind::Hello
                && header.payload_crc == Some(payload_checksum([frame.payload.as_slice()]))
        });
        let hello = frame
            .payload
            .as_slice()
            .try_into()
            .ok()
            .and_then(|bytes| Hello::decode(bytes).ok());
        let Some(hello) = hello.filter(|_| sound) else {
            connection.is_held[1] = false;
            connection.breaks[0] = Some(now);
            return;
        };
        let end = &mut self.ends[1];
        match end.session.greeted(hello.link, &hello, now, &mut end.effects) {
            Ok(()) => {
                end.lines.insert(hello.link, Line::new(at));
            }
            Err(refusal) => {
                let payload = refusal.encode().to_vec();
                let header = FrameHeader {
                    payload_bytes: REFUSAL_BYTES as u32,
                    payload_crc: Some(payload_checksum([payload.as_slice()])),
                    ..FrameHeader::of(FrameKind::Refused)
                };
                let frame = Frame {
                    header: header.encode(),
                    payload,
                    arrives: (now, now),
                };
                connection.send(0, frame, now);
                connection.is_held[1] = false;
                connection.breaks[0] = Some(now.after(Nanos::from_millis(2)));
            }
        }
        self.carry_out(1);
    }

    /// Connections whose end an end hears of.
    fn breaks(&mut self, side: usize) {
        let end = &mut self.ends[side];
        let broken = |line: &Line| {
            let connection = self.connections.get(line.connection);
            connection.is_some_and(|connection| connection.breaks[side].is_some_and(|at| at <= self.now))
        };
        let links: Vec<LinkIndex> = end
            .lines
            .iter()
            .filter(|(_, line)| broken(line))
            .map(|(&link, _)| link)
            .collect();
        for link in links {
            end.hang_up(link, self.now, &mut self.rng);
        }
    }

    /// What earlier runs have submitted lands, whatever has become of them.
    fn lands(&mut self, side: usize) {
        let now = self.now;
        let orphans = std::mem::take(&mut self.ends[side].clients.orphans);
        let (due, later): (Vec<_>, Vec<_>) = orphans.into_iter().partition(|work| work.due <= now);
        self.ends[side].clients.orphans = later;
        for work in due {
            self.landed(side, &work);
        }
        self.ends[side].look_at_orphans();
        self.carry_out(side);
    }

    /// Clients answer.
    fn answers(&mut self, side: usize) {
        let now = self.now;
        let end = &mut self.ends[side];
        let works = std::mem::take(&mut end.clients.works);
        let (due, later): (Vec<_>, Vec<_>) = works.into_iter().partition(|work| work.due <= now);
        end.clients.works = later;
        for work in due {
            self.landed(side, &work);
            let peer = &mut self.ends[1 - side].clients.sent;
            let sent = peer.get_mut(&work.key);
            let is_read = sent
                .as_ref()
                .and_then(|sent| sent.is_read().then_some(sent.message.answer_bytes));
            sent.into_iter().for_each(|sent| sent.answered += 1);
            let end = &mut self.ends[side];
            work.buffer.into_iter().for_each(|buffer| end.free(buffer, now));
            self.next_key += 1;
            let answer = end.clients.answer(&work, is_read, self.next_key);
            end.session.answer(answer, &mut end.effects);
        }
    }

    /// Clients send.
    fn sends(&mut self, side: usize) {
        let now = self.now;
        let rng = &mut self.rng;
        let is_closing = self.ends.iter().any(|end| end.is_closing);
        let end = &mut self.ends[side];
        if end.is_closing {
            return;
        }
        for _ in 0..rng.below(4) {
            if end.holds_back && !rng.one_in(8) {
                break;
            }
            self.next_key += 1;
            let key = self.next_key;
            let stream = StreamIndex(rng.below(self.settings.streams.into()) as u16);
            let sizes = match rng.below(4) {
                0 => (0, rng.between(1, 3000) as u32),
                1 => (rng.between(1, 3000) as u32, 0),
                2 => (rng.between(1, 3000) as u32, rng.between(1, 3000) as u32),
                _ => (0, 0),
            };
            let completes = match rng.below(8) {
                0 if sizes.1 == 0 => Completes::Sent,
                1 if sizes.1 == 0 => Completes::Accepted,
                _ => Completes::Answered,
            };
            let message = end.clients.message(key, stream, completes, sizes);
            let taken = end.session.send(message, &mut end.effects);
            self.hash.add([key, u64::from(taken.is_ok())]);
            match taken {
                Ok(()) if !end.is_up && !self.keeps => {
                    end.find(
                        now,
                        Invariant::OneAnswer,
                        format!("message {key} is taken while the session is down"),
                    );
                }
                Ok(()) => {}
                Err(error) => {
                    let may_be = match error {
                        SendError::Down => {
                            !end.is_up
                                || is_closing
                                || matches!(end.session.phase(), SessionPhase::Sinking(_))
                        }
                        SendError::Full => end.session.outstanding() == self.settings.messages as usize,
                        SendError::NoStream { .. } | SendError::TooLong { .. } => false,
                    };
                    if !may_be {
                        end.find(
                            now,
                            Invariant::BoundedWaiting,
                            format!("message {key} is refused: {error}"),
                        );
                    }
                    end.clients.forget_last(key, stream);
                }
            }
        }
    }

    fn carry_out(&mut self, side: usize) {
        let mut events = Vec::new();
        while !self.ends[side].effects.is_empty() {
            self.ends[side].carry_out(self.now, &mut self.rng, |_, event| events.push(event));
            for event in events.drain(..) {
                self.happens(side, event);
            }
        }
    }

    fn happens(&mut self, side: usize, event: Event) {
        self.hash.add([side as u64, self.now.0]);
        match event {
            Event::Up => self.is_up(side),
            Event::Down(cause) => self.is_down(side, cause),
            Event::Deliver {
                round,
                work,
                count,
                is_again,
            } => {
                self.hash.add([u64::from(round), work.sequence, work.key]);
                self.delivered(side, round, &work, count, is_again);
            }
            Event::Complete {
                key,
                completion,
                is_up,
            } => {
                self.hash.add([key]);
                self.completed(side, key, completion, is_up);
            }
            Event::Cut(_, CutCause::Violation(violation)) => {
                self.find(
                    side,
                    Invariant::DataPath,
                    format!("the other end is said to do wrong: {violation}"),
                );
            }
            // Unless the other end has given it up before, and goes down.
            Event::Cut(link, CutCause::Silent)
                if self.has_sound_link
                    && link == LinkIndex(0)
                    && self.ends[1 - side].session.link(link) == Some(LinkState::Up) =>
            {
                self.find(
                    side,
                    Invariant::Isolation,
                    "a sound link is given up as silent".to_owned(),
                );
            }
            Event::Cut(..) => {}
        }
    }

    fn find(&self, side: usize, invariant: Invariant, what: String) {
        self.ends[side].find(self.now, invariant, what);
    }
}
