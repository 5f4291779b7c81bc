//! The end of a run: when the faults are over, everything is answered and nothing is left.

use super::{HEALED_SLOWLY_WITHIN, HEALED_WITHIN, World};
use crate::finding::Invariant;
use palisade_block::Nanos;

impl World {
    /// The faults are over: everything is answered, nothing is left over, and what is sent now is answered too.
    pub(super) fn heal(&mut self) {
        self.ends.iter_mut().for_each(|end| end.is_prompt = true);
        for again in [false, true] {
            if again {
                let before = self.ends.each_ref().map(|end| end.clients.sent.len());
                for side in 0..2 {
                    self.sends(side);
                    self.carry_out(side);
                }
                self.hash.add(before.map(|count| count as u64));
            }
            let until = self.now.after(self.healed_within());
            while self.now < until && !(self.is_idle() && self.ends.iter().all(|end| end.is_up)) {
                self.step(false);
                if self.findings.any() {
                    return;
                }
            }
        }
        for side in 0..2 {
            let end = &self.ends[side];
            let left = (
                end.clients.outstanding(),
                end.buffers.len(),
                end.clients.answers.len(),
            );
            if !end.is_up || !self.is_idle() || left != (0, 0, 0) {
                let phase = end.session.phase();
                self.find(
                    side,
                    Invariant::BoundedWaiting,
                    format!("does not heal: {phase:?}, messages, buffers and answers left {left:?}"),
                );
            }
        }
    }

    /// Within what everything is answered.
    pub(super) fn healed_within(&self) -> Nanos {
        match self.is_slow {
            true => HEALED_SLOWLY_WITHIN,
            false => HEALED_WITHIN,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.ends.iter().all(|end| {
            let clients = &end.clients;
            let is_empty = clients.works.is_empty() && clients.answers.is_empty() && end.buffers.is_empty();
            is_empty && clients.outstanding() == 0 && end.session.outstanding() == 0
        })
    }
}
