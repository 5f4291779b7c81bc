//! The workloads by name, and how one is run.

use crate::guest::{Guest, RING_ENTRIES, RingUse};
use crate::ring_part::RingPart;
use crate::turn::WholeTurn;
use palisade_virtio::QueueStats;
use std::error::Error;
use std::sync::Arc;

/// What is measured, over and over in the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Workload {
    /// Its name, also in `ci/budgets.toml`.
    pub name: &'static str,
    subject: Subject,
    ring: RingUse,
    depth: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Subject {
    /// Pull, finish and publish.
    Ring,
    /// A turn of the reactor, with idle queues beside.
    Turn { idle: u16 },
}

const RING: Subject = Subject::Ring;
const TURN: Subject = Subject::Turn { idle: 0 };
const TURN_OF_64: Subject = Subject::Turn { idle: 63 };

const DIRECT: RingUse = RingUse {
    indirect: false,
    tracked: false,
};
const INDIRECT: RingUse = RingUse {
    indirect: true,
    tracked: false,
};
const TRACKED: RingUse = RingUse {
    indirect: true,
    tracked: true,
};

/// All workloads: reads of 4 KiB on a ring of 256 entries with EVENT_IDX, no migration running.
pub const WORKLOADS: &[Workload] = &[
    workload("ring-direct-qd1", RING, DIRECT, 1),
    workload("ring-direct-qd32", RING, DIRECT, 32),
    workload("ring-indirect-qd1", RING, INDIRECT, 1),
    workload("ring-indirect-qd32", RING, INDIRECT, 32),
    workload("ring-tracked-qd1", RING, TRACKED, 1),
    workload("ring-tracked-qd32", RING, TRACKED, 32),
    workload("turn-qd1", TURN, INDIRECT, 1),
    workload("turn-qd32", TURN, INDIRECT, 32),
    workload("turn-tracked-qd1", TURN, TRACKED, 1),
    workload("turn-tracked-qd32", TURN, TRACKED, 32),
    workload("turn-63-idle-qd1", TURN_OF_64, INDIRECT, 1),
    workload("turn-63-idle-qd32", TURN_OF_64, INDIRECT, 32),
];

const fn workload(name: &'static str, subject: Subject, ring: RingUse, depth: u16) -> Workload {
    Workload {
        name,
        subject,
        ring,
        depth,
    }
}

impl Workload {
    /// The workload of this name.
    pub fn named(name: &str) -> Result<&'static Workload, Box<dyn Error>> {
        let found = WORKLOADS.iter().find(|workload| workload.name == name);
        found.ok_or_else(|| format!("there is no workload {name:?}; `list` prints them").into())
    }

    /// Requests a turn.
    pub fn depth(&self) -> u16 {
        self.depth
    }

    /// Turns until every entry of the ring has been used once.
    pub fn turns_a_lap(&self) -> u16 {
        RING_ENTRIES / self.depth
    }

    /// Makes everything that turns need.
    pub fn start(&self) -> Result<Running, Box<dyn Error>> {
        let mut guest = Guest::new(self.ring)?;
        let queue = guest.queue(self.ring)?;
        let stats = Arc::clone(queue.stats());
        let target = match self.subject {
            Subject::Ring => Target::Ring(Box::new(RingPart::new(queue, self.depth))),
            Subject::Turn { idle } => Target::Turn(Box::new(WholeTurn::new(queue, &mut guest, idle)?)),
        };
        Ok(Running {
            guest,
            target,
            stats,
            depth: self.depth,
            offered: 0,
        })
    }
}

enum Target {
    Ring(Box<RingPart>),
    Turn(Box<WholeTurn>),
}

/// A workload under way.
pub struct Running {
    guest: Guest,
    target: Target,
    stats: Arc<QueueStats>,
    depth: u16,
    offered: u64,
}

impl Running {
    /// Offers requests and has them served.
    #[inline]
    pub fn turn(&mut self) {
        self.offer();
        self.serve();
    }

    /// The same, with a mark before and behind what the target does.
    pub fn marked_turn(&mut self) {
        self.offer();
        self.guest.mark(true);
        self.serve();
        self.guest.mark(false);
    }

    /// The guest's part of a turn alone.
    #[inline]
    pub fn offer(&mut self) {
        self.offered += u64::from(self.depth);
        self.guest.offer(self.depth);
    }

    #[inline]
    fn serve(&mut self) {
        match &mut self.target {
            Target::Ring(ring) => ring.measured_turn(),
            Target::Turn(turn) => turn.measured_turn(),
        }
    }

    /// The guest.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Requests answered.
    pub fn requests(&self) -> u64 {
        self.stats.returned.get()
    }

    /// Requests answered, once it is sure that all were, and well.
    pub fn end(&self) -> Result<u64, Box<dyn Error>> {
        let requests = self.requests();
        if requests != self.offered {
            return Err(format!("{} requests were offered, {requests} answered", self.offered).into());
        }
        if requests >= u64::from(RING_ENTRIES) && !self.guest.all_answered_well() {
            return Err("some requests have no good status".into());
        }
        Ok(requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_answers_all_it_offers() {
        for workload in WORKLOADS {
            let mut running = workload.start().unwrap();
            let turns = 2 * workload.turns_a_lap();
            (0..turns).for_each(|_| running.turn());
            let requests = running.end().unwrap();
            assert_eq!(requests, 2 * u64::from(RING_ENTRIES), "{}", workload.name);
        }
    }

    #[test]
    fn an_offer_that_nobody_serves_is_noticed() {
        let mut running = Workload::named("turn-qd1").unwrap().start().unwrap();
        running.offer();
        assert!(running.end().is_err());
    }
}
