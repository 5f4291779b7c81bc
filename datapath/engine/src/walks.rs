//! How many descriptors are followed in one turn, by all queues of a reactor together.
//!
//! A guest can make a chain of as many descriptors as its ring has, and refill the ring while it is answered. What a queue
//! follows counts in its own batch, and here, where many such queues come together. The first chain of a turn is followed
//! to its end, however long; the others as far as [`TURN_DESCRIPTORS_ALL`] lets them, and one that has more is left for a
//! turn of its own. Queues with such a chain take turns in being the first. Requests of the usual shape wait for nothing
//! of this.

use palisade_block::limits::TURN_DESCRIPTORS_ALL;

/// What has been followed in one turn.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    turn: u64,
    followed: u32,
    /// The queue that is the first in the next turn, as its chain was left.
    next: Option<u16>,
    /// The one that was it last.
    last: u16,
}

impl Walks {
    /// Descriptors that one chain may have which is followed now.
    #[inline]
    pub(crate) fn left(&self, turn: u64) -> u32 {
        match self.followed {
            0 => u32::MAX,
            _ => self.left_in(turn),
        }
    }

    #[cold]
    fn left_in(&self, turn: u64) -> u32 {
        match self.turn == turn {
            true => TURN_DESCRIPTORS_ALL.saturating_sub(self.followed),
            false => u32::MAX,
        }
    }

    pub(crate) fn spend(&mut self, turn: u64, followed: u32) {
        if self.turn != turn {
            (self.turn, self.followed) = (turn, 0);
        }
        self.followed = self.followed.saturating_add(followed);
    }

    /// The chain of a queue has been left. Of several, the one that stands next behind the queue that was the first last.
    pub(crate) fn leave(&mut self, queue: u16) {
        let behind = |queue: u16| queue.wrapping_sub(self.last).wrapping_sub(1);
        if self.next.is_none_or(|next| behind(queue) < behind(next)) {
            self.next = Some(queue);
        }
    }

    /// The queue to be served before all others in this turn.
    #[inline]
    pub(crate) fn first(&mut self) -> Option<u16> {
        let first = self.next.take()?;
        self.last = first;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_chain_of_a_turn_has_no_bound_and_the_others_share_what_it_leaves() {
        let mut walks = Walks::default();
        assert_eq!(walks.left(0), u32::MAX);
        walks.spend(0, 100);
        assert_eq!(walks.left(0), TURN_DESCRIPTORS_ALL - 100);
        walks.spend(0, TURN_DESCRIPTORS_ALL - 101);
        assert_eq!(walks.left(0), 1);
        walks.spend(0, 30_000);
        assert_eq!(walks.left(0), 0);
        assert_eq!(walks.left(1), u32::MAX);
        walks.spend(1, 1);
        assert_eq!(walks.left(1), TURN_DESCRIPTORS_ALL - 1);
    }

    #[test]
    fn queues_whose_chains_were_left_take_turns_whatever_their_order() {
        let mut walks = Walks::default();
        assert_eq!(walks.first(), None);
        let mut firsts = Vec::new();
        for _ in 0..3 {
            // Who was the first is left, too, as it has another one.
            for queue in [2, 9, 4, 0] {
                walks.leave(queue);
            }
            firsts.extend(walks.first());
            walks.leave(4);
            walks.leave(2);
            firsts.extend(walks.first());
        }
        assert_eq!(walks.first(), None, "it is told once");
        assert_eq!(firsts, [2, 4, 9, 2, 4, 2]);
    }
}
