//! Whether this node's clock goes as fast as those of others. Leases count on that: a clock that stands still would hold one for ever.
//!
//! Each voter's clock is compared over two [windows](window): one of a few leases, by which a clock that stops or jumps is found
//! before the lease is over that it would hold for too long; and a long one, by which a rate is found that is off by little. What a
//! window has found stands until one of its kind has passed with nothing against the clock.

mod window;

use crate::voter_sets::VoterSets;
use palisade_block::Nanos;
use palisade_words::Uuid;
use std::collections::BTreeMap;
use window::{Look, Window};

/// The short window, in leases: the least in which the time that an answer takes is not most of it.
const SHORT_LEASES: u64 = 2;

/// The long one: 10 minutes at the default lease. An answer that took 100 ms is less than a fifth of a thousandth of it.
const LONG_LEASES: u64 = 1000;

/// What the clocks of others say of one's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockRate {
    /// Nothing stands against it.
    Kept,
    /// A majority of the voters has said that its rate is outside of the bound, and no majority has shown since that it is not.
    Off,
}

/// A reading of another node's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockReading {
    /// Whose.
    pub node: Uuid,
    /// Which run of that machine it counts from.
    pub boot: Uuid,
    /// What it showed.
    pub clock: Nanos,
}

/// The comparison with one run of one machine.
#[derive(Clone, Debug)]
struct Compared {
    boot: Uuid,
    windows: [Window; 2],
}

/// The comparison with each voter.
#[derive(Clone, Debug)]
pub struct ClockWatch {
    drift_ppm: u32,
    lease: Nanos,
    nodes: BTreeMap<Uuid, Compared>,
    rate: ClockRate,
}

impl ClockWatch {
    /// Clocks may differ by so many millionths, and leases last for so long.
    pub fn new(drift_ppm: u32, lease: Nanos) -> ClockWatch {
        ClockWatch {
            drift_ppm,
            lease,
            nodes: BTreeMap::new(),
            rate: ClockRate::Kept,
        }
    }

    /// An answer shows a clock: it was read between two moments of one's own, the sending of the question and its answer.
    pub fn answered(&mut self, reading: &ClockReading, own: (Nanos, Nanos), voters: &VoterSets) {
        let look = Look {
            own,
            other: reading.clock,
        };
        match self.compared(reading) {
            Some(compared) => compared
                .1
                .iter_mut()
                .for_each(|window| window.look(look, compared.0)),
            None => {
                let leases = |count| Window::new(Nanos(self.lease.0.saturating_mul(count)), look);
                let compared = Compared {
                    boot: reading.boot,
                    windows: [leases(SHORT_LEASES), leases(LONG_LEASES)],
                };
                self.nodes.insert(reading.node, compared);
            }
        }
        self.settle(voters);
    }

    /// A message shows a clock that nobody has asked for: it was read some time before `now`. That is enough to find one's own
    /// too slow; and one's own that stands still sends no questions any more.
    pub fn heard(&mut self, reading: &ClockReading, now: Nanos, voters: &VoterSets) {
        if let Some((drift_ppm, windows)) = self.compared(reading) {
            windows
                .iter_mut()
                .for_each(|window| window.overtaken(reading.clock, now, drift_ppm));
            self.settle(voters);
        }
    }

    fn compared(&mut self, reading: &ClockReading) -> Option<(u32, &mut [Window; 2])> {
        let known = self.nodes.get_mut(&reading.node)?;
        // A machine that has booted again counts from zero, and says nothing about the rate of before.
        (known.boot == reading.boot).then_some((self.drift_ppm, &mut known.windows))
    }

    /// What a majority of the voters says now; where there is none, what one has said last.
    fn settle(&mut self, voters: &VoterSets) {
        self.nodes.retain(|node, _| voters.contains(*node));
        let windows = |voter: Uuid| self.nodes.get(&voter).map(|compared| &compared.windows);
        let is_against =
            |voter: Uuid| windows(voter).is_some_and(|windows| windows.iter().any(Window::is_against));
        let is_for = |voter: Uuid| windows(voter).is_some_and(|windows| windows.iter().all(Window::is_for));
        if voters.has_majority(is_against) {
            self.rate = ClockRate::Off;
        } else if voters.has_majority(is_for) {
            self.rate = ClockRate::Kept;
        }
    }

    /// What the others say.
    pub fn rate(&self) -> ClockRate {
        self.rate
    }
}

#[cfg(test)]
mod tests;
