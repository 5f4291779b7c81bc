//! In which order the queues of a reactor are served.
//!
//! A turn begins behind the queue that was served last in the one before, so that nobody is served twice in a row. Where slots
//! are short that is not enough: a queue could find none for ever, because those before it take what has become free. So those
//! that found none come before all others, and keep their order among themselves:
//!
//! ```text
//! order         a  b  c  d        b and d found no slot, c was served last
//! in the next   b  d  a  c
//! ```
//!
//! A queue whose device hangs finds none in turn after turn. It is asked first and takes nothing, so it is in nobody's way: the
//! others move up behind it as if it were not there.

use crate::reactor::Reactor;
use palisade_block::{Devices, Pool, Source};

/// Where a turn begins, and room for another order.
#[derive(Debug, Default)]
pub(crate) struct Order {
    first: usize,
    spare: Vec<u16>,
}

impl Order {
    /// The place of the queue that is asked first; may be the one behind the last.
    #[inline(always)]
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// The next turn begins behind this place.
    #[inline(always)]
    pub(crate) fn begins_behind(&mut self, place: usize) {
        self.first = place + 1;
    }

    /// Allocates for so many queues what a turn may need.
    pub(crate) fn reserve(&mut self, queues: usize) {
        self.spare.reserve(queues);
    }
}

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Remembers that a queue found no slot.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_short(&mut self, index: u16) {
        if let Some(queue) = self.queues.get_mut(index) {
            queue.is_short = true;
        }
    }

    /// Lets those who found no slot in this turn come first in the next. `served`: the place of the last that was served.
    #[cold]
    #[inline(never)]
    pub(crate) fn line_up(&mut self, served: Option<usize>) {
        let begun = self.order.first;
        let behind = served.map_or(begun, |served| served + 1);
        let mut lined_up = std::mem::take(&mut self.order.spare);
        debug_assert!(lined_up.capacity() >= self.active.len(), "a turn would allocate");
        for (short, first) in [(true, begun), (false, behind)] {
            let (before, behind) = self.active.split_at(first.min(self.active.len()));
            let all = behind.iter().chain(before).copied();
            let is_short = |index| self.queues.get(index).is_some_and(|queue| queue.is_short);
            lined_up.extend(all.filter(|&index| is_short(index) == short));
        }
        for &index in &lined_up {
            if let Some(queue) = self.queues.get_mut(index) {
                queue.is_short = false;
            }
        }
        self.order.spare = std::mem::replace(&mut self.active, lined_up);
        self.order.spare.clear();
        self.order.first = 0;
    }
}
