//! The faults are over: all is answered within a bound, sessions end in good order, books are even, and what was acknowledged is
//! on the disks when their power is cut.

use super::World;
use super::node::{asking, serving};
use crate::finding::Invariant;
use palisade_block::Nanos;
use palisade_forward::PeerOrder;
use palisade_words::{Lba, Sectors};

/// After the last fault everything is answered within so long of simulated time: links are found lost and made anew, sessions go
/// down and come up, operations that hang are found, and what lands late has landed.
const HEALED_WITHIN: Nanos = Nanos::from_millis(200);

impl World {
    pub(super) fn finale(&mut self) {
        self.end_faults();
        self.heals = true;
        if !self.lasts_until("heals", |world| {
            let is_idle = world
                .guests
                .iter()
                .all(|guest| guest.is_leaving || guest.pending.is_empty());
            let is_up = world.nodes.iter().all(|node| node.core.is_some());
            is_idle && is_up && world.control.is_at_rest() && !world.control.has_parked()
        }) {
            return;
        }
        (0..self.guests.len()).for_each(|at| self.goes(at));
        if !self.lasts_until("lets its guests go", |world| world.guests.is_empty()) {
            return;
        }
        if !self.lasts_until("comes up", |world| world.are_all_up()) {
            return;
        }
        self.end_sessions();
        self.look_at_disks();
    }

    /// Steps until something is so; false when it does not come to that in time.
    fn lasts_until(&mut self, what: &str, is_so: impl Fn(&World) -> bool) -> bool {
        let until = self.now.after(HEALED_WITHIN);
        while !is_so(self) {
            self.step();
            if self.findings.any() {
                return false;
            }
            if self.now > until {
                let words = self.in_words();
                self.findings.add(
                    Invariant::Heals,
                    self.now,
                    format!("nothing of it {what}: {words}"),
                );
                return false;
            }
        }
        true
    }

    fn are_all_up(&self) -> bool {
        self.nodes.iter().all(|node| {
            self.layout.peers(node.number).all(|peer| {
                let sessions = [asking(peer), serving(peer)];
                sessions.iter().all(|session| {
                    let standing = node.standing(*session);
                    standing.is_some_and(|standing| standing.is_at_rest())
                })
            })
        })
    }

    fn end_sessions(&mut self) {
        for at in [asking as fn(usize) -> _, serving] {
            self.control.ended = 0;
            let mut count = 0;
            for node in 0..self.nodes.len() {
                for peer in self.layout.peers(node) {
                    self.order(node, PeerOrder::End { session: at(peer) });
                    count += 1;
                }
            }
            if !self.lasts_until("ends", |world| world.control.ended == count) {
                return;
            }
        }
    }

    fn look_at_disks(&mut self) {
        for (volume, home) in self.layout.homes.clone().into_iter().enumerate() {
            let mut array = self.nodes[home].array.borrow_mut();
            if volume
                == self
                    .layout
                    .homes
                    .iter()
                    .position(|other| *other == home)
                    .unwrap_or(volume)
            {
                array.power_cut();
            }
            let begin = Lba(self.control.volumes[volume].at);
            let data = array.disks[volume]
                .medium
                .read(begin, Sectors(super::SECTORS))
                .to_vec();
            drop(array);
            self.registers.power_cut(volume, &mut self.guests);
            self.registers.look_at(volume, &data, self.now);
        }
    }

    fn in_words(&self) -> String {
        let mut words = Vec::new();
        for node in &self.nodes {
            let Some(core) = &node.core else {
                words.push(format!("node {} is not there", node.number));
                continue;
            };
            words.push(format!(
                "node {} has {} in flight",
                node.number,
                core.reactor.in_flight()
            ));
            for peer in self.layout.peers(node.number) {
                for session in [asking(peer), serving(peer)] {
                    let Some(standing) = node.standing(session).filter(|standing| !standing.is_at_rest())
                    else {
                        continue;
                    };
                    words.push(format!(
                        "{session:?} is {:?} with {} outstanding, {} kept, {} unanswered, {} unsettled, {} doubts, {} held, {} buffers, {:?}",
                        standing.phase,
                        standing.outstanding,
                        standing.kept,
                        standing.unanswered,
                        standing.unsettled,
                        standing.doubts,
                        standing.held,
                        standing.buffers_used,
                        standing.serving,
                    ));
                }
            }
        }
        words.push(format!("{:?}", self.control));
        let pending = self
            .guests
            .iter()
            .map(|guest| format!("guest at {}: {:?}", guest.node, guest.pending));
        words.extend(pending);
        words.join("; ")
    }
}
