//! Connections between two ends: each carries frames in order, both ways, at its own pace, until something happens to it.

use crate::rng::Rng;
use palisade_block::Nanos;
use palisade_wire::FRAME_HEADER_BYTES;
use palisade_words::LinkIndex;
use std::collections::VecDeque;

/// A frame that is to go out, or is on its way.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) header: [u8; FRAME_HEADER_BYTES],
    pub(super) payload: Vec<u8>,
    /// When its first byte arrives, and its last.
    pub(super) arrives: (Nanos, Nanos),
}

impl Frame {
    pub(super) fn bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES + self.payload.len()) as u64
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// What is on its way, in order.
    pub(super) frames: VecDeque<Frame>,
    /// The line is taken until then.
    busy_until: Nanos,
    /// From now on nothing arrives, and nobody is told.
    pub(super) is_black_hole: bool,
}

/// One connection. End 0 has made it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: LinkIndex,
    /// What goes to end 0, and to end 1.
    pub(super) to: [Way; 2],
    /// Which ends still have it.
    pub(super) is_held: [bool; 2],
    /// When an end hears that it is broken.
    pub(super) breaks: [Option<Nanos>; 2],
    delay: Nanos,
    nanos_per_byte: u64,
}

impl Connection {
    /// A new one, some time after it was asked for.
    pub(super) fn new(link: LinkIndex, is_slow: bool, rng: &mut Rng) -> Connection {
        Connection {
            link,
            to: Default::default(),
            is_held: [true, true],
            breaks: [None, None],
            delay: Nanos::from_micros(rng.between(5, 400)),
            nanos_per_byte: match is_slow {
                true => rng.between(1500, 3000),
                false => rng.between(1, 20),
            },
        }
    }

    /// Whether an end may give it another frame: as long as the line is not taken for longer than so.
    pub(super) fn takes(&self, to: usize, now: Nanos) -> bool {
        self.to[to].busy_until <= now.after(Nanos::from_micros(50))
    }

    /// Nothing more arrives at an end.
    pub(super) fn swallow(&mut self, to: usize) {
        self.to[to].is_black_hole = true;
    }

    /// When all that is on its way to an end will have arrived.
    pub(super) fn arrived_by(&self, to: usize) -> Nanos {
        self.to[to].busy_until.after(self.delay)
    }

    /// A frame goes out to an end.
    pub(super) fn send(&mut self, to: usize, mut frame: Frame, now: Nanos) {
        let way = &mut self.to[to];
        let begins = way.busy_until.max(now);
        way.busy_until = begins.after(Nanos(frame.bytes() * self.nanos_per_byte));
        let first = begins.after(self.delay);
        let last = way.busy_until.after(self.delay);
        frame.arrives = (first, last);
        if !way.is_black_hole {
            way.frames.push_back(frame);
        }
    }

    /// Somewhere on the way the connection breaks: each end hears of it sooner or later, or never.
    pub(super) fn break_off(&mut self, now: Nanos, rng: &mut Rng) {
        for end in 0..2 {
            let hears = !rng.one_in(4);
            self.breaks[end] = hears.then(|| now.after(Nanos::from_micros(rng.below(3000))));
            // What is on its way may still arrive, or not.
            let kept = rng.index(self.to[end].frames.len() + 1);
            self.to[end].frames.truncate(kept);
            self.to[end].is_black_hole = true;
        }
    }

    /// One bit of a frame that is on its way to an end is turned.
    pub(super) fn turn_bit(&mut self, to: usize, rng: &mut Rng) {
        let count = self.to[to].frames.len();
        let at = rng.index(count);
        if let Some(frame) = self.to[to].frames.get_mut(at) {
            let bit = rng.below(8 * frame.bytes()) as usize;
            let byte = bit / 8;
            match byte.checked_sub(FRAME_HEADER_BYTES) {
                Some(byte) => frame.payload[byte] ^= 1 << (bit % 8),
                None => frame.header[byte] ^= 1 << (bit % 8),
            }
        }
    }
}
