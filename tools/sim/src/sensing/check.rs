//! What must hold of all that nodes propose and say of each other.

use super::{Life, STEP, World};
use crate::finding::Invariant;
use palisade_block::Nanos;
use palisade_membership::{Limp, PeerState};
use palisade_words::Uuid;
use std::collections::BTreeSet;

/// While nothing changes, so many steps lie between two looks at what all propose.
const LOOK_EVERY: u64 = 16;

impl World {
    pub(super) fn check(&mut self) {
        self.check_waits();
        self.check_unharmed();
        if self.real >= self.settled && (self.real.0 / STEP.0).is_multiple_of(LOOK_EVERY) {
            self.check_agreed();
            self.check_states();
        }
    }

    fn runs(&self, node: usize) -> bool {
        self.nodes[node].life == Life::Runs
    }

    /// Whether what one sends comes to the other, over a link that does not come and go.
    fn carries(&self, from: usize, to: usize) -> bool {
        let ends = |link| self.wires.get(&(from, to, link));
        (0..self.links)
            .filter_map(ends)
            .any(|wire| !wire.is_cut && !wire.flaps)
    }

    fn flaps(&self, from: usize, to: usize) -> bool {
        let ends = |link| self.wires.get(&(from, to, link));
        (0..self.links).filter_map(ends).any(|wire| wire.flaps)
    }

    /// Since when it is so.
    fn carried_since(&self, from: usize, to: usize) -> Option<Nanos> {
        let ends = |link| self.wires.get(&(from, to, link));
        let links = (0..self.links)
            .filter_map(ends)
            .filter(|wire| !wire.is_cut && !wire.flaps);
        links.map(|wire| wire.ailed).min()
    }

    /// Who has started or stood still proposes nothing before a lease has passed.
    fn check_waits(&mut self) {
        for node in &self.nodes {
            let passed = self.real.since(node.began);
            if node.waits && passed < self.times.lease && node.proposes.is_some() {
                let what = format!(
                    "node {} proposes {:?} and has only just started",
                    node.id, node.proposes
                );
                self.findings.add(Invariant::MinorityStops, self.real, what);
            }
        }
    }

    /// Nobody is proposed who has heard and was heard by all that run.
    fn check_unharmed(&mut self) {
        let proposed: Vec<(Uuid, Uuid)> = self
            .nodes
            .iter()
            .flat_map(|node| {
                let nodes = node.proposes.iter().flat_map(|evict| evict.nodes.iter());
                nodes.map(|evicted| (node.id, *evicted)).collect::<Vec<_>>()
            })
            .collect();
        // Until what was gone counts again everywhere, and what follows from that.
        let back = Nanos(
            2 * self.times.silent_after().0 + self.times.proposed_within().0 + self.times.ended_after().0,
        );
        for (by, evicted) in proposed {
            let at = (evicted.0 - 1) as usize;
            let is_long_so = |node: usize| self.real.since(self.nodes[node].began) > back;
            let is_well = |other: usize| {
                let since = |from, to| {
                    self.carried_since(from, to)
                        .is_some_and(|since| self.real.since(since) > back)
                };
                other == at || !self.runs(other) || since(at, other) && since(other, at)
            };
            let all_long = (0..self.nodes.len()).all(is_long_so);
            let is_in_sight = (0..self.nodes.len()).all(|node| self.nodes[node].epoch == self.members.epoch);
            if self.runs(at) && all_long && is_in_sight && (0..self.nodes.len()).all(is_well) {
                let what =
                    format!("node {by} proposes to evict {evicted}, which hears all and is heard by all");
                self.findings.add(Invariant::Isolation, self.real, what);
            }
        }
    }

    /// All nodes that a node can hear of, by way of others too.
    fn reached(&self, node: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::from([node]);
        let mut next = vec![node];
        while let Some(to) = next.pop() {
            for from in 0..self.nodes.len() {
                let is_member = |node: usize| self.members.weights.contains_key(&self.nodes[node].id);
                if self.runs(from) && is_member(from) && self.carries(from, to) && reached.insert(from) {
                    next.push(from);
                }
            }
        }
        reached
    }

    /// The best group of some nodes, by looking at all that there are.
    fn best_group(&self, among: &BTreeSet<usize>) -> BTreeSet<usize> {
        let among: Vec<usize> = among.iter().copied().collect();
        let groups = (0u32..1 << among.len()).map(|bits| {
            let has = |(at, node): (usize, &usize)| (bits >> at & 1 == 1).then_some(*node);
            among
                .iter()
                .enumerate()
                .filter_map(has)
                .collect::<BTreeSet<usize>>()
        });
        let all_hear = |group: &BTreeSet<usize>| {
            group
                .iter()
                .all(|a| group.iter().all(|b| a == b || self.carries(*a, *b)))
        };
        let worth = |group: &BTreeSet<usize>| {
            let ids = group.iter().map(|node| self.nodes[*node].id);
            let voters = ids.clone().filter(|id| self.members.voters.contains(*id)).count();
            let weight: u32 = ids.clone().filter_map(|id| self.members.weights.get(&id)).sum();
            let lowest: Vec<bool> = (0..self.nodes.len()).map(|node| group.contains(&node)).collect();
            (voters, weight, group.len(), lowest)
        };
        groups.filter(all_hear).max_by_key(worth).unwrap_or_default()
    }

    /// All who keep a group with a majority propose the same, and it is the right one.
    fn check_agreed(&mut self) {
        let is_known = self
            .nodes
            .iter()
            .all(|node| node.epoch == self.members.epoch || node.life != Life::Runs);
        if !is_known {
            return;
        }
        for node in 0..self.nodes.len() {
            let me = self.nodes[node].id;
            if !self.runs(node) || !self.members.weights.contains_key(&me) {
                continue;
            }
            let group = self.best_group(&self.reached(node));
            let has = |id: Uuid| group.contains(&((id.0 - 1) as usize));
            let others: BTreeSet<Uuid> = self
                .members
                .weights
                .keys()
                .copied()
                .filter(|id| !has(*id))
                .collect();
            let right = has(me) && self.members.voters.has_majority(has) && !others.is_empty();
            let proposed = self.nodes[node]
                .proposes
                .as_ref()
                .map(|evict| evict.nodes.clone());
            let wanted = right.then_some(others);
            self.looked += u64::from(right);
            if proposed != wanted {
                let what = format!(
                    "node {me} proposes {proposed:?} and should {wanted:?}, in {:?}",
                    self.members
                );
                self.findings.add(Invariant::BoundedWaiting, self.real, what);
            }
        }
    }

    /// What nodes say of each other, once nothing has changed for so long that no look of before counts any more.
    fn check_states(&mut self) {
        let long = Nanos(40 * self.times.heartbeat_every().0);
        if self.real.since(self.settled) < long {
            return;
        }
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if from == to || !self.runs(from) || self.flaps(from, to) || self.flaps(to, from) {
                    continue;
                }
                let state = self.nodes[from]
                    .sensor
                    .state(self.nodes[to].id, self.nodes[from].now(self.real));
                if !self.is_right(from, to, &state) {
                    let what = format!("node {from} says of node {to}: {state:?}");
                    self.findings.add(Invariant::Isolation, self.real, what);
                }
            }
        }
    }

    fn is_right(&self, from: usize, to: usize, state: &PeerState) -> bool {
        let is_slow = self.nodes[from].slow.0 + self.nodes[to].slow.0 > 0;
        let cut = |a, b| {
            (0..self.links).filter(move |link| self.wires.get(&(a, b, *link)).is_some_and(|wire| wire.is_cut))
        };
        match (self.runs(to) && self.carries(to, from), self.carries(from, to)) {
            (false, _) => matches!(state, PeerState::Silent { .. }),
            (true, false) => matches!(state, PeerState::OneWay { .. }),
            (true, true) if cut(to, from).count() > 0 => match state {
                PeerState::Limping(Limp::LinksLost(_)) => true,
                // Nothing has ever come over it in this run.
                _ => self.nodes[from].began > Nanos(0) || self.nodes[to].began > Nanos(0),
            },
            (true, true) if is_slow => matches!(state, PeerState::Limping(Limp::Slow { .. })),
            (true, true) if cut(from, to).count() > 0 => true,
            (true, true) => *state == PeerState::Alive,
        }
    }
}
