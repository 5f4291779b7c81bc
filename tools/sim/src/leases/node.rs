//! A node: its log, and the machines under test that stand on it.

use super::clock::NodeClock;
use super::log::Replica;
use super::{LEASE_MAX, World};
use crate::rng::Rng;
use palisade_block::Nanos;
use palisade_membership::{
    AgreedMembership, ClockReading, EndedLeases, LeaseHolder, LeaseTimes, LeaseVoter, MembershipChange,
};
use palisade_words::{Epoch, Incarnation, Uuid};

#[derive(Debug)]
pub(super) struct Node {
    pub id: Uuid,
    pub run: Incarnation,
    pub boot: Uuid,
    pub clock: NodeClock,
    /// Who is on the same side reaches each other.
    pub side: u64,
    pub is_up: bool,
    pub log: Replica,
    /// What it has applied, and how many entries that is.
    pub agreed: AgreedMembership,
    pub applied: usize,
    pub voter: LeaseVoter,
    pub holder: LeaseHolder,
    pub ended: EndedLeases,
    /// When its program started.
    pub started: Nanos,
    /// When it shows its clock again, by it.
    pub shows_clock: Nanos,
}

impl Node {
    pub fn now(&self, real: Nanos) -> Nanos {
        self.clock.now(real)
    }

    pub fn reading(&self, real: Nanos) -> ClockReading {
        ClockReading {
            node: self.id,
            boot: self.boot,
            clock: self.now(real),
        }
    }

    /// Its program starts, with the log as it is.
    pub fn start(&mut self, first: &AgreedMembership, times: LeaseTimes, real: Nanos, rng: &mut Rng) {
        let now = self.now(real);
        self.run.0 += 1;
        (self.is_up, self.started, self.shows_clock) = (true, real, now);
        (self.agreed, self.applied) = (first.clone(), 2);
        while self.applied < self.log.committed {
            if let Some(change) = &self.log.entries[self.applied].1 {
                self.agreed.apply(change);
            }
            self.applied += 1;
        }
        self.voter = LeaseVoter::new(self.id, self.run, self.boot, self.agreed.clone());
        for index in self.applied..self.log.entries.len() {
            if let Some(change) = self.log.entries[index].1.clone() {
                let position = self.log.position(index);
                assert_eq!(self.voter.appended(position, change).position(), position);
            }
        }
        let times = LeaseTimes {
            lease: self.agreed.lease,
            ..times
        };
        let since = self.agreed.members.get(&self.id).copied().unwrap_or(Epoch(0));
        let voters = self.log.voters().clone();
        self.holder = LeaseHolder::new(times, voters, since, rng.bits(), now);
        self.ended = EndedLeases::new(times.lease, LEASE_MAX, times.drift_ppm, now);
    }
}

impl World {
    /// A node applies what it knows to be committed.
    pub(super) fn apply(&mut self, node: usize) {
        let real = self.real;
        let node = &mut self.nodes[node];
        let now = node.now(real);
        while node.applied < node.log.committed {
            let entry = node.log.entries[node.applied].1.clone();
            node.voter.committed(node.applied as u64);
            node.applied += 1;
            let Some(change) = entry else { continue };
            if let MembershipChange::Members { members, .. } = &change {
                for (gone, since) in &node.agreed.members {
                    if members.get(gone) != Some(since) {
                        node.ended.evicted(*gone, *since, now);
                        self.evicted.insert((node.id, *gone), real);
                    }
                }
                for (back, since) in members {
                    if node.agreed.members.get(back) != Some(since) {
                        node.ended.taken_back(*back);
                    }
                }
                if let Some(since) = members.get(&node.id) {
                    node.holder.member_since_is(*since);
                }
            }
            if let MembershipChange::Times(times) = &change {
                node.holder.lease_is(times.lease);
                node.ended.lease_is(times.lease, now);
            }
            node.agreed.apply(&change);
        }
    }
}
