//! What goes wrong, and how it ends.

use super::World;
use super::node::{asking, serving};
use crate::frames::turn_bit;
use palisade_block::{Fault, Nanos};
use palisade_forward::PeerOrder;

impl World {
    /// Something goes wrong now and then.
    pub(super) fn fault(&mut self) {
        if !self.rng.one_in(40) {
            return;
        }
        match self.rng.below(20) {
            0..9 => self.fault_of_wire(),
            9 | 10 => self.silence(),
            11..15 => self.fault_of_disk(),
            15 => {
                let node = self.rng.index(self.nodes.len());
                if self.nodes[node].core.is_some() {
                    self.crash(node);
                }
            }
            16 => self.give_back(),
            17 | 18 if !self.guests.is_empty() => {
                let at = self.rng.index(self.guests.len());
                if self.rng.one_in(2) {
                    let guest = &mut self.guests[at];
                    guest.is_gone = true;
                    self.gone.borrow_mut().push(guest.memory.lease().clone());
                }
                self.goes(at);
            }
            _ => {}
        }
    }

    fn fault_of_wire(&mut self) {
        let (now, rng) = (self.now, &mut self.rng);
        let mut network = self.network.borrow_mut();
        let live: Vec<usize> = (0..network.wires.len())
            .filter(|&at| network.wires[at].is_held != [false, false])
            .collect();
        let Some(&at) = live.get(rng.index(live.len())) else {
            return;
        };
        let wire = &mut network.wires[at];
        match rng.below(7) {
            0..3 => wire.break_off(now, rng),
            3 => wire.to[rng.index(2)].is_black_hole = true,
            // Its receiver is slow.
            4 => wire.nanos_per_byte = rng.between(10, 60),
            _ => turn_bit(&mut wire.to[rng.index(2)].frames, rng),
        }
    }

    /// All links between two nodes at once, of which nobody hears.
    fn silence(&mut self) {
        let one = self.rng.index(self.nodes.len());
        for wire in &mut self.network.borrow_mut().wires {
            if wire.nodes.contains(&one) {
                wire.to.iter_mut().for_each(|way| way.is_black_hole = true);
            }
        }
    }

    fn fault_of_disk(&mut self) {
        let volume = self.rng.index(self.layout.homes.len());
        let mut array = self.nodes[self.layout.homes[volume]].array.borrow_mut();
        let rng = &mut self.rng;
        let Some(disk) = array.disks.get_mut(volume) else {
            return;
        };
        match rng.below(10) {
            0 => disk.gone = true,
            1 => {
                disk.conduct.hangs = true;
                disk.conduct.cancellable = rng.one_in(2);
            }
            2 => {
                disk.conduct.fail_permille = rng.between(20, 400);
                disk.conduct.fault = [Fault::Media, Fault::Unreachable, Fault::NoSpace][rng.index(3)];
                let is_for_good = disk.conduct.fault != Fault::Unreachable;
                self.registers.has_failed[volume] |= is_for_good;
            }
            3..7 => disk.conduct.late_permille = rng.between(50, 400),
            7 => disk.conduct.busy_permille = 200,
            _ => {
                disk.conduct = disk.conduct.healed();
                disk.gone = false;
                array.resume_hung();
            }
        }
    }

    /// Somebody gives another node up, who may be right or not.
    fn give_back(&mut self) {
        let node = self.rng.index(self.nodes.len());
        let peers: Vec<usize> = self.layout.peers(node).collect();
        let peer = peers[self.rng.index(peers.len())];
        let session = match self.rng.below(4) {
            0 => serving(peer),
            _ => asking(peer),
        };
        self.order(node, PeerOrder::GiveBack { session });
    }

    /// All is well again.
    pub(super) fn end_faults(&mut self) {
        for node in &mut self.nodes {
            node.starts_at = Nanos(0);
            let mut array = node.array.borrow_mut();
            for disk in &mut array.disks {
                disk.conduct = disk.conduct.healed();
                disk.gone = false;
            }
            array.resume_hung();
        }
        for wire in &mut self.network.borrow_mut().wires {
            wire.nanos_per_byte = wire.nanos_per_byte.min(12);
        }
    }
}
