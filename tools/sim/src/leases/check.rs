//! What must hold: nobody goes on whose lease was proved to have ended (invariant 5), and nobody stops who need not.

use super::{LEASE_MAX, World, at};
use crate::finding::Invariant;
use palisade_block::Nanos;
use palisade_membership::{ClockRate, MembershipChange};

impl World {
    pub(super) fn check(&mut self) {
        self.prove();
        for node in 0..self.nodes.len() {
            self.check_ended(node);
            self.check_clock(node);
            self.check_kept(node);
        }
    }

    /// Whether a node's clock has been well for so long that nothing of before counts.
    fn is_clock_good(&self, node: usize) -> bool {
        let is_long_ago = |broken: Nanos| self.real.since(broken) > Nanos(4 * LEASE_MAX.0);
        let is_of_another = self.broken != Some(node);
        is_of_another || self.nodes[node].clock.goes_well() && self.was_broken.is_none_or(is_long_ago)
    }

    /// Whose lease some node takes for ended.
    fn prove(&mut self) {
        for by in &self.nodes {
            let now = by.now(self.real);
            let rate = by.holder.clock();
            for node in 0..self.nodes.len() {
                let node = self.nodes[node].id;
                let told = self.evicted.get(&(by.id, node));
                let was_well = self.broken != Some(at(by.id))
                    || by.clock.goes_well()
                        && told.is_some_and(|told| self.was_broken.is_none_or(|broken| broken < *told));
                if by.is_up
                    && was_well
                    && let Some(since) = by.ended.ended(node, now, rate)
                {
                    let ended = self.ended.entry(at(node)).or_default();
                    *ended = since.max(*ended);
                }
            }
        }
    }

    fn check_ended(&mut self, node: usize) {
        let is = &self.nodes[node];
        let has_ended = self
            .ended
            .get(&node)
            .is_some_and(|ended| is.holder.member_since() <= *ended);
        if has_ended && is.is_up && self.is_clock_good(node) && is.holder.holds(is.now(self.real)) {
            let what = format!(
                "node {node} holds a lease that was proved to have ended: {:?}",
                is.holder
            );
            self.findings.add(Invariant::MinorityStops, self.real, what);
        }
    }

    /// How long nothing but changes has happened, and messages have come in time.
    fn fair_for(&self) -> Nanos {
        match self.is_fair {
            true => self.real.since(self.fair_since),
            false => Nanos(0),
        }
    }

    /// A broken clock is found, and no other.
    fn check_clock(&mut self, node: usize) {
        let is = &self.nodes[node];
        let rate = is.holder.clock();
        if !is.is_up {
            return;
        }
        if self.broken != Some(node) {
            if rate == ClockRate::Off {
                let what = format!(
                    "node {node} takes its clock for broken, and it is well: {:?}",
                    is.holder
                );
                self.findings.add(Invariant::Isolation, self.real, what);
            }
            return;
        }
        let Some(broken) = is.clock.broken else { return };
        let soon = Nanos(4 * LEASE_MAX.0);
        // One that started after its clock had jumped has not seen that.
        let has_seen = is.started < broken && self.fair_since < broken;
        if has_seen && self.fair_for() > soon && self.real.since(broken) > soon && rate == ClockRate::Kept {
            let what = format!(
                "node {node} does not find that its clock is broken: {:?}",
                is.clock
            );
            self.findings.add(Invariant::MinorityStops, self.real, what);
        }
    }

    /// Whether every log has the node as one member, and has had it for a while.
    fn note_members(&mut self) {
        for node in 0..self.nodes.len() {
            let id = self.nodes[node].id;
            let is_member = |other: &super::node::Node| {
                let since = other.agreed.members.get(&id);
                let mut later = other.log.entries.iter().skip(other.applied);
                let stays = later.all(|entry| match &entry.1 {
                    Some(MembershipChange::Members { members, .. }) => members.get(&id) == since,
                    _ => true,
                });
                since.is_some() && stays
            };
            if !self.nodes.iter().all(is_member) {
                self.member_since[node] = self.real;
            }
        }
    }

    /// A member that runs, with a majority that answers, keeps its lease.
    fn check_kept(&mut self, node: usize) {
        if node == 0 {
            self.note_members();
        }
        let soon = Nanos(3 * LEASE_MAX.0);
        let is = &self.nodes[node];
        let since = self.member_since[node].max(is.started).max(self.fair_since);
        if self.fair_for() <= soon || self.broken == Some(node) || self.real.since(since) <= soon || !is.is_up
        {
            return;
        }
        self.looked += 1;
        if !is.holder.holds(is.now(self.real)) {
            let what = format!(
                "node {node}, a member, loses its lease though voters answer: {:?}",
                is.holder
            );
            self.findings.add(Invariant::Isolation, self.real, what);
        }
    }
}
