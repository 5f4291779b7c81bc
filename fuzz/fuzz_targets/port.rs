//! A whole session of a data port, whose other end says anything in any order: nothing panics, the books agree, each message
//! that was taken has one completion, data is put only where a message waits for it, and what is stopped is empty.
//!
//! The input begins with a byte of settings; then come steps of one byte that says what happens and what it needs of the bytes
//! that follow. Headers are made of a few bytes, so that rounds and numbers are often near the right ones, or of 64 as they are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_block::Nanos;
use palisade_port::{
    BufferIndex, Completes, Completion, Ends, Landed, Landing, MessageAnswer, Payload, PortEffect,
    PortMessage, PortSession, SessionPhase, SessionSettings,
};
use palisade_wire::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, HELLO_BYTES, Hello, LinkRefusal, StartNumber,
};
use palisade_words::{Epoch, FeatureLevel, Incarnation, LinkIndex, ReactorIndex, StreamIndex, Uuid};
use std::collections::BTreeSet;
use std::num::NonZeroU64;

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let Some(mut world) = World::new(bytes.next()) else {
        return;
    };
    while !bytes.0.is_empty() {
        world.step(&mut bytes);
    }
    world.end();
});

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next())
    }
}

fn start(drawn: u8) -> StartNumber {
    StartNumber::new(u64::from(drawn)).unwrap_or(StartNumber(NonZeroU64::MIN))
}

fn ends(node: u128, peer: u128, incarnation: u64) -> Ends {
    Ends {
        cluster: Uuid(1),
        node: Uuid(node),
        peer: Uuid(peer),
        incarnation: Incarnation(incarnation),
        start: start(1),
        feature_level: FeatureLevel(0),
        asking_reactor: ReactorIndex(0),
        serving_reactor: ReactorIndex(0),
    }
}

struct World {
    session: PortSession,
    dials: bool,
    settings: SessionSettings,
    now: Nanos,
    key: u64,
    /// Taken and not done.
    waiting: BTreeSet<u64>,
    /// Delivered and not answered: round, stream, number.
    given: Vec<(u32, StreamIndex, u64)>,
    /// Given to links: link, bytes, what.
    sent: Vec<(LinkIndex, u64, Payload)>,
    /// The round of the last reset that the session has asked for or confirmed.
    round: u32,
    effects: Vec<PortEffect>,
}

impl World {
    fn new(choice: u8) -> Option<World> {
        let settings = SessionSettings {
            links: 1 + (choice >> 1) % 3,
            streams: 1 + u16::from(choice >> 3) % 2,
            window: 1 + u16::from(choice >> 4) % 4,
            messages: 6,
            answer_within: (choice & 0x80 != 0).then_some(Nanos::from_millis(100)),
            ..SessionSettings::default()
        };
        let dials = choice & 1 == 0;
        let make = if dials {
            PortSession::asking
        } else {
            PortSession::serving
        };
        let mut session = make(ends(2, 3, 5), settings, Nanos(0)).ok()?;
        session.keep_messages(choice & 0x40 != 0);
        session.earlier_runs_landed(&mut Vec::new());
        Some(World {
            session,
            dials,
            settings,
            now: Nanos(0),
            key: 0,
            waiting: BTreeSet::new(),
            given: Vec::new(),
            sent: Vec::new(),
            round: 0,
            effects: Vec::new(),
        })
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let what = bytes.next();
        let link = LinkIndex(bytes.next() % 4);
        let (now, effects) = (self.now, &mut self.effects);
        match what % 16 {
            0 => self.session.begin(now, effects),
            1 => self.session.connected(link, now, effects),
            2 | 3 => self.greeting(link, bytes),
            4..=7 => self.frame(link, bytes),
            8 => self.session.lost(link, now, effects),
            9 => self.session.closing(link, now),
            10 => {
                self.now = now.after(Nanos::from_millis(bytes.next().into()));
                self.session.tick(self.now, effects);
            }
            11 | 12 => self.send(bytes),
            13 => self.answer(bytes),
            14 => {
                if let Some((link, count, payload)) = self.sent.pop() {
                    self.session.transmitted(link, count, payload, effects);
                }
            }
            _ => match bytes.next() {
                0 => self.session.stop(now, effects),
                1 => self.session.close(now, effects),
                2..16 => self.session.peer_left(now, effects),
                _ => self.session.pump(now, effects),
            },
        }
        self.carry_out();
        self.session.check().unwrap();
        assert!(self.session.outstanding() <= 6);
        let _ = self.session.next_look();
    }

    fn greeting(&mut self, link: LinkIndex, bytes: &mut Bytes<'_>) {
        let choice = bytes.next();
        let hello = match choice % 8 {
            0 => Hello::decode(&bytes.take::<HELLO_BYTES>()).ok(),
            1 => {
                if let Ok(refusal) = LinkRefusal::decode(&bytes.take()) {
                    self.session.refused(link, refusal, self.now, &mut self.effects);
                }
                None
            }
            _ => Some(Hello {
                cluster: Uuid(1),
                node: Uuid(3),
                peer: Uuid(2),
                incarnation: Incarnation(1 + u64::from(choice >> 6)),
                start: start(1 + choice / 8 % 2 * (choice & 1)),
                peer_incarnation: None,
                peer_start: None,
                feature_level: FeatureLevel(0),
                epoch: Epoch(0),
                round: u32::from(bytes.next()) % 4,
                link,
                versions: (1, 1),
                asking_reactor: ReactorIndex(0),
                serving_reactor: ReactorIndex(0),
                streams: 1 + u16::from(choice >> 5) % 2,
                window: 1 + u16::from(choice >> 4) % 4,
            }),
        };
        match hello {
            Some(hello) if self.dials => self.session.welcomed(link, &hello, self.now, &mut self.effects),
            Some(hello) => {
                let _ = self
                    .session
                    .greeted(hello.link, &hello, self.now, &mut self.effects);
            }
            None => {}
        }
    }

    fn frame(&mut self, link: LinkIndex, bytes: &mut Bytes<'_>) {
        let [kind, stream, sequence, behind, round, size] = bytes.take();
        let header = match FrameKind::ALL.get(usize::from(kind)) {
            Some(&kind) => {
                let is_long = matches!(kind, FrameKind::Message | FrameKind::Answer);
                Some(FrameHeader {
                    client: size & 3,
                    stream: StreamIndex(u16::from(stream) % 3),
                    round: (self.round + u32::from(round) % 4).saturating_sub(1),
                    sequence: u64::from(sequence),
                    behind: u16::from(behind.min(sequence)),
                    attempt: round >> 4,
                    asks_accepted: size & 4 != 0 && kind == FrameKind::Message,
                    payload_bytes: if is_long { u32::from(size >> 4) } else { 0 },
                    ..FrameHeader::of(kind)
                })
            }
            None => FrameHeader::decode(&bytes.take::<FRAME_HEADER_BYTES>()).ok(),
        };
        let Some(header) = header else { return };
        let landing = self.session.landing(link, &header, self.now, &mut self.effects);
        let landed = match landing {
            Landing::Buffer => Landed::Buffer(BufferIndex(1)),
            Landing::Answer { key } => {
                assert!(
                    self.waiting.contains(&key),
                    "data for message {key}, which is done"
                );
                Landed::Answer
            }
            Landing::Nowhere => Landed::Nowhere,
        };
        self.carry_out();
        self.session
            .arrived(link, &header, landed, self.now, &mut self.effects);
    }

    fn send(&mut self, bytes: &mut Bytes<'_>) {
        self.key += 1;
        let [stream, size, completes] = bytes.take();
        let message = PortMessage {
            client: 1,
            stream: StreamIndex(u16::from(stream) % 3),
            words: [size; 22],
            payload_bytes: u32::from(size) * 100,
            answer_bytes: u32::from(size),
            epoch: Epoch(0),
            key: self.key,
            completes: match completes % 4 {
                0 => Completes::Sent,
                1 => Completes::Accepted,
                _ => Completes::Answered,
            },
        };
        if self.session.send(message, &mut self.effects).is_ok() {
            self.waiting.insert(self.key);
        }
    }

    fn answer(&mut self, bytes: &mut Bytes<'_>) {
        let [which, size] = bytes.take();
        let (round, stream, sequence) = match self.given.is_empty() || which & 0x80 != 0 {
            true => (self.round, StreamIndex(0), u64::from(which)),
            false => self.given.swap_remove(usize::from(which) % self.given.len()),
        };
        let answer = MessageAnswer {
            round,
            stream,
            sequence,
            words: [which; 22],
            payload_bytes: if size & 1 == 0 { 0 } else { size.into() },
            key: self.key,
            is_repeatable: size & 1 != 0,
        };
        self.session.answer(answer, &mut self.effects);
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                PortEffect::Send {
                    link,
                    header,
                    payload,
                } => {
                    let decoded = FrameHeader::decode(&header.encode());
                    assert_eq!(decoded, Ok(header), "what is sent can be read");
                    if matches!(header.kind, FrameKind::Reset | FrameKind::ResetDone) {
                        self.round = header.round;
                    }
                    self.sent
                        .push((link, 64 + u64::from(header.payload_bytes), payload));
                    if self.sent.len() > 64 {
                        self.sent.remove(0);
                    }
                }
                PortEffect::Complete { key, completion, .. } => {
                    assert!(
                        self.waiting.remove(&key),
                        "message {key} is done twice: {completion:?}"
                    );
                    if let Completion::Answered { .. } = completion {
                        assert_eq!(self.session.phase(), SessionPhase::Up);
                    }
                }
                PortEffect::Deliver {
                    round,
                    stream,
                    sequence,
                    ..
                } => {
                    self.given.push((round, stream, sequence));
                    if self.given.len() > 64 {
                        self.given.remove(0);
                    }
                }
                _ => {}
            }
        }
    }

    fn end(mut self) {
        self.session.stop(self.now, &mut self.effects);
        for link in 0..self.settings.links {
            self.session.lost(LinkIndex(link), self.now, &mut self.effects);
        }
        self.carry_out();
        assert_eq!(
            (self.session.phase(), self.session.outstanding()),
            (SessionPhase::Closed, 0)
        );
        assert!(self.waiting.is_empty(), "{:?} never come back", self.waiting);
    }
}
