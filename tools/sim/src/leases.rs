//! Invariant 5: who was evicted has stopped by the time that this is taken for proved, whatever was lost or late, and although
//! clocks differ as much as they may; and who was not evicted goes on, without a leader, while voters answer.
//!
//! Nodes with clocks of their own ask voters for leases while the log goes on: leaders that do not know of each other put entries
//! into it, which are taken away again; members are evicted and taken back, voters change by joint configurations, leases
//! become longer and shorter; voters start again, with their log, or with a copy of it from before; and the clock of one node
//! stops, jumps, or goes at another rate. The log itself is the scenario's, by the rules of Raft ([`log`]). Times
//! in which messages are lost and late take turns with such in which only changes happen, and nobody may lose a
//! lease. Nobody in here knows the time of the world but the checker.

mod check;
mod clock;
mod disturb;
mod log;
mod node;

use crate::finding::{Findings, Invariant};
use crate::rng::{Rng, RunHash};
use clock::NodeClock;
use log::{Entry, Replica};
use node::Node;
use palisade_block::Nanos;
use palisade_membership::{
    AgreedMembership, ClockReading, EndedLeases, LeaseAnswer, LeaseHolder, LeaseQuestion, LeaseTimes,
    LeaseVoter, LogPosition, MembershipChange, VoterSets,
};
use palisade_words::{Epoch, Incarnation, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// Steps in which things go wrong.
const STEPS: u64 = 4000;

/// Leases are never longer, nor shorter.
const LEASE_MAX: Nanos = Nanos::from_millis(200);
const LEASE_MIN: Nanos = Nanos::from_millis(80);

#[derive(Debug)]
enum Message {
    Question { from: usize, to: usize, question: u64 },
    Answer { to: usize, answer: LeaseAnswer },
    Clock { to: usize, reading: ClockReading },
}

struct World {
    rng: Rng,
    hash: RunHash,
    findings: Findings,
    times: LeaseTimes,
    real: Nanos,
    nodes: Vec<Node>,
    /// What the first entries come to.
    first: AgreedMembership,
    /// What was agreed on.
    chosen: Vec<Entry>,
    /// Fewer voters there are not.
    voters_min: usize,
    /// The node whose clock breaks, and when that happened last, or it was mended.
    broken: Option<usize>,
    was_broken: Option<Nanos>,
    /// What is under way, by when it arrives.
    messages: BTreeMap<(Nanos, u64), Message>,
    sent: u64,
    /// When which node's program starts again.
    starts: Vec<(Nanos, usize)>,
    /// When which node has applied that another is evicted.
    evicted: BTreeMap<(Uuid, Uuid), Nanos>,
    /// Nodes whose lease was proved to have ended, and since when they were the members that they were.
    ended: BTreeMap<usize, Epoch>,
    /// Since when each node is a member for all.
    member_since: Vec<Nanos>,
    /// Messages come, and in time, and all nodes reach each other.
    is_fair: bool,
    fair_since: Nanos,
    /// When the next change may happen in such a time.
    rests_until: Nanos,
    /// How often somebody was seen to keep its lease.
    looked: u64,
}

/// Runs one seed.
pub fn run(rng: Rng, findings: &Findings) -> RunHash {
    let mut world = World::new(rng, findings);
    let mut turns = Nanos(0);
    for _ in 0..STEPS {
        if world.real >= turns {
            world.turn(!world.is_fair);
            let most = if world.is_fair { 20 } else { 10 };
            turns = world.real.after(Nanos(world.rng.between(3, most) * LEASE_MAX.0));
        }
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

fn at(node: Uuid) -> usize {
    (node.0 - 1) as usize
}

/// Some of the nodes, so many at least.
fn some(count: usize, least: usize, rng: &mut Rng) -> BTreeSet<Uuid> {
    let mut all: Vec<usize> = (0..count).collect();
    rng.shuffle(&mut all);
    let many = rng.between(least as u64, count as u64) as usize;
    all.into_iter().take(many).map(id).collect()
}

impl World {
    fn new(mut rng: Rng, findings: &Findings) -> World {
        let times = LeaseTimes {
            lease: Nanos(rng.between(LEASE_MIN.0, LEASE_MAX.0)),
            drift_ppm: rng.between(0, 80_000) as u32,
            ..LeaseTimes::default()
        };
        let count = rng.between(3, 6) as usize;
        let broken = rng.one_in(3).then(|| rng.index(count));
        // Two clocks that differ do not tell which of them is broken.
        let voters_min = if broken.is_some() { 3 } else { 1 };
        let position = |index| LogPosition { term: 1, index };
        let first = AgreedMembership {
            epoch: Epoch(1),
            members: (0..count).map(|at| (id(at), Epoch(1))).collect(),
            voters: VoterSets::uniform(position(1), some(count, voters_min, &mut rng)),
            lease: times.lease,
        };
        let members = MembershipChange::Members {
            epoch: first.epoch,
            members: first.members.clone(),
        };
        let voters = MembershipChange::Voters(first.voters.clone());
        let entries: Vec<Entry> = vec![(1, Some(members)), (1, Some(voters))];
        let nodes = (0..count).map(|at| {
            let clock = NodeClock::new(
                rng.below(1 << 40),
                1_000_000 + rng.between(0, times.drift_ppm.into()),
            );
            let (now, boot) = (clock.now(Nanos(0)), Uuid(rng.bits().into()));
            let mut node = Node {
                id: id(at),
                run: Incarnation(0),
                boot,
                clock,
                side: 0,
                is_up: true,
                log: Replica::new(entries.clone(), count),
                agreed: first.clone(),
                applied: entries.len(),
                voter: LeaseVoter::new(id(at), Incarnation(0), boot, first.clone()),
                holder: LeaseHolder::new(times, first.voters.clone(), Epoch(1), 0, now),
                ended: EndedLeases::new(times.lease, times.lease, times.drift_ppm, now),
                started: Nanos(0),
                shows_clock: now,
            };
            node.start(&first, times, Nanos(0), &mut rng);
            node
        });
        World {
            hash: RunHash::default(),
            findings: findings.clone(),
            times,
            real: Nanos(0),
            nodes: nodes.collect(),
            first,
            chosen: entries,
            voters_min,
            broken,
            was_broken: None,
            messages: BTreeMap::new(),
            sent: 0,
            starts: Vec::new(),
            evicted: BTreeMap::new(),
            ended: BTreeMap::new(),
            member_since: vec![Nanos(0); count],
            is_fair: true,
            fair_since: Nanos(0),
            rests_until: Nanos(0),
            looked: 0,
            rng,
        }
    }

    /// Fair times begin or end.
    fn turn(&mut self, is_fair: bool) {
        (self.is_fair, self.fair_since) = (is_fair, self.real);
        if is_fair {
            self.nodes.iter_mut().for_each(|node| node.side = 0);
            self.rests_until = self.real;
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        let (from, to) = (&self.nodes[from], &self.nodes[to]);
        from.is_up && to.is_up && (from.id == to.id || self.is_fair || from.side == to.side)
    }

    fn step(&mut self) {
        let us = match self.is_fair {
            true => self.rng.between(50, LEASE_MIN.0 / 1000 / 40),
            false => self.rng.between(50, 4000),
        };
        self.real = self.real.after(Nanos::from_micros(us));
        self.start_again();
        while let Some(first) = self.messages.first_entry()
            && first.key().0 <= self.real
        {
            let message = first.remove();
            self.arrives(message);
        }
        for from in 0..self.nodes.len() {
            self.ask(from);
        }
        for leader in 0..self.nodes.len() {
            if self.nodes[leader].is_up && self.nodes[leader].log.is_leader {
                self.lead(leader);
            }
        }
        self.check();
    }

    fn start_again(&mut self) {
        let real = self.real;
        for (_, node) in self.starts.extract_if(.., |(when, _)| *when <= real) {
            self.nodes[node].start(&self.first, self.times, real, &mut self.rng);
        }
    }

    fn ask(&mut self, from: usize) {
        let (real, node) = (self.real, &mut self.nodes[from]);
        if !node.is_up {
            return;
        }
        let now = node.now(real);
        if let Some(LeaseQuestion { question, voters }) = node.holder.ask(now) {
            for to in voters.into_iter().map(at) {
                self.send(from, to, Message::Question { from, to, question });
            }
        }
        let node = &mut self.nodes[from];
        if now >= node.shows_clock {
            node.shows_clock = now.after(Nanos(LEASE_MIN.0 / 4));
            let reading = node.reading(real);
            for to in 0..self.nodes.len() {
                self.send(from, to, Message::Clock { to, reading });
            }
        }
    }

    /// A leader sends what there is to some.
    fn lead(&mut self, leader: usize) {
        for to in 0..self.nodes.len() {
            let does = match self.is_fair {
                true => self.rng.one_in(2),
                false => self.rng.one_in(8),
            };
            // Who has no vote any more may hear of it late or never.
            let counts = self.nodes[leader].log.voters().contains(id(to));
            if does && (counts || self.is_fair || self.rng.one_in(4)) {
                let most = if self.is_fair {
                    usize::MAX
                } else {
                    self.rng.between(1, 3) as usize
                };
                self.replicate(leader, to, most);
            }
        }
        self.finish_change(leader);
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if !self.reaches(from, to) || !self.is_fair && self.rng.one_in(5) {
            return;
        }
        let lease_us = self.times.lease.0 / 1000;
        // Now and then as late as can be told.
        let us = match self.rng.below(10) {
            0 if !self.is_fair => self.rng.between(0, 2 * lease_us),
            _ => self.rng.between(10, LEASE_MIN.0 / 1000 / 20),
        };
        self.sent += 1;
        let at = self.real.after(Nanos::from_micros(us));
        self.messages.insert((at, self.sent), message);
    }

    fn arrives(&mut self, message: Message) {
        let (Message::Question { to, .. } | Message::Answer { to, .. } | Message::Clock { to, .. }) = message;
        let now = self.nodes[to].now(self.real);
        if !self.nodes[to].is_up {
            return;
        }
        match message {
            Message::Question { from, question, .. } => {
                let answer = self.nodes[to].voter.ask(id(from), question, now);
                self.hash
                    .add([from as u64, to as u64, u64::from(answer.word.is_ok())]);
                self.send(to, from, Message::Answer { to: from, answer });
            }
            Message::Answer { answer, .. } => self.nodes[to].holder.answered(&answer, now),
            Message::Clock { reading, .. } => self.nodes[to].holder.clock_heard(&reading, now),
        }
    }

    /// The faults stop: members have leases, others have none.
    fn calm(&mut self) {
        self.turn(true);
        self.rests_until = Nanos(u64::MAX);
        let real = self.real;
        if let Some(broken) = self.broken {
            // A whole long time with a clock that is well, and it is trusted again; the machine boots, and it is at once.
            let node = &mut self.nodes[broken];
            node.clock.booted(real, 1 << 33);
            node.boot = Uuid(self.rng.bits().into());
            if node.is_up {
                node.start(&self.first, self.times, real, &mut self.rng);
                node.log.is_leader = false;
            }
            self.broken = None;
            self.was_broken = None;
        }
        let until = self.real.after(Nanos(12 * LEASE_MAX.0));
        while self.real < until && !self.findings.any() {
            self.disturb();
            self.step();
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let last = &self.nodes[self.leader().unwrap_or(0)].agreed.members;
            let is_member = last.contains_key(&node.id);
            let holds = node.holder.holds(node.now(self.real));
            if holds != is_member || !self.is_settled() {
                let what =
                    format!("node {at}: member {is_member}, lease {holds}, long after the faults: {node:?}");
                self.findings.add(Invariant::Heals, self.real, what);
            }
        }
        self.hash.add([self.looked]);
    }
}
