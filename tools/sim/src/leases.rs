//! Invariant 5: who was evicted has stopped by the time that this is taken for proved, whatever was lost or late, and although
//! clocks differ as much as they may; and who was not goes on without a leader.
//!
//! Nodes with clocks of their own ask voters for leases while the log goes on: members are evicted and taken back, voters change by
//! joint configurations. The log itself is the scenario's: who has appended what, and from when on an entry is committed, by
//! the rules of Raft. Nobody in here knows the time of the world but the checker.

use crate::finding::{Findings, Invariant};
use crate::rng::{Rng, RunHash};
use palisade_block::Nanos;
use palisade_membership::{LeaseHolder, LeaseQuestion, LeaseTimes, LeaseVoter, LeaseWord, VoterSets};
use palisade_words::{Epoch, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// Steps in which things go wrong.
const STEPS: u64 = 4000;

/// One entry of the log.
#[derive(Clone, Debug)]
enum Entry {
    /// Each member, and since when it is one.
    Members(Epoch, BTreeMap<Uuid, Epoch>),
    Voters(VoterSets),
}

#[derive(Debug)]
struct Node {
    id: Uuid,
    /// Its clock, as it was when the world began, and by how many millionths it is faster than the slowest.
    clock: (u64, u64),
    holder: LeaseHolder,
    voter: LeaseVoter,
    /// Entries that it has.
    appended: usize,
    /// Nothing comes or goes.
    is_cut_off: bool,
}

impl Node {
    fn now(&self, real: Nanos) -> Nanos {
        let drift = u128::from(real.0) * u128::from(self.clock.1) / 1_000_000;
        Nanos(self.clock.0 + real.0 + drift as u64)
    }
}

#[derive(Debug)]
enum Message {
    Question { from: usize, to: usize, question: u64 },
    Word { to: usize, word: LeaseWord },
}

/// An eviction that is committed: whose, and when which node takes its lease for ended, by its own clock.
#[derive(Clone, Copy, Debug)]
struct Proof {
    node: usize,
    by: usize,
    at: Nanos,
}

struct World {
    rng: Rng,
    hash: RunHash,
    findings: Findings,
    times: LeaseTimes,
    real: Nanos,
    nodes: Vec<Node>,
    log: Vec<Entry>,
    committed: usize,
    epoch: Epoch,
    /// What is under way, by when it arrives.
    messages: BTreeMap<(Nanos, u64), Message>,
    sent: u64,
    proofs: Vec<Proof>,
    /// Nodes whose lease was proved to have ended, and that were not taken back.
    ended: BTreeSet<usize>,
    is_calm: bool,
}

/// Runs one seed.
pub fn run(mut rng: Rng, findings: &Findings) -> RunHash {
    let times = LeaseTimes {
        lease: Nanos::from_millis(rng.between(50, 600)),
        drift_ppm: rng.between(0, 80_000) as u32,
        ..LeaseTimes::default()
    };
    let count = rng.between(3, 6) as usize;
    let all: BTreeMap<Uuid, Epoch> = (0..count).map(|at| (id(at), Epoch(1))).collect();
    let voters = some(count, &mut rng);
    let log = vec![
        Entry::Members(Epoch(1), all.clone()),
        Entry::Voters(VoterSets::uniform(1, voters.clone())),
    ];
    let nodes = (0..count).map(|at| {
        let clock = (rng.below(1 << 40), rng.between(0, times.drift_ppm.into()));
        let sets = VoterSets::uniform(1, voters.clone());
        Node {
            id: id(at),
            clock,
            holder: LeaseHolder::new(times, sets.clone(), Epoch(1), rng.bits(), Nanos(clock.0)),
            voter: LeaseVoter::new(id(at), Epoch(1), all.clone(), sets),
            appended: log.len(),
            is_cut_off: false,
        }
    });
    let nodes = nodes.collect();
    let mut world = World {
        hash: RunHash::default(),
        findings: findings.clone(),
        times,
        real: Nanos(0),
        nodes,
        committed: log.len(),
        log,
        epoch: Epoch(1),
        messages: BTreeMap::new(),
        sent: 0,
        proofs: Vec::new(),
        ended: BTreeSet::new(),
        is_calm: false,
        rng,
    };
    for _ in 0..STEPS {
        world.disturb();
        world.step();
        if findings.any() {
            return world.hash;
        }
    }
    world.calm();
    world.hash
}

fn id(at: usize) -> Uuid {
    Uuid(at as u128 + 1)
}

/// One to all of the nodes.
fn some(count: usize, rng: &mut Rng) -> BTreeSet<Uuid> {
    let mut all: Vec<usize> = (0..count).collect();
    rng.shuffle(&mut all);
    let many = rng.between(1, count as u64) as usize;
    all.into_iter().take(many).map(id).collect()
}

impl World {
    fn step(&mut self) {
        self.real = self.real.after(Nanos::from_micros(self.rng.between(50, 4000)));
        while let Some(first) = self.messages.first_entry()
            && first.key().0 <= self.real
        {
            let message = first.remove();
            self.arrives(message);
        }
        for from in 0..self.nodes.len() {
            let now = self.nodes[from].now(self.real);
            if let Some(question) = self.nodes[from].holder.ask(now) {
                self.asks(from, &question);
            }
        }
        self.replicate();
        self.prove();
        self.check();
    }

    fn asks(&mut self, from: usize, question: &LeaseQuestion) {
        for voter in &question.voters {
            let to = (voter.0 - 1) as usize;
            let question = question.question;
            self.send(from, to, Message::Question { from, to, question });
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let is_cut = from != to && (self.nodes[from].is_cut_off || self.nodes[to].is_cut_off);
        if !self.is_calm && (is_cut || self.rng.one_in(5)) {
            return;
        }
        let lease_us = self.times.lease.0 / 1000;
        // Now and then as late as can be told.
        let us = match self.rng.below(10) {
            0 if !self.is_calm => self.rng.between(0, 2 * lease_us),
            _ => self.rng.between(10, lease_us / 20),
        };
        self.sent += 1;
        let at = self.real.after(Nanos::from_micros(us));
        self.messages.insert((at, self.sent), message);
    }

    fn arrives(&mut self, message: Message) {
        match message {
            Message::Question { from, to, question } => {
                let node = &self.nodes[to];
                let answer = node.voter.ask(self.nodes[from].id, question, node.now(self.real));
                self.hash.add([from as u64, to as u64, u64::from(answer.is_ok())]);
                if let Ok(word) = answer {
                    self.send(to, from, Message::Word { to: from, word });
                }
            }
            Message::Word { to, word } => {
                let now = self.nodes[to].now(self.real);
                self.nodes[to].holder.given(&word, now);
            }
        }
    }

    /// The voters that count for an entry.
    fn voters_at(&self, index: usize) -> &VoterSets {
        let voters = |entry: &Entry| matches!(entry, Entry::Voters(_));
        let at = self.log[..=index].iter().rposition(voters).unwrap_or(0);
        match &self.log[at] {
            Entry::Voters(sets) => sets,
            Entry::Members(..) => unreachable!("the log begins with voters"),
        }
    }

    /// Entries come to nodes, in order; a majority commits them.
    fn replicate(&mut self) {
        let current = self.voters_at(self.log.len() - 1).all();
        for node in &mut self.nodes {
            let hears = self.is_calm || !node.is_cut_off && self.rng.one_in(6);
            // Who has no vote any more may hear of it late or never.
            if !hears || !(current.contains(&node.id) || self.is_calm || self.rng.one_in(20)) {
                continue;
            }
            let Some(entry) = self.log.get(node.appended) else {
                continue;
            };
            node.appended += 1;
            match entry {
                Entry::Members(epoch, members) => {
                    node.voter.members_are(*epoch, members.clone());
                    if let Some(since) = members.get(&node.id) {
                        node.holder.member_since_is(*since);
                    }
                }
                Entry::Voters(sets) => {
                    node.voter.voters_are(sets.clone());
                    node.holder.voters_are(sets.clone());
                }
            }
        }
        while self.committed < self.log.len() {
            let has = |voter: Uuid| self.nodes[(voter.0 - 1) as usize].appended > self.committed;
            if !self.voters_at(self.committed).has_majority(has) {
                break;
            }
            let entry = self.log[self.committed].clone();
            self.committed += 1;
            self.is_committed(&entry);
        }
    }

    /// Somebody sees that an entry is committed, and counts from then.
    fn is_committed(&mut self, entry: &Entry) {
        match entry {
            Entry::Voters(_) => {}
            Entry::Members(_, members) => {
                for node in 0..self.nodes.len() {
                    if members.contains_key(&id(node)) {
                        self.ended.remove(&node);
                        self.proofs.retain(|proof| proof.node != node);
                    } else if !self.ended.contains(&node)
                        && self.proofs.iter().all(|proof| proof.node != node)
                    {
                        let by = self.rng.index(self.nodes.len());
                        let at = self.nodes[by].now(self.real).after(self.times.ended_after());
                        self.proofs.push(Proof { node, by, at });
                    }
                }
            }
        }
    }

    fn prove(&mut self) {
        let (nodes, real) = (&self.nodes, self.real);
        let is_due = |proof: &Proof| nodes[proof.by].now(real) >= proof.at;
        let (due, later): (Vec<Proof>, Vec<Proof>) = self.proofs.iter().copied().partition(is_due);
        self.proofs = later;
        self.ended.extend(due.iter().map(|proof| proof.node));
    }

    fn check(&mut self) {
        for &node in &self.ended {
            let at = &self.nodes[node];
            if at.holder.holds(at.now(self.real)) {
                let what = format!(
                    "node {node} holds a lease that was proved to have ended: {:?}",
                    at.holder
                );
                self.findings.add(Invariant::MinorityStops, self.real, what);
            }
        }
    }

    /// Something happens to a node, or is to be agreed on.
    fn disturb(&mut self) {
        if !self.rng.one_in(25) {
            return;
        }
        let count = self.nodes.len();
        let node = self.rng.index(count);
        match self.rng.below(4) {
            0 => self.nodes[node].is_cut_off = self.rng.one_in(2),
            1 | 2 => self.change_members(node),
            _ => {
                let wanted = some(count, &mut self.rng);
                self.change_voters(wanted);
            }
        }
    }

    /// A node is evicted or taken back.
    fn change_members(&mut self, node: usize) {
        let members = |entry: &Entry| match entry {
            Entry::Members(_, members) => Some(members.clone()),
            Entry::Voters(_) => None,
        };
        let mut now = self.log.iter().rev().find_map(members).unwrap_or_default();
        self.epoch = self.epoch.next();
        if now.remove(&id(node)).is_none() {
            now.insert(id(node), self.epoch);
        }
        self.log.push(Entry::Members(self.epoch, now));
    }

    /// The next step of a change of voters, once the one before is agreed on.
    fn change_voters(&mut self, wanted: BTreeSet<Uuid>) {
        if self.committed < self.log.len() {
            return;
        }
        let index = self.log.len() as u64;
        let now = self.voters_at(self.log.len() - 1).clone();
        let next = match now.after() {
            Some(after) => VoterSets::uniform(index, after.clone()),
            None => VoterSets::joint(index, now.all(), wanted),
        };
        self.log.push(Entry::Voters(next));
    }

    /// The faults stop: members have leases, others have none.
    fn calm(&mut self) {
        self.is_calm = true;
        let until = self
            .real
            .after(Nanos(4 * self.times.lease.0 + self.times.ended_after().0));
        while self.real < until {
            self.step();
        }
        let last = self.log.iter().rev().find_map(|entry| match entry {
            Entry::Members(_, members) => Some(members),
            Entry::Voters(_) => None,
        });
        for (at, node) in self.nodes.iter().enumerate() {
            let is_member = last.is_some_and(|members| members.contains_key(&node.id));
            let holds = node.holder.holds(node.now(self.real));
            if holds != is_member {
                let what =
                    format!("node {at}: member {is_member}, lease {holds}, long after the faults: {node:?}");
                self.findings.add(Invariant::MinorityStops, self.real, what);
            }
        }
    }
}
