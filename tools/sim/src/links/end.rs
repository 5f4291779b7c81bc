//! One end: the session, and in the place of sockets and memory what a run can look into.

use super::client::{Clients, POISON, Work, data, named};
use super::network::Connection;
use crate::finding::{Findings, Invariant};
use crate::frames::Frame;
use crate::rng::Rng;
use palisade_block::Nanos;
use palisade_port::{
    BufferIndex, CutCause, DownCause, Ends, Landed, Landing, Payload, PortEffect, PortSession,
    SessionSettings,
};
use palisade_wire::{FrameHeader, FrameKind, Hello, LinkRefusal, StartNumber, payload_checksum};
use palisade_words::{Epoch, FeatureLevel, Incarnation, LinkIndex, ReactorIndex, Uuid};
use std::collections::{BTreeMap, VecDeque};

/// A frame whose header has come.
#[derive(Debug)]
struct Arriving {
    header: FrameHeader,
    landing: Landing,
    buffer: Option<BufferIndex>,
    payload: Vec<u8>,
    arrives: (Nanos, Nanos),
}

/// What an end has of one connection.
#[derive(Debug)]
pub(super) struct Line {
    /// Its number among all connections.
    pub(super) connection: usize,
    urgent: VecDeque<(FrameHeader, Payload)>,
    others: VecDeque<(FrameHeader, Payload)>,
    arriving: Option<Arriving>,
    /// Bytes of its payload that have come.
    has_come: usize,
    /// Frames that the network will say have left, and when.
    leaving: VecDeque<(Nanos, u64, Payload)>,
    /// It was closed, and until then something may be under way.
    closes: Option<Nanos>,
    /// The session does not know yet that it is being closed: it may have given it frames before.
    is_broken: bool,
}

impl Line {
    pub(super) fn new(connection: usize) -> Line {
        Line {
            connection,
            urgent: VecDeque::new(),
            others: VecDeque::new(),
            arriving: None,
            has_come: 0,
            leaving: VecDeque::new(),
            closes: None,
            is_broken: false,
        }
    }

    /// Whether more of the payload that is arriving has come than before.
    fn has_grown_to(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.has_come, bytes);
        bytes > before
    }
}

/// One end.
#[derive(Debug)]
pub(super) struct End {
    /// 0 makes the links.
    pub(super) side: usize,
    pub(super) session: PortSession,
    pub(super) clients: Clients,
    pub(super) lines: BTreeMap<LinkIndex, Line>,
    /// Links that were asked for, and when they are there.
    pub(super) dials: BTreeMap<LinkIndex, Nanos>,
    pub(super) buffers: BTreeMap<BufferIndex, Vec<u8>>,
    next_buffer: u32,
    pub(super) is_up: bool,
    pub(super) holds_back: bool,
    /// It was closed or stopped by its users, or by the other end.
    pub(super) is_closing: bool,
    /// Its clients answer at once.
    pub(super) is_prompt: bool,
    pub(super) incarnation: u64,
    /// How often the other end has been up, over all its runs.
    pub(super) peer_ups: u64,
    /// The session was told that nothing of earlier runs can land.
    has_landed: bool,
    /// It stands still until then.
    pub(super) stands_until: Nanos,
    pub(super) effects: Vec<PortEffect>,
    findings: Findings,
}

/// What is told to the world.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Up,
    Down(DownCause),
    Deliver {
        round: u32,
        work: Work,
        count: u64,
        is_again: bool,
    },
    Complete {
        key: u64,
        completion: palisade_port::Completion,
        is_up: bool,
    },
    Cut(LinkIndex, CutCause),
}

fn ends(side: usize, incarnation: u64) -> Ends {
    let nodes = [Uuid(10), Uuid(11)];
    let drawn = incarnation * 2 + side as u64 + 1;
    let Some(start) = StartNumber::new(drawn) else {
        unreachable!("runs are counted from 1")
    };
    Ends {
        cluster: Uuid(1),
        node: nodes[side],
        peer: nodes[1 - side],
        incarnation: Incarnation(incarnation),
        start,
        feature_level: FeatureLevel(0),
        asking_reactor: ReactorIndex(2),
        serving_reactor: ReactorIndex(3),
    }
}

impl End {
    pub(super) fn new(side: usize, settings: SessionSettings, keeps: bool, findings: Findings) -> End {
        End {
            side,
            session: session(side, 1, settings, keeps, Nanos(0)),
            clients: Clients::default(),
            lines: BTreeMap::new(),
            dials: BTreeMap::new(),
            buffers: BTreeMap::new(),
            next_buffer: 0,
            is_up: false,
            holds_back: false,
            is_closing: false,
            is_prompt: false,
            incarnation: 1,
            peer_ups: 0,
            has_landed: false,
            stands_until: Nanos(0),
            effects: Vec::new(),
            findings,
        }
    }

    /// The program ends and starts: nothing of it is left but what others know.
    pub(super) fn restart(&mut self, settings: SessionSettings, keeps: bool, now: Nanos) {
        self.incarnation += 1;
        self.open(session(self.side, self.incarnation, settings, keeps, now));
    }

    /// A session that is closed is followed by another one of the same run.
    pub(super) fn reopen(&mut self, settings: SessionSettings, keeps: bool, now: Nanos) {
        let next = session(self.side, self.incarnation, settings, keeps, now);
        let closed = self.open(next);
        self.session.follow(&closed);
    }

    fn open(&mut self, next: PortSession) -> PortSession {
        let before = std::mem::replace(&mut self.session, next);
        self.is_closing = false;
        self.lines.clear();
        self.dials.clear();
        self.buffers.clear();
        self.is_up = false;
        self.holds_back = false;
        self.has_landed = false;
        let orphans = std::mem::take(&mut self.clients.works);
        self.clients.orphans.extend(orphans);
        self.clients.answers.clear();
        self.clients.last.clear();
        self.effects.clear();
        before
    }

    /// Says to the session when nothing of earlier runs can land any more.
    pub(super) fn look_at_orphans(&mut self) {
        if !self.has_landed && self.clients.orphans.is_empty() {
            self.has_landed = true;
            self.session.earlier_runs_landed(&mut self.effects);
        }
    }

    /// Does what the session has said, and gives what concerns the world to it.
    pub(super) fn carry_out(&mut self, now: Nanos, rng: &mut Rng, mut tell: impl FnMut(&mut End, Event)) {
        for effect in std::mem::take(&mut self.effects) {
            let is_urgent = effect.is_urgent();
            match effect {
                PortEffect::Send {
                    link,
                    header,
                    payload,
                } => match self.lines.get_mut(&link) {
                    Some(line) if line.closes.is_none() => match is_urgent {
                        true => line.urgent.push_back((header, payload)),
                        false => line.others.push_back((header, payload)),
                    },
                    Some(line) if line.is_broken => {}
                    _ => self.find(
                        now,
                        Invariant::DataPath,
                        format!("{header:?} is given to {link:?}, which is not there"),
                    ),
                },
                PortEffect::Dial(link) => {
                    self.dials
                        .insert(link, now.after(Nanos::from_micros(rng.between(20, 300))));
                }
                PortEffect::Cut { link, cause } => {
                    self.dials.remove(&link);
                    let closes = now.after(Nanos::from_micros(rng.below(2000)));
                    let line = self.lines.entry(link).or_insert_with(|| Line::new(usize::MAX));
                    line.closes = Some(closes);
                    if cause != CutCause::Closed {
                        line.urgent.clear();
                        line.others.clear();
                    }
                    tell(self, Event::Cut(link, cause));
                }
                PortEffect::Deliver {
                    round,
                    stream,
                    sequence,
                    words,
                    buffer,
                    is_again,
                    ..
                } => {
                    let (key, count) = named(&words);
                    let work = Work {
                        round,
                        stream,
                        sequence,
                        key,
                        buffer,
                        sender_ups: self.peer_ups,
                        due: now.after(Nanos::from_micros(match rng.below(20) {
                            _ if self.is_prompt => 0,
                            0 => rng.between(1000, 30_000),
                            1..5 => rng.between(100, 3000),
                            _ => rng.below(100),
                        })),
                    };
                    self.clients.works.push(work);
                    tell(
                        self,
                        Event::Deliver {
                            round,
                            work,
                            count,
                            is_again,
                        },
                    );
                }
                PortEffect::Complete { key, completion, .. } => {
                    let is_up = self.is_up;
                    tell(
                        self,
                        Event::Complete {
                            key,
                            completion,
                            is_up,
                        },
                    );
                }
                PortEffect::AnswerDone { key } => {
                    if self.clients.answers.remove(&key).is_none() {
                        self.find(
                            now,
                            Invariant::DataPath,
                            format!("an answer's data {key} is done twice"),
                        );
                    }
                }
                PortEffect::Release(buffer) => self.free(buffer, now),
                PortEffect::Up => {
                    self.is_up = true;
                    tell(self, Event::Up);
                }
                PortEffect::Down(cause) => {
                    self.is_up = false;
                    self.is_closing |= cause == DownCause::PeerClosed;
                    tell(self, Event::Down(cause));
                }
                PortEffect::Flow { holds_back } => self.holds_back = holds_back,
            }
        }
    }

    pub(super) fn free(&mut self, buffer: BufferIndex, now: Nanos) {
        if self.buffers.remove(&buffer).is_none() {
            self.find(
                now,
                Invariant::DataPath,
                format!("{buffer:?} is given back twice"),
            );
        }
    }

    /// Gives the connections what they take.
    pub(super) fn transmit(&mut self, connections: &mut [Connection], now: Nanos, rng: &mut Rng) {
        let peer = 1 - self.side;
        let links: Vec<LinkIndex> = self.lines.keys().copied().collect();
        for link in links {
            while let Some(line) = self.lines.get_mut(&link) {
                let Some(connection) = connections.get_mut(line.connection) else {
                    break;
                };
                let flushes = line.closes.is_some();
                if !flushes && !connection.takes(peer, now) {
                    break;
                }
                let Some((mut header, name)) = line.urgent.pop_front().or_else(|| line.others.pop_front())
                else {
                    break;
                };
                let payload = match name {
                    Payload::None => Vec::new(),
                    Payload::Message { .. } if header.payload_bytes == 0 => Vec::new(),
                    Payload::Message { key, .. } => self.clients.sent[&key].payload.clone(),
                    Payload::Answer { key } => self.clients.answers.get(&key).cloned().unwrap_or_default(),
                    Payload::Greeting(hello) => hello.encode().to_vec(),
                };
                if payload.len() != header.payload_bytes as usize {
                    self.find(
                        now,
                        Invariant::DataPath,
                        format!("{header:?} has {} bytes", payload.len()),
                    );
                    break;
                }
                header.payload_crc = Some(payload_checksum([payload.as_slice()]));
                let frame = Frame {
                    header: header.encode(),
                    payload,
                    arrives: (now, now),
                };
                let bytes = frame.bytes();
                connection.send(peer, frame, now);
                let after = line.leaving.back().map_or(now, |(at, ..)| *at).max(now);
                let says = after.after(Nanos::from_micros(rng.below(60)));
                line.leaving.push_back((says, bytes, name));
            }
        }
    }

    /// The network says that frames have left, some time after they have.
    pub(super) fn left(&mut self, now: Nanos) {
        let links: Vec<LinkIndex> = self.lines.keys().copied().collect();
        for link in links {
            while let Some(line) = self.lines.get_mut(&link)
                && let Some((_, bytes, name)) = line.leaving.pop_front_if(|(at, ..)| *at <= now)
            {
                self.session.transmitted(link, bytes, name, &mut self.effects);
            }
        }
    }

    /// Takes what has arrived by a link.
    pub(super) fn receive(
        &mut self,
        link: LinkIndex,
        connections: &mut [Connection],
        now: Nanos,
        rng: &mut Rng,
    ) {
        let side = self.side;
        loop {
            let Some(line) = self.lines.get_mut(&link) else {
                return;
            };
            let Some(connection) = connections.get_mut(line.connection) else {
                return;
            };
            let closes = line.closes.is_some();
            if line.arriving.is_none() {
                let due = connection.to[side]
                    .frames
                    .front()
                    .is_some_and(|frame| frame.arrives.0 <= now);
                if closes || !due {
                    return;
                }
                let Some(frame) = connection.to[side].frames.pop_front() else {
                    return;
                };
                let Ok(header) = FrameHeader::decode(&frame.header) else {
                    return self.hang_up(link, now, rng);
                };
                let landing = match header.kind {
                    FrameKind::Hello | FrameKind::Welcome | FrameKind::Refused => Landing::Nowhere,
                    _ => self.session.landing(link, &header, now, &mut self.effects),
                };
                let buffer = (landing == Landing::Buffer).then(|| {
                    self.next_buffer += 1;
                    let buffer = BufferIndex(self.next_buffer);
                    self.buffers.insert(buffer, Vec::new());
                    buffer
                });
                let Some(line) = self.lines.get_mut(&link) else {
                    return;
                };
                line.has_come = 0;
                line.arriving = Some(Arriving {
                    header,
                    landing,
                    buffer,
                    payload: frame.payload,
                    arrives: frame.arrives,
                });
            }
            let Some(line) = self.lines.get_mut(&link) else {
                return;
            };
            let Some(arriving) = &line.arriving else { return };
            let part = arriving_part(arriving, now);
            let bytes = part.2.len();
            self.write(part, now);
            // Half a frame that arrives is a sign of life.
            let grows = self
                .lines
                .get_mut(&link)
                .is_some_and(|line| line.has_grown_to(bytes));
            if grows && !closes {
                self.session.heard(link, now, &mut self.effects);
            }
            let Some(line) = self.lines.get_mut(&link) else {
                return;
            };
            if line
                .arriving
                .as_ref()
                .is_none_or(|arriving| arriving.arrives.1 > now)
            {
                return;
            }
            let Some(arriving) = line.arriving.take() else {
                return;
            };
            let sound = Some(payload_checksum([arriving.payload.as_slice()])) == arriving.header.payload_crc;
            if closes || !sound {
                arriving
                    .buffer
                    .into_iter()
                    .for_each(|buffer| self.free(buffer, now));
                if !sound && !closes {
                    self.hang_up(link, now, rng);
                }
                return;
            }
            self.take(link, &arriving, now);
        }
    }

    fn take(&mut self, link: LinkIndex, arriving: &Arriving, now: Nanos) {
        let header = &arriving.header;
        match header.kind {
            FrameKind::Welcome => {
                let bytes = arriving.payload.as_slice().try_into();
                if let Some(Ok(hello)) = bytes.ok().map(Hello::decode) {
                    self.session.welcomed(link, &hello, now, &mut self.effects);
                }
            }
            FrameKind::Refused => {
                let bytes = arriving.payload.as_slice().try_into();
                if let Some(Ok(refusal)) = bytes.ok().map(LinkRefusal::decode) {
                    self.session.refused(link, refusal, now, &mut self.effects);
                }
            }
            _ => {
                let landed = match (arriving.landing, arriving.buffer) {
                    (Landing::Answer { .. }, _) => Landed::Answer,
                    (_, Some(buffer)) => Landed::Buffer(buffer),
                    (_, None) => Landed::Nowhere,
                };
                self.session.arrived(link, header, landed, now, &mut self.effects);
                self.is_closing |= header.kind == FrameKind::Close && self.is_up;
            }
        }
    }

    /// Part of a payload is written to where it goes.
    fn write(&mut self, (landing, buffer, part): (Landing, Option<BufferIndex>, Vec<u8>), now: Nanos) {
        if let Some(place) = buffer.and_then(|buffer| self.buffers.get_mut(&buffer)) {
            *place = part.clone();
        }
        if let Landing::Answer { key } = landing {
            let Some(sent) = self.clients.sent.get_mut(&key) else {
                return;
            };
            if sent.completion.is_some() && !part.is_empty() {
                return self.find(
                    now,
                    Invariant::ForeignBytes,
                    format!(
                        "{} bytes are written to the memory of message {key}, which is done",
                        part.len()
                    ),
                );
            }
            let room = part.len().min(sent.answer.len());
            sent.answer[..room].copy_from_slice(&part[..room]);
        }
    }

    /// Closes a connection that brings nonsense, or is broken.
    pub(super) fn hang_up(&mut self, link: LinkIndex, now: Nanos, rng: &mut Rng) {
        if let Some(line) = self.lines.get_mut(&link)
            && line.closes.is_none()
        {
            line.closes = Some(now.after(Nanos::from_micros(rng.below(300))));
            line.is_broken = true;
            line.urgent.clear();
            line.others.clear();
            self.session.closing(link, now);
        }
    }

    /// Connections that are closed by now are gone.
    pub(super) fn close(&mut self, connections: &mut [Connection], now: Nanos, rng: &mut Rng) {
        let is_due = |line: &Line| line.closes.is_some_and(|closes| closes <= now);
        let due: Vec<LinkIndex> = self
            .lines
            .iter()
            .filter(|(_, line)| is_due(line))
            .map(|(&link, _)| link)
            .collect();
        for link in due {
            let Some(line) = self.lines.remove(&link) else {
                continue;
            };
            let buffer = line.arriving.and_then(|arriving| arriving.buffer);
            buffer.into_iter().for_each(|buffer| self.free(buffer, now));
            if let Some(connection) = connections.get_mut(line.connection) {
                connection.is_held[self.side] = false;
                let hears = !connection.to[1 - self.side].is_black_hole;
                // What was sent before comes before.
                let at = connection.arrived_by(1 - self.side).max(now);
                let at = at.after(Nanos::from_micros(rng.between(400, 1500)));
                if hears && connection.breaks[1 - self.side].is_none() {
                    connection.breaks[1 - self.side] = Some(at);
                }
            }
            self.session.lost(link, now, &mut self.effects);
        }
    }

    pub(super) fn find(&self, now: Nanos, invariant: Invariant, what: String) {
        self.findings
            .add(invariant, now, format!("end {}: {what}", self.side));
    }

    /// What the memory of a message that is done holds from now on.
    pub(super) fn poison(&mut self, key: u64) {
        if let Some(sent) = self.clients.sent.get_mut(&key) {
            sent.payload.fill(POISON);
        }
    }

    /// Whether a buffer holds the data of a message.
    pub(super) fn holds(&self, buffer: Option<BufferIndex>, key: u64, bytes: u32) -> bool {
        match buffer {
            Some(buffer) => self.buffers.get(&buffer) == Some(&data(key, bytes)),
            None => bytes == 0,
        }
    }
}

fn session(side: usize, incarnation: u64, settings: SessionSettings, keeps: bool, now: Nanos) -> PortSession {
    let make = if side == 0 {
        PortSession::asking
    } else {
        PortSession::serving
    };
    let mut session = match make(ends(side, incarnation), settings, now) {
        Ok(session) => session,
        Err(error) => unreachable!("{error}"),
    };
    session.keep_messages(keeps);
    session.set_epoch(Epoch(1));
    session
}

/// As much of a payload as has come by now.
fn arriving_part(arriving: &Arriving, now: Nanos) -> (Landing, Option<BufferIndex>, Vec<u8>) {
    let (first, last) = arriving.arrives;
    let whole = arriving.payload.len() as u64;
    let part = match last.since(first).0 {
        0 => whole,
        span => (whole * now.since(first).0 / span).min(whole),
    };
    let part = if now >= last { whole } else { part };
    (
        arriving.landing,
        arriving.buffer,
        arriving.payload[..part as usize].to_vec(),
    )
}
