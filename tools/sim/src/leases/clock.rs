//! A node's clock: within the bound, or broken in one of the ways in which clocks break.

use crate::rng::Rng;
use palisade_block::Nanos;

/// Counts from some value, at some rate, since some moment of the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeClock {
    since: Nanos,
    value: u64,
    /// Millionths of the world's time.
    rate: u64,
    /// The rate that it has when it is well.
    good_rate: u64,
    /// When it was broken last.
    pub broken: Option<Nanos>,
}

impl NodeClock {
    pub fn new(value: u64, good_rate: u64) -> NodeClock {
        NodeClock {
            since: Nanos(0),
            value,
            rate: good_rate,
            good_rate,
            broken: None,
        }
    }

    pub fn now(&self, real: Nanos) -> Nanos {
        let passed = u128::from(real.since(self.since).0) * u128::from(self.rate) / 1_000_000;
        Nanos(self.value + passed as u64)
    }

    fn set(&mut self, real: Nanos, value: u64, rate: u64) {
        (self.since, self.value, self.rate) = (real, value, rate);
    }

    /// It stops, goes twice or half as fast, or jumps.
    pub fn breaks(&mut self, real: Nanos, lease: Nanos, rng: &mut Rng) {
        let now = self.now(real).0;
        let jump = rng.between(lease.0 / 2, 3 * lease.0);
        match rng.below(5) {
            0 => self.set(real, now, 0),
            1 => self.set(real, now, 2 * self.good_rate),
            2 => self.set(real, now, self.good_rate / 2),
            3 => self.set(real, now + jump, self.good_rate),
            _ => self.set(real, now.saturating_sub(jump), self.good_rate),
        }
        self.broken = Some(real);
    }

    /// Its rate is good again.
    pub fn mended(&mut self, real: Nanos) {
        self.set(real, self.now(real).0, self.good_rate);
    }

    pub fn goes_well(&self) -> bool {
        self.rate == self.good_rate
    }

    /// The machine has booted.
    pub fn booted(&mut self, real: Nanos, value: u64) {
        self.set(real, value, self.good_rate);
        self.broken = None;
    }
}
