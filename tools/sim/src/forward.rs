//! Disks behind other nodes: two or three nodes, each a reactor of the daemon's engine over the daemon's own sessions, with disks
//! of their own, and guests that use them wherever they lie.
//!
//! Connections are slow, break in the middle of frames, swallow what is sent, turn bits and come twice. Nodes end at any moment,
//! with the power of their disks or without, and what they had submitted lands late. Mappings change and move what they map, or
//! are given up, and nodes hear of it in any order; disks fail, hang, vanish, and answer with a lost way what they carry out
//! later; guests go, with their memory before them.
//!
//! What is checked: one answer to each request (invariant 1); sectors are single copies, whichever node reads and writes them, and
//! what was acknowledged outlives the power of the disk (2, 3); nothing lands after its request has ended (4); a guest hears of no
//! fault but those of its disk and its memory (11); nothing is written to memory of a request that has ended (14); a turn allocates
//! nothing; and when the faults stop, all is answered within a bound, and all books are even (13).

mod control;
mod faults;
mod finale;
mod guests;
mod hands;
mod network;
mod node;

use crate::array::{Array, Disk};
use crate::disk::{Conduct, Medium};
use crate::finding::Findings;
use crate::rng::{Rng, RunHash};
use control::Control;
use guests::{Guest, Registers};
use network::Network;
use node::{Layout, Node, asking};
use palisade_block::mailbox::ReactorCommand;
use palisade_block::{DeviceKind, DeviceLimits, Lease, Nanos};
use palisade_engine::IdlePolicy;
use palisade_port::{SessionPhase, SessionSettings};
use palisade_words::Sectors;
use std::cell::RefCell;
use std::rc::Rc;

/// Steps in which things go wrong.
const STEPS: u64 = 1600;

/// Sectors of a volume: more than one operation takes.
const SECTORS: u64 = 600;

struct World {
    now: Nanos,
    rng: Rng,
    hash: RunHash,
    findings: Findings,
    layout: Layout,
    network: Rc<RefCell<Network>>,
    gone: Rc<RefCell<Vec<Lease>>>,
    nodes: Vec<Node>,
    guests: Vec<Guest>,
    /// Where guests are, on which volumes.
    places: Vec<(usize, usize)>,
    next_guest: usize,
    registers: Registers,
    control: Control,
    depth: usize,
    sectors_max: u64,
    /// Faults are over.
    heals: bool,
}

/// Runs one seed.
pub fn run(mut rng: Rng, findings: &Findings) -> RunHash {
    let layout = layout(&mut rng);
    let volumes = layout.homes.len();
    let network = Rc::default();
    let gone = Rc::default();
    let nodes: Vec<Node> = (0..layout.nodes)
        .map(|number| Node {
            number,
            array: Rc::new(RefCell::new(array(&layout, number, &mut rng, findings))),
            core: None,
            incarnation: 0,
            starts_at: Nanos(0),
        })
        .collect();
    let places = (0..rng.between(2, 4)).map(|at| {
        let volume = rng.index(volumes);
        // The first is never at home.
        let away = (layout.homes[volume] + 1) % layout.nodes;
        (if at == 0 { away } else { rng.index(layout.nodes) }, volume)
    });
    let places: Vec<(usize, usize)> = places.collect();
    let mut world = World {
        now: Nanos(1000),
        hash: RunHash::default(),
        findings: findings.clone(),
        control: Control::new(volumes),
        registers: Registers::new(volumes, SECTORS, findings),
        network,
        gone,
        nodes,
        guests: Vec::new(),
        places,
        next_guest: 0,
        depth: rng.between(1, 6) as usize,
        sectors_max: if rng.one_in(4) { SECTORS } else { 40 },
        heals: false,
        layout,
        rng,
    };
    for _ in 0..STEPS {
        world.fault();
        world.step();
        if findings.any() {
            return world.hash;
        }
    }
    world.finale();
    world.hash
}

fn layout(rng: &mut Rng) -> Layout {
    let nodes = rng.between(2, 3) as usize;
    let (streams, window, links) = (rng.between(1, 3), rng.between(1, 4), rng.between(1, 4));
    let served = streams * window;
    Layout {
        nodes,
        homes: (0..rng.between(1, 3)).map(|_| rng.index(nodes)).collect(),
        sectors: SECTORS,
        settings: SessionSettings {
            links: links as u8,
            streams: streams as u16,
            window: window as u16,
            messages: rng.between(4, 24) as u32,
            ahead_bytes: rng.between(1, 40_000),
            probe_after: Nanos::from_millis(1),
            lost_after: Nanos::from_millis(4),
            again_after: Nanos::from_micros(300),
            down_after: Nanos::from_millis(rng.between(2, 9)),
            answer_within: rng.one_in(4).then_some(Nanos::from_millis(20)),
        },
        asked_buffers: rng.between(1, 8),
        served_buffers: served + links + rng.between(1, 8),
        requests: (served * (2 + links)) as u32,
        io_bytes_max: [4096, 128 << 10][rng.index(2)],
        served_parks: rng.one_in(2),
        idle: match rng.one_in(3) {
            true => IdlePolicy::AlwaysPoll,
            false => IdlePolicy::Adaptive {
                after: Nanos::from_micros(rng.below(60)),
            },
        },
        deadline: Nanos::from_millis(rng.between(8, 30)),
    }
}

fn array(layout: &Layout, node: usize, rng: &mut Rng, findings: &Findings) -> Array {
    let mut array = Array::new(rng.split(&format!("array {node}")), findings.clone());
    for _ in &layout.homes {
        array.disks.push(Disk {
            // Twice as long as a volume, which moves to and fro.
            medium: Medium::new(Sectors(2 * SECTORS), 512),
            limits: DeviceLimits {
                kind: DeviceKind::Block,
                sectors: Sectors(2 * SECTORS),
                block_bytes: 512,
                memory_alignment: 1,
                length_alignment: 1,
                io_bytes_max: 1 << 20,
                discard_granularity: 512,
                discard: true,
                write_zeroes: true,
                read_only: false,
            },
            conduct: Conduct {
                latency_ns: [(1_000, 30_000), (20_000, 300_000)][rng.index(2)],
                ..Conduct::HEALTHY
            },
            zeroes_refused: false,
            synchronous: rng.one_in(6),
            gone: false,
        });
    }
    array
}

impl Drop for World {
    /// Nothing is answered any more.
    fn drop(&mut self) {
        let now = self.now;
        self.nodes.iter_mut().for_each(|node| node.crash(false, now));
    }
}

impl World {
    fn step(&mut self) {
        self.now = self.now.after(Nanos::from_micros(self.rng.between(2, 60)));
        self.starts();
        self.accepts();
        self.decides();
        for number in 0..self.nodes.len() {
            self.hears(number);
            if !self.heals {
                self.asks(number);
            }
            self.nodes[number].array.borrow_mut().advance(self.now);
            let mut notices = Vec::new();
            self.nodes[number].turn(&self.findings, self.now, &mut notices);
            for notice in notices {
                self.told(number, notice);
            }
            self.answers(number);
        }
        let hashes = self.nodes.iter().map(|node| node.array.borrow().hash.0);
        let hash = hashes.fold(0u64, |all, hash| all.rotate_left(7) ^ hash);
        self.hash.add([self.now.0, hash, self.registers.answered]);
    }

    /// Nodes start once what their last run had submitted has landed, and guests once their node is one of the cluster again.
    fn starts(&mut self) {
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            let is_landing = node.array.borrow().is_landing(None);
            if node.core.is_some() || node.starts_at > self.now || is_landing {
                continue;
            }
            // A disk that is not there is not given to it, and this is about others.
            for disk in &mut node.array.borrow_mut().disks {
                disk.gone = false;
            }
            let run = (&self.rng, self.now);
            // It has not heard of a change that is announced, and nobody waits for it.
            self.control.give_up_change();
            let volumes = &self.control.volumes;
            node.start(
                &self.layout,
                volumes,
                &self.network,
                &self.gone,
                &self.findings,
                run,
            );
            // Of guests of its last run nothing is left at its own disks.
            let homes = &self.layout.homes;
            self.registers
                .bury(number, |volume| homes[volume] == number, self.now);
            self.hash.add([number as u64, self.now.0]);
        }
        for (node, volume) in self.places.clone() {
            let is_there = self
                .guests
                .iter()
                .any(|guest| (guest.node, guest.volume) == (node, volume));
            if is_there || self.heals || !self.is_in(node, volume) {
                continue;
            }
            self.registers.bury(node, |other| other == volume, self.now);
            if self.rng.one_in(20) {
                self.comes(node, volume);
            }
        }
    }

    /// Whether nothing of earlier runs of a node is under way at the home of a volume.
    fn is_in(&self, node: usize, volume: usize) -> bool {
        let home = self.layout.homes[volume];
        match home == node {
            true => self.nodes[node].core.is_some(),
            false => {
                let standing = self.nodes[node].standing(asking(home));
                standing.is_some_and(|standing| standing.phase == SessionPhase::Up)
            }
        }
    }

    fn comes(&mut self, node: usize, volume: usize) {
        let number = self.next_guest;
        // Numbers of attachments are few, and used again.
        self.next_guest = (self.next_guest + 1) % 90;
        let home = self.layout.homes[volume];
        let (depth, longest) = (self.depth, self.sectors_max);
        let mut guest = Guest::new(number, (node, volume, home), longest, depth, &self.findings);
        self.nodes[node].array.borrow_mut().memories.learn(&guest.memory);
        if let Some(core) = &mut self.nodes[node].core {
            core.tell(guest.command());
        }
        self.guests.push(guest);
    }

    fn asks(&mut self, number: usize) {
        for at in 0..self.guests.len() {
            if self.guests[at].node != number || !self.rng.one_in(3) {
                continue;
            }
            let living = self
                .guests
                .iter()
                .flat_map(|guest| guest.pending.values().cloned());
            let all: Vec<_> = living
                .chain(self.registers.dead.iter().map(|(_, one)| one.clone()))
                .collect();
            let guest = &mut self.guests[at];
            if guest.ask(&mut self.registers, &all, SECTORS, &mut self.rng)
                && let Some(core) = &mut self.nodes[number].core
            {
                core.is_kicked = true;
            }
        }
    }

    fn answers(&mut self, number: usize) {
        for guest in &mut self.guests {
            if guest.node == number {
                guest.take_answers(&mut self.registers, self.now);
            }
        }
        if let Some(guest) = self.guests.iter().find(|guest| guest.node == number)
            && self.rng.one_in(16)
        {
            guest.look_at_unused(&mut self.registers, self.now);
        }
    }

    /// A guest has gone.
    fn leaves(&mut self, node: usize, number: usize) {
        let is_it = |guest: &Guest| (guest.node, guest.number) == (node, number);
        let Some(at) = self.guests.iter().position(is_it) else {
            return;
        };
        let mut guest = self.guests.remove(at);
        guest.take_answers(&mut self.registers, self.now);
        guest.withdraw(&mut self.registers, self.now);
        guest.look_at_unused(&mut self.registers, self.now);
        if !guest.pending.is_empty() {
            let what = format!("guest {number} has gone with {:?}", guest.pending);
            self.registers
                .find(crate::finding::Invariant::OneAnswer, self.now, what);
        }
        self.nodes[node].array.borrow_mut().forget_memory(&guest.memory);
        self.gone
            .borrow_mut()
            .retain(|lease| !lease.is(guest.memory.lease()));
    }

    /// Tells a guest's node that it goes.
    fn goes(&mut self, at: usize) {
        let guest = &mut self.guests[at];
        if std::mem::replace(&mut guest.is_leaving, true) {
            return;
        }
        let queue = node::queue(guest.number);
        if let Some(core) = &mut self.nodes[guest.node].core {
            core.tell(ReactorCommand::StopQueue { queue });
        }
    }

    fn crash(&mut self, number: usize) {
        let cuts_power = self.rng.one_in(2);
        self.nodes[number].crash(cuts_power, self.now);
        self.nodes[number].starts_at = self.now.after(Nanos::from_micros(self.rng.between(100, 6000)));
        let (dead, living) = std::mem::take(&mut self.guests)
            .into_iter()
            .partition(|guest| guest.node == number);
        self.guests = living;
        let dead: Vec<Guest> = dead;
        for mut guest in dead {
            // What was answered before is in its memory.
            guest.take_answers(&mut self.registers, self.now);
            self.nodes[number]
                .array
                .borrow_mut()
                .memories
                .forget(&guest.memory);
            self.gone
                .borrow_mut()
                .retain(|lease| !lease.is(guest.memory.lease()));
            self.registers.die(guest);
        }
        for volume in 0..self.layout.homes.len() {
            if cuts_power && self.layout.homes[volume] == number {
                self.registers.power_cut(volume, &mut self.guests);
            }
        }
        self.control.forget(number);
    }
}
