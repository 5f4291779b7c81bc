//! Connections between nodes, byte by byte: each is as slow as it is, breaks in the middle of frames, and swallows what is sent.

use crate::frames::{Frame, cut_short};
use crate::rng::Rng;
use palisade_block::Nanos;
use palisade_wire::FRAME_HEADER_BYTES;
use std::collections::VecDeque;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Way {
    pub(super) frames: VecDeque<Frame>,
    /// From now on nothing arrives, and nobody is told.
    pub(super) is_black_hole: bool,
    /// When the last frame has arrived: none overtakes.
    arrived: Nanos,
}

/// A connection. End 0 has made it.
#[derive(Debug)]
pub(super) struct Wire {
    /// Which nodes are at its ends.
    pub(super) nodes: [usize; 2],
    /// What goes to end 0, and to end 1.
    pub(super) to: [Way; 2],
    /// Which ends still have it.
    pub(super) is_held: [bool; 2],
    /// When an end hears that it is broken.
    pub(super) breaks: [Option<Nanos>; 2],
    /// Its greeting was taken off it.
    pub(super) is_greeted: bool,
    delay: Nanos,
    pub(super) nanos_per_byte: u64,
}

/// All connections there ever were.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) wires: Vec<Wire>,
}

/// An established connection, at one of its ends.
#[derive(Debug)]
pub(super) struct SimConnection {
    pub(super) wire: usize,
    pub(super) end: usize,
}

impl Wire {
    pub(super) fn new(nodes: [usize; 2], rng: &mut Rng) -> Wire {
        Wire {
            nodes,
            to: Default::default(),
            is_held: [true, true],
            breaks: [None, None],
            is_greeted: false,
            delay: Nanos::from_micros(rng.between(3, 200)),
            nanos_per_byte: rng.between(1, 12),
        }
    }

    /// A frame goes out to an end whose last byte leaves now.
    pub(super) fn carry(
        &mut self,
        to: usize,
        header: [u8; FRAME_HEADER_BYTES],
        payload: Vec<u8>,
        now: Nanos,
    ) {
        let bytes = (FRAME_HEADER_BYTES + payload.len()) as u64;
        let way = &mut self.to[to];
        let last = now.after(self.delay).max(way.arrived);
        let first = Nanos(last.0.saturating_sub(bytes * self.nanos_per_byte))
            .max(way.arrived)
            .max(now);
        way.arrived = last;
        if !way.is_black_hole {
            way.frames.push_back(Frame {
                header,
                payload,
                arrives: (first, last),
            });
        }
    }

    /// An end lets go: the other one hears of it, unless nothing gets there any more.
    pub(super) fn let_go(&mut self, end: usize, now: Nanos, rng: &mut Rng) {
        self.is_held[end] = false;
        let other = 1 - end;
        if !self.to[other].is_black_hole && self.breaks[other].is_none() {
            self.breaks[other] = Some(now.after(Nanos::from_micros(rng.between(200, 1000))));
        }
    }

    /// It breaks somewhere: each end hears of it sooner or later, or never.
    pub(super) fn break_off(&mut self, now: Nanos, rng: &mut Rng) {
        for end in 0..2 {
            let hears = !rng.one_in(4);
            self.breaks[end] = hears.then(|| now.after(Nanos::from_micros(rng.below(2000))));
            cut_short(&mut self.to[end].frames, rng);
            self.to[end].is_black_hole = true;
        }
    }
}
