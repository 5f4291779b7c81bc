//! Sessions that are closed by their users, in good order or at once, and what follows them.

use super::World;
use crate::finding::Invariant;
use palisade_block::Nanos;
use palisade_port::{Completes, Completion, SessionPhase};

impl World {
    /// The users of an end close the session.
    pub(super) fn close(&mut self, side: usize, at_once: bool) {
        let now = self.now;
        let end = &mut self.ends[side];
        end.is_closing = true;
        match at_once {
            true => end.session.stop(now, &mut end.effects),
            false => end.session.close(now, &mut end.effects),
        }
        self.carry_out(side);
    }

    /// A session that is closed is followed by another one, of the same run.
    pub(super) fn reopens(&mut self, side: usize) {
        let now = self.now;
        if !self.reopens || !self.is_closed(side) {
            return;
        }
        self.left_nothing(side);
        let end = &mut self.ends[side];
        end.reopen(self.settings, self.keeps, now);
        end.session.begin(now, &mut end.effects);
        self.carry_out(side);
    }

    fn is_closed(&self, side: usize) -> bool {
        let end = &self.ends[side];
        end.session.phase() == SessionPhase::Closed && end.lines.is_empty()
    }

    /// Of a session that is closed nothing is left but what its clients are still at work on.
    fn left_nothing(&self, side: usize) {
        let end = &self.ends[side];
        let works = end.clients.works.iter().filter(|work| work.buffer.is_some());
        let left = (
            end.clients.outstanding(),
            end.buffers.len() - works.count(),
            end.clients.answers.len(),
        );
        if left != (0, 0, 0) {
            self.find(
                side,
                Invariant::OneAnswer,
                format!("is closed, messages, buffers and answers left {left:?}"),
            );
        }
    }

    /// Nothing goes wrong any more, and an end is closed in good order while both have messages under way: both end in good
    /// order, and what was answered has its answer.
    pub(super) fn closes_in_good_order(&mut self) {
        self.reopens = false;
        // Links that swallow what is sent are found out first.
        let found = self.now.after(Nanos(3 * self.settings.lost_after.0));
        while self.now < found {
            self.step(false);
        }
        let side = self.rng.index(2);
        let before = self.next_key + 1;
        for _ in 0..self.rng.between(1, 30) {
            self.step(true);
        }
        self.close(side, false);
        let until = self.now.after(self.healed_within());
        while self.now < until && !(0..2).all(|side| self.is_closed(side)) {
            self.step(false);
            if self.findings.any() {
                return;
            }
        }
        for side in 0..2 {
            let phase = self.ends[side].session.phase();
            if !self.is_closed(side) {
                self.find(
                    side,
                    Invariant::BoundedWaiting,
                    format!("is not closed: {phase:?}"),
                );
            }
            self.left_nothing(side);
        }
        for of in 0..2 {
            let sent = self.ends[of].clients.sent.range(before..);
            let given_back = sent
                .map(|(_, sent)| sent)
                .filter(|sent| matches!(sent.completion, Some(Completion::Nack { .. })))
                .find(|sent| sent.answered > 0 || of == side && sent.message.completes != Completes::Sent);
            if let Some(sent) = given_back {
                self.find(
                    of,
                    Invariant::OneAnswer,
                    format!("is closed in good order, and has {sent:?}"),
                );
            }
        }
    }
}
