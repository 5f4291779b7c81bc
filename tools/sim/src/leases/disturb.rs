//! What goes wrong, and what is to be agreed on.

use super::node::Node;
use super::{LEASE_MAX, LEASE_MIN, World, id, some};
use palisade_block::Nanos;
use palisade_membership::{LeaseTimes, LogPosition, MembershipChange, VoterSets};
use palisade_words::Uuid;

impl World {
    /// Now and then something happens.
    pub(super) fn disturb(&mut self) {
        if self.is_fair {
            self.disturb_fairly();
            return;
        }
        if !self.rng.one_in(12) {
            return;
        }
        let count = self.nodes.len();
        let node = self.rng.index(count);
        match self.rng.below(10) {
            0 => self.nodes[node].side = self.rng.below(3),
            1 => self.nodes.iter_mut().for_each(|node| node.side = 0),
            2 | 3 => self.elect(node),
            4 | 5 => self.change_members(node),
            6 => self.change_voters(),
            7 => self.change_times(),
            8 => self.ends(node),
            _ => self.breaks_clock(),
        }
    }

    /// What must cost nobody else its lease: a change of voters, of members, of times or of the leader, one node that starts.
    fn disturb_fairly(&mut self) {
        if self.leader().is_none() {
            let node = self.rng.index(self.nodes.len());
            self.elect(node);
            return;
        }
        if self.rng.one_in(150) {
            self.breaks_clock();
        }
        if self.real < self.rests_until || !self.is_settled() || !self.rng.one_in(10) {
            return;
        }
        self.rests_until = self.real.after(Nanos(2 * LEASE_MAX.0));
        let node = self.rng.index(self.nodes.len());
        match self.rng.below(6) {
            0 => self.change_members(node),
            1 => self.change_times(),
            2 => self.elect(node),
            3 => self.ends(node),
            _ => self.change_voters(),
        }
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |node: &usize| self.nodes[*node].is_up && self.nodes[*node].log.is_leader;
        let leaders = (0..self.nodes.len()).filter(leads);
        leaders.max_by_key(|node| self.nodes[*node].log.term)
    }

    /// Whether all have all, and have been confirmed.
    pub(super) fn is_settled(&self) -> bool {
        let last = self.nodes[0].log.entries.len();
        self.leader().is_some()
            && self.nodes.iter().all(|node| {
                let voters = node.log.voters();
                node.is_up
                    && node.applied == last
                    && node.log.entries.len() == last
                    && node.voter.is_confirmed()
                    && voters.after().is_none()
            })
    }

    /// A node that takes itself for the leader.
    fn some_leader(&mut self) -> Option<usize> {
        let leads = |node: &usize| self.nodes[*node].is_up && self.nodes[*node].log.is_leader;
        let leaders: Vec<usize> = (0..self.nodes.len()).filter(leads).collect();
        (!leaders.is_empty()).then(|| leaders[self.rng.index(leaders.len())])
    }

    /// A node is to be evicted or taken back.
    fn change_members(&mut self, node: usize) {
        let Some(leader) = self.some_leader() else { return };
        let last = self.nodes[leader]
            .log
            .entries
            .iter()
            .rev()
            .find_map(|entry| match &entry.1 {
                Some(MembershipChange::Members { epoch, members }) => Some((epoch.next(), members.clone())),
                _ => None,
            });
        let Some((epoch, mut members)) = last else { return };
        if members.remove(&id(node)).is_none() {
            members.insert(id(node), epoch);
        }
        self.hash.add([2, leader as u64, node as u64]);
        self.propose(leader, Some(MembershipChange::Members { epoch, members }));
    }

    fn change_times(&mut self) {
        let Some(leader) = self.some_leader() else { return };
        let lease = Nanos(self.rng.between(LEASE_MIN.0, LEASE_MAX.0));
        let times = LeaseTimes { lease, ..self.times };
        self.propose(leader, Some(MembershipChange::Times(times)));
    }

    /// The voters are to change, once the change before is agreed on, and all that are there count.
    fn change_voters(&mut self) {
        let Some(leader) = self.some_leader() else { return };
        if self.nodes.iter().any(|node| node.log.is_suspect) || !self.nodes[leader].log.may_change_voters() {
            return;
        }
        let wanted = some(self.nodes.len(), self.voters_min, &mut self.rng);
        let log = &self.nodes[leader].log;
        if log.voters().after().is_none() {
            let before = log.voters().all();
            let at = LogPosition {
                term: log.term,
                index: log.entries.len() as u64,
            };
            let joint = VoterSets::joint(at, before, wanted);
            self.propose(leader, Some(MembershipChange::Voters(joint)));
        }
    }

    /// A leader ends a change of the voters as soon as the joint one is agreed on (Raft, 6).
    pub(super) fn finish_change(&mut self, leader: usize) {
        let log = &self.nodes[leader].log;
        if let Some(after) = log.voters().after()
            && log.may_change_voters()
        {
            let at = LogPosition {
                term: log.term,
                index: log.entries.len() as u64,
            };
            let after = VoterSets::uniform(at, after.clone());
            self.propose(leader, Some(MembershipChange::Voters(after)));
        }
    }

    /// A node's program ends and starts again, after a while, and perhaps with its machine; now and then its files are put back from a
    /// copy, when the others are enough without it.
    fn ends(&mut self, node: usize) {
        if !self.nodes[node].is_up {
            return;
        }
        let all: Vec<Uuid> = self.nodes.iter().map(|node| node.id).collect();
        let without = |voter: Uuid| voter != all[node];
        let needs = |other: &Node| other.log.all_voters().any(|voters| !voters.has_majority(without));
        let is_needed = self.nodes.iter().any(needs);
        let is_alone = self
            .nodes
            .iter()
            .all(|node| node.is_up && node.voter.is_confirmed());
        if self.is_fair && (is_needed || !is_alone) {
            return;
        }
        let forgets = !self.is_fair
            && !is_needed
            && !self.nodes.iter().any(|node| node.log.is_suspect)
            && self.rng.one_in(2);
        if forgets {
            let log = &mut self.nodes[node].log;
            // The first two entries are in every copy.
            log.entries
                .truncate(self.rng.between(2, log.entries.len() as u64) as usize);
            log.committed = log.committed.min(log.entries.len());
            log.term = log.entries.last().map_or(1, |entry| entry.0);
            log.is_suspect = true;
            self.nodes[node].applied = self.nodes[node].applied.min(self.nodes[node].log.entries.len());
            let matched = self.nodes.iter_mut().map(|other| &mut other.log.matched[node]);
            matched.for_each(|matched| *matched = 0);
        }
        self.hash.add([3, node as u64, u64::from(forgets)]);
        let boots = self.rng.one_in(2);
        let down = self.rng.between(0, LEASE_MAX.0 / 2);
        let node = &mut self.nodes[node];
        (node.is_up, node.log.is_leader) = (false, false);
        if boots {
            node.boot = Uuid(self.rng.bits().into());
            node.clock.booted(self.real, self.rng.below(1 << 32));
        }
        self.starts
            .push((self.real.after(Nanos(down)), (node.id.0 - 1) as usize));
    }

    /// One node of a run may have a clock that breaks.
    fn breaks_clock(&mut self) {
        let Some(node) = self.broken else { return };
        let (real, lease) = (self.real, LEASE_MAX);
        let clock = &mut self.nodes[node].clock;
        match self.rng.one_in(3) {
            true if !clock.goes_well() => clock.mended(real),
            _ => clock.breaks(real, lease, &mut self.rng),
        }
        self.was_broken = Some(real);
    }
}
