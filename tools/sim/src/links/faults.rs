//! What goes wrong: connections that break or swallow, bits that turn, ends that stand still or start anew.

use super::World;
use crate::frames::turn_bit;
use palisade_block::Nanos;
use palisade_port::Completion;
use palisade_words::LinkIndex;

impl World {
    pub(super) fn faults(&mut self) {
        if self.step == self.dead_from {
            for &(link, to) in &self.dead {
                let of_link = self
                    .connections
                    .iter_mut()
                    .filter(|connection| connection.link == link);
                of_link.for_each(|connection| connection.swallow(to));
            }
        }
        self.step += 1;
        let rng = &mut self.rng;
        if !rng.one_in(60) {
            return;
        }
        let now = self.now;
        let first = LinkIndex(0);
        let spared = self.has_sound_link.then_some(first);
        let live: Vec<usize> = (0..self.connections.len())
            .filter(|&at| {
                let connection = &self.connections[at];
                connection.is_held != [false, false] && Some(connection.link) != spared
            })
            .collect();
        let chosen = live.get(rng.index(live.len())).copied();
        match (rng.below(if spared.is_some() { 7 } else { 11 }), chosen) {
            (0..2, Some(at)) => self.connections[at].break_off(now, rng),
            (2, Some(at)) => self.connections[at].to[rng.index(2)].is_black_hole = true,
            (3, Some(at)) => {
                for way in &mut self.connections[at].to {
                    way.is_black_hole = true;
                    way.frames.clear();
                }
            }
            (4..=6, Some(at)) => turn_bit(&mut self.connections[at].to[rng.index(2)].frames, rng),
            // All links at once, of which nobody hears.
            (7, _) => {
                for way in self
                    .connections
                    .iter_mut()
                    .flat_map(|connection| &mut connection.to)
                {
                    way.is_black_hole = true;
                }
            }
            (8, _) => {
                let stands = Nanos::from_micros(rng.between(100, 12_000));
                self.ends[rng.index(2)].stands_until = now.after(stands);
            }
            (9, _) if rng.one_in(2) => {
                let side = rng.index(2);
                self.restart(side);
            }
            (9, _) => {
                let end = &mut self.ends[rng.index(2)];
                end.session.peer_left(now, &mut end.effects);
            }
            (10, _) if rng.one_in(2) => {
                let (side, at_once) = (rng.index(2), rng.one_in(3));
                self.close(side, at_once);
            }
            _ => {}
        }
    }

    pub(super) fn restart(&mut self, side: usize) {
        let now = self.now;
        for line in self.ends[side].lines.values() {
            if let Some(connection) = self.connections.get_mut(line.connection) {
                connection.is_held[side] = false;
                connection.breaks[1 - side] = Some(now.after(Nanos::from_micros(self.rng.below(1000))));
            }
        }
        // What it had sent has nobody any more who waits for it.
        for sent in self.ends[side].clients.sent.values_mut() {
            sent.completion.get_or_insert(Completion::Nack { may_land: true });
        }
        self.ends[side].restart(self.settings, self.keeps, now);
        let end = &mut self.ends[side];
        end.session.begin(now, &mut end.effects);
        self.carry_out(side);
    }
}
