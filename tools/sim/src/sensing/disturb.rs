//! What happens to nodes and links.

use super::{DELAY_MAX, Life, Node, Wire, World};
use palisade_block::Nanos;
use palisade_membership::{SensedMembers, Sensor, SensorIdentity};
use palisade_words::Uuid;
use std::collections::VecDeque;

impl World {
    pub(super) fn disturb(&mut self) {
        self.flap();
        self.spread_membership();
        if self.real < self.next_change {
            return;
        }
        let ms = match self.rng.below(4) {
            0 => self.rng.between(50, 600),
            _ => self.rng.between(1500, 4000),
        };
        self.next_change = self.real.after(Nanos::from_millis(ms));
        let node = self.rng.index(self.nodes.len());
        let other = self.rng.index(self.nodes.len());
        self.hash.add([7, node as u64, other as u64]);
        match self.rng.below(12) {
            0 => self.cut(node, other, true),
            1 => {
                self.cut(node, other, true);
                self.cut(other, node, true);
            }
            2 => self.partition(),
            3 => (0..self.nodes.len()).for_each(|to| self.cut(node, to, true)),
            4 => self.one_link(node, other, |wire| wire.is_cut = true),
            5 => self.one_link(node, other, |wire| wire.flaps = true),
            6 => self.stops(node),
            7 => self.dies(node),
            8 => self.slows(node),
            9 => self.decides(),
            _ => self.heals(),
        }
    }

    /// All know of what has happened so much later, and of more than that when somebody was away.
    fn changed(&mut self, is_for_the_worse: bool) {
        let slowest = self.nodes.iter().map(|node| node.slow.0).max().unwrap_or(0);
        let on_way = 3 * (DELAY_MAX.0 + 2 * slowest);
        let mut by = self.times.proposed_within().0 + on_way;
        if !is_for_the_worse {
            by += self.times.ended_after().0 + self.times.silent_after().0;
        }
        self.settled = self.settled.max(self.real.after(Nanos(by)));
    }

    fn cut(&mut self, from: usize, to: usize, is_cut: bool) {
        for link in 0..self.links {
            if let Some(wire) = self.wires.get_mut(&(from, to, link)) {
                (wire.is_cut, wire.flaps, wire.ailed) = (is_cut, false, self.real);
            }
        }
        self.changed(true);
    }

    /// Two or three sides that do not hear each other.
    fn partition(&mut self) {
        let sides: Vec<u64> = self.nodes.iter().map(|_| self.rng.below(3)).collect();
        for (from, a) in sides.iter().enumerate() {
            for (to, b) in sides.iter().enumerate() {
                if a != b {
                    self.cut(from, to, true);
                }
            }
        }
    }

    /// One of several links, both ways, while another one is well: who hears over nothing but a link that flaps may be taken for
    /// both.
    fn one_link(&mut self, a: usize, b: usize, change: impl Fn(&mut Wire)) {
        let link = self.rng.below(self.links.into()) as u8;
        let is_well = |link: u8| {
            let well = |wire: &Wire| !wire.is_cut && !wire.flaps;
            [(a, b, link), (b, a, link)]
                .iter()
                .all(|ends| self.wires.get(ends).is_some_and(well))
        };
        if !(0..self.links).any(|other| other != link && is_well(other)) {
            return;
        }
        for ends in [(a, b, link), (b, a, link)] {
            if let Some(wire) = self.wires.get_mut(&ends) {
                change(wire);
                wire.ailed = self.real;
            }
        }
        self.changed(true);
    }

    fn flap(&mut self) {
        if self.real < self.next_flap {
            return;
        }
        let ms = self.rng.between(20, 900);
        self.next_flap = self.real.after(Nanos::from_millis(ms));
        for wire in self.wires.values_mut().filter(|wire| wire.flaps) {
            (wire.is_cut, wire.ailed) = (!wire.is_cut, self.real);
        }
    }

    /// SIGSTOP, or SIGCONT.
    fn stops(&mut self, node: usize) {
        let real = self.real;
        let is = &mut self.nodes[node];
        match is.life {
            Life::Runs => {
                (is.life, is.began, is.proposes) = (Life::Stopped, real, None);
                self.changed(true);
            }
            Life::Stopped => {
                // One that stood still for less has missed nothing that counts.
                is.waits = real.since(is.began).0 > self.times.silent_after().0 / 2;
                (is.life, is.began) = (Life::Runs, real);
                self.changed(false);
            }
            Life::Dead => {}
        }
    }

    /// kill -9, or a start.
    fn dies(&mut self, node: usize) {
        if self.nodes[node].life == Life::Dead {
            self.starts(node);
            self.changed(false);
        } else {
            let is = &mut self.nodes[node];
            (is.life, is.began, is.proposes) = (Life::Dead, self.real, None);
            is.inbox = VecDeque::new();
            self.changed(true);
        }
    }

    fn starts(&mut self, node: usize) {
        let (real, nonce) = (self.real, self.rng.bits());
        let boots = self.rng.one_in(2).then(|| Uuid(self.rng.bits().into()));
        let is: &mut Node = &mut self.nodes[node];
        is.incarnation.0 += 1;
        is.boot = boots.unwrap_or(is.boot);
        (is.life, is.began, is.waits) = (Life::Runs, real, true);
        let me = SensorIdentity {
            node: is.id,
            incarnation: is.incarnation,
            boot: is.boot,
            nonce,
        };
        let members = self.memberships.get(&is.epoch).unwrap_or(&self.members);
        is.sensor = Sensor::new(me, self.times, members.clone(), is.now(real));
    }

    /// Everything takes longer, and not too long to be there.
    fn slows(&mut self, node: usize) {
        let every = self.times.heartbeat_every().0;
        let slow = match self.nodes[node].slow {
            Nanos(0) if self.nodes.iter().all(|node| node.slow == Nanos(0)) => {
                self.rng.between(every * 2 / 3, every)
            }
            _ => 0,
        };
        self.nodes[node].slow = Nanos(slow);
        self.changed(false);
    }

    fn heals(&mut self) {
        for node in 0..self.nodes.len() {
            match self.nodes[node].life {
                Life::Stopped => self.stops(node),
                Life::Dead => self.dies(node),
                Life::Runs => {}
            }
        }
        for wire in self.wires.values_mut() {
            if wire.is_cut || wire.flaps {
                (wire.is_cut, wire.flaps, wire.ailed) = (false, false, self.real);
            }
        }
        self.changed(false);
    }

    /// What is proposed is agreed on; or, when nothing is, all are taken back.
    fn decides(&mut self) {
        let proposed = self.nodes.iter().find_map(|node| node.proposes.clone());
        let mut members: SensedMembers = self.members.clone();
        members.epoch = members.epoch.next();
        match proposed {
            Some(evict) if evict.epoch == self.members.epoch => {
                members.weights.retain(|node, _| !evict.nodes.contains(node));
            }
            _ => {
                for node in &self.nodes {
                    members.weights.entry(node.id).or_insert(1);
                }
            }
        }
        self.memberships.insert(members.epoch, members.clone());
        self.members = members;
        self.changed(false);
    }

    /// The membership comes to who runs, from who has it, later or sooner.
    fn spread_membership(&mut self) {
        let latest = self.members.epoch;
        for at in 0..self.nodes.len() {
            let is = &self.nodes[at];
            if is.epoch < latest && is.life == Life::Runs && self.rng.one_in(8) {
                self.nodes[at].epoch = latest;
                self.changed(false);
            }
        }
    }
}
