//! Connections between two ends: each carries frames in order, both ways, at its own pace, until something happens to it.

use crate::frames::{Frame, cut_short};
use crate::rng::Rng;
use palisade_block::Nanos;
use palisade_words::LinkIndex;
use std::collections::VecDeque;

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
            cut_short(&mut self.to[end].frames, rng);
            self.to[end].is_black_hole = true;
        }
    }
}
