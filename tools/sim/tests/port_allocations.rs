//! A session of a data port allocates when it is made and when it goes down, and never while it carries messages: both ends, four
//! links, reads, writes, and a link that is lost and made anew under load.

#![cfg(test)]

use palisade_block::Nanos;
use palisade_port::{
    BufferIndex, Completes, Ends, Landed, Landing, MessageAnswer, PortEffect, PortMessage, PortSession,
    SessionPhase, SessionSettings,
};
use palisade_sys::counting_allocator::counted;
use palisade_wire::{FRAME_HEADER_BYTES, FrameKind, Hello, StartNumber};
use palisade_words::{Epoch, FeatureLevel, Incarnation, LinkIndex, ReactorIndex, StreamIndex, Uuid};

const NOW: Nanos = Nanos::from_millis(1);

fn ends(node: u128, peer: u128) -> Ends {
    Ends {
        cluster: Uuid(1),
        node: Uuid(node),
        peer: Uuid(peer),
        incarnation: Incarnation(1),
        start: StartNumber::new(node as u64).unwrap(),
        feature_level: FeatureLevel(0),
        asking_reactor: ReactorIndex(0),
        serving_reactor: ReactorIndex(0),
    }
}

/// Both ends, joined without a network in between.
struct Pair {
    sessions: [PortSession; 2],
    effects: [Vec<PortEffect>; 2],
    work: Vec<PortEffect>,
    completed: u64,
    allocations: u64,
}

impl Pair {
    fn call(&mut self, side: usize, does: impl FnOnce(&mut PortSession, &mut Vec<PortEffect>)) {
        let (session, effects) = (&mut self.sessions[side], &mut self.effects[side]);
        self.allocations += counted(|| does(session, effects)).1;
    }

    fn greet(&mut self, side: usize, link: LinkIndex, kind: FrameKind, hello: &Hello) {
        let other = 1 - side;
        self.call(other, |session, effects| match kind {
            FrameKind::Hello => session.greeted(link, hello, NOW, effects).unwrap(),
            _ => session.welcomed(link, hello, NOW, effects),
        });
    }

    /// Does all that was said, and what follows from it.
    fn settle(&mut self) {
        while self.effects.iter().any(|effects| !effects.is_empty()) {
            for side in [0, 1] {
                std::mem::swap(&mut self.work, &mut self.effects[side]);
                let work = std::mem::take(&mut self.work);
                work.iter().for_each(|effect| self.carry_out(side, effect));
                self.work = work;
                self.work.clear();
            }
            for side in [0, 1] {
                self.call(side, |session, effects| session.pump(NOW, effects));
            }
        }
    }

    fn carry_out(&mut self, side: usize, effect: &PortEffect) {
        match *effect {
            PortEffect::Dial(link) => {
                self.call(side, |session, effects| session.connected(link, NOW, effects))
            }
            PortEffect::Send {
                link,
                header,
                payload,
            } => {
                let bytes = FRAME_HEADER_BYTES as u64 + u64::from(header.payload_bytes);
                self.call(side, |session, effects| {
                    session.transmitted(link, bytes, payload, effects)
                });
                if let palisade_port::Payload::Greeting(hello) = payload {
                    return self.greet(side, link, header.kind, &hello);
                }
                self.call(1 - side, |session, effects| {
                    let landed = match session.landing(link, &header, NOW, effects) {
                        Landing::Buffer => Landed::Buffer(BufferIndex(0)),
                        Landing::Answer { .. } => Landed::Answer,
                        Landing::Nowhere => Landed::Nowhere,
                    };
                    session.arrived(link, &header, landed, NOW, effects);
                });
            }
            PortEffect::Deliver {
                round,
                stream,
                sequence,
                words,
                ..
            } => {
                let answer_bytes = u32::from(words[0]) * 1000;
                let answer = MessageAnswer {
                    round,
                    stream,
                    sequence,
                    words,
                    payload_bytes: answer_bytes,
                    key: sequence,
                    is_repeatable: answer_bytes > 0,
                };
                self.call(side, |session, effects| session.answer(answer, effects));
            }
            PortEffect::Complete { .. } => self.completed += 1,
            _ => {}
        }
    }
}

#[test]
fn a_session_that_is_up_allocates_nothing() {
    let settings = SessionSettings::default();
    let sessions = [
        PortSession::asking(ends(2, 3), settings, Nanos(0)).unwrap(),
        PortSession::serving(ends(3, 2), settings, Nanos(0)).unwrap(),
    ];
    let mut pair = Pair {
        sessions,
        effects: [Vec::with_capacity(10_000), Vec::with_capacity(10_000)],
        work: Vec::with_capacity(10_000),
        completed: 0,
        allocations: 0,
    };
    for side in [0, 1] {
        pair.call(side, |session, effects| session.earlier_runs_landed(effects));
    }
    pair.call(0, |session, effects| session.begin(NOW, effects));
    pair.settle();
    assert!(
        pair.sessions
            .iter()
            .all(|session| session.phase() == SessionPhase::Up)
    );
    pair.allocations = 0;
    let (mut key, mut taken) = (0, 0);
    for turn in 0..500u64 {
        for side in [0, 1] {
            for _ in 0..20 {
                key += 1;
                let is_read = key % 2;
                let message = PortMessage {
                    client: 1,
                    stream: StreamIndex((key % 16) as u16),
                    words: [is_read as u8; 22],
                    payload_bytes: (1 - is_read as u32) * 4096,
                    answer_bytes: is_read as u32 * 1000,
                    epoch: Epoch(0),
                    key,
                    completes: [Completes::Answered, Completes::Accepted][(key % 3 == 0) as usize],
                };
                pair.call(side, |session, effects| {
                    taken += u64::from(session.send(message, effects).is_ok());
                });
            }
            pair.call(side, |session, effects| session.pump(NOW, effects));
        }
        if turn % 50 == 7 {
            // With all that was given to it: it is sent again by the others.
            let link = LinkIndex((turn / 50 % 4) as u8);
            for side in [0, 1] {
                pair.effects[side]
                    .retain(|effect| !matches!(effect, PortEffect::Send { link: by, .. } if *by == link));
                pair.call(side, |session, effects| session.lost(link, NOW, effects));
            }
            pair.call(0, |session, effects| session.begin(NOW, effects));
        }
        pair.settle();
    }
    assert_eq!((pair.completed, taken), (key, key));
    assert!(
        pair.sessions[0].counters().sent_again > 20,
        "{:?}",
        pair.sessions[0].counters()
    );
    assert_eq!(pair.allocations, 0);
}
