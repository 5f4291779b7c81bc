//! Who is there, as the nodes judge it by heartbeats (issue 10, "Sensing" and rule 11), while links are cut one way or both, drop, flap;
//! while programs die, start, stand still and are slow.
//!
//! The checker knows who can hear whom. When nothing has changed for as long as the bound says, all who are in the best group propose the
//! same: that all others be evicted; and nobody else proposes anything. At no time is anybody proposed who has heard and was heard
//! by all that run, over one link at least. Who has started or stood still waits a lease before it proposes.

mod check;
mod disturb;

use crate::finding::{Findings, Invariant};
use crate::rng::{Rng, RunHash};
use palisade_block::Nanos;
use palisade_membership::{Evict, LeaseTimes, LogPosition, SensedMembers, Sensor, SensorIdentity, VoterSets};
use palisade_wire::Heartbeat;
use palisade_words::{Epoch, Incarnation, LinkIndex, Uuid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long a run is.
const LENGTH: Nanos = Nanos::from_secs(16);

/// Heartbeats take so long at most, when nothing is slow.
const DELAY_MAX: Nanos = Nanos::from_millis(4);

/// The time between two looks.
const STEP: Nanos = Nanos::from_millis(4);

/// What a program does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Runs,
    /// It was stopped, and goes on where it was.
    Stopped,
    Dead,
}

#[derive(Debug)]
struct Node {
    id: Uuid,
    incarnation: Incarnation,
    boot: Uuid,
    /// What its clock shows beyond the world's, and by how many millionths it is faster.
    clock: (u64, u64),
    life: Life,
    /// When its program started, went on, was stopped or died.
    began: Nanos,
    /// It has started, or stood still for so long that it has to wait before it proposes.
    waits: bool,
    /// So much later does everything leave it and come to it.
    slow: Nanos,
    sensor: Sensor,
    /// The membership that it knows.
    epoch: Epoch,
    /// What has come and was not taken yet.
    inbox: VecDeque<Heartbeat>,
    proposes: Option<Evict>,
}

impl Node {
    fn now(&self, real: Nanos) -> Nanos {
        let drift = u128::from(real.0) * u128::from(self.clock.1) / 1_000_000;
        Nanos(self.clock.0 + real.0 + drift as u64)
    }
}

/// One direction of one link.
#[derive(Clone, Copy, Debug)]
struct Wire {
    is_cut: bool,
    /// It is cut and heals again and again.
    flaps: bool,
    /// When it was not well last.
    ailed: Nanos,
}

struct World {
    rng: Rng,
    hash: RunHash,
    findings: Findings,
    times: LeaseTimes,
    real: Nanos,
    nodes: Vec<Node>,
    links: u8,
    /// From, to, link.
    wires: BTreeMap<(usize, usize, u8), Wire>,
    members: SensedMembers,
    /// By when each membership was agreed on.
    memberships: BTreeMap<Epoch, SensedMembers>,
    on_way: BTreeMap<(Nanos, u64), (usize, Heartbeat)>,
    sent: u64,
    /// Until then all know what has happened.
    settled: Nanos,
    next_change: Nanos,
    next_flap: Nanos,
    /// How often a proposal was seen to be the right one.
    looked: u64,
}

/// Runs one seed.
pub fn run(rng: Rng, findings: &Findings) -> RunHash {
    let mut world = World::new(rng, findings);
    while world.real < LENGTH && !findings.any() {
        world.real = world.real.after(STEP);
        world.disturb();
        world.deliver();
        for node in 0..world.nodes.len() {
            world.turn(node);
        }
        world.check();
    }
    world.hash.add([world.looked, world.sent]);
    world.hash
}

impl World {
    fn new(mut rng: Rng, findings: &Findings) -> World {
        let times = LeaseTimes {
            detection: Nanos::from_millis(rng.between(600, 900)),
            lease: Nanos::from_millis(rng.between(300, 600)),
            ..LeaseTimes::default()
        };
        let count = rng.between(3, 9) as usize;
        let ids: Vec<Uuid> = (1..=count as u128).map(Uuid).collect();
        let voters: BTreeSet<Uuid> = match rng.one_in(2) {
            true => ids.iter().copied().collect(),
            false => ids
                .iter()
                .copied()
                .filter(|id| id.0 <= 3 || rng.one_in(2))
                .collect(),
        };
        let at = LogPosition { term: 1, index: 1 };
        let members = SensedMembers {
            epoch: Epoch(1),
            weights: ids.iter().map(|id| (*id, rng.between(1, 2) as u32)).collect(),
            voters: VoterSets::uniform(at, voters),
        };
        let links = rng.between(1, 2) as u8;
        let well = Wire {
            is_cut: false,
            flaps: false,
            ailed: Nanos(0),
        };
        let wires = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let wires = wires.filter(|(from, to)| from != to);
        let wires = wires.flat_map(|(from, to)| (0..links).map(move |link| ((from, to, link), well)));
        let nodes = ids.iter().map(|id| {
            let clock = (rng.below(1 << 40), rng.below(1000));
            let me = SensorIdentity {
                node: *id,
                incarnation: Incarnation(1),
                boot: Uuid(rng.bits().into()),
                nonce: rng.bits(),
            };
            Node {
                id: *id,
                incarnation: me.incarnation,
                boot: me.boot,
                clock,
                life: Life::Runs,
                began: Nanos(0),
                waits: true,
                slow: Nanos(0),
                sensor: Sensor::new(me, times, members.clone(), Nanos(clock.0)),
                epoch: Epoch(1),
                inbox: VecDeque::new(),
                proposes: None,
            }
        });
        World {
            hash: RunHash::default(),
            findings: findings.clone(),
            times,
            real: Nanos(0),
            nodes: nodes.collect(),
            links,
            wires: wires.collect(),
            memberships: [(Epoch(1), members.clone())].into(),
            members,
            on_way: BTreeMap::new(),
            sent: 0,
            settled: Nanos::from_secs(2),
            next_change: Nanos::from_secs(1),
            next_flap: Nanos(0),
            looked: 0,
            rng,
        }
    }

    fn deliver(&mut self) {
        while let Some(first) = self.on_way.first_entry()
            && first.key().0 <= self.real
        {
            let (to, heartbeat) = first.remove();
            let node = &mut self.nodes[to];
            match node.life {
                Life::Runs => node.inbox.push_back(heartbeat),
                // A socket holds a few, and drops the rest.
                Life::Stopped if node.inbox.len() < 100 => node.inbox.push_back(heartbeat),
                Life::Stopped | Life::Dead => {}
            }
        }
    }

    /// What a program does when it is its turn.
    fn turn(&mut self, at: usize) {
        let real = self.real;
        let node = &mut self.nodes[at];
        if node.life != Life::Runs {
            return;
        }
        let now = node.now(real);
        if let Some(latest) = self.memberships.get(&node.epoch) {
            node.sensor.members_are(latest.clone());
        }
        while let Some(heartbeat) = node.inbox.pop_front() {
            let heard = node.sensor.heard(&heartbeat, now);
            self.hash
                .add([at as u64, heartbeat.sequence, u64::from(heard.is_ok())]);
        }
        node.proposes = node.sensor.proposal(now);
        if node.sensor.beats(now) {
            for to in (0..self.nodes.len()).filter(|to| *to != at) {
                for link in 0..self.links {
                    self.send(at, to, link, now);
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, link: u8, now: Nanos) {
        let heartbeat = self.nodes[from]
            .sensor
            .heartbeat(self.nodes[to].id, LinkIndex(link), now);
        self.sent += 1;
        if self.wires.get(&(from, to, link)).is_none_or(|wire| wire.is_cut) {
            return;
        }
        let delay = Nanos::from_micros(self.rng.between(20, DELAY_MAX.0 / 1000));
        let slow = self.nodes[from].slow.after(self.nodes[to].slow);
        let at = self.real.after(delay).after(slow);
        // Now and then through its bytes, as it would go.
        let heartbeat = match self.rng.one_in(8) {
            true => Heartbeat::decode(&heartbeat.encode()),
            false => Ok(heartbeat),
        };
        match heartbeat {
            Ok(heartbeat) => {
                self.on_way.insert((at, self.sent), (to, heartbeat));
            }
            Err(error) => self
                .findings
                .add(Invariant::ForeignBytes, self.real, error.to_string()),
        }
    }
}
